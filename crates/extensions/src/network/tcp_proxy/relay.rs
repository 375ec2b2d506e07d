//! Moving bytes where they pass through this process: TLS on either side, or a tunnel over HTTP.
//!
//! *Invariant*: a side is read only while less than the connection's buffer limit waits for the other.

use bytes::{Buf, Bytes, BytesMut};
use nuncio_headers::HeaderMap;
use nuncio_http::connection::{BodyPart, RecvError};
use nuncio_http::exchange::Upstream;
use nuncio_io::transport::Transport;
use std::task::{Context, Poll};
use std::time::Instant;

/// Room for one read.
const READ: usize = 64 * 1024;
/// Reads after which other connections have a turn.
const TURN: usize = 16;

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
    read: BytesMut,
    /// What the client did not take yet.
    waiting: Bytes,
    downstream_ended: bool,
    upstream_ended: bool,
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
            read: BytesMut::new(),
            waiting: Bytes::new(),
            downstream_ended: false,
            upstream_ended: false,
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

    /// Moves what can be moved. Don't poll again after `Ready`.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Over> {
        for _ in 0..TURN {
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
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_over(&self) -> bool {
        if self.upstream_ended && !self.upstream.half_closes() {
            return self.shut;
        }
        let drained = self.upstream.buffered() == 0;
        let one_way = self.downstream_ended && !self.upstream.half_closes();
        drained && ((self.shut && self.downstream_ended) || one_way)
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<bool, Over> {
        let mut moved = false;
        if !self.downstream_ended && self.upstream.buffered() < self.limit {
            self.read.reserve(READ);
            match self.downstream.poll_read(cx, &mut self.read) {
                Poll::Ready(Ok(0)) => {
                    self.downstream_ended = true;
                    self.upstream.send_end(None);
                    moved = true;
                }
                Poll::Ready(Ok(count)) => {
                    self.received += count as u64;
                    self.upstream.send_data(self.read.split().freeze());
                    moved = true;
                }
                Poll::Ready(Err(_)) => return Err(Over::DownstreamFailed),
                Poll::Pending => {}
            }
            if self.read.is_empty() && !moved {
                // Nothing to read: an idle connection holds no buffer.
                self.read = BytesMut::new();
            }
        }
        match self.upstream.poll_flush(cx) {
            Poll::Ready(Err(_)) => Err(Over::UpstreamFailed),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(moved),
        }
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Result<bool, Over> {
        let mut moved = false;
        if self.waiting.is_empty() && !self.upstream_ended {
            match self.upstream.poll_body(cx, &mut self.trailers) {
                Poll::Ready(Ok(BodyPart::Data { start, end, consumed, last })) => {
                    self.waiting = self.upstream.take_body(start, end, consumed);
                    self.upstream_ended = last;
                    moved = true;
                }
                Poll::Ready(Ok(BodyPart::End { .. }) | Err(RecvError::Closed)) => {
                    self.upstream_ended = true;
                    moved = true;
                }
                Poll::Ready(Err(_)) => return Err(Over::UpstreamFailed),
                Poll::Pending => {}
            }
        }
        while !self.waiting.is_empty() {
            match self.downstream.poll_write(cx, &self.waiting) {
                Poll::Ready(Ok(0) | Err(_)) => return Err(Over::DownstreamFailed),
                Poll::Ready(Ok(count)) => {
                    self.waiting.advance(count);
                    self.sent += count as u64;
                    moved = true;
                }
                Poll::Pending => return Ok(moved),
            }
        }
        match self.downstream.poll_flush(cx) {
            Poll::Ready(Err(_)) => return Err(Over::DownstreamFailed),
            Poll::Ready(Ok(())) => {}
            Poll::Pending => return Ok(moved),
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
