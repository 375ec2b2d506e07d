//! One cluster on the main thread. Owns its hosts and the tasks that keep them up to date.

use super::{AbortOnDrop, Shared, now};
use crate::config::{Discovery, LoadAssignment};
use crate::health::HealthFlags;
use crate::health_check::HealthChecks;
use crate::host::Host;
use crate::info::ClusterInfo;
use crate::membership::{LocalityMembers, priority_set, refreshed, static_members};
use crate::outlier::{Detector, EjectionType};
use crate::worker::{ClusterState, Hosts, HostsUpdate, Update};
use nuncio_lb::{Endpoint, Health, PrioritySet};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

/// A cluster, active or warming.
pub(crate) struct Cluster {
    pub(crate) info: Arc<ClusterInfo>,
    /// Since when it is being made ready.
    pub(crate) since: Instant,
    shared: Weak<Shared>,
    hosts: RefCell<Hosts>,
    /// What must happen before the cluster is ready.
    pending: Cell<usize>,
    is_ready: Cell<bool>,
    is_stale: Cell<bool>,
    failed: RefCell<Vec<Arc<Host>>>,
    parts: RefCell<Option<Box<Parts>>>,
    /// What EDS said last.
    assignment: RefCell<Option<Arc<LoadAssignment>>>,
    /// What the cluster depends on.
    kept: RefCell<Vec<Rc<dyn Any>>>,
}

/// What a plain static cluster does not have.
#[derive(Default)]
struct Parts {
    health_checks: Option<Rc<HealthChecks>>,
    detector: Option<Rc<Detector>>,
    tasks: Vec<AbortOnDrop>,
}

impl Cluster {
    pub(super) fn new(info: Arc<ClusterInfo>, shared: Weak<Shared>, since: Instant) -> Rc<Self> {
        Rc::new(Cluster {
            info,
            since,
            shared,
            hosts: RefCell::default(),
            pending: Cell::new(0),
            is_ready: Cell::new(false),
            is_stale: Cell::new(false),
            failed: RefCell::default(),
            parts: RefCell::default(),
            assignment: RefCell::default(),
            kept: RefCell::default(),
        })
    }

    /// Starts discovery, health checks and outlier detection. A cluster with nothing to wait for is active at once.
    pub(super) fn start(self: &Rc<Self>, shared: &Rc<Shared>) {
        let config = self.info.config.clone();
        self.wait_for_one();
        let health_checks = config.health_check.as_ref().map(|check| HealthChecks::new(self, shared, check));
        let detector = config.outlier_detection.as_ref().map(|outlier| Detector::new(self, shared, outlier));
        if health_checks.is_some() || detector.is_some() {
            let mut parts = self.parts.borrow_mut();
            let parts = parts.get_or_insert_default();
            parts.health_checks = health_checks;
            parts.detector = detector;
        }
        let task = match &config.discovery {
            Discovery::Static => {
                self.set_members(shared, static_members(&self.info, now()));
                None
            }
            Discovery::StrictDns(options) | Discovery::LogicalDns(options) => {
                self.set_members(shared, Vec::new());
                Some(crate::dns::discover(self, shared, options))
            }
            Discovery::Eds(_) => {
                self.set_members(shared, Vec::new());
                self.wait_for_one();
                None
            }
            Discovery::OriginalDst(_) => {
                self.set_members(shared, Vec::new());
                Some(crate::original_dst::clean_up(self))
            }
        };
        if let Some(task) = task {
            self.keep(task);
        }
        if !config.wait_for_warm_on_init {
            self.become_ready(shared);
        }
        self.arrived(shared);
    }

    /// Kept until the cluster is removed or replaced.
    pub(super) fn keep_until_stopped(&self, keep: Rc<dyn Any>) {
        self.kept.borrow_mut().push(keep);
    }

    pub(super) fn take_kept(&self) -> Vec<Rc<dyn Any>> {
        std::mem::take(&mut *self.kept.borrow_mut())
    }

    /// A task that ends with the cluster.
    pub(crate) fn keep(&self, task: AbortOnDrop) {
        self.parts.borrow_mut().get_or_insert_default().tasks.push(task);
    }

    /// Whether workers may have something to tell about the cluster.
    pub(super) fn has_events(&self) -> bool {
        let config = &self.info.config;
        config.health_check.is_some()
            || config.outlier_detection.is_some()
            || matches!(config.discovery, Discovery::OriginalDst(_))
    }

    /// Ends all tasks. Workers keep what they were told.
    pub(super) fn stop(&self) {
        if let Some(options) = &self.info.config.common_lb.subset {
            crate::membership::show_subsets(&self.info, options, (&self.hosts(), &Hosts::default()));
        }
        let parts = self.parts.borrow_mut().take();
        drop(parts);
        drop(self.take_kept());
        if let Some(shared) = self.shared() {
            shared.forget_events(self);
        }
    }

    /// The cluster is not ready before this has been answered by [`Cluster::arrived`].
    pub(crate) fn wait_for_one(&self) {
        self.pending.set(self.pending.get() + 1);
    }

    /// One of the things that the cluster waits for is there.
    pub(crate) fn arrived(self: &Rc<Self>, shared: &Shared) {
        self.pending.set(self.pending.get().saturating_sub(1));
        if self.pending.get() == 0 {
            self.become_ready(shared);
        }
    }

    fn become_ready(self: &Rc<Self>, shared: &Shared) {
        if !self.is_ready.replace(true) {
            if self.is_stale.replace(false) {
                let hosts = refreshed(&self.hosts.borrow());
                *self.hosts.borrow_mut() = Arc::new(hosts);
                self.show_membership();
            }
            shared.activate(self);
        }
    }

    /// What EDS said last; none if it said nothing yet.
    pub(crate) fn assignment(&self) -> Option<Arc<LoadAssignment>> {
        self.assignment.borrow().clone()
    }

    /// Takes note of what EDS says; returns what it said before.
    pub(super) fn replace_assignment(&self, assignment: &Arc<LoadAssignment>) -> Option<Arc<LoadAssignment>> {
        self.assignment.replace(Some(Arc::clone(assignment)))
    }

    pub(crate) fn state(&self) -> ClusterState {
        ClusterState { info: self.info.clone(), hosts: self.hosts.borrow().clone() }
    }

    pub(crate) fn hosts(&self) -> Hosts {
        self.hosts.borrow().clone()
    }

    pub(crate) fn owns(&self, host: &Arc<Host>) -> bool {
        self.hosts.borrow().hosts().any(|own| Arc::ptr_eq(own, host))
    }

    pub(crate) fn health_checks(&self) -> Option<Rc<HealthChecks>> {
        self.parts.borrow().as_ref().and_then(|parts| parts.health_checks.clone())
    }

    pub(crate) fn detector(&self) -> Option<Rc<Detector>> {
        self.parts.borrow().as_ref().and_then(|parts| parts.detector.clone())
    }

    /// Whether any host came or went. Replaces the hosts: finds out which are new and which are gone, checks the new ones, and tells the workers.
    pub(crate) fn set_members(self: &Rc<Self>, shared: &Shared, members: Vec<LocalityMembers>) -> bool {
        let assignment = self.assignment();
        let assignment = assignment.as_deref().unwrap_or(&self.info.config.load_assignment);
        self.info.set_drop_overload(assignment.drop_overload);
        let hosts = Arc::new(priority_set(&self.info, assignment, members));
        let before = self.hosts.replace(hosts.clone());
        let (added, removed) = difference(&before, &hosts);
        if !added.is_empty() || !removed.is_empty() {
            self.info.stats.update().membership_change().inc();
        }
        self.show_membership();
        if let Some(options) = &self.info.config.common_lb.subset {
            crate::membership::show_subsets(&self.info, options, (&before, &hosts));
        }
        if let Some(detector) = self.detector() {
            detector.forget(&removed);
        }
        if let Some(health_checks) = self.health_checks() {
            health_checks.update(self, &added, &removed);
        }
        let changed = !added.is_empty() || !removed.is_empty();
        self.tell_workers(shared, removed);
        changed
    }

    fn tell_workers(&self, shared: &Shared, removed: Vec<Arc<Host>>) {
        let failed = std::mem::take(&mut *self.failed.borrow_mut());
        if !self.is_ready.get() {
            return;
        }
        let update = HostsUpdate { cluster: self.info.clone(), hosts: self.hosts(), removed, failed };
        let update = Arc::new(update);
        shared.stats().cluster_updated().inc();
        shared.broadcast(|| Update::Hosts(update.clone()));
    }

    fn show_membership(&self) {
        let stats = self.info.stats.update();
        let hosts = self.hosts.borrow();
        let sum = |count: fn(&nuncio_lb::HostSet<Arc<Host>>) -> usize| {
            hosts.sets().iter().map(|set| count(set) as u64).sum::<u64>()
        };
        stats.warming_state().set(0);
        stats.membership_total().set(sum(|set| set.hosts().len()));
        stats.membership_healthy().set(sum(|set| set.healthy_count()));
        stats.membership_degraded().set(sum(|set| set.degraded_count()));
        stats.membership_excluded().set(sum(|set| set.excluded_count()));
    }

    /// The health flags of a host changed.
    pub(crate) fn health_changed(self: &Rc<Self>, shared: &Shared, host: &Arc<Host>) {
        if host.health() == Health::Unhealthy {
            self.failed.borrow_mut().push(host.clone());
        }
        if !self.is_stale.replace(true) {
            shared.refresh_later(self);
        }
    }

    pub(super) fn refresh_if_stale(self: &Rc<Self>, shared: &Shared) {
        if !self.is_stale.replace(false) {
            return;
        }
        // A host that discovery dropped stayed because it was healthy; now it may go.
        let gone = |host: &Arc<Host>| {
            let failed = HealthFlags::FAILED_ACTIVE_HC.or(HealthFlags::FAILED_EDS_HEALTH);
            host.health_flags().has(HealthFlags::PENDING_DYNAMIC_REMOVAL) && host.health_flags().has(failed)
        };
        let hosts = self.hosts();
        if hosts.hosts().any(gone) {
            self.set_members(shared, members_without(&hosts, gone));
            return;
        }
        *self.hosts.borrow_mut() = Arc::new(refreshed(&hosts));
        self.show_membership();
        self.tell_workers(shared, Vec::new());
    }

    pub(super) fn outlier_detected(self: &Rc<Self>, shared: &Shared, host: &Arc<Host>, what: EjectionType) {
        if self.owns(host)
            && let Some(detector) = self.detector()
        {
            detector.consecutive_failures(self, shared, host, what);
        }
    }

    /// Takes up the hosts that workers made for original destinations.
    pub(crate) fn take_up_original_dst(self: &Rc<Self>, shared: &Shared) {
        let hosts = self.info.original_dst_hosts().map(|hosts| hosts.values().cloned().collect());
        let mut hosts: Vec<Arc<Host>> = hosts.unwrap_or_default();
        hosts.sort_by_key(|host| host.address().socket());
        self.set_members(shared, vec![LocalityMembers { priority: 0, weight: 0, hosts }]);
    }

    pub(crate) fn shared(&self) -> Option<Rc<Shared>> {
        self.shared.upgrade()
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cluster").field(self.info.name()).finish()
    }
}

/// Hosts that only the second set has, and hosts that only the first one has.
fn difference(before: &PrioritySet<Arc<Host>>, after: &PrioritySet<Arc<Host>>) -> (Vec<Arc<Host>>, Vec<Arc<Host>>) {
    let pointers = |set: &PrioritySet<Arc<Host>>| set.hosts().map(Arc::as_ptr).collect::<HashSet<_>>();
    let (old, new) = (pointers(before), pointers(after));
    let without = |set: &PrioritySet<Arc<Host>>, other: &HashSet<*const Host>| {
        set.hosts().filter(|host| !other.contains(&Arc::as_ptr(host))).cloned().collect()
    };
    (without(after, &old), without(before, &new))
}

/// The members of a set without some hosts.
fn members_without(hosts: &PrioritySet<Arc<Host>>, gone: impl Fn(&Arc<Host>) -> bool) -> Vec<LocalityMembers> {
    let mut members = Vec::new();
    for (priority, set) in hosts.sets().iter().enumerate() {
        for locality in set.grouped() {
            let hosts = locality.hosts.into_iter().filter(|host| !gone(host)).collect();
            members.push(LocalityMembers { priority: priority as u32, weight: locality.weight, hosts });
        }
    }
    members
}
