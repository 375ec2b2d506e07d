//! From endpoints to hosts: what a cluster's host set is made of, and how a new one takes over the hosts of the old.

use crate::config::{ClusterConfig, Endpoint, EndpointAddress, HealthStatus, LocalityEndpoints};
use crate::health::HealthFlags;
use crate::host::{Host, HostSetup, HostSpec};
use crate::info::ClusterInfo;
use crate::outlier::Monitor;
use nuncio_lb::{HostSet, HostSetOptions, LocalityHosts, Policy, PrioritySet};
use nuncio_stream_info::{Address, HostInfo};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// The hosts of one locality at one priority.
#[derive(Debug, Default)]
pub(crate) struct LocalityMembers {
    pub(crate) priority: u32,
    pub(crate) weight: u32,
    pub(crate) hosts: Vec<Arc<Host>>,
}

/// Makes hosts for a cluster.
pub(crate) struct HostMaker<'a> {
    info: &'a Arc<ClusterInfo>,
    now: Instant,
    logical: bool,
}

impl<'a> HostMaker<'a> {
    pub(crate) fn new(info: &'a Arc<ClusterInfo>, now: Instant, logical: bool) -> Self {
        HostMaker { info, now, logical }
    }

    /// A host at this address. `name` is the DNS name that led to it.
    pub(crate) fn make(&self, place: &LocalityEndpoints, endpoint: &Endpoint, at: Resolved<'_>) -> Arc<Host> {
        let config = &self.info.config;
        let hostname = endpoint.hostname.as_ref().or(at.name).cloned().unwrap_or_default();
        let hash_key = hash_key(config, endpoint, &at, &hostname);
        let host_info = HostInfo {
            address: at.address,
            hostname,
            metadata: endpoint.metadata.clone(),
            locality: place.locality.clone(),
        };
        let spec = HostSpec {
            info: Arc::new(host_info),
            addresses: at.addresses,
            weight: endpoint.weight,
            priority: place.priority,
            health_check: endpoint.health_check.clone(),
            hash_key,
            health: initial_health(config, endpoint),
        };
        // Every host has the transport socket of its cluster: that of the default match.
        self.info.stats.default_total_match_count().inc();
        let monitor = self.info.watch.clone().map(|watch| Box::new(Monitor::new(watch)));
        let setup = HostSetup { workers: self.info.workers, monitor, logical: self.logical, now: self.now };
        Arc::new(Host::new(spec, setup))
    }
}

/// Where an endpoint turned out to be.
pub(crate) struct Resolved<'a> {
    pub(crate) address: Address,
    /// All addresses, if there are several.
    pub(crate) addresses: Arc<[Address]>,
    /// The name that was resolved.
    pub(crate) name: Option<&'a Arc<str>>,
}

/// What a host starts with, before any check of this proxy.
fn initial_health(config: &ClusterConfig, endpoint: &Endpoint) -> HealthFlags {
    let mut flags = match endpoint.health_status {
        HealthStatus::Unknown | HealthStatus::Healthy => HealthFlags::NONE,
        HealthStatus::Unhealthy | HealthStatus::Timeout => HealthFlags::FAILED_EDS_HEALTH,
        HealthStatus::Draining => HealthFlags::EDS_STATUS_DRAINING,
        HealthStatus::Degraded => HealthFlags::DEGRADED_EDS_HEALTH,
    };
    let checked = config.health_check.is_some() && !endpoint.health_check.as_ref().is_some_and(|own| own.disabled);
    if checked {
        flags = flags.or(HealthFlags::FAILED_ACTIVE_HC);
        if config.common_lb.ignore_new_hosts_until_first_hc {
            flags = flags.or(HealthFlags::PENDING_ACTIVE_HC);
        }
    }
    flags
}

/// What consistent hashing places a host by: the `hash_key` of its `envoy.lb` metadata, its name if configured, or its
/// address. Other policies need none.
fn hash_key(config: &ClusterConfig, endpoint: &Endpoint, at: &Resolved<'_>, hostname: &Arc<str>) -> Option<Arc<str>> {
    if !matches!(*config.lb_policy, Policy::RingHash(_) | Policy::Maglev(_)) {
        return None;
    }
    let own = endpoint.metadata.as_ref().and_then(|metadata| match metadata.get("envoy.lb", &["hash_key"]) {
        Some(nuncio_stream_info::Value::String(key)) if !key.is_empty() => Some(key.clone()),
        _ => None,
    });
    Some(own.unwrap_or_else(|| match config.common_lb.use_hostname_for_hashing {
        true => hostname.clone(),
        false => at.address.to_string().into(),
    }))
}

/// The hosts of a `STATIC` cluster. Names are the configuration's mistake; it has been told.
pub(crate) fn static_members(info: &Arc<ClusterInfo>, now: Instant) -> Vec<LocalityMembers> {
    let maker = HostMaker::new(info, now, false);
    let members = |place: &LocalityEndpoints| {
        let hosts = place.endpoints.iter().filter_map(|endpoint| {
            let EndpointAddress::Resolved(address) = &endpoint.address else { return None };
            let resolved =
                Resolved { address: address.clone(), addresses: all_addresses(address, endpoint), name: None };
            Some(maker.make(place, endpoint, resolved))
        });
        LocalityMembers { priority: place.priority, weight: place.weight, hosts: hosts.collect() }
    };
    info.config.load_assignment.localities.iter().map(members).collect()
}

/// Address and additional addresses of an endpoint; empty if there is only one.
fn all_addresses(address: &Address, endpoint: &Endpoint) -> Arc<[Address]> {
    if endpoint.additional_addresses.is_empty() {
        return Arc::default();
    }
    let more = endpoint.additional_addresses.iter().filter_map(|address| match address {
        EndpointAddress::Resolved(address) => Some(address.clone()),
        EndpointAddress::Name { .. } => None,
    });
    std::iter::once(address.clone()).chain(more).collect()
}

/// Groups localities by priority. Priorities without endpoints are empty sets.
pub(crate) fn priority_set(config: &ClusterConfig, members: Vec<LocalityMembers>) -> PrioritySet<Arc<Host>> {
    let options = HostSetOptions {
        overprovisioning_factor: config.load_assignment.overprovisioning_factor,
        weighted_priority_health: config.load_assignment.weighted_priority_health,
    };
    let configured = config.load_assignment.localities.iter().map(|place| place.priority);
    let last = members.iter().map(|members| members.priority).chain(configured).max().unwrap_or(0);
    let mut priorities: Vec<Vec<LocalityHosts<Arc<Host>>>> = (0..=last).map(|_| Vec::new()).collect();
    for members in members {
        if let Some(localities) = priorities.get_mut(members.priority as usize) {
            localities.push(LocalityHosts { weight: members.weight, hosts: members.hosts });
        }
    }
    PrioritySet::new(priorities.into_iter().map(|localities| Arc::new(HostSet::new(localities, options))).collect())
}

/// The same hosts, their health read again.
pub(crate) fn refreshed(hosts: &PrioritySet<Arc<Host>>) -> PrioritySet<Arc<Host>> {
    PrioritySet::new(hosts.sets().iter().map(|set| Arc::new(set.refreshed())).collect())
}

/// Hosts by address and priority, to find out which ones stay.
pub(crate) fn by_address(hosts: &PrioritySet<Arc<Host>>) -> HashMap<(u32, Address), Arc<Host>> {
    hosts.hosts().map(|host| ((host.priority(), host.address().clone()), host.clone())).collect()
}

/// Whether an existing host can stand for an endpoint: nothing but health may have changed.
pub(crate) fn is_same(host: &Host, place: &LocalityEndpoints, endpoint: &Endpoint, name: Option<&Arc<str>>) -> bool {
    use nuncio_lb::Endpoint as _;
    let info = host.info();
    host.weight() == endpoint.weight.max(1)
        && info.locality == place.locality
        && info.metadata == endpoint.metadata
        && Some(&info.hostname) == endpoint.hostname.as_ref().or(name).or(Some(&Arc::default()))
}
