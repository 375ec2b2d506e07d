//! Counters and gauges that go from one process to the next. Owns what was sent, what was taken in, and which gauges
//! are the process's own. Does not own how the values travel.
//!
//! Histograms and text stay with their process, as in Envoy.

use std::collections::HashMap;

use crate::codes::CodeStat;
use crate::group::Group;
use crate::store::{Source, Store};

/// Names that wait for their group at most; more are dropped.
const MOST_WAITING: usize = 1_000_000;

/// What a stat gained since it was last told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A counter grew by this much.
    Counter(u64),
    /// A gauge went up or down by this much.
    Gauge(i64),
}

/// Changes of stats that have the prefix of their name in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The name up to the last part: of a scope.
    pub prefix: String,
    /// The last parts of the names; empty where the prefix is the whole name.
    pub stats: Vec<(String, Change)>,
}

type ByName<V> = HashMap<Box<str>, HashMap<Box<str>, V>>;

/// Tells what changed since it was last asked; at first everything that is not zero.
#[derive(Debug, Default)]
pub struct Exporter {
    counters: ByName<u64>,
    gauges: ByName<i64>,
}

/// Takes the changes of another process in. What belongs to groups that do not exist yet waits for them.
#[derive(Debug, Default)]
pub struct Importer {
    waiting: ByName<Change>,
    waiting_count: usize,
    /// What gauges owe to the other process.
    given: ByName<i64>,
}

impl Exporter {
    /// What changed, by prefix in any order.
    pub fn changes(&mut self, store: &Store) -> Vec<Changes> {
        let mut counters: ByName<u64> = HashMap::new();
        let mut gauges: ByName<i64> = HashMap::new();
        for source in store.sources() {
            let prefix = &source.scope().prefix;
            match &source {
                Source::Group(group) => read_group(group, prefix, &mut counters, &mut gauges),
                Source::Codes(codes) => {
                    for (name, stat) in codes.stats() {
                        *entry(&mut counters, prefix, &name) += codes.value(stat).value;
                    }
                }
            }
        }
        let mut changes: HashMap<Box<str>, Vec<(String, Change)>> = HashMap::new();
        let mut tell = |prefix: &str, name: &str, change| match changes.get_mut(prefix) {
            Some(stats) => stats.push((name.to_owned(), change)),
            None => {
                changes.insert(prefix.into(), vec![(name.to_owned(), change)]);
            }
        };
        for (prefix, name, now) in flat(&counters) {
            // Less than before: it was reset, or one of several groups of that name is gone.
            let grown = now.saturating_sub(value(&self.counters, prefix, name));
            if grown > 0 {
                tell(prefix, name, Change::Counter(grown));
            }
        }
        for (prefix, name, now) in flat(&gauges) {
            let moved = now.wrapping_sub(value(&self.gauges, prefix, name));
            if moved != 0 {
                tell(prefix, name, Change::Gauge(moved));
            }
        }
        // A gauge that is not there any more is zero.
        for (prefix, name, before) in flat(&self.gauges) {
            if value(&gauges, prefix, name) == 0 {
                tell(prefix, name, Change::Gauge(before.wrapping_neg()));
            }
        }
        (self.counters, self.gauges) = (counters, gauges);
        changes.into_iter().map(|(prefix, stats)| Changes { prefix: prefix.into(), stats }).collect()
    }
}

/// All values but zeros.
fn flat<V: Copy + Default + PartialEq>(of: &ByName<V>) -> impl Iterator<Item = (&str, &str, V)> {
    of.iter()
        .flat_map(|(prefix, names)| names.iter().map(move |(name, value)| (&**prefix, &**name, *value)))
        .filter(|(_, _, value)| *value != V::default())
}

fn value<V: Copy + Default>(of: &ByName<V>, prefix: &str, name: &str) -> V {
    of.get(prefix).and_then(|names| names.get(name)).copied().unwrap_or_default()
}

fn read_group(group: &Group, prefix: &str, counters: &mut ByName<u64>, gauges: &mut ByName<i64>) {
    let descriptor = group.descriptor();
    for (index, name) in descriptor.counters.iter().enumerate() {
        let value = group.counter(index).value;
        if value != 0 {
            *entry(counters, prefix, name) += value;
        }
    }
    for (index, name) in descriptor.gauges.iter().enumerate() {
        let value = group.gauge(index).value.cast_signed();
        if value != 0 && is_shared(prefix, name) {
            let sum = entry(gauges, prefix, name);
            *sum = sum.wrapping_add(value);
        }
    }
}

fn entry<'a, V: Default>(of: &'a mut ByName<V>, prefix: &str, name: &str) -> &'a mut V {
    if !of.contains_key(prefix) {
        of.insert(prefix.into(), HashMap::new());
    }
    let names = of.entry(prefix.into()).or_default();
    names.entry(name.into()).or_default()
}

impl Importer {
    /// Takes changes in; [`Importer::apply`] puts them where they belong.
    pub fn add(&mut self, changes: Vec<Changes>) {
        for Changes { prefix, stats } in changes {
            for (name, change) in stats {
                self.wait(&prefix, &name, change);
            }
        }
    }

    fn wait(&mut self, prefix: &str, name: &str, change: Change) {
        if matches!(change, Change::Gauge(_)) && !is_shared(prefix, name) {
            return;
        }
        if let Some(waiting) = self.waiting.get_mut(prefix).and_then(|names| names.get_mut(name)) {
            *waiting = match (*waiting, change) {
                (Change::Counter(a), Change::Counter(b)) => Change::Counter(a.saturating_add(b)),
                (Change::Gauge(a), Change::Gauge(b)) => Change::Gauge(a.wrapping_add(b)),
                (_, change) => change,
            };
        } else if self.waiting_count < MOST_WAITING {
            self.waiting.entry(prefix.into()).or_default().insert(name.into(), change);
            self.waiting_count += 1;
        }
    }

    /// Adds what waits to the stats of `store` that exist by now.
    pub fn apply(&mut self, store: &Store) {
        if self.waiting.is_empty() {
            return;
        }
        let (given, mut done) = (&mut self.given, 0);
        for source in store.sources() {
            let prefix = &source.scope().prefix;
            let Some(names) = self.waiting.get_mut(prefix) else { continue };
            names.retain(|name, change| {
                if !source.import(name, *change) {
                    return true;
                }
                done += 1;
                if let Change::Gauge(moved) = *change {
                    let given = entry(given, prefix, name);
                    *given = given.wrapping_add(moved);
                }
                false
            });
            if names.is_empty() {
                self.waiting.remove(prefix);
            }
        }
        self.waiting_count -= done;
    }

    /// The other process has ended: gauges lose what they had from it. What still waits has nobody to wait for.
    pub fn end(&mut self, store: &Store) {
        self.apply(store);
        let given = std::mem::take(&mut self.given);
        self.waiting.clear();
        self.waiting_count = 0;
        for (prefix, names) in given {
            for (name, given) in names.into_iter().filter(|(_, given)| *given != 0) {
                self.waiting.entry(prefix.clone()).or_default().insert(name, Change::Gauge(given.wrapping_neg()));
                self.waiting_count += 1;
            }
        }
        self.apply(store);
        *self = Importer::default();
    }
}

impl Source {
    /// Adds to the stat of this name below the source's prefix; `false` if there is none.
    fn import(&self, name: &str, change: Change) -> bool {
        let position = |names: &[&str]| names.iter().position(|stat| *stat == name);
        match (self, change) {
            (Source::Group(group), Change::Counter(grown)) => {
                let index = position(group.descriptor().counters);
                index.is_some_and(|index| {
                    group.add_slow(index as u32, grown);
                    true
                })
            }
            (Source::Group(group), Change::Gauge(moved)) => {
                let index = position(group.descriptor().gauges);
                index.is_some_and(|index| {
                    group.move_gauge_slow(group.layout().gauge(index as u32), moved.cast_unsigned());
                    true
                })
            }
            (Source::Codes(codes), Change::Counter(grown)) => {
                codes.stat_of(name).is_some_and(|stat: CodeStat| codes.add(stat, grown))
            }
            (Source::Codes(_), Change::Gauge(_)) => false,
        }
    }
}

/// Prefixes whose gauges tell of one process, not of the traffic that two of them share (Envoy: `NeverImport`).
const OWN_PREFIXES: [&str; 6] =
    ["server", "listener_manager", "cluster_manager", "runtime", "thread_local_cluster_manager", "overload"];
/// Likewise by their last parts.
const OWN_NAMES: [&str; 14] = [
    "version",
    "connected_state",
    "config_reload_time_ms",
    "update_time",
    "max_host_weight",
    "membership_degraded",
    "membership_excluded",
    "membership_healthy",
    "membership_total",
    "warming_state",
    "healthy",
    "degraded",
    "expiration_unix_time_seconds",
    "key_rotation_failed",
];

/// Whether a gauge is the sum over the processes.
fn is_shared(prefix: &str, name: &str) -> bool {
    let whole = if name.is_empty() { prefix } else { name };
    let last = whole.rsplit('.').next().unwrap_or(whole);
    let first = prefix.split('.').next().unwrap_or(prefix);
    !OWN_PREFIXES.contains(&first) && !OWN_NAMES.contains(&last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stat_group;

    stat_group! {
        /// Of the tests.
        pub group TestStats {
            counters { requests, errors }
            gauges { active, version }
        }
    }

    fn carry(exporter: &mut Exporter, from: &Store, importer: &mut Importer, to: &Store) {
        importer.add(exporter.changes(from));
        importer.apply(to);
    }

    #[test]
    fn counters_go_on_and_gauges_are_sums() {
        let (before, after) = (Store::new(1), Store::new(2));
        let (mut exporter, mut importer) = (Exporter::default(), Importer::default());
        let old = TestStats::register(&before.scope("a", &[]));
        let codes = before.scope("c", &[]).code_counters("rq");
        let late = before.scope("late", &[]);
        late.dynamic_counter("x").add(4);
        old.requests().add(3);
        old.active().add(2);
        old.version().set(77);
        codes.charge(503);
        codes.charge(200);
        codes.charge(42);
        let new = TestStats::register(&after.scope("a", &[]));
        let new_codes = after.scope("c", &[]).code_counters("rq");
        new.requests().inc();
        new.active().inc();
        carry(&mut exporter, &before, &mut importer, &after);
        let value = |name: &str| after.value(name);
        assert_eq!((value("a.requests"), value("a.errors")), (Some(4), Some(0)));
        assert_eq!((value("a.active"), value("a.version")), (Some(3), Some(0)));
        for (name, expected) in
            [("c.rq_503", 1), ("c.rq_5xx", 1), ("c.rq_completed", 3), ("c.rq_unknown", 1), ("c.rq_2xx", 1)]
        {
            assert_eq!(value(name), Some(expected), "{name}");
        }
        // A stat that is made later finds its value.
        assert_eq!(value("late.x"), None);
        let late = after.scope("late", &[]);
        late.dynamic_counter("x").inc();
        old.requests().add(5);
        old.active().sub(1);
        codes.charge(503);
        carry(&mut exporter, &before, &mut importer, &after);
        assert_eq!((value("a.requests"), value("a.active"), value("late.x")), (Some(9), Some(2), Some(5)));
        assert_eq!(value("c.rq_503"), Some(2));
        new_codes.charge(503);
        assert_eq!(value("c.rq_503"), Some(3));
        importer.end(&after);
        assert_eq!((value("a.requests"), value("a.active")), (Some(9), Some(1)));
    }

    #[test]
    fn a_gauge_whose_group_is_gone_is_taken_back() {
        let (before, after) = (Store::new(1), Store::new(1));
        let (mut exporter, mut importer) = (Exporter::default(), Importer::default());
        let old = TestStats::register(&before.scope("a", &[]));
        let _new = TestStats::register(&after.scope("a", &[]));
        old.active().add(2);
        old.requests().add(2);
        carry(&mut exporter, &before, &mut importer, &after);
        assert_eq!(after.value("a.active"), Some(2));
        drop(old);
        carry(&mut exporter, &before, &mut importer, &after);
        assert_eq!((after.value("a.active"), after.value("a.requests")), (Some(0), Some(2)));
        assert!(exporter.changes(&before).is_empty());
    }

    #[test]
    fn reset_counters_do_not_go_backwards() {
        let before = Store::new(1);
        let mut exporter = Exporter::default();
        let old = TestStats::register(&before.scope("a", &[]));
        old.requests().add(9);
        exporter.changes(&before);
        before.reset_counters();
        assert!(exporter.changes(&before).is_empty());
        old.requests().add(2);
        assert_eq!(exporter.changes(&before)[0].stats, [("requests".to_owned(), Change::Counter(2))]);
    }

    #[test]
    fn what_no_group_takes_is_bounded_and_forgotten() {
        let after = Store::new(1);
        let mut importer = Importer::default();
        let stats = vec![("x".to_owned(), Change::Counter(1)), ("y".to_owned(), Change::Gauge(-1))];
        importer.add(vec![Changes { prefix: "no".to_owned(), stats }]);
        importer.apply(&after);
        assert_eq!(importer.waiting_count, 2);
        importer.end(&after);
        assert_eq!(importer.waiting_count, 0);
    }
}
