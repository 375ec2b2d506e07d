//! The cluster manager: which clusters there are. Lives on the main thread; everything it starts is a local task there.

mod cluster;
mod endpoints;
#[cfg(test)]
mod tests;

pub(crate) use cluster::Cluster;
pub(crate) use endpoints::flag_of;

use crate::config::{ClusterConfig, Discovery, LoadAssignment, ResolverOptions};
use crate::dns::SystemFiles;
use crate::event::{Event, Events};
use crate::info::{ClusterInfo, ClusterStats};
use crate::worker::{Update, WorkerSeed};
use nuncio_stats::Store;
use nuncio_stats::names::ClusterManagerStats;
use nuncio_stream_info::Locality;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

/// What all clusters share.
#[derive(Debug, Clone)]
pub struct ClusterManagerOptions {
    /// Worker ids are 1 to this.
    pub workers: u32,
    /// Seed of jitter and of enforcement percentages.
    pub seed: u64,
    /// Name servers of clusters that don't name their own; the default is those of [`SystemFiles::resolv_conf`].
    pub resolver: Arc<ResolverOptions>,
    /// The files that names are resolved by.
    pub files: SystemFiles,
    /// `local_cluster_name`: the cluster of the proxies themselves, for zone-aware routing.
    pub local_cluster: Option<Arc<str>>,
    /// Where this proxy is (`node.locality`).
    pub locality: Option<Arc<Locality>>,
}

impl Default for ClusterManagerOptions {
    fn default() -> Self {
        ClusterManagerOptions {
            workers: 1,
            seed: 0,
            resolver: Arc::default(),
            files: SystemFiles::default(),
            local_cluster: None,
            locality: None,
        }
    }
}

/// All clusters, on the main thread. Clones share them.
#[derive(Clone)]
pub struct ClusterManager {
    shared: Rc<Shared>,
    /// Ends the task with the last clone.
    _events: Rc<AbortOnDrop>,
    _refresher: Rc<AbortOnDrop>,
}

/// The part that clusters and their tasks know.
pub(crate) struct Shared {
    pub(crate) store: Arc<Store>,
    pub(crate) options: ClusterManagerOptions,
    pub(crate) rng: RefCell<fastrand::Rng>,
    pub(crate) dns: crate::dns::Resolvers,
    pub(crate) event_logs: crate::event_log::EventLogs,
    stats: ClusterManagerStats,
    active: RefCell<HashMap<Arc<str>, Rc<Cluster>>>,
    /// Clusters that are not ready yet. One of the same name may be active until then.
    warming: RefCell<HashMap<Arc<str>, Rc<Cluster>>>,
    /// Clusters whose workers may send events, by serial number.
    by_serial: RefCell<HashMap<u64, Weak<Cluster>>>,
    workers: RefCell<Vec<UnboundedSender<Update>>>,
    events: UnboundedSender<(u64, Event)>,
    serial: Cell<u64>,
    changed: Notify,
    /// Clusters with hosts whose health changed.
    stale: RefCell<Vec<Weak<Cluster>>>,
    /// Clusters of the configuration's own.
    static_names: RefCell<HashSet<Arc<str>>>,
    refresh: Notify,
}

impl Shared {
    /// Whether a cluster is one of the configuration's own.
    pub(crate) fn is_static(&self, name: &str) -> bool {
        self.static_names.borrow().contains(name)
    }
}

/// Ends a task when it goes out of scope.
#[derive(Debug)]
pub(crate) struct AbortOnDrop(pub(crate) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ClusterManager {
    /// A manager without clusters. Call it within the main thread's `LocalSet`: it and its clusters start local tasks.
    pub fn new(store: Arc<Store>, options: ClusterManagerOptions) -> Self {
        let (sender, receiver) = unbounded_channel();
        let shared = Rc::new(Shared {
            stats: ClusterManagerStats::register(&store.scope("cluster_manager", &[])),
            rng: RefCell::new(fastrand::Rng::with_seed(options.seed)),
            dns: crate::dns::Resolvers::new(options.resolver.clone(), options.files.clone()),
            event_logs: crate::event_log::EventLogs::default(),
            store,
            options,
            active: RefCell::default(),
            warming: RefCell::default(),
            by_serial: RefCell::default(),
            workers: RefCell::default(),
            events: sender,
            serial: Cell::new(0),
            changed: Notify::new(),
            stale: RefCell::default(),
            static_names: RefCell::default(),
            refresh: Notify::new(),
        });
        let events = tokio::task::spawn_local(follow_events(Rc::downgrade(&shared), receiver)).abort_handle();
        let refresher = tokio::task::spawn_local(refresh_stale(Rc::downgrade(&shared))).abort_handle();
        ClusterManager { shared, _events: Rc::new(AbortOnDrop(events)), _refresher: Rc::new(AbortOnDrop(refresher)) }
    }

    /// Makes these the clusters of the configuration's own: new ones are added, missing ones removed, changed ones replaced once the new one is
    /// ready. An equal configuration changes nothing. Of two with the same name the last counts.
    pub fn set_clusters(&self, configs: Vec<Arc<ClusterConfig>>) {
        self.retain_static(configs.iter().map(|config| config.name.clone()).collect());
        for config in configs {
            self.set_cluster(config);
        }
    }

    /// Says which clusters are the configuration's own: those that were and are not among them are removed.
    pub fn retain_static(&self, wanted: HashSet<Arc<str>>) {
        let known = |map: &RefCell<HashMap<Arc<str>, Rc<Cluster>>>| map.borrow().keys().cloned().collect::<Vec<_>>();
        let before = self.shared.static_names.replace(wanted.clone());
        for name in known(&self.shared.active).into_iter().chain(known(&self.shared.warming)) {
            if !wanted.contains(&name) && before.contains(&name) {
                self.remove(&name);
            }
        }
    }

    /// Whether a cluster is one of [`ClusterManager::set_clusters`].
    pub fn is_static(&self, name: &str) -> bool {
        self.shared.is_static(name)
    }

    /// Keeps something as long as the newest cluster of this name is there: what it depends on.
    pub fn keep_with(&self, name: &str, keep: Rc<dyn Any>) {
        if let Some(cluster) = self.newest(name) {
            cluster.keep_until_stopped(keep);
        }
    }

    /// Takes over what is kept with a cluster that is not ready, so that its successor can go on with the same.
    pub fn take_kept(&self, name: &str) -> Vec<Rc<dyn Any>> {
        let warming = self.shared.warming.borrow().get(name).cloned();
        warming.map(|cluster| cluster.take_kept()).unwrap_or_default()
    }

    /// The statistics of a cluster, ready or not.
    pub fn stats_of(&self, name: &str) -> Option<ClusterStats> {
        self.newest(name).map(|cluster| cluster.info.stats.clone())
    }

    fn newest(&self, name: &str) -> Option<Rc<Cluster>> {
        let warming = self.shared.warming.borrow().get(name).cloned();
        warming.or_else(|| self.shared.active.borrow().get(name).cloned())
    }

    /// Adds or replaces one cluster.
    pub fn set_cluster(&self, config: Arc<ClusterConfig>) {
        drop(self.begin_cluster(config));
    }

    /// The same for a cluster that has to wait for more than the manager knows of: it does not become ready before what is
    /// returned is dropped. None if nothing changes.
    pub fn begin_cluster(&self, config: Arc<ClusterConfig>) -> Option<ClusterWait> {
        let shared = &self.shared;
        let before = self.newest(&config.name);
        if before.as_ref().is_some_and(|before| *before.info.config == *config) {
            return None;
        }
        match &before {
            Some(_) => shared.stats.cluster_modified().inc(),
            None => shared.stats.cluster_added().inc(),
        }
        let stats =
            before.filter(|before| before.info.config.observability_name() == config.observability_name()).map_or_else(
                || ClusterStats::new(&shared.store, config.observability_name()),
                |before| before.info.stats.clone(),
            );
        shared.serial.set(shared.serial.get() + 1);
        let events = Events { cluster: shared.serial.get(), sender: shared.events.clone() };
        let info = Arc::new(ClusterInfo::new(config, stats, events, &shared.options));
        let cluster = Cluster::new(info, Rc::downgrade(shared), now());
        let unfinished = shared.warming.borrow_mut().insert(cluster.info.name().clone(), cluster.clone());
        if let Some(unfinished) = unfinished {
            unfinished.stop();
        }
        if cluster.has_events() {
            shared.by_serial.borrow_mut().insert(shared.serial.get(), Rc::downgrade(&cluster));
        }
        cluster.wait_for_one();
        let wait = ClusterWait(Rc::downgrade(&cluster));
        cluster.start(shared);
        shared.show_counts();
        Some(wait)
    }

    /// What EDS says of a cluster, for the one that serves and the one that is being made ready.
    pub fn set_endpoints(&self, cluster: &str, assignment: &Arc<LoadAssignment>) {
        for cluster in self.both(cluster) {
            cluster.set_assignment(&self.shared, assignment);
        }
    }

    /// What EDS said before of the service of a cluster that does not know yet.
    pub fn offer_endpoints(&self, cluster: &str, assignment: &Arc<LoadAssignment>) {
        for cluster in self.both(cluster) {
            if cluster.assignment().is_none() {
                cluster.info.stats.update().assignment_use_cached().inc();
                cluster.set_assignment(&self.shared, assignment);
            }
        }
    }

    /// EDS did not answer in time, or has no such resource: clusters that wait for it go on without endpoints.
    pub fn go_without_endpoints(&self, cluster: &str) {
        for cluster in self.both(cluster) {
            cluster.go_without_assignment(&self.shared);
        }
    }

    /// The EDS clusters of a name: the one that is being made ready, and the one that serves.
    fn both(&self, name: &str) -> Vec<Rc<Cluster>> {
        let shared = &self.shared;
        let found = [&shared.warming, &shared.active].map(|map| map.borrow().get(name).cloned());
        let is_eds = |cluster: &Rc<Cluster>| matches!(cluster.info.config.discovery, Discovery::Eds(_));
        found.into_iter().flatten().filter(is_eds).collect()
    }

    /// Removes a cluster; whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        let shared = &self.shared;
        let warming = shared.warming.borrow_mut().remove(name);
        let active = shared.active.borrow_mut().remove(name);
        warming.iter().chain(&active).for_each(|cluster| cluster.stop());
        let warming = warming.is_some();
        if let Some(cluster) = &active {
            shared.broadcast(|| Update::Remove(cluster.info.name().clone()));
        }
        if warming || active.is_some() {
            shared.stats.cluster_removed().inc();
        }
        shared.show_counts();
        shared.changed.notify_waiters();
        warming || active.is_some()
    }

    /// What a worker starts from. From here on it is told of every change.
    pub fn worker(&self) -> WorkerSeed {
        let (sender, updates) = unbounded_channel();
        self.shared.workers.borrow_mut().push(sender);
        let clusters = self.shared.active.borrow().values().map(|cluster| cluster.state()).collect();
        WorkerSeed { clusters, updates, local_cluster: self.shared.options.local_cluster.clone() }
    }

    /// Returns when every cluster is ready: it has had its first DNS answer, or failed to get one, and the first health
    /// check of each host. Cancel safe.
    pub async fn initialized(&self) {
        loop {
            let changed = self.shared.changed.notified();
            if self.shared.warming.borrow().is_empty() {
                return;
            }
            changed.await;
        }
    }

    /// Returns when no cluster of this name is being made ready. Cancel safe.
    pub async fn settled(&self, name: &str) {
        loop {
            let changed = self.shared.changed.notified();
            if !self.shared.warming.borrow().contains_key(name) {
                return;
            }
            changed.await;
        }
    }

    /// The same for clusters that don't wait for discovery over xDS: they must be there before it can begin.
    pub async fn primary_initialized(&self) {
        let is_primary = |cluster: &Rc<Cluster>| !matches!(cluster.info.config.discovery, Discovery::Eds(_));
        loop {
            let changed = self.shared.changed.notified();
            if !self.shared.warming.borrow().values().any(is_primary) {
                return;
            }
            changed.await;
        }
    }

    /// Clusters that are not ready, and since when they are waited for (`/init_dump`).
    pub fn pending(&self) -> Vec<(Arc<str>, Instant)> {
        let warming = self.shared.warming.borrow();
        warming.values().map(|cluster| (cluster.info.name().clone(), cluster.since)).collect()
    }

    /// Whether the newest cluster of this name is not ready yet.
    pub fn is_warming(&self, name: &str) -> bool {
        self.shared.warming.borrow().contains_key(name)
    }

    /// Returns when every worker has done what it was told so far. Workers that ended don't count.
    pub async fn synced(&self) {
        let workers = self.shared.workers.borrow().clone();
        for worker in workers {
            let (sender, done) = oneshot::channel();
            if worker.send(Update::Barrier(sender)).is_ok() {
                // An error means that the worker ended.
                let _ = done.await;
            }
        }
    }

    /// The clusters that workers see, in the order in which they were added.
    pub(crate) fn active(&self) -> Vec<Rc<Cluster>> {
        let mut clusters: Vec<_> = self.shared.active.borrow().values().cloned().collect();
        clusters.sort_by_key(|cluster| cluster.info.events.cluster);
        clusters
    }

    /// The cluster of this name that workers see.
    pub(crate) fn find(&self, name: &str) -> Option<Rc<Cluster>> {
        self.shared.active.borrow().get(name).cloned()
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Whether there is a cluster of this name, ready or not.
    pub fn contains(&self, name: &str) -> bool {
        self.shared.active.borrow().contains_key(name) || self.shared.warming.borrow().contains_key(name)
    }
}

/// A cluster waits as long as this is there.
#[derive(Debug)]
#[must_use]
pub struct ClusterWait(Weak<Cluster>);

impl Drop for ClusterWait {
    fn drop(&mut self) {
        if let Some(cluster) = self.0.upgrade()
            && let Some(shared) = cluster.shared()
        {
            cluster.arrived(&shared);
            shared.show_counts();
        }
    }
}

impl fmt::Debug for ClusterManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterManager")
            .field("active", &self.shared.active.borrow().len())
            .field("warming", &self.shared.warming.borrow().len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// A cluster became ready: workers get it.
    pub(crate) fn activate(&self, cluster: &Rc<Cluster>) {
        let name = cluster.info.name();
        let is_newest = self.warming.borrow().get(name).is_some_and(|newest| Rc::ptr_eq(newest, cluster));
        if !is_newest {
            return;
        }
        self.warming.borrow_mut().remove(name);
        let before = self.active.borrow_mut().insert(name.clone(), cluster.clone());
        if let Some(before) = before {
            before.stop();
        }
        self.broadcast(|| Update::Set(cluster.state()));
        self.show_counts();
        self.changed.notify_waiters();
    }

    pub(crate) fn stats(&self) -> &ClusterManagerStats {
        &self.stats
    }

    /// Tells every worker; those that ended are forgotten.
    pub(crate) fn broadcast(&self, update: impl Fn() -> Update) {
        self.workers.borrow_mut().retain(|worker| worker.send(update()).is_ok());
    }

    /// Hosts of a cluster changed their health: its host sets are made anew once the present tasks have run, so that a
    /// thousand checks at once make one update.
    pub(crate) fn refresh_later(&self, cluster: &Rc<Cluster>) {
        self.stale.borrow_mut().push(Rc::downgrade(cluster));
        self.refresh.notify_one();
    }

    /// Events of a cluster that was stopped are ignored.
    fn forget_events(&self, cluster: &Cluster) {
        self.by_serial.borrow_mut().remove(&cluster.info.events.cluster);
    }

    fn show_counts(&self) {
        self.stats.active_clusters().set(self.active.borrow().len() as u64);
        self.stats.warming_clusters().set(self.warming.borrow().len() as u64);
    }

    fn handle(&self, serial: u64, event: Event) {
        let cluster = self.by_serial.borrow().get(&serial).and_then(Weak::upgrade);
        let Some(cluster) = cluster else { return };
        match event {
            Event::Outlier(host, what) => cluster.outlier_detected(self, &host, what),
            Event::ImmediateHealthCheckFail(host) => {
                if let Some(checks) = cluster.health_checks() {
                    checks.passive_failure(&cluster, self, &host);
                }
            }
            Event::OriginalDstHosts => cluster.take_up_original_dst(self),
        }
    }
}

/// The present moment; stands still in tests with a paused clock.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn follow_events(shared: Weak<Shared>, mut events: UnboundedReceiver<(u64, Event)>) {
    while let Some((serial, event)) = events.recv().await {
        let Some(shared) = shared.upgrade() else { return };
        shared.handle(serial, event);
    }
}

async fn refresh_stale(shared: Weak<Shared>) {
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let stale = std::mem::take(&mut *strong.stale.borrow_mut());
        if stale.is_empty() {
            // The manager aborts this task before it goes.
            strong.refresh.notified().await;
            continue;
        }
        for cluster in stale.iter().filter_map(Weak::upgrade) {
            cluster.refresh_if_stale(&strong);
        }
    }
}
