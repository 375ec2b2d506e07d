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

/// Bytes read for one side before they are written and other connections have their turn. Small, so that all of them have
/// theirs while the first peer works on what it got: half as many peers are asleep when something comes for them.
const TURN: usize = BULK_BUFFER;

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
        while !self.upstream_ended && !self.upstream_failed && self.waiting.len() < TURN.min(self.limit) {
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
        let mut moved = self.waiting.is_empty() && self.receive(cx);
        let before = self.sent;
        let flushed = self.waiting.poll_flush(cx, self.downstream, &mut self.sent);
        moved |= self.sent > before;
        match flushed {
            Poll::Ready(Err(_)) => return Err(Over::DownstreamFailed),
            Poll::Ready(Ok(())) => {}
            Poll::Pending => return Ok(moved),
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
