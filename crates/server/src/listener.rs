//! The listeners of one worker: accepting, listener filters, choosing the filter chain, and serving.
//!
//! *Invariant*: a connection is served by one task from accept to its end.

mod admission;
mod dispatch;
mod filtered;
mod handshake;
mod inspect;

use admission::{Gate, admit};
use dispatch::{Arrival, serve_connection};
use nuncio_config::snapshot::{DrainType, FilterChain, ListenerConfig, TrafficDirection};
use nuncio_filter::{ConnectionRegistry, Drain, Overload, OverloadAction, Worker};
use nuncio_io::Address;
use nuncio_io::accept::{Acceptor, Outcome};
use nuncio_io::listen::Listener;
use nuncio_stats::names::{ListenerStats, ListenerWorkerStats};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::ready;
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// A listener as manager and workers know it: it keeps its id and statistics through updates.
#[derive(Clone)]
pub(crate) struct ListenerHandle {
    pub id: u64,
    pub stats: ListenerStats,
    pub worker_stats: Arc<[ListenerWorkerStats]>,
    /// Open connections of all workers.
    pub open: Arc<AtomicU64>,
}

/// One configuration of a listener on a worker. Connections hold on to the one that they came in under.
pub(crate) struct ActiveListener {
    pub handle: ListenerHandle,
    pub config: Arc<ListenerConfig>,
    /// The connections of each filter chain, in the order of the configuration. A chain that an update leaves as it is keeps
    /// its connections.
    pub chains: Vec<Rc<ChainConnections>>,
}

/// The connections of a filter chain.
#[derive(Default)]
pub(crate) struct ChainConnections {
    pub drain: Rc<Drain>,
    pub registry: Rc<ConnectionRegistry>,
}

impl ActiveListener {
    fn new(handle: ListenerHandle, config: Arc<ListenerConfig>, before: Option<&ActiveListener>) -> ActiveListener {
        let kept: HashMap<u64, &Rc<ChainConnections>> = before
            .filter(|before| before.config.hash_without_chains == config.hash_without_chains)
            .map(|before| before.config.chains.iter().map(|chain| chain.hash).zip(&before.chains).collect())
            .unwrap_or_default();
        let connections = |chain: &Arc<FilterChain>| kept.get(&chain.hash).copied().cloned().unwrap_or_default();
        let chains = config.chains.iter().map(connections).collect();
        ActiveListener { handle, config, chains }
    }

    fn has(&self, chain: &Rc<ChainConnections>) -> bool {
        self.chains.iter().any(|own| Rc::ptr_eq(own, chain))
    }

    fn open(&self) -> usize {
        self.chains.iter().map(|chain| chain.registry.open()).sum()
    }
}

/// Where connections that another listener hands over are looked up.
#[derive(Default)]
pub(crate) struct Directory {
    by_address: RefCell<HashMap<SocketAddr, Rc<ActiveListener>>>,
}

impl Directory {
    /// The listener for an original destination: of exactly that address, else of any address with that port.
    pub(crate) fn find(&self, destination: SocketAddr) -> Option<Rc<ActiveListener>> {
        let listeners = self.by_address.borrow();
        if let Some(listener) = listeners.get(&destination) {
            return Some(Rc::clone(listener));
        }
        let any = match destination {
            SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], destination.port())),
            SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], destination.port())),
        };
        listeners.get(&any).cloned()
    }

    fn add(&self, listener: &Rc<ActiveListener>) {
        for spec in &listener.config.addresses {
            if let Some(address) = spec.address.ip() {
                self.by_address.borrow_mut().insert(address, Rc::clone(listener));
            }
        }
    }

    fn remove(&self, id: u64) {
        self.by_address.borrow_mut().retain(|_, listener| listener.handle.id != id);
    }
}

struct Entry {
    active: Rc<ActiveListener>,
    accepting: Vec<Accepting>,
    slot: Rc<RefCell<Rc<ActiveListener>>>,
}

/// A socket that connections are accepted on, until this is dropped.
struct Accepting {
    task: AbortHandle,
    acceptor: Rc<RefCell<Acceptor>>,
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What all sockets of a worker are accepted on with.
#[derive(Clone)]
struct Surroundings {
    worker: Rc<Worker>,
    directory: Rc<Directory>,
    overload: Arc<Overload>,
    /// Closed while no connections are accepted.
    gate: Rc<Gate>,
}

/// The listeners of a worker.
pub(crate) struct WorkerListeners {
    surroundings: Surroundings,
    entries: HashMap<u64, Entry>,
    /// Of what was removed or replaced, and until when they may be open.
    draining: Vec<(Instant, Rc<ChainConnections>)>,
    /// Health checks of the process fail on purpose.
    failing: bool,
    times: DrainTimes,
}

/// How connections of a removed or replaced listener end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DrainTimes {
    /// How long it takes until all are told (`--drain-strategy`).
    pub told: Duration,
    /// When they are closed (`--drain-time-s`).
    pub closed: Duration,
}

impl WorkerListeners {
    pub(crate) fn new(worker: Rc<Worker>, times: DrainTimes, overload: Arc<Overload>) -> WorkerListeners {
        WorkerListeners {
            surroundings: Surroundings { worker, directory: Rc::default(), overload, gate: Rc::default() },
            entries: HashMap::new(),
            draining: Vec::new(),
            failing: false,
            times,
        }
    }

    pub(crate) fn set(
        &mut self,
        handle: ListenerHandle,
        config: Arc<ListenerConfig>,
        sockets: Vec<Listener>,
        replace_sockets: bool,
    ) {
        let id = handle.id;
        let before = self.entries.get(&id).map(|entry| Rc::clone(&entry.active));
        let active = Rc::new(ActiveListener::new(handle, config, before.as_deref()));
        for chain in &active.chains {
            chain.drain.set_failing(self.failing && active.config.drain_type == DrainType::Default);
        }
        self.surroundings.directory.remove(id);
        self.surroundings.directory.add(&active);
        let entry = self.entries.entry(id).or_insert_with(|| Entry {
            active: Rc::clone(&active),
            accepting: Vec::new(),
            slot: Rc::new(RefCell::new(Rc::clone(&active))),
        });
        entry.active = Rc::clone(&active);
        *entry.slot.borrow_mut() = Rc::clone(&active);
        if replace_sockets {
            entry.accepting.clear();
        }
        let most = active.config.max_accepts_per_event;
        for socket in sockets {
            match Acceptor::new(socket, most) {
                Ok(acceptor) => {
                    let acceptor = Rc::new(RefCell::new(acceptor));
                    let task = accept_loop(Rc::clone(&acceptor), Rc::clone(&entry.slot), self.surroundings.clone());
                    let task = tokio::task::spawn_local(task).abort_handle();
                    entry.accepting.push(Accepting { task, acceptor });
                }
                Err(error) => {
                    tracing::error!(target: "connection", "listener {}: can't accept: {error}", active.config.name);
                }
            }
        }
        if let Some(before) = before {
            self.retire(&before, Some(&active));
        }
    }

    pub(crate) fn remove(&mut self, handle: ListenerHandle) {
        self.surroundings.directory.remove(handle.id);
        if let Some(entry) = self.entries.remove(&handle.id) {
            drop(entry.accepting);
            self.retire(&entry.active, None);
        }
    }

    /// Tells the connections of chains that the listener has no more to end, and closes them when their time is over.
    fn retire(&mut self, listener: &ActiveListener, after: Option<&ActiveListener>) {
        let now = self.surroundings.worker.now();
        self.draining.retain(|(until, chain)| now < *until || chain.registry.open() > 0);
        let stays = |chain: &&Rc<ChainConnections>| after.is_some_and(|after| after.has(chain));
        let gone: Vec<Rc<ChainConnections>> = listener.chains.iter().filter(|chain| !stays(chain)).cloned().collect();
        for chain in &gone {
            chain.drain.start(now, self.times.told);
            chain.registry.wake_all();
            self.draining.push((now + self.times.closed, Rc::clone(chain)));
        }
        let closed = self.times.closed;
        tokio::task::spawn_local(async move {
            tokio::time::sleep(closed).await;
            gone.iter().for_each(|chain| chain.registry.close_all());
        });
    }

    pub(crate) fn stop_listening(&mut self, inbound_only: bool) {
        for entry in self.entries.values_mut().filter(|entry| concerns(&entry.active, inbound_only)) {
            entry.accepting.clear();
        }
    }

    pub(crate) fn drain(&mut self, inbound_only: bool, over: Duration) {
        for entry in self.entries.values().filter(|entry| concerns(&entry.active, inbound_only)) {
            for chain in &entry.active.chains {
                chain.drain.start(self.surroundings.worker.now(), over);
                chain.registry.wake_all();
            }
        }
    }

    /// Connections of listeners that drain then (`drain_type`) end with their next response.
    pub(crate) fn fail_health_checks(&mut self, fail: bool) {
        self.failing = fail;
        self.surroundings.worker.fail_health_checks(fail);
        for entry in self.entries.values().filter(|entry| entry.active.config.drain_type == DrainType::Default) {
            entry.active.chains.iter().for_each(|chain| chain.drain.set_failing(fail));
        }
    }

    pub(crate) fn close_all(&mut self) {
        for (_, chain) in self.draining.drain(..) {
            chain.registry.close_all();
        }
        for entry in self.entries.values_mut() {
            entry.accepting.clear();
            entry.active.chains.iter().for_each(|chain| chain.registry.close_all());
        }
    }

    /// Overload actions changed: sockets are left alone or not, and connections look at their timers.
    pub(crate) fn overload_changed(&self) {
        let Surroundings { overload, gate, .. } = &self.surroundings;
        gate.set_closed(overload.is_saturated(OverloadAction::StopAcceptingConnections));
        for entry in self.entries.values() {
            entry.active.chains.iter().for_each(|chain| chain.registry.wake_all());
        }
    }

    /// Waits until no connection is open that there is now.
    pub(crate) fn emptied(&self) -> impl Future<Output = ()> + 'static {
        let active = self.entries.values().flat_map(|entry| entry.active.chains.iter());
        let all: Vec<_> = active.chain(self.draining.iter().map(|(_, chain)| chain)).cloned().collect();
        async move {
            for chain in all {
                chain.registry.emptied().await;
            }
        }
    }

    /// Descriptors of all sockets that are accepted on, by listener, for another process.
    pub(crate) fn share_sockets(&self) -> Vec<(u64, Address, OwnedFd)> {
        let mut shared = Vec::new();
        for (id, entry) in &self.entries {
            for accepting in &entry.accepting {
                let acceptor = accepting.acceptor.borrow();
                match acceptor.share() {
                    Ok(socket) => shared.push((*id, acceptor.address().clone(), socket)),
                    Err(error) => {
                        let name = &entry.active.config.name;
                        tracing::error!(target: "connection", "listener {name}: its socket can't be shared: {error}");
                    }
                }
            }
        }
        shared
    }

    pub(crate) fn open_connections(&self) -> usize {
        let active = self.entries.values().map(|entry| entry.active.open());
        active.chain(self.draining.iter().map(|(_, chain)| chain.registry.open())).sum()
    }
}

/// Whether connections of a listener ask about overload.
fn takes_part(overload: &Overload, listener: &ActiveListener) -> bool {
    overload.is_configured() && !listener.config.bypasses_overload_manager
}

fn concerns(listener: &ActiveListener, inbound_only: bool) -> bool {
    !inbound_only || listener.config.traffic_direction == TrafficDirection::Inbound
}

/// Shortest time between two lines of a worker that a listener can't accept.
const EXHAUSTED_EVERY: Duration = Duration::from_secs(10);

/// When it was last said that there are no descriptors, and how often there were none since.
#[derive(Default)]
struct Exhausted {
    said: Option<Instant>,
    refused: u64,
}

impl Exhausted {
    /// How often accepting failed since it was last said, if it is to be said now.
    fn due(&mut self, now: Instant) -> Option<u64> {
        if self.said.is_some_and(|said| now.saturating_duration_since(said) < EXHAUSTED_EVERY) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.refused))
    }
}

/// Accepts until it is aborted.
async fn accept_loop(
    acceptor: Rc<RefCell<Acceptor>>,
    slot: Rc<RefCell<Rc<ActiveListener>>>,
    surroundings: Surroundings,
) {
    let Surroundings { worker, directory, overload, gate } = surroundings;
    let mut exhausted = Exhausted::default();
    loop {
        let next = std::future::poll_fn(|cx| {
            if !slot.borrow().config.bypasses_overload_manager {
                ready!(gate.poll_open(cx));
            }
            acceptor.borrow_mut().poll_accept(cx)
        });
        match next.await {
            Ok(Outcome::Connection(accepted)) => {
                let listener = Rc::clone(&slot.borrow());
                let Some(admission) = admit(&listener, &worker, &overload) else { continue };
                let overload = takes_part(&overload, &listener).then(|| Arc::clone(&overload));
                let arrival = Arrival { accepted, admission, overload };
                tokio::task::spawn_local(serve_connection(
                    arrival,
                    Rc::clone(&worker),
                    listener,
                    Rc::clone(&directory),
                ));
            }
            Ok(Outcome::Exhausted(error)) => {
                // The acceptor waits by itself before it tries again; connections that exist go on.
                slot.borrow().handle.stats.downstream_cx_overload_reject().inc();
                exhausted.refused += 1;
                if let Some(refused) = exhausted.due(worker.tick()) {
                    let name = &slot.borrow().config.name;
                    tracing::warn!(target: "connection", "listener {name}: can't accept: {error} ({refused} times)");
                }
            }
            Err(error) => {
                tracing::error!(target: "connection", "listener {}: stops: {error}", slot.borrow().config.name);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exhaustion_is_said_at_first_and_then_seldom() {
        let start = Instant::now();
        let mut exhausted = Exhausted::default();
        let said = (0..=100u64).filter_map(|tenths| {
            exhausted.refused += 1;
            exhausted.due(start + Duration::from_millis(tenths * 100))
        });
        assert_eq!(said.collect::<Vec<_>>(), [1, 100]);
    }
}
