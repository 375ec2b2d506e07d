//! EDS: the endpoints of clusters.

use super::{Counts, Failure, Subscription, Update, Watcher, subscribe};
use crate::state::Server;
use nuncio_cluster::config::LoadAssignment;
use nuncio_config::sources::EndpointsUse;
use nuncio_xds::{Names, Outcome, Resource, ResourceType};
use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use tokio::task::AbortHandle;

/// A resource, and what it was lowered to.
type Known = (Rc<Resource>, Arc<LoadAssignment>);

/// The assignments that are known, as long as somebody follows them: a changed cluster begins with what the one before it had.
#[derive(Default)]
pub(crate) struct EndpointSubscriptions {
    known: RefCell<HashMap<(u64, Arc<str>), Entry>>,
}

struct Entry {
    followers: usize,
    known: Option<Known>,
}

/// One cluster's subscription.
struct Following {
    server: Weak<Server>,
    used: EndpointsUse,
    /// Runs out when the assignment becomes stale.
    stale: RefCell<Option<AbortHandle>>,
}

/// Keeps a subscription, and what is known of its resource.
struct Kept {
    _subscription: Rc<Subscription>,
    following: Rc<Following>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(timer) = self.following.stale.borrow_mut().take() {
            timer.abort();
        }
        let Some(server) = self.following.server.upgrade() else { return };
        let mut known = server.xds.endpoints.known.borrow_mut();
        let key = self.following.key();
        if let Some(entry) = known.get_mut(&key) {
            entry.followers -= 1;
            if entry.followers == 0 {
                known.remove(&key);
            }
        }
    }
}

/// Subscribes to the endpoints of a cluster, which must be there already.
pub(super) fn follow(server: &Rc<Server>, used: &EndpointsUse) -> Rc<dyn Any> {
    let following = Rc::new(Following { server: Rc::downgrade(server), used: used.clone(), stale: RefCell::default() });
    let key = following.key();
    let known = {
        let mut known = server.xds.endpoints.known.borrow_mut();
        let entry = known.entry(key).or_insert(Entry { followers: 0, known: None });
        entry.followers += 1;
        entry.known.clone()
    };
    let counts = match server.clusters.stats_of(&used.cluster) {
        Some(stats) => Counts::of_cluster(&stats),
        None => Counts::of(&server.store.scope(&format!("cluster.{}", nuncio_stats::sanitize(&used.cluster)), &[])),
    };
    let watcher = Rc::new(Taker(Rc::clone(&following)));
    let kind = ResourceType::Endpoint;
    let names = Names::one(&used.name);
    let subscription = subscribe(server, (&used.source, counts), kind, names, watcher);
    if let Some((_, assignment)) = known {
        // The server need not send it again, and may not do so.
        server.clusters.offer_endpoints(&used.cluster, &assignment);
    }
    Rc::new(Kept { _subscription: subscription, following })
}

impl Following {
    fn key(&self) -> (u64, Arc<str>) {
        (self.used.source.digest, Arc::clone(&self.used.name))
    }

    fn take(&self, server: &Rc<Server>, resource: &Rc<Resource>) -> Outcome {
        let known = server.xds.endpoints.known.borrow().get(&self.key()).and_then(|entry| entry.known.clone());
        let assignment = match known {
            // Another cluster of the same service was told already.
            Some((known, assignment)) if Rc::ptr_eq(&known, resource) => assignment,
            Some((known, assignment)) if known.body == resource.body => assignment,
            _ => {
                let (registry, runtime) = server.lowering();
                let lowered = server.xds.resources.load_assignment((registry, &runtime), &resource.body);
                let lowered = lowered.map_err(|reason| {
                    server.xds.held.refused(ResourceType::Endpoint, resource, &reason);
                    format!("{}: {reason}", resource.name)
                })?;
                server.note(ResourceType::Endpoint, &resource.name, &lowered);
                Arc::new(lowered.value)
            }
        };
        if let Some(entry) = server.xds.endpoints.known.borrow_mut().get_mut(&self.key()) {
            entry.known = Some((Rc::clone(resource), Arc::clone(&assignment)));
        }
        server.clusters.set_endpoints(&self.used.cluster, &assignment);
        self.watch_age(server, &assignment);
        Ok(())
    }

    /// An assignment that says how long it holds is gone after that.
    fn watch_age(&self, server: &Rc<Server>, assignment: &LoadAssignment) {
        if let Some(timer) = self.stale.borrow_mut().take() {
            timer.abort();
        }
        let (Some(age), Some(stats)) = (assignment.stale_after, server.clusters.stats_of(&self.used.cluster)) else {
            return;
        };
        stats.update().assignment_timeout_received().inc();
        let (server, cluster) = (self.server.clone(), Arc::clone(&self.used.cluster));
        let timer = tokio::task::spawn_local(async move {
            tokio::time::sleep(age).await;
            if let Some(server) = server.upgrade() {
                tracing::warn!(target: "upstream", "cluster {cluster}: its endpoints are stale (endpoint_stale_after)");
                stats.update().assignment_stale().inc();
                server.clusters.set_endpoints(&cluster, &Arc::default());
            }
        });
        *self.stale.borrow_mut() = Some(timer.abort_handle());
    }
}

struct Taker(Rc<Following>);

impl Watcher for Taker {
    fn update(&self, update: &Update<'_>) -> Outcome {
        let Some(server) = self.0.server.upgrade() else { return Ok(()) };
        match update.resources.first() {
            Some(resource) => self.0.take(&server, resource),
            None => {
                // The server says that there is no such resource.
                if let Some(stats) = server.clusters.stats_of(&self.0.used.cluster) {
                    stats.update().update_empty().inc();
                }
                server.clusters.go_without_endpoints(&self.0.used.cluster);
                Ok(())
            }
        }
    }

    fn failed(&self, failure: &Failure) {
        let Some(server) = self.0.server.upgrade() else { return };
        if matches!(failure, Failure::TimedOut) {
            let EndpointsUse { cluster, name, .. } = &self.0.used;
            tracing::warn!(target: "upstream", "cluster {cluster}: its endpoints ({name}) did not come in time: going on without");
        }
        server.clusters.go_without_endpoints(&self.0.used.cluster);
    }
}
