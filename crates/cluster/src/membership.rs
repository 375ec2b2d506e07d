//! From endpoints to hosts: what a cluster's host set is made of, and how a new one takes over the hosts of the old.

use crate::config::{ClusterConfig, Endpoint, EndpointAddress, LoadAssignment, LocalityEndpoints};
use crate::health::HealthFlags;
use crate::host::{Host, HostSetup, HostSpec};
use crate::info::ClusterInfo;
use crate::outlier::Monitor;
use crate::worker::Hosts;
use nuncio_lb::{HostSet, HostSetOptions, LocalityHosts, Policy, PrioritySet, SubsetOptions};
use nuncio_stream_info::{Address, HostInfo, Locality};
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
            transport: self.transport(place, endpoint),
        };
        let reports_load = matches!(*self.info.config.lb_policy, Policy::ClientSideWeighted(_));
        let monitor = self.info.watch.clone().map(|watch| Box::new(Monitor::new(watch)));
        let setup =
            HostSetup { workers: self.info.workers, monitor, reports_load, logical: self.logical, now: self.now };
        Arc::new(Host::new(spec, setup))
    }
}

impl HostMaker<'_> {
    /// The transport socket of a host, counted as chosen.
    fn transport(&self, place: &LocalityEndpoints, endpoint: &Endpoint) -> Option<u16> {
        let found = chosen_transport(&self.info.config, place, endpoint);
        let name =
            found.and_then(|found| Some(&self.info.config.transports.as_ref()?.matches.get(found as usize)?.name));
        match name {
            Some(name) => self.info.stats.transport_match(name).total_match_count().inc(),
            None => self.info.stats.default_total_match_count().inc(),
        }
        found
    }
}

/// Which of `transport_socket_matches` is for an endpoint; none: the cluster's transport socket.
fn chosen_transport(config: &ClusterConfig, place: &LocalityEndpoints, endpoint: &Endpoint) -> Option<u16> {
    config.transports.as_ref()?.choose(endpoint.metadata.as_deref(), place.metadata.as_deref())
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
    let mut flags = crate::manager::flag_of(endpoint.health_status);
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
pub(crate) fn all_addresses(address: &Address, endpoint: &Endpoint) -> Arc<[Address]> {
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
pub(crate) fn priority_set(
    info: &ClusterInfo,
    assignment: &LoadAssignment,
    members: Vec<LocalityMembers>,
) -> PrioritySet<Arc<Host>> {
    let options = HostSetOptions {
        overprovisioning_factor: assignment.overprovisioning_factor,
        weighted_priority_health: assignment.weighted_priority_health,
        has_local_locality: false,
    };
    let configured = assignment.localities.iter().map(|place| place.priority);
    let last = members.iter().map(|members| members.priority).chain(configured).max().unwrap_or(0);
    let mut priorities: Vec<Vec<LocalityHosts<Arc<Host>>>> = (0..=last).map(|_| Vec::new()).collect();
    for members in members {
        if let Some(localities) = priorities.get_mut(members.priority as usize) {
            add_locality(localities, LocalityHosts { weight: members.weight, hosts: members.hosts });
        }
    }
    let set = |mut localities: Vec<LocalityHosts<Arc<Host>>>| {
        let has_local_locality = sort_localities(&mut localities, info.locality.as_deref());
        Arc::new(HostSet::new(localities, HostSetOptions { has_local_locality, ..options }))
    };
    PrioritySet::new(priorities.into_iter().map(set).collect())
}

fn locality_of(hosts: &LocalityHosts<Arc<Host>>) -> Option<&Locality> {
    hosts.hosts.first().map(|host| &host.info().locality)
}

/// A locality that is named twice is one; its weight is the last one.
fn add_locality(localities: &mut Vec<LocalityHosts<Arc<Host>>>, added: LocalityHosts<Arc<Host>>) {
    let same =
        |known: &&mut LocalityHosts<Arc<Host>>| locality_of(known).is_some_and(|own| Some(own) == locality_of(&added));
    match localities.iter_mut().find(same) {
        Some(known) => {
            known.weight = added.weight;
            known.hosts.extend(added.hosts);
        }
        None => localities.push(added),
    }
}

/// Puts the locality of this proxy first, and the others in the order of their names; whether the first one is that of this
/// proxy.
fn sort_localities(localities: &mut [LocalityHosts<Arc<Host>>], local: Option<&Locality>) -> bool {
    let is_local = |hosts: &LocalityHosts<Arc<Host>>| local.is_some() && locality_of(hosts) == local;
    if localities.len() > 1 {
        let name = |hosts: &LocalityHosts<Arc<Host>>| {
            locality_of(hosts).map(|own| (own.region.clone(), own.zone.clone(), own.sub_zone.clone()))
        };
        localities.sort_by_cached_key(|hosts| (!is_local(hosts), name(hosts)));
    }
    localities.first().is_some_and(is_local)
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
pub(crate) fn is_same(
    config: &ClusterConfig,
    host: &Host,
    place: &LocalityEndpoints,
    endpoint: &Endpoint,
    name: Option<&Arc<str>>,
) -> bool {
    let info = host.info();
    host.transport() == chosen_transport(config, place, endpoint)
        && (name.is_some() || host.destination().addresses == all_addresses(host.address(), endpoint))
        && info.locality == place.locality
        && info.metadata == endpoint.metadata
        && Some(&info.hostname) == endpoint.hostname.as_ref().or(name).or(Some(&Arc::default()))
}

/// Counts the subsets that an update made and removed: for each worker, as all of them have them.
pub(crate) fn show_subsets(info: &ClusterInfo, options: &SubsetOptions, (before, after): (&Hosts, &Hosts)) {
    let (before, after) = (before.subsets(options), after.subsets(options));
    let threads = u64::from(info.workers) + 1;
    let (created, removed) = (after.beyond(before) as u64 * threads, before.beyond(after) as u64 * threads);
    info.stats.lb_subsets_created().add(created);
    info.stats.lb_subsets_removed().add(removed);
    info.stats.lb_subsets_active().add(created);
    info.stats.lb_subsets_active().sub(removed);
}
