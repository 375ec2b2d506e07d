//! What the main thread knows: shared by the admin interface, signals and reloads. Never leaves the main thread.

use crate::hot_restart::HotRestart;
use crate::listener_manager::ListenerManager;
use crate::options::Options;
use crate::worker::WorkerThread;
use nuncio_cluster::ClusterManager;
use nuncio_config::compile::Registry;
use nuncio_config::lower::Lowered;
use nuncio_config::snapshot::Snapshot;
use nuncio_config::tls::DiscoveredSecrets;
use nuncio_filter::{Overload, Runtime};
use nuncio_io::log_file::LogFiles;
use nuncio_stats::Store;
use nuncio_stats::names::{RuntimeStats, ServerStats};
use nuncio_xds::ResourceType;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio::sync::mpsc;

/// Envoy's `ServerInfo.State`, with its numbers in `server.state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerState {
    Live = 0,
    Draining = 1,
    PreInitializing = 2,
    Initializing = 3,
}

impl ServerState {
    /// As `/ready` and `/server_info` print it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ServerState::Live => "LIVE",
            ServerState::Draining => "DRAINING",
            ServerState::PreInitializing => "PRE_INITIALIZING",
            ServerState::Initializing => "INITIALIZING",
        }
    }
}

/// What the main loop is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Compile the configuration again and put it in force.
    Reload,
    /// Drain and end (SIGTERM).
    Shutdown,
    /// End at once (`/quitquitquit`).
    Quit,
    /// Drain listeners (`/drain_listeners`).
    DrainListeners { inbound_only: bool, graceful: bool, skip_exit: bool },
    /// Another process serves in this one's stead: drain slowly and end.
    HandedOver,
}

/// The process, as the main thread sees it.
pub(crate) struct Server {
    pub options: Options,
    pub registry: Registry,
    pub store: Arc<Store>,
    pub files: Arc<LogFiles>,
    /// Secrets that discovery brought.
    pub discovered: Arc<DiscoveredSecrets>,
    pub stats: ServerStats,
    pub clusters: ClusterManager,
    /// Dynamic configuration.
    pub xds: Rc<crate::xds::Xds>,
    pub listeners: RefCell<ListenerManager>,
    pub workers: Vec<WorkerThread>,
    pub snapshot: RefCell<Rc<Snapshot>>,
    /// The TLS contexts, which follow their files.
    pub contexts: Rc<crate::secrets::Contexts>,
    pub runtime: RefCell<Arc<Runtime>>,
    pub runtime_stats: RuntimeStats,
    pub overload: Arc<Overload>,
    pub state: Cell<ServerState>,
    /// `/healthcheck/fail` was asked for: health checks of this process fail.
    pub health_check_failed: Cell<bool>,
    pub requests: mpsc::UnboundedSender<Request>,
    pub started: Instant,
    pub last_updated: Cell<SystemTime>,
    pub log: crate::logging::LogControl,
    pub hot_restart: HotRestart,
}

impl Server {
    /// Moves on to another state.
    pub(crate) fn set_state(&self, state: ServerState) {
        self.state.set(state);
        self.count_state();
    }

    /// The state that others see: failing health checks on purpose looks like draining.
    pub(crate) fn visible_state(&self) -> ServerState {
        match self.state.get() {
            ServerState::Live if self.health_check_failed.get() => ServerState::Draining,
            state => state,
        }
    }

    /// `/healthcheck/fail` and `/healthcheck/ok`.
    pub(crate) fn fail_health_checks(&self, fail: bool) {
        self.health_check_failed.set(fail);
        for worker in &self.workers {
            worker.send(crate::worker::Command::FailHealthChecks(fail));
        }
        self.count_state();
    }

    fn count_state(&self) {
        let state = self.visible_state();
        self.stats.state().set(state as u64);
        self.stats.live().set(u64::from(state == ServerState::Live));
    }

    /// Puts runtime values in force everywhere.
    pub(crate) fn set_runtime(&self, runtime: Arc<Runtime>) {
        for worker in &self.workers {
            worker.send(crate::worker::Command::SetRuntime(Arc::clone(&runtime)));
        }
        count_runtime(&self.runtime_stats, &runtime, self.snapshot.borrow().admin_runtime_layer.as_deref());
        *self.runtime.borrow_mut() = runtime;
    }

    /// Says what a dynamic resource holds that is not acted on, and counts what is not known.
    pub(crate) fn note<T>(&self, kind: ResourceType, name: &str, lowered: &Lowered<T>) {
        if lowered.unknown_fields > 0 && !self.options.ignore_unknown_dynamic_fields {
            self.stats.dynamic_unknown_fields().add(lowered.unknown_fields as u64);
            let count = lowered.unknown_fields;
            tracing::warn!(target: "config", "{} {name}: {count} unknown fields have no effect", kind.message());
        }
        for finding in &lowered.warnings {
            if finding.severity == nuncio_config::Severity::Warning {
                let (path, text) = (&finding.path, &finding.message);
                tracing::warn!(target: "config", "{} {name}: {path}: {text}", kind.message());
            }
        }
    }

    /// Asks the main loop for something.
    pub(crate) fn request(&self, request: Request) {
        // The loop ends only with the process.
        let _ = self.requests.send(request);
    }

    /// Waits until no connection is open. For when no new ones come.
    pub(crate) async fn emptied(&self) {
        while self.open_connections().await > 0 {
            for worker in &self.workers {
                worker.emptied().await;
            }
        }
    }

    /// Open connections of all workers.
    pub(crate) async fn open_connections(&self) -> usize {
        let mut open = 0;
        for worker in &self.workers {
            open += worker.barrier().await;
        }
        open
    }
}

/// Takes note of runtime values that were put in force.
pub(crate) fn count_runtime(stats: &RuntimeStats, runtime: &Runtime, admin_layer: Option<&str>) {
    let layers = runtime.layers();
    let keys: BTreeSet<&String> = layers.iter().flat_map(|(_, values)| values.keys()).collect();
    let overridden = layers.iter().any(|(name, values)| Some(name.as_str()) == admin_layer && !values.is_empty());
    stats.load_success().inc();
    stats.num_keys().set(keys.len() as u64);
    stats.num_layers().set(layers.len() as u64);
    stats.admin_overrides_active().set(u64::from(overridden));
}
