//! Start, reload, drain and end.

use crate::compile;
use crate::logging;
use crate::state::{Request, Server, ServerState};
use crate::worker::Command;
use nuncio_config::snapshot::Snapshot;
use nuncio_io::watch::Watcher;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;

/// How often the number of open connections is asked for while the process drains.
const DRAIN_CHECK: Duration = Duration::from_millis(50);

/// Serves until the process is told to end.
pub(crate) async fn serve(server: Rc<Server>, mut requests: UnboundedReceiver<Request>) -> Result<ExitCode, String> {
    let admin = crate::admin::start(&server)?;
    let snapshot = Rc::clone(&server.snapshot.borrow());
    server.clusters.set_clusters(snapshot.clusters.clone());
    start_signals(&server)?;
    crate::secrets::start(&server);
    start_stats_flush(&server, snapshot.stats_flush_interval);
    if server.options.watch {
        start_watch(&server)?;
    }
    server.set_state(ServerState::Initializing);
    let begun = Instant::now();
    tracing::info!(target: "main", "starting: waiting for {} clusters", server.clusters.pending().len());
    tokio::select! {
        () = server.clusters.initialized() => {}
        request = ends_start(&mut requests) => {
            tracing::info!(target: "main", "ending while starting: {request:?}");
            return Ok(ExitCode::SUCCESS);
        }
    }
    if let Err(errors) = server.listeners.borrow_mut().apply(&snapshot.listeners, &server.workers) {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Err(lines.join("\n"));
    }
    server.open_connections().await;
    server.listeners.borrow().stats().workers_started().set(1);
    server.stats.initialization_time_ms().record(begun.elapsed().as_millis() as u64);
    server.set_state(ServerState::Live);
    tracing::info!(target: "main", "all dependencies initialized. starting workers");
    drop(snapshot);
    let code = main_loop(&server, &mut requests).await;
    drop(admin);
    server.files.flush();
    Ok(code)
}

async fn ends_start(requests: &mut UnboundedReceiver<Request>) -> Request {
    loop {
        match requests.recv().await {
            Some(Request::Shutdown | Request::Quit) | None => return Request::Shutdown,
            Some(_) => {}
        }
    }
}

async fn main_loop(server: &Rc<Server>, requests: &mut UnboundedReceiver<Request>) -> ExitCode {
    while let Some(request) = requests.recv().await {
        match request {
            Request::Reload => reload(server).await,
            Request::Quit => break,
            Request::Shutdown => {
                drain_and_wait(server, requests).await;
                break;
            }
            Request::DrainListeners { inbound_only, graceful, skip_exit } => {
                drain_listeners(server, inbound_only, graceful, skip_exit);
            }
        }
    }
    tracing::info!(target: "main", "exiting");
    ExitCode::SUCCESS
}

/// SIGTERM: no new connections; requests under way are finished, and whoever sends another one is told that the
/// connection ends; idle connections close after the `drain_timeout` of their connection manager. A
/// second SIGTERM, or the end of the drain time, ends it at once.
async fn drain_and_wait(server: &Rc<Server>, requests: &mut UnboundedReceiver<Request>) {
    server.set_state(ServerState::Draining);
    server.listeners.borrow_mut().stop_listening(false, &server.workers);
    for worker in &server.workers {
        worker.send(Command::Drain { inbound_only: false, over: Duration::ZERO });
    }
    let limit = Duration::from_secs(server.options.drain_time_s);
    tracing::info!(target: "main", "draining: connections have {} s", limit.as_secs());
    let emptied = async {
        while server.open_connections().await > 0 {
            tokio::time::sleep(DRAIN_CHECK).await;
        }
    };
    tokio::select! {
        () = emptied => tracing::info!(target: "main", "drained"),
        () = tokio::time::sleep(limit) => {
            let open = server.open_connections().await;
            tracing::warn!(target: "main", "the drain time is over: closing {open} connections");
        }
        _ = ends_start(requests) => tracing::warn!(target: "main", "told again to end: closing all connections"),
    }
    for worker in &server.workers {
        worker.send(Command::CloseAll);
    }
}

/// `/drain_listeners`.
fn drain_listeners(server: &Rc<Server>, inbound_only: bool, graceful: bool, skip_exit: bool) {
    if !graceful {
        server.listeners.borrow_mut().stop_listening(inbound_only, &server.workers);
        for worker in &server.workers {
            worker.send(Command::Drain { inbound_only, over: Duration::ZERO });
        }
        return;
    }
    for worker in &server.workers {
        worker.send(Command::Drain { inbound_only, over: server.options.gradual_drain() });
    }
    if skip_exit {
        return;
    }
    let server = Rc::clone(server);
    tokio::task::spawn_local(async move {
        tokio::time::sleep(server.options.gradual_drain()).await;
        server.listeners.borrow_mut().stop_listening(inbound_only, &server.workers);
    });
}

/// Compiles the configuration again. On an error everything stays as it is, and the findings are printed.
async fn reload(server: &Rc<Server>) {
    let mut read = compile::read(&server.options);
    let snapshot = compile::compile(&mut read, &server.options, &server.store, &server.files, &server.registry);
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
    for cluster in &snapshot.clusters {
        server.clusters.set_cluster(Arc::clone(cluster));
    }
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
    server.last_updated.set(SystemTime::now());
    close_drained_later(server);
    tracing::info!(target: "main", "the changed configuration is in force");
}

/// Connections of listeners that were removed or replaced have the drain time to end.
fn close_drained_later(server: &Rc<Server>) {
    let server = Rc::downgrade(server);
    tokio::task::spawn_local(async move {
        let Some(wait) = server.upgrade().map(|server| server.options.drain_time_s) else { return };
        tokio::time::sleep(Duration::from_secs(wait)).await;
        let Some(server) = server.upgrade() else { return };
        for worker in &server.workers {
            worker.send(Command::CloseDrained);
        }
    });
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
            server.stats.uptime().set(server.started.elapsed().as_secs());
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
