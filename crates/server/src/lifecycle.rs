//! Start, reload, drain and end.

use crate::compile::{self, Lasting};
use crate::drain;
use crate::hot_restart;
use crate::logging;
use crate::state::{Request, Server, ServerState};
use crate::supervise;
use nuncio_config::snapshot::Snapshot;
use nuncio_io::watch::Watcher;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;

/// Serves until the process is told to end.
pub(crate) async fn serve(server: Rc<Server>, mut requests: UnboundedReceiver<Request>) -> Result<ExitCode, String> {
    let mut supervisor = supervise::attach(&server);
    let inheritance = hot_restart::meet(&server).await?;
    let admin = Rc::new(crate::admin::start(&server, inheritance.admin)?);
    server.listeners.borrow_mut().inherit(inheritance.sockets);
    hot_restart::answer(&server, &admin);
    let snapshot = Rc::clone(&server.snapshot.borrow());
    crate::xds::set_static_clusters(&server, &snapshot);
    start_signals(&server)?;
    crate::secrets::start(&server);
    crate::overload::start(&server);
    start_stats_flush(&server, snapshot.stats_flush_interval);
    if server.options.watch {
        start_watch(&server)?;
    }
    let begun = Instant::now();
    tokio::select! {
        () = initialize(&server, &snapshot) => {}
        request = drain::told_to_end(&mut requests) => {
            tracing::info!(target: "main", "ending while starting: {request:?}");
            return Ok(ExitCode::SUCCESS);
        }
    }
    if let Err(errors) = server.listeners.borrow_mut().apply(&snapshot.listeners, &server.workers) {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Err(lines.join("\n"));
    }
    if let Some(listeners) = server.xds.lds.borrow().as_ref() {
        listeners.serve(&server);
    }
    server.open_connections().await;
    server.listeners.borrow().stats().workers_started().set(1);
    server.stats.initialization_time_ms().record(begun.elapsed().as_millis() as u64);
    server.set_state(ServerState::Live);
    tracing::info!(target: "main", "all dependencies initialized. starting workers");
    drop(snapshot);
    server.hot_restart.live(&server).await;
    supervisor.live(server.options.base_id).await;
    server.listeners.borrow_mut().inherit(Vec::new());
    let code = main_loop(&server, &mut requests).await;
    admin.close();
    server.files.flush();
    Ok(code)
}

/// Waits for everything that must be there before the first connection is accepted, in Envoy's order: clusters that need no
/// management server, its stream, endpoints of static clusters, clusters, then listeners and what they depend on.
async fn initialize(server: &Rc<Server>, snapshot: &Snapshot) {
    let xds = &server.xds;
    tracing::info!(target: "main", "starting: waiting for {} clusters", server.clusters.pending().len());
    server.clusters.primary_initialized().await;
    if let Some(ads) = &xds.ads {
        ads.start();
    }
    crate::load_reports::start(server);
    let layers = crate::xds::follow_runtime(server, &xds.config.rtds);
    *xds.rtds.borrow_mut() = layers;
    xds.waits.done().await;
    crate::xds::follow_endpoints(server, snapshot);
    server.clusters.initialized().await;
    if let Some(source) = &xds.config.cds {
        let clusters = crate::xds::Clusters::start(server, source);
        *xds.cds.borrow_mut() = Some(clusters);
        xds.waits.done().await;
        server.clusters.initialized().await;
    }
    server.set_state(ServerState::Initializing);
    let kept = crate::xds::follow(server, &crate::xds::uses_of_listeners(snapshot), &xds.waits);
    *xds.of_static.borrow_mut() = kept;
    if let Some(source) = &xds.config.lds {
        let listeners = crate::xds::Listeners::start(server, source);
        *xds.lds.borrow_mut() = Some(listeners);
    }
    xds.waits.done().await;
}

async fn main_loop(server: &Rc<Server>, requests: &mut UnboundedReceiver<Request>) -> ExitCode {
    while let Some(request) = requests.recv().await {
        match request {
            Request::Reload => reload(server).await,
            Request::Quit => break,
            Request::Shutdown => {
                drain::shut_down(server, requests).await;
                break;
            }
            Request::HandedOver => {
                drain::handed_over(server, requests).await;
                break;
            }
            Request::DrainListeners { inbound_only, graceful, skip_exit } => {
                drain::drain_listeners(server, inbound_only, graceful, skip_exit);
            }
        }
    }
    tracing::info!(target: "main", "exiting");
    ExitCode::SUCCESS
}

/// Compiles the configuration again. On an error everything stays as it is, and the findings are printed.
async fn reload(server: &Rc<Server>) {
    let mut read = compile::read(&server.options);
    let lasting = Lasting {
        store: Arc::clone(&server.store),
        files: Arc::clone(&server.files),
        discovered: Arc::clone(&server.discovered),
    };
    let snapshot = compile::compile(&mut read, &server.options, &server.registry, &lasting);
    let Some(snapshot) = snapshot else {
        compile::print(&read.loaded.diagnostics, &server.options);
        tracing::error!(target: "main", "the changed configuration has errors: the old one stays in force");
        return;
    };
    logging::report(&read.loaded.diagnostics, server.options.skip_deprecated_logs);
    drop(read);
    apply(server, snapshot).await;
}

async fn apply(server: &Rc<Server>, snapshot: Snapshot) {
    // New clusters first, so that no listener names one that is not there; old ones last.
    let kept = Rc::clone(&server.snapshot.borrow());
    crate::xds::add_clusters(server, &snapshot);
    // The new routes and secrets are there before their listeners are; what the old ones depend on stays until then.
    let followed = crate::xds::follow(server, &crate::xds::uses_of_listeners(&snapshot), &server.xds.waits);
    server.clusters.initialized().await;
    server.set_runtime(Arc::clone(&snapshot.runtime));
    if let Err(errors) = server.listeners.borrow_mut().apply(&snapshot.listeners, &server.workers) {
        for error in errors {
            tracing::error!(target: "main", "{error}");
        }
        server.clusters.set_clusters(kept.clusters.clone());
        server.set_runtime(Arc::clone(&kept.runtime));
        tracing::error!(target: "main", "the changed configuration can't be put in force: the old one stays");
        return;
    }
    server.clusters.set_clusters(snapshot.clusters.clone());
    server.contexts.add(&snapshot.tls);
    *server.snapshot.borrow_mut() = Rc::new(snapshot);
    *server.xds.of_static.borrow_mut() = followed;
    server.last_updated.set(SystemTime::now());
    tracing::info!(target: "main", "the changed configuration is in force");
}

fn start_signals(server: &Rc<Server>) -> Result<(), String> {
    let table = [
        (SignalKind::terminate(), Request::Shutdown),
        (SignalKind::interrupt(), Request::Shutdown),
        (SignalKind::hangup(), Request::Reload),
    ];
    for (kind, request) in table {
        let mut signals = signal(kind).map_err(|error| format!("signals can't be received: {error}"))?;
        let server = Rc::clone(server);
        tokio::task::spawn_local(async move {
            while signals.recv().await.is_some() {
                if request == Request::Reload {
                    server.files.reopen();
                }
                server.request(request);
            }
        });
    }
    let mut reopen =
        signal(SignalKind::user_defined1()).map_err(|error| format!("signals can't be received: {error}"))?;
    let files = Arc::clone(&server.files);
    tokio::task::spawn_local(async move {
        while reopen.recv().await.is_some() {
            files.reopen();
        }
    });
    Ok(())
}

/// Intervals of histograms end with each flush.
fn start_stats_flush(server: &Rc<Server>, interval: Duration) {
    let server = Rc::downgrade(server);
    tokio::task::spawn_local(async move {
        let mut timer = tokio::time::interval(interval.max(Duration::from_millis(1)));
        loop {
            timer.tick().await;
            let Some(server) = server.upgrade() else { return };
            server.stats.uptime().set(server.hot_restart.uptime().as_secs());
            server.store.flush();
        }
    });
}

/// `--watch`: a changed file is a reload.
fn start_watch(server: &Rc<Server>) -> Result<(), String> {
    let Some(path) = &server.options.config_path else {
        return Err("--watch needs a file: give it with -c".to_owned());
    };
    let mut watcher = Watcher::new().map_err(|error| format!("--watch: {error}"))?;
    watcher.add(std::path::Path::new(path)).map_err(|error| format!("--watch {path}: {error}"))?;
    let server = Rc::downgrade(server);
    tokio::task::spawn_local(async move {
        loop {
            match watcher.changed().await {
                Ok(_) => {
                    let Some(server) = server.upgrade() else { return };
                    server.request(Request::Reload);
                }
                Err(error) => {
                    tracing::error!(target: "main", "--watch ends: {error}");
                    return;
                }
            }
        }
    });
    Ok(())
}
