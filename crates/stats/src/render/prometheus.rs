//! Prometheus text exposition: all series of a metric stand together, so stats are sorted by the name that is
//! left when tags are taken out. Owns that order, the escaping, and histograms as buckets or summaries.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::vec;

use super::number::exact;
use super::walk::{Listings, Name, StatId, is_accepted, is_shown, read};
use super::{BucketMode, HistogramValue, ItemValue, Query, quantiles};
use crate::group::Kind;
use crate::histogram::QUANTILES;
use crate::scope::join;
use crate::store::{Source, Store};
use crate::tags::TagProducer;

/// The passes, in order.
const KINDS: [Kind; 4] = [Kind::Counter, Kind::Gauge, Kind::TextReadout, Kind::Histogram];

pub(super) struct PrometheusScrape {
    query: Query,
    sources: Vec<Source>,
    listings: Listings,
    kinds: vec::IntoIter<Kind>,
    kind: Kind,
    /// Names of the metrics of this pass, as they are shown.
    metrics: Vec<String>,
    series: std::iter::Peekable<vec::IntoIter<Series>>,
    last_metric: Option<u32>,
}

/// One stat, in the order in which it is shown.
#[derive(Clone, Debug)]
struct Series {
    metric: u32,
    source: u32,
    name: Name,
    id: StatId,
}

/// The name of a metric and the tags of one series of it, `a="b",c="d"`.
struct Labelled {
    metric: String,
    labels: String,
}

impl PrometheusScrape {
    pub(super) fn new(store: &Store, query: Query) -> Self {
        let mut sources = store.sources();
        sources.sort_by(|a, b| segments(&a.scope().prefix).cmp(segments(&b.scope().prefix)));
        let kinds: Vec<Kind> =
            KINDS.into_iter().filter(|&kind| kind != Kind::TextReadout || query.text_readouts).collect();
        Self {
            query,
            sources,
            listings: Listings::default(),
            kinds: kinds.into_iter(),
            kind: Kind::Counter,
            metrics: Vec::new(),
            series: Vec::new().into_iter().peekable(),
            last_metric: None,
        }
    }

    pub(super) fn fill(&mut self, store: &Store, out: &mut Vec<u8>, limit: usize) -> bool {
        while out.len() < limit {
            match self.series.next() {
                Some(series) => self.write(store, out, series),
                None => match self.kinds.next() {
                    Some(kind) => self.begin(store, kind),
                    None => return false,
                },
            }
        }
        true
    }

    /// Lists and sorts what is to be shown of a kind.
    fn begin(&mut self, store: &Store, kind: Kind) {
        let mut numbers: HashMap<String, u32> = HashMap::new();
        let mut all = Vec::new();
        for (source, index) in self.sources.iter().zip(0u32..) {
            for stat in self.listings.of(source).iter().filter(|stat| stat.id.kind() == kind) {
                let name = join(&source.scope().prefix, stat.name.as_str());
                let shown = is_shown(source, stat.id, &self.query)
                    && self.query.wants(&name)
                    && is_accepted(source, stat.id, store, &name);
                if !shown {
                    continue;
                }
                let extracted = extracted_name(store.tags(), source, stat.name.as_str(), &name);
                let next = numbers.len() as u32;
                let metric = *numbers.entry(extracted).or_insert(next);
                all.push(Series { metric, source: index, name: stat.name.clone(), id: stat.id });
            }
        }
        self.kind = kind;
        self.last_metric = None;
        self.number(store, numbers, &mut all);
        // Stable, so that the stats of one group stay in the order of their names.
        all.sort_by_key(|series| (series.metric, series.source));
        self.series = all.into_iter().peekable();
    }

    /// Gives metrics their places in the order of names, and their names as shown.
    fn number(&mut self, store: &Store, numbers: HashMap<String, u32>, all: &mut Vec<Series>) {
        let mut names: Vec<(String, u32)> = numbers.into_iter().collect();
        names.sort_by(|(a, _), (b, _)| segments(a).cmp(segments(b)));
        let mut places = vec![None; names.len()];
        self.metrics.clear();
        for (name, number) in names {
            if let Some(shown) = metric_name(&name, &store.options().custom_namespaces) {
                if let Some(place) = places.get_mut(number as usize) {
                    *place = Some(self.metrics.len() as u32);
                }
                self.metrics.push(shown);
            }
        }
        all.retain_mut(|series| {
            let place = places.get(series.metric as usize).copied().flatten();
            series.metric = place.unwrap_or(series.metric);
            place.is_some()
        });
    }

    fn write(&mut self, store: &Store, out: &mut Vec<u8>, series: Series) {
        let Some(source) = self.sources.get(series.source as usize) else { return };
        let name = join(&source.scope().prefix, series.name.as_str());
        let mut value = read(source, series.id);
        let same = |other: &Series| {
            let prefix = self.sources.get(other.source as usize).map(|other| &other.scope().prefix);
            other.metric == series.metric && prefix.is_some_and(|prefix| join(prefix, other.name.as_str()) == name)
        };
        while let Some(other) = self.series.next_if(same) {
            if let Some(source) = self.sources.get(other.source as usize) {
                value.merge(read(source, other.id));
            }
        }
        let metric = self.metrics.get(series.metric as usize).map_or("", |metric| metric);
        let mut text = String::with_capacity(256);
        if self.last_metric != Some(series.metric) {
            self.last_metric = Some(series.metric);
            let kind = self.type_name();
            // Writing to a string does not fail.
            let _ = writeln!(text, "# TYPE {metric} {kind}");
        }
        let labels = labels(store.tags(), source, series.name.as_str(), &name, series.id);
        let series = Labelled { metric: metric.to_owned(), labels };
        match &value {
            ItemValue::Number(value) => series.line(&mut text, "", "", value),
            ItemValue::Text(value) => {
                let label = format!("text_value=\"{}\"", escape(value));
                series.line(&mut text, "", &label, 0);
            }
            ItemValue::Histogram(histogram) if self.query.histogram_buckets == BucketMode::Summary => {
                series.summary(&mut text, histogram);
            }
            ItemValue::Histogram(histogram) => series.buckets(&mut text, histogram, store.buckets(&name)),
        }
        out.extend_from_slice(text.as_bytes());
    }

    fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge | Kind::TextReadout => "gauge",
            Kind::Histogram if self.query.histogram_buckets == BucketMode::Summary => "summary",
            Kind::Histogram => "histogram",
        }
    }
}

impl Labelled {
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

/// A name as the sequence of its segments, for comparison: a dot goes before everything.
fn segments(name: &str) -> impl Iterator<Item = u8> + '_ {
    name.bytes().map(|byte| if byte == b'.' { 0 } else { byte })
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
            explicit.tags.iter().for_each(|(name, value)| push(name, value));
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
