//! `CircuitBreakers`.

use crate::compile::{Compile, Invalid};
use crate::lower::number::{Wrapped, percent};
use nuncio_api::pb::envoy::config::cluster::v3 as pb;
use nuncio_api::pb::envoy::config::core::v3::RoutingPriority;
use nuncio_cluster::config::{CircuitBreakers, RetryBudget, Thresholds};

/// `circuit_breakers`. Of several thresholds for one priority the first counts, as in Envoy.
pub(super) fn circuit_breakers(
    breakers: Option<&pb::CircuitBreakers>,
    cx: &mut Compile<'_>,
) -> Result<CircuitBreakers, Invalid> {
    let mut lowered = CircuitBreakers::default();
    let Some(pb::CircuitBreakers { thresholds, per_host_thresholds }) = breakers else { return Ok(lowered) };
    let mut cx = cx.field("circuit_breakers");
    let before = cx.errors();
    let mut seen = [false; 2];
    for (index, configured) in thresholds.iter().enumerate() {
        let mut cx = cx.element("thresholds", index);
        let (slot, seen) = match configured.priority() {
            RoutingPriority::Default => (&mut lowered.default, &mut seen[0]),
            RoutingPriority::High => (&mut lowered.high, &mut seen[1]),
        };
        if std::mem::replace(seen, true) {
            cx.warn("has no effect: there are thresholds for this priority before it");
            continue;
        }
        *slot = self::thresholds(configured, &mut cx);
    }
    for (index, configured) in per_host_thresholds.iter().enumerate() {
        let max = per_host(configured, &mut cx.element("per_host_thresholds", index));
        if configured.priority() == RoutingPriority::Default {
            lowered.per_host_max_connections = lowered.per_host_max_connections.or(max);
        }
    }
    cx.unless_errors_since(before)?;
    Ok(lowered)
}

fn thresholds(configured: &pb::circuit_breakers::Thresholds, cx: &mut Compile<'_>) -> Thresholds {
    let pb::circuit_breakers::Thresholds {
        priority: _,
        max_connections,
        max_pending_requests,
        max_requests,
        max_retries,
        retry_budget,
        track_remaining,
        max_connection_pools,
    } = configured;
    let defaults = Thresholds::default();
    Thresholds {
        max_connections: max_connections.value_or(defaults.max_connections),
        max_pending_requests: max_pending_requests.value_or(defaults.max_pending_requests),
        max_requests: max_requests.value_or(defaults.max_requests),
        max_retries: max_retries.value_or(defaults.max_retries),
        max_connection_pools: max_connection_pools.value_or(defaults.max_connection_pools),
        retry_budget: retry_budget.as_ref().map(|budget| retry_budget_of(budget, &mut cx.field("retry_budget"))),
        track_remaining: *track_remaining,
    }
}

fn retry_budget_of(budget: &pb::circuit_breakers::thresholds::RetryBudget, cx: &mut Compile<'_>) -> RetryBudget {
    let pb::circuit_breakers::thresholds::RetryBudget { budget_percent, budget_interval, min_retry_concurrency } =
        budget;
    cx.unsupported_if(budget_interval.is_some(), "budget_interval");
    let defaults = RetryBudget::default();
    RetryBudget {
        budget_percent: percent(budget_percent, defaults.budget_percent),
        min_retry_concurrency: min_retry_concurrency.value_or(defaults.min_retry_concurrency),
    }
}

/// `max_connections`, the only limit that there is for each host.
fn per_host(configured: &pb::circuit_breakers::Thresholds, cx: &mut Compile<'_>) -> Option<u32> {
    let pb::circuit_breakers::Thresholds {
        priority: _,
        max_connections,
        max_pending_requests,
        max_requests,
        max_retries,
        retry_budget,
        track_remaining,
        max_connection_pools,
    } = configured;
    for (set, field) in [
        (max_pending_requests.is_some(), "max_pending_requests"),
        (max_requests.is_some(), "max_requests"),
        (max_retries.is_some(), "max_retries"),
        (retry_budget.is_some(), "retry_budget"),
        (*track_remaining, "track_remaining"),
        (max_connection_pools.is_some(), "max_connection_pools"),
    ] {
        if set {
            cx.field(field).error("can't be set in per_host_thresholds: only max_connections can");
        }
    }
    max_connections.get()
}
