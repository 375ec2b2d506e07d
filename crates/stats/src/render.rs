//! Turns stats into what the admin endpoint serves: text, JSON, HTML and the Prometheus exposition. Owns filters and the
//! order of output, not headers or status codes.
//!
//! A scrape is pulled piece by piece ([`Scrape::fill`]), so that 10,000 clusters are never one string and the caller can
//! yield between pieces. It holds the groups that were alive when it began; values are read as they are
//! written.

mod html;
mod json;
mod number;
mod prometheus;
mod query;
mod text;
mod walk;

#[cfg(test)]
mod tests;

use std::io;

use crate::group::Unit;
use crate::histogram::{DEFAULT_BUCKETS, Snapshot};
use crate::store::Store;

pub use query::{BadQuery, BucketMode, Endpoint, Format, Kinds, Query};

use prometheus::PrometheusScrape;
use walk::{Step, Walk};

/// How much [`Scrape::write_to`] hands over at a time, in bytes.
const CHUNK: usize = 64 * 1024;

/// How many stats one call of [`Scrape::fill`] looks at, so that a filter that finds nothing does not hold up the caller.
const STEPS: usize = 4096;

/// A stat on its way out.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) value: ItemValue,
}

#[derive(Debug)]
pub(crate) enum ItemValue {
    Number(u64),
    Text(String),
    Histogram(HistogramValue),
}

#[derive(Debug)]
pub(crate) struct HistogramValue {
    pub(crate) cumulative: Snapshot,
    pub(crate) interval: Snapshot,
    pub(crate) unit: Unit,
}

/// One pass over all stats of a store.
pub struct Scrape {
    store: Store,
    state: State,
}

enum State {
    Listing { walk: Walk, format: Listing, query: Query, begun: bool },
    Prometheus(PrometheusScrape),
    Done,
}

/// The formats that list stats by name.
enum Listing {
    Text,
    Json(json::JsonList),
    Html,
}

impl Scrape {
    /// Starts a pass over the stats that are alive now.
    pub fn new(store: &Store, query: Query) -> Self {
        let listing =
            |format| State::Listing { walk: Walk::new(store, &query), format, query: query.clone(), begun: false };
        let state = match query.format {
            Format::Text => listing(Listing::Text),
            Format::Json => listing(Listing::Json(json::JsonList::default())),
            Format::Html => listing(Listing::Html),
            Format::Prometheus => State::Prometheus(PrometheusScrape::new(store, query)),
        };
        Self { store: store.clone(), state }
    }

    /// Appends output until `out` holds at least `limit` bytes, or for a few thousand stats, whichever comes first; false
    /// when there is no more. It may append nothing although there is more. One stat, at most a few KiB, may go
    /// over the limit.
    pub fn fill(&mut self, out: &mut Vec<u8>, limit: usize) -> bool {
        let more = match &mut self.state {
            State::Listing { walk, format, query, begun } => {
                if !*begun {
                    format.begin(out, query);
                    *begun = true;
                }
                let mut steps = 0..STEPS;
                loop {
                    if out.len() >= limit || steps.next().is_none() {
                        break true;
                    }
                    match walk.step(&self.store, query) {
                        Step::Item(item) => format.item(out, &item, &self.store, query),
                        Step::Skipped => {}
                        Step::End => {
                            format.end(out, query);
                            break false;
                        }
                    }
                }
            }
            State::Prometheus(scrape) => scrape.fill(&self.store, out, limit),
            State::Done => false,
        };
        if !more {
            self.state = State::Done;
        }
        more
    }

    /// Writes everything, in pieces of about 64 KiB.
    pub fn write_to(mut self, writer: &mut impl io::Write) -> io::Result<()> {
        let mut chunk = Vec::with_capacity(CHUNK);
        loop {
            let more = self.fill(&mut chunk, CHUNK);
            writer.write_all(&chunk)?;
            chunk.clear();
            if !more {
                return Ok(());
            }
        }
    }
}

impl Listing {
    fn begin(&mut self, out: &mut Vec<u8>, query: &Query) {
        match self {
            Listing::Text => {}
            Listing::Json(list) => list.begin(out),
            Listing::Html => html::begin(out, query),
        }
    }

    fn item(&mut self, out: &mut Vec<u8>, item: &Item, store: &Store, query: &Query) {
        match self {
            Listing::Text => text::item(out, item, store, query),
            Listing::Json(list) => list.item(out, item, store, query),
            Listing::Html => html::item(out, item, store, query),
        }
    }

    fn end(&mut self, out: &mut Vec<u8>, query: &Query) {
        match self {
            Listing::Text => {}
            Listing::Json(list) => list.end(out, query),
            Listing::Html => html::end(out),
        }
    }
}

impl Store {
    /// Everything at once. For tests and small stores; [`Scrape`] is for the admin endpoint.
    pub fn render(&self, query: Query) -> String {
        let mut out = Vec::new();
        let mut scrape = Scrape::new(self, query);
        while scrape.fill(&mut out, usize::MAX) {}
        String::from_utf8(out).unwrap_or_default()
    }

    /// The upper bounds of the buckets of a histogram: those of the first setting that matches its name, or the default.
    pub(crate) fn buckets(&self, name: &str) -> &[f64] {
        let mut settings = self.options().histogram_bucket_settings.iter();
        let configured = settings.find(|setting| (setting.matches)(name));
        configured.map_or(&DEFAULT_BUCKETS, |setting| &setting.buckets)
    }
}

/// Counts between each bound and the one before.
fn disjoint(cumulative: &[u64]) -> Vec<u64> {
    let before = std::iter::once(0).chain(cumulative.iter().copied());
    cumulative.iter().zip(before).map(|(&count, before)| count.saturating_sub(before)).collect()
}

/// Counts per bucket, cumulative or disjoint.
fn bucket_counts(snapshot: &Snapshot, bounds: &[f64], mode: BucketMode) -> Vec<u64> {
    let counts: Vec<u64> = bounds.iter().map(|&bound| snapshot.count_up_to(bound)).collect();
    match mode {
        BucketMode::Disjoint => disjoint(&counts),
        _ => counts,
    }
}

/// The quantiles in the unit of display: fractions for percentages. Not a number where nothing was recorded.
fn quantiles(snapshot: &Snapshot, unit: Unit) -> [f64; crate::histogram::QUANTILES.len()] {
    let values = snapshot.quantiles().unwrap_or([f64::NAN; _]);
    values.map(|value| value / scale(unit))
}

/// What recorded values are divided by for display.
fn scale(unit: Unit) -> f64 {
    match unit {
        Unit::Percent => Unit::PERCENT_SCALE as f64,
        _ => 1.0,
    }
}
