//! `policy.<name>.*`, with `track_per_rule_stats`.

use nuncio_stats::{Counter, Scope};
use std::sync::{Arc, OnceLock};

/// The name of a policy, with what counts how often it decided.
#[derive(Debug)]
pub(crate) struct PolicyName {
    pub name: Arc<str>,
    /// Requests that it denied, and allowed; each made when it first does.
    counters: [OnceLock<Counter>; 2],
}

impl PolicyName {
    pub(super) fn new(name: &str) -> PolicyName {
        PolicyName { name: name.into(), counters: Default::default() }
    }

    /// Counts a decision.
    pub(crate) fn count(&self, allowed: bool, stats: &PolicyStats) {
        let make = || {
            let result = if allowed { stats.allowed } else { stats.denied };
            stats.scope.dynamic_counter(&format!("{}.{result}", self.name))
        };
        self.counters[usize::from(allowed)].get_or_init(make).inc();
    }
}

/// Where the counters of policies stand.
#[derive(Debug)]
pub(crate) struct PolicyStats {
    scope: Scope,
    allowed: &'static str,
    denied: &'static str,
}

impl PolicyStats {
    /// Below `scope`, which is that of the filter's own counters.
    pub(crate) fn new(scope: &Scope, shadow: bool) -> PolicyStats {
        let (allowed, denied) = if shadow { ("shadow_allowed", "shadow_denied") } else { ("allowed", "denied") };
        PolicyStats { scope: scope.child("policy"), allowed, denied }
    }
}
