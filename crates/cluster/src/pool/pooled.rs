//! Connections that exist.

use super::HostPool;
use crate::breaker::Resource;
use crate::connect::Connected;
use nuncio_http::connection::ClientConnection;
use nuncio_http::exchange::Upstream;
use nuncio_stream_info::{Address, TlsInfo};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// The counts of an open connection; they end with it.
pub struct ConnectionGuard {
    id: u64,
    pool: Rc<HostPool>,
    opened: Instant,
    /// Who ended the connection.
    local_close: Cell<bool>,
    active: Cell<bool>,
}

impl ConnectionGuard {
    pub(super) fn new(pool: &Rc<HostPool>, now: Instant) -> ConnectionGuard {
        ConnectionGuard {
            id: crate::connect::next_connection_id(),
            pool: Rc::clone(pool),
            opened: now,
            local_close: Cell::new(true),
            active: Cell::new(false),
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
        self.active.set(true);
    }

    /// The pool that it belongs to.
    pub fn pool(&self) -> &Rc<HostPool> {
        &self.pool
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let cluster = &self.pool.cluster;
        cluster.breaker(self.pool.priority).release(Resource::Connections);
        let stats = &cluster.stats;
        stats.upstream_cx_active().sub(1);
        stats.upstream_cx_destroy().inc();
        let local = self.local_close.get();
        if local {
            stats.upstream_cx_destroy_local().inc();
        } else {
            stats.upstream_cx_destroy_remote().inc();
        }
        if self.active.get() {
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

/// A connection that serves a request. Dropping it closes it.
pub struct PooledConnection {
    /// The codec.
    pub wire: Upstream,
    guard: ConnectionGuard,
    local: Option<Address>,
    tls: Option<Arc<TlsInfo>>,
    requests: Cell<u64>,
    connect_began: Instant,
    counted: (u64, u64),
}

impl PooledConnection {
    pub(super) fn new(
        pool: &Rc<HostPool>,
        connected: Connected,
        began: Instant,
        now: Instant,
    ) -> Box<PooledConnection> {
        let Connected { transport, tls, alpn: _ } = connected;
        let local = transport.tcp().and_then(|socket| socket.local_addr().ok()).map(Address::from);
        let options = &pool.http1;
        Box::new(PooledConnection {
            wire: Upstream::Http1(ClientConnection::new(transport, options.trailers, options.spelling, options.target)),
            guard: ConnectionGuard::new(pool, now),
            local,
            tls,
            requests: Cell::new(0),
            connect_began: began,
            counted: (0, 0),
        })
    }

    /// Number of the connection, unique in the process.
    pub fn id(&self) -> u64 {
        self.guard.id()
    }

    /// The local address.
    pub fn local_address(&self) -> Option<&Address> {
        self.local.as_ref()
    }

    /// Facts of the TLS session; none for cleartext.
    pub fn tls(&self) -> Option<&Arc<TlsInfo>> {
        self.tls.as_ref()
    }

    /// Requests that were sent on it, with the present one.
    pub fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// Whether it served another request before.
    #[inline]
    pub fn is_reused(&self) -> bool {
        self.requests.get() > 1
    }

    /// When connecting began and ended.
    pub fn connect_times(&self) -> (Instant, Instant) {
        (self.connect_began, self.guard.opened)
    }

    /// The pool that it belongs to.
    pub fn pool(&self) -> &Rc<HostPool> {
        &self.guard.pool
    }

    /// The peer ended the connection, not this side.
    pub fn closed_by_peer(&self) {
        self.guard.closed_by_peer();
    }

    /// Counts the start of a request; false, and only that counted, if a breaker is open.
    #[must_use = "a request that did not begin must not be sent"]
    pub(super) fn begin_request(&self) -> bool {
        let cluster = &self.guard.pool.cluster;
        let breaker = cluster.breaker(self.guard.pool.priority);
        if !breaker.try_acquire(Resource::Requests) {
            cluster.stats.upstream_rq_active_overflow().inc();
            return false;
        }
        self.guard.active.set(true);
        self.requests.set(self.requests.get() + 1);
        cluster.stats.upstream_rq_total().inc();
        cluster.stats.upstream_rq_active().add(1);
        self.guard.pool.host.request_started();
        true
    }

    fn end_request(&mut self) {
        let cluster = &self.guard.pool.cluster;
        let (received, sent) = self.wire.wire_bytes();
        cluster.stats.upstream_cx_rx_bytes_total().add(received - self.counted.0);
        cluster.stats.upstream_cx_tx_bytes_total().add(sent - self.counted.1);
        self.counted = (received, sent);
        if !self.guard.active.replace(false) {
            return;
        }
        cluster.breaker(self.guard.pool.priority).release(Resource::Requests);
        cluster.stats.upstream_rq_active().sub(1);
        self.guard.pool.host.request_finished();
    }

    /// The exchange is over: back to the pool if both sides allow it, closed otherwise.
    pub fn release(mut self: Box<Self>, now: Instant) {
        if self.guard.active.get() && !self.wire.request_done() {
            // The answer came before the request was sent: nothing else can be sent on the connection.
            return;
        }
        self.end_request();
        let cluster = &self.guard.pool.cluster;
        let limit = u64::from(cluster.config.http.max_requests_per_connection.unwrap_or(0));
        if limit > 0 && self.requests.get() >= limit {
            cluster.stats.upstream_cx_max_requests().inc();
            return;
        }
        if let Some(longest) = cluster.config.http.max_connection_duration
            && now.saturating_duration_since(self.guard.opened) >= longest
        {
            cluster.stats.upstream_cx_max_duration_reached().inc();
            return;
        }
        if !self.wire.is_reusable() {
            return;
        }
        self.wire.finish_exchange();
        let pool = Rc::clone(&self.guard.pool);
        pool.put_back(self, now);
    }

    /// Passes an unused connection on to the next that waits.
    pub(super) fn give_on(self: Box<Self>, now: Instant) {
        let pool = Rc::clone(&self.guard.pool);
        pool.put_back(self, now);
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        let active = self.guard.active.get();
        self.end_request();
        self.guard.active.set(active);
        self.guard.pool.cluster.stats.upstream_rq_per_cx().record(self.requests.get());
    }
}

/// A connection between requests.
pub(super) struct IdleConnection {
    connection: Box<PooledConnection>,
    since: Instant,
}

impl IdleConnection {
    pub(super) fn new(connection: Box<PooledConnection>, now: Instant) -> IdleConnection {
        IdleConnection { connection, since: now }
    }

    /// Whether the peer kept it, and it is not too old.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        let cluster = &self.connection.guard.pool.cluster;
        if !self.connection.wire.is_usable() {
            self.connection.closed_by_peer();
            return false;
        }
        if let Some(limit) = cluster.config.http.idle_timeout
            && now.saturating_duration_since(self.since) >= limit
        {
            cluster.stats.upstream_cx_idle_timeout().inc();
            return false;
        }
        true
    }

    pub(super) fn wake(self) -> Box<PooledConnection> {
        self.connection
    }
}

#[cfg(test)]
mod tests {
    use super::PooledConnection;

    /// What an idle upstream connection costs beside its buffers (which it gives back) and its socket.
    #[test]
    fn a_pooled_connection_is_small() {
        let size = size_of::<PooledConnection>();
        assert!(size <= 440, "{size} bytes");
    }
}
