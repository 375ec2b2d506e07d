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
mod file;
mod held;
mod listeners;
mod mux;
mod node;
mod rest;
mod routes;
mod subscription;
mod waits;

pub(crate) use clusters::Clusters;
pub(crate) use counts::Counts;
pub(crate) use endpoints::EndpointSubscriptions;
pub(crate) use held::Held;
pub(crate) use listeners::Listeners;
pub(crate) use mux::GrpcMux;
pub(crate) use node::node;
pub(crate) use routes::RouteSubscriptions;
pub(crate) use subscription::{Failure, Subscription, Update, Watcher, subscribe};
pub(crate) use waits::{Wait, Waits};

use crate::state::Server;
use nuncio_cluster::{ClusterManager, WorkerClusters};
use nuncio_config::compile::Registry;
use nuncio_config::lower::ResourceContext;
use nuncio_config::snapshot::DynamicConfig;
use nuncio_config::sources::DynamicUse;
use nuncio_filter::{Runtime, StatsStore, Worker};
use nuncio_stats::Store;
use nuncio_xds::ResourceType;
use std::cell::RefCell;
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
            let parts = mux::Parts { api: Arc::clone(api), node: node.clone(), store: Arc::clone(store), kind: None };
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

/// Subscribes to what a resource depends on. What is returned keeps the subscriptions; `waits` learns what is not there yet.
pub(crate) fn follow(server: &Rc<Server>, uses: &[DynamicUse], waits: &Rc<Waits>) -> Vec<Rc<dyn std::any::Any>> {
    let mut kept: Vec<Rc<dyn std::any::Any>> = Vec::new();
    for used in uses {
        match used {
            DynamicUse::Endpoints(endpoints) => kept.push(endpoints::follow(server, endpoints)),
            DynamicUse::Routes(routes) => kept.push(routes::follow(server, routes, waits)),
            DynamicUse::Secret(_) => {}
        }
    }
    kept
}
