//! `LoadBalancingPolicy`: extensions, of which the first that is known is taken.

use super::{bias, maglev, ring_hash, slow_start_fields};
use crate::compile::{Compile, Invalid, message_of};
use crate::lower::number::{Wrapped, percent};
use nuncio_api::pb::envoy::config::cluster::v3 as pb;
use nuncio_api::pb::envoy::extensions::load_balancing_policies as policies;
use nuncio_api::wkt::Any;
use nuncio_cluster::config::CommonLb;
use nuncio_lb::{HashFunction, LeastRequest, Policy, RoundRobin, SelectionMethod, SlowStart};
use policies::cluster_provided::v3::ClusterProvided;
use policies::common::v3 as common;
use policies::least_request::v3 as least;
use policies::maglev::v3 as maglev_pb;
use policies::random::v3::Random;
use policies::ring_hash::v3 as ring;
use policies::round_robin::v3 as round;
use policies::wrr_locality::v3::WrrLocality;
use prost::Name;

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
            localities(locality_lb_config.as_ref(), common, cx);
            Policy::Random
        })
    } else if message == ClusterProvided::full_name() {
        Ok(Policy::ClusterProvided)
    } else if message == ring::RingHash::full_name() {
        cx.decode(any).and_then(|config| typed_ring_hash(&config, common, cx))
    } else if message == maglev_pb::Maglev::full_name() {
        cx.decode(any).and_then(|config| typed_maglev(&config, common, cx))
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

fn round_robin(config: &round::RoundRobin, common: &mut CommonLb, cx: &mut Compile<'_>) -> Result<Policy, Invalid> {
    let round::RoundRobin { slow_start_config, locality_lb_config } = config;
    localities(locality_lb_config.as_ref(), common, cx);
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
    localities(locality_lb_config.as_ref(), common, cx);
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
    cx.unsupported_if(hash_balance_factor.is_some(), "hash_balance_factor");
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
    cx.unsupported_if(hash_balance_factor.is_some(), "hash_balance_factor");
    cx.unsupported_if(!hash_policy.is_empty(), "hash_policy");
    common.use_hostname_for_hashing |= *use_hostname_for_hashing;
}

fn localities(config: Option<&common::LocalityLbConfig>, common: &mut CommonLb, cx: &mut Compile<'_>) {
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
            let mut cx = cx.field("locality_lb_config");
            let mut cx = cx.field("zone_aware_lb_config");
            cx.unsupported_if(routing_enabled.is_some(), "routing_enabled");
            cx.unsupported_if(min_cluster_size.is_some(), "min_cluster_size");
            cx.unsupported_if(*force_locality_direct_routing, "force_locality_direct_routing");
            cx.unsupported_if(force_local_zone.is_some(), "force_local_zone");
            cx.unsupported_if(zone.locality_basis != 0, "locality_basis");
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
