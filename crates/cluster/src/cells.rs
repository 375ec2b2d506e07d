//! Counters that every worker keeps for itself. Owns their layout; nobody locks, and a worker's update is a plain load
//! and store.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of one set, one cache line.
const COUNTERS: usize = 8;

#[repr(align(64))]
#[derive(Debug, Default)]
struct Line([AtomicU64; COUNTERS]);

/// Up to eight counters for each worker. Nothing is allocated before the first update.
#[derive(Debug)]
pub(crate) struct WorkerCells {
    lines: OnceLock<Box<[Line]>>,
    /// Worker ids are below this.
    slots: u32,
}

impl WorkerCells {
    /// Cells for worker ids 1 to `workers`, and 0 for every other thread.
    pub(crate) fn new(workers: u32) -> Self {
        WorkerCells { lines: OnceLock::new(), slots: workers.saturating_add(1) }
    }

    #[inline]
    pub(crate) fn add(&self, counter: usize, amount: u64) {
        let worker = nuncio_stats::worker() as usize;
        let lines = self.lines.get_or_init(|| (0..self.slots).map(|_| Line::default()).collect());
        let (line, owned) = match lines.get(worker) {
            Some(line) if worker != 0 => (Some(line), true),
            _ => (lines.first(), false),
        };
        let Some(cell) = line.and_then(|line| line.0.get(counter)) else { return };
        if owned {
            cell.store(cell.load(Relaxed).wrapping_add(amount), Relaxed);
        } else {
            cell.fetch_add(amount, Relaxed);
        }
    }

    /// The sum over all workers.
    pub(crate) fn sum(&self, counter: usize) -> u64 {
        let cells = self.lines.get().into_iter().flatten().filter_map(|line| line.0.get(counter));
        cells.fold(0u64, |sum, cell| sum.wrapping_add(cell.load(Relaxed)))
    }
}
