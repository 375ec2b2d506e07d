//! The life of the process from the command line to the main loop.

use crate::compile::{self, Lasting, Read};
use crate::hot_restart::{self, HotRestart};
use crate::lifecycle;
use crate::listener_manager::ListenerManager;
use crate::logging::{self, LogControl};
use crate::options::{Mode, Options};
use crate::state::{Server, ServerState, count_runtime};
use crate::worker::{WorkerStart, WorkerThread};
use crate::xds::Xds;
use nuncio_cluster::{ClusterManager, ClusterManagerOptions};
use nuncio_config::compile::{NotDisabled, Registry};
use nuncio_config::snapshot::Snapshot;
use nuncio_io::log_file::{LogFileOptions, LogFiles};
use nuncio_io::{cpu, fd_limit};
use nuncio_stats::Store;
use nuncio_stats::names::{FilesystemStats, RuntimeStats, ServerStats};
use nuncio_stream_info::Locality;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;

/// Version of the Envoy API and behaviour that this program follows.
pub(crate) const COMPATIBLE: &str = "1.40.0";

/// What `--version` prints.
pub(crate) fn version() -> String {
    format!("nuncio  version: {}", version_id())
}

/// The version as `/server_info` tells it: revision, compatible version of Envoy, state of the sources, kind of build, TLS.
pub(crate) fn version_id() -> String {
    format!("{}/{COMPATIBLE}/Clean/RELEASE/rustls", env!("CARGO_PKG_VERSION"))
}

/// Runs the program.
pub fn run(options: Options) -> ExitCode {
    if options.version {
        println!("\n{}\n", version());
        return ExitCode::SUCCESS;
    }
    if options.hot_restart_version {
        println!("{}", hot_restart::version(&options));
        return ExitCode::SUCCESS;
    }
    let log = match logging::init(&options) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let result = match options.supervise && options.mode == Mode::Serve {
        true => crate::supervise::run(&options),
        false => start(options, log),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(target: "main", "{error}");
            eprintln!("nuncio: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Parts that outlive every configuration.
struct Foundation {
    lasting: Lasting,
    registry: Registry,
    workers: usize,
}

fn start(options: Options, log: LogControl) -> Result<ExitCode, String> {
    let mut read = compile::read(&options);
    let workers = concurrency(&options);
    let stats_options = compile::stats_options(&mut read, &options);
    let store = Store::with_options(workers, stats_options).map_err(|error| format!("stats_config: {error}"))?;
    let store = Arc::new(store);
    let filesystem = FilesystemStats::register(&store.scope("filesystem", &[]));
    let file_options = LogFileOptions {
        flush_interval: Duration::from_millis(options.file_flush_interval_msec.max(1)),
        min_flush: usize::try_from(options.file_flush_min_size_kb.saturating_mul(1024)).unwrap_or(usize::MAX),
        ..LogFileOptions::new(workers)
    };
    let files = LogFiles::new(file_options, filesystem).map_err(|error| format!("access logs: {error}"))?;
    let registry = registry(&options)?;
    let lasting = Lasting { store, files: Arc::new(files), discovered: Arc::default() };
    let foundation = Foundation { lasting, registry, workers };
    let snapshot = compile::compile(&mut read, &options, &foundation.registry, &foundation.lasting);
    if options.mode == Mode::Validate {
        return Ok(validated(&read, &options, snapshot.is_some()));
    }
    let Some(snapshot) = snapshot else {
        compile::print(&read.loaded.diagnostics, &options);
        return Ok(ExitCode::FAILURE);
    };
    logging::report(&read.loaded.diagnostics, options.skip_deprecated_logs);
    let stats = ServerStats::register(&foundation.lasting.store.scope("server", &[]));
    stats.static_unknown_fields().add(read.loaded.unknown_fields as u64);
    // The text of the configuration and its tree are not needed any more.
    drop(read);
    for flag in options.without_effect() {
        tracing::warn!(target: "main", "{flag} is accepted and has no effect yet");
    }
    if let Err(error) = fd_limit::raise() {
        tracing::warn!(target: "main", "the limit of open files could not be raised: {error}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .map_err(|error| format!("the main thread's event loop could not be made: {error}"))?;
    runtime.block_on(serve(options, foundation, snapshot, log))
}

/// The extensions without those that `--disable-extensions` names. What Envoy only warns of is an error if the extension
/// would stay in use.
fn registry(options: &Options) -> Result<Registry, String> {
    let mut registry = nuncio_extensions::registry();
    let names = options.disable_extensions.iter().flat_map(|list| list.split(',')).filter(|name| !name.is_empty());
    for name in names {
        match registry.disable(name) {
            _ if name == "envoy.filters.http/envoy.filters.http.router" => {
                return Err(format!("--disable-extensions {name:?}: the router can't be disabled"));
            }
            Ok(()) => tracing::info!(target: "main", "disabled extension '{name}'"),
            Err(NotDisabled::Unknown) => {
                tracing::warn!(target: "main", "failed to disable unknown extension '{name}'");
            }
            Err(NotDisabled::Malformed) => {
                tracing::warn!(target: "main", "failed to disable invalid extension name '{name}': write category/name");
            }
            Err(NotDisabled::Category) => {
                return Err(format!(
                    "--disable-extensions {name:?}: only envoy.filters.http, envoy.filters.network, \
                     envoy.filters.listener and envoy.access_loggers have extensions that can be disabled"
                ));
            }
        }
    }
    Ok(registry)
}

/// Writes `--base-id-path`.
fn write_base_id(options: &Options) -> Result<(), String> {
    let Some(path) = &options.base_id_path else { return Ok(()) };
    std::fs::write(path, options.base_id.to_string()).map_err(|error| format!("--base-id-path {path}: {error}"))
}

fn validated(read: &Read, options: &Options, usable: bool) -> ExitCode {
    compile::print(&read.loaded.diagnostics, options);
    if !usable {
        return ExitCode::FAILURE;
    }
    if options.output == crate::options::Output::Text {
        println!("configuration '{}' OK", options.config_path.as_deref().unwrap_or("--config-yaml"));
    }
    ExitCode::SUCCESS
}

fn concurrency(options: &Options) -> usize {
    let chosen = match options.concurrency {
        Some(count) if !options.cpuset_threads => count as usize,
        _ => cpu::available().concurrency(options.cpuset_threads),
    };
    chosen.clamp(1, 1024)
}

/// Where this proxy is; none if nothing says it.
fn locality(node: &nuncio_config::snapshot::Node) -> Option<Arc<Locality>> {
    let text = |text: &String| Arc::from(text.as_str());
    let locality = Locality { region: text(&node.region), zone: text(&node.zone), sub_zone: text(&node.sub_zone) };
    (locality != Locality::default()).then(|| Arc::new(locality))
}

async fn serve(
    mut options: Options,
    foundation: Foundation,
    snapshot: Snapshot,
    log: LogControl,
) -> Result<ExitCode, String> {
    let endpoint = hot_restart::claim(&mut options)?;
    write_base_id(&options)?;
    let Foundation { lasting, registry, workers: worker_count } = foundation;
    let Lasting { store, files, discovered } = lasting;
    let stats = ServerStats::register(&store.scope("server", &[]));
    stats.concurrency().set(worker_count as u64);
    let seed = fastrand::u64(..);
    let cluster_options = ClusterManagerOptions {
        workers: worker_count as u32,
        seed,
        local_cluster: snapshot.local_cluster.clone(),
        locality: locality(&snapshot.node),
        ..ClusterManagerOptions::default()
    };
    let clusters = ClusterManager::new(Arc::clone(&store), cluster_options);
    let local_address = local_address(&options);
    let overload = crate::overload::state(snapshot.overload.as_deref(), &store);
    let mut watchdog = crate::watchdog::Watchdog::new(&store, snapshot.watchdogs);
    let mut workers = Vec::with_capacity(worker_count);
    for id in 1..=worker_count {
        let start = WorkerStart {
            id: id as u32,
            clusters: clusters.worker(),
            store: Arc::clone(&store),
            runtime: Arc::clone(&snapshot.runtime),
            local_address,
            drain: options.drain_times(),
            overload: Arc::clone(&overload),
            watch: watchdog.worker(id - 1),
            seed: seed.wrapping_add(id as u64),
        };
        workers.push(WorkerThread::start(start).map_err(|error| format!("worker {id} could not start: {error}"))?);
    }
    let node = crate::xds::node(&snapshot, &registry);
    let mut resources = snapshot.resources.clone();
    resources.allow_unknown = !options.reject_unknown_dynamic_fields;
    let xds = Xds::new(crate::xds::Parts {
        clusters: &clusters,
        store: &store,
        runtime: &snapshot.runtime,
        local_address,
        seed,
        config: snapshot.dynamic.clone(),
        resources,
        node,
    });
    let listeners = RefCell::new(ListenerManager::new(&store, worker_count, options.drain_times().closed));
    let (requests, received) = mpsc::unbounded_channel();
    let runtime = RefCell::new(Arc::clone(&snapshot.runtime));
    let runtime_stats = RuntimeStats::register(&store.scope("runtime", &[]));
    count_runtime(&runtime_stats, &snapshot.runtime, snapshot.admin_runtime_layer.as_deref());
    let server = Rc::new(Server {
        hot_restart: HotRestart::new(endpoint, &store),
        options,
        registry,
        store,
        files,
        discovered,
        stats,
        clusters,
        xds,
        listeners,
        workers,
        snapshot: RefCell::new(Rc::new(snapshot)),
        contexts: Rc::default(),
        runtime,
        runtime_stats,
        overload,
        state: Cell::new(ServerState::PreInitializing),
        health_check_failed: Cell::new(false),
        requests,
        started: Instant::now(),
        last_updated: Cell::new(SystemTime::now()),
        log,
    });
    server.set_state(ServerState::PreInitializing);
    let _watchdog = watchdog.start(&server).map_err(|error| format!("the watchdog could not start: {error}"))?;
    lifecycle::serve(server, received).await
}

/// The address that stands for this host: of the interface that the default route uses, which the kernel tells without
/// a packet being sent; loopback where there is none.
pub(crate) fn local_address(options: &Options) -> Option<IpAddr> {
    use crate::options::IpVersion;
    let (bind, probe) = match options.local_address_ip_version {
        IpVersion::V4 => ("0.0.0.0:0", "192.0.2.1:9"),
        IpVersion::V6 => ("[::]:0", "[2001:db8::1]:9"),
    };
    let socket = std::net::UdpSocket::bind(bind).ok()?;
    socket.connect(probe).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}
