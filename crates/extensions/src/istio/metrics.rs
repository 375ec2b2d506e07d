//! Istio's metrics: `istio_requests_total` and its siblings, each with the labels of who talked to whom.
//!
//! See envoyproxy/envoy, `contrib/istio/filters/http/istio_stats/source/istio_stats.cc`. A worker finds the counters of a set of
//! labels by the labels' bytes, without a lock and without making a name; names are made when a set is seen for the first time.
//!
//! Peers and clients choose some of the labels, so there is a bound to their length, and to how many series there are
//! ([`MOST`]): what would be one more is not counted, and said once in the log.

mod config;
mod labels;
mod overrides;
mod series;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use config::reporting;
pub(crate) use labels::{Kind, Reporter, Seen, is_peer_known};
pub(crate) use overrides::Overrides;
pub(crate) use series::{Metric, Series, SeriesCache};

use labels::Own;
use nuncio_stats::{Counter, Gauge, Histogram, Scope, Store, TagSet, Unit};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// Most series of a process.
const MOST: usize = 16 * 1024;

/// Most bytes of a label that a client chooses: the host that it asks for, what an expression makes of its request.
const LONGEST_LABEL: usize = 256;

/// The namespace of the metrics: their names have no `envoy_` in Prometheus.
const NAMESPACE: &str = "istiocustom";

/// What a filter reports, and how.
pub(crate) struct Reporting {
    pub reporter: Reporter,
    pub own: Own,
    pub disable_host_header_fallback: bool,
    /// `tcp_reporting_duration`; none: at the end only.
    pub interval: Option<Duration>,
    pub overrides: Option<Overrides>,
    /// Tells what was made by one configuration from that of others; 0 without overrides, where all make the same.
    pub id: u64,
    pub metrics: Arc<Metrics>,
}

/// A series.
#[derive(Clone)]
pub(crate) enum Handle {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

/// The series of a process, as long as any filter reports.
pub(crate) struct Metrics {
    scope: Scope,
    series: Mutex<HashMap<(Box<str>, TagKey), Handle>>,
    is_full: AtomicBool,
}

/// The labels of a series, as its key.
type TagKey = Box<[(Box<str>, Box<str>)]>;

/// By the store that they are in: a process has one, tests have many.
static OF_STORES: Mutex<Vec<(usize, Weak<Metrics>)>> = Mutex::new(Vec::new());

impl Metrics {
    /// Those of a store.
    pub(crate) fn of(store: &Store) -> Arc<Metrics> {
        let scope = store.scope(NAMESPACE, &[]);
        let id = scope.store_id();
        let mut known = OF_STORES.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(_, metrics)| metrics.strong_count() > 0);
        if let Some(metrics) = known.iter().find(|(of, _)| *of == id).and_then(|(_, metrics)| metrics.upgrade()) {
            return metrics;
        }
        let metrics = Arc::new(Metrics { scope, series: Mutex::default(), is_full: AtomicBool::new(false) });
        known.push((id, Arc::downgrade(&metrics)));
        metrics
    }

    /// `istio_build`.
    pub(crate) fn note_version(&self, version: &str) {
        let version = if version.is_empty() { "unknown" } else { version };
        if let Some(Handle::Gauge(gauge)) =
            self.find("istio_build", &[("component", "proxy"), ("tag", version)], Kinds::Gauge)
        {
            gauge.set(1);
        }
    }

    /// The series of a metric with these labels; none if there are too many.
    pub(crate) fn find(&self, name: &str, tags: &[(&str, &str)], kind: Kinds) -> Option<Handle> {
        let key: TagKey = tags.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let count = series.len();
        match series.entry((name.into(), key)) {
            Entry::Occupied(found) => Some(found.get().clone()),
            Entry::Vacant(_) if count >= MOST => {
                if !self.is_full.swap(true, Relaxed) {
                    let why = "see what makes labels differ, or remove some (tags_to_remove)";
                    tracing::warn!(target: "filter", "there are {MOST} series of Istio's metrics: no more are made; {why}");
                }
                None
            }
            Entry::Vacant(place) => {
                let scope = self.scope.tagged_with(name, &TagSet::new(tags));
                let handle = match kind {
                    Kinds::Counter => Handle::Counter(scope.dynamic_counter("")),
                    Kinds::Gauge => Handle::Gauge(scope.dynamic_gauge("")),
                    Kinds::Histogram(unit) => Handle::Histogram(scope.dynamic_histogram("", unit)),
                };
                Some(place.insert(handle).clone())
            }
        }
    }
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kinds {
    Counter,
    Gauge,
    Histogram(Unit),
}
