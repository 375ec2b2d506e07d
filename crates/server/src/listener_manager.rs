//! The listeners as the main thread knows them: binding sockets and handing them to workers.
//!
//! *Invariant*: an update binds all new sockets before it changes anything; if one can't be bound, nothing changed.

mod draining;
mod single;

use crate::hot_restart::InheritedSockets;
use crate::listener::ListenerHandle;
use crate::worker::{Command, WorkerThread};
use nuncio_config::snapshot::{ListenerConfig, TrafficDirection};
use nuncio_io::Address;
use nuncio_io::listen::{BindError, Bound, Held, ListenSpec, Listener, bind};
use nuncio_stats::Store;
use nuncio_stats::names::{ListenerManagerStats, ListenerStats, ListenerWorkerStats};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// A listener that serves.
pub(crate) struct ServedListener {
    pub handle: ListenerHandle,
    pub config: Arc<ListenerConfig>,
    /// Where it really listens: with the port that the kernel chose.
    pub addresses: Vec<Address>,
    /// Sockets that a changed listener takes over, as no second one could be bound.
    held: Vec<Held>,
    /// Whether discovery brought it.
    is_dynamic: bool,
}

/// All listeners of the process.
pub(crate) struct ListenerManager {
    store: Arc<Store>,
    stats: ListenerManagerStats,
    workers: usize,
    drain_time: Duration,
    served: Vec<ServedListener>,
    next_id: u64,
    /// Sockets of the process before this one that no listener has taken yet.
    inherited: Vec<InheritedSockets>,
    /// The listener that is set next was counted when discovery brought it.
    is_counted: bool,
    /// The process ends: what listeners there are does not change any more.
    stopped: bool,
}

/// Sockets that are bound for a listener of an update.
pub(crate) struct Prepared {
    config: Arc<ListenerConfig>,
    /// None if it goes on with the sockets of the listener that it replaces.
    bound: Option<Vec<Bound>>,
}

/// A listener that could not be bound.
#[derive(Debug)]
pub(crate) struct ListenerError {
    pub listener: Arc<str>,
    pub error: BindError,
}

impl std::fmt::Display for ListenerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "listener {}: {}", self.listener, self.error)
    }
}

impl ListenerManager {
    /// `drain_time` is how long listeners and filter chains drain that are removed or replaced.
    pub(crate) fn new(store: &Arc<Store>, workers: usize, drain_time: Duration) -> ListenerManager {
        ListenerManager {
            store: Arc::clone(store),
            stats: ListenerManagerStats::register(&store.scope("listener_manager", &[])),
            workers,
            drain_time,
            served: Vec::new(),
            next_id: 1,
            inherited: Vec::new(),
            is_counted: false,
            stopped: false,
        }
    }

    /// Sockets of another process that listeners are to go on with, in place of those that were given before.
    pub(crate) fn inherit(&mut self, sockets: Vec<InheritedSockets>) {
        self.inherited = sockets;
    }

    /// The listeners that serve.
    pub(crate) fn served(&self) -> &[ServedListener] {
        &self.served
    }

    /// The listeners' counters.
    pub(crate) fn stats(&self) -> &ListenerManagerStats {
        &self.stats
    }

    /// Makes `configs` the listeners: adds, updates in place or replaces, removes. On an error nothing changed.
    pub(crate) fn apply(
        &mut self,
        configs: &[Arc<ListenerConfig>],
        workers: &[WorkerThread],
    ) -> Result<(), Vec<ListenerError>> {
        if self.stopped {
            return Ok(());
        }
        let mut prepared: HashMap<Arc<str>, Prepared> = HashMap::new();
        let mut errors = Vec::new();
        let mut held = self.held_by_changed(configs);
        for config in configs {
            let before = self.served.iter().find(|served| served.config.name == config.name);
            if before.is_some_and(|served| keeps_sockets(served, config)) {
                continue;
            }
            match bind_all(config, &mut held, &self.inherited, self.workers) {
                Ok(bound) => {
                    prepared
                        .insert(Arc::clone(&config.name), Prepared { config: Arc::clone(config), bound: Some(bound) });
                }
                Err(error) => {
                    self.stats.listener_create_failure().add(self.workers as u64);
                    errors.push(ListenerError { listener: Arc::clone(&config.name), error });
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut listening = HashMap::new();
        for (name, prepared) in prepared {
            match listen_all(prepared) {
                Ok(ready) => {
                    listening.insert(name, ready);
                }
                Err(error) => errors.push(ListenerError { listener: name, error }),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        self.remove_missing(configs, workers);
        for config in configs {
            self.set(config, listening.remove(&config.name), workers);
        }
        self.stats.total_listeners_active().set(self.served.len() as u64);
        Ok(())
    }

    /// Sockets of listeners that the update removes, or binds anew.
    fn held_by_changed(&self, configs: &[Arc<ListenerConfig>]) -> Vec<&Held> {
        let stays = |served: &&ServedListener| {
            served.is_dynamic
                || configs.iter().any(|config| config.name == served.config.name && keeps_sockets(served, config))
        };
        self.served.iter().filter(|served| !stays(served)).flat_map(|served| &served.held).collect()
    }

    fn remove_missing(&mut self, configs: &[Arc<ListenerConfig>], workers: &[WorkerThread]) {
        let (stats, drain_time) = (&self.stats, self.drain_time);
        self.served.retain(|served| {
            if served.is_dynamic || configs.iter().any(|config| config.name == served.config.name) {
                return true;
            }
            stats.listener_removed().inc();
            draining::listener(stats, drain_time);
            for worker in workers {
                worker.send(Command::RemoveListener { handle: served.handle.clone() });
            }
            false
        });
    }

    fn set(&mut self, config: &Arc<ListenerConfig>, ready: Option<Ready>, workers: &[WorkerThread]) {
        if self.stopped {
            return;
        }
        let at = self.served.iter().position(|served| served.config.name == config.name);
        if let Some(at) = at {
            let served = &mut self.served[at];
            if served.config.hash == config.hash {
                return;
            }
            let is_counted = std::mem::take(&mut self.is_counted);
            self.stats.listener_modified().add(u64::from(!is_counted));
            let before = std::mem::replace(&mut served.config, Arc::clone(config));
            if draining::only_chains(&before, config) {
                self.stats.listener_in_place_updated().add(u64::from(!is_counted));
                draining::chains(&self.stats, self.drain_time, draining::gone(&before, config));
            } else {
                draining::listener(&self.stats, self.drain_time);
            }
        } else {
            self.stats.listener_added().add(u64::from(!std::mem::take(&mut self.is_counted)));
            let handle = self.handle(config, ready.as_ref());
            self.served.push(ServedListener {
                handle,
                config: Arc::clone(config),
                addresses: Vec::new(),
                held: Vec::new(),
                is_dynamic: false,
            });
        }
        let at = at.unwrap_or(self.served.len() - 1);
        let in_place = ready.is_none();
        let mut per_worker: Vec<Vec<Listener>> = (0..self.workers).map(|_| Vec::new()).collect();
        if let Some(Ready { addresses, sockets, held }) = ready {
            self.served[at].addresses = addresses;
            self.served[at].held = held;
            for of_address in sockets {
                for (worker, socket) in of_address.into_iter().enumerate() {
                    per_worker[worker % self.workers].push(socket);
                }
            }
        } else if self.served[at].addresses.is_empty() {
            self.served[at].addresses = config.addresses.iter().map(|spec| spec.address.clone()).collect();
        }
        for (worker, sockets) in workers.iter().zip(per_worker) {
            self.stats.listener_create_success().inc();
            worker.send(Command::SetListener {
                handle: self.served[at].handle.clone(),
                config: Arc::clone(config),
                sockets,
                replace_sockets: !in_place,
            });
        }
    }

    fn handle(&mut self, config: &ListenerConfig, ready: Option<&Ready>) -> ListenerHandle {
        let id = self.next_id;
        self.next_id += 1;
        let prefix = match ready.and_then(|ready| ready.addresses.first()) {
            Some(address) if config.stat_prefix.is_empty() => stat_prefix(address),
            _ => config.stats_name(),
        };
        let scope = self.store.scope(&format!("listener.{prefix}"), &[]);
        let worker_stats = (0..self.workers)
            .map(|worker| ListenerWorkerStats::register(&scope.child(&format!("worker_{worker}"))))
            .collect();
        ListenerHandle { id, stats: ListenerStats::register(&scope), worker_stats, open: Arc::default() }
    }

    /// Stops accepting; updates have no effect any more.
    pub(crate) fn stop_for_good(&mut self, workers: &[WorkerThread]) {
        self.stop_listening(false, workers);
        self.stopped = true;
    }

    /// Stops accepting on the listeners concerned.
    pub(crate) fn stop_listening(&mut self, inbound_only: bool, workers: &[WorkerThread]) {
        let is_meant = |served: &&mut ServedListener| {
            !inbound_only || served.config.traffic_direction == TrafficDirection::Inbound
        };
        for served in self.served.iter_mut().filter(is_meant) {
            self.stats.listener_stopped().inc();
            served.held.clear();
        }
        for worker in workers {
            worker.send(Command::StopListening { inbound_only });
        }
    }
}

/// The name of an address in statistics: `127.0.0.1_80`.
pub(crate) fn stat_prefix(address: &Address) -> String {
    nuncio_stats::sanitize(&address.to_string())
}

/// Sockets that listen, by address, then by worker.
struct Ready {
    addresses: Vec<Address>,
    sockets: Vec<Vec<Listener>>,
    held: Vec<Held>,
}

/// Binds what a listener listens on. A socket of `held` that serves is taken, and can't be taken again; those of `inherited`
/// stay, as the listener may be replaced before it serves.
fn bind_all(
    config: &ListenerConfig,
    held: &mut Vec<&Held>,
    inherited: &[InheritedSockets],
    workers: usize,
) -> Result<Vec<Bound>, BindError> {
    if !config.bind_to_port {
        return Ok(Vec::new());
    }
    let bind_one = |spec| {
        if let Some(at) = held.iter().position(|held| held.serves(spec)) {
            return held.swap_remove(at).bind(spec, workers);
        }
        match inherited.iter().find(|inherited| inherited.serves(&config.name, spec)) {
            Some(inherited) => inherited.sockets.bind(spec, workers),
            None => bind(spec, workers),
        }
    };
    config.addresses.iter().map(bind_one).collect()
}

fn listen_all(prepared: Prepared) -> Result<Ready, BindError> {
    let bound = prepared.bound.unwrap_or_default();
    let addresses: Vec<Address> = if bound.is_empty() {
        prepared.config.addresses.iter().map(|spec| spec.address.clone()).collect()
    } else {
        bound.iter().map(|bound| bound.address().clone()).collect()
    };
    let held = bound.iter().filter_map(|bound| bound.hold().transpose()).collect::<Result<Vec<_>, _>>()?;
    let sockets = bound.into_iter().map(Bound::listen).collect::<Result<Vec<_>, _>>()?;
    Ok(Ready { addresses, sockets, held })
}

/// Whether a listener goes on with the sockets that it has.
fn keeps_sockets(served: &ServedListener, config: &ListenerConfig) -> bool {
    served.config.hash == config.hash || same_sockets(&served.config, config)
}

/// Whether the sockets of one configuration serve the other as well.
fn same_sockets(before: &ListenerConfig, after: &ListenerConfig) -> bool {
    before.bind_to_port == after.bind_to_port
        && before.addresses.len() == after.addresses.len()
        && before.addresses.iter().zip(&after.addresses).all(|(a, b): (&ListenSpec, &ListenSpec)| a == b)
}
