//! The cells of one group on one worker. Owns their layout and the arithmetic on one cell.
//!
//! A cell holds `value << 1 | used`: the low bit says that the stat was touched at least once, which a
//! gauge that went back to zero could not tell otherwise.

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

/// The cells of one worker: counters and gauges side by side, histograms each on first use.
pub(crate) struct Block {
    lines: Box<[Line]>,
    pub(crate) histograms: Box<[OnceLock<Box<HistogramCells>>]>,
}

impl Block {
    pub(crate) fn new(cells: usize, histograms: usize) -> Self {
        Self {
            lines: (0..cells.div_ceil(8)).map(|_| Line::default()).collect(),
            histograms: (0..histograms).map(|_| OnceLock::new()).collect(),
        }
    }

    #[inline]
    pub(crate) fn cell(&self, index: usize) -> Option<&AtomicU64> {
        self.lines.get(index / 8).map(|line| line.cell(index))
    }
}

/// Adds to a cell that only this thread writes. A negative amount is its two's complement.
#[inline]
pub(crate) fn add_owned(cell: &AtomicU64, amount: u64) {
    let value = (cell.load(Relaxed) | 1).wrapping_add(amount << 1);
    cell.store(value, Relaxed);
}

/// Adds to a cell that several threads may write.
pub(crate) fn add_shared(cell: &AtomicU64, amount: u64) {
    let before = cell.fetch_add(amount << 1, Relaxed);
    if before & 1 == 0 {
        cell.fetch_or(1, Relaxed);
    }
}

/// Sets a shared cell.
pub(crate) fn set(cell: &AtomicU64, value: u64) {
    cell.store(value << 1 | 1, Relaxed);
}

/// The sum of cells of one stat over the workers.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    /// Two's complement when the stat is a gauge.
    pub(crate) value: u64,
    pub(crate) used: bool,
}

impl Sum {
    pub(crate) fn add_cell(&mut self, cell: &AtomicU64) {
        let raw = cell.load(Relaxed);
        // An arithmetic shift, so that a worker that only ever subtracted contributes a negative amount.
        self.value = self.value.wrapping_add((raw.cast_signed() >> 1).cast_unsigned());
        self.used |= raw & 1 == 1;
    }
}
