//! `name: value`, one stat a line.

use std::fmt::Write as _;

use super::number::{shortest, six_digits};
use super::{BucketMode, HistogramValue, Item, ItemValue, Query, bucket_counts, quantiles, scale};
use crate::histogram::{QUANTILES, Snapshot};
use crate::store::Store;

/// Appends one stat.
pub(super) fn item(out: &mut Vec<u8>, item: &Item, store: &Store, query: &Query) {
    out.extend_from_slice(line(item, store, query).as_bytes());
}

/// The line, or for details the lines, of one stat.
pub(super) fn line(item: &Item, store: &Store, query: &Query) -> String {
    let name = &item.name;
    match &item.value {
        ItemValue::Number(value) => format!("{name}: {value}\n"),
        ItemValue::Text(text) => format!("{name}: \"{text}\"\n"),
        ItemValue::Histogram(histogram) if histogram.cumulative.is_empty() => {
            format!("{name}: No recorded values\n")
        }
        ItemValue::Histogram(histogram) => match query.histogram_buckets {
            BucketMode::Unset | BucketMode::Summary => format!("{name}: {}\n", summary(histogram)),
            mode @ (BucketMode::Cumulative | BucketMode::Disjoint) => {
                format!("{name}: {}\n", buckets(histogram, store.buckets(name), mode))
            }
            BucketMode::Detailed => format!(
                "{name}:\n  totals={}\n  intervals={}\n  summary={}\n",
                bins(&histogram.cumulative, histogram),
                bins(&histogram.interval, histogram),
                summary(histogram)
            ),
        },
    }
}

/// `P0(interval,cumulative) P25(…) …`
fn summary(histogram: &HistogramValue) -> String {
    let interval = quantiles(&histogram.interval, histogram.unit);
    let cumulative = quantiles(&histogram.cumulative, histogram.unit);
    let mut line = String::with_capacity(256);
    for ((quantile, interval), cumulative) in QUANTILES.iter().zip(interval).zip(cumulative) {
        let space = if line.is_empty() { "" } else { " " };
        let percent = six_digits(quantile * 100.0);
        let (interval, cumulative) = (shortest(interval), shortest(cumulative));
        // Writing to a string does not fail.
        let _ = write!(line, "{space}P{percent}({interval},{cumulative})");
    }
    line
}

/// `B0.5(interval,cumulative) B1(…) …`
fn buckets(histogram: &HistogramValue, bounds: &[f64], mode: BucketMode) -> String {
    let interval = bucket_counts(&histogram.interval, bounds, mode);
    let cumulative = bucket_counts(&histogram.cumulative, bounds, mode);
    let counts = interval.iter().zip(&cumulative);
    let buckets = bounds.iter().zip(counts);
    let buckets: Vec<String> = buckets
        .map(|(&bound, (interval, cumulative))| format!("B{}({interval},{cumulative})", six_digits(bound)))
        .collect();
    buckets.join(" ")
}

/// `lower,width:count, …`
fn bins(snapshot: &Snapshot, histogram: &HistogramValue) -> String {
    let scale = scale(histogram.unit);
    let bins: Vec<String> = snapshot
        .bins()
        .map(|bin| format!("{},{}:{}", six_digits(bin.lower / scale), six_digits(bin.width / scale), bin.count))
        .collect();
    bins.join(", ")
}
