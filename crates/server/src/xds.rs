//! Dynamic configuration: subscribes to what the configuration names, and puts in force what comes.
//!
//! Owns: streams to management servers, polling and files; which update becomes which change, in which order; what start and
//! warming wait for. Does not own: the protocol (`nuncio-xds`), what a resource means (`config`).
//!
//! What can't be taken up changes nothing: the server is told what is wrong with which resource, and the log says the same. A
//! server that is lost is looked for again for ever, and what it said holds on.
//!
//! Everything here lives on the main thread. Requests to management servers go through the main thread's own view of the clusters,
//! so they are balanced, pooled, protected and counted like any other.

mod clusters;
mod counts;
mod endpoints;
mod extensions;
mod file;
mod held;
mod listeners;
mod mux;
mod node;
mod on_demand;
mod rest;
mod routes;
mod runtime;
mod scopes;
mod secrets;
mod subscription;
mod virtual_hosts;
mod waits;

pub(crate) use clusters::Clusters;
pub(crate) use counts::Counts;
pub(crate) use endpoints::EndpointSubscriptions;
pub(crate) use extensions::ExtensionSubscriptions;
pub(crate) use held::{Held, HeldResource, Version};
pub(crate) use listeners::Listeners;
pub(crate) use mux::GrpcMux;
pub(crate) use node::node;
pub(crate) use on_demand::OnDemandClusterSubscriptions;
pub(crate) use routes::RouteSubscriptions;
pub(crate) use runtime::follow as follow_runtime;
pub(crate) use scopes::ScopeSubscriptions;
pub(crate) use secrets::SecretSubscriptions;
pub(crate) use subscription::{Failure, Subscription, Update, Watcher, subscribe};
pub(crate) use waits::{Wait, Waits};

use crate::state::Server;
use nuncio_cluster::{ClusterConfig, ClusterManager, ClusterWait, WorkerClusters};
use nuncio_config::compile::Registry;
use nuncio_config::lower::ResourceContext;
use nuncio_config::snapshot::{DynamicConfig, Snapshot};
use nuncio_config::sources::{DynamicUse, SecretUse};
use nuncio_filter::{Runtime, StatsStore, Worker};
use nuncio_stats::Store;
use nuncio_xds::ResourceType;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// What dynamic configuration rests on.
pub(crate) struct Xds {
    /// The main thread, as a worker that makes requests.
    pub worker: Rc<Worker>,
    /// The clusters as that worker sees them.
    pub clusters: WorkerClusters,
    /// `dynamic_resources`.
    pub config: DynamicConfig,
    /// What resources are lowered with.
    pub resources: ResourceContext,
    /// Who this is.
    pub node: nuncio_api::pb::envoy::config::core::v3::Node,
    /// The aggregated stream, if there is one.
    pub ads: Option<Rc<GrpcMux>>,
    /// Subscriptions to endpoints, by source and name.
    pub endpoints: EndpointSubscriptions,
    /// Subscriptions to routes, by source and name.
    pub routes: RouteSubscriptions,
    /// Subscriptions to secrets, by source and name.
    pub secrets: SecretSubscriptions,
    /// Subscriptions to configurations of filters, by source and name.
    pub extensions: ExtensionSubscriptions,
    /// Subscriptions to scopes, by source.
    pub scopes: ScopeSubscriptions,
    /// Subscriptions to clusters that requests ask for, by source.
    pub on_demand_clusters: OnDemandClusterSubscriptions,
    /// Runtime layers.
    pub rtds: RefCell<Vec<Rc<Subscription>>>,
    /// What start waits for.
    pub waits: Rc<Waits>,
    /// What came, for `/config_dump`.
    pub held: Held,
    /// CDS.
    pub cds: RefCell<Option<Rc<Clusters>>>,
    /// What static listeners depend on.
    pub of_static: RefCell<Vec<Rc<dyn std::any::Any>>>,
    /// LDS.
    pub lds: RefCell<Option<Rc<Listeners>>>,
}

/// What a new [`Xds`] is made of.
pub(crate) struct Parts<'a> {
    pub clusters: &'a ClusterManager,
    pub store: &'a Arc<Store>,
    pub runtime: &'a Arc<Runtime>,
    pub local_address: Option<std::net::IpAddr>,
    pub seed: u64,
    pub config: DynamicConfig,
    pub resources: ResourceContext,
    pub node: nuncio_api::pb::envoy::config::core::v3::Node,
}

impl Xds {
    pub(crate) fn new(parts: Parts<'_>) -> Rc<Xds> {
        let Parts { clusters, store, runtime, local_address, seed, config, resources, node } = parts;
        let worker = Worker::new(0, seed, Arc::clone(runtime));
        worker.services().insert(Rc::new(StatsStore(Arc::clone(store))));
        if let Some(address) = local_address {
            worker.services().insert(Rc::new(nuncio_filter::LocalAddress(address)));
        }
        let clusters = WorkerClusters::start(clusters.worker());
        let ads = config.ads.as_ref().map(|api| {
            let parts = mux::Parts { api: Arc::clone(api), node: node.clone(), store: Arc::clone(store), own: None };
            GrpcMux::new(parts, Rc::clone(&worker), clusters.clone())
        });
        Rc::new(Xds {
            worker,
            clusters,
            config,
            resources,
            node,
            ads,
            endpoints: EndpointSubscriptions::default(),
            routes: RouteSubscriptions::default(),
            secrets: SecretSubscriptions::default(),
            extensions: ExtensionSubscriptions::default(),
            scopes: ScopeSubscriptions::default(),
            on_demand_clusters: OnDemandClusterSubscriptions::default(),
            rtds: RefCell::default(),
            waits: Rc::default(),
            held: Held::default(),
            cds: RefCell::default(),
            of_static: RefCell::default(),
            lds: RefCell::default(),
        })
    }

    /// Requests of these kinds wait on the aggregated stream until the guard is dropped, so that what one update subscribes to
    /// becomes one request.
    pub(crate) fn pause(&self, kinds: &'static [ResourceType]) -> Option<mux::Pause> {
        self.ads.as_ref().map(|ads| ads.pause(kinds))
    }
}

impl Server {
    /// What resources are lowered with.
    pub(crate) fn lowering(&self) -> (&Registry, Arc<Runtime>) {
        (&self.registry, Arc::clone(&self.runtime.borrow()))
    }
}

/// What listeners of the configuration depend on.
pub(crate) fn uses_of_listeners(snapshot: &Snapshot) -> Vec<DynamicUse> {
    let of_listener = |used: &&DynamicUse| match used {
        DynamicUse::Endpoints(_) | DynamicUse::VirtualHosts(_) => false,
        DynamicUse::Secret(secret) => secret.cluster.is_none(),
        DynamicUse::Routes(_) | DynamicUse::Extension(_) | DynamicUse::Scopes(_) | DynamicUse::OnDemandClusters(_) => {
            true
        }
    };
    snapshot.uses.iter().filter(of_listener).cloned().collect()
}

/// Makes the clusters of the configuration those that there are beside the discovered ones.
pub(crate) fn set_static_clusters(server: &Rc<Server>, snapshot: &Snapshot) {
    server.clusters.retain_static(snapshot.clusters.iter().map(|cluster| Arc::clone(&cluster.name)).collect());
    // All of them first: secrets come through one of them.
    let begun: Vec<_> = snapshot
        .clusters
        .iter()
        .filter_map(|cluster| Some((Arc::clone(&cluster.name), server.clusters.begin_cluster(Arc::clone(cluster))?)))
        .collect();
    let mut by_cluster: HashMap<Arc<str>, Vec<DynamicUse>> = HashMap::new();
    for used in &snapshot.uses {
        if let DynamicUse::Secret(SecretUse { cluster: Some(cluster), .. }) = used {
            by_cluster.entry(Arc::clone(cluster)).or_default().push(used.clone());
        }
    }
    for (name, wait) in begun {
        if let Some(uses) = by_cluster.get(&name) {
            await_uses(server, &name, uses, wait);
        }
    }
}

/// The same when the configuration is read again; what is not there any more stays for now.
pub(crate) fn add_clusters(server: &Rc<Server>, snapshot: &Snapshot) {
    for cluster in &snapshot.clusters {
        let of_cluster = |used: &&DynamicUse| match used {
            DynamicUse::Endpoints(endpoints) => endpoints.cluster == cluster.name,
            DynamicUse::Secret(secret) => secret.cluster.as_ref() == Some(&cluster.name),
            _ => false,
        };
        let uses: Vec<DynamicUse> = snapshot.uses.iter().filter(of_cluster).cloned().collect();
        set_cluster(server, Arc::clone(cluster), &uses);
    }
}

/// Subscribes to the endpoints of the configuration's own clusters.
pub(crate) fn follow_endpoints(server: &Rc<Server>, snapshot: &Snapshot) {
    for used in &snapshot.uses {
        if let DynamicUse::Endpoints(endpoints) = used {
            server.clusters.keep_with(&endpoints.cluster, endpoints::follow(server, endpoints));
        }
    }
}

/// Puts a cluster in force once the secrets that it depends on are there.
pub(crate) fn set_cluster(server: &Rc<Server>, config: Arc<ClusterConfig>, uses: &[DynamicUse]) {
    let name = Arc::clone(&config.name);
    // What the one before it subscribed to is let go only when this one has.
    let before = server.clusters.take_kept(&name);
    let Some(wait) = server.clusters.begin_cluster(config) else {
        // Nothing changed.
        for kept in before {
            server.clusters.keep_with(&name, kept);
        }
        return;
    };
    if !uses.is_empty() {
        await_uses(server, &name, uses, wait);
    }
    drop(before);
}

fn await_uses(server: &Rc<Server>, name: &str, uses: &[DynamicUse], wait: ClusterWait) {
    let waits = Rc::<Waits>::default();
    let kept = follow(server, uses, &waits);
    server.clusters.keep_with(name, Rc::new(kept));
    if waits.pending().is_empty() {
        return;
    }
    tokio::task::spawn_local(async move {
        waits.done().await;
        drop(wait);
    });
}

/// Subscribes to what a resource depends on. What is returned keeps the subscriptions; `waits` learns what is not there yet.
pub(crate) fn follow(server: &Rc<Server>, uses: &[DynamicUse], waits: &Rc<Waits>) -> Vec<Rc<dyn std::any::Any>> {
    let mut kept: Vec<Rc<dyn std::any::Any>> = Vec::new();
    for used in uses {
        match used {
            DynamicUse::Endpoints(endpoints) => kept.push(endpoints::follow(server, endpoints)),
            DynamicUse::Routes(routes) => kept.push(routes::follow(server, routes, waits)),
            DynamicUse::Secret(secret) => kept.push(secrets::follow(server, secret, waits)),
            DynamicUse::Extension(extension) => kept.push(extensions::follow(server, extension, waits)),
            DynamicUse::Scopes(scopes) => kept.push(scopes::follow(server, scopes, waits)),
            DynamicUse::OnDemandClusters(clusters) => kept.push(on_demand::follow(server, clusters)),
            // Who takes up the route configuration follows them.
            DynamicUse::VirtualHosts(_) => {}
        }
    }
    kept
}
