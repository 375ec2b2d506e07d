//! Frames on their way out.
//!
//! Heads, control frames and small payloads are gathered in one vector; large payloads are queued as they are, each at its
//! place between the others. Nothing is held once everything was sent.

use super::frame::{FLAGS_AT, FrameHead, HEAD};
use bytes::{Buf, Bytes};
use nuncio_io::buffer::{give_output, take_output};
use nuncio_io::transport::Transport;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

/// A payload of at least this size is queued without copying.
const COPY_BELOW: usize = 2 * 1024;
/// Bytes of the vector that were sent and are still held.
const COMPACT_ABOVE: usize = 64 * 1024;
/// Slices given to one vectored write.
const MAX_SLICES: usize = 32;

/// What waits for the transport.
#[derive(Default)]
pub(super) struct Output {
    small: Vec<u8>,
    /// Bytes of `small` that were sent.
    sent: usize,
    /// Where `small` begins in all that was ever gathered there.
    base: u64,
    /// Large payloads, with their places in `small`.
    large: VecDeque<(usize, Bytes)>,
    large_bytes: usize,
    /// Frames that wait: those in front of `mark`, and those behind it.
    front: Frames,
    back: Frames,
    /// A place in all that was ever gathered in `small`.
    mark: u64,
}

/// Frames: all, and answers to the peer's.
#[derive(Default, Clone, Copy)]
struct Frames {
    all: u32,
    answers: u32,
}

impl Output {
    /// Bytes that wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.small.len() - self.sent + self.large_bytes
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Frames that wait. Of those in front of the mark, that they were sent shows once all of them were.
    #[inline]
    pub fn frames(&self) -> u32 {
        self.front.all.saturating_add(self.back.all)
    }

    /// Answers to frames of the peer that wait, counted in the same way.
    pub fn answers(&self) -> u32 {
        self.front.answers.saturating_add(self.back.answers)
    }

    pub fn count_answer(&mut self) {
        self.back.answers = self.back.answers.saturating_add(1);
    }

    /// The vector that the next frame is appended to.
    #[inline]
    pub fn frame(&mut self) -> &mut Vec<u8> {
        if self.small.capacity() == 0 {
            self.small = take_output();
        }
        self.back.all = self.back.all.saturating_add(1);
        &mut self.small
    }

    /// Adds a DATA frame. Returns the place of its flags, for [`Output::set_flags`].
    pub fn push_data(&mut self, head: FrameHead, payload: Bytes) -> u64 {
        let small = self.frame();
        let at = small.len();
        small.extend_from_slice(&head.bytes());
        if payload.len() < COPY_BELOW {
            small.extend_from_slice(&payload);
        } else {
            let place = small.len();
            self.large_bytes += payload.len();
            self.large.push_back((place, payload));
        }
        self.base + (at + FLAGS_AT) as u64
    }

    /// The place of the flags of a frame that begins at `start` of the vector.
    pub fn flags_at(&self, start: usize) -> u64 {
        self.base + (start + FLAGS_AT) as u64
    }

    /// Adds flags to a frame, if no byte of it was sent.
    pub fn set_flags(&mut self, place: u64, flags: u8) -> bool {
        let Some(at) = place.checked_sub(self.base).map(|at| at as usize) else { return false };
        if at < self.sent + FLAGS_AT || at + HEAD - FLAGS_AT > self.small.len() {
            return false;
        }
        match self.small.get_mut(at) {
            Some(present) => {
                *present |= flags;
                true
            }
            None => false,
        }
    }

    /// Writes until everything is sent or the transport takes no more; adds to `sent` what went out.
    pub fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
        sent: &mut u64,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let count = if self.large.is_empty() {
                ready!(transport.poll_write(cx, self.small.get(self.sent..).unwrap_or_default()))?
            } else {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let used = self.slices(&mut slices);
                ready!(transport.poll_write_vectored(cx, slices.get(..used).unwrap_or_default()))?
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *sent += count as u64;
            self.advance(count);
        }
        if self.small.capacity() > 0 {
            self.base += self.small.len() as u64;
            give_output(std::mem::take(&mut self.small));
            self.sent = 0;
            self.mark = self.base;
            (self.front, self.back) = (Frames::default(), Frames::default());
            if self.large.capacity() > MAX_SLICES {
                self.large = VecDeque::new();
            }
        }
        transport.poll_flush(cx)
    }

    fn slices<'a>(&'a self, into: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let mut used = 0;
        let mut from = self.sent;
        let mut add = |slice: &'a [u8]| {
            if !slice.is_empty()
                && let Some(place) = into.get_mut(used)
            {
                *place = IoSlice::new(slice);
                used += 1;
            }
        };
        for (at, payload) in self.large.iter().take(MAX_SLICES / 2) {
            add(self.small.get(from..*at).unwrap_or_default());
            add(payload);
            from = *at;
        }
        if self.large.len() < MAX_SLICES / 2 {
            add(self.small.get(from..).unwrap_or_default());
        }
        used
    }

    fn advance(&mut self, mut count: usize) {
        while let Some((at, payload)) = self.large.front_mut() {
            let before = at.saturating_sub(self.sent);
            if count < before {
                break;
            }
            self.sent += before;
            count -= before;
            if count < payload.len() {
                payload.advance(count);
                self.large_bytes -= count;
                count = 0;
                break;
            }
            count -= payload.len();
            self.large_bytes -= payload.len();
            self.large.pop_front();
        }
        self.sent += count;
        if self.base + self.sent as u64 >= self.mark {
            self.front = std::mem::take(&mut self.back);
            self.mark = self.base + self.small.len() as u64;
        }
        self.compact();
    }

    /// Drops what was sent of the vector when it would grow for ever under a peer that never takes all.
    fn compact(&mut self) {
        if self.sent >= COMPACT_ABOVE {
            self.small.drain(..self.sent);
            self.large.iter_mut().for_each(|(at, _)| *at -= self.sent);
            self.base += self.sent as u64;
            self.sent = 0;
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        give_output(std::mem::take(&mut self.small));
    }
}
