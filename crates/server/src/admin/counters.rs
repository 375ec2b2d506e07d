//! What admin connections and requests count: as a connection manager and a listener of the name `admin`.

use nuncio_stats::Store;
use nuncio_stats::names::{HttpConnectionManagerStats, ListenerHttpStats, ListenerStats, ListenerWorkerStats};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// `http.admin.*` and `listener.admin.*`.
pub(super) struct AdminStats {
    pub manager: HttpConnectionManagerStats,
    pub listener: ListenerStats,
    listener_http: ListenerHttpStats,
    main_thread: ListenerWorkerStats,
}

impl AdminStats {
    pub(super) fn register(store: &Store) -> AdminStats {
        let listener = store.scope("listener.admin", &[]);
        AdminStats {
            manager: HttpConnectionManagerStats::register(&store.scope("http.admin", &[])),
            listener_http: ListenerHttpStats::register(&listener.child("http.admin")),
            main_thread: ListenerWorkerStats::register(&listener.child("main_thread")),
            listener: ListenerStats::register(&listener),
        }
    }

    fn opened(&self) {
        self.listener.connections_accepted_per_socket_event().record(1);
        self.listener.downstream_cx_total().inc();
        self.listener.downstream_cx_active().inc();
        self.main_thread.downstream_cx_total().inc();
        self.main_thread.downstream_cx_active().inc();
        self.manager.downstream_cx_total().inc();
        self.manager.downstream_cx_active().inc();
        self.manager.downstream_cx_http1_total().inc();
        self.manager.downstream_cx_http1_active().inc();
    }

    fn closed(&self, length: Duration, local: bool, in_request: bool) {
        let length = length.as_millis() as u64;
        self.listener.downstream_cx_destroy().inc();
        self.listener.downstream_cx_active().dec();
        self.listener.downstream_cx_length_ms().record(length);
        self.main_thread.downstream_cx_active().dec();
        let manager = &self.manager;
        manager.downstream_cx_active().dec();
        manager.downstream_cx_http1_active().dec();
        manager.downstream_cx_length_ms().record(length);
        manager.downstream_cx_destroy().inc();
        if in_request {
            manager.downstream_cx_destroy_active_rq().inc();
        }
        match (local, in_request) {
            (true, false) => manager.downstream_cx_destroy_local().inc(),
            (true, true) => {
                manager.downstream_cx_destroy_local().inc();
                manager.downstream_cx_destroy_local_active_rq().inc();
            }
            (false, false) => manager.downstream_cx_destroy_remote().inc(),
            (false, true) => {
                manager.downstream_cx_destroy_remote().inc();
                manager.downstream_cx_destroy_remote_active_rq().inc();
            }
        }
    }

    /// A request begins.
    pub(super) fn request_begins(&self) {
        self.manager.downstream_rq_total().inc();
        self.manager.downstream_rq_http1_total().inc();
        self.manager.downstream_rq_active().inc();
    }

    /// A request is over; without a status nothing of the response was sent.
    pub(super) fn request_ends(&self, status: Option<u16>, time: Duration) {
        self.manager.downstream_rq_active().dec();
        self.manager.downstream_rq_time().record(time.as_millis() as u64);
        let Some(status) = status else { return };
        self.manager.downstream_rq_completed().inc();
        self.listener_http.downstream_rq_completed().inc();
        let (own, of_listener) = match status / 100 {
            2 => (self.manager.downstream_rq_2xx(), self.listener_http.downstream_rq_2xx()),
            4 => (self.manager.downstream_rq_4xx(), self.listener_http.downstream_rq_4xx()),
            5 => (self.manager.downstream_rq_5xx(), self.listener_http.downstream_rq_5xx()),
            _ => return,
        };
        own.inc();
        of_listener.inc();
    }
}

/// Counts a connection for as long as it lives.
pub(super) struct ConnectionCount {
    admin: Rc<super::Admin>,
    opened: Instant,
    counted: (u64, u64),
    /// Whether this side closes it.
    pub local_close: bool,
    /// Whether a request is under way.
    pub in_request: bool,
}

impl ConnectionCount {
    pub(super) fn new(admin: &Rc<super::Admin>, now: Instant) -> ConnectionCount {
        admin.stats.opened();
        ConnectionCount { admin: Rc::clone(admin), opened: now, counted: (0, 0), local_close: false, in_request: false }
    }

    /// Takes note of the bytes received and sent so far.
    pub(super) fn bytes(&mut self, (received, sent): (u64, u64)) {
        let manager = &self.admin.stats.manager;
        manager.downstream_cx_rx_bytes_total().add(received.saturating_sub(self.counted.0));
        manager.downstream_cx_tx_bytes_total().add(sent.saturating_sub(self.counted.1));
        self.counted = (received, sent);
    }
}

impl Drop for ConnectionCount {
    fn drop(&mut self) {
        let length = super::now().saturating_duration_since(self.opened);
        self.admin.stats.closed(length, self.local_close, self.in_request);
    }
}
