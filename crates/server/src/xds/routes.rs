//! RDS: the routes of connection managers.

use super::virtual_hosts::{Hosts, VirtualHosts, with_hosts};
use super::{Counts, Failure, Subscription, Update, Wait, Waits, Watcher, subscribe};
use crate::state::Server;
use nuncio_config::lower::Lowered;
use nuncio_config::sources::{DynamicUse, RoutesUse, VirtualHostsUse};
use nuncio_route::{LiveRoutes, RouteTable};
use nuncio_stats::Scope;
use nuncio_stats::names::{ConfigReloadStats, RouteSubscriptionStats};
use nuncio_xds::{Names, Outcome, Resource, ResourceType};
use std::any::Any;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::{self, Arc};

/// The digest of a source, and a name.
type Key = (u64, Arc<str>);

/// The route configurations that are subscribed to, each once, by source and name.
#[derive(Default)]
pub(crate) struct RouteSubscriptions {
    by_name: RefCell<HashMap<Key, Weak<Routes>>>,
}

/// One route configuration, and who uses it.
pub(super) struct Routes {
    server: Weak<Server>,
    key: Key,
    subscription: OnceCell<Rc<Subscription>>,
    /// Connection managers, as long as connections have them.
    users: RefCell<Vec<sync::Weak<LiveRoutes>>>,
    known: RefCell<Option<(Rc<Resource>, Arc<RouteTable>)>>,
    /// What else it depends on.
    kept: RefCell<Vec<Rc<dyn Any>>>,
    /// `vhds`.
    virtual_hosts: RefCell<Option<Rc<VirtualHosts>>>,
    virtual_hosts_scope: Scope,
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

fn subscribe_to(server: &Rc<Server>, key: Key, used: &RoutesUse) -> Rc<Routes> {
    let routes = Rc::new(Routes {
        server: Rc::downgrade(server),
        key: key.clone(),
        subscription: OnceCell::new(),
        users: RefCell::default(),
        known: RefCell::default(),
        kept: RefCell::default(),
        virtual_hosts: RefCell::default(),
        virtual_hosts_scope: used.virtual_hosts_scope.clone(),
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
    pub(super) fn server(&self) -> Option<Rc<Server>> {
        self.server.upgrade()
    }

    fn take(self: &Rc<Self>, server: &Rc<Server>, resource: &Rc<Resource>) -> Outcome {
        if self.known.borrow().as_ref().is_some_and(|(known, _)| known.body == resource.body) {
            return Ok(());
        }
        let refuse = |reason: String| {
            server.xds.held.refused(ResourceType::Route, resource, &reason);
            format!("{}: {reason}", resource.name)
        };
        let before = self.virtual_hosts.borrow().clone();
        let hosts = before.as_ref().map(|hosts| hosts.hosts()).unwrap_or_default();
        let mut lowered = self.lower(server, resource, &hosts).map_err(refuse)?;
        let mut wanted = virtual_hosts_of(&lowered.uses);
        if !hosts.is_empty() && wanted.as_ref().map(|used| used.source.digest) != before.as_ref().map(|it| it.digest) {
            // They came from elsewhere.
            lowered = self.lower(server, resource, &Hosts::new()).map_err(refuse)?;
            wanted = virtual_hosts_of(&lowered.uses);
        }
        server.note(ResourceType::Route, &resource.name, &lowered);
        let kept = super::follow(server, &lowered.uses, &Rc::default());
        let begun = match (&wanted, before) {
            (Some(used), Some(before)) if before.digest == used.source.digest => None,
            (Some(used), _) => {
                let hosts = VirtualHosts::new(self, &self.key.1, used, &self.virtual_hosts_scope);
                *self.virtual_hosts.borrow_mut() = Some(Rc::clone(&hosts));
                Some((hosts, used))
            }
            (None, _) => {
                *self.virtual_hosts.borrow_mut() = None;
                None
            }
        };
        self.put(resource, lowered.value);
        let of_older = self.kept.replace(kept);
        drop(of_older);
        self.stats.0.config_reload().inc();
        server.xds.held.active(ResourceType::Route, resource);
        match begun {
            Some((hosts, used)) => hosts.start(server, used, &self.virtual_hosts_scope),
            None => self.waits.borrow_mut().clear(),
        }
        Ok(())
    }

    fn lower(
        &self,
        server: &Rc<Server>,
        resource: &Resource,
        hosts: &Hosts,
    ) -> Result<Lowered<Arc<RouteTable>>, String> {
        let (registry, runtime) = server.lowering();
        let wire = with_hosts(&resource.body, hosts);
        let lowered = server.xds.resources.routes((registry, &runtime), &wire)?;
        match lowered.clusters.iter().find(|name| !server.clusters.contains(name)) {
            Some(missing) => Err(format!("route: unknown cluster '{missing}'")),
            None => Ok(lowered),
        }
    }

    /// Puts a table in force.
    fn put(&self, resource: &Rc<Resource>, table: Arc<RouteTable>) {
        if let Some(hosts) = &*self.virtual_hosts.borrow() {
            table.set_discovery(Arc::clone(&hosts.discovery));
            hosts.discovery.newest.set(Some(Arc::clone(&table)));
        }
        self.users.borrow_mut().retain(|user| user.strong_count() > 0);
        for user in self.users.borrow().iter().filter_map(sync::Weak::upgrade) {
            user.set(Some(Arc::clone(&table)));
        }
        *self.known.borrow_mut() = Some((Rc::clone(resource), table));
    }

    /// The virtual hosts beside those of the route configuration itself are these.
    pub(super) fn take_virtual_hosts(&self, server: &Rc<Server>, hosts: &Hosts) -> Outcome {
        let known = self.known.borrow().as_ref().map(|(resource, _)| Rc::clone(resource));
        let Some(resource) = known else { return Ok(()) };
        let lowered = self.lower(server, &resource, hosts)?;
        server.note(ResourceType::VirtualHost, &resource.name, &lowered);
        let of_older = self.kept.replace(super::follow(server, &lowered.uses, &Rc::default()));
        drop(of_older);
        self.put(&resource, lowered.value);
        if self.waits.borrow().is_empty() {
            // Those that come first count as part of the route configuration.
            self.stats.0.config_reload().inc();
        }
        Ok(())
    }

    /// Virtual hosts are there, or are not waited for any longer.
    pub(super) fn virtual_hosts_known(&self) {
        self.waits.borrow_mut().clear();
    }
}

fn virtual_hosts_of(uses: &[DynamicUse]) -> Option<VirtualHostsUse> {
    uses.iter().find_map(|used| match used {
        DynamicUse::VirtualHosts(hosts) => Some(hosts.clone()),
        _ => None,
    })
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
