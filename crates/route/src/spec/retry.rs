//! `envoy.config.route.v3.RetryPolicy`.

use super::Plugin;
use nuncio_matcher::HeaderMatcherSpec;
use nuncio_stream_info::Struct;
use std::sync::Arc;
use std::time::Duration;

/// `envoy.config.route.v3.RetryPolicy`.
#[derive(Debug, Clone, Default)]
pub struct RetryPolicySpec {
    /// `retry_on`: conditions joined by commas, HTTP and gRPC ones.
    pub retry_on: String,
    /// `num_retries`. Default 1.
    pub num_retries: Option<u32>,
    /// `per_try_timeout`. Default, and 0: none; then the route's timeout bounds all tries together.
    pub per_try_timeout: Option<Duration>,
    /// `per_try_idle_timeout`. Default, and 0: none.
    pub per_try_idle_timeout: Option<Duration>,
    /// `retry_priority`.
    pub retry_priority: Option<RetryPriority>,
    /// `retry_host_predicate`.
    pub retry_host_predicate: Vec<HostPredicate>,
    /// `retry_options_predicates`.
    pub retry_options_predicates: Vec<Plugin>,
    /// `host_selection_retry_max_attempts`: how often another host is picked when a predicate rejects one. Default, and 0: 1.
    pub host_selection_retry_max_attempts: i64,
    /// `retriable_status_codes`, for `retriable-status-codes`.
    pub retriable_status_codes: Vec<u32>,
    /// `retry_back_off`. Default 25 ms, at most 10 × base.
    pub retry_back_off: Option<RetryBackOffSpec>,
    /// `rate_limited_retry_back_off`.
    pub rate_limited_retry_back_off: Option<RateLimitedBackOffSpec>,
    /// `retriable_headers`: response headers, for `retriable-headers`; any matches.
    pub retriable_headers: Vec<HeaderMatcherSpec>,
    /// `retriable_request_headers`: requests that may be retried at all; any matches. Default all.
    pub retriable_request_headers: Vec<HeaderMatcherSpec>,
    /// `refresh_cluster_on_retry`: choose the cluster again for each retry.
    pub refresh_cluster_on_retry: bool,
}

/// `RetryPolicy.RetryPriority`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryPriority {
    /// `envoy.retry_priorities.previous_priorities`: after every `update_frequency` tries the priorities tried so far take
    /// no more load, until no other is left.
    PreviousPriorities {
        /// At least 1.
        update_frequency: u32,
    },
}

/// `RetryPolicy.RetryHostPredicate`: hosts that a retry avoids.
#[derive(Debug, Clone)]
pub enum HostPredicate {
    /// `envoy.retry_host_predicates.previous_hosts`: those tried before.
    PreviousHosts,
    /// `envoy.retry_host_predicates.omit_canary_hosts`: canaries.
    OmitCanaryHosts,
    /// `envoy.retry_host_predicates.omit_host_metadata`: those that have all of these fields in the namespace `envoy.lb`.
    OmitHostMetadata(Arc<Struct>),
}

/// `RetryPolicy.RetryBackOff`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBackOffSpec {
    /// `base_interval`: more than 0; below 1 ms counts as 1 ms.
    pub base_interval: Duration,
    /// `max_interval`: at least the base. Default 10 × base.
    pub max_interval: Option<Duration>,
}

/// `RetryPolicy.RateLimitedRetryBackOff`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimitedBackOffSpec {
    /// `reset_headers`: response headers that tell when to come back, tried in order; at least one.
    pub reset_headers: Vec<ResetHeaderSpec>,
    /// `max_interval`: a longer wait is not waited for, the usual back-off is used. Default 300 s.
    pub max_interval: Option<Duration>,
}

/// `RetryPolicy.ResetHeader`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetHeaderSpec {
    /// `name`.
    pub name: String,
    /// `format`.
    pub format: ResetHeaderFormat,
}

/// `RetryPolicy.ResetHeaderFormat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResetHeaderFormat {
    /// Seconds from now.
    #[default]
    Seconds,
    /// Seconds since 1970.
    UnixTimestamp,
}
