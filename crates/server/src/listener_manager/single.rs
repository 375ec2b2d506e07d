//! One listener at a time, as discovery brings and removes them.

use super::{ListenerError, ListenerManager, Prepared, bind_all, draining, keeps_sockets, listen_all};
use crate::worker::{Command, WorkerThread};
use nuncio_config::snapshot::ListenerConfig;
use nuncio_io::Address;
use std::fmt;
use std::sync::Arc;

/// Why a listener can't be added.
#[derive(Debug)]
pub(crate) enum NotAdded {
    /// A socket can't be bound.
    Bind(ListenerError),
    /// Another listener has the address.
    Duplicate { address: Address, other: Arc<str> },
}

impl fmt::Display for NotAdded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotAdded::Bind(error) => write!(f, "{error}"),
            NotAdded::Duplicate { address, other } => {
                write!(f, "has duplicate address '{address}' as existing listener {other}")
            }
        }
    }
}

impl ListenerManager {
    /// Binds what a listener needs beyond what the one of its name has. It serves once it is activated.
    pub(crate) fn prepare(&mut self, config: &Arc<ListenerConfig>) -> Result<Prepared, NotAdded> {
        let others = self.served.iter().filter(|served| served.config.name != config.name);
        for other in others {
            if let Some(address) = config.shared_address(&other.config) {
                let (address, other) = (address.clone(), Arc::clone(&other.config.name));
                return Err(NotAdded::Duplicate { address, other });
            }
        }
        let before = self.served.iter().find(|served| served.config.name == config.name);
        if before.is_some_and(|served| keeps_sockets(served, config)) {
            return Ok(Prepared { config: Arc::clone(config), bound: None });
        }
        let mut held = before.map(|served| served.held.iter().collect()).unwrap_or_default();
        match bind_all(config, &mut held, &self.inherited, self.workers) {
            Ok(bound) => Ok(Prepared { config: Arc::clone(config), bound: Some(bound) }),
            Err(error) => {
                self.stats.listener_create_failure().add(self.workers as u64);
                Err(NotAdded::Bind(ListenerError { listener: Arc::clone(&config.name), error }))
            }
        }
    }

    /// Counts a listener that discovery brought, in the place of `warming` or of the one that serves.
    pub(crate) fn count(&self, config: &ListenerConfig, warming: Option<&ListenerConfig>) {
        let served = self.served.iter().find(|served| served.config.name == config.name);
        let Some(before) = warming.or(served.map(|served| &*served.config)) else {
            self.stats.listener_added().inc();
            return;
        };
        self.stats.listener_modified().inc();
        if super::draining::only_chains(before, config) {
            self.stats.listener_in_place_updated().inc();
        }
    }

    /// A prepared listener serves, in the place of the one of its name.
    pub(crate) fn activate(&mut self, prepared: Prepared, workers: &[WorkerThread]) -> Result<(), ListenerError> {
        if self.stopped {
            return Ok(());
        }
        let config = Arc::clone(&prepared.config);
        let ready = match prepared.bound.is_some() {
            true => match listen_all(prepared) {
                Ok(ready) => Some(ready),
                Err(error) => {
                    self.stats.listener_create_failure().add(self.workers as u64);
                    return Err(ListenerError { listener: Arc::clone(&config.name), error });
                }
            },
            false => None,
        };
        self.is_counted = true;
        self.set(&config, ready, workers);
        self.is_counted = false;
        if let Some(served) = self.served.iter_mut().find(|served| served.config.name == config.name) {
            served.is_dynamic = true;
        }
        self.stats.total_listeners_active().set(self.served.len() as u64);
        Ok(())
    }

    /// Ends a listener; its connections drain.
    pub(crate) fn remove(&mut self, name: &str, workers: &[WorkerThread]) -> bool {
        let Some(at) = self.served.iter().position(|served| *served.config.name == *name) else { return false };
        let served = self.served.remove(at);
        self.stats.listener_removed().inc();
        draining::listener(&self.stats, self.drain_time);
        for worker in workers {
            worker.send(Command::RemoveListener { handle: served.handle.clone() });
        }
        self.stats.total_listeners_active().set(self.served.len() as u64);
        true
    }
}
