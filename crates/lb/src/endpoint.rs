//! What a balancer needs to know of a host.

use crate::ClientSideWeights;
use nuncio_stream_info::Struct;
use std::sync::Arc;
use std::time::Instant;

/// The health of a host as a balancer sees it (Envoy's coarse health, and exclusion beside it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// Takes load.
    Healthy,
    /// Takes what healthy hosts can't.
    Degraded,
    /// Takes load in panic only.
    Unhealthy,
    /// Unhealthy, and not counted when the health of its priority is worked out.
    Excluded,
}

/// A host that can be balanced over.
pub trait Endpoint {
    /// `load_balancing_weight`, at least 1. Default 1.
    fn weight(&self) -> u32 {
        1
    }

    /// Its health now. Read once, when a [`HostSet`](crate::HostSet) is made.
    fn health(&self) -> Health;

    /// Requests in flight, over all workers. Read at each choice.
    fn active_requests(&self) -> u32 {
        0
    }

    /// Since when it may take load: when it was added, or last passed a health check after failing. `None`: always.
    fn ready_since(&self) -> Option<Instant> {
        None
    }

    /// What ring hash and Maglev place it by: its `hash_key` metadata, host name or address.
    fn hash_key(&self) -> &str {
        ""
    }

    /// Its address, which requests may name it by.
    fn address_text(&self) -> String {
        String::new()
    }

    /// The weight that follows from its load reports; none if they are too new, too old, or absent.
    fn reported_weight(&self, _now: Instant, _options: &ClientSideWeights) -> Option<u32> {
        None
    }

    /// What subsets group it by: its metadata `envoy.lb`.
    fn labels(&self) -> Option<&Struct> {
        None
    }

    /// Whether both are in the same region, zone and sub-zone.
    fn shares_locality(&self, _other: &Self) -> bool {
        true
    }
}

impl<T: Endpoint + ?Sized> Endpoint for Arc<T> {
    fn weight(&self) -> u32 {
        (**self).weight()
    }

    fn health(&self) -> Health {
        (**self).health()
    }

    fn active_requests(&self) -> u32 {
        (**self).active_requests()
    }

    fn ready_since(&self) -> Option<Instant> {
        (**self).ready_since()
    }

    fn hash_key(&self) -> &str {
        (**self).hash_key()
    }

    fn address_text(&self) -> String {
        (**self).address_text()
    }

    fn reported_weight(&self, now: Instant, options: &ClientSideWeights) -> Option<u32> {
        (**self).reported_weight(now, options)
    }

    fn labels(&self) -> Option<&Struct> {
        (**self).labels()
    }

    fn shares_locality(&self, other: &Self) -> bool {
        (**self).shares_locality(other)
    }
}
