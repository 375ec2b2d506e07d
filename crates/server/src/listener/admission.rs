//! Which connections a listener takes: limits of the process and of the listener, and overload.

use super::ActiveListener;
use nuncio_filter::{Admitted, LoadShedPoint, Overload, OverloadAction, Runtime, Worker};
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

/// The limit of all connections where no resource monitor sets one.
const RUNTIME_LIMIT: &str = "overload.global_downstream_max_connections";

/// A connection that was let in, until this is dropped.
pub(super) struct Admission {
    _process: Admitted,
    _listener: Open,
}

/// A connection of a listener.
struct Open(Arc<AtomicU64>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Lets a connection in, or counts why it is closed instead.
pub(super) fn admit(listener: &ActiveListener, worker: &Worker, overload: &Arc<Overload>) -> Option<Box<Admission>> {
    let (config, stats) = (&listener.config, &listener.handle.stats);
    let (of_process, of_listener) = worker.with_runtime(|runtime| limits(runtime, &config.name));
    let open = Open(Arc::clone(&listener.handle.open));
    if open.0.fetch_add(1, Relaxed) >= of_listener.unwrap_or(u64::MAX) {
        stats.downstream_cx_overflow().inc();
        return None;
    }
    let Some(process) = overload.admit(of_process, config.ignore_global_connection_limit) else {
        stats.downstream_global_cx_overflow().inc();
        return None;
    };
    if !config.bypasses_overload_manager && overload.is_configured() {
        let random = worker.random();
        if overload.acts(OverloadAction::RejectIncomingConnections, random)
            || overload.sheds(LoadShedPoint::TcpListenerAccept, random)
        {
            stats.downstream_cx_overload_reject().inc();
            return None;
        }
    }
    Some(Box::new(Admission { _process: process, _listener: open }))
}

/// The limits that runtime values set: of the process, and of the listener.
fn limits(runtime: &Runtime, listener: &str) -> (Option<u64>, Option<u64>) {
    if runtime.is_empty() {
        return (None, None);
    }
    let limit = |key: &str| runtime.get(key).and_then(|text| text.parse().ok());
    (limit(RUNTIME_LIMIT), limit(&format!("envoy.resource_limits.listener.{listener}.connection_limit")))
}

/// Holds sockets back while no connections are to be accepted.
#[derive(Default)]
pub(super) struct Gate {
    closed: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Gate {
    /// Closes or opens it; whoever waits is woken.
    pub(super) fn set_closed(&self, closed: bool) {
        self.closed.set(closed);
        if !closed {
            self.waiting.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Ready while it is open.
    pub(super) fn poll_open(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.closed.get() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtime_values_limit() {
        let values = [
            ("overload.global_downstream_max_connections", "5"),
            ("envoy.resource_limits.listener.a.connection_limit", "3"),
        ];
        let values = values.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let runtime = Runtime::new(vec![("base".to_owned(), values)]);
        assert_eq!(limits(&runtime, "a"), (Some(5), Some(3)));
        assert_eq!(limits(&runtime, "b"), (Some(5), None));
        assert_eq!(limits(&Runtime::default(), "a"), (None, None));
    }

    #[test]
    fn whoever_waits_at_the_gate_is_let_through() {
        let gate = Gate::default();
        let cx = Context::from_waker(Waker::noop());
        assert!(gate.poll_open(&cx).is_ready());
        gate.set_closed(true);
        assert!(gate.poll_open(&cx).is_pending() && gate.poll_open(&cx).is_pending());
        gate.set_closed(false);
        assert!(gate.poll_open(&cx).is_ready() && gate.waiting.borrow().is_empty());
    }
}
