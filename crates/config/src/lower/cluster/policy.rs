//! `lb_policy`, `load_balancing_policy` and `common_lb_config`.

mod subset;
mod typed;

use crate::compile::{Compile, Invalid};
use crate::lower::number::{Wrapped, duration_field, percent};
use nuncio_api::pb::envoy::config::cluster::v3 as pb;
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_cluster::config::{CommonLb, Discovery};
use nuncio_lb::{HashFunction, LeastRequest, Maglev, Policy, RingHash, RoundRobin, SelectionMethod, SlowStart};
use pb::cluster::{LbConfig, LbPolicy};
use std::sync::Arc;

/// The largest ring, in entries.
const MAX_RING: u64 = 8 * 1024 * 1024;

/// The balancing policy with its options, and those that all policies have.
pub(super) fn policy(
    cluster: &pb::Cluster,
    discovery: Option<&Discovery>,
    cx: &mut Compile<'_>,
) -> Result<(Policy, CommonLb), Invalid> {
    let before = cx.errors();
    let mut common = CommonLb::default();
    if let Some(config) = &cluster.common_lb_config {
        common_fields(config, &mut common, &mut cx.field("common_lb_config"));
    }
    let is_typed =
        cluster.load_balancing_policy.is_some() || cluster.lb_policy() == LbPolicy::LoadBalancingPolicyConfig;
    let policy = if is_typed {
        check_exclusive(cluster, cx);
        typed::policy(cluster.load_balancing_policy.as_ref(), &mut common, &mut cx.field("load_balancing_policy"))
    } else {
        legacy_subset(cluster, &mut common, cx);
        named_policy(cluster, cx)
    };
    if let (Ok(policy), Some(discovery)) = (&policy, discovery) {
        check_provided(policy, discovery, is_typed, cx);
    }
    cx.unless_errors_since(before)?;
    Ok((policy?, common))
}

/// `lb_subset_config`, beside `lb_policy`. Without selectors it is off.
fn legacy_subset(cluster: &pb::Cluster, common: &mut CommonLb, cx: &mut Compile<'_>) {
    let Some(config) = cluster.lb_subset_config.as_ref().filter(|config| !config.subset_selectors.is_empty()) else {
        return;
    };
    let mut cx = cx.field("lb_subset_config");
    if cluster.lb_policy() == LbPolicy::ClusterProvided {
        cx.error("cluster: LB policy CLUSTER_PROVIDED cannot be combined with lb_subset_config");
    }
    if config.locality_weight_aware && !common.options.locality_weighted {
        let text = "Locality weight aware subset LB requires that a locality_weighted_lb_config be set";
        cx.field("locality_weight_aware").error(text);
    }
    common.subset = subset::options(&subset::legacy(config), &mut cx).ok().map(Arc::new);
}

/// `ORIGINAL_DST` balances itself, and nothing else does.
fn check_provided(policy: &Policy, discovery: &Discovery, is_typed: bool, cx: &mut Compile<'_>) {
    let mut at = cx.field(if is_typed { "load_balancing_policy" } else { "lb_policy" });
    match (policy, discovery) {
        (Policy::ClusterProvided, Discovery::OriginalDst(_)) => {}
        (Policy::ClusterProvided, other) => {
            let text = format!("CLUSTER_PROVIDED is for clusters of type ORIGINAL_DST, and this is {}", other.as_str());
            at.error_hint(text, "use ROUND_ROBIN or LEAST_REQUEST");
        }
        (_, Discovery::OriginalDst(_)) => {
            let text = "a cluster of type ORIGINAL_DST needs the policy CLUSTER_PROVIDED";
            at.error_hint(text, "set lb_policy: CLUSTER_PROVIDED");
        }
        _ => {}
    }
}

/// What a typed policy says itself can't be said outside of it.
fn check_exclusive(cluster: &pb::Cluster, cx: &mut Compile<'_>) {
    let Some(common) = &cluster.common_lb_config else { return };
    if common.locality_config_specifier.is_some() || common.consistent_hashing_lb_config.is_some() {
        let text = "load_balancing_policy cannot be combined with partial fields (zone_aware_lb_config, \
                    locality_weighted_lb_config, consistent_hashing_lb_config) of common_lb_config";
        cx.field("common_lb_config").error(text);
    }
}

/// `lb_policy` with `lb_config`.
fn named_policy(cluster: &pb::Cluster, cx: &mut Compile<'_>) -> Result<Policy, Invalid> {
    let config = cluster.lb_config.as_ref();
    let (policy, used) = match (cluster.lb_policy(), config) {
        (LbPolicy::RoundRobin, Some(LbConfig::RoundRobinLbConfig(config))) => {
            let mut cx = cx.field("round_robin_lb_config");
            (
                Policy::RoundRobin(RoundRobin { slow_start: slow_start(config.slow_start_config.as_ref(), &mut cx)? }),
                true,
            )
        }
        (LbPolicy::RoundRobin, _) => (Policy::RoundRobin(RoundRobin::default()), false),
        (LbPolicy::LeastRequest, Some(LbConfig::LeastRequestLbConfig(config))) => {
            (Policy::LeastRequest(least_request(config, &mut cx.field("least_request_lb_config"))?), true)
        }
        (LbPolicy::LeastRequest, _) => (Policy::LeastRequest(LeastRequest::default()), false),
        (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(config))) => {
            let function = match config.hash_function() {
                pb::cluster::ring_hash_lb_config::HashFunction::XxHash => HashFunction::XxHash,
                pb::cluster::ring_hash_lb_config::HashFunction::MurmurHash2 => HashFunction::MurmurHash2,
            };
            let sizes = (config.minimum_ring_size.get(), config.maximum_ring_size.get());
            (ring_hash(sizes, function, &mut cx.field("ring_hash_lb_config"))?, true)
        }
        (LbPolicy::RingHash, _) => (Policy::RingHash(RingHash::default()), false),
        (LbPolicy::Maglev, Some(LbConfig::MaglevLbConfig(config))) => {
            (maglev(config.table_size.get(), &mut cx.field("maglev_lb_config"))?, true)
        }
        (LbPolicy::Maglev, _) => (Policy::Maglev(Maglev::default()), false),
        (LbPolicy::Random, _) => (Policy::Random, false),
        (LbPolicy::ClusterProvided, Some(LbConfig::OriginalDstLbConfig(_))) => (Policy::ClusterProvided, true),
        (LbPolicy::ClusterProvided, _) => (Policy::ClusterProvided, false),
        (LbPolicy::LoadBalancingPolicyConfig, _) => {
            return Err(cx.field("load_balancing_policy").error("is required with LOAD_BALANCING_POLICY_CONFIG"));
        }
    };
    if let (Some(config), false) = (config, used) {
        let field = match config {
            LbConfig::RingHashLbConfig(_) => "ring_hash_lb_config",
            LbConfig::MaglevLbConfig(_) => "maglev_lb_config",
            LbConfig::OriginalDstLbConfig(_) => "original_dst_lb_config",
            LbConfig::LeastRequestLbConfig(_) => "least_request_lb_config",
            LbConfig::RoundRobinLbConfig(_) => "round_robin_lb_config",
        };
        cx.field(field).warn(format!("has no effect with the lb_policy {}", cluster.lb_policy().as_str_name()));
    }
    Ok(policy)
}

fn least_request(config: &pb::cluster::LeastRequestLbConfig, cx: &mut Compile<'_>) -> Result<LeastRequest, Invalid> {
    let pb::cluster::LeastRequestLbConfig { choice_count, active_request_bias, slow_start_config } = config;
    let defaults = LeastRequest::default();
    Ok(LeastRequest {
        choice_count: choice_count.value_or(defaults.choice_count),
        active_request_bias: bias(active_request_bias.as_ref(), cx)?,
        slow_start: slow_start(slow_start_config.as_ref(), cx)?,
        selection_method: SelectionMethod::NChoices,
    })
}

/// `active_request_bias`. Default 1.
fn bias(configured: Option<&core::RuntimeDouble>, cx: &mut Compile<'_>) -> Result<f64, Invalid> {
    let Some(core::RuntimeDouble { default_value, runtime_key }) = configured else { return Ok(1.0) };
    let mut cx = cx.field("active_request_bias");
    cx.unsupported_if(!runtime_key.is_empty(), "runtime_key");
    if *default_value < 0.0 || default_value.is_nan() {
        return Err(cx.field("default_value").error(format!("found {default_value}, expected 0.0 or more")));
    }
    Ok(*default_value)
}

fn slow_start(
    config: Option<&pb::cluster::SlowStartConfig>,
    cx: &mut Compile<'_>,
) -> Result<Option<SlowStart>, Invalid> {
    let Some(pb::cluster::SlowStartConfig { slow_start_window, aggression, min_weight_percent }) = config else {
        return Ok(None);
    };
    let mut cx = cx.field("slow_start_config");
    slow_start_fields(slow_start_window, aggression.as_ref(), percent(min_weight_percent, 10.0), &mut cx)
}

/// Slow start is off without a window.
fn slow_start_fields(
    window: &Option<nuncio_api::wkt::Duration>,
    aggression: Option<&core::RuntimeDouble>,
    min_weight_percent: f64,
    cx: &mut Compile<'_>,
) -> Result<Option<SlowStart>, Invalid> {
    let window = duration_field(window, "slow_start_window", cx)?;
    let aggression = match aggression {
        None => 1.0,
        Some(core::RuntimeDouble { default_value, runtime_key }) => {
            let mut cx = cx.field("aggression");
            cx.unsupported_if(!runtime_key.is_empty(), "runtime_key");
            if default_value.is_nan() || *default_value <= 0.0 {
                return Err(cx.field("default_value").error(format!("found {default_value}, expected more than 0.0")));
            }
            *default_value
        }
    };
    Ok(window.filter(|window| !window.is_zero()).map(|window| SlowStart { window, aggression, min_weight_percent }))
}

fn ring_hash(
    (minimum, maximum): (Option<u64>, Option<u64>),
    hash_function: HashFunction,
    cx: &mut Compile<'_>,
) -> Result<Policy, Invalid> {
    let defaults = RingHash::default();
    let minimum_ring_size = minimum.unwrap_or(defaults.minimum_ring_size);
    let maximum_ring_size = maximum.unwrap_or(defaults.maximum_ring_size);
    if minimum_ring_size > MAX_RING || maximum_ring_size > MAX_RING {
        return Err(cx.error(format!("a ring has at most {MAX_RING} entries")));
    }
    if minimum_ring_size > maximum_ring_size {
        let text = format!("minimum_ring_size ({minimum_ring_size}) > maximum_ring_size ({maximum_ring_size})");
        return Err(cx.error(text));
    }
    Ok(Policy::RingHash(RingHash { minimum_ring_size, maximum_ring_size, hash_function }))
}

fn maglev(table_size: Option<u64>, cx: &mut Compile<'_>) -> Result<Policy, Invalid> {
    let table_size = table_size.unwrap_or(Maglev::default().table_size);
    if !is_prime(table_size) || table_size > 5_000_011 {
        let text = format!("found {table_size}; the table size of maglev must be a prime number up to 5000011");
        return Err(cx.field("table_size").error(text));
    }
    Ok(Policy::Maglev(Maglev { table_size }))
}

fn is_prime(number: u64) -> bool {
    let factors = || (2..).take_while(|factor: &u64| factor.saturating_mul(*factor) <= number).take(3000);
    number > 1 && factors().all(|factor| !number.is_multiple_of(factor))
}

fn common_fields(config: &pb::cluster::CommonLbConfig, common: &mut CommonLb, cx: &mut Compile<'_>) {
    use pb::cluster::common_lb_config::{ConsistentHashingLbConfig, LocalityConfigSpecifier, ZoneAwareLbConfig};
    let pb::cluster::CommonLbConfig {
        healthy_panic_threshold,
        update_merge_window,
        ignore_new_hosts_until_first_hc,
        close_connections_on_host_set_change,
        consistent_hashing_lb_config,
        override_host_status,
        locality_config_specifier,
    } = config;
    cx.unsupported_if(update_merge_window.is_some(), "update_merge_window");
    cx.unsupported_if(override_host_status.is_some(), "override_host_status");
    common.options.healthy_panic_threshold = percent(healthy_panic_threshold, common.options.healthy_panic_threshold);
    common.ignore_new_hosts_until_first_hc = *ignore_new_hosts_until_first_hc;
    common.close_connections_on_host_set_change = *close_connections_on_host_set_change;
    if let Some(ConsistentHashingLbConfig { use_hostname_for_hashing, hash_balance_factor }) =
        consistent_hashing_lb_config
    {
        common.use_hostname_for_hashing = *use_hostname_for_hashing;
        common.options.hash_balance_factor = hash_balance_factor.value_or(0);
    }
    match locality_config_specifier {
        None => {}
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => common.options.locality_weighted = true,
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(zone)) => {
            let ZoneAwareLbConfig { routing_enabled, min_cluster_size, fail_traffic_on_panic } = zone;
            common.options.zone.routing_enabled = percent(routing_enabled, 100.0).round() as u32;
            common.options.zone.min_cluster_size = min_cluster_size.value_or(common.options.zone.min_cluster_size);
            common.options.fail_traffic_on_panic = *fail_traffic_on_panic;
        }
    }
}
