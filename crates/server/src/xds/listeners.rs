//! LDS: listeners that come and go. A listener serves once everything that it depends on is there; the one before it serves until
//! then.

use super::{Counts, Failure, Subscription, Update, Wait, Waits, Watcher, follow, subscribe};
use crate::listener_manager::Prepared;
use crate::state::Server;
use nuncio_config::lower::Lowered;
use nuncio_config::snapshot::ListenerConfig;
use nuncio_config::sources::Source;
use nuncio_xds::{Names, Outcome, Resource, ResourceType};
use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::rc::{Rc, Weak};
use std::sync::Arc;

const KIND: ResourceType = ResourceType::Listener;
/// What waits while listeners are taken up.
const DEPENDENTS: &[ResourceType] = &[
    ResourceType::Route,
    ResourceType::ScopedRoute,
    ResourceType::VirtualHost,
    ResourceType::Secret,
    ResourceType::ExtensionConfig,
];

/// The subscription to listeners.
pub(crate) struct Listeners {
    server: Weak<Server>,
    subscription: OnceCell<Rc<Subscription>>,
    /// Start waits for the first answer.
    first: RefCell<Option<Wait>>,
    warming: RefCell<BTreeMap<Arc<str>, Rc<Warming>>>,
    /// What listeners that serve depend on.
    serving: RefCell<BTreeMap<Arc<str>, Kept>>,
    /// Whether listeners may serve.
    is_started: Cell<bool>,
}

type Kept = Vec<Rc<dyn Any>>;

/// A listener that is being made ready.
struct Warming {
    config: Arc<ListenerConfig>,
    prepared: RefCell<Option<Prepared>>,
    kept: RefCell<Kept>,
    waits: Rc<Waits>,
    /// Start waits for it.
    of_start: RefCell<Option<Wait>>,
    is_ready: Cell<bool>,
}

impl Listeners {
    /// Subscribes.
    pub(crate) fn start(server: &Rc<Server>, source: &Source) -> Rc<Listeners> {
        let scope = server.store.scope("listener_manager.lds", &[]);
        let listeners = Rc::new(Listeners {
            server: Rc::downgrade(server),
            subscription: OnceCell::new(),
            first: RefCell::new(Some(server.xds.waits.wait("LDS"))),
            warming: RefCell::default(),
            serving: RefCell::default(),
            is_started: Cell::new(false),
        });
        let watcher = Rc::new(Taker(Rc::downgrade(&listeners)));
        let subscription = subscribe(server, (source, Counts::of(&scope)), KIND, Names::All, watcher);
        // Set once, here.
        let _ = listeners.subscription.set(subscription);
        listeners
    }

    /// Listeners may serve from here on: those that are ready begin.
    pub(crate) fn serve(&self, server: &Rc<Server>) {
        self.is_started.set(true);
        let ready: Vec<Rc<Warming>> =
            self.warming.borrow().values().filter(|warming| warming.is_ready.get()).cloned().collect();
        for warming in ready {
            self.activate(server, &warming);
        }
    }

    /// Listeners that are not ready, with what each waits for.
    pub(crate) fn pending(&self) -> Vec<(Arc<str>, Rc<Waits>)> {
        let warming = self.warming.borrow();
        let pending = warming.values().filter(|warming| !warming.is_ready.get());
        pending.map(|warming| (Arc::clone(&warming.config.name), Rc::clone(&warming.waits))).collect()
    }

    fn take(self: &Rc<Self>, server: &Rc<Server>, update: &Update<'_>) -> Outcome {
        let paused = server.xds.pause(DEPENDENTS);
        server.xds.held.forget_refused(KIND);
        let mut changed = false;
        // Removals first: a new listener may take the address of one that goes.
        for name in self.removed(server, update) {
            self.remove(server, &name);
            changed = true;
        }
        let mut refused = Vec::new();
        for resource in update.resources {
            match self.take_one(server, resource) {
                Ok(took) => changed |= took,
                Err(reason) => {
                    server.xds.held.refused(KIND, resource, &reason);
                    refused.push(format!("{}: {reason}", resource.name));
                }
            }
        }
        if changed {
            server.xds.held.changed(KIND, update.version);
        }
        drop(paused);
        self.first.borrow_mut().take();
        if refused.is_empty() {
            return Ok(());
        }
        Err(format!("Error adding/updating listener(s) {}", refused.join("\n")))
    }

    fn removed(&self, server: &Rc<Server>, update: &Update<'_>) -> Vec<String> {
        let held = server.xds.held.names(KIND);
        let names: HashSet<&str> = match update.is_complete {
            true => update.resources.iter().map(|resource| resource.name.as_str()).collect(),
            false => update.removed.iter().map(String::as_str).collect(),
        };
        held.into_iter().filter(|name| names.contains(name.as_str()) != update.is_complete).collect()
    }

    fn remove(&self, server: &Rc<Server>, name: &str) {
        server.xds.held.removed(KIND, name);
        let warming = self.warming.borrow_mut().remove(name);
        let serving = self.serving.borrow_mut().remove(name);
        tracing::info!(target: "config", "removing listener {name}");
        let served = server.listeners.borrow_mut().remove(name, &server.workers);
        if !served && warming.is_some() {
            server.listeners.borrow().stats().listener_removed().inc();
        }
        drop(warming);
        self.show_warming(server);
        keep_while_draining(server, serving);
    }

    /// Whether anything changed.
    fn take_one(self: &Rc<Self>, server: &Rc<Server>, resource: &Rc<Resource>) -> Result<bool, String> {
        let xds = &server.xds;
        if server.snapshot.borrow().listeners.iter().any(|listener| *listener.name == *resource.name) {
            tracing::debug!(target: "config", "listener {} is static and stays as it is", resource.name);
            return Ok(false);
        }
        if let Some(known) = xds.held.newest(KIND, &resource.name)
            && known.body == resource.body
        {
            return Ok(false);
        }
        let (registry, runtime) = server.lowering();
        let lowered = xds.resources.listener((registry, &runtime), &resource.body)?;
        if let Some(missing) = lowered.clusters.iter().find(|name| !server.clusters.contains(name)) {
            return Err(format!("unknown cluster '{missing}'"));
        }
        server.note(KIND, &resource.name, &lowered);
        let Lowered { value: config, uses, tls, .. } = lowered;
        self.check_addresses(&config)?;
        let warming_before = self.warming.borrow_mut().remove(&config.name);
        let was_ready = warming_before.is_none();
        let prepared = server.listeners.borrow_mut().prepare(&config).map_err(|error| error.to_string())?;
        server.listeners.borrow().count(&config, warming_before.as_ref().map(|before| &*before.config));
        drop(warming_before);
        server.contexts.add(&tls);
        let waits = Rc::<Waits>::default();
        let kept = follow(server, &uses, &waits);
        let of_start = (!self.is_started.get()).then(|| xds.waits.wait(format!("listener {}", config.name)));
        let warming = Rc::new(Warming {
            config,
            prepared: RefCell::new(Some(prepared)),
            kept: RefCell::new(kept),
            waits,
            of_start: RefCell::new(of_start),
            is_ready: Cell::new(false),
        });
        self.warming.borrow_mut().insert(Arc::clone(&warming.config.name), Rc::clone(&warming));
        match warming.waits.pending().is_empty() {
            true => xds.held.active(KIND, resource),
            false => xds.held.warming(KIND, resource, was_ready),
        }
        self.await_dependencies(server, warming);
        self.show_warming(server);
        Ok(true)
    }

    /// No two listeners have one address, ready or not.
    fn check_addresses(&self, config: &ListenerConfig) -> Result<(), String> {
        for other in self.warming.borrow().values().filter(|other| other.config.name != config.name) {
            if let Some(address) = config.shared_address(&other.config) {
                let other = &other.config.name;
                return Err(format!("has duplicate address '{address}' as existing listener {other}"));
            }
        }
        Ok(())
    }

    fn await_dependencies(self: &Rc<Self>, server: &Rc<Server>, warming: Rc<Warming>) {
        if warming.waits.pending().is_empty() {
            self.became_ready(server, &warming);
            return;
        }
        let (listeners, server) = (Rc::downgrade(self), Rc::downgrade(server));
        let waiting = Rc::downgrade(&warming);
        let waits = Rc::clone(&warming.waits);
        drop(warming);
        tokio::task::spawn_local(async move {
            waits.done().await;
            // If it was replaced or removed meanwhile, nobody holds it any more.
            if let (Some(listeners), Some(server), Some(warming)) =
                (listeners.upgrade(), server.upgrade(), waiting.upgrade())
            {
                listeners.became_ready(&server, &warming);
            }
        });
    }

    fn show_warming(&self, server: &Server) {
        // Before start there is nothing that they could take the place of: Envoy counts none.
        let is_waiting = |warming: &&Rc<Warming>| self.is_started.get() && !warming.is_ready.get();
        let warming = self.warming.borrow().values().filter(is_waiting).count();
        server.listeners.borrow().stats().total_listeners_warming().set(warming as u64);
    }

    fn became_ready(&self, server: &Rc<Server>, warming: &Rc<Warming>) {
        warming.is_ready.set(true);
        self.show_warming(server);
        warming.of_start.borrow_mut().take();
        if self.is_started.get() {
            self.activate(server, warming);
        }
    }

    fn activate(&self, server: &Rc<Server>, warming: &Rc<Warming>) {
        let name = &warming.config.name;
        let is_newest = self.warming.borrow().get(name).is_some_and(|newest| Rc::ptr_eq(newest, warming));
        let prepared = warming.prepared.borrow_mut().take();
        let (true, Some(prepared)) = (is_newest, prepared) else { return };
        self.warming.borrow_mut().remove(name);
        let mut manager = server.listeners.borrow_mut();
        match manager.activate(prepared, &server.workers) {
            Ok(()) => {
                drop(manager);
                // Only now: the one before it served with what it depends on.
                let before = self.serving.borrow_mut().insert(Arc::clone(name), warming.kept.take());
                keep_while_draining(server, before);
            }
            Err(error) => tracing::error!(target: "config", "{error}: the listener does not serve"),
        }
    }
}

/// What a listener depended on stays as long as its connections drain, as in Envoy.
fn keep_while_draining(server: &Server, kept: Option<Kept>) {
    let Some(kept) = kept.filter(|kept| !kept.is_empty()) else { return };
    let time = std::time::Duration::from_secs(server.options.drain_time_s);
    tokio::task::spawn_local(async move {
        tokio::time::sleep(time).await;
        drop(kept);
    });
}

struct Taker(Weak<Listeners>);

impl Watcher for Taker {
    fn update(&self, update: &Update<'_>) -> Outcome {
        let Some(listeners) = self.0.upgrade() else { return Ok(()) };
        let Some(server) = listeners.server.upgrade() else { return Ok(()) };
        listeners.take(&server, update)
    }

    fn failed(&self, failure: &Failure) {
        let Some(listeners) = self.0.upgrade() else { return };
        if matches!(failure, Failure::TimedOut) && listeners.first.borrow().is_some() {
            tracing::warn!(target: "config", "no listeners came in time (lds_config.initial_fetch_timeout): going on without");
        }
        listeners.first.borrow_mut().take();
    }
}
