//! Worker threads: each with its own runtime, listening sockets, clusters and connections.
//!
//! Owns: starting and stopping workers, and the commands that reach them. Does not own: which sockets there are
//! (`listener_manager`), nor what happens on a connection ([`crate::listener`]).

use crate::listener::{DrainTimes, ListenerHandle, WorkerListeners};
use crate::watchdog::Watch;
use nuncio_cluster::{WorkerClusters, WorkerSeed};
use nuncio_config::snapshot::ListenerConfig;
use nuncio_filter::{HttpClientHandle, LoadShedPoint, LocalAddress, Overload, Runtime, StatsStore, Worker};
use nuncio_io::Address;
use nuncio_io::listen::Listener;
use nuncio_stats::Store;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// What a worker is told. Commands are handled in order.
pub(crate) enum Command {
    /// Serve a listener; a listener of the same id is replaced: new connections get the new configuration, the old ones
    /// drain. With `replace_sockets` the sockets take the place of the ones it has.
    SetListener { handle: ListenerHandle, config: Arc<ListenerConfig>, sockets: Vec<Listener>, replace_sockets: bool },
    /// Stop accepting for a listener and drain its connections.
    RemoveListener { handle: ListenerHandle },
    /// Stop accepting everywhere.
    StopListening { inbound_only: bool },
    /// Drain all connections, told one after the other over a time; `inbound_only` those of inbound listeners.
    Drain { inbound_only: bool, over: Duration },
    /// Health checks of the process fail on purpose, or not any more.
    FailHealthChecks(bool),
    /// Close all connections.
    CloseAll,
    /// Overload actions changed.
    OverloadChanged,
    /// Put runtime values in force.
    SetRuntime(Arc<Runtime>),
    /// Answer when no connection is open that there is now.
    WhenEmpty(oneshot::Sender<()>),
    /// Answer with descriptors of all sockets that are accepted on, by listener.
    ShareSockets(oneshot::Sender<Vec<(u64, Address, OwnedFd)>>),
    /// Answer when everything before was done: with the number of open connections.
    Barrier(oneshot::Sender<usize>),
    /// End the thread.
    Stop,
}

/// What a worker starts with.
pub(crate) struct WorkerStart {
    /// From 1.
    pub id: u32,
    pub clusters: WorkerSeed,
    pub store: Arc<Store>,
    pub runtime: Arc<Runtime>,
    pub local_address: Option<IpAddr>,
    /// How connections of removed and replaced listeners end.
    pub drain: DrainTimes,
    pub overload: Arc<Overload>,
    pub watch: Arc<Watch>,
    pub seed: u64,
}

/// A running worker.
pub(crate) struct WorkerThread {
    commands: mpsc::UnboundedSender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl WorkerThread {
    /// Starts a worker thread.
    pub(crate) fn start(start: WorkerStart) -> std::io::Result<WorkerThread> {
        let (commands, received) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new().name(format!("wrk:worker_{}", start.id - 1)).spawn(move || {
            if let Err(error) = run(start, received) {
                tracing::error!(target: "main", "a worker could not start: {error}");
            }
        })?;
        Ok(WorkerThread { commands, thread: Some(thread) })
    }

    /// Sends a command. A worker that is gone has nothing left to do.
    pub(crate) fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Waits until no connection is open that there is now.
    pub(crate) async fn emptied(&self) {
        let (done, wait) = oneshot::channel();
        self.send(Command::WhenEmpty(done));
        // A worker that is gone has no connections.
        let _ = wait.await;
    }

    /// Descriptors of all sockets that the worker accepts on, by listener.
    pub(crate) async fn share_sockets(&self) -> Vec<(u64, Address, OwnedFd)> {
        let (done, wait) = oneshot::channel();
        self.send(Command::ShareSockets(done));
        wait.await.unwrap_or_default()
    }

    /// Waits until all commands sent so far were carried out; tells how many connections are open.
    pub(crate) async fn barrier(&self) -> usize {
        let (done, wait) = oneshot::channel();
        self.send(Command::Barrier(done));
        wait.await.unwrap_or(0)
    }
}

impl Drop for WorkerThread {
    fn drop(&mut self) {
        self.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A worker that panicked has said so already.
            let _ = thread.join();
        }
    }
}

fn run(start: WorkerStart, commands: mpsc::UnboundedReceiver<Command>) -> std::io::Result<()> {
    nuncio_stats::set_worker(start.id);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Look at the sockets often: a proxy's tasks are short, and most wait for the kernel.
        .event_interval(31)
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(serve(start, commands));
    Ok(())
}

async fn serve(start: WorkerStart, mut commands: mpsc::UnboundedReceiver<Command>) {
    let worker = Worker::new(start.id, start.seed, start.runtime);
    let clusters = Rc::new(WorkerClusters::start(start.clusters));
    let services = worker.services();
    services.insert(Rc::clone(&clusters));
    services.insert(Rc::new(StatsStore(start.store)));
    services.insert(Rc::new(HttpClientHandle(nuncio_hcm::client(&worker, &clusters))));
    if let Some(address) = start.local_address {
        services.insert(Rc::new(LocalAddress(address)));
    }
    if start.overload.is_configured() {
        let (overload, worker) = (Arc::clone(&start.overload), Rc::clone(&worker));
        nuncio_cluster::pool::shed_connections_if(move || {
            overload.sheds(LoadShedPoint::ConnectionPoolNewConnection, worker.random())
        });
    }
    let mut listeners = WorkerListeners::new(Rc::clone(&worker), start.drain, start.overload);
    crate::watchdog::attend(start.watch, Some(worker.doing()));
    while let Some(command) = commands.recv().await {
        worker.tick();
        match command {
            Command::SetListener { handle, config, sockets, replace_sockets } => {
                clusters.apply_pending();
                listeners.set(handle, config, sockets, replace_sockets);
            }
            Command::RemoveListener { handle } => listeners.remove(handle),
            Command::StopListening { inbound_only } => listeners.stop_listening(inbound_only),
            Command::Drain { inbound_only, over } => listeners.drain(inbound_only, over),
            Command::FailHealthChecks(fail) => listeners.fail_health_checks(fail),
            Command::CloseAll => listeners.close_all(),
            Command::OverloadChanged => listeners.overload_changed(),
            Command::SetRuntime(runtime) => worker.set_runtime(runtime),
            Command::WhenEmpty(done) => {
                let emptied = listeners.emptied();
                tokio::task::spawn_local(async move {
                    emptied.await;
                    // Nobody waits any more if this fails.
                    let _ = done.send(());
                });
            }
            Command::ShareSockets(done) => {
                let _ = done.send(listeners.share_sockets());
            }
            Command::Barrier(done) => {
                clusters.apply_pending();
                // Nobody waits any more if this fails.
                let _ = done.send(listeners.open_connections());
            }
            Command::Stop => break,
        }
    }
    listeners.close_all();
}
