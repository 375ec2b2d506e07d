//! Connections that exist: what is counted of one, and what all its exchanges share.

use super::HostPool;
use crate::breaker::Resource;
use nuncio_http::h2::Opener;
use nuncio_stream_info::{Address, ConnectionState, TlsInfo};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

/// The counts of an open connection; they end with it.
pub struct ConnectionGuard {
    id: u64,
    pool: Rc<HostPool>,
    pub(super) opened: Instant,
    /// Who ended the connection.
    local_close: Cell<bool>,
    /// Requests that are under way on it.
    pub(super) active: Cell<u32>,
}

impl ConnectionGuard {
    pub(super) fn new(pool: &Rc<HostPool>, now: Instant) -> ConnectionGuard {
        ConnectionGuard {
            id: crate::connect::next_connection_id(),
            pool: Rc::clone(pool),
            opened: now,
            local_close: Cell::new(true),
            active: Cell::new(0),
        }
    }

    /// Number of the connection, unique in the process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The peer ended the connection, not this side.
    pub fn closed_by_peer(&self) {
        self.local_close.set(false);
    }

    /// From now on something is under way on the connection.
    pub fn in_use(&self) {
        self.active.set(1);
    }

    /// The pool that it belongs to.
    pub fn pool(&self) -> &Rc<HostPool> {
        &self.pool
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let cluster = &self.pool.cluster;
        cluster.breaker(self.pool.key.priority).release(Resource::Connections);
        let stats = &cluster.stats;
        stats.upstream_cx_active().sub(1);
        stats.upstream_cx_destroy().inc();
        let local = self.local_close.get();
        if local {
            stats.upstream_cx_destroy_local().inc();
        } else {
            stats.upstream_cx_destroy_remote().inc();
        }
        if self.active.get() > 0 {
            stats.upstream_cx_destroy_with_active_rq().inc();
            if local {
                stats.upstream_cx_destroy_local_with_active_rq().inc();
            } else {
                stats.upstream_cx_destroy_remote_with_active_rq().inc();
            }
        }
        let now = tokio::time::Instant::now().into_std();
        stats.upstream_cx_length_ms().record(now.saturating_duration_since(self.opened).as_millis() as u64);
        self.pool.host.connection_closed();
        self.pool.connection_gone();
    }
}

/// What all exchanges of a connection have in common.
pub(super) struct Facts {
    pub(super) local: Option<Address>,
    pub(super) tls: Option<Arc<TlsInfo>>,
    /// What the cluster's filters left for others to see.
    pub(super) filter_state: ConnectionState,
}

/// A connection, as its exchanges share it: one at a time for HTTP/1, many for HTTP/2.
pub(super) struct Line {
    pub(super) guard: ConnectionGuard,
    pub(super) facts: Facts,
    /// Requests that began on it.
    pub(super) requests: Cell<u64>,
    pub(super) connect_began: Instant,
    counted: Cell<(u64, u64)>,
    /// What opens streams, until the connection takes no more; none for HTTP/1.
    opener: RefCell<Option<Opener>>,
    /// Streams that exist.
    streams: Cell<u32>,
    /// The connection's task, which closes it when it was idle for long.
    waker: RefCell<Option<Waker>>,
}

impl Line {
    pub(super) fn new(
        guard: ConnectionGuard,
        facts: Facts,
        connect_began: Instant,
        opener: Option<Opener>,
    ) -> Rc<Line> {
        Rc::new(Line {
            guard,
            facts,
            requests: Cell::new(0),
            connect_began,
            counted: Cell::new((0, 0)),
            opener: RefCell::new(opener),
            streams: Cell::new(0),
            waker: RefCell::new(None),
        })
    }

    /// Counts what passed over the connection, given what has in all.
    pub(super) fn count_bytes(&self, (received, sent): (u64, u64)) {
        let (before_received, before_sent) = self.counted.replace((received, sent));
        let stats = &self.guard.pool.cluster.stats;
        stats.upstream_cx_rx_bytes_total().add(received.saturating_sub(before_received));
        stats.upstream_cx_tx_bytes_total().add(sent.saturating_sub(before_sent));
    }

    /// Streams that may be open at once: what the configuration and the peer allow.
    fn limit(&self, opener: &Opener) -> u32 {
        let mut peer = u32::try_from(opener.max_streams()).unwrap_or(u32::MAX);
        // Until the host has said it on this connection, what it said on the one before holds.
        if opener.knows_settings() {
            self.guard.pool.host_streams.set(peer);
        } else {
            peer = peer.min(self.guard.pool.host_streams.get().max(1));
        }
        peer.min(self.guard.pool.cluster.config.http.http2.max_concurrent_streams)
    }

    /// Whether another stream can be opened now.
    pub(super) fn has_room(&self) -> bool {
        let opener = self.opener.borrow();
        opener.as_ref().is_some_and(|opener| opener.is_usable() && self.streams.get() < self.limit(opener))
    }

    /// Whether the connection takes streams at all, now or later.
    pub(super) fn is_open(&self) -> bool {
        self.opener.borrow().as_ref().is_some_and(Opener::is_usable)
    }

    /// Opens a stream; none if the connection takes no more.
    pub(super) fn open_stream(&self) -> Option<nuncio_http::h2::ClientStream> {
        let stream = self.opener.borrow().as_ref().map(Opener::open)?;
        self.streams.set(self.streams.get() + 1);
        Some(stream)
    }

    /// A stream is over. Its place may be taken.
    pub(super) fn stream_over(&self) {
        self.streams.set(self.streams.get().saturating_sub(1));
        if self.streams.get() == 0 {
            self.wake();
        }
    }

    /// Whether no stream exists.
    pub(super) fn is_idle(&self) -> bool {
        self.streams.get() == 0
    }

    /// Takes no more streams: the connection ends with those that exist.
    pub(super) fn drain(&self) {
        let opener = self.opener.borrow_mut().take();
        if opener.is_some() {
            drop(opener);
            self.wake();
            self.guard.pool.line_drained();
        }
    }

    pub(super) fn set_waker(&self, waker: &Waker) {
        let mut present = self.waker.borrow_mut();
        if present.as_ref().is_none_or(|present| !present.will_wake(waker)) {
            *present = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.guard.pool.cluster.stats.upstream_rq_per_cx().record(self.requests.get());
    }
}
