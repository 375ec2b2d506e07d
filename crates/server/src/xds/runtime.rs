//! RTDS: layers of the runtime.

use super::{Counts, Failure, Subscription, Update, Wait, Watcher, subscribe};
use crate::state::Server;
use nuncio_config::sources::Source;
use nuncio_filter::Runtime;
use nuncio_xds::{Names, Outcome, ResourceType};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

const KIND: ResourceType = ResourceType::Runtime;

/// Subscribes to the layers that come from elsewhere. What is returned keeps the subscriptions.
pub(crate) fn follow(server: &Rc<Server>, layers: &[(String, usize, Source)]) -> Vec<Rc<Subscription>> {
    let scope = server.store.scope("runtime", &[]);
    let subscribe_to = |(name, place, source): &(String, usize, Source)| {
        let wait = server.xds.waits.wait(format!("RTDS {name}"));
        let watcher = Rc::new(Layer { server: Rc::downgrade(server), place: *place, wait: RefCell::new(Some(wait)) });
        subscribe(server, (source, Counts::of(&scope)), KIND, Names::one(name), watcher)
    };
    layers.iter().map(subscribe_to).collect()
}

struct Layer {
    server: Weak<Server>,
    place: usize,
    wait: RefCell<Option<Wait>>,
}

impl Layer {
    fn put(&self, server: &Server, values: BTreeMap<String, String>) {
        let mut layers = server.runtime.borrow().layers().to_vec();
        if let Some((_, layer)) = layers.get_mut(self.place) {
            *layer = values;
        }
        server.set_runtime(Arc::new(Runtime::new(layers)));
    }
}

impl Watcher for Layer {
    fn update(&self, update: &Update<'_>) -> Outcome {
        let Some(server) = self.server.upgrade() else { return Ok(()) };
        match update.resources.first() {
            Some(resource) => {
                let (registry, runtime) = server.lowering();
                let lowered = server.xds.resources.runtime_layer((registry, &runtime), &resource.body);
                let lowered = lowered.map_err(|reason| {
                    server.xds.held.refused(KIND, resource, &reason);
                    format!("{}: {reason}", resource.name)
                })?;
                server.note(KIND, &resource.name, &lowered);
                self.put(&server, lowered.value);
                server.xds.held.active(KIND, resource);
            }
            None => {
                for name in update.removed {
                    server.xds.held.removed(KIND, name);
                }
                self.put(&server, BTreeMap::new());
            }
        }
        self.wait.borrow_mut().take();
        Ok(())
    }

    fn failed(&self, _failure: &Failure) {
        self.wait.borrow_mut().take();
    }
}
