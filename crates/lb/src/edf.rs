//! Earliest deadline first: a schedule in which every entry appears in proportion to its weight.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Entries are small numbers that mean something to the caller.
#[derive(Debug, Clone, Default)]
pub(crate) struct Edf {
    heap: BinaryHeap<Entry>,
    now: f64,
    added: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    deadline: f64,
    /// Equal deadlines come in the order in which they were added.
    order: u64,
    item: u32,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The heap gives its largest entry: the earliest deadline must be the largest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.deadline.total_cmp(&self.deadline).then(other.order.cmp(&self.order))
    }
}

impl Edf {
    /// Adds an entry. A weight that is not above zero would never be picked again; it is taken as very small.
    pub(crate) fn add(&mut self, item: u32, weight: f64) {
        let deadline = self.now + 1.0 / weight.max(1e-9);
        self.added += 1;
        self.heap.push(Entry { deadline, order: self.added, item });
    }

    /// The next entry, which stays in the schedule with the weight that `weight` gives it from now on.
    pub(crate) fn pick(&mut self, weight: impl FnOnce(u32) -> f64) -> Option<u32> {
        let mut top = self.heap.peek_mut()?;
        self.now = top.deadline;
        let item = top.item;
        self.added += 1;
        top.deadline = self.now + 1.0 / weight(item).max(1e-9);
        top.order = self.added;
        Some(item)
    }
}
