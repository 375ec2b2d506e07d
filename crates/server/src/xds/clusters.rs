//! CDS: clusters that come and go.

use super::{Counts, Failure, Subscription, Update, Wait, Watcher, mux, set_cluster, subscribe};
use crate::state::{Server, ServerState};
use nuncio_config::lower::Lowered;
use nuncio_config::sources::Source;
use nuncio_stats::names::ConfigReloadStats;
use nuncio_xds::{Names, Outcome, Resource, ResourceType};
use std::cell::{OnceCell, RefCell};
use std::collections::HashSet;
use std::rc::{Rc, Weak};

/// What waits while clusters are taken up.
const DEPENDENTS: &[ResourceType] = &[ResourceType::Endpoint, ResourceType::Secret];
const OWN: &[ResourceType] = &[ResourceType::Cluster];

/// The subscription to clusters.
pub(crate) struct Clusters {
    server: Weak<Server>,
    subscription: OnceCell<Rc<Subscription>>,
    stats: ConfigReloadStats,
    /// Start waits for the first answer.
    first: RefCell<Option<Wait>>,
    /// Requests wait as long as clusters are being made ready: the ACK tells the server that they are.
    pause: RefCell<Option<mux::Pause>>,
}

impl Clusters {
    /// Subscribes.
    pub(crate) fn start(server: &Rc<Server>, source: &Source) -> Rc<Clusters> {
        let scope = server.store.scope("cluster_manager.cds", &[]);
        let clusters = Rc::new(Clusters {
            server: Rc::downgrade(server),
            subscription: OnceCell::new(),
            stats: ConfigReloadStats::register(&scope),
            first: RefCell::new(Some(server.xds.waits.wait("CDS"))),
            pause: RefCell::default(),
        });
        let watcher = Rc::new(Taker(Rc::downgrade(&clusters)));
        let subscription = subscribe(server, (source, Counts::of(&scope)), ResourceType::Cluster, Names::All, watcher);
        // Set once, here.
        let _ = clusters.subscription.set(subscription);
        clusters
    }

    fn take(self: &Rc<Self>, server: &Rc<Server>, update: &Update<'_>) -> Outcome {
        let paused = server.xds.pause(DEPENDENTS);
        let mut refused = Vec::new();
        let mut changed = false;
        for resource in update.resources {
            match take_one(server, resource) {
                Ok(took) => changed |= took,
                Err(reason) => {
                    server.xds.held.refused(ResourceType::Cluster, resource, &reason);
                    refused.push(format!("{}: {reason}", resource.name));
                }
            }
        }
        let gone = removed(server, update);
        if changed || !gone.is_empty() {
            server.xds.held.changed(ResourceType::Cluster, update.version);
        }
        for name in gone {
            server.xds.held.removed(ResourceType::Cluster, &name);
            tracing::info!(target: "upstream", "removing cluster {name}");
            server.clusters.remove(&name);
        }
        if changed && refused.is_empty() {
            self.stats.config_reload().inc();
        }
        self.pause_while_warming(server);
        drop(paused);
        self.first.borrow_mut().take();
        if refused.is_empty() {
            return Ok(());
        }
        Err(format!("Error adding/updating cluster(s) {}", refused.join(", ")))
    }

    fn pause_while_warming(self: &Rc<Self>, server: &Rc<Server>) {
        // While the process starts, the ACK does not wait, as in Envoy.
        let is_starting = server.state.get() == ServerState::PreInitializing;
        if is_starting || server.clusters.pending().is_empty() || self.pause.borrow().is_some() {
            return;
        }
        *self.pause.borrow_mut() = server.xds.pause(OWN);
        let (this, clusters) = (Rc::downgrade(self), server.clusters.clone());
        tokio::task::spawn_local(async move {
            clusters.initialized().await;
            if let Some(this) = this.upgrade() {
                this.pause.borrow_mut().take();
            }
        });
    }
}

/// Whether anything changed.
pub(super) fn take_one(server: &Rc<Server>, resource: &Rc<Resource>) -> Result<bool, String> {
    let kind = ResourceType::Cluster;
    let xds = &server.xds;
    if server.clusters.is_static(&resource.name) {
        tracing::debug!(target: "upstream", "cluster {} is static and stays as it is", resource.name);
        return Ok(false);
    }
    if let Some(known) = xds.held.newest(kind, &resource.name)
        && known.body == resource.body
    {
        return Ok(false);
    }
    let (registry, runtime) = server.lowering();
    let lowered = xds.resources.cluster((registry, &runtime), &resource.body)?;
    server.note(kind, &resource.name, &lowered);
    let Lowered { value, uses, tls, .. } = lowered;
    server.contexts.add(&tls);
    let was_ready = !server.clusters.is_warming(&resource.name);
    set_cluster(server, value, &uses);
    match server.clusters.is_warming(&resource.name) {
        true => xds.held.warming(kind, resource, was_ready),
        false => xds.held.active(kind, resource),
    }
    Ok(true)
}

/// The clusters that are gone.
fn removed(server: &Rc<Server>, update: &Update<'_>) -> Vec<String> {
    let held = server.xds.held.names(ResourceType::Cluster);
    if update.is_complete {
        let there: HashSet<&str> = update.resources.iter().map(|resource| resource.name.as_str()).collect();
        return held.into_iter().filter(|name| !there.contains(name.as_str())).collect();
    }
    let gone: HashSet<&str> = update.removed.iter().map(String::as_str).collect();
    if gone.is_empty() { Vec::new() } else { held.into_iter().filter(|name| gone.contains(name.as_str())).collect() }
}

struct Taker(Weak<Clusters>);

impl Watcher for Taker {
    fn update(&self, update: &Update<'_>) -> Outcome {
        let Some(clusters) = self.0.upgrade() else { return Ok(()) };
        let Some(server) = clusters.server.upgrade() else { return Ok(()) };
        clusters.take(&server, update)
    }

    fn failed(&self, failure: &Failure) {
        let Some(clusters) = self.0.upgrade() else { return };
        if matches!(failure, Failure::TimedOut) && clusters.first.borrow().is_some() {
            tracing::warn!(target: "upstream", "no clusters came in time (cds_config.initial_fetch_timeout): going on without");
        }
        clusters.first.borrow_mut().take();
    }
}
