//! The endpoints of a cluster as they are now (`include_eds`), as a `ClusterLoadAssignment`.

use super::super::Admin;
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::config::endpoint::v3 as pb;
use nuncio_api::pb::google::protobuf::UInt32Value;
use nuncio_cluster::{HealthFlags, Host};
use nuncio_lb::{Endpoint, Health};
use nuncio_stream_info::{Address, Locality};
use prost::Message;
use std::sync::Arc;

/// Wire bytes of the `ClusterLoadAssignment` of a cluster.
pub(super) fn assignment(admin: &Admin, cluster: &str) -> Vec<u8> {
    let hosts = admin.server.clusters.hosts(cluster);
    let endpoints = groups(&hosts).into_iter().map(|hosts| group(&hosts)).collect();
    pb::ClusterLoadAssignment { cluster_name: cluster.to_owned(), endpoints, ..Default::default() }.encode_to_vec()
}

/// Hosts by priority and locality; they come sorted by both.
fn groups(hosts: &[Arc<Host>]) -> Vec<Vec<&Host>> {
    let mut groups: Vec<Vec<&Host>> = Vec::new();
    for host in hosts {
        let same = |other: &Host| other.priority() == host.priority() && other.info().locality == host.info().locality;
        match groups.last_mut() {
            Some(group) if group.first().is_some_and(|other| same(other)) => group.push(host),
            _ => groups.push(vec![host]),
        }
    }
    groups
}

fn group(hosts: &[&Host]) -> pb::LocalityLbEndpoints {
    let first = hosts.first();
    pb::LocalityLbEndpoints {
        locality: first.map(|host| locality(&host.info().locality)),
        priority: first.map(|host| host.priority()).unwrap_or_default(),
        lb_endpoints: hosts.iter().map(|host| endpoint(host)).collect(),
        ..Default::default()
    }
}

fn locality(locality: &Locality) -> core::Locality {
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

fn address(address: &Address) -> core::Address {
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
