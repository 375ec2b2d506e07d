//! The cells of one group on one worker. Owns their layout and the arithmetic on one cell.
//!
//! A block holds the counters, then the gauges. A gauge cell holds the sum of what was added, modulo 2^63, and
//! in its top bit that it was touched: a gauge that went back to zero could not tell otherwise. The block of
//! threads that are no workers goes on with the values that gauges were set to, all 64 bits of them, and
//! with a bitmap of those that were.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::histogram::HistogramCells;

/// One cache line of cells, aligned so that blocks of two workers never share a line.
#[repr(align(64))]
#[derive(Default)]
pub(crate) struct Line([AtomicU64; 8]);

impl Line {
    #[inline]
    pub(crate) fn cell(&self, index: usize) -> &AtomicU64 {
        &self.0[index % 8]
    }
}

/// The top bit of a gauge cell.
const TOUCHED: u64 = 1 << 63;

/// Where things are in a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) counters: u32,
    pub(crate) gauges: u32,
}

impl Layout {
    #[inline]
    pub(crate) fn gauge(self, index: u32) -> usize {
        (self.counters + index) as usize
    }

    /// Where the value is that a gauge was set to.
    pub(crate) fn set_value(self, index: u32) -> usize {
        self.gauge(index) + self.gauges as usize
    }

    /// The word with the bit that says whether a gauge was set.
    pub(crate) fn set_mark(self, index: u32) -> usize {
        (self.counters + 2 * self.gauges + index / 64) as usize
    }

    /// Cells of a block; that of worker 0 has more.
    fn cells(self, shared: bool) -> usize {
        let set = match shared {
            true => self.gauges + self.gauges.div_ceil(64),
            false => 0,
        };
        (self.counters + self.gauges + set) as usize
    }
}

/// The cells of one worker: counters and gauges side by side, histograms each on first use.
pub(crate) struct Block {
    lines: Box<[Line]>,
    pub(crate) histograms: Box<[OnceLock<Box<HistogramCells>>]>,
}

impl Block {
    pub(crate) fn new(layout: Layout, histograms: usize, shared: bool) -> Self {
        let lines = layout.cells(shared).div_ceil(8);
        Self {
            lines: (0..lines).map(|_| Line::default()).collect(),
            histograms: (0..histograms).map(|_| OnceLock::new()).collect(),
        }
    }

    #[inline]
    pub(crate) fn cell(&self, index: usize) -> Option<&AtomicU64> {
        self.lines.get(index / 8).map(|line| line.cell(index))
    }

    pub(crate) fn value(&self, index: usize) -> u64 {
        self.cell(index).map_or(0, |cell| cell.load(Relaxed))
    }

    /// What was added to a gauge, and whether anything was.
    pub(crate) fn gauge(&self, index: usize) -> (i64, bool) {
        let raw = self.value(index);
        ((raw << 1).cast_signed() >> 1, raw & TOUCHED != 0)
    }

    /// What a gauge was set to, if it was.
    pub(crate) fn set_value(&self, layout: Layout, index: u32) -> Option<u64> {
        let marks = self.value(layout.set_mark(index));
        (marks & bit(index) != 0).then(|| self.value(layout.set_value(index)))
    }

    pub(crate) fn set_gauge(&self, layout: Layout, index: u32, value: u64) {
        let cells = (self.cell(layout.set_value(index)), self.cell(layout.set_mark(index)));
        if let (Some(cell), Some(marks)) = cells {
            cell.store(value, Relaxed);
            marks.fetch_or(bit(index), Relaxed);
        }
    }
}

/// The bit of a gauge in its word.
fn bit(index: u32) -> u64 {
    1 << (index % 64)
}

/// Adds to the cell of a counter that only this thread writes.
#[inline]
pub(crate) fn add_owned(cell: &AtomicU64, amount: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(amount), Relaxed);
}

/// Adds to the cell of a counter that several threads may write.
pub(crate) fn add_shared(cell: &AtomicU64, amount: u64) {
    cell.fetch_add(amount, Relaxed);
}

/// Adds to the cell of a gauge that only this thread writes. A negative amount is its two's complement.
#[inline]
pub(crate) fn move_owned(cell: &AtomicU64, amount: u64) {
    let sum = cell.load(Relaxed).wrapping_add(amount);
    cell.store(sum | TOUCHED, Relaxed);
}

/// Adds to the cell of a gauge that several threads may write.
pub(crate) fn move_shared(cell: &AtomicU64, amount: u64) {
    let change = |raw: u64| Some(raw.wrapping_add(amount) | TOUCHED);
    // The closure never refuses, so neither does the update.
    let _ = cell.fetch_update(Relaxed, Relaxed, change);
}
