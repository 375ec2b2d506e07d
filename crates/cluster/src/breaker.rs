//! Circuit breakers: how much of a cluster may be in use at once, over all workers.

use crate::config::{RetryBudget, Thresholds};
use nuncio_stats::{GaugeRef, Scope, stat_group};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// `max_connections`.
    Connections,
    /// `max_pending_requests`: waiting for a connection.
    PendingRequests,
    /// `max_requests`: in flight.
    Requests,
    /// `max_retries`, or `retry_budget`: retries in flight.
    Retries,
    /// `max_connection_pools`.
    ConnectionPools,
}

/// Priority of a route (`core.v3.RoutingPriority`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum RoutingPriority {
    /// `DEFAULT`.
    #[default]
    Default,
    /// `HIGH`.
    High,
}

stat_group! {
    /// `cluster.<name>.circuit_breakers.*` of both priorities: one group, as every cluster has it.
    pub group BreakerStats {
        gauges {
            default_cx_open = "circuit_breakers.default.cx_open",
            default_cx_pool_open = "circuit_breakers.default.cx_pool_open",
            default_rq_open = "circuit_breakers.default.rq_open",
            default_rq_pending_open = "circuit_breakers.default.rq_pending_open",
            default_rq_retry_open = "circuit_breakers.default.rq_retry_open",
            high_cx_open = "circuit_breakers.high.cx_open",
            high_cx_pool_open = "circuit_breakers.high.cx_pool_open",
            high_rq_open = "circuit_breakers.high.rq_open",
            high_rq_pending_open = "circuit_breakers.high.rq_pending_open",
            high_rq_retry_open = "circuit_breakers.high.rq_retry_open",
        }
    }
}

stat_group! {
    /// `cluster.<name>.circuit_breakers.<default|high>.remaining_*`, with `track_remaining`.
    pub group RemainingStats {
        gauges {
            remaining_cx,
            remaining_cx_pools,
            remaining_pending,
            remaining_retries,
            remaining_rq,
        }
    }
}

/// The limits of one priority, and what is in use.
#[derive(Debug)]
pub struct Breaker {
    counts: [AtomicU32; 5],
    max: [u32; 5],
    retry_budget: Option<RetryBudget>,
    priority: RoutingPriority,
    stats: BreakerStats,
    remaining: Option<RemainingStats>,
}

impl Breaker {
    pub(crate) fn new(thresholds: &Thresholds, priority: RoutingPriority, stats: BreakerStats, scope: &Scope) -> Self {
        let scope = || match priority {
            RoutingPriority::Default => scope.child("circuit_breakers.default"),
            RoutingPriority::High => scope.child("circuit_breakers.high"),
        };
        let this = Breaker {
            counts: Default::default(),
            max: [
                thresholds.max_connections,
                thresholds.max_pending_requests,
                thresholds.max_requests,
                thresholds.max_retries,
                thresholds.max_connection_pools,
            ],
            retry_budget: thresholds.retry_budget.clone(),
            priority,
            stats,
            remaining: thresholds.track_remaining.then(|| RemainingStats::register(&scope())),
        };
        for resource in [
            Resource::Connections,
            Resource::PendingRequests,
            Resource::Requests,
            Resource::Retries,
            Resource::ConnectionPools,
        ] {
            this.show_remaining(resource);
        }
        this
    }

    fn count(&self, resource: Resource) -> &AtomicU32 {
        let [connections, pending, requests, retries, pools] = &self.counts;
        match resource {
            Resource::Connections => connections,
            Resource::PendingRequests => pending,
            Resource::Requests => requests,
            Resource::Retries => retries,
            Resource::ConnectionPools => pools,
        }
    }

    /// How many are in use.
    #[inline]
    pub fn current(&self, resource: Resource) -> u32 {
        self.count(resource).load(Relaxed)
    }

    /// How many may be in use now. A retry budget grows with the requests in flight.
    #[inline]
    pub fn max(&self, resource: Resource) -> u32 {
        match (&self.retry_budget, resource) {
            (Some(budget), Resource::Retries) => {
                let busy =
                    f64::from(self.current(Resource::Requests)) + f64::from(self.current(Resource::PendingRequests));
                ((busy * budget.budget_percent / 100.0) as u32).max(budget.min_retry_concurrency)
            }
            _ => self.max.get(resource as usize).copied().unwrap_or(u32::MAX),
        }
    }

    /// Whether one more may be used.
    #[inline]
    pub fn can_create(&self, resource: Resource) -> bool {
        self.current(resource) < self.max(resource)
    }

    /// Takes one if one more may be used. Every success needs one [`Breaker::release`].
    #[inline]
    #[must_use]
    pub fn try_acquire(&self, resource: Resource) -> bool {
        if !self.can_create(resource) {
            return false;
        }
        self.acquire(resource);
        true
    }

    /// Takes one whatever the limit, as for the first connection to a host. Needs one [`Breaker::release`].
    #[inline]
    pub fn acquire(&self, resource: Resource) {
        let before = self.count(resource).fetch_add(1, Relaxed);
        if before.saturating_add(1) >= self.max(resource) {
            self.show_open(resource);
        }
        if self.remaining.is_some() {
            self.show_remaining(resource);
        }
    }

    /// Gives one back.
    #[inline]
    pub fn release(&self, resource: Resource) {
        let before = self.count(resource).fetch_sub(1, Relaxed);
        if before >= self.max(resource) {
            self.show_open(resource);
        }
        if self.remaining.is_some() {
            self.show_remaining(resource);
        }
    }

    #[cold]
    fn show_open(&self, resource: Resource) {
        use RoutingPriority::{Default, High};
        let stats = &self.stats;
        let gauge: GaugeRef<'_> = match (resource, self.priority) {
            (Resource::Connections, Default) => stats.default_cx_open(),
            (Resource::Connections, High) => stats.high_cx_open(),
            (Resource::PendingRequests, Default) => stats.default_rq_pending_open(),
            (Resource::PendingRequests, High) => stats.high_rq_pending_open(),
            (Resource::Requests, Default) => stats.default_rq_open(),
            (Resource::Requests, High) => stats.high_rq_open(),
            (Resource::Retries, Default) => stats.default_rq_retry_open(),
            (Resource::Retries, High) => stats.high_rq_retry_open(),
            (Resource::ConnectionPools, Default) => stats.default_cx_pool_open(),
            (Resource::ConnectionPools, High) => stats.high_cx_pool_open(),
        };
        gauge.set(u64::from(!self.can_create(resource)));
    }

    #[cold]
    fn show_remaining(&self, resource: Resource) {
        let Some(stats) = &self.remaining else { return };
        let gauge = match resource {
            Resource::Connections => stats.remaining_cx(),
            Resource::PendingRequests => stats.remaining_pending(),
            Resource::Requests => stats.remaining_rq(),
            Resource::Retries => stats.remaining_retries(),
            Resource::ConnectionPools => stats.remaining_cx_pools(),
        };
        gauge.set(u64::from(self.max(resource).saturating_sub(self.current(resource))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_stats::Store;

    fn breaker(store: &Store, thresholds: &Thresholds, priority: RoutingPriority) -> Breaker {
        let scope = store.scope("cluster.c", &[]);
        Breaker::new(thresholds, priority, BreakerStats::register(&scope), &scope)
    }

    #[test]
    fn limits_open_and_close() {
        let store = Store::new(1);
        let thresholds = Thresholds { max_connections: 2, track_remaining: true, ..Thresholds::default() };
        let breaker = breaker(&store, &thresholds, RoutingPriority::High);
        let open = || store.value("cluster.c.circuit_breakers.high.cx_open");
        let left = || store.value("cluster.c.circuit_breakers.high.remaining_cx");
        assert_eq!((open(), left()), (Some(0), Some(2)));
        assert!(breaker.try_acquire(Resource::Connections));
        assert_eq!((open(), left()), (Some(0), Some(1)));
        assert!(breaker.try_acquire(Resource::Connections));
        assert!(!breaker.try_acquire(Resource::Connections));
        assert_eq!((open(), left()), (Some(1), Some(0)));
        // The first connection to a host is always allowed.
        breaker.acquire(Resource::Connections);
        breaker.release(Resource::Connections);
        assert_eq!((open(), left()), (Some(1), Some(0)));
        breaker.release(Resource::Connections);
        assert_eq!((open(), left()), (Some(0), Some(1)));
        assert!(breaker.can_create(Resource::Requests), "other resources have their own limits");
    }

    #[test]
    fn a_retry_budget_grows_with_the_requests() {
        let store = Store::new(1);
        let budget = RetryBudget { budget_percent: 20.0, min_retry_concurrency: 3 };
        let thresholds = Thresholds { retry_budget: Some(budget), max_retries: 0, ..Thresholds::default() };
        let breaker = breaker(&store, &thresholds, RoutingPriority::Default);
        assert_eq!(breaker.max(Resource::Retries), 3);
        (0..90).for_each(|_| breaker.acquire(Resource::Requests));
        (0..10).for_each(|_| breaker.acquire(Resource::PendingRequests));
        assert_eq!(breaker.max(Resource::Retries), 20);
    }

    #[test]
    fn nothing_is_allowed_by_zero() {
        let store = Store::new(1);
        let thresholds = Thresholds { max_requests: 0, ..Thresholds::default() };
        let breaker = breaker(&store, &thresholds, RoutingPriority::Default);
        assert!(!breaker.try_acquire(Resource::Requests));
    }
}
