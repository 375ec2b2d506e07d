//! `{"stats":[{"name":…,"value":…},…,{"histograms":…}]}`: all histograms are one element, the last one.

use super::number::json;
use super::{BucketMode, HistogramValue, Item, ItemValue, Query, bucket_counts, quantiles, scale};
use crate::histogram::{QUANTILES, Snapshot};
use crate::store::Store;

/// Where in the document the output is.
#[derive(Debug, Default)]
pub(super) struct JsonList {
    /// Something stands in the list of stats.
    any: bool,
    /// The element with the histograms was begun.
    histograms: bool,
}

impl JsonList {
    pub(super) fn begin(&mut self, out: &mut Vec<u8>) {
        push(out, "{\"stats\":[");
    }

    pub(super) fn item(&mut self, out: &mut Vec<u8>, item: &Item, store: &Store, query: &Query) {
        if self.any {
            push(out, ",");
        }
        self.any = true;
        let name = quote(&item.name);
        match &item.value {
            ItemValue::Number(value) => push(out, &format!("{{\"name\":{name},\"value\":{value}}}")),
            ItemValue::Text(text) => push(out, &format!("{{\"name\":{name},\"value\":{}}}", quote(text))),
            ItemValue::Histogram(histogram) => {
                if !self.histograms {
                    self.histograms = true;
                    push(out, &head(query.histogram_buckets));
                }
                push(out, &entry(&item.name, histogram, store, query.histogram_buckets));
            }
        }
    }

    pub(super) fn end(&mut self, out: &mut Vec<u8>, query: &Query) {
        if self.histograms {
            push(
                out,
                match query.histogram_buckets {
                    BucketMode::Cumulative | BucketMode::Disjoint => "]}",
                    _ => "]}}",
                },
            );
        }
        push(out, "]}");
    }
}

fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn head(mode: BucketMode) -> String {
    let percents: Vec<String> = QUANTILES.iter().map(|quantile| json(quantile * 100.0)).collect();
    let percents = percents.join(",");
    match mode {
        BucketMode::Unset | BucketMode::Summary => {
            format!("{{\"histograms\":{{\"supported_quantiles\":[{percents}],\"computed_quantiles\":[")
        }
        BucketMode::Cumulative | BucketMode::Disjoint => "{\"histograms\":[".to_owned(),
        BucketMode::Detailed => {
            format!("{{\"histograms\":{{\"supported_percentiles\":[{percents}],\"details\":[")
        }
    }
}

fn entry(name: &str, histogram: &HistogramValue, store: &Store, mode: BucketMode) -> String {
    let quoted = quote(name);
    match mode {
        BucketMode::Unset | BucketMode::Summary => {
            format!("{{\"name\":{quoted},\"values\":{}}}", percentiles(histogram))
        }
        BucketMode::Cumulative | BucketMode::Disjoint => {
            let buckets = buckets(histogram, store.buckets(name), mode);
            format!("{{\"name\":{quoted},\"buckets\":{buckets}}}")
        }
        BucketMode::Detailed => format!(
            "{{\"name\":{quoted},\"totals\":{},\"intervals\":{},\"percentiles\":{}}}",
            bins(&histogram.cumulative, histogram),
            bins(&histogram.interval, histogram),
            percentiles(histogram)
        ),
    }
}

fn list(elements: impl Iterator<Item = String>) -> String {
    let elements: Vec<String> = elements.collect();
    format!("[{}]", elements.join(","))
}

fn percentiles(histogram: &HistogramValue) -> String {
    let cumulative = quantiles(&histogram.cumulative, histogram.unit);
    let interval = quantiles(&histogram.interval, histogram.unit);
    list(cumulative.into_iter().zip(interval).map(|(cumulative, interval)| {
        format!("{{\"cumulative\":{},\"interval\":{}}}", json(cumulative), json(interval))
    }))
}

fn buckets(histogram: &HistogramValue, bounds: &[f64], mode: BucketMode) -> String {
    let interval = bucket_counts(&histogram.interval, bounds, mode);
    let cumulative = bucket_counts(&histogram.cumulative, bounds, mode);
    let counts = interval.into_iter().zip(cumulative);
    list(bounds.iter().zip(counts).map(|(&bound, (interval, cumulative))| {
        let bound = json(bound);
        format!("{{\"upper_bound\":{bound},\"interval\":{interval},\"cumulative\":{cumulative}}}")
    }))
}

fn bins(snapshot: &Snapshot, histogram: &HistogramValue) -> String {
    let scale = scale(histogram.unit);
    list(snapshot.bins().map(|bin| {
        let (lower, width) = (json(bin.lower / scale), json(bin.width / scale));
        format!("{{\"lower_bound\":{lower},\"width\":{width},\"count\":{}}}", bin.count)
    }))
}

/// A JSON string (RFC 8259, section 7).
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        match char {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            char if char < ' ' || char == '\x7f' => quoted.push_str(&format!("\\u{:04x}", u32::from(char))),
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}
