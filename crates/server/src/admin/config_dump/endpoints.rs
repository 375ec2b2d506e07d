//! The endpoints of a cluster as they are now (`include_eds`), as a `ClusterLoadAssignment`.

use super::super::Admin;
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::config::endpoint::v3 as pb;
use nuncio_api::pb::google::protobuf::UInt32Value;
use nuncio_cluster::{HealthFlags, Host, LocalityView};
use nuncio_lb::{Endpoint, Health};
use nuncio_stream_info::{Address, Locality};
use prost::Message;

/// Wire bytes of the `ClusterLoadAssignment` of a cluster.
pub(super) fn assignment(admin: &Admin, cluster: &str) -> Vec<u8> {
    let endpoints = admin.server.clusters.localities(cluster).iter().map(group).collect();
    let name = admin.server.clusters.endpoints_name(cluster);
    let cluster_name = name.map_or_else(|| cluster.to_owned(), |name| name.to_string());
    let factor = admin.server.clusters.overprovisioning_factor(cluster);
    let overprovisioning_factor = factor.map(|value| UInt32Value { value });
    let policy = pb::cluster_load_assignment::Policy { overprovisioning_factor, ..Default::default() };
    pb::ClusterLoadAssignment { cluster_name, endpoints, policy: Some(policy), ..Default::default() }.encode_to_vec()
}

fn group(view: &LocalityView) -> pb::LocalityLbEndpoints {
    pb::LocalityLbEndpoints {
        locality: view.hosts.first().map(|host| locality(&host.info().locality)),
        priority: view.priority,
        load_balancing_weight: Some(UInt32Value { value: view.weight }),
        lb_endpoints: view.hosts.iter().map(|host| endpoint(host)).collect(),
        ..Default::default()
    }
}

/// `core.v3.Locality`
pub(crate) fn locality(locality: &Locality) -> core::Locality {
    let Locality { region, zone, sub_zone } = locality;
    core::Locality { region: region.to_string(), zone: zone.to_string(), sub_zone: sub_zone.to_string() }
}

fn endpoint(host: &Host) -> pb::LbEndpoint {
    let destination = host.destination();
    let endpoint = pb::Endpoint {
        address: Some(address(&destination.info.address)),
        hostname: host.hostname().to_string(),
        health_check_config: Some(pb::endpoint::HealthCheckConfig::default()),
        ..Default::default()
    };
    pb::LbEndpoint {
        host_identifier: Some(pb::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        health_status: health(host.health_flags()) as i32,
        load_balancing_weight: Some(UInt32Value { value: host.weight() }),
        ..Default::default()
    }
}

fn health(flags: HealthFlags) -> core::HealthStatus {
    if flags.has(HealthFlags::EDS_STATUS_DRAINING) {
        return core::HealthStatus::Draining;
    }
    match flags.health() {
        Health::Healthy => core::HealthStatus::Healthy,
        Health::Degraded => core::HealthStatus::Degraded,
        Health::Unhealthy => core::HealthStatus::Unhealthy,
        Health::Excluded => core::HealthStatus::Timeout,
    }
}

/// `core.v3.Address`
pub(crate) fn address(address: &Address) -> core::Address {
    use core::address::Address as Form;
    let form = match address {
        Address::Ip(ip) => Form::SocketAddress(core::SocketAddress {
            address: ip.ip().to_string(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(ip.port().into())),
            ..Default::default()
        }),
        Address::Pipe(path) => Form::Pipe(core::Pipe { path: path.to_string(), mode: 0 }),
        Address::Internal { listener, endpoint_id } => Form::EnvoyInternalAddress(core::EnvoyInternalAddress {
            endpoint_id: endpoint_id.to_string(),
            address_name_specifier: Some(core::envoy_internal_address::AddressNameSpecifier::ServerListenerName(
                listener.to_string(),
            )),
        }),
    };
    core::Address { address: Some(form) }
}
