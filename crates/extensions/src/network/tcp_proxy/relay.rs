//! Moving bytes where they pass through this process: TLS on either side, or a tunnel over HTTP.
//!
//! *Invariant*: a side is read only while less than the connection's buffer limit waits for the other.

use bytes::Bytes;
use nuncio_headers::HeaderMap;
use nuncio_http::connection::{BodyPart, RecvError};
use nuncio_http::exchange::Upstream;
use nuncio_io::buffer::{BULK_BUFFER, HEAD_BUFFER, LARGE_BUFFER, ReadBuffer, WriteBuffer};
use nuncio_io::transport::Transport;
use std::task::{Context, Poll};
use std::time::Instant;

/// Bytes read for one side before they are written and other connections have their turn, in the beginning, and for peers that
/// are slow: as much may wait for each of them.
const TURN: usize = BULK_BUFFER;
/// The same for a client that takes everything at once. Much at a time, because a peer that is asleep costs a wake-up for each
/// write, and one that is awake none.
const LONGEST_TURN: usize = 16 * TURN;

/// How the movement came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Both sides ended; the upstream last.
    Upstream,
    /// Both sides ended; the downstream last. Or it ended, and the upstream can't be told otherwise than by the connection's end.
    Downstream,
    /// The downstream failed.
    DownstreamFailed,
    /// The upstream failed.
    UpstreamFailed,
}

/// The two directions between a client's connection and an exchange with the upstream.
pub(super) struct Relay<'a> {
    downstream: &'a mut Transport,
    upstream: &'a mut Upstream,
    limit: usize,
    read: ReadBuffer,
    /// Room for the next read from the client.
    want: usize,
    /// What the client did not take yet.
    waiting: WriteBuffer,
    /// Bytes to read for the client at once.
    turn: usize,
    downstream_ended: bool,
    upstream_ended: bool,
    upstream_failed: bool,
    /// The client was told the end.
    shut: bool,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) last_activity: Instant,
    /// What followed the upstream's last bytes.
    pub(super) trailers: HeaderMap,
}

impl<'a> Relay<'a> {
    pub(super) fn new(
        downstream: &'a mut Transport,
        upstream: &'a mut Upstream,
        limit: usize,
        now: Instant,
    ) -> Relay<'a> {
        Relay {
            downstream,
            upstream,
            limit: limit.max(1),
            read: ReadBuffer::new(),
            want: HEAD_BUFFER,
            waiting: WriteBuffer::new(),
            turn: TURN,
            downstream_ended: false,
            upstream_ended: false,
            upstream_failed: false,
            shut: false,
            received: 0,
            sent: 0,
            last_activity: now,
            trailers: HeaderMap::new(),
        }
    }

    /// Sends what the client said before there was an upstream.
    pub(super) fn send_early(&mut self, bytes: Bytes) {
        self.received += bytes.len() as u64;
        self.upstream.send_data(bytes);
    }

    /// Moves what can be moved, and yields to others after a large amount. Don't poll again after `Ready`.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Over> {
        let until = (self.received + self.sent).saturating_add(TURN as u64);
        loop {
            let upstream_was_first = self.upstream_ended && !self.downstream_ended;
            let mut moved = match self.poll_up(cx) {
                Ok(moved) => moved,
                Err(over) => return Poll::Ready(over),
            };
            match self.poll_down(cx) {
                Ok(more) => moved |= more,
                Err(over) => return Poll::Ready(over),
            }
            if moved {
                self.last_activity = now;
            }
            if self.is_over() {
                let downstream_was_last = upstream_was_first || !self.upstream_ended;
                return Poll::Ready(if downstream_was_last { Over::Downstream } else { Over::Upstream });
            }
            if !moved {
                return Poll::Pending;
            }
            if self.received + self.sent >= until {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    fn is_over(&self) -> bool {
        if self.upstream_ended && !self.upstream.half_closes() {
            return self.shut;
        }
        let drained = self.upstream.buffered() == 0;
        let one_way = self.downstream_ended && !self.upstream.half_closes();
        drained && ((self.shut && self.downstream_ended) || one_way)
    }

    /// Reads what the client sent, and hands it to the upstream.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<bool, Over> {
        let mut moved = false;
        let until = self.received.saturating_add(TURN as u64);
        while !self.downstream_ended && self.received < until && self.upstream.buffered() < self.limit {
            match self.read.poll_fill(cx, self.downstream, self.want) {
                Poll::Ready(Ok(0)) => {
                    self.downstream_ended = true;
                    self.upstream.send_end(None);
                }
                Poll::Ready(Ok(count)) => {
                    self.want = want_after(count);
                    self.received += count as u64;
                    let chunk = self.read.take(0, count);
                    self.upstream.send_data(chunk);
                }
                Poll::Ready(Err(_)) => return Err(Over::DownstreamFailed),
                Poll::Pending => break,
            }
            moved = true;
        }
        self.read.release();
        match self.upstream.poll_flush(cx) {
            Poll::Ready(Err(_)) => Err(Over::UpstreamFailed),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(moved),
        }
    }

    /// Reads what the upstream sent, once the client took all that came before. Tells whether there was something.
    fn receive(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        let most = self.turn.min(self.limit);
        while !self.upstream_ended && !self.upstream_failed && self.waiting.len() < most {
            match self.upstream.poll_body(cx, &mut self.trailers) {
                Poll::Ready(Ok(BodyPart::Data { start, end, consumed, last })) => {
                    self.waiting.push(self.upstream.take_body(start, end, consumed));
                    self.upstream_ended = last;
                }
                Poll::Ready(Ok(BodyPart::End { .. }) | Err(RecvError::Closed)) => self.upstream_ended = true,
                Poll::Ready(Err(_)) => self.upstream_failed = true,
                Poll::Pending => break,
            }
            moved = true;
        }
        moved
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Result<bool, Over> {
        let is_fresh = self.waiting.is_empty();
        let mut moved = is_fresh && self.receive(cx);
        let (read, before) = (self.waiting.len(), self.sent);
        let flushed = self.waiting.poll_flush(cx, self.downstream, &mut self.sent);
        moved |= self.sent > before;
        match &flushed {
            Poll::Ready(Err(_)) => return Err(Over::DownstreamFailed),
            Poll::Ready(Ok(())) if is_fresh && read >= self.turn => self.turn = (2 * self.turn).min(LONGEST_TURN),
            Poll::Pending if is_fresh && read > 0 => self.turn = (self.turn / 2).max(TURN),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        if flushed.is_pending() {
            return Ok(moved);
        }
        if self.upstream_failed {
            // What came before is with the client.
            return Err(Over::UpstreamFailed);
        }
        if self.upstream_ended && !self.shut {
            match self.downstream.poll_shutdown(cx) {
                Poll::Ready(Ok(())) => {
                    self.shut = true;
                    moved = true;
                }
                // The client is gone: what there was for it is lost with it.
                Poll::Ready(Err(_)) => return Err(Over::DownstreamFailed),
                Poll::Pending => {}
            }
        }
        Ok(moved)
    }
}

/// Room for the next read, if the last one brought `count` bytes.
fn want_after(count: usize) -> usize {
    match count {
        BULK_BUFFER.. => LARGE_BUFFER,
        HEAD_BUFFER.. => BULK_BUFFER,
        _ => HEAD_BUFFER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_http::connection::ClientConnection;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    const PLENTY: usize = 4 * LONGEST_TURN;

    fn carried(stream: DuplexStream) -> Transport {
        Transport::Other(Box::new(stream))
    }

    /// How much is read at once after an upstream sent plenty to a client that has `room` for so much, and how much waits.
    async fn turn_with(room: usize) -> (usize, usize) {
        let (_client, downstream) = duplex(room);
        let (mut server, upstream) = duplex(PLENTY);
        server.write_all(&vec![0; PLENTY]).await.unwrap();
        let mut downstream = carried(downstream);
        let mut upstream = Upstream::Http1(ClientConnection::opened(carried(upstream)));
        let now = Instant::now();
        let mut relay = Relay::new(&mut downstream, &mut upstream, usize::MAX, now);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut most = 0;
        for _ in 0..100 {
            assert!(relay.poll(&mut cx, now).is_pending());
            most = most.max(relay.turn);
        }
        (most, relay.waiting.len())
    }

    #[tokio::test]
    async fn much_is_read_at_once_for_a_client_that_takes_it() {
        assert_eq!(turn_with(PLENTY).await, (LONGEST_TURN, 0));
    }

    #[tokio::test]
    async fn little_waits_for_a_client_that_takes_nothing() {
        let (turn, waiting) = turn_with(1).await;
        assert_eq!(turn, TURN);
        assert!(waiting < TURN + LARGE_BUFFER, "{waiting}");
    }

    #[tokio::test]
    async fn what_came_before_a_failure_is_delivered() {
        let (mut client, downstream) = duplex(PLENTY);
        let mut downstream = carried(downstream);
        let upstream = Failing(b"the last words");
        let mut upstream = Upstream::Http1(ClientConnection::opened(Transport::Other(Box::new(upstream))));
        let now = Instant::now();
        let mut relay = Relay::new(&mut downstream, &mut upstream, usize::MAX, now);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert_eq!(relay.poll(&mut cx, now), Poll::Ready(Over::UpstreamFailed));
        drop(downstream);
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"the last words");
    }

    /// A peer that says something and is reset.
    struct Failing(&'static [u8]);

    impl tokio::io::AsyncRead for Failing {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            if self.0.is_empty() {
                return Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
            }
            into.put_slice(std::mem::take(&mut self.0));
            Poll::Ready(Ok(()))
        }
    }

    impl tokio::io::AsyncWrite for Failing {
        fn poll_write(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<std::io::Result<usize>> {
            Poll::Pending
        }
        fn poll_flush(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
}
