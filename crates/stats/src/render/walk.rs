//! Visits stats in the order of their names without making all names at once. Owns the merge of groups.
//!
//! Each group lists its stats in order, so the whole is a merge of sorted runs. Runs are sorted by their first
//! name; only those that have begun and not ended are in the heap, and those are few: the groups of one
//! cluster, not of all.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::vec;

use super::{HistogramValue, Item, ItemValue, Query};
use crate::codes::CodeStat;
use crate::group::{Descriptor, Kind, Unit};
use crate::scope::join;
use crate::store::{Source, Store};

/// One stat of a group.
#[derive(Clone, Debug)]
pub(crate) struct Stat {
    pub(crate) name: Name,
    pub(crate) id: StatId,
}

/// A name below its scope.
#[derive(Clone, Debug)]
pub(crate) enum Name {
    Static(&'static str),
    Owned(Box<str>),
}

impl Name {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Name::Static(name) => name,
            Name::Owned(name) => name,
        }
    }
}

/// Where its value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatId {
    Counter(usize),
    Gauge(usize),
    Histogram(usize, Unit),
    Text(usize),
    Code(CodeStat),
}

impl StatId {
    pub(crate) fn kind(self) -> Kind {
        match self {
            StatId::Counter(_) | StatId::Code(_) => Kind::Counter,
            StatId::Gauge(_) => Kind::Gauge,
            StatId::Histogram(..) => Kind::Histogram,
            StatId::Text(_) => Kind::TextReadout,
        }
    }
}

/// The stats of each descriptor, listed once.
#[derive(Default)]
pub(crate) struct Listings {
    of: HashMap<*const Descriptor, Arc<[Stat]>>,
}

impl Listings {
    /// The stats of a source, ascending by name.
    pub(crate) fn of(&mut self, source: &Source) -> Arc<[Stat]> {
        match source {
            Source::Group(group) => {
                let descriptor = group.descriptor();
                self.of.entry(std::ptr::from_ref(descriptor)).or_insert_with(|| listing(descriptor)).clone()
            }
            Source::Codes(codes) => {
                let stats = codes.stats().into_iter();
                sorted(stats.map(|(name, stat)| Stat { name: Name::Owned(name.into()), id: StatId::Code(stat) }))
            }
        }
    }
}

fn listing(descriptor: &'static Descriptor) -> Arc<[Stat]> {
    fn stats<T>(names: &'static [T], of: impl Fn(usize, &T) -> (&'static str, StatId)) -> Vec<Stat> {
        let stat = |(index, entry)| {
            let (name, id) = of(index, entry);
            Stat { name: Name::Static(name), id }
        };
        names.iter().enumerate().map(stat).collect()
    }
    let counters = stats(descriptor.counters, |index, name| (name, StatId::Counter(index)));
    let gauges = stats(descriptor.gauges, |index, name| (name, StatId::Gauge(index)));
    let text = stats(descriptor.text, |index, name| (name, StatId::Text(index)));
    let histograms = stats(descriptor.histograms, |index, &(name, unit)| (name, StatId::Histogram(index, unit)));
    sorted([counters, gauges, histograms, text].into_iter().flatten())
}

fn sorted(stats: impl Iterator<Item = Stat>) -> Arc<[Stat]> {
    let mut stats: Vec<Stat> = stats.collect();
    stats.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    stats.into()
}

/// Whether a stat is to be shown, leaving aside its name.
pub(crate) fn is_shown(source: &Source, id: StatId, query: &Query) -> bool {
    let lazy = matches!(source, Source::Group(group) if group.descriptor().lazy);
    if !lazy && !query.used_only {
        return true;
    }
    match (source, id) {
        (Source::Group(group), StatId::Counter(index)) => group.counter(index).used,
        (Source::Group(group), StatId::Gauge(index)) => group.gauge(index).used,
        (Source::Group(group), StatId::Histogram(index, _)) => group.is_recorded(index),
        (Source::Group(group), StatId::Text(index)) => group.text(index).is_some(),
        // Codes are listed when they were used.
        _ => true,
    }
}

/// Whether the stats matcher of the configuration keeps a stat.
pub(crate) fn is_accepted(source: &Source, id: StatId, store: &Store, name: &str) -> bool {
    let Some(accept) = &store.options().accept else {
        return true;
    };
    match source {
        Source::Group(group) => group.is_accepted(id.position(group.descriptor()), accept),
        Source::Codes(_) => accept(name),
    }
}

impl StatId {
    /// Its place among all stats of a group, in the order of [`Descriptor::stats`].
    fn position(self, descriptor: &Descriptor) -> usize {
        let gauges = descriptor.counters.len();
        let histograms = gauges + descriptor.gauges.len();
        let text = histograms + descriptor.histograms.len();
        match self {
            StatId::Counter(index) => index,
            StatId::Gauge(index) => gauges + index,
            StatId::Histogram(index, _) => histograms + index,
            StatId::Text(index) => text + index,
            StatId::Code(_) => usize::MAX,
        }
    }
}

/// Reads a stat.
pub(crate) fn read(source: &Source, id: StatId) -> ItemValue {
    match (source, id) {
        (Source::Group(group), StatId::Counter(index)) => ItemValue::Number(group.counter(index).value),
        (Source::Group(group), StatId::Gauge(index)) => ItemValue::Number(group.gauge(index).value),
        (Source::Group(group), StatId::Histogram(index, unit)) => ItemValue::Histogram(HistogramValue {
            cumulative: group.cumulative(index),
            interval: group.interval(index),
            unit,
        }),
        (Source::Group(group), StatId::Text(index)) => {
            ItemValue::Text(group.text(index).map(String::from).unwrap_or_default())
        }
        (Source::Codes(codes), StatId::Code(stat)) => ItemValue::Number(codes.value(stat).value),
        // An id comes from the listing of its own source.
        _ => ItemValue::Number(0),
    }
}

impl ItemValue {
    /// Adds the value of another stat of the same name and kind; the first text stays.
    pub(crate) fn merge(&mut self, other: ItemValue) {
        match (self, other) {
            (ItemValue::Number(sum), ItemValue::Number(value)) => *sum = sum.wrapping_add(value),
            (ItemValue::Histogram(sum), ItemValue::Histogram(value)) => {
                sum.cumulative.add(&value.cumulative);
                sum.interval.add(&value.interval);
            }
            _ => {}
        }
    }
}

/// The passes of a list: text readouts, then counters and gauges, then histograms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Text,
    Numbers,
    Histograms,
}

impl Pass {
    fn has(self, kind: Kind) -> bool {
        match self {
            Pass::Text => kind == Kind::TextReadout,
            Pass::Numbers => matches!(kind, Kind::Counter | Kind::Gauge),
            Pass::Histograms => kind == Kind::Histogram,
        }
    }
}

/// What one step of a walk gave.
pub(super) enum Step {
    Item(Item),
    /// Nothing to show; there is more.
    Skipped,
    End,
}

/// Stats in order, pass by pass.
pub(super) struct Walk {
    sources: Vec<Source>,
    listings: Listings,
    passes: vec::IntoIter<Pass>,
    /// Runs of this pass that have not begun, the next one last.
    waiting: Vec<Run>,
    /// Runs that have begun, by their current name.
    begun: BinaryHeap<Reverse<Current>>,
}

/// The stats of one source for one pass.
struct Run {
    source: Source,
    stats: Arc<[Stat]>,
    /// Which of them are of this pass and still to come, the next one last.
    left: Vec<u16>,
}

/// A run with the name it is at.
struct Current {
    name: String,
    id: StatId,
    run: Run,
}

impl Run {
    fn prefix(&self) -> &str {
        &self.source.scope().prefix
    }

    fn first(&self) -> &str {
        let stat = self.left.last().and_then(|&index| self.stats.get(usize::from(index)));
        stat.map_or("", |stat| stat.name.as_str())
    }

    fn advance(mut self) -> Option<Current> {
        let stat = self.stats.get(usize::from(self.left.pop()?))?;
        let (name, id) = (join(self.prefix(), stat.name.as_str()), stat.id);
        Some(Current { name, id, run: self })
    }
}

impl Walk {
    pub(super) fn new(store: &Store, query: &Query) -> Self {
        let passes = [Pass::Text, Pass::Numbers, Pass::Histograms];
        let wanted = |pass: &Pass| {
            let kinds = [Kind::TextReadout, Kind::Counter, Kind::Gauge, Kind::Histogram];
            kinds.into_iter().any(|kind| pass.has(kind) && query.wants_kind(kind))
        };
        let passes: Vec<Pass> = passes.into_iter().filter(wanted).collect();
        Self {
            sources: store.sources(),
            listings: Listings::default(),
            passes: passes.into_iter(),
            waiting: Vec::new(),
            begun: BinaryHeap::new(),
        }
    }

    /// Goes on by one name; stats of the same name and kind are merged.
    pub(super) fn step(&mut self, store: &Store, query: &Query) -> Step {
        let Some(Current { name, id, run }) = self.pop() else {
            return match self.begin(query) {
                Some(()) => Step::Skipped,
                None => Step::End,
            };
        };
        let kind = id.kind();
        let wanted = query.wants(&name);
        let mut value: Option<ItemValue> = None;
        let mut next = Some((id, run));
        while let Some((id, run)) = next {
            if wanted && is_shown(&run.source, id, query) && is_accepted(&run.source, id, store, &name) {
                let read = read(&run.source, id);
                match &mut value {
                    Some(value) => value.merge(read),
                    None => value = Some(read),
                }
            }
            self.push(run);
            next = self.pop_equal(&name, kind).map(|Current { id, run, .. }| (id, run));
        }
        value.map_or(Step::Skipped, |value| Step::Item(Item { name, value }))
    }

    /// Prepares the runs of the next pass.
    fn begin(&mut self, query: &Query) -> Option<()> {
        let pass = self.passes.next()?;
        for source in &self.sources {
            let stats = self.listings.of(source);
            let wanted = |stat: &Stat| pass.has(stat.id.kind()) && query.wants_kind(stat.id.kind());
            let mut left: Vec<u16> =
                (0u16..).zip(stats.iter()).filter(|(_, stat)| wanted(stat)).map(|(index, _)| index).collect();
            if !left.is_empty() {
                left.reverse();
                self.waiting.push(Run { source: source.clone(), stats, left });
            }
        }
        self.waiting.sort_by(|a, b| compare((b.prefix(), b.first()), (a.prefix(), a.first())));
        Some(())
    }

    fn push(&mut self, run: Run) {
        if let Some(current) = run.advance() {
            self.begun.push(Reverse(current));
        }
    }

    /// The run with the smallest name.
    fn pop(&mut self) -> Option<Current> {
        while let Some(next) = self.waiting.last() {
            let begun = self.begun.peek();
            if begun.is_some_and(|Reverse(begun)| {
                compare((&begun.name, ""), (next.prefix(), next.first())) == Ordering::Less
            }) {
                break;
            }
            if let Some(run) = self.waiting.pop() {
                self.push(run);
            }
        }
        self.begun.pop().map(|Reverse(current)| current)
    }

    /// The same, if it is of this name and kind.
    fn pop_equal(&mut self, name: &str, kind: Kind) -> Option<Current> {
        let current = self.pop()?;
        if current.name == name && current.id.kind() == kind {
            return Some(current);
        }
        self.begun.push(Reverse(current));
        None
    }
}

/// Compares two names that are given as prefix and rest, by bytes.
fn compare(a: (&str, &str), b: (&str, &str)) -> Ordering {
    fn tail<'a>((prefix, rest): (&'a str, &'a str), from: usize) -> impl Iterator<Item = u8> + 'a {
        let dot = (!prefix.is_empty() && !rest.is_empty()).then_some(b'.');
        let prefix = prefix.as_bytes().get(from..).unwrap_or_default();
        prefix.iter().copied().chain(dot).chain(rest.bytes())
    }
    let common = a.0.len().min(b.0.len());
    let (head_a, head_b) = (a.0.as_bytes().get(..common), b.0.as_bytes().get(..common));
    head_a.cmp(&head_b).then_with(|| tail(a, common).cmp(tail(b, common)))
}

impl PartialEq for Current {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Current {}

impl PartialOrd for Current {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Current {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |current: &Self| current.id.kind();
        self.name.cmp(&other.name).then_with(|| key(self).cmp(&key(other)))
    }
}
