//! RDS: the routes of connection managers.

use super::{Counts, Failure, Subscription, Update, Wait, Waits, Watcher, subscribe};
use crate::state::Server;
use nuncio_config::sources::RoutesUse;
use nuncio_route::{LiveRoutes, RouteTable};
use nuncio_stats::names::{ConfigReloadStats, RouteSubscriptionStats};
use nuncio_xds::{Names, Outcome, Resource, ResourceType};
use std::any::Any;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::{self, Arc};

/// The route configurations that are subscribed to, each once, by source and name.
#[derive(Default)]
pub(crate) struct RouteSubscriptions {
    by_name: RefCell<HashMap<(u64, Arc<str>), Weak<Routes>>>,
}

/// One route configuration, and who uses it.
struct Routes {
    server: Weak<Server>,
    key: (u64, Arc<str>),
    subscription: OnceCell<Rc<Subscription>>,
    /// Connection managers, as long as connections have them.
    users: RefCell<Vec<sync::Weak<LiveRoutes>>>,
    known: RefCell<Option<(Rc<Resource>, Arc<RouteTable>)>>,
    /// Who waits for the first answer.
    waits: RefCell<Vec<Wait>>,
    stats: (ConfigReloadStats, RouteSubscriptionStats),
}

impl Drop for Routes {
    fn drop(&mut self) {
        let Some(server) = self.server.upgrade() else { return };
        server.xds.routes.by_name.borrow_mut().remove(&self.key);
        server.xds.held.removed(ResourceType::Route, &self.key.1);
    }
}

/// Subscribes for a connection manager, or shares the subscription of another.
pub(super) fn follow(server: &Rc<Server>, used: &Arc<RoutesUse>, waits: &Rc<Waits>) -> Rc<dyn Any> {
    let key = (used.source.digest, Arc::clone(&used.name));
    let existing = server.xds.routes.by_name.borrow().get(&key).and_then(Weak::upgrade);
    let routes = existing.unwrap_or_else(|| subscribe_to(server, key, used));
    routes.users.borrow_mut().push(Arc::downgrade(&used.routes));
    match &*routes.known.borrow() {
        Some((_, table)) => used.routes.set(Some(Arc::clone(table))),
        None => routes.waits.borrow_mut().push(waits.wait(format!("RDS {}", used.name))),
    }
    routes
}

fn subscribe_to(server: &Rc<Server>, key: (u64, Arc<str>), used: &RoutesUse) -> Rc<Routes> {
    let routes = Rc::new(Routes {
        server: Rc::downgrade(server),
        key: key.clone(),
        subscription: OnceCell::new(),
        users: RefCell::default(),
        known: RefCell::default(),
        waits: RefCell::default(),
        stats: (ConfigReloadStats::register(&used.scope), RouteSubscriptionStats::register(&used.scope)),
    });
    server.xds.routes.by_name.borrow_mut().insert(key, Rc::downgrade(&routes));
    let watcher = Rc::new(Taker(Rc::downgrade(&routes)));
    let counts = Counts::of(&used.scope);
    let subscription = subscribe(server, (&used.source, counts), ResourceType::Route, Names::one(&used.name), watcher);
    // Set once, here.
    let _ = routes.subscription.set(subscription);
    routes
}

impl Routes {
    fn take(&self, server: &Rc<Server>, resource: &Rc<Resource>) -> Outcome {
        if self.known.borrow().as_ref().is_some_and(|(known, _)| known.body == resource.body) {
            return Ok(());
        }
        let kind = ResourceType::Route;
        let refuse = |reason: String| {
            server.xds.held.refused(kind, resource, &reason);
            format!("{}: {reason}", resource.name)
        };
        let (registry, runtime) = server.lowering();
        let lowered = server.xds.resources.routes((registry, &runtime), &resource.body).map_err(refuse)?;
        if let Some(missing) = lowered.clusters.iter().find(|name| !server.clusters.contains(name)) {
            return Err(refuse(format!("route: unknown cluster '{missing}'")));
        }
        server.note(kind, &resource.name, &lowered);
        let table = lowered.value;
        self.users.borrow_mut().retain(|user| user.strong_count() > 0);
        for user in self.users.borrow().iter().filter_map(sync::Weak::upgrade) {
            user.set(Some(Arc::clone(&table)));
        }
        *self.known.borrow_mut() = Some((Rc::clone(resource), table));
        self.stats.0.config_reload().inc();
        server.xds.held.active(kind, resource);
        self.waits.borrow_mut().clear();
        Ok(())
    }
}

struct Taker(Weak<Routes>);

impl Watcher for Taker {
    fn update(&self, update: &Update<'_>) -> Outcome {
        let Some(routes) = self.0.upgrade() else { return Ok(()) };
        let Some(server) = routes.server.upgrade() else { return Ok(()) };
        if let Some(resource) = update.resources.first() {
            return routes.take(&server, resource);
        }
        // A removal leaves the routes in force, and who waits goes on waiting, as in Envoy.
        Ok(())
    }

    fn failed(&self, failure: &Failure) {
        let Some(routes) = self.0.upgrade() else { return };
        if matches!(failure, Failure::TimedOut) && !routes.waits.borrow().is_empty() {
            let name = &routes.key.1;
            tracing::warn!(target: "router", "route configuration {name} did not come in time: going on without");
        }
        routes.waits.borrow_mut().clear();
    }
}
