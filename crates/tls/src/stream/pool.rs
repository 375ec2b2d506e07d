//! The worker's buffers for records: sessions hold one only while bytes wait in it.

use std::cell::RefCell;

use super::record::{MAX_PLAINTEXT, MAX_RECORD, OVERHEAD};

/// A small message, or the beginning of a record that is not complete.
const SMALL: usize = 2 * 1024;
/// One record of any size.
const RECORD: usize = 17 * 1024;
/// Four of the largest records.
const BULK: usize = 4 * MAX_RECORD;
/// Eight of the largest records.
const LARGE: usize = 8 * MAX_RECORD;
const SIZES: [usize; 4] = [SMALL, RECORD, BULK, LARGE];
/// A read of this size, bytes, means that the peer sends in bulk.
const BULK_READ: usize = 16 * 1024;
/// A read of this size, bytes, has filled a buffer for bulk, but for the beginning of a record.
const LARGE_READ: usize = BULK - MAX_RECORD;
/// Buffers of each size that a worker keeps: 128 KiB, 544 KiB and twice 1 MiB.
const KEPT: [usize; SIZES.len()] = [64, 32, 16, 8];

/// Most plaintext bytes that become one write. What is read in bulk is written at once, and its records leave no tail.
pub(super) const MOST_PLAINTEXT: usize = nuncio_io::buffer::LARGE_BUFFER;
const _: () = assert!(LARGE >= MOST_PLAINTEXT + MOST_PLAINTEXT.div_ceil(MAX_PLAINTEXT) * OVERHEAD);
const _: () = assert!(RECORD >= MAX_RECORD);

thread_local! {
    static FREE: RefCell<[Vec<Vec<u8>>; SIZES.len()]> =
        const { RefCell::new([const { Vec::new() }; SIZES.len()]) };
}

/// Which buffer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Size {
    Small,
    Record,
    Bulk,
    Large,
}

impl Size {
    /// Room for one record of any size, bytes.
    pub(crate) const RECORD_BYTES: usize = RECORD;

    /// What the next read needs, if the last one brought `count` bytes.
    pub(crate) fn for_read_after(count: usize) -> Size {
        if count < BULK_READ {
            Size::Record
        } else if count < LARGE_READ {
            Size::Bulk
        } else {
            Size::Large
        }
    }

    /// The smallest one that has room for `bytes`.
    pub(crate) fn for_bytes(bytes: usize) -> Size {
        if bytes <= SMALL {
            Size::Small
        } else if bytes <= RECORD {
            Size::Record
        } else if bytes <= BULK {
            Size::Bulk
        } else {
            Size::Large
        }
    }
}

/// Bytes that wait: `start..end` of a buffer of the pool, or nothing at all.
#[derive(Default)]
pub(crate) struct Pooled {
    /// Empty, or of one of the sizes and initialised throughout.
    data: Vec<u8>,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Pooled {
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn filled(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    pub(crate) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.data[self.start..self.end]
    }

    /// The bytes from `at` on, absolute.
    pub(crate) fn range(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.data[range]
    }

    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.data[self.end..]
    }

    /// Makes sure that the buffer is of `size` at least, and that what waits stands at its front.
    pub(crate) fn prepare(&mut self, size: Size) {
        if self.data.len() < SIZES[size as usize] {
            let mut data = take(size);
            let length = self.end - self.start;
            data[..length].copy_from_slice(&self.data[self.start..self.end]);
            give(std::mem::replace(&mut self.data, data));
            (self.start, self.end) = (0, length);
        } else if self.start > 0 {
            self.data.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }

    /// Drops `count` bytes from the front.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count.min(self.end - self.start);
    }

    /// Gives the memory back, or most of it if only little waits.
    pub(crate) fn settle(&mut self) {
        if self.data.is_empty() {
            return;
        }
        if self.is_empty() {
            give(std::mem::take(&mut self.data));
            (self.start, self.end) = (0, 0);
        } else if self.end - self.start <= SMALL && self.data.len() > SMALL {
            let mut data = take(Size::Small);
            let length = self.end - self.start;
            data[..length].copy_from_slice(&self.data[self.start..self.end]);
            give(std::mem::replace(&mut self.data, data));
            (self.start, self.end) = (0, length);
        }
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        give(std::mem::take(&mut self.data));
    }
}

fn take(size: Size) -> Vec<u8> {
    let kept = FREE.with_borrow_mut(|free| free[size as usize].pop());
    kept.unwrap_or_else(|| vec![0; SIZES[size as usize]])
}

fn give(data: Vec<u8>) {
    let Some(class) = SIZES.iter().position(|size| *size == data.len()) else { return };
    // A thread that is ending keeps nothing.
    let _ = FREE.try_with(|free| {
        let mut free = free.borrow_mut();
        if free[class].len() < KEPT[class] {
            free[class].push(data);
        }
    });
}
