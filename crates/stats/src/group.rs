//! Groups of stats and the handles that update them. Owns the hot path.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::block::{self, Block, Layout};
use crate::histogram::{HistogramCells, Snapshot};
use crate::options::Predicate;
use crate::scope::{ScopeInner, join};
use crate::worker::{block_index, worker};

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

/// A counter or gauge, summed over the workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) value: u64,
    pub(crate) used: bool,
}

/// What most groups never need.
#[derive(Default)]
struct Rare {
    text: Box<[Mutex<Option<Box<str>>>]>,
    /// Sums of the counters when they were last reset.
    reset: Mutex<Box<[u64]>>,
    /// Per histogram: cumulative counts at the last flush, and those of the interval that it closed.
    flushed: Mutex<Vec<(Snapshot, Snapshot)>>,
    /// What the stats matcher says to each stat.
    accepted: OnceLock<Box<[bool]>>,
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

    /// The block of this worker, if this thread is one and has used the group.
    #[inline]
    pub(crate) fn own_block(&self) -> Option<&Block> {
        self.slots.get()?.get(block_index())?.get()
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn add_slow(&self, index: u32, amount: u64) {
        let (block, owned) = self.block(worker());
        match block.and_then(|block| block.cell(index as usize)) {
            Some(cell) if owned => block::add_owned(cell, amount),
            Some(cell) => block::add_shared(cell, amount),
            None => {}
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn move_gauge_slow(&self, cell: usize, amount: u64) {
        let (block, owned) = self.block(worker());
        match block.and_then(|block| block.cell(cell)) {
            Some(cell) if owned => block::move_owned(cell, amount),
            Some(cell) => block::move_shared(cell, amount),
            None => {}
        }
    }

    pub(crate) fn set_gauge(&self, index: u32, value: u64) {
        if let Some(block) = self.block(0).0 {
            block.set_gauge(self.layout(), index, value);
        }
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout { counters: self.descriptor.counters.len() as u32, gauges: self.descriptor.gauges.len() as u32 }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn record_slow(&self, index: u32, value: u64) {
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
        let histograms = self.descriptor.histograms.len();
        let shared = !owned;
        let new = || Block::new(self.layout(), histograms, shared);
        let block = slot.map(|slot| slot.get_or_init(new));
        (block, owned)
    }

    fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.slots.get().into_iter().flatten().filter_map(OnceLock::get)
    }

    fn sum(&self, cell: usize) -> u64 {
        self.blocks().fold(0, |sum, block| sum.wrapping_add(block.value(cell)))
    }

    /// The value of a counter since it was last reset, and whether it was ever above zero.
    pub(crate) fn counter(&self, index: usize) -> Value {
        let sum = self.sum(index);
        let at_reset = self.rare.get().map_or(0, |rare| {
            let reset = rare.reset.lock().unwrap_or_else(PoisonError::into_inner);
            reset.get(index).copied().unwrap_or(0)
        });
        Value { value: sum.wrapping_sub(at_reset), used: sum != 0 }
    }

    /// The value of a gauge: what it was set to, and what was added. A sum below zero, which two workers can make
    /// of a reading between their updates, is zero.
    pub(crate) fn gauge(&self, index: usize) -> Value {
        let (layout, index) = (self.layout(), index as u32);
        let shared = self.slots.get().and_then(|slots| slots.first()?.get());
        let set = shared.and_then(|block| block.set_value(layout, index));
        let mut used = set.is_some();
        let mut added: i64 = 0;
        for block in self.blocks() {
            let (amount, touched) = block.gauge(layout.gauge(index));
            added = added.wrapping_add(amount);
            used |= touched;
        }
        Value { value: set.unwrap_or(0).saturating_add_signed(added), used }
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

    /// Whether anything was recorded in a histogram.
    pub(crate) fn is_recorded(&self, index: usize) -> bool {
        self.blocks().any(|block| block.histograms.get(index).is_some_and(|cells| cells.get().is_some()))
    }

    /// Whether the configuration keeps a stat, given its place in [`Descriptor::stats`]. Asked once for all of them.
    pub(crate) fn is_accepted(&self, position: usize, accept: &Predicate) -> bool {
        let accepted = self.rare().accepted.get_or_init(|| {
            let stats = self.descriptor.stats();
            stats.map(|(name, _)| accept(&join(&self.scope.prefix, name))).collect()
        });
        accepted.get(position).copied().unwrap_or(false)
    }

    pub(crate) fn reset_counters(&self) {
        if self.descriptor.counters.is_empty() || self.slots.get().is_none() {
            return;
        }
        let sums = (0..self.descriptor.counters.len()).map(|index| self.sum(index)).collect();
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

    pub(crate) fn set_text(&self, index: u32, value: &str) {
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
