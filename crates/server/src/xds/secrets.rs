//! SDS: secrets of TLS contexts. What is shared by many contexts is subscribed to once.

use super::{Counts, Failure, Subscription, Update, Wait, Waits, Watcher, subscribe};
use crate::state::Server;
use nuncio_api::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use nuncio_config::sources::SecretUse;
use nuncio_config::tls::{Refreshed, SecretKey};
use nuncio_stats::names::SecretSubscriptionStats;
use nuncio_xds::{Names, Outcome, Resource, ResourceType};
use std::any::Any;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

const KIND: ResourceType = ResourceType::Secret;

/// The secrets that are subscribed to, by source and name.
#[derive(Default)]
pub(crate) struct SecretSubscriptions {
    by_key: RefCell<HashMap<SecretKey, Weak<Following>>>,
}

impl SecretSubscriptions {
    /// Names of secrets that did not come yet.
    pub(crate) fn awaited(&self) -> Vec<Arc<str>> {
        let all = self.by_key.borrow();
        let missing =
            all.iter().filter(|(_, secret)| secret.upgrade().is_some_and(|secret| secret.known.borrow().is_none()));
        missing.map(|((_, name), _)| Arc::clone(name)).collect()
    }
}

/// One secret.
struct Following {
    server: Weak<Server>,
    key: SecretKey,
    subscription: OnceCell<Rc<Subscription>>,
    known: RefCell<Option<Rc<Resource>>>,
    /// Who waits for the first answer.
    waits: RefCell<Vec<Wait>>,
    _stats: SecretSubscriptionStats,
}

impl Drop for Following {
    fn drop(&mut self) {
        let Some(server) = self.server.upgrade() else { return };
        server.xds.secrets.by_key.borrow_mut().remove(&self.key);
        server.xds.resources.secrets().discovered().set(&self.key, None);
        server.xds.held.removed(KIND, &self.key.1);
    }
}

/// Subscribes for a TLS context, or shares the subscription of others.
pub(super) fn follow(server: &Rc<Server>, used: &SecretUse, waits: &Rc<Waits>) -> Rc<dyn Any> {
    let key = (used.source.digest, Arc::clone(&used.name));
    let existing = server.xds.secrets.by_key.borrow().get(&key).and_then(Weak::upgrade);
    let following = existing.unwrap_or_else(|| subscribe_to(server, key, used));
    if following.known.borrow().is_none() {
        following.waits.borrow_mut().push(waits.wait(format!("SDS {}", used.name)));
    }
    following
}

fn subscribe_to(server: &Rc<Server>, key: SecretKey, used: &SecretUse) -> Rc<Following> {
    let scope = server.store.scope(&format!("sds.{}", nuncio_stats::sanitize(&used.name)), &[]);
    let following = Rc::new(Following {
        server: Rc::downgrade(server),
        key: key.clone(),
        subscription: OnceCell::new(),
        known: RefCell::default(),
        waits: RefCell::default(),
        _stats: SecretSubscriptionStats::register(&scope),
    });
    server.xds.secrets.by_key.borrow_mut().insert(key, Rc::downgrade(&following));
    let watcher = Rc::new(Taker(Rc::downgrade(&following)));
    let names = Names::one(&used.name);
    let subscription = subscribe(server, (&used.source, Counts::of(&scope)), KIND, names, watcher);
    // Set once, here.
    let _ = following.subscription.set(subscription);
    following
}

impl Following {
    fn take(&self, server: &Rc<Server>, resource: &Rc<Resource>) -> Outcome {
        if self.known.borrow().as_ref().is_some_and(|known| known.body == resource.body) {
            return Ok(());
        }
        let refuse = |reason: String| {
            server.xds.held.refused(KIND, resource, &reason);
            format!("{}: {reason}", resource.name)
        };
        let (registry, runtime) = server.lowering();
        let lowered = server.xds.resources.secret((registry, &runtime), &resource.body).map_err(refuse)?;
        server.note(KIND, &resource.name, &lowered);
        self.put(server, lowered.value).map_err(refuse)?;
        *self.known.borrow_mut() = Some(Rc::clone(resource));
        server.xds.held.active(KIND, resource);
        self.waits.borrow_mut().clear();
        Ok(())
    }

    /// Puts a secret in force in all contexts, or in none.
    fn put(&self, server: &Rc<Server>, secret: Arc<Secret>) -> Result<(), String> {
        let discovered = server.xds.resources.secrets().discovered();
        let before = discovered.set(&self.key, Some(secret));
        let uses = server.contexts.resting_on(&self.key);
        for (at, used) in uses.iter().enumerate() {
            let Refreshed::Kept(why) = used.refresh() else { continue };
            discovered.set(&self.key, before);
            for changed in uses.iter().take(at) {
                changed.refresh();
            }
            return Err(format!("{}: {why}", used.place));
        }
        server.contexts.files_changed();
        Ok(())
    }
}

struct Taker(Weak<Following>);

impl Watcher for Taker {
    fn update(&self, update: &Update<'_>) -> Outcome {
        let Some(following) = self.0.upgrade() else { return Ok(()) };
        let Some(server) = following.server.upgrade() else { return Ok(()) };
        match update.resources.first() {
            Some(resource) => following.take(&server, resource),
            // A removal leaves the secret in force, as in Envoy. Who waits for one that does not exist goes on waiting: without it no
            // connection would be served, and what it is to replace still serves.
            None => Ok(()),
        }
    }

    fn failed(&self, failure: &Failure) {
        let Some(following) = self.0.upgrade() else { return };
        if matches!(failure, Failure::TimedOut) && !following.waits.borrow().is_empty() {
            let name = &following.key.1;
            tracing::warn!(target: "secret", "secret {name} did not come in time: its contexts refuse connections until it does");
        }
        following.waits.borrow_mut().clear();
    }
}
