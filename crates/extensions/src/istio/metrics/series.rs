//! The series of one set of labels, and how a worker finds them.

use super::labels::Labels;
use super::{Handle, Kinds, Reporting};
use hashbrown::HashMap;
use nuncio_stats::Unit;
use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

/// The standard metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    Requests,
    RequestDuration,
    RequestBytes,
    ResponseBytes,
    RequestMessages,
    ResponseMessages,
    TcpOpened,
    TcpClosed,
    TcpSent,
    TcpReceived,
}

impl Metric {
    pub(super) const ALL: [Metric; 10] = [
        Metric::Requests,
        Metric::RequestDuration,
        Metric::RequestBytes,
        Metric::ResponseBytes,
        Metric::RequestMessages,
        Metric::ResponseMessages,
        Metric::TcpOpened,
        Metric::TcpClosed,
        Metric::TcpSent,
        Metric::TcpReceived,
    ];

    /// As configurations call it with `istio_` before it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Metric::Requests => "istio_requests_total",
            Metric::RequestDuration => "istio_request_duration_milliseconds",
            Metric::RequestBytes => "istio_request_bytes",
            Metric::ResponseBytes => "istio_response_bytes",
            Metric::RequestMessages => "istio_request_messages_total",
            Metric::ResponseMessages => "istio_response_messages_total",
            Metric::TcpOpened => "istio_tcp_connections_opened_total",
            Metric::TcpClosed => "istio_tcp_connections_closed_total",
            Metric::TcpSent => "istio_tcp_sent_bytes_total",
            Metric::TcpReceived => "istio_tcp_received_bytes_total",
        }
    }

    fn kind(self) -> Kinds {
        match self {
            Metric::RequestDuration => Kinds::Histogram(Unit::Milliseconds),
            Metric::RequestBytes | Metric::ResponseBytes => Kinds::Histogram(Unit::Bytes),
            _ => Kinds::Counter,
        }
    }
}

/// The series of one set of labels. A metric's own is made when it is first counted.
pub(crate) struct Series {
    labels: Vec<(&'static str, Box<str>)>,
    /// The values of expressions.
    values: Vec<Box<str>>,
    standard: [OnceCell<Option<Handle>>; Metric::ALL.len()],
    custom: Vec<OnceCell<Option<Handle>>>,
}

impl Series {
    fn new(labels: &Labels<'_>, values: &[Vec<u8>], reporting: &Reporting) -> Series {
        let custom = reporting.overrides.as_ref().map_or(0, |overrides| overrides.custom.len());
        Series {
            labels: labels.iter().map(|&(name, value)| (name, value.into())).collect(),
            values: values.iter().map(|value| String::from_utf8_lossy(value).into()).collect(),
            standard: std::array::from_fn(|_| OnceCell::new()),
            custom: (0..custom).map(|_| OnceCell::new()).collect(),
        }
    }

    /// Adds to a counter, or records in a histogram.
    pub(crate) fn count(&self, metric: Metric, amount: u64, reporting: &Reporting) {
        let Some(place) = self.standard.get(metric as usize) else { return };
        let handle = place.get_or_init(|| {
            let name = metric.name();
            let labels = self.labels.iter().map(|(name, value)| (*name, &**value));
            let tags: Vec<(&str, &str)> = match &reporting.overrides {
                None => labels.collect(),
                Some(overrides) => overrides.of(metric).apply(labels, &self.values)?,
            };
            reporting.metrics.find(name, &tags, metric.kind())
        });
        put(handle.as_ref(), amount);
    }

    /// Counts the configuration's own metrics.
    pub(crate) fn count_custom(&self, values: &[Vec<u8>], reporting: &Reporting) {
        let Some(overrides) = &reporting.overrides else { return };
        for (metric, place) in overrides.custom.iter().zip(&self.custom) {
            let handle = place.get_or_init(|| {
                let tags = metric.tags.apply(std::iter::empty(), &self.values)?;
                reporting.metrics.find(&metric.name, &tags, metric.kind)
            });
            let text = values.get(metric.value).and_then(|value| std::str::from_utf8(value).ok());
            put(handle.as_ref(), text.and_then(|text| text.parse().ok()).unwrap_or(0));
        }
    }
}

fn put(handle: Option<&Handle>, amount: u64) {
    match handle {
        Some(Handle::Counter(counter)) => counter.add(amount),
        Some(Handle::Histogram(histogram)) => histogram.record(amount),
        Some(Handle::Gauge(gauge)) => gauge.set(amount),
        None => {}
    }
}

/// Most sets of labels that a worker remembers; what it forgets is found again in the process's.
const MOST: usize = 4096;

/// The series of a worker, by the bytes of their labels. A service of each worker.
#[derive(Default)]
pub(crate) struct SeriesCache {
    known: RefCell<HashMap<Box<[u8]>, Rc<Series>>>,
    key: RefCell<Vec<u8>>,
}

impl SeriesCache {
    /// The series of these labels and values.
    pub(crate) fn find(&self, reporting: &Reporting, labels: &Labels<'_>, values: &[Vec<u8>]) -> Rc<Series> {
        let mut key = self.key.borrow_mut();
        key.clear();
        key.extend(reporting.id.to_le_bytes());
        let mut put = |bytes: &[u8]| {
            key.extend((bytes.len() as u32).to_le_bytes());
            key.extend_from_slice(bytes);
        };
        labels.iter().for_each(|(_, value)| put(value.as_bytes()));
        for value in reporting.overrides.iter().flat_map(|overrides| overrides.labels(values)) {
            put(value);
        }
        let mut known = self.known.borrow_mut();
        if let Some(series) = known.get(key.as_slice()) {
            return Rc::clone(series);
        }
        if known.len() >= MOST {
            known.clear();
        }
        let series = Rc::new(Series::new(labels, values, reporting));
        known.insert(key.as_slice().into(), Rc::clone(&series));
        series
    }
}
