//! Prometheus text exposition: all series of a metric stand together, so stats are sorted by the name that is
//! left when tags are taken out. Owns that order, the escaping, and histograms as buckets or summaries.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::vec;

use super::number::exact;
use super::walk::{Listings, Stat, StatId, is_accepted, is_shown, read};
use super::{BucketMode, HistogramValue, ItemValue, Query, STEPS, quantiles};
use crate::group::Kind;
use crate::histogram::QUANTILES;
use crate::scope::join;
use crate::store::{Source, Store};
use crate::tags::TagProducer;

/// The passes, in order.
const KINDS: [Kind; 4] = [Kind::Counter, Kind::Gauge, Kind::TextReadout, Kind::Histogram];

pub(super) struct PrometheusScrape {
    query: Query,
    /// Sorted by prefix, each with its stats.
    sources: Vec<(Source, Arc<[Stat]>)>,
    kinds: vec::IntoIter<Kind>,
    kind: Kind,
    stage: Stage,
}

/// What is done for a kind.
enum Stage {
    /// Stats are sorted into metrics.
    Collect(Collection),
    /// Metrics are written, the next one last.
    Write { metrics: Vec<Metric>, current: Option<Current> },
}

/// Metrics of one kind, by their extracted names.
#[derive(Default)]
struct Collection {
    next_source: usize,
    numbers: HashMap<String, usize>,
    series: Vec<Vec<Series>>,
}

/// A metric and its series, in order.
struct Metric {
    name: String,
    series: Vec<Series>,
}

/// The metric that is being written.
struct Current {
    name: String,
    series: std::iter::Peekable<vec::IntoIter<Series>>,
}

/// A stat: which source, and which of its stats.
#[derive(Clone, Copy, Debug)]
struct Series {
    source: u32,
    stat: u16,
}

/// The name of a metric and the tags of one series of it, `a="b",c="d"`.
struct Labelled<'a> {
    metric: &'a str,
    labels: String,
}

impl PrometheusScrape {
    pub(super) fn new(store: &Store, query: Query) -> Self {
        let mut listings = Listings::default();
        let sources = store.sources().into_iter();
        let mut sources: Vec<(Source, Arc<[Stat]>)> = sources
            .map(|source| {
                let stats = listings.of(&source);
                (source, stats)
            })
            .collect();
        sources.sort_by(|(a, _), (b, _)| compare(&a.scope().prefix, &b.scope().prefix));
        let wanted = |&kind: &Kind| kind != Kind::TextReadout || query.text_readouts;
        let kinds: Vec<Kind> = KINDS.into_iter().filter(wanted).collect();
        let stage = Stage::Write { metrics: Vec::new(), current: None };
        Self { query, sources, kinds: kinds.into_iter(), kind: Kind::Counter, stage }
    }

    pub(super) fn fill(&mut self, store: &Store, out: &mut Vec<u8>, limit: usize) -> bool {
        let mut steps = 0;
        while out.len() < limit && steps < STEPS {
            steps += 1;
            match &mut self.stage {
                Stage::Collect(collection) => {
                    let source = self.sources.get(collection.next_source);
                    let Some((source, stats)) = source else {
                        let metrics = std::mem::take(collection).finish(store);
                        self.stage = Stage::Write { metrics, current: None };
                        continue;
                    };
                    steps += stats.len();
                    collection.add(store, &self.query, self.kind, source, stats);
                }
                Stage::Write { current: Some(current), .. } if current.series.len() > 0 => {
                    if let Some(text) = next_series(&self.sources, current, store, &self.query) {
                        out.extend_from_slice(text.as_bytes());
                    }
                }
                Stage::Write { metrics, current } => match metrics.pop() {
                    Some(Metric { name, series }) => {
                        let kind = type_name(self.kind, &self.query);
                        out.extend_from_slice(format!("# TYPE {name} {kind}\n").as_bytes());
                        *current = Some(Current { name, series: series.into_iter().peekable() });
                    }
                    None => match self.kinds.next() {
                        Some(kind) => {
                            self.kind = kind;
                            self.stage = Stage::Collect(Collection::default());
                        }
                        None => return false,
                    },
                },
            }
        }
        true
    }
}

impl Collection {
    /// Sorts the stats of the next source into metrics.
    fn add(&mut self, store: &Store, query: &Query, kind: Kind, source: &Source, stats: &[Stat]) {
        let number = self.next_source as u32;
        self.next_source += 1;
        for (stat, index) in stats.iter().zip(0u16..).filter(|(stat, _)| stat.id.kind() == kind) {
            if !is_shown(source, stat.id, query) {
                continue;
            }
            let name = join(&source.scope().prefix, stat.name.as_str());
            if !query.wants(&name) || !is_accepted(source, stat.id, store, &name) {
                continue;
            }
            let extracted = extracted_name(store.tags(), source, stat.name.as_str(), &name);
            let next = self.series.len();
            let metric = *self.numbers.entry(extracted).or_insert(next);
            if metric == next {
                self.series.push(Vec::new());
            }
            if let Some(series) = self.series.get_mut(metric) {
                series.push(Series { source: number, stat: index });
            }
        }
    }

    /// The metrics with their names as shown, the first one last.
    fn finish(mut self, store: &Store) -> Vec<Metric> {
        let mut numbers: Vec<(String, usize)> = self.numbers.into_iter().collect();
        numbers.sort_by(|(a, _), (b, _)| compare(b, a));
        let metrics = numbers.into_iter().filter_map(|(name, number)| {
            let name = metric_name(&name, &store.options().custom_namespaces)?;
            let series = std::mem::take(self.series.get_mut(number)?);
            Some(Metric { name, series })
        });
        metrics.collect()
    }
}

/// The lines of the next series of a metric, merged with others of the same full name.
fn next_series(
    sources: &[(Source, Arc<[Stat]>)],
    current: &mut Current,
    store: &Store,
    query: &Query,
) -> Option<String> {
    let find = |series: &Series| {
        let (source, stats) = sources.get(series.source as usize)?;
        Some((source, stats.get(usize::from(series.stat))?))
    };
    let (source, stat) = find(&current.series.next()?)?;
    let prefix = &source.scope().prefix;
    let mut value = read(source, stat.id);
    let name = join(prefix, stat.name.as_str());
    let same = |other: &Series| {
        find(other).is_some_and(|(source, other)| join(&source.scope().prefix, other.name.as_str()) == name)
    };
    while let Some((source, stat)) = current.series.next_if(same).as_ref().and_then(find) {
        value.merge(read(source, stat.id));
    }
    let labels = labels(store.tags(), source, stat.name.as_str(), &name, stat.id);
    let series = Labelled { metric: &current.name, labels };
    let mut text = String::with_capacity(256);
    match &value {
        ItemValue::Number(value) => series.line(&mut text, "", "", value),
        ItemValue::Text(value) => {
            let label = format!("text_value=\"{}\"", escape(value));
            series.line(&mut text, "", &label, 0);
        }
        ItemValue::Histogram(histogram) if query.histogram_buckets == BucketMode::Summary => {
            series.summary(&mut text, histogram);
        }
        ItemValue::Histogram(histogram) => series.buckets(&mut text, histogram, store.buckets(&name)),
    }
    Some(text)
}

fn type_name(kind: Kind, query: &Query) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge | Kind::TextReadout => "gauge",
        Kind::Histogram if query.histogram_buckets == BucketMode::Summary => "summary",
        Kind::Histogram => "histogram",
    }
}

impl Labelled<'_> {
    /// `metric_suffix{labels,label} value`
    fn line(&self, out: &mut String, suffix: &str, label: &str, value: impl std::fmt::Display) {
        let Self { metric, labels } = self;
        let comma = if labels.is_empty() || label.is_empty() { "" } else { "," };
        let _ = writeln!(out, "{metric}{suffix}{{{labels}{comma}{label}}} {value}");
    }

    fn buckets(&self, out: &mut String, histogram: &HistogramValue, bounds: &[f64]) {
        let total = histogram.cumulative.count();
        for &bound in bounds {
            let count = histogram.cumulative.count_up_to(bound);
            self.line(out, "_bucket", &format!("le=\"{}\"", exact(bound)), count);
        }
        self.line(out, "_bucket", "le=\"+Inf\"", total);
        self.line(out, "_sum", "", exact(histogram.cumulative.sum()));
        self.line(out, "_count", "", total);
    }

    /// Of the last interval, as in Envoy.
    fn summary(&self, out: &mut String, histogram: &HistogramValue) {
        let values = quantiles(&histogram.interval, histogram.unit);
        for (quantile, value) in QUANTILES.iter().zip(values) {
            self.line(out, "", &format!("quantile=\"{quantile}\""), exact(value));
        }
        self.line(out, "_sum", "", exact(histogram.interval.sum()));
        self.line(out, "_count", "", histogram.interval.count());
    }
}

/// Compares names segment by segment: a dot goes before everything.
fn compare(a: &str, b: &str) -> Ordering {
    let segments = |byte: u8| if byte == b'.' { 0 } else { byte };
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let next = |name: &str| name.as_bytes().get(same).map(|&byte| segments(byte));
    next(a).cmp(&next(b))
}

/// A name without the values of tags.
fn extracted_name(tags: &TagProducer, source: &Source, stat: &str, name: &str) -> String {
    match &source.scope().explicit {
        Some(explicit) => join(&explicit.extracted, &code_extracted(tags, source, stat)),
        None => tags.produce(name).name,
    }
}

/// In a scope with tags of its own, a response code is still a tag.
fn code_extracted(tags: &TagProducer, source: &Source, stat: &str) -> String {
    match source {
        Source::Codes(_) => tags.produce(stat).name,
        Source::Group(_) => stat.to_owned(),
    }
}

fn labels(tags: &TagProducer, source: &Source, stat: &str, name: &str, id: StatId) -> String {
    let mut labels = String::new();
    let mut push = |name: &str, value: &str| {
        let comma = if labels.is_empty() { "" } else { "," };
        let _ = write!(labels, "{comma}{}=\"{}\"", label_name(name), escape(value));
    };
    match &source.scope().explicit {
        Some(explicit) => {
            if let StatId::Code(_) = id {
                tags.produce(stat).tags.iter().for_each(|(name, value)| push(name, value));
            } else {
                tags.fixed().for_each(|(name, value)| push(name, value));
            }
            explicit.tags.0.iter().for_each(|(name, value)| push(name, value));
        }
        None => tags.produce(name).tags.iter().for_each(|(name, value)| push(name, value)),
    }
    labels
}

fn sanitize(name: &str) -> String {
    let safe = |char: char| if char.is_ascii_alphanumeric() { char } else { '_' };
    name.chars().map(safe).collect()
}

/// `envoy_…`, or the name itself below a custom namespace; `None` for one that Prometheus would refuse.
fn metric_name(extracted: &str, namespaces: &[String]) -> Option<String> {
    let custom = namespaces.iter().find_map(|namespace| {
        let rest = extracted.strip_prefix(namespace.as_str())?;
        rest.strip_prefix('.')
    });
    match custom {
        None => Some(format!("envoy_{}", sanitize(extracted))),
        Some(name) => {
            let name = sanitize(name);
            let starts_well = name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
            starts_well.then_some(name)
        }
    }
}

fn label_name(name: &str) -> String {
    let name = sanitize(name);
    match name.bytes().next() {
        Some(first) if !first.is_ascii_digit() => name,
        _ => format!("_{name}"),
    }
}

/// A label value: backslash, quote and line feed are escaped.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
