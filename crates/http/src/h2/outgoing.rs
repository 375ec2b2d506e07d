//! What one side of a stream still has to send, and how it gets into the connection's output.

use super::frame::{FrameHead, flag, kind};
use super::headers;
use super::hpack::Encoder;
use super::state::{Core, give_map, take_map};
use crate::ResetReason;
use bytes::Bytes;
use nuncio_headers::HeaderMap;
use std::collections::VecDeque;
use std::task::{Context, Poll};

/// Bytes that a stream hands over before others that wait have a turn.
const TURN: usize = 64 * 1024;

/// Body and trailers that wait for the peer's windows.
#[derive(Default)]
pub(super) struct Outgoing {
    /// The chunk that goes out first; most bodies have no other.
    front: Bytes,
    chunks: VecDeque<Bytes>,
    bytes: usize,
    ended: bool,
    trailers: Option<Box<HeaderMap>>,
    /// The end was handed to the connection.
    done: bool,
}

impl Outgoing {
    pub fn push(&mut self, chunk: Bytes) {
        if self.ended || chunk.is_empty() {
            return;
        }
        let first = self.bytes == 0;
        self.bytes += chunk.len();
        if first {
            self.front = chunk;
        } else {
            self.chunks.push_back(chunk);
        }
    }

    pub fn end(&mut self, trailers: Option<&HeaderMap>) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.trailers = trailers.filter(|trailers| !trailers.is_empty()).map(|trailers| Box::new(trailers.clone()));
    }

    /// Bytes that wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing comes after the head.
    pub fn is_headless(&self) -> bool {
        self.ended && self.bytes == 0 && self.trailers.is_none()
    }

    pub fn set_done(&mut self) {
        self.done = true;
    }

    pub fn is_done(&self) -> bool {
        self.done
    }

    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Up to `most` bytes of the first chunk.
    fn take(&mut self, most: usize) -> Bytes {
        let piece = self.front.split_to(self.front.len().min(most));
        self.bytes -= piece.len();
        if self.front.is_empty() {
            self.front = self.chunks.pop_front().unwrap_or_default();
        }
        piece
    }
}

impl Core {
    /// Writes a field section. Returns what `fill` does.
    pub fn write_section(
        &mut self,
        key: usize,
        last: bool,
        fill: impl FnOnce(&mut Encoder, &mut Vec<u8>) -> usize,
    ) -> usize {
        let Some(stream) = self.streams.get_mut(key) else { return 0 };
        let out = self.output.frame();
        let start = out.len();
        let mut head = FrameHead { length: 0, kind: kind::HEADERS, flags: 0, stream: stream.id };
        out.extend_from_slice(&head.bytes());
        self.encoder.begin(out);
        let bytes = fill(&mut self.encoder, out);
        let from = start + head.bytes().len();
        head.length = out.len() - from;
        head.flags = if last { flag::END_STREAM } else { 0 };
        if head.length <= self.peer.max_frame {
            head.flags |= flag::END_HEADERS;
            if let Some(place) = out.get_mut(start..from) {
                place.copy_from_slice(&head.bytes());
            }
        } else {
            let block = out.split_off(from);
            out.truncate(start);
            let most = self.peer.max_frame;
            let mut pieces = block.chunks(most).peekable();
            while let Some(piece) = pieces.next() {
                head.length = piece.len();
                head.flags |= if pieces.peek().is_none() { flag::END_HEADERS } else { 0 };
                out.extend_from_slice(&head.bytes());
                out.extend_from_slice(piece);
                head.kind = kind::CONTINUATION;
                head.flags = 0;
            }
        }
        stream.last_flags = self.output.flags_at(start);
        stream.sent_end |= last;
        self.end_if_over(key);
        bytes
    }

    /// Nothing comes behind what was handed over: says so in the last frame of that, if it has not left yet.
    pub fn end_at_once(&mut self, key: usize, out: &mut Outgoing) {
        if !out.is_headless() || out.done {
            return;
        }
        let Some(stream) = self.streams.get_mut(key).filter(|stream| stream.reset.is_none()) else { return };
        if self.output.set_flags(stream.last_flags, flag::END_STREAM) {
            stream.sent_end = true;
            out.done = true;
            self.end_if_over(key);
        }
    }

    /// Hands over what the windows have room for. Pending while something waits for room. Adds to `sent` what left.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        key: usize,
        out: &mut Outgoing,
        sent: &mut u64,
    ) -> Poll<Result<(), ResetReason>> {
        if out.done {
            return Poll::Ready(Ok(()));
        }
        let before = self.output.len();
        let outcome = self.send(cx, key, out, sent);
        if self.output.len() != before {
            self.wake();
        }
        if self.has_waiting() {
            self.pass_turn();
        }
        outcome
    }

    fn send(
        &mut self,
        cx: &mut Context<'_>,
        key: usize,
        out: &mut Outgoing,
        sent: &mut u64,
    ) -> Poll<Result<(), ResetReason>> {
        let mut turn = TURN;
        while out.bytes > 0 {
            let most = self.peer.max_frame;
            let has_room = self.has_room();
            let others = self.has_waiting();
            let Some(stream) = self.streams.get_mut(key) else { return Poll::Ready(Err(ResetReason::LocalReset)) };
            if let Some(reason) = stream.reset {
                return Poll::Ready(Err(reason));
            }
            if !has_room || (turn == 0 && others) {
                self.wait_output(key, cx);
                return Poll::Pending;
            }
            let window = stream.send_window;
            if window <= 0 {
                stream.wait_send(cx);
                return Poll::Pending;
            }
            if self.send_window <= 0 {
                self.wait_window(key, cx);
                return Poll::Pending;
            }
            let room = most.min(usize::try_from(window.min(self.send_window)).unwrap_or(0));
            let payload = out.take(room);
            let length = payload.len();
            let last = out.is_headless();
            let flags = if last { flag::END_STREAM } else { 0 };
            let head = FrameHead { length, kind: kind::DATA, flags, stream: stream.id };
            stream.send_window -= length as i64;
            stream.turn = false;
            stream.sent_end |= last;
            stream.last_flags = self.output.push_data(head, payload);
            self.send_window -= length as i64;
            self.credit.data_sent();
            *sent += length as u64;
            turn = turn.saturating_sub(length);
            out.done = last;
        }
        if out.ended && !out.done {
            return self.send_end(cx, key, out);
        }
        if out.done {
            self.end_if_over(key);
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the stream: with trailers, with a flag of its last frame, or with a frame for that alone.
    fn send_end(&mut self, cx: &mut Context<'_>, key: usize, out: &mut Outgoing) -> Poll<Result<(), ResetReason>> {
        let has_room = self.has_room();
        let Some(stream) = self.streams.get_mut(key) else { return Poll::Ready(Err(ResetReason::LocalReset)) };
        if let Some(reason) = stream.reset {
            return Poll::Ready(Err(reason));
        }
        if let Some(trailers) = &out.trailers {
            if !has_room {
                self.wait_output(key, cx);
                return Poll::Pending;
            }
            self.write_section(key, true, |encoder, to| headers::write_trailers(trailers, encoder, to));
            out.trailers = None;
        } else if self.output.set_flags(stream.last_flags, flag::END_STREAM) {
            stream.sent_end = true;
        } else {
            let head = FrameHead { length: 0, kind: kind::DATA, flags: flag::END_STREAM, stream: stream.id };
            stream.sent_end = true;
            self.output.push_data(head, Bytes::new());
        }
        out.done = true;
        self.end_if_over(key);
        Poll::Ready(Ok(()))
    }
}

/// A head that waits for room.
pub(super) struct WaitingHead(HeaderMap);

impl WaitingHead {
    pub fn new(headers: &HeaderMap) -> Box<WaitingHead> {
        let mut map = take_map();
        map.clone_from(headers);
        Box::new(WaitingHead(map))
    }

    pub fn headers(&self) -> &HeaderMap {
        &self.0
    }
}

impl Drop for WaitingHead {
    fn drop(&mut self) {
        give_map(std::mem::take(&mut self.0));
    }
}
