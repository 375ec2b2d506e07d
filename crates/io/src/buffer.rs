//! Read and write buffers of a connection, and the per-worker pool they come from.
//!
//! Owns: where bytes wait, how much may wait (watermarks), and giving memory back when nothing waits. Does not own:
//! what the bytes mean.
#![allow(unsafe_code)]

use crate::transport::Transport;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;

/// Size of a buffer for message heads, bytes.
pub const HEAD_BUFFER: usize = 4 * 1024;
/// Size of a buffer for bulk transfer, bytes. 16 KiB reads were measured at 1.5 × the CPU per byte. Not 64 KiB: what is
/// read at once is written at once, and with its records' overhead it must fit into one offloaded TCP packet (65,160 bytes
/// of 1,448 each, 65,483 on loopback). A tail of few bytes is a packet of its own, with a timer if the sender is paced.
pub const BULK_BUFFER: usize = 64_000;
/// The same for a transfer that filled a [`BULK_BUFFER`] at once, bytes: two such packets.
pub const LARGE_BUFFER: usize = 2 * BULK_BUFFER;
/// Head buffers that a worker keeps for reuse: 1 MiB.
const POOLED: usize = 256;
/// A chunk of at least this size is handed on without copying.
const COPY_BELOW: usize = 8 * 1024;
/// Slices given to one vectored write.
const MAX_SLICES: usize = 16;

thread_local! {
    static HEADS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
    static OUTPUTS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `read` on the spare capacity of `into`; bytes that it filled become part of `into`.
#[inline]
pub(crate) fn poll_read_spare(
    into: &mut BytesMut,
    read: impl FnOnce(&mut ReadBuf<'_>) -> Poll<io::Result<()>>,
) -> Poll<io::Result<usize>> {
    let filled = {
        let spare = into.spare_capacity_mut();
        let mut spare = ReadBuf::uninit(spare);
        ready!(read(&mut spare))?;
        spare.filled().len()
    };
    // SAFETY: `ReadBuf` reports only bytes that were initialised, and it was made over exactly the spare capacity.
    unsafe { into.advance_mut(filled) };
    Poll::Ready(Ok(filled))
}

/// Bytes received and not consumed yet.
///
/// Holds no memory while nothing is buffered: an idle connection costs the empty struct.
#[derive(Default)]
pub struct ReadBuffer {
    data: BytesMut,
}

impl ReadBuffer {
    /// An empty buffer without memory.
    pub fn new() -> Self {
        ReadBuffer { data: BytesMut::new() }
    }

    /// A buffer in which `bytes` wait.
    pub fn with(bytes: Bytes) -> Self {
        ReadBuffer { data: BytesMut::from(bytes) }
    }

    /// What waits.
    #[inline]
    pub fn filled(&self) -> &[u8] {
        &self.data
    }

    /// Number of bytes that wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Drops the first `count` bytes (at most what waits).
    #[inline]
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.data.len());
        self.data.advance(count);
    }

    /// Takes `start..end` out as a chunk of its own and drops what stands before it. Large chunks are handed over,
    /// small ones copied, so that a small chunk does not keep a large buffer alive.
    pub fn take(&mut self, start: usize, end: usize) -> Bytes {
        let end = end.min(self.data.len());
        let start = start.min(end);
        self.data.advance(start);
        let length = end - start;
        if length >= COPY_BELOW {
            return self.data.split_to(length).freeze();
        }
        let chunk = Bytes::copy_from_slice(&self.data[..length]);
        self.data.advance(length);
        chunk
    }

    /// Reads once from `transport`, with room for at least `want` bytes. `Ok(0)` is the end of the stream. The memory is
    /// taken only when the transport has something: waiting for the first byte holds none.
    #[inline]
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
        want: usize,
    ) -> Poll<io::Result<usize>> {
        if self.data.capacity() - self.data.len() < want.min(HEAD_BUFFER / 2) || self.data.capacity() < want {
            self.make_room(want);
        }
        let result = transport.poll_read(cx, &mut self.data);
        if self.data.is_empty() {
            self.release();
        }
        result
    }

    /// Gives the memory back to the worker if nothing waits.
    #[inline]
    pub fn release(&mut self) {
        if !self.data.is_empty() || self.data.capacity() == 0 {
            return;
        }
        let data = std::mem::take(&mut self.data);
        recycle(data);
    }

    fn make_room(&mut self, want: usize) {
        if self.data.capacity() == 0 && want <= HEAD_BUFFER {
            self.data = HEADS.with_borrow_mut(Vec::pop).unwrap_or_else(|| BytesMut::with_capacity(HEAD_BUFFER));
            return;
        }
        self.data.reserve(want.max(HEAD_BUFFER));
    }
}

fn recycle(mut data: BytesMut) {
    data.clear();
    // A buffer that was advanced gets its front back here; one whose tail is still shared is dropped.
    if !data.try_reclaim(HEAD_BUFFER) || data.capacity() > 2 * HEAD_BUFFER {
        return;
    }
    HEADS.with_borrow_mut(|pool| {
        if pool.len() < POOLED {
            pool.push(data);
        }
    });
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        self.data.clear();
        self.release();
    }
}

/// An empty vector for bytes to send, of the worker's.
#[inline]
pub fn take_output() -> Vec<u8> {
    OUTPUTS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(HEAD_BUFFER))
}

/// Gives a vector back to the worker; a large one is freed.
#[inline]
pub fn give_output(mut output: Vec<u8>) {
    output.clear();
    if output.capacity() == 0 || output.capacity() > 4 * HEAD_BUFFER {
        return;
    }
    OUTPUTS.with_borrow_mut(|pool| {
        if pool.len() < POOLED {
            pool.push(output);
        }
    });
}

/// Bytes to send that the peer did not take yet, in order.
///
/// Small pieces are gathered in one vector, so that a head and a small body leave in one write; large ones are queued
/// as they are.
#[derive(Default)]
pub struct WriteBuffer {
    queue: VecDeque<Bytes>,
    queued: usize,
    tail: Vec<u8>,
    sent: usize,
}

impl WriteBuffer {
    /// An empty buffer without memory.
    pub fn new() -> Self {
        WriteBuffer::default()
    }

    /// Number of bytes that wait; compared with the connection's buffer limit (high watermark).
    #[inline]
    pub fn len(&self) -> usize {
        self.queued + self.tail.len() - self.sent
    }

    /// Whether everything was sent.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The vector that heads and small pieces are appended to.
    #[inline]
    pub fn tail(&mut self) -> &mut Vec<u8> {
        if self.tail.capacity() == 0 {
            self.tail = take_output();
        }
        &mut self.tail
    }

    /// Adds a chunk: copied if small, queued as it is if large.
    pub fn push(&mut self, chunk: Bytes) {
        if chunk.len() < COPY_BELOW {
            self.tail().extend_from_slice(&chunk);
            return;
        }
        if self.tail.len() > self.sent {
            let tail = std::mem::take(&mut self.tail);
            let mut tail = Bytes::from(tail);
            tail.advance(self.sent);
            self.queued += tail.len();
            self.queue.push_back(tail);
        } else {
            self.tail.clear();
        }
        self.sent = 0;
        self.queued += chunk.len();
        self.queue.push_back(chunk);
    }

    /// Moves `start..end` of `from` here, with one copy at most.
    #[inline]
    pub fn push_from(&mut self, from: &mut ReadBuffer, start: usize, end: usize) {
        if end - start < COPY_BELOW {
            let end = end.min(from.len());
            self.tail().extend_from_slice(&from.filled()[start.min(end)..end]);
            from.consume(end);
        } else {
            let chunk = from.take(start, end);
            self.push(chunk);
        }
    }

    /// Writes until everything is sent or the transport takes no more; tells how many bytes went out in this call. Once
    /// everything is sent the memory goes back to the worker: a request that waits for its response holds none.
    pub fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
        sent: &mut u64,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let count = if self.queue.is_empty() {
                ready!(transport.poll_write(cx, &self.tail[self.sent..]))?
            } else {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let mut used = 0;
                let tail = &self.tail[self.sent..];
                for chunk in self.queue.iter().map(|c| &c[..]).chain(std::iter::once(tail)).take(MAX_SLICES) {
                    slices[used] = IoSlice::new(chunk);
                    used += 1;
                }
                ready!(transport.poll_write_vectored(cx, &slices[..used]))?
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *sent += count as u64;
            self.advance(count);
        }
        self.release();
        transport.poll_flush(cx)
    }

    /// Forgets what was not sent, gives the memory back.
    pub fn clear(&mut self) {
        self.queue = VecDeque::new();
        self.queued = 0;
        self.tail.clear();
        self.sent = 0;
        self.release();
    }

    /// Gives the memory back to the worker if nothing waits.
    #[inline]
    pub fn release(&mut self) {
        if self.tail.len() > self.sent || self.tail.capacity() == 0 {
            return;
        }
        self.sent = 0;
        give_output(std::mem::take(&mut self.tail));
    }

    #[inline]
    fn advance(&mut self, mut count: usize) {
        while let Some(front) = self.queue.front_mut() {
            if count < front.len() {
                front.advance(count);
                self.queued -= count;
                return;
            }
            count -= front.len();
            self.queued -= front.len();
            self.queue.pop_front();
        }
        self.sent += count;
        if self.sent >= self.tail.len() {
            self.tail.clear();
            self.sent = 0;
        }
    }
}

impl Drop for WriteBuffer {
    fn drop(&mut self) {
        self.clear();
    }
}
