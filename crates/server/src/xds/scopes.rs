//! SRDS: the scopes of connection managers, and the routes of each.

use super::{Counts, Failure, Subscription, Update, Wait, Waits, Watcher, on_demand, routes, subscribe};
use crate::state::Server;
use nuncio_config::lower::{ScopeConfig, ScopedRoutes, scope_conflict};
use nuncio_config::sources::{RoutesUse, ScopesUse};
use nuncio_route::{Answer, LiveRoutes, Question, RouteScope};
use nuncio_stats::names::{ConfigReloadStats, ScopedRouteStats};
use nuncio_xds::{Names, Outcome, Resource, ResourceType};
use std::any::Any;
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::{Rc, Weak};
use std::sync::{self, Arc};

const KIND: ResourceType = ResourceType::ScopedRoute;
/// What waits while scopes are taken up.
const DEPENDENTS: &[ResourceType] = &[ResourceType::Route];

/// The sources of scopes that are subscribed to, each once.
#[derive(Default)]
pub(crate) struct ScopeSubscriptions {
    by_source: RefCell<HashMap<(u64, u64), Weak<Scopes>>>,
}

/// All scopes of a source.
struct Scopes {
    server: Weak<Server>,
    key: (u64, u64),
    /// The first that subscribed.
    used: Arc<ScopesUse>,
    subscription: OnceCell<Rc<Subscription>>,
    /// Connection managers.
    users: RefCell<Vec<sync::Weak<ScopesUse>>>,
    /// By name; none before the first answer.
    known: RefCell<Option<BTreeMap<String, Rc<Scope>>>>,
    /// Who waits for the first answer.
    waits: RefCell<Vec<Wait>>,
    stats: (ConfigReloadStats, ScopedRouteStats),
}

/// One scope.
struct Scope {
    resource: Rc<Resource>,
    config: ScopeConfig,
    routes: Arc<LiveRoutes>,
    /// The subscription to its routes.
    kept: OnceCell<Rc<dyn Any>>,
}

impl Drop for Scopes {
    fn drop(&mut self) {
        let Some(server) = self.server.upgrade() else { return };
        server.xds.scopes.by_source.borrow_mut().remove(&self.key);
        for name in self.known.borrow().iter().flat_map(BTreeMap::keys) {
            server.xds.held.removed(KIND, name);
        }
    }
}

/// Keeps the subscription, and the place where scopes are put.
struct Kept(#[allow(dead_code)] (Rc<Scopes>, Arc<ScopesUse>));

/// Subscribes for a connection manager, or shares the subscription of another.
pub(super) fn follow(server: &Rc<Server>, used: &Arc<ScopesUse>, waits: &Rc<Waits>) -> Rc<dyn Any> {
    let key = (used.source.digest, used.routes_source.digest);
    let existing = server.xds.scopes.by_source.borrow().get(&key).and_then(Weak::upgrade);
    let scopes = existing.unwrap_or_else(|| subscribe_to(server, key, used));
    scopes.users.borrow_mut().push(Arc::downgrade(used));
    on_demand::answer(&used.scopes.on_demand, &scopes, Scopes::asked);
    match &*scopes.known.borrow() {
        Some(known) => put(&used.scopes, known),
        None => scopes.waits.borrow_mut().push(waits.wait(format!("SRDS {}", used.name))),
    }
    Rc::new(Kept((scopes, Arc::clone(used))))
}

fn subscribe_to(server: &Rc<Server>, key: (u64, u64), used: &Arc<ScopesUse>) -> Rc<Scopes> {
    let scopes = Rc::new(Scopes {
        server: Rc::downgrade(server),
        key,
        used: Arc::clone(used),
        subscription: OnceCell::new(),
        users: RefCell::default(),
        known: RefCell::default(),
        waits: RefCell::default(),
        stats: (ConfigReloadStats::register(&used.scope), ScopedRouteStats::register(&used.scope)),
    });
    server.xds.scopes.by_source.borrow_mut().insert(key, Rc::downgrade(&scopes));
    let watcher = Rc::new(Taker(Rc::downgrade(&scopes)));
    let subscription = subscribe(server, (&used.source, Counts::of(&used.scope)), KIND, Names::All, watcher);
    // Set once, here.
    let _ = scopes.subscription.set(subscription);
    scopes
}

fn put(live: &nuncio_route::LiveScopes, known: &BTreeMap<String, Rc<Scope>>) {
    live.set(known.values().map(|scope| {
        let value = RouteScope { name: Arc::clone(&scope.config.name), routes: Arc::clone(&scope.routes) };
        (scope.config.key.clone(), value)
    }));
}

impl Scopes {
    fn take(&self, server: &Rc<Server>, update: &Update<'_>) -> Outcome {
        if update.resources.is_empty() && update.removed.is_empty() {
            self.stats.1.update_empty().inc();
        }
        let paused = server.xds.pause(DEPENDENTS);
        let before = self.known.borrow().clone().unwrap_or_default();
        let after = self.after(server, &before, update)?;
        let is_changed = before.len() != after.len()
            || after.iter().any(|(name, scope)| before.get(name).is_none_or(|known| !Rc::ptr_eq(known, scope)));
        for scope in after.values() {
            if !scope.config.is_on_demand {
                self.follow_routes(server, scope, &Rc::default());
            }
            server.xds.held.active(KIND, &scope.resource);
        }
        for name in before.keys().filter(|name| !after.contains_key(*name)) {
            server.xds.held.removed(KIND, name);
        }
        self.users.borrow_mut().retain(|user| user.strong_count() > 0);
        for user in self.users.borrow().iter().filter_map(sync::Weak::upgrade) {
            put(&user.scopes, &after);
        }
        *self.known.borrow_mut() = Some(after);
        if is_changed {
            self.stats.0.config_reload().inc();
        }
        // Only now: what both name stays subscribed to.
        drop(before);
        drop(paused);
        self.show_counts();
        self.waits.borrow_mut().clear();
        Ok(())
    }

    /// The scopes after an update, or why they stay as they are.
    fn after(
        &self,
        server: &Rc<Server>,
        before: &BTreeMap<String, Rc<Scope>>,
        update: &Update<'_>,
    ) -> Result<BTreeMap<String, Rc<Scope>>, String> {
        let mut after = if update.is_complete { BTreeMap::new() } else { before.clone() };
        for name in update.removed {
            after.remove(name);
        }
        for resource in update.resources {
            let known = before.get(&resource.name).filter(|known| known.resource.body == resource.body);
            let scope = match known {
                Some(known) => Rc::clone(known),
                None => Rc::new(self.lower(server, resource).map_err(|reason| {
                    server.xds.held.refused(KIND, resource, &reason);
                    format!("{}: {reason}", resource.name)
                })?),
            };
            after.insert(resource.name.clone(), scope);
        }
        scope_conflict(after.values().map(|scope| &scope.config))?;
        Ok(after)
    }

    fn lower(&self, server: &Rc<Server>, resource: &Rc<Resource>) -> Result<Scope, String> {
        let (registry, runtime) = server.lowering();
        let lowered = server.xds.resources.scope((registry, &runtime), &resource.body)?;
        server.note(KIND, &resource.name, &lowered);
        let routes = Arc::new(LiveRoutes::new());
        if let ScopedRoutes::Inline(table) = &lowered.value.routes {
            routes.set(Some(Arc::clone(table)));
        }
        Ok(Scope { resource: Rc::clone(resource), config: lowered.value, routes, kept: OnceCell::new() })
    }

    /// Subscribes to the routes of a scope, once.
    fn follow_routes(&self, server: &Rc<Server>, scope: &Scope, waits: &Rc<Waits>) {
        let ScopedRoutes::Named(name) = &scope.config.routes else { return };
        if scope.kept.get().is_some() {
            return;
        }
        let source = (Arc::clone(name), self.used.routes_source.clone());
        let used = Arc::new(RoutesUse::new(source, Arc::clone(&scope.routes), &self.used.manager));
        // Set once, here.
        let _ = scope.kept.set(routes::follow(server, &used, waits));
    }

    /// A request needs the routes of a scope.
    fn asked(self: &Rc<Self>, Question { name, answer }: Question) {
        let scope = self.known.borrow().as_ref().and_then(|known| known.get(&*name).cloned());
        let (Some(server), Some(scope)) = (self.server.upgrade(), scope) else { return };
        let waits = Rc::<Waits>::default();
        self.follow_routes(&server, &scope, &waits);
        self.show_counts();
        answer_after(waits, answer);
    }

    fn show_counts(&self) {
        let known = self.known.borrow();
        let count = |is_wanted: fn(&Scope) -> bool| {
            known.iter().flat_map(BTreeMap::values).filter(|scope| is_wanted(scope)).count() as u64
        };
        let stats = &self.stats.1;
        stats.all_scopes().set(count(|_| true));
        stats.on_demand_scopes().set(count(|scope| scope.config.is_on_demand));
        stats.active_scopes().set(count(|scope| scope.kept.get().is_some()));
    }
}

fn answer_after(waits: Rc<Waits>, answer: Answer) {
    tokio::task::spawn_local(async move {
        waits.done().await;
        answer();
    });
}

struct Taker(Weak<Scopes>);

impl Watcher for Taker {
    fn update(&self, update: &Update<'_>) -> Outcome {
        let Some(scopes) = self.0.upgrade() else { return Ok(()) };
        let Some(server) = scopes.server.upgrade() else { return Ok(()) };
        scopes.take(&server, update)
    }

    fn failed(&self, failure: &Failure) {
        let Some(scopes) = self.0.upgrade() else { return };
        if matches!(failure, Failure::TimedOut) && !scopes.waits.borrow().is_empty() {
            let name = &scopes.used.name;
            tracing::warn!(target: "router", "the scopes {name} did not come in time: going on without");
        }
        scopes.waits.borrow_mut().clear();
    }
}
