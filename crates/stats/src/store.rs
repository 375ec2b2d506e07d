//! The store: every group that is alive. Owns registration, removal, flushing and lookup by name.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::codes::{CodeStat, Codes};
use crate::group::{Descriptor, Group};
use crate::histogram::Snapshot;
use crate::options::StatsOptions;
use crate::scope::{Scope, ScopeInner, join};
use crate::tags::{TagError, TagProducer};

/// All stats of a process. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<StoreInner>,
}

pub(crate) struct StoreInner {
    slots: usize,
    options: StatsOptions,
    tags: TagProducer,
    registry: Mutex<Registry>,
}

#[derive(Default)]
struct Registry {
    entries: Vec<Entry>,
    free: Vec<u32>,
}

enum Entry {
    Free,
    Group(Weak<Group>),
    Codes(Weak<Codes>),
}

/// A group that is alive.
#[derive(Clone)]
pub(crate) enum Source {
    Group(Arc<Group>),
    Codes(Arc<Codes>),
}

impl Store {
    /// A store for worker ids 1 to `workers`, with Envoy's default options.
    pub fn new(workers: usize) -> Self {
        let options = StatsOptions::default();
        Self::build(workers, options, TagProducer::default())
    }

    /// A store for worker ids 1 to `workers`. The error names the tag rule that can't be used.
    pub fn with_options(workers: usize, options: StatsOptions) -> Result<Self, TagError> {
        let tags = TagProducer::new(&options)?;
        Ok(Self::build(workers, options, tags))
    }

    fn build(workers: usize, options: StatsOptions, tags: TagProducer) -> Self {
        Self {
            inner: Arc::new(StoreInner { slots: workers.saturating_add(1), options, tags, registry: Mutex::default() }),
        }
    }

    /// A scope with this name prefix (`cluster.foo`).
    ///
    /// Leave `tags` empty to have the tags found in the name, as Envoy does it nearly everywhere. Tags given here
    /// are all there are (beside the fixed ones); each value should be one or more whole segments of the prefix.
    pub fn scope(&self, prefix: &str, tags: &[(&str, &str)]) -> Scope {
        Scope { inner: Arc::new(ScopeInner::new(self.inner.clone(), prefix, tags)) }
    }

    pub(crate) fn tags(&self) -> &TagProducer {
        &self.inner.tags
    }

    /// The options this store was made with.
    pub fn options(&self) -> &StatsOptions {
        &self.inner.options
    }

    /// Closes the interval of every histogram; call it every `stats_flush_interval` (default 5 s).
    pub fn flush(&self) {
        for source in self.sources() {
            if let Source::Group(group) = source {
                group.flush();
            }
        }
    }

    /// Sets every counter to zero (`POST /reset_counters`).
    pub fn reset_counters(&self) {
        for source in self.sources() {
            match source {
                Source::Group(group) => group.reset_counters(),
                Source::Codes(codes) => codes.reset_counters(),
            }
        }
    }

    /// The value of the counter or gauge of this full name; `None` if there is none. Slow: for tests and
    /// the admin endpoint.
    pub fn value(&self, name: &str) -> Option<u64> {
        let mut found = None;
        for source in self.sources() {
            if let Some(value) = source.value(name) {
                found = Some(found.unwrap_or(0) + value);
            }
        }
        found
    }

    /// All that was recorded in the histogram of this full name. Slow, as [`Store::value`].
    pub fn histogram(&self, name: &str) -> Option<Snapshot> {
        let mut found: Option<Snapshot> = None;
        for source in self.sources() {
            let Source::Group(group) = source else { continue };
            let histograms = group.descriptor().histograms.iter();
            for (index, (stat, _)) in histograms.enumerate() {
                if is_name(&group.scope().prefix, stat, name) {
                    found.get_or_insert_default().add(&group.cumulative(index));
                }
            }
        }
        found
    }

    /// The text readout of this full name. Slow, as [`Store::value`].
    pub fn text(&self, name: &str) -> Option<String> {
        self.sources().into_iter().find_map(|source| {
            let Source::Group(group) = source else { return None };
            let mut texts = group.descriptor().text.iter();
            let index = texts.position(|stat| is_name(&group.scope().prefix, stat, name))?;
            Some(group.text(index).map(String::from).unwrap_or_default())
        })
    }

    pub(crate) fn sources(&self) -> Vec<Source> {
        let registry = self.inner.lock();
        let alive = |entry: &Entry| match entry {
            Entry::Free => None,
            Entry::Group(group) => group.upgrade().map(Source::Group),
            Entry::Codes(codes) => codes.upgrade().map(Source::Codes),
        };
        registry.entries.iter().filter_map(alive).collect()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("slots", &self.inner.slots).finish_non_exhaustive()
    }
}

impl Source {
    pub(crate) fn scope(&self) -> &ScopeInner {
        match self {
            Source::Group(group) => group.scope(),
            Source::Codes(codes) => codes.scope(),
        }
    }

    fn value(&self, name: &str) -> Option<u64> {
        match self {
            Source::Group(group) => {
                let prefix = &group.scope().prefix;
                let descriptor = group.descriptor();
                let position = |names: &[&str]| names.iter().position(|stat| is_name(prefix, stat, name));
                match position(descriptor.counters) {
                    Some(index) => Some(group.counter(index).value),
                    None => position(descriptor.gauges).map(|index| group.gauge(index).value),
                }
            }
            Source::Codes(codes) => {
                let prefix = &codes.scope().prefix;
                let matches = |stat: &(String, CodeStat)| is_name(prefix, &stat.0, name);
                let (_, stat) = codes.stats().into_iter().find(matches)?;
                Some(codes.value(stat).value)
            }
        }
    }
}

/// Whether `prefix.stat` is `name`.
fn is_name(prefix: &str, stat: &str, name: &str) -> bool {
    name.starts_with(prefix) && name.ends_with(stat) && join(prefix, stat) == name
}

impl StoreInner {
    /// Blocks of a group: one for threads that are no workers, and one for each worker.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    pub(crate) fn register(scope: Arc<ScopeInner>, descriptor: &'static Descriptor) -> Arc<Group> {
        let store = scope.store.clone();
        let mut registry = store.lock();
        let entry = registry.reserve();
        let group = Arc::new(Group::new(descriptor, scope, entry));
        registry.put(entry, Entry::Group(Arc::downgrade(&group)));
        drop(registry);
        group
    }

    pub(crate) fn register_codes(&self, new: impl FnOnce(u32) -> Codes) -> Arc<Codes> {
        let mut registry = self.lock();
        let entry = registry.reserve();
        let codes = Arc::new(new(entry));
        registry.put(entry, Entry::Codes(Arc::downgrade(&codes)));
        codes
    }

    /// Takes a group that is being dropped out of the registry.
    pub(crate) fn forget(&self, entry: u32) {
        let mut registry = self.lock();
        registry.put(entry, Entry::Free);
        registry.free.push(entry);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    fn reserve(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::Free);
            self.entries.len() as u32 - 1
        })
    }

    fn put(&mut self, entry: u32, value: Entry) {
        if let Some(slot) = self.entries.get_mut(entry as usize) {
            *slot = value;
        }
    }
}

#[cfg(test)]
mod tests;
