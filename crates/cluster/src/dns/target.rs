//! The names of one cluster, and the hosts that they lead to.

use super::resolver::{Answer, Resolver};
use crate::config::{BackOff, Discovery, DnsOptions, Endpoint, EndpointAddress};
use crate::health::HealthFlags;
use crate::host::{Destination, Host};
use crate::manager::{AbortOnDrop, Cluster, Shared, now};
use crate::membership::{HostMaker, LocalityMembers, Resolved, by_address, is_same};
use nuncio_stream_info::{Address, HostInfo};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

/// The discovery of one cluster.
struct Names {
    cluster: Weak<Cluster>,
    options: DnsOptions,
    resolver: Rc<Resolver>,
    is_logical: bool,
    /// The last good answer for each name, in the order of the endpoints.
    targets: Vec<Target>,
    /// The only host of a logical cluster.
    logical: RefCell<Option<Arc<Host>>>,
}

struct Target {
    host: Arc<str>,
    answer: RefCell<Vec<IpAddr>>,
    was_asked: Cell<bool>,
}

/// Starts to resolve the names of a cluster, and keeps doing so. The cluster waits for the first answer of each name, or
/// the failure to get one.
pub(crate) fn discover(cluster: &Rc<Cluster>, shared: &Rc<Shared>, options: &DnsOptions) -> AbortOnDrop {
    let config = &cluster.info.config;
    let endpoints = config.load_assignment.localities.iter().flat_map(|place| &place.endpoints);
    let names = endpoints.filter_map(|endpoint| match &endpoint.address {
        EndpointAddress::Name { host, .. } => Some(host.clone()),
        EndpointAddress::Resolved(_) => None,
    });
    let targets = names.map(|host| Target { host, answer: RefCell::default(), was_asked: Cell::new(false) });
    let names = Rc::new(Names {
        cluster: Rc::downgrade(cluster),
        resolver: shared.dns.get(options.resolver.as_ref()),
        options: options.clone(),
        is_logical: matches!(config.discovery, Discovery::LogicalDns(_)),
        targets: targets.collect(),
        logical: RefCell::default(),
    });
    if names.targets.is_empty() {
        names.update(cluster, shared);
    }
    names.targets.iter().for_each(|_| cluster.wait_for_one());
    // One task resolves all names of a cluster; most clusters have one.
    let task = tokio::task::spawn_local(async move {
        let mut tasks = tokio::task::JoinSet::new();
        for index in 0..names.targets.len() {
            tasks.spawn_local(follow(names.clone(), index));
        }
        while tasks.join_next().await.is_some() {}
    });
    AbortOnDrop(task.abort_handle())
}

/// Resolves one name again and again, until the cluster is gone.
async fn follow(names: Rc<Names>, index: usize) {
    let Some(target) = names.targets.get(index) else { return };
    let mut failures = 0;
    loop {
        let Some(stats) = names.cluster.upgrade().map(|cluster| cluster.info.stats.clone()) else { return };
        stats.update().update_attempt().inc();
        let answer = names.resolver.lookup(&target.host, names.options.lookup_family).await;
        let Some(cluster) = names.cluster.upgrade() else { return };
        let Some(shared) = cluster.shared() else { return };
        let wait = match answer {
            Ok(answer) => {
                failures = 0;
                stats.update().update_success().inc();
                names.take(&cluster, &shared, target, &answer);
                names.refresh_rate(&answer, &mut shared.rng.borrow_mut())
            }
            Err(error) => {
                failures += 1;
                stats.update().update_failure().inc();
                tracing::debug!("cluster {}: {}: {error}", cluster.info.name(), target.host);
                names.failure_refresh_rate(failures, &mut shared.rng.borrow_mut())
            }
        };
        if !target.was_asked.replace(true) {
            cluster.arrived(&shared);
        }
        drop((cluster, shared));
        tokio::time::sleep(wait).await;
    }
}

impl Names {
    fn take(&self, cluster: &Rc<Cluster>, shared: &Shared, target: &Target, answer: &Answer) {
        // A name whose answer is empty for sure has no hosts; a logical host keeps its address even so.
        if self.is_logical && answer.addresses.is_empty() {
            return;
        }
        let is_new = !target.was_asked.get();
        let is_changed = {
            let before = target.answer.borrow();
            let set = |addresses: &[IpAddr]| addresses.iter().copied().collect::<HashSet<_>>();
            if self.is_logical { *before != answer.addresses } else { set(&before) != set(&answer.addresses) }
        };
        if is_changed || is_new {
            target.answer.borrow_mut().clone_from(&answer.addresses);
            self.update(cluster, shared);
        } else {
            cluster.info.stats.update().update_no_rebuild().inc();
        }
    }

    fn refresh_rate(&self, answer: &Answer, rng: &mut fastrand::Rng) -> Duration {
        let ttl = answer.ttl.filter(|ttl| self.options.respect_ttl && !ttl.is_zero());
        let rate = ttl.unwrap_or(self.options.refresh_rate);
        let jitter = self.options.jitter.as_millis().min(u128::from(u32::MAX)) as u64;
        let jitter = if jitter > 0 { rng.u64(..jitter) } else { 0 };
        (rate + Duration::from_millis(jitter)).max(Duration::from_millis(1))
    }

    fn failure_refresh_rate(&self, failures: u32, rng: &mut fastrand::Rng) -> Duration {
        match &self.options.failure_refresh_rate {
            Some(back_off) => back_off.nth(failures, rng),
            None => self.options.refresh_rate.max(Duration::from_millis(1)),
        }
    }

    /// Makes the cluster's hosts what the answers say.
    fn update(&self, cluster: &Rc<Cluster>, shared: &Shared) {
        if self.is_logical {
            return self.update_logical(cluster, shared);
        }
        let before = cluster.hosts();
        let mut known = by_address(&before);
        let mut seen = HashSet::new();
        let maker = HostMaker::new(&cluster.info, now(), false);
        let mut answers = self.targets.iter();
        let mut all = Vec::new();
        for place in &cluster.info.config.load_assignment.localities {
            let mut hosts = Vec::new();
            for endpoint in &place.endpoints {
                let (name, addresses) = addresses(endpoint, &mut answers);
                for address in addresses {
                    let key = (place.priority, address);
                    if !seen.insert(key.clone()) {
                        continue;
                    }
                    let host = match known.remove(&key) {
                        Some(host) if is_same(&cluster.info.config, &host, place, endpoint, name) => {
                            host.clear_health(HealthFlags::PENDING_DYNAMIC_REMOVAL, now());
                            host
                        }
                        _ => {
                            let resolved = Resolved { address: key.1, addresses: Arc::default(), name };
                            maker.make(place, endpoint, resolved)
                        }
                    };
                    hosts.push(host);
                }
            }
            all.push(LocalityMembers { priority: place.priority, weight: place.weight, hosts });
        }
        keep_healthy(cluster, &mut all, known.into_values());
        cluster.set_members(shared, all);
    }

    /// A logical cluster has one host, which goes where the name leads.
    fn update_logical(&self, cluster: &Rc<Cluster>, shared: &Shared) {
        let localities = &cluster.info.config.load_assignment.localities;
        let first = localities.iter().find_map(|place| Some((place, place.endpoints.first()?)));
        let Some((place, endpoint)) = first else { return };
        let (name, addresses) = addresses(endpoint, &mut self.targets.iter());
        let Some(first) = addresses.first().cloned() else { return };
        let addresses: Arc<[Address]> = if addresses.len() > 1 { addresses.into() } else { Arc::default() };
        let known = self.logical.borrow().clone();
        match known {
            Some(host) => {
                let info = HostInfo { address: first, ..(**host.info()).clone() };
                host.move_to(Destination { info: Arc::new(info), addresses });
            }
            None => {
                let resolved = Resolved { address: first, addresses, name };
                let host = HostMaker::new(&cluster.info, now(), true).make(place, endpoint, resolved);
                *self.logical.borrow_mut() = Some(host.clone());
                let members = LocalityMembers { priority: place.priority, weight: place.weight, hosts: vec![host] };
                cluster.set_members(shared, vec![members]);
            }
        }
    }
}

/// The name and the addresses of an endpoint. Takes the next target if it has a name.
fn addresses<'a>(
    endpoint: &'a Endpoint,
    targets: &mut std::slice::Iter<'_, Target>,
) -> (Option<&'a Arc<str>>, Vec<Address>) {
    match &endpoint.address {
        EndpointAddress::Resolved(address) => (None, vec![address.clone()]),
        EndpointAddress::Name { host, port } => {
            let answer = targets.next().map(|target| target.answer.borrow().clone()).unwrap_or_default();
            let address = |ip| Address::Ip(SocketAddr::new(ip, *port));
            (Some(host), answer.into_iter().map(address).collect())
        }
    }
}

/// Hosts that an answer dropped stay as long as health checks pass, unless `ignore_health_on_host_removal`.
fn keep_healthy(cluster: &Cluster, members: &mut [LocalityMembers], dropped: impl Iterator<Item = Arc<Host>>) {
    let config = &cluster.info.config;
    if config.health_check.is_none() || config.ignore_health_on_host_removal {
        return;
    }
    let failed = HealthFlags::FAILED_ACTIVE_HC.or(HealthFlags::FAILED_EDS_HEALTH);
    for host in dropped.filter(|host| !host.health_flags().has(failed)) {
        let home = |members: &&mut LocalityMembers| {
            let locality = members.hosts.first().map(|other| &other.info().locality);
            members.priority == host.priority() && locality.is_none_or(|locality| *locality == host.info().locality)
        };
        if let Some(home) = members.iter_mut().find(home) {
            host.set_health(HealthFlags::PENDING_DYNAMIC_REMOVAL);
            home.hosts.push(host);
        }
    }
}

impl BackOff {
    /// The wait after the `n`th failure, from 1: at random within the exponential bound.
    fn nth(&self, n: u32, rng: &mut fastrand::Rng) -> Duration {
        let base = (self.base_interval.as_millis().max(1)).min(u128::from(u32::MAX)) as u64;
        let max = (self.max_interval.as_millis()).min(u128::from(u64::MAX / 4)) as u64;
        let bound =
            base.saturating_mul(1u64.checked_shl(n.min(32)).unwrap_or(u64::MAX).saturating_sub(1)).min(max.max(base));
        Duration::from_millis(rng.u64(..bound.max(1)).max(1))
    }
}
