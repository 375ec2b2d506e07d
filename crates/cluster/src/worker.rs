//! A worker's view of the clusters. Owns balancing state; nothing here is shared or locked.

mod cluster;
mod original_dst;
mod overrides;

pub use cluster::{HostObserver, LbContext, WorkerCluster};
pub(crate) use original_dst::SharedHosts;
pub use overrides::NamedHosts;

use crate::host::Host;
use crate::info::ClusterInfo;
use hashbrown::HashMap;
use nuncio_lb::PrioritySet;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

/// The hosts of a cluster at one moment.
pub type Hosts = Arc<PrioritySet<Arc<Host>>>;

/// A cluster and its hosts, as the main thread hands them out.
#[derive(Debug, Clone)]
pub(crate) struct ClusterState {
    pub(crate) info: Arc<ClusterInfo>,
    pub(crate) hosts: Hosts,
}

/// What the main thread tells workers.
#[derive(Debug)]
pub(crate) enum Update {
    /// A cluster is new, or takes the place of the one of its name.
    Set(ClusterState),
    /// A cluster is gone.
    Remove(Arc<str>),
    /// Hosts, or their health, changed.
    Hosts(Arc<HostsUpdate>),
    /// Answered when everything before it is done.
    Barrier(oneshot::Sender<()>),
}

/// A change of the hosts of one cluster.
#[derive(Debug)]
pub(crate) struct HostsUpdate {
    pub(crate) cluster: Arc<ClusterInfo>,
    pub(crate) hosts: Hosts,
    /// Hosts that are gone.
    pub(crate) removed: Vec<Arc<Host>>,
    /// Hosts that have just become unhealthy.
    pub(crate) failed: Vec<Arc<Host>>,
}

/// What a worker starts from; made on the main thread by [`ClusterManager::worker`](crate::ClusterManager::worker).
pub struct WorkerSeed {
    pub(crate) clusters: Vec<ClusterState>,
    pub(crate) updates: UnboundedReceiver<Update>,
    pub(crate) local_cluster: Option<Arc<str>>,
}

impl fmt::Debug for WorkerSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerSeed").field("clusters", &self.clusters.len()).finish_non_exhaustive()
    }
}

/// All clusters, on one worker. Clones share them.
#[derive(Clone, Debug)]
pub struct WorkerClusters {
    inner: Rc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clusters: RefCell<HashMap<Arc<str>, Entry>>,
    updates: RefCell<UnboundedReceiver<Update>>,
    /// The proxies themselves, if there is a local cluster.
    local: Option<Rc<LocalCluster>>,
}

/// The hosts of the local cluster, for the zone-aware routing of the others.
#[derive(Debug)]
pub(crate) struct LocalCluster {
    name: Arc<str>,
    hosts: RefCell<Hosts>,
}

impl LocalCluster {
    fn follow(&self, update: &Update) {
        let hosts = match update {
            Update::Set(state) if *state.info.name() == self.name => state.hosts.clone(),
            Update::Hosts(update) if *update.cluster.name() == self.name => update.hosts.clone(),
            Update::Remove(name) if *name == self.name => Hosts::default(),
            _ => return,
        };
        *self.hosts.borrow_mut() = hosts;
    }

    pub(crate) fn hosts(&self) -> std::cell::Ref<'_, Hosts> {
        self.hosts.borrow()
    }
}

/// Most clusters of a large configuration never see traffic on a given worker: they cost it a map entry.
#[derive(Debug)]
enum Entry {
    Cold(ClusterState),
    Warm(Rc<WorkerCluster>),
}

impl WorkerClusters {
    /// Starts from a seed and follows the main thread's updates in a local task; call it within a `LocalSet`. All clusters
    /// of the seed are there when it returns. The task ends when the main thread's manager is gone.
    pub fn start(seed: WorkerSeed) -> Self {
        let clusters: HashMap<Arc<str>, Entry> =
            seed.clusters.into_iter().map(|state| (state.info.name().clone(), Entry::Cold(state))).collect();
        let local = seed.local_cluster.map(|name| {
            let hosts = match clusters.get(&name) {
                Some(Entry::Cold(state)) => state.hosts.clone(),
                _ => Hosts::default(),
            };
            Rc::new(LocalCluster { name, hosts: RefCell::new(hosts) })
        });
        let inner = Rc::new(Inner { clusters: RefCell::new(clusters), updates: RefCell::new(seed.updates), local });
        let follower = Rc::downgrade(&inner);
        tokio::task::spawn_local(async move {
            loop {
                let update = std::future::poll_fn(|cx| match follower.upgrade() {
                    Some(inner) => inner.updates.borrow_mut().poll_recv(cx),
                    None => std::task::Poll::Ready(None),
                });
                let (Some(update), Some(inner)) = (update.await, follower.upgrade()) else { return };
                inner.apply(update);
            }
        });
        WorkerClusters { inner }
    }

    /// No clusters: for workers that serve without any.
    pub fn empty() -> Self {
        let (_, updates) = tokio::sync::mpsc::unbounded_channel();
        WorkerClusters {
            inner: Rc::new(Inner { clusters: RefCell::default(), updates: RefCell::new(updates), local: None }),
        }
    }

    /// The cluster of this name.
    #[inline]
    pub fn get(&self, name: &str) -> Option<Rc<WorkerCluster>> {
        let is_known = {
            let clusters = self.inner.clusters.borrow();
            match clusters.get(name) {
                Some(Entry::Warm(cluster)) => return Some(cluster.clone()),
                Some(Entry::Cold(_)) => true,
                None => false,
            }
        };
        if is_known { self.inner.warm_up(name) } else { self.get_new(name) }
    }

    /// Routes that name a new cluster are in force for all workers at once; the cluster may still wait to be taken up.
    #[cold]
    fn get_new(&self, name: &str) -> Option<Rc<WorkerCluster>> {
        self.apply_pending();
        self.inner.warm_up(name)
    }

    /// Whether there is a cluster of this name. Costs less than [`WorkerClusters::get`] the first time.
    pub fn contains(&self, name: &str) -> bool {
        self.inner.clusters.borrow().contains_key(name)
    }

    /// Does at once what the main thread has sent so far. To be called before a configuration that may refer to new
    /// clusters is put in force.
    pub fn apply_pending(&self) {
        loop {
            let update = self.inner.updates.borrow_mut().try_recv();
            let Ok(update) = update else { return };
            self.inner.apply(update);
        }
    }

    /// Clusters that were used on this worker.
    pub fn used(&self) -> Vec<Rc<WorkerCluster>> {
        let clusters = self.inner.clusters.borrow();
        let warm = clusters.values().filter_map(|entry| match entry {
            Entry::Warm(cluster) => Some(cluster.clone()),
            Entry::Cold(_) => None,
        });
        warm.collect()
    }
}

impl Inner {
    #[cold]
    fn warm_up(&self, name: &str) -> Option<Rc<WorkerCluster>> {
        let mut clusters = self.clusters.borrow_mut();
        let entry = clusters.get_mut(name)?;
        let cluster = match entry {
            Entry::Warm(cluster) => cluster.clone(),
            Entry::Cold(state) => {
                let local = self.local.clone().filter(|local| local.name != *state.info.name());
                Rc::new(WorkerCluster::new(state.clone(), local))
            }
        };
        *entry = Entry::Warm(cluster.clone());
        Some(cluster)
    }

    /// Observers run without a borrow of the map held: they may look clusters up.
    fn apply(&self, update: Update) {
        if let Some(local) = &self.local {
            local.follow(&update);
        }
        match update {
            Update::Set(state) => {
                let name = state.info.name().clone();
                let before = self.clusters.borrow_mut().insert(name, Entry::Cold(state));
                retire(before);
            }
            Update::Remove(name) => {
                let before = self.clusters.borrow_mut().remove(&name);
                retire(before);
            }
            Update::Hosts(update) => self.apply_hosts(&update),
            Update::Barrier(done) => {
                // Nobody waits any more if this fails.
                let _ = done.send(());
            }
        }
    }

    fn apply_hosts(&self, update: &HostsUpdate) {
        let mut clusters = self.clusters.borrow_mut();
        let Some(entry) = clusters.get_mut(update.cluster.name()) else { return };
        let cluster = match entry {
            Entry::Cold(state) => {
                if Arc::ptr_eq(&state.info, &update.cluster) {
                    state.hosts = update.hosts.clone();
                }
                return;
            }
            Entry::Warm(cluster) => cluster.clone(),
        };
        drop(clusters);
        if Arc::ptr_eq(&cluster.info, &update.cluster) {
            cluster.apply(update);
        }
    }
}

fn retire(entry: Option<Entry>) {
    if let Some(Entry::Warm(cluster)) = entry {
        cluster.retire();
    }
}
