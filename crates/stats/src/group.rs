//! Groups of stats and the handles that update them. Owns the hot path.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::block::{self, Block, Sum};
use crate::histogram::{HistogramCells, Snapshot};
use crate::scope::{ScopeInner, join};
use crate::worker::worker;

/// What a stat is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Only ever grows, until `/reset_counters`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
    /// A string.
    TextReadout,
}

/// What the values of a histogram mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    Unspecified,
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
    /// Bytes.
    Bytes,
    /// A fraction, recorded in millionths ([`Unit::PERCENT_SCALE`] is the whole).
    Percent,
}

impl Unit {
    /// The recorded value that stands for 1.0 (100 %) in a histogram of [`Unit::Percent`].
    pub const PERCENT_SCALE: u64 = 1_000_000;
}

/// The name of a stat below its scope.
pub type StatName = &'static str;

/// What [`stat_group!`](crate::stat_group) knows about a group.
#[derive(Debug)]
pub struct Descriptor {
    /// The Rust name of the group.
    pub group: &'static str,
    /// True if a stat is not shown before its first use.
    pub lazy: bool,
    /// Counters; their cells come first.
    pub counters: &'static [StatName],
    /// Gauges; their cells follow.
    pub gauges: &'static [StatName],
    /// Histograms.
    pub histograms: &'static [(StatName, Unit)],
    /// Text readouts.
    pub text: &'static [StatName],
}

impl Descriptor {
    pub(crate) const EMPTY: Self =
        Self { group: "", lazy: false, counters: &[], gauges: &[], histograms: &[], text: &[] };

    /// Every name with its kind.
    pub fn stats(&self) -> impl Iterator<Item = (StatName, Kind)> + '_ {
        let counters = self.counters.iter().map(|&name| (name, Kind::Counter));
        let gauges = self.gauges.iter().map(|&name| (name, Kind::Gauge));
        let histograms = self.histograms.iter().map(|&(name, _)| (name, Kind::Histogram));
        let text = self.text.iter().map(|&name| (name, Kind::TextReadout));
        counters.chain(gauges).chain(histograms).chain(text)
    }
}

/// A registered group. Code outside this crate holds it through the struct that `stat_group!` makes.
pub struct Group {
    descriptor: &'static Descriptor,
    scope: Arc<ScopeInner>,
    /// One block for worker 0 and each worker; neither exists before its first use.
    slots: OnceLock<Box<[OnceLock<Block>]>>,
    rare: OnceLock<Box<Rare>>,
    /// Where the store keeps its reference to this group.
    entry: u32,
}

/// What most groups never need.
#[derive(Default)]
struct Rare {
    text: Box<[Mutex<Option<Box<str>>>]>,
    /// Sums of the counters when they were last reset.
    reset: Mutex<Box<[u64]>>,
    /// Per histogram: cumulative counts at the last flush, and those of the interval that it closed.
    flushed: Mutex<Vec<(Snapshot, Snapshot)>>,
}

impl Group {
    pub(crate) fn new(descriptor: &'static Descriptor, scope: Arc<ScopeInner>, entry: u32) -> Self {
        Self { descriptor, scope, slots: OnceLock::new(), rare: OnceLock::new(), entry }
    }

    /// The names of this group.
    pub fn descriptor(&self) -> &'static Descriptor {
        self.descriptor
    }

    pub(crate) fn scope(&self) -> &ScopeInner {
        &self.scope
    }

    #[inline]
    fn add(&self, index: u32, amount: u64) {
        let worker = worker();
        if worker != 0
            && let Some(block) = self.slots.get().and_then(|slots| slots.get(worker as usize)?.get())
            && let Some(cell) = block.cell(index as usize)
        {
            block::add_owned(cell, amount);
        } else {
            self.add_slow(index, amount);
        }
    }

    #[cold]
    #[inline(never)]
    fn add_slow(&self, index: u32, amount: u64) {
        let (block, owned) = self.block(worker());
        match block.and_then(|block| block.cell(index as usize)) {
            Some(cell) if owned => block::add_owned(cell, amount),
            Some(cell) => block::add_shared(cell, amount),
            None => {}
        }
    }

    fn set(&self, index: u32, value: u64) {
        if let Some(cell) = self.block(0).0.and_then(|block| block.cell(index as usize)) {
            block::set(cell, value);
        }
    }

    #[inline]
    fn record(&self, index: u32, value: u64) {
        let worker = worker();
        if worker != 0
            && let Some(block) = self.slots.get().and_then(|slots| slots.get(worker as usize)?.get())
            && let Some(cells) = block.histograms.get(index as usize).and_then(OnceLock::get)
        {
            cells.record_owned(value);
        } else {
            self.record_slow(index, value);
        }
    }

    #[cold]
    #[inline(never)]
    fn record_slow(&self, index: u32, value: u64) {
        let (block, owned) = self.block(worker());
        let Some(slot) = block.and_then(|block| block.histograms.get(index as usize)) else {
            return;
        };
        let cells = slot.get_or_init(Box::<HistogramCells>::default);
        if owned {
            cells.record_owned(value);
        } else {
            cells.record_shared(value);
        }
    }

    /// The block of a worker, made if need be, and whether that worker alone writes it.
    fn block(&self, worker: u32) -> (Option<&Block>, bool) {
        let slots = self.slots.get_or_init(|| (0..self.scope.store.slots()).map(|_| OnceLock::new()).collect());
        let (slot, owned) = match slots.get(worker as usize) {
            Some(slot) => (Some(slot), worker != 0),
            None => (slots.first(), false),
        };
        let descriptor = self.descriptor;
        let block = slot.map(|slot| {
            slot.get_or_init(|| {
                let cells = descriptor.counters.len() + descriptor.gauges.len();
                Block::new(cells, descriptor.histograms.len())
            })
        });
        (block, owned)
    }

    fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.slots.get().into_iter().flatten().filter_map(OnceLock::get)
    }

    fn sum(&self, index: usize) -> Sum {
        let mut sum = Sum::default();
        self.blocks().filter_map(|block| block.cell(index)).for_each(|cell| sum.add_cell(cell));
        sum
    }

    /// The value of a counter since it was last reset.
    pub(crate) fn counter(&self, index: usize) -> Sum {
        let mut sum = self.sum(index);
        if let Some(rare) = self.rare.get() {
            let reset = rare.reset.lock().unwrap_or_else(PoisonError::into_inner);
            sum.value = sum.value.wrapping_sub(reset.get(index).copied().unwrap_or(0));
        }
        sum
    }

    /// The value of a gauge; below zero counts as zero.
    pub(crate) fn gauge(&self, index: usize) -> Sum {
        let mut sum = self.sum(self.descriptor.counters.len() + index);
        sum.value = sum.value.cast_signed().max(0).cast_unsigned();
        sum
    }

    /// All that was recorded in a histogram.
    pub(crate) fn cumulative(&self, index: usize) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.blocks()
            .filter_map(|block| block.histograms.get(index)?.get())
            .for_each(|cells| snapshot.add_cells(cells));
        snapshot
    }

    /// What was recorded between the last two flushes.
    pub(crate) fn interval(&self, index: usize) -> Snapshot {
        let Some(rare) = self.rare.get() else {
            return Snapshot::default();
        };
        let flushed = rare.flushed.lock().unwrap_or_else(PoisonError::into_inner);
        flushed.get(index).map(|(_, interval)| interval.clone()).unwrap_or_default()
    }

    pub(crate) fn text(&self, index: usize) -> Option<Box<str>> {
        let slot = self.rare.get()?.text.get(index)?;
        slot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn full_name(&self, name: &str) -> String {
        join(&self.scope.prefix, name)
    }

    pub(crate) fn reset_counters(&self) {
        if self.descriptor.counters.is_empty() || self.slots.get().is_none() {
            return;
        }
        let sums = (0..self.descriptor.counters.len()).map(|index| self.sum(index).value).collect();
        *self.rare().reset.lock().unwrap_or_else(PoisonError::into_inner) = sums;
    }

    pub(crate) fn flush(&self) {
        let recorded = |block: &Block| block.histograms.iter().any(|cells| cells.get().is_some());
        if !self.blocks().any(recorded) {
            return;
        }
        let mut flushed = self.rare().flushed.lock().unwrap_or_else(PoisonError::into_inner);
        flushed.resize_with(self.descriptor.histograms.len(), Default::default);
        for (index, (last, interval)) in flushed.iter_mut().enumerate() {
            let now = self.cumulative(index);
            *interval = now.since(last);
            *last = now;
        }
    }

    fn rare(&self) -> &Rare {
        self.rare.get_or_init(|| {
            Box::new(Rare { text: self.descriptor.text.iter().map(|_| Mutex::default()).collect(), ..Rare::default() })
        })
    }

    fn set_text(&self, index: u32, value: &str) {
        if let Some(slot) = self.rare().text.get(index as usize) {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value.into());
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.scope.store.forget(self.entry);
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("group", &self.descriptor.group).field("prefix", &self.scope.prefix).finish()
    }
}

/// Declares the borrowed and the owned handle of one kind, with what they share.
macro_rules! handles {
    ($(#[$meta:meta])* $owned:ident, $borrowed:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        pub struct $borrowed<'a> {
            group: &'a Arc<Group>,
            index: u32,
        }

        impl<'a> $borrowed<'a> {
            /// Called by the accessors that `stat_group!` makes.
            #[doc(hidden)]
            #[inline]
            pub fn new(group: &'a Arc<Group>, index: u32) -> Self {
                Self { group, index }
            }

            /// A handle that keeps the group.
            pub fn owned(self) -> $owned {
                $owned { group: self.group.clone(), index: self.index }
            }
        }

        /// The same, keeping its group.
        #[derive(Clone, Debug)]
        pub struct $owned {
            group: Arc<Group>,
            index: u32,
        }

        impl $owned {
            #[allow(dead_code)]
            pub(crate) fn new(group: Arc<Group>) -> Self {
                Self { group, index: 0 }
            }

            /// The handle that does the work.
            #[inline]
            pub fn get(&self) -> $borrowed<'_> {
                $borrowed { group: &self.group, index: self.index }
            }
        }
    };
}

handles!(
    /// A counter of a group.
    Counter, CounterRef
);
handles!(
    /// A gauge of a group.
    Gauge, GaugeRef
);
handles!(
    /// A histogram of a group.
    Histogram, HistogramRef
);
handles!(
    /// A text readout of a group.
    TextReadout, TextRef
);

impl CounterRef<'_> {
    /// Adds one.
    #[inline]
    pub fn inc(self) {
        self.group.add(self.index, 1);
    }

    /// Adds `amount`, below 2^63.
    #[inline]
    pub fn add(self, amount: u64) {
        self.group.add(self.index, amount);
    }

    /// The sum over all workers since the last reset. Not for the hot path.
    pub fn value(self) -> u64 {
        self.group.counter(self.index as usize).value
    }
}

impl Counter {
    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.get().inc();
    }

    /// Adds `amount`, below 2^63.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.get().add(amount);
    }

    /// The sum over all workers since the last reset. Not for the hot path.
    pub fn value(&self) -> u64 {
        self.get().value()
    }
}

impl GaugeRef<'_> {
    /// Adds one.
    #[inline]
    pub fn inc(self) {
        self.group.add(self.index, 1);
    }

    /// Subtracts one.
    #[inline]
    pub fn dec(self) {
        self.sub(1);
    }

    /// Adds `amount`, below 2^62.
    #[inline]
    pub fn add(self, amount: u64) {
        self.group.add(self.index, amount);
    }

    /// Subtracts `amount`, below 2^62. It may be more than this worker ever added: the sum counts.
    #[inline]
    pub fn sub(self, amount: u64) {
        self.group.add(self.index, amount.wrapping_neg());
    }

    /// Sets the cell that all threads share. For gauges that one place owns; don't mix with `add` on workers.
    pub fn set(self, value: u64) {
        self.group.set(self.index, value);
    }

    /// The sum over all workers; below zero reads as zero. Not for the hot path.
    pub fn value(self) -> u64 {
        let first = self.group.descriptor.counters.len();
        self.group.gauge((self.index as usize).saturating_sub(first)).value
    }
}

impl Gauge {
    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.get().inc();
    }

    /// Subtracts one.
    #[inline]
    pub fn dec(&self) {
        self.get().dec();
    }

    /// Adds `amount`, below 2^62.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.get().add(amount);
    }

    /// Subtracts `amount`, below 2^62.
    #[inline]
    pub fn sub(&self, amount: u64) {
        self.get().sub(amount);
    }

    /// Sets the cell that all threads share.
    pub fn set(&self, value: u64) {
        self.get().set(value);
    }

    /// The sum over all workers; below zero reads as zero. Not for the hot path.
    pub fn value(&self) -> u64 {
        self.get().value()
    }
}

impl HistogramRef<'_> {
    /// Counts one value, in the unit of the histogram.
    #[inline]
    pub fn record(self, value: u64) {
        self.group.record(self.index, value);
    }

    /// All that was recorded. Not for the hot path.
    pub fn snapshot(self) -> Snapshot {
        self.group.cumulative(self.index as usize)
    }
}

impl Histogram {
    /// Counts one value, in the unit of the histogram.
    #[inline]
    pub fn record(&self, value: u64) {
        self.get().record(value);
    }

    /// All that was recorded. Not for the hot path.
    pub fn snapshot(&self) -> Snapshot {
        self.get().snapshot()
    }
}

impl TextRef<'_> {
    /// Replaces the text.
    pub fn set(self, value: &str) {
        self.group.set_text(self.index, value);
    }

    /// The text; empty when it was never set.
    pub fn value(self) -> String {
        self.group.text(self.index as usize).map(String::from).unwrap_or_default()
    }
}

impl TextReadout {
    /// Replaces the text.
    pub fn set(&self, value: &str) {
        self.get().set(value);
    }

    /// The text; empty when it was never set.
    pub fn value(&self) -> String {
        self.get().value()
    }
}
