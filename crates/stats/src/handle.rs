//! Handles: what code outside this crate updates stats with. Owns the hot path.

use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use crate::block::{self, Block, Layout};
use crate::group::Group;
use crate::histogram::Snapshot;

/// How a struct made by `stat_group!` reaches its group: as an `Arc`, which looks up this worker's block at each
/// update, or as a [`Local`], which did so once.
pub trait GroupHandle {
    /// The group.
    fn group(&self) -> &Arc<Group>;
    /// The group, with this worker's block.
    fn local(&self) -> Local<'_>;
}

/// A group with this worker's block of cells: for code that updates several stats of a group in a row. It can't
/// leave its thread.
#[derive(Clone, Copy)]
pub struct Local<'a> {
    group: &'a Arc<Group>,
    block: Option<&'a Block>,
    /// Another thread must not write this worker's cells.
    not_send: PhantomData<*const ()>,
}

impl GroupHandle for Arc<Group> {
    #[inline]
    fn group(&self) -> &Arc<Group> {
        self
    }

    #[inline]
    fn local(&self) -> Local<'_> {
        Local { group: self, block: self.own_block(), not_send: PhantomData }
    }
}

impl GroupHandle for Local<'_> {
    #[inline]
    fn group(&self) -> &Arc<Group> {
        self.group
    }

    #[inline]
    fn local(&self) -> Local<'_> {
        *self
    }
}

impl std::fmt::Debug for Local<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.group.fmt(f)
    }
}

/// A counter of a group.
#[derive(Clone, Copy, Debug)]
pub struct CounterRef<'a> {
    local: Local<'a>,
    index: u32,
}

impl<'a> CounterRef<'a> {
    /// Called by the accessors that `stat_group!` makes.
    #[doc(hidden)]
    #[inline]
    pub fn new(local: Local<'a>, index: u32) -> Self {
        Self { local, index }
    }

    /// Adds one.
    #[inline]
    pub fn inc(self) {
        self.add(1);
    }

    /// Adds `amount`.
    #[inline]
    pub fn add(self, amount: u64) {
        let cell = self.local.block.and_then(|block| block.cell(self.index as usize));
        match cell {
            Some(cell) => block::add_owned(cell, amount),
            None => self.local.group.add_slow(self.index, amount),
        }
    }

    /// The sum over all workers since the last reset. Not for the hot path.
    pub fn value(self) -> u64 {
        self.local.group.counter(self.index as usize).value
    }

    /// A handle that keeps the group.
    pub fn owned(self) -> Counter {
        Counter { group: self.local.group.clone(), index: self.index }
    }
}

/// A counter, keeping its group.
#[derive(Clone, Debug)]
pub struct Counter {
    group: Arc<Group>,
    index: u32,
}

impl Counter {
    pub(crate) fn new(group: Arc<Group>) -> Self {
        Self { group, index: 0 }
    }

    #[inline]
    fn get(&self) -> CounterRef<'_> {
        CounterRef::new(self.group.local(), self.index)
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.get().inc();
    }

    /// Adds `amount`.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.get().add(amount);
    }

    /// The sum over all workers since the last reset. Not for the hot path.
    pub fn value(&self) -> u64 {
        self.get().value()
    }
}

/// A gauge of a group.
#[derive(Clone, Copy, Debug)]
pub struct GaugeRef<'a> {
    local: Local<'a>,
    /// The cell of the first gauge.
    first: u32,
    index: u32,
}

impl<'a> GaugeRef<'a> {
    /// Called by the accessors that `stat_group!` makes, with the number of counters of the group.
    #[doc(hidden)]
    #[inline]
    pub fn new(local: Local<'a>, counters: u32, index: u32) -> Self {
        Self { local, first: counters, index }
    }

    /// Adds one.
    #[inline]
    pub fn inc(self) {
        self.add(1);
    }

    /// Subtracts one.
    #[inline]
    pub fn dec(self) {
        self.sub(1);
    }

    /// Adds `amount`.
    #[inline]
    pub fn add(self, amount: u64) {
        let index = (self.first + self.index) as usize;
        match self.local.block.and_then(|block| block.cell(index)) {
            Some(cell) => block::move_owned(cell, amount),
            None => self.local.group.move_gauge_slow(index, amount),
        }
    }

    /// Subtracts `amount`. It may be more than this worker ever added: the sum counts.
    #[inline]
    pub fn sub(self, amount: u64) {
        self.add(amount.wrapping_neg());
    }

    /// Sets the value. For gauges that one thread owns: what workers add comes on top.
    pub fn set(self, value: u64) {
        self.local.group.set_gauge(self.index, value);
    }

    /// The sum over all workers; below zero reads as zero. Not for the hot path.
    pub fn value(self) -> u64 {
        self.local.group.gauge(self.index as usize).value
    }

    /// A handle that keeps the group.
    pub fn owned(self) -> Gauge {
        Gauge { group: self.local.group.clone(), index: self.index }
    }
}

/// A gauge, keeping its group.
#[derive(Clone, Debug)]
pub struct Gauge {
    group: Arc<Group>,
    index: u32,
}

impl Gauge {
    pub(crate) fn new(group: Arc<Group>) -> Self {
        Self { group, index: 0 }
    }

    #[inline]
    fn get(&self) -> GaugeRef<'_> {
        let Layout { counters, .. } = self.group.layout();
        GaugeRef::new(self.group.local(), counters, self.index)
    }

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

    /// Adds `amount`.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.get().add(amount);
    }

    /// Subtracts `amount`.
    #[inline]
    pub fn sub(&self, amount: u64) {
        self.get().sub(amount);
    }

    /// Sets the value. For gauges that one thread owns: what workers add comes on top.
    pub fn set(&self, value: u64) {
        self.get().set(value);
    }

    /// The sum over all workers; below zero reads as zero. Not for the hot path.
    pub fn value(&self) -> u64 {
        self.get().value()
    }
}

/// A histogram of a group.
#[derive(Clone, Copy, Debug)]
pub struct HistogramRef<'a> {
    local: Local<'a>,
    index: u32,
}

impl<'a> HistogramRef<'a> {
    /// Called by the accessors that `stat_group!` makes.
    #[doc(hidden)]
    #[inline]
    pub fn new(local: Local<'a>, index: u32) -> Self {
        Self { local, index }
    }

    /// Counts one value, in the unit of the histogram.
    #[inline]
    pub fn record(self, value: u64) {
        let slot = self.local.block.and_then(|block| block.histograms.get(self.index as usize));
        match slot.and_then(OnceLock::get) {
            Some(cells) => cells.record_owned(value),
            None => self.local.group.record_slow(self.index, value),
        }
    }

    /// All that was recorded. Not for the hot path.
    pub fn snapshot(self) -> Snapshot {
        self.local.group.cumulative(self.index as usize)
    }

    /// A handle that keeps the group.
    pub fn owned(self) -> Histogram {
        Histogram { group: self.local.group.clone(), index: self.index }
    }
}

/// A histogram, keeping its group.
#[derive(Clone, Debug)]
pub struct Histogram {
    group: Arc<Group>,
    index: u32,
}

impl Histogram {
    pub(crate) fn new(group: Arc<Group>) -> Self {
        Self { group, index: 0 }
    }

    #[inline]
    fn get(&self) -> HistogramRef<'_> {
        HistogramRef::new(self.group.local(), self.index)
    }

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

/// A text readout of a group. Setting it takes a lock.
#[derive(Clone, Copy, Debug)]
pub struct TextRef<'a> {
    group: &'a Arc<Group>,
    index: u32,
}

impl<'a> TextRef<'a> {
    /// Called by the accessors that `stat_group!` makes.
    #[doc(hidden)]
    pub fn new(group: &'a Arc<Group>, index: u32) -> Self {
        Self { group, index }
    }

    /// Replaces the text.
    pub fn set(self, value: &str) {
        self.group.set_text(self.index, value);
    }

    /// The text; empty when it was never set.
    pub fn value(self) -> String {
        self.group.text(self.index as usize).map(String::from).unwrap_or_default()
    }

    /// A handle that keeps the group.
    pub fn owned(self) -> TextReadout {
        TextReadout { group: self.group.clone(), index: self.index }
    }
}

/// A text readout, keeping its group.
#[derive(Clone, Debug)]
pub struct TextReadout {
    group: Arc<Group>,
    index: u32,
}

impl TextReadout {
    pub(crate) fn new(group: Arc<Group>) -> Self {
        Self { group, index: 0 }
    }

    fn get(&self) -> TextRef<'_> {
        TextRef::new(&self.group, self.index)
    }

    /// Replaces the text.
    pub fn set(&self, value: &str) {
        self.get().set(value);
    }

    /// The text; empty when it was never set.
    pub fn value(&self) -> String {
        self.get().value()
    }
}
