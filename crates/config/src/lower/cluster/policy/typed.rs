//! `LoadBalancingPolicy`: extensions, of which the first that is known is taken.

use super::{bias, maglev, ring_hash, slow_start_fields};
use crate::compile::{Compile, Invalid, message_of};
use crate::lower::matcher::list;
use crate::lower::number::{Wrapped, duration_field, percent};
use crate::lower::route::hash_policies;
use nuncio_api::pb::envoy::config::cluster::v3 as pb;
use nuncio_api::pb::envoy::extensions::load_balancing_policies as policies;
use nuncio_api::pb::envoy::r#type::metadata::v3::MetadataKey;
use nuncio_api::wkt::Any;
use nuncio_cluster::config::{self, CommonLb, OverrideSource};
use nuncio_headers::HeaderName;
use nuncio_lb::{
    ClientSideWeights, HashFunction, LeastRequest, Policy, RoundRobin, SelectionMethod, SlowStart, ZoneAware,
};
use policies::client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin;
use policies::cluster_provided::v3::ClusterProvided;
use policies::common::v3 as common;
use policies::least_request::v3 as least;
use policies::maglev::v3 as maglev_pb;
use policies::override_host::v3 as override_pb;
use policies::override_host::v3::OverrideHost;
use policies::random::v3::Random;
use policies::ring_hash::v3 as ring;
use policies::round_robin::v3 as round;
use policies::subset::v3::Subset;
use policies::wrr_locality::v3::WrrLocality;
use prost::Name;
use std::sync::Arc;
use std::time::Duration;

/// Policies inside policies beyond this are refused.
const MAX_DEPTH: usize = 4;

/// The first policy that is known. What it says of localities goes into `common`.
pub(super) fn policy(
    config: Option<&pb::LoadBalancingPolicy>,
    common: &mut CommonLb,
    cx: &mut Compile<'_>,
) -> Result<Policy, Invalid> {
    first_known(config, common, MAX_DEPTH, cx)
}

fn first_known(
    config: Option<&pb::LoadBalancingPolicy>,
    common: &mut CommonLb,
    depth: usize,
    cx: &mut Compile<'_>,
) -> Result<Policy, Invalid> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(cx.error(format!("more than {MAX_DEPTH} policies inside one another")));
    };
    let policies = config.map(|config| config.policies.as_slice()).unwrap_or_default();
    let mut names = Vec::new();
    for (index, policy) in policies.iter().enumerate() {
        let mut cx = cx.element("policies", index);
        let mut cx = cx.field("typed_extension_config");
        let Some(extension) = &policy.typed_extension_config else { continue };
        let Some(any) = &extension.typed_config else {
            names.push(extension.name.as_str());
            continue;
        };
        if let Some(policy) = known(any, common, depth, &mut cx.field("typed_config")) {
            return policy;
        }
        cx.warn(format!("the load balancing policy {} is not built: the next one is tried", extension.name));
        names.push(&extension.name);
    }
    let text = format!("has no load balancing policy that is built: [{}]", names.join(", "));
    Err(cx.error_hint(text, "add envoy.load_balancing_policies.round_robin"))
}

/// The policy of a configuration; none if there is no such policy here.
fn known(any: &Any, common: &mut CommonLb, depth: usize, cx: &mut Compile<'_>) -> Option<Result<Policy, Invalid>> {
    let message = message_of(any);
    Some(if message == round::RoundRobin::full_name() {
        cx.decode(any).and_then(|config| round_robin(&config, common, cx))
    } else if message == least::LeastRequest::full_name() {
        cx.decode(any).and_then(|config| least_request(&config, common, cx))
    } else if message == Random::full_name() {
        cx.decode::<Random>(any).map(|Random { locality_lb_config }| {
            localities(locality_lb_config.as_ref(), common);
            Policy::Random
        })
    } else if message == ClusterProvided::full_name() {
        Ok(Policy::ClusterProvided)
    } else if message == ring::RingHash::full_name() {
        cx.decode(any).and_then(|config| typed_ring_hash(&config, common, cx))
    } else if message == maglev_pb::Maglev::full_name() {
        cx.decode(any).and_then(|config| typed_maglev(&config, common, cx))
    } else if message == OverrideHost::full_name() {
        cx.decode(any).and_then(|config| override_host(&config, common, depth, cx))
    } else if message == ClientSideWeightedRoundRobin::full_name() {
        cx.decode(any).and_then(|config| client_side(&config, cx))
    } else if message == Subset::full_name() {
        cx.decode(any).and_then(|config| subset(&config, common, depth, cx))
    } else if message == WrrLocality::full_name() {
        cx.decode::<WrrLocality>(any).and_then(|WrrLocality { endpoint_picking_policy }| {
            let mut cx = cx.field("endpoint_picking_policy");
            let policy = first_known(endpoint_picking_policy.as_ref(), common, depth, &mut cx)?;
            common.options.locality_weighted = true;
            Ok(policy)
        })
    } else {
        return None;
    })
}

/// The policy that takes over where the request names no host is the cluster's.
fn override_host(
    config: &OverrideHost,
    common: &mut CommonLb,
    depth: usize,
    cx: &mut Compile<'_>,
) -> Result<Policy, Invalid> {
    let OverrideHost { override_host_sources, selected_host_key, fallback_policy } = config;
    if common.override_host.is_some() {
        return Err(cx.error("an override_host policy inside another one"));
    }
    let sources = list(override_host_sources, "override_host_sources", cx, override_source)?;
    if sources.is_empty() {
        return Err(cx.field("override_host_sources").error("is required"));
    }
    let key = selected_host_key.as_ref();
    let selected_host_key = key.map(|key| metadata_path(key, &mut cx.field("selected_host_key"))).transpose()?;
    common.override_host = Some(Arc::new(config::OverrideHost { sources, selected_host_key }));
    first_known(fallback_policy.as_ref(), common, depth, &mut cx.field("fallback_policy"))
}

fn client_side(config: &ClientSideWeightedRoundRobin, cx: &mut Compile<'_>) -> Result<Policy, Invalid> {
    let ClientSideWeightedRoundRobin {
        enable_oob_load_report,
        oob_reporting_period,
        blackout_period,
        weight_expiration_period,
        weight_update_period,
        error_utilization_penalty,
        metric_names_for_computing_utilization,
        slow_start_config,
        oob_reporting_config,
    } = config;
    if enable_oob_load_report.value_or(false) {
        let hint = "hosts can report with each response, in endpoint-load-metrics";
        cx.field("enable_oob_load_report").warn_hint("load reports out of band are not asked for yet", hint);
    }
    // These two have a meaning only with the field above.
    let _ = (oob_reporting_period, oob_reporting_config);
    let defaults = ClientSideWeights::default();
    let penalty = error_utilization_penalty
        .as_ref()
        .map_or(defaults.error_utilization_penalty, |penalty| f64::from(penalty.value));
    if penalty.is_nan() || penalty < 0.0 {
        return Err(cx.field("error_utilization_penalty").error(format!("found {penalty}, expected 0.0 or more")));
    }
    let update_period = duration_field(weight_update_period, "weight_update_period", cx)?;
    Ok(Policy::ClientSideWeighted(ClientSideWeights {
        blackout_period: duration_field(blackout_period, "blackout_period", cx)?.unwrap_or(defaults.blackout_period),
        weight_expiration_period: duration_field(weight_expiration_period, "weight_expiration_period", cx)?
            .unwrap_or(defaults.weight_expiration_period),
        weight_update_period: update_period.unwrap_or(defaults.weight_update_period).max(Duration::from_millis(100)),
        error_utilization_penalty: penalty,
        metric_names: metric_names_for_computing_utilization.iter().map(|name| name.as_str().into()).collect(),
        slow_start: slow_start(slow_start_config.as_ref(), cx)?,
    }))
}

/// The policy within the subsets is the cluster's.
fn subset(config: &Subset, common: &mut CommonLb, depth: usize, cx: &mut Compile<'_>) -> Result<Policy, Invalid> {
    if common.subset.is_some() {
        return Err(cx.error("a subset policy inside another one"));
    }
    common.subset = Some(Arc::new(super::subset::options(config, cx)?));
    let before = common.override_host.clone();
    let policy = first_known(config.subset_lb_policy.as_ref(), common, depth, &mut cx.field("subset_lb_policy"))?;
    if common.override_host != before {
        return Err(cx.field("subset_lb_policy").error_hint("override_host inside of subset", "put it around subset"));
    }
    Ok(policy)
}

fn override_source(
    source: &override_pb::override_host::OverrideHostSource,
    cx: &mut Compile<'_>,
) -> Result<OverrideSource, Invalid> {
    match (source.header.as_str(), &source.metadata) {
        ("", None) => Err(cx.error("Empty override source")),
        ("", Some(key)) => Ok(OverrideSource::Metadata(metadata_path(key, &mut cx.field("metadata"))?)),
        (_, Some(_)) => Err(cx.error("Only one override source must be set")),
        (header, None) => match HeaderName::new(header) {
            Ok(name) => Ok(OverrideSource::Header(name)),
            Err(error) => Err(cx.field("header").error(error.to_string())),
        },
    }
}

fn metadata_path(key: &MetadataKey, cx: &mut Compile<'_>) -> Result<config::MetadataPath, Invalid> {
    let (namespace, path) = crate::lower::cluster::discovery::metadata_path(key, cx)?;
    Ok(config::MetadataPath { namespace, path })
}

fn round_robin(config: &round::RoundRobin, common: &mut CommonLb, cx: &mut Compile<'_>) -> Result<Policy, Invalid> {
    let round::RoundRobin { slow_start_config, locality_lb_config } = config;
    localities(locality_lb_config.as_ref(), common);
    Ok(Policy::RoundRobin(RoundRobin { slow_start: slow_start(slow_start_config.as_ref(), cx)? }))
}

fn least_request(config: &least::LeastRequest, common: &mut CommonLb, cx: &mut Compile<'_>) -> Result<Policy, Invalid> {
    #[allow(deprecated)]
    let least::LeastRequest {
        choice_count,
        active_request_bias,
        slow_start_config,
        locality_lb_config,
        enable_full_scan,
        selection_method: _,
    } = config;
    localities(locality_lb_config.as_ref(), common);
    let full_scan =
        enable_full_scan.value_or(config.selection_method() == least::least_request::SelectionMethod::FullScan);
    let defaults = LeastRequest::default();
    Ok(Policy::LeastRequest(LeastRequest {
        choice_count: choice_count.value_or(defaults.choice_count),
        active_request_bias: bias(active_request_bias.as_ref(), cx)?,
        slow_start: slow_start(slow_start_config.as_ref(), cx)?,
        selection_method: if full_scan { SelectionMethod::FullScan } else { SelectionMethod::NChoices },
    }))
}

fn typed_ring_hash(config: &ring::RingHash, common: &mut CommonLb, cx: &mut Compile<'_>) -> Result<Policy, Invalid> {
    #[allow(deprecated)]
    let ring::RingHash {
        hash_function: _,
        minimum_ring_size,
        maximum_ring_size,
        use_hostname_for_hashing,
        hash_balance_factor,
        consistent_hashing_lb_config,
        locality_weighted_lb_config,
    } = config;
    common.options.hash_balance_factor = hash_balance_factor.value_or(0);
    common.use_hostname_for_hashing |= *use_hostname_for_hashing;
    common.options.locality_weighted |= locality_weighted_lb_config.is_some();
    consistent_hashing(consistent_hashing_lb_config.as_ref(), common, cx);
    let function = match config.hash_function() {
        ring::ring_hash::HashFunction::DefaultHash | ring::ring_hash::HashFunction::XxHash => HashFunction::XxHash,
        ring::ring_hash::HashFunction::MurmurHash2 => HashFunction::MurmurHash2,
    };
    ring_hash((minimum_ring_size.get(), maximum_ring_size.get()), function, cx)
}

fn typed_maglev(config: &maglev_pb::Maglev, common: &mut CommonLb, cx: &mut Compile<'_>) -> Result<Policy, Invalid> {
    let maglev_pb::Maglev { table_size, consistent_hashing_lb_config, locality_weighted_lb_config } = config;
    common.options.locality_weighted |= locality_weighted_lb_config.is_some();
    consistent_hashing(consistent_hashing_lb_config.as_ref(), common, cx);
    maglev(table_size.get(), cx)
}

fn consistent_hashing(config: Option<&common::ConsistentHashingLbConfig>, common: &mut CommonLb, cx: &mut Compile<'_>) {
    let Some(config) = config else { return };
    let common::ConsistentHashingLbConfig { use_hostname_for_hashing, hash_balance_factor, hash_policy } = config;
    let mut cx = cx.field("consistent_hashing_lb_config");
    common.options.hash_balance_factor = hash_balance_factor.value_or(common.options.hash_balance_factor);
    if let Ok(Some(policies)) = hash_policies(hash_policy, &mut cx) {
        common.hash_policy = Some(policies);
    }
    common.use_hostname_for_hashing |= *use_hostname_for_hashing;
}

fn localities(config: Option<&common::LocalityLbConfig>, common: &mut CommonLb) {
    use common::locality_lb_config::zone_aware_lb_config::LocalityBasis;
    use common::locality_lb_config::{LocalityConfigSpecifier, ZoneAwareLbConfig};
    match config.and_then(|config| config.locality_config_specifier.as_ref()) {
        None => {}
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => common.options.locality_weighted = true,
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(zone)) => {
            #[allow(deprecated)]
            let ZoneAwareLbConfig {
                routing_enabled,
                min_cluster_size,
                fail_traffic_on_panic,
                force_locality_direct_routing,
                force_local_zone,
                locality_basis: _,
            } = zone;
            let forced = force_local_zone.as_ref().map(|forced| forced.min_size.value_or(1));
            common.options.zone = ZoneAware {
                routing_enabled: percent(routing_enabled, 100.0).round() as u32,
                min_cluster_size: min_cluster_size.value_or(ZoneAware::default().min_cluster_size),
                force_local: forced.or(force_locality_direct_routing.then_some(1)),
                by_weight: zone.locality_basis() == LocalityBasis::HealthyHostsWeight,
            };
            common.options.fail_traffic_on_panic = *fail_traffic_on_panic;
        }
    }
}

fn slow_start(config: Option<&common::SlowStartConfig>, cx: &mut Compile<'_>) -> Result<Option<SlowStart>, Invalid> {
    let Some(common::SlowStartConfig { slow_start_window, aggression, min_weight_percent }) = config else {
        return Ok(None);
    };
    let mut cx = cx.field("slow_start_config");
    slow_start_fields(slow_start_window, aggression.as_ref(), percent(min_weight_percent, 10.0), &mut cx)
}
