//! Log-linear histograms: two significant digits a bin, as Envoy's. Owns bins, per-worker cells, merged
//! snapshots and what is computed from them (quantiles, sums, counts below a bound).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The quantiles that Envoy computes, ascending.
pub const QUANTILES: [f64; 10] = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0];

/// The default upper bounds of buckets, in the unit of the histogram (milliseconds for durations).
pub const DEFAULT_BUCKETS: [f64; 19] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0, 60000.0, 300000.0,
    600000.0, 1800000.0, 3600000.0,
];

/// Decades above the first: values from 10 to 10^20.
const DECADES: usize = 19;
/// Bins of a decade: two digits, 10 to 99.
const DECADE_BINS: usize = 90;
/// Bins of single-digit values.
const FIRST_BINS: usize = 10;

/// The bins of one histogram on one worker. A decade is allocated when a value first falls into it.
#[repr(align(64))]
#[derive(Default)]
pub(crate) struct HistogramCells {
    first: [AtomicU64; FIRST_BINS],
    decades: [OnceLock<Box<Decade>>; DECADES],
}

#[repr(align(64))]
struct Decade([AtomicU64; DECADE_BINS]);

impl HistogramCells {
    /// Counts one value; only one thread may call it.
    #[inline]
    pub(crate) fn record_owned(&self, value: u64) {
        if let Some(cell) = self.cell(value) {
            cell.store(cell.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }

    /// Counts one value; any thread may call it.
    pub(crate) fn record_shared(&self, value: u64) {
        if let Some(cell) = self.cell(value) {
            cell.fetch_add(1, Relaxed);
        }
    }

    #[inline]
    fn cell(&self, value: u64) -> Option<&AtomicU64> {
        if let Some(cell) = self.first.get(value as usize) {
            return Some(cell);
        }
        let (decade, digits) = decade_of(value);
        let slot = self.decades.get(decade)?;
        let bins = match slot.get() {
            Some(bins) => bins,
            None => new_decade(slot),
        };
        bins.0.get(digits.wrapping_sub(10))
    }

    fn collect(&self, counts: &mut Snapshot) {
        for (bin, cell) in self.first.iter().enumerate() {
            counts.push(bin, cell.load(Relaxed));
        }
        for (decade, slot) in self.decades.iter().enumerate() {
            let Some(bins) = slot.get() else { continue };
            for (digit, cell) in bins.0.iter().enumerate() {
                counts.push(FIRST_BINS + decade * DECADE_BINS + digit, cell.load(Relaxed));
            }
        }
    }
}

#[cold]
#[inline(never)]
fn new_decade(slot: &OnceLock<Box<Decade>>) -> &Decade {
    slot.get_or_init(|| Box::new(Decade([const { AtomicU64::new(0) }; DECADE_BINS])))
}

/// For a value of at least 10: which decade above the first, and its two leading digits.
#[inline]
fn decade_of(value: u64) -> (usize, usize) {
    match value {
        0..100 => (0, value as usize),
        100..1_000 => (1, (value / 10) as usize),
        1_000..10_000 => (2, (value / 100) as usize),
        _ => {
            let decade = value.ilog10() - 1;
            (decade as usize, (value / 10u64.pow(decade)) as usize)
        }
    }
}

/// One bin: its lower bound and width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// The smallest value of the bin.
    pub lower: f64,
    /// The distance to the next bin; 0 for the bin of zero.
    pub width: f64,
    /// How many values fell into it.
    pub count: u64,
}

impl Bin {
    fn new(bin: u16, count: u64) -> Self {
        let index = usize::from(bin);
        let (lower, width) = match index {
            0 => (0.0, 0.0),
            1..FIRST_BINS => (index as f64, 0.1),
            _ => {
                let decade = (index - FIRST_BINS) / DECADE_BINS;
                let digits = (index - FIRST_BINS) % DECADE_BINS + 10;
                let width = 10f64.powi(decade as i32);
                (digits as f64 * width, width)
            }
        };
        Self { lower, width, count }
    }

    /// The middle of the bin as Envoy sees it, nearer to its lower end.
    fn middle(self) -> f64 {
        if self.width == 0.0 {
            return self.lower;
        }
        let upper = self.lower + self.width;
        self.lower + self.width * (self.lower / (self.lower + upper))
    }
}

/// Counts per bin, merged over workers; only bins that are not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Ascending by bin.
    counts: Vec<(u16, u64)>,
}

impl Snapshot {
    /// A snapshot of these values.
    pub fn of(values: &[u64]) -> Self {
        let cells = HistogramCells::default();
        values.iter().for_each(|&value| cells.record_owned(value));
        let mut snapshot = Self::default();
        snapshot.add_cells(&cells);
        snapshot
    }

    fn push(&mut self, bin: usize, count: u64) {
        if count > 0 {
            self.counts.push((bin as u16, count));
        }
    }

    pub(crate) fn add_cells(&mut self, cells: &HistogramCells) {
        let mut other = Self::default();
        cells.collect(&mut other);
        self.add(&other);
    }

    /// Adds the counts of another snapshot.
    pub fn add(&mut self, other: &Self) {
        if self.counts.is_empty() {
            self.counts.clone_from(&other.counts);
            return;
        }
        for &(bin, count) in &other.counts {
            match self.counts.binary_search_by_key(&bin, |&(bin, _)| bin) {
                Ok(at) => {
                    if let Some(slot) = self.counts.get_mut(at) {
                        slot.1 += count;
                    }
                }
                Err(at) => self.counts.insert(at, (bin, count)),
            }
        }
    }

    /// What was counted since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut before = earlier.counts.iter().peekable();
        let mut difference = Self::default();
        for &(bin, count) in &self.counts {
            while before.next_if(|&&(other, _)| other < bin).is_some() {}
            let old = before.next_if(|&&(other, _)| other == bin).map_or(0, |&(_, old)| old);
            difference.push(usize::from(bin), count.saturating_sub(old));
        }
        difference
    }

    /// Bins that are not empty, ascending.
    pub fn bins(&self) -> impl Iterator<Item = Bin> + '_ {
        self.counts.iter().map(|&(bin, count)| Bin::new(bin, count))
    }

    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|&(_, count)| count).sum()
    }

    /// The sum of the values, as far as bins tell.
    pub fn sum(&self) -> f64 {
        self.bins().map(|bin| bin.middle() * bin.count as f64).sum()
    }

    /// How many values were in bins that start at `bound` or below.
    pub fn count_up_to(&self, bound: f64) -> u64 {
        self.bins().take_while(|bin| bin.lower <= bound).map(|bin| bin.count).sum()
    }

    /// The values at [`QUANTILES`]; `None` when nothing was recorded. The values of a bin are taken to be spread evenly
    /// between its ends.
    pub fn quantiles(&self) -> Option<[f64; QUANTILES.len()]> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let mut bins = self.bins();
        let mut bin = bins.next()?;
        let mut below = 0;
        Some(QUANTILES.map(|quantile| {
            let rank = ((quantile * total as f64).ceil() as u64).max(1);
            while rank > below + bin.count {
                let Some(next) = bins.next() else { break };
                below += bin.count;
                bin = next;
            }
            let share = (rank - below) as f64 / (bin.count as f64 + 1.0);
            bin.lower + bin.width * share
        }))
    }

    /// True when nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

#[cfg(test)]
mod tests;
