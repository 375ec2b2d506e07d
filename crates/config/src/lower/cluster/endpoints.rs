//! `ClusterLoadAssignment`.

use super::is_dns;
use crate::compile::{Compile, Invalid};
use crate::lower::address::{self, HostPort};
use crate::lower::number::{Wrapped, duration_field, fractional_percent, port};
use crate::lower::value;
use nuncio_api::pb::envoy::config::cluster::v3::Cluster;
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::config::endpoint::v3 as pb;
use nuncio_cluster::config::{
    Discovery, Endpoint, EndpointAddress, EndpointHealthCheck, HealthStatus, LoadAssignment, LocalityEndpoints,
};
use nuncio_stream_info::{Address, Locality};

/// `load_assignment` of a cluster whose hosts come from `discovery`, if that is known.
pub(super) fn load_assignment(
    cluster: &Cluster,
    discovery: Option<&Discovery>,
    cx: &mut Compile<'_>,
) -> Result<LoadAssignment, Invalid> {
    let (Some(assignment), Some(discovery)) = (&cluster.load_assignment, discovery) else {
        return match discovery {
            Some(Discovery::LogicalDns(_)) => Err(logical_dns(cx)),
            _ => Ok(LoadAssignment::default()),
        };
    };
    let mut cx = cx.field("load_assignment");
    if matches!(discovery, Discovery::OriginalDst(_)) {
        return Err(cx.error_hint("ORIGINAL_DST clusters must have no load assignment configured", "remove it"));
    }
    if matches!(discovery, Discovery::Eds(_)) {
        return Err(cx.error_hint("EDS clusters get their endpoints from eds_cluster_config", "remove it"));
    }
    assignment_fields(assignment, discovery, &mut cx)
}

/// A `ClusterLoadAssignment` of EDS.
pub(in crate::lower) fn discovered(
    assignment: &pb::ClusterLoadAssignment,
    cx: &mut Compile<'_>,
) -> Result<LoadAssignment, Invalid> {
    assignment_fields(assignment, &Discovery::Static, cx)
}

fn assignment_fields(
    assignment: &pb::ClusterLoadAssignment,
    discovery: &Discovery,
    cx: &mut Compile<'_>,
) -> Result<LoadAssignment, Invalid> {
    let before = cx.errors();
    // The name is for EDS only.
    let pb::ClusterLoadAssignment { cluster_name: _, endpoints, named_endpoints, policy } = assignment;
    let mut lowered = LoadAssignment::default();
    if let Some(policy) = policy {
        policy_fields(policy, &mut lowered, &mut cx.field("policy"));
    }
    for (index, locality) in endpoints.iter().enumerate() {
        let mut cx = cx.element("endpoints", index);
        lowered.localities.extend(locality_endpoints(locality, named_endpoints, discovery, &mut cx).ok());
    }
    if matches!(discovery, Discovery::LogicalDns(_)) && (endpoints.len() != 1 || endpoints[0].lb_endpoints.len() != 1) {
        logical_dns(cx);
    }
    cx.unless_errors_since(before)?;
    Ok(lowered)
}

fn logical_dns(cx: &mut Compile<'_>) -> Invalid {
    let text = "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint";
    cx.error_hint(text, "STRICT_DNS takes any number of them")
}

fn policy_fields(policy: &pb::cluster_load_assignment::Policy, lowered: &mut LoadAssignment, cx: &mut Compile<'_>) {
    let pb::cluster_load_assignment::Policy {
        drop_overloads,
        overprovisioning_factor,
        endpoint_stale_after,
        weighted_priority_health,
    } = policy;
    lowered.drop_overload = drop_overload(drop_overloads, cx);
    lowered.stale_after = duration_field(endpoint_stale_after, "endpoint_stale_after", cx).ok().flatten();
    lowered.overprovisioning_factor = overprovisioning_factor.value_or(lowered.overprovisioning_factor);
    lowered.weighted_priority_health = *weighted_priority_health;
}

/// `drop_overloads`, in millionths.
fn drop_overload(categories: &[pb::cluster_load_assignment::policy::DropOverload], cx: &mut Compile<'_>) -> u32 {
    let Some(first) = categories.first() else { return 0 };
    if categories.len() > 1 {
        let text = format!("Cluster drop_overloads config has {} categories. Envoy only support one", categories.len());
        cx.field("drop_overloads").error_hint(text, "add them up");
    }
    let percent = first.drop_percentage.as_ref().map(fractional_percent);
    let millionths = percent.map_or(0, |percent| u64::from(percent.numerator) * 1_000_000 / percent.denominator.get());
    if millionths > 1_000_000 {
        cx.element("drop_overloads", 0).field("drop_percentage").error("is more than everything");
    }
    millionths.min(1_000_000) as u32
}

type Named = std::collections::HashMap<String, pb::Endpoint>;

fn locality_endpoints(
    group: &pb::LocalityLbEndpoints,
    named: &Named,
    discovery: &Discovery,
    cx: &mut Compile<'_>,
) -> Result<LocalityEndpoints, Invalid> {
    let pb::LocalityLbEndpoints {
        locality,
        metadata,
        lb_endpoints,
        load_balancing_weight,
        priority,
        proximity,
        lb_config,
    } = group;
    let before = cx.errors();
    cx.unsupported_if(proximity.is_some(), "proximity");
    if lb_config.is_some() {
        cx.error_hint("LEDS is not built yet", "list the endpoints under lb_endpoints");
    }
    let core::Locality { region, zone, sub_zone } = locality.clone().unwrap_or_default();
    let mut endpoints = Vec::with_capacity(lb_endpoints.len());
    for (index, endpoint) in lb_endpoints.iter().enumerate() {
        endpoints.extend(self::endpoint(endpoint, named, discovery, &mut cx.element("lb_endpoints", index)).ok());
    }
    cx.unless_errors_since(before)?;
    Ok(LocalityEndpoints {
        locality: Locality {
            region: region.as_str().into(),
            zone: zone.as_str().into(),
            sub_zone: sub_zone.as_str().into(),
        },
        priority: *priority,
        weight: load_balancing_weight.value_or(0),
        metadata: value::metadata(metadata, "metadata", cx),
        endpoints,
    })
}

fn endpoint(
    endpoint: &pb::LbEndpoint,
    named: &Named,
    discovery: &Discovery,
    cx: &mut Compile<'_>,
) -> Result<Endpoint, Invalid> {
    use pb::lb_endpoint::HostIdentifier;
    let pb::LbEndpoint { health_status: _, metadata, load_balancing_weight, host_identifier } = endpoint;
    let mut lowered = match host_identifier {
        None => return Err(cx.error_hint("has no endpoint", "set endpoint.address")),
        Some(HostIdentifier::Endpoint(host)) => host_fields(host, discovery, &mut cx.field("endpoint"))?,
        Some(HostIdentifier::EndpointName(name)) => match named.get(name) {
            Some(host) => host_fields(host, discovery, &mut cx.field("endpoint_name"))?,
            None => {
                let text = format!("named_endpoints has no {name}");
                return Err(cx.field("endpoint_name").error_hint(text, "set endpoint.address"));
            }
        },
    };
    lowered.metadata = value::metadata(metadata, "metadata", cx);
    lowered.weight = load_balancing_weight.value_or(1);
    lowered.health_status = match endpoint.health_status() {
        core::HealthStatus::Unknown => HealthStatus::Unknown,
        core::HealthStatus::Healthy => HealthStatus::Healthy,
        core::HealthStatus::Unhealthy => HealthStatus::Unhealthy,
        core::HealthStatus::Draining => HealthStatus::Draining,
        core::HealthStatus::Timeout => HealthStatus::Timeout,
        core::HealthStatus::Degraded => HealthStatus::Degraded,
    };
    Ok(lowered)
}

fn host_fields(host: &pb::Endpoint, discovery: &Discovery, cx: &mut Compile<'_>) -> Result<Endpoint, Invalid> {
    let pb::Endpoint { address, health_check_config, hostname, additional_addresses, observability_name } = host;
    cx.unsupported_if(!observability_name.is_empty(), "observability_name");
    let Some(address) = address else { return Err(cx.field("address").error("is required")) };
    let address = endpoint_address(address, discovery, &mut cx.field("address"));
    let mut additional = Vec::with_capacity(additional_addresses.len());
    let before = cx.errors();
    for (index, further) in additional_addresses.iter().enumerate() {
        let mut cx = cx.element("additional_addresses", index);
        match &further.address {
            Some(address) => additional.extend(endpoint_address(address, discovery, &mut cx.field("address")).ok()),
            None => {
                cx.field("address").error("is required");
            }
        }
    }
    let check = health_check_config.as_ref();
    let check = check.map(|check| endpoint_check(check, &mut cx.field("health_check_config"))).transpose();
    cx.unless_errors_since(before)?;
    let mut lowered = Endpoint::new(address?);
    lowered.additional_addresses = additional;
    lowered.hostname = (!hostname.is_empty()).then(|| hostname.as_str().into());
    lowered.health_check = check?.map(Box::new);
    Ok(lowered)
}

fn endpoint_check(
    check: &pb::endpoint::HealthCheckConfig,
    cx: &mut Compile<'_>,
) -> Result<EndpointHealthCheck, Invalid> {
    let pb::endpoint::HealthCheckConfig { port_value, hostname, address, disable_active_health_check } = check;
    let address = match address {
        None => None,
        Some(address) => match endpoint_address(address, &Discovery::Static, &mut cx.field("address"))? {
            EndpointAddress::Resolved(address) => Some(address),
            EndpointAddress::Name { .. } => None,
        },
    };
    Ok(EndpointHealthCheck {
        port: match port_value {
            0 => None,
            value => Some(port(*value, "port_value", cx)?),
        },
        hostname: (!hostname.is_empty()).then(|| hostname.as_str().into()),
        address,
        disabled: *disable_active_health_check,
    })
}

/// A name where the cluster resolves names, else an IP address or a unix path.
fn endpoint_address(
    address: &core::Address,
    discovery: &Discovery,
    cx: &mut Compile<'_>,
) -> Result<EndpointAddress, Invalid> {
    use core::address::Address as Kind;
    match &address.address {
        None => Err(cx.error_hint("has no address", "set socket_address or pipe")),
        Some(Kind::SocketAddress(socket)) => {
            let mut cx = cx.field("socket_address");
            let HostPort { host, port } = address::host_port(socket, &mut cx)?;
            match address::parse_ip(host, port) {
                Some(ip) => Ok(EndpointAddress::Resolved(Address::Ip(ip))),
                None if is_dns(discovery) && host.is_empty() => Err(cx.field("address").error("must not be empty")),
                None if is_dns(discovery) => Ok(EndpointAddress::Name { host: host.into(), port }),
                None => {
                    let hint = "consider setting the cluster type to STRICT_DNS or LOGICAL_DNS";
                    Err(cx.field("address").error_hint(format!("malformed IP address: {host}"), hint))
                }
            }
        }
        Some(Kind::Pipe(pipe)) => {
            let mut cx = cx.field("pipe");
            let checked = address::pipe(&pipe.path, &mut cx)?;
            Ok(EndpointAddress::Resolved(Address::Pipe(checked.to_string().into())))
        }
        Some(Kind::EnvoyInternalAddress(_)) => {
            Err(cx.field("envoy_internal_address").error("internal listeners are not built yet"))
        }
    }
}
