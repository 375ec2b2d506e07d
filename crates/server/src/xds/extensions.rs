//! ECDS: configurations of filters.

use super::{Counts, Failure, Subscription, Update, Wait, Waits, Watcher, subscribe};
use crate::state::Server;
use nuncio_config::sources::ExtensionUse;
use nuncio_stats::Scope;
use nuncio_stats::names::ExtensionConfigStats;
use nuncio_xds::{Names, Outcome, Resource, ResourceType};
use std::any::Any;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::{self, Arc};

const KIND: ResourceType = ResourceType::ExtensionConfig;

/// The digest of a source, and a name.
type Key = (u64, Arc<str>);

/// The configurations that are subscribed to, each once, by source and name.
#[derive(Default)]
pub(crate) struct ExtensionSubscriptions {
    by_name: RefCell<HashMap<Key, Weak<Extension>>>,
}

/// One configuration, and the filters that use it.
struct Extension {
    server: Weak<Server>,
    key: Key,
    subscription: OnceCell<Rc<Subscription>>,
    users: RefCell<Vec<sync::Weak<ExtensionUse>>>,
    known: RefCell<Option<Rc<Resource>>>,
    /// Who waits for the first answer.
    waits: RefCell<Vec<Wait>>,
    stats: ExtensionConfigStats,
}

impl Drop for Extension {
    fn drop(&mut self) {
        let Some(server) = self.server.upgrade() else { return };
        server.xds.extensions.by_name.borrow_mut().remove(&self.key);
        server.xds.held.removed(KIND, &self.key.1);
    }
}

/// Keeps the subscription, and the place where configurations are put.
struct Kept(#[allow(dead_code)] (Rc<Extension>, Arc<ExtensionUse>));

/// Subscribes for a filter, or shares the subscription of another.
pub(super) fn follow(server: &Rc<Server>, used: &Arc<ExtensionUse>, waits: &Rc<Waits>) -> Rc<dyn Any> {
    let key = (used.source.digest, Arc::clone(&used.name));
    let existing = server.xds.extensions.by_name.borrow().get(&key).and_then(Weak::upgrade);
    let extension = existing.unwrap_or_else(|| subscribe_to(server, key, used));
    extension.users.borrow_mut().push(Arc::downgrade(used));
    let known = extension.known.borrow().clone();
    match known {
        Some(resource) => {
            // It was good for others; where it is not for this one, its default stays.
            if let Err(reason) = lower(server, &resource, used) {
                tracing::warn!(target: "config", "filter {}: {reason}", used.name);
                used.target.fall_back();
            }
        }
        None if used.is_awaited => extension.waits.borrow_mut().push(waits.wait(format!("ECDS {}", used.name))),
        None => {}
    }
    Rc::new(Kept((extension, Arc::clone(used))))
}

fn subscribe_to(server: &Rc<Server>, key: Key, used: &ExtensionUse) -> Rc<Extension> {
    let name = nuncio_stats::sanitize(&used.name);
    let scope: Scope = server.store.scope(&format!("extension_config_discovery.{}.{name}", used.target.kind()), &[]);
    let extension = Rc::new(Extension {
        server: Rc::downgrade(server),
        key: key.clone(),
        subscription: OnceCell::new(),
        users: RefCell::default(),
        known: RefCell::default(),
        waits: RefCell::default(),
        stats: ExtensionConfigStats::register(&scope),
    });
    server.xds.extensions.by_name.borrow_mut().insert(key, Rc::downgrade(&extension));
    let watcher = Rc::new(Taker(Rc::downgrade(&extension)));
    let names = Names::one(&used.name);
    let subscription = subscribe(server, (&used.source, Counts::of(&scope)), KIND, names, watcher);
    // Set once, here.
    let _ = extension.subscription.set(subscription);
    extension
}

fn lower(server: &Rc<Server>, resource: &Resource, used: &ExtensionUse) -> Result<(), String> {
    let (registry, runtime) = server.lowering();
    let lowered = server.xds.resources.extension((registry, &runtime), &resource.body, used)?;
    server.note(KIND, &resource.name, &lowered);
    Ok(())
}

impl Extension {
    fn take(&self, server: &Rc<Server>, resource: &Rc<Resource>) -> Outcome {
        if self.known.borrow().as_ref().is_some_and(|known| known.body == resource.body) {
            return Ok(());
        }
        self.users.borrow_mut().retain(|user| user.strong_count() > 0);
        let users: Vec<Arc<ExtensionUse>> = self.users.borrow().iter().filter_map(sync::Weak::upgrade).collect();
        for used in &users {
            let Err(reason) = lower(server, resource, used) else { continue };
            self.stats.config_fail().inc();
            server.xds.held.refused(KIND, resource, &reason);
            // Those before it in the list go back to what they had.
            let known = self.known.borrow().clone();
            for other in &users {
                match &known {
                    Some(known) => drop(lower(server, known, other)),
                    None => other.target.fall_back(),
                }
            }
            return Err(format!("{}: {reason}", resource.name));
        }
        *self.known.borrow_mut() = Some(Rc::clone(resource));
        self.stats.config_reload().inc();
        server.xds.held.active(KIND, resource);
        self.waits.borrow_mut().clear();
        Ok(())
    }

    /// There is no configuration: defaults are in force.
    fn fall_back(&self) {
        self.users.borrow_mut().retain(|user| user.strong_count() > 0);
        for used in self.users.borrow().iter().filter_map(sync::Weak::upgrade) {
            used.target.fall_back();
        }
        self.waits.borrow_mut().clear();
    }
}

struct Taker(Weak<Extension>);

impl Watcher for Taker {
    fn update(&self, update: &Update<'_>) -> Outcome {
        let Some(extension) = self.0.upgrade() else { return Ok(()) };
        let Some(server) = extension.server.upgrade() else { return Ok(()) };
        match update.resources.first() {
            Some(resource) => extension.take(&server, resource),
            None => {
                extension.known.borrow_mut().take();
                extension.stats.config_reload().inc();
                server.xds.held.removed(KIND, &extension.key.1);
                extension.fall_back();
                Ok(())
            }
        }
    }

    fn failed(&self, failure: &Failure) {
        let Some(extension) = self.0.upgrade() else { return };
        if extension.known.borrow().is_some() {
            return;
        }
        if matches!(failure, Failure::TimedOut) {
            extension.stats.config_fail().inc();
            tracing::warn!(target: "config", "the configuration of filter {} did not come in time: its default is in force, if it has one", extension.key.1);
        }
        extension.fall_back();
    }
}
