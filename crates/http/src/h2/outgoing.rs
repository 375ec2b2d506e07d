//! What one side of a stream still has to send.

use bytes::Bytes;
use h2::SendStream;
use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

/// Body and trailers that wait for the peer's windows.
#[derive(Default)]
pub(super) struct Outgoing {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    ended: bool,
    trailers: Option<http::HeaderMap>,
    /// The end was handed to the connection.
    done: bool,
}

impl Outgoing {
    pub(super) fn push(&mut self, chunk: Bytes) {
        if !self.ended && !chunk.is_empty() {
            self.bytes += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    pub(super) fn end(&mut self, trailers: Option<http::HeaderMap>) {
        if !self.ended {
            self.ended = true;
            self.trailers = trailers.filter(|trailers| !trailers.is_empty());
        }
    }

    /// Bytes that wait.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing comes after the head.
    pub(super) fn is_headless(&self) -> bool {
        self.ended && self.chunks.is_empty() && self.trailers.is_none()
    }

    pub(super) fn set_done(&mut self) {
        self.done = true;
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Hands over what the windows have room for. Pending while something waits for room. Adds to `sent` what left.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut SendStream<Bytes>,
        sent: &mut u64,
    ) -> Poll<Result<(), h2::Error>> {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        while let Some(front) = self.chunks.front_mut() {
            stream.reserve_capacity(self.bytes);
            let mut room = stream.capacity();
            if room == 0 {
                room = match ready!(stream.poll_capacity(cx)) {
                    Some(room) => room?,
                    // The stream is closed: what waits can't go out.
                    None => return Poll::Ready(Err(h2::Reason::STREAM_CLOSED.into())),
                };
            }
            let piece = front.split_to(front.len().min(room));
            self.bytes -= piece.len();
            if front.is_empty() {
                self.chunks.pop_front();
            }
            *sent += piece.len() as u64;
            let last = self.is_headless();
            stream.send_data(piece, last)?;
            self.done |= last;
        }
        if self.ended && !self.done {
            self.done = true;
            match self.trailers.take() {
                Some(trailers) => stream.send_trailers(trailers)?,
                None => stream.send_data(Bytes::new(), true)?,
            }
        }
        Poll::Ready(Ok(()))
    }
}
