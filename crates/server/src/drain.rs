//! Draining of the whole process: how connections are told, how long they have, and when the process ends.
//!
//! Owns: SIGTERM, `/drain_listeners`, and the end of a process that another one took the place of. Does not own: what a
//! connection does when it is told (`nuncio_filter::Drain`), and listeners that are removed or replaced (`listener_manager`).

use crate::hot_restart::Child;
use crate::state::{Request, Server, ServerState};
use crate::worker::Command;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// Time that connections have where two newer processes serve already: longer than an idle connection is kept for one more
/// request (`drain_timeout`).
const HURRY: Duration = Duration::from_secs(10);

/// Waits until the process is told to end.
pub(crate) async fn told_to_end(requests: &mut UnboundedReceiver<Request>) -> Request {
    loop {
        match requests.recv().await {
            Some(Request::Shutdown | Request::Quit) | None => return Request::Shutdown,
            Some(_) => {}
        }
    }
}

/// SIGTERM: no new connections; requests under way are finished, and whoever sends another one is told that the
/// connection ends; idle connections close after the `drain_timeout` of their connection manager. A
/// second SIGTERM, or the end of the drain time, ends it at once.
pub(crate) async fn shut_down(server: &Rc<Server>, requests: &mut UnboundedReceiver<Request>) {
    server.set_state(ServerState::Draining);
    stop(server, Duration::ZERO);
    server.hot_restart.hurry_parent();
    let limit = Duration::from_secs(server.options.drain_time_s);
    tracing::info!(target: "main", "draining: connections have {} s", limit.as_secs());
    tokio::select! {
        () = server.emptied() => tracing::info!(target: "main", "drained"),
        () = tokio::time::sleep(limit) => {
            let open = server.open_connections().await;
            tracing::warn!(target: "main", "the drain time is over: closing {open} connections");
        }
        _ = told_to_end(requests) => tracing::warn!(target: "main", "told again to end: closing all connections"),
    }
    close_all(server);
}

/// Another process serves in this one's stead: no new connections; the others are told over the drain time, and have until
/// the parent shutdown time is over. SIGTERM ends it at once.
pub(crate) async fn handed_over(server: &Rc<Server>, requests: &mut UnboundedReceiver<Request>) {
    let Some(child) = server.hot_restart.child() else { return };
    server.set_state(ServerState::Draining);
    stop(server, server.options.gradual_drain());
    let limit = Duration::from_secs(server.options.parent_shutdown_time_s);
    let open = server.open_connections().await;
    tracing::info!(target: "main", "hot restart: draining: {open} connections have {} s", limit.as_secs());
    let emptied = async {
        server.emptied().await;
        // What the process before this one counts reaches the next one through this one.
        server.hot_restart.parent_ended().await;
    };
    tokio::select! {
        () = emptied => tracing::info!(target: "main", "drained"),
        () = over(server, &child, limit) => {
            let open = server.open_connections().await;
            tracing::warn!(target: "main", "hot restart: the time is over: closing {open} connections");
        }
        _ = told_to_end(requests) => tracing::warn!(target: "main", "told to end: closing all connections"),
    }
    close_all(server);
    // What the last connections counted is to be in what the child is told.
    server.open_connections().await;
    server.hot_restart.end(server).await;
}

/// Waits until the time is over that connections have after another process took over.
async fn over(server: &Rc<Server>, child: &Rc<Child>, limit: Duration) {
    let hurried = async {
        child.hurry.notified().await;
        tracing::info!(target: "main", "hot restart: two newer processes serve: ending within {} s", HURRY.as_secs());
        drain(server, false, Duration::ZERO);
        tokio::time::sleep(HURRY).await;
    };
    tokio::select! {
        () = tokio::time::sleep(limit) => {}
        () = child.terminate.notified() => {}
        () = hurried => {}
    }
}

/// `/drain_listeners`: without `graceful`, listeners are closed and connections stay as they are, as in Envoy; with it,
/// connections are told, and listeners are closed after the drain time.
pub(crate) fn drain_listeners(server: &Rc<Server>, inbound_only: bool, graceful: bool, skip_exit: bool) {
    if graceful {
        drain(server, inbound_only, server.options.gradual_drain());
    }
    if skip_exit {
        return;
    }
    let wait = Duration::from_secs(if graceful { server.options.drain_time_s } else { 0 });
    let server = Rc::clone(server);
    tokio::task::spawn_local(async move {
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        server.listeners.borrow_mut().stop_listening(inbound_only, &server.workers);
        if server.options.drain_exit_on_zero {
            server.emptied().await;
            tracing::info!(target: "main", "drained: no connection is left");
            server.request(Request::Quit);
        }
    });
}

fn stop(server: &Server, over: Duration) {
    server.listeners.borrow_mut().stop_for_good(&server.workers);
    drain(server, false, over);
}

fn drain(server: &Server, inbound_only: bool, over: Duration) {
    for worker in &server.workers {
        worker.send(Command::Drain { inbound_only, over });
    }
}

fn close_all(server: &Server) {
    for worker in &server.workers {
        worker.send(Command::CloseAll);
    }
}
