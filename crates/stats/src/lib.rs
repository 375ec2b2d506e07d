//! Counters, gauges, histograms and text readouts in per-worker cells, under Envoy's names.
//!
//! A stat belongs to a *group* (see [`stat_group!`]): a struct declared once, registered in a [`Scope`] as
//! often as there are clusters, listeners or filters. A group costs its scope and a few pointers until a
//! worker first touches one of its stats; then that worker gets its own block of cells, and every later
//! update is one plain load and one plain store. Reading sums the blocks of all workers.
//!
//! What this crate does not own: the admin endpoint (it hands over a filter and takes bytes from
//! [`render`]), sinks, and the wording of configuration errors.
//!
//! *Invariant*: no lock, no hashing and no allocation on the path of an update, except the first one of a
//! group on a worker.

mod block;
mod codes;
mod group;
mod handle;
mod macros;
mod options;
mod scope;
mod store;
mod worker;

pub mod histogram;
pub mod names;
pub mod render;
pub mod tags;
pub mod transfer;

pub use codes::CodeCounters;
pub use group::{Descriptor, Group, Kind, StatName, Unit};
pub use handle::{
    Counter, CounterRef, Gauge, GaugeRef, GroupHandle, Histogram, HistogramRef, Local, TextReadout, TextRef,
};
pub use options::{HistogramBuckets, Predicate, StatsOptions, TagRule, TagSpecifier};
pub use scope::{Scope, TagSet, sanitize};
pub use store::Store;
pub use worker::{set_worker, worker};
