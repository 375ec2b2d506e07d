//! `envoy.config.cluster.v3.CircuitBreakers`.

/// Limits for each routing priority.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CircuitBreakers {
    /// `thresholds` of priority `DEFAULT`.
    pub default: Thresholds,
    /// `thresholds` of priority `HIGH`.
    pub high: Thresholds,
    /// `per_host_thresholds.max_connections` of priority `DEFAULT`. Default no limit.
    pub per_host_max_connections: Option<u32>,
}

/// `CircuitBreakers.Thresholds`.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds {
    /// `max_connections`. Default 1024.
    pub max_connections: u32,
    /// `max_pending_requests`: waiting for a connection. Default 1024.
    pub max_pending_requests: u32,
    /// `max_requests`: in flight. Default 1024.
    pub max_requests: u32,
    /// `max_retries`: in flight. Default 3; not used with a retry budget.
    pub max_retries: u32,
    /// `max_connection_pools`. Default no limit.
    pub max_connection_pools: u32,
    /// `retry_budget`.
    pub retry_budget: Option<RetryBudget>,
    /// `track_remaining`: the `remaining_*` gauges. Default false.
    pub track_remaining: bool,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
            max_connection_pools: u32::MAX,
            retry_budget: None,
            track_remaining: false,
        }
    }
}

/// `CircuitBreakers.Thresholds.RetryBudget`: retries in proportion to the requests in flight.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryBudget {
    /// `budget_percent` of the active and pending requests. Default 20.
    pub budget_percent: f64,
    /// `min_retry_concurrency`: always allowed. Default 3.
    pub min_retry_concurrency: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget { budget_percent: 20.0, min_retry_concurrency: 3 }
    }
}
