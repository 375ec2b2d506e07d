//! One cluster on one worker: which host the next request goes to.

use super::original_dst::OriginalDstHosts;
use super::overrides::{NamedHosts, named_host};
use super::{ClusterState, Hosts, HostsUpdate, LocalCluster};
use crate::host::Host;
use crate::info::ClusterInfo;
use nuncio_headers::HeaderMap;
use nuncio_lb::{Balancer, Choice, Priorities, PriorityLoad, SubsetBalancer, SubsetCounts, ZoneFinding, ZoneRouted};
use nuncio_stream_info::{Metadata, Struct};
use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// What the choice of a host depends on.
pub struct LbContext<'a> {
    /// The present moment.
    pub now: Instant,
    /// The worker's random numbers.
    pub rng: &'a mut fastrand::Rng,
    /// What the route's hash policy made of the request; at random if there is none.
    pub hash: Option<u64>,
    /// The shares of the priorities, in place of the cluster's (`retry_priority`).
    pub priority_load: Option<&'a PriorityLoad>,
    /// True for a host that should not be used (`retry_host_predicate`).
    pub should_skip: Option<&'a mut dyn FnMut(&Host) -> bool>,
    /// How often another host is looked for when one is skipped (`host_selection_retry_max_attempts`).
    pub retries: u32,
    /// Where the client wanted to go, for `ORIGINAL_DST`.
    pub original_dst: Option<SocketAddr>,
    /// Request headers, for `ORIGINAL_DST` with `use_http_header`.
    pub headers: Option<&'a HeaderMap>,
    /// The labels that its host should have: `metadata_match` of the route, and dynamic metadata.
    pub labels: Option<&'a Struct>,
    /// Dynamic metadata of the request.
    pub metadata: Option<&'a Metadata>,
    /// The hosts that the request named, for `override_host`; kept from one try to the next.
    pub named_hosts: Option<&'a mut NamedHosts>,
}

impl<'a> LbContext<'a> {
    /// A context without wishes.
    pub fn new(now: Instant, rng: &'a mut fastrand::Rng) -> Self {
        LbContext {
            now,
            rng,
            hash: None,
            priority_load: None,
            should_skip: None,
            retries: 0,
            original_dst: None,
            headers: None,
            labels: None,
            metadata: None,
            named_hosts: None,
        }
    }
}

/// Told of what becomes of hosts, so that connections to them can be closed.
pub trait HostObserver {
    /// Hosts left the cluster: connections drain.
    fn hosts_removed(&self, hosts: &[Arc<Host>]);
    /// Hosts failed a health check or were ejected: connections drain. With `close_connections_on_host_health_failure` those
    /// in use are to be closed too.
    fn hosts_failed(&self, hosts: &[Arc<Host>]);
    /// The host set changed and `close_connections_on_host_set_change` is set: all connections drain.
    fn host_set_changed(&self);
    /// The cluster was removed or replaced: all connections drain.
    fn cluster_retired(&self);
}

/// A cluster, on one worker.
pub struct WorkerCluster {
    /// What all workers share.
    pub info: Arc<ClusterInfo>,
    balancer: RefCell<Balancer<Arc<Host>>>,
    /// The balancers over its subsets, if it has any.
    subsets: Option<RefCell<SubsetBalancer<Arc<Host>>>>,
    /// The proxies themselves, if the cluster's load may be routed by zone.
    local: Option<Rc<LocalCluster>>,
    /// Hosts made for original destinations; `None` for any other cluster.
    original_dst: Option<OriginalDstHosts>,
    observers: RefCell<Vec<Rc<dyn HostObserver>>>,
    /// The worker's connections to the cluster's hosts.
    pub pools: Rc<crate::pool::ClusterPools>,
}

impl WorkerCluster {
    pub(crate) fn new(state: ClusterState, local: Option<Rc<LocalCluster>>) -> Self {
        let config = &state.info.config;
        let subsets = config.common_lb.subset.clone().map(|subset| {
            let options = config.common_lb.options.clone();
            RefCell::new(SubsetBalancer::new(subset, config.lb_policy.clone(), options, state.hosts.clone()))
        });
        let balancer = Balancer::new(config.lb_policy.clone(), config.common_lb.options.clone(), state.hosts.clone());
        let original_dst = OriginalDstHosts::new(&state.info);
        let pools = Rc::new(crate::pool::ClusterPools::new(&state.info));
        let observer: Rc<dyn HostObserver> = pools.clone();
        WorkerCluster {
            info: state.info,
            balancer: RefCell::new(balancer),
            subsets,
            local,
            original_dst,
            observers: RefCell::new(vec![observer]),
            pools,
        }
    }

    /// Says who wants to know of hosts that leave, beside the pools.
    pub fn observe(&self, observer: Rc<dyn HostObserver>) {
        self.observers.borrow_mut().push(observer);
    }

    /// Observers run without a borrow held: they may come back here.
    fn each_observer(&self, tell: impl Fn(&dyn HostObserver)) {
        let observers = self.observers.borrow().clone();
        observers.iter().for_each(|observer| tell(&**observer));
    }

    /// The host for the next request; `None` if there is none that may be used (503 `UH`).
    #[inline]
    pub fn choose_host(&self, cx: &mut LbContext<'_>) -> Option<Arc<Host>> {
        if let Some(hosts) = &self.original_dst {
            return hosts.choose(&self.info, cx);
        }
        let mut balancer = self.balancer.borrow_mut();
        if let Some(options) = &self.info.config.common_lb.override_host
            && let Some(host) = named_host(options, balancer.hosts(), cx)
        {
            return Some(host);
        }
        if let Some(local) = &self.local {
            self.follow_local(&mut balancer, local);
        }
        let mut choice = Choice::new(cx.now, cx.rng);
        choice.hash = cx.hash;
        choice.priority_load = cx.priority_load;
        if self.info.config.common_lb.options.hash_balance_factor > 0 {
            choice.active = self.info.stats.upstream_rq_active().value();
        }
        let labels = cx.labels;
        let mut choose = |choice: &mut Choice<'_, Arc<Host>>| match &self.subsets {
            None => balancer.choose(choice).cloned(),
            Some(subsets) => self.choose_in_subset(&mut subsets.borrow_mut(), labels, choice),
        };
        let (host, panic, zone) = match &mut cx.should_skip {
            None => (choose(&mut choice), choice.panic, choice.zone),
            Some(skip) => {
                let mut skip = |host: &Arc<Host>| skip(host);
                let mut choice = Choice { should_skip: Some(&mut skip), retries: cx.retries, ..choice };
                (choose(&mut choice), choice.panic, choice.zone)
            }
        };
        if panic {
            self.info.stats.lb_healthy_panic().inc();
        }
        if let Some(zone) = zone {
            self.count_zone(zone);
        }
        host
    }

    fn choose_in_subset(
        &self,
        subsets: &mut SubsetBalancer<Arc<Host>>,
        labels: Option<&Struct>,
        choice: &mut Choice<'_, Arc<Host>>,
    ) -> Option<Arc<Host>> {
        if let Some(local) = &self.local
            && !subsets.local().is_some_and(|known| Arc::ptr_eq(known, &local.hosts()))
        {
            subsets.set_local(local.hosts().clone());
        }
        let mut counts = SubsetCounts::default();
        let host = subsets.choose(labels, choice, &mut counts);
        let stats = &self.info.stats;
        stats.lb_subsets_selected().add(counts.selected.into());
        stats.lb_subsets_fallback().add(counts.fallback.into());
        stats.lb_subsets_fallback_panic().add(counts.fallback_panic.into());
        host
    }

    /// Takes up a change of the local cluster, and counts how zone-aware routing came out.
    #[inline]
    fn follow_local(&self, balancer: &mut Balancer<Arc<Host>>, local: &LocalCluster) {
        if !balancer.local().is_some_and(|known| Arc::ptr_eq(known, &local.hosts())) {
            balancer.set_local(local.hosts().clone());
        }
        if let Some(finding) = balancer.take_zone_finding() {
            let stats = &self.info.stats;
            stats.lb_recalculate_zone_structures().inc();
            match finding {
                ZoneFinding::Nothing => {}
                ZoneFinding::LocalClusterNotOk => stats.lb_local_cluster_not_ok().inc(),
                ZoneFinding::ClusterTooSmall => stats.lb_zone_cluster_too_small().inc(),
            }
        }
    }

    fn count_zone(&self, routed: ZoneRouted) {
        let stats = &self.info.stats;
        match routed {
            ZoneRouted::Direct => stats.lb_zone_routing_all_directly().inc(),
            ZoneRouted::Sampled => stats.lb_zone_routing_sampled().inc(),
            ZoneRouted::CrossZone => stats.lb_zone_routing_cross_zone().inc(),
            ZoneRouted::NoCapacityLeft => {
                stats.lb_zone_routing_cross_zone().inc();
                stats.lb_zone_no_capacity_left().inc();
            }
            ZoneRouted::LocalClusterNotOk => stats.lb_local_cluster_not_ok().inc(),
        }
    }

    /// The hosts that are chosen from.
    pub fn hosts(&self) -> Hosts {
        self.balancer.borrow().hosts().clone()
    }

    /// Looks at the health and load of the priorities, as a retry priority plugin does.
    pub fn with_priorities<T>(&self, look: impl FnOnce(&Priorities) -> T) -> T {
        look(self.balancer.borrow().priorities())
    }

    pub(super) fn apply(&self, update: &HostsUpdate) {
        if let Some(subsets) = &self.subsets {
            subsets.borrow_mut().update(update.hosts.clone());
        }
        self.balancer.borrow_mut().update(update.hosts.clone());
        if let Some(hosts) = &self.original_dst {
            hosts.forget(&update.removed);
        }
        if !update.failed.is_empty() {
            self.each_observer(|observer| observer.hosts_failed(&update.failed));
        }
        if !update.removed.is_empty() {
            self.each_observer(|observer| observer.hosts_removed(&update.removed));
        }
        if self.info.config.common_lb.close_connections_on_host_set_change {
            self.each_observer(|observer| observer.host_set_changed());
        }
    }

    pub(super) fn retire(&self) {
        self.each_observer(|observer| observer.cluster_retired());
    }
}

impl fmt::Debug for WorkerCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WorkerCluster").field(self.info.name()).finish()
    }
}
