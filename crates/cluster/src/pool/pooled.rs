//! Exchanges on connections: what a request gets of its pool.

use super::HostPool;
use super::line::{ConnectionGuard, Facts, Line};
use crate::breaker::Resource;
use crate::connect::Connected;
use nuncio_http::connection::ClientConnection;
use nuncio_http::exchange::Upstream;
use nuncio_io::transport::Transport;
use nuncio_stream_info::{Address, ConnectionState, TlsInfo};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// An exchange on a connection: the whole of it for HTTP/1, a stream for HTTP/2. Dropping it closes the one, resets the
/// other.
pub struct PooledConnection {
    /// The codec.
    pub wire: Upstream,
    line: Rc<Line>,
    /// A request is under way.
    active: Cell<bool>,
}

impl PooledConnection {
    pub(super) fn new(
        pool: &Rc<HostPool>,
        connected: Connected,
        began: Instant,
        now: Instant,
    ) -> Box<PooledConnection> {
        let options = &pool.http1;
        let speak = |transport| ClientConnection::new(transport, options.trailers, options.spelling, options.target);
        Self::alone(pool, connected, (began, now), speak)
    }

    /// A connection on which no HTTP is spoken.
    pub(super) fn raw(
        pool: &Rc<HostPool>,
        connected: Connected,
        began: Instant,
        now: Instant,
    ) -> Box<PooledConnection> {
        Self::alone(pool, connected, (began, now), ClientConnection::raw)
    }

    /// The only exchange of its connection. `times`: when connecting began, and ended.
    fn alone(
        pool: &Rc<HostPool>,
        connected: Connected,
        (began, now): (Instant, Instant),
        speak: impl FnOnce(Transport) -> ClientConnection,
    ) -> Box<PooledConnection> {
        let Connected { transport, tls, alpn: _, filter_state } = connected;
        let local = transport.lowest_tcp().and_then(|socket| socket.local_addr().ok()).map(Address::from);
        let line = Line::new(ConnectionGuard::new(pool, now), Facts { local, tls, filter_state }, began, None);
        Box::new(PooledConnection { wire: Upstream::Http1(speak(transport)), line, active: Cell::new(false) })
    }

    /// A stream on a connection that has room for one.
    pub(super) fn stream(line: &Rc<Line>) -> Option<Box<PooledConnection>> {
        let wire = Upstream::Http2(Box::new(line.open_stream()?));
        Some(Box::new(PooledConnection { wire, line: Rc::clone(line), active: Cell::new(false) }))
    }

    /// Number of the connection, unique in the process.
    pub fn id(&self) -> u64 {
        self.line.guard.id()
    }

    /// The local address.
    pub fn local_address(&self) -> Option<&Address> {
        self.line.facts.local.as_ref()
    }

    /// Facts of the TLS session; none for cleartext.
    pub fn tls(&self) -> Option<&Arc<TlsInfo>> {
        self.line.facts.tls.as_ref()
    }

    /// What the cluster's filters left for others to see.
    pub fn filter_state(&self) -> &ConnectionState {
        &self.line.facts.filter_state
    }

    /// Requests that were sent on the connection, with the present one.
    pub fn requests(&self) -> u64 {
        self.line.requests.get()
    }

    /// Whether the connection served another request before.
    #[inline]
    pub fn is_reused(&self) -> bool {
        self.line.requests.get() > 1
    }

    /// When connecting began and ended.
    pub fn connect_times(&self) -> (Instant, Instant) {
        (self.line.connect_began, self.line.guard.opened)
    }

    /// The pool that it belongs to.
    pub fn pool(&self) -> &Rc<HostPool> {
        self.line.guard.pool()
    }

    /// The peer ended the connection, not this side.
    pub fn closed_by_peer(&self) {
        self.line.guard.closed_by_peer();
    }

    /// Counts the start of a request; false, and only that counted, if a breaker is open.
    #[must_use = "a request that did not begin must not be sent"]
    pub(super) fn begin_request(&self) -> bool {
        let pool = self.pool();
        let cluster = &pool.cluster;
        let breaker = cluster.breaker(pool.key.priority);
        if !breaker.try_acquire(Resource::Requests) {
            cluster.stats.upstream_rq_active_overflow().inc();
            return false;
        }
        self.active.set(true);
        self.line.guard.active.set(self.line.guard.active.get() + 1);
        self.line.requests.set(self.line.requests.get() + 1);
        cluster.stats.upstream_rq_total().inc();
        cluster.stats.upstream_rq_active().add(1);
        pool.host.request_started();
        true
    }

    fn end_request(&self) {
        if let Upstream::Http1(wire) = &self.wire {
            self.line.count_bytes(wire.wire_bytes());
        }
        if !self.active.replace(false) {
            return;
        }
        let pool = self.pool();
        let cluster = &pool.cluster;
        self.line.guard.active.set(self.line.guard.active.get().saturating_sub(1));
        cluster.breaker(pool.key.priority).release(Resource::Requests);
        cluster.stats.upstream_rq_active().sub(1);
        pool.host.request_finished();
    }

    /// Whether the connection may serve no more: of requests, or of time.
    fn is_used_up(&self, now: Instant) -> bool {
        let cluster = &self.pool().cluster;
        let limit = u64::from(cluster.config.http.max_requests_per_connection.unwrap_or(0));
        if limit > 0 && self.requests() >= limit {
            cluster.stats.upstream_cx_max_requests().inc();
            return true;
        }
        if let Some(longest) = cluster.config.http.max_connection_duration
            && !self.wire.is_multiplexed()
            && now.saturating_duration_since(self.line.guard.opened) >= longest
        {
            cluster.stats.upstream_cx_max_duration_reached().inc();
            return true;
        }
        false
    }

    /// The exchange is over: back to the pool if both sides allow it, closed otherwise.
    pub fn release(mut self: Box<Self>, now: Instant) {
        if self.wire.is_multiplexed() {
            self.end_request();
            return;
        }
        if self.active.get() && !self.wire.request_done() {
            // The answer came before the request was sent: nothing else can be sent on the connection.
            return;
        }
        self.end_request();
        if self.is_used_up(now) || !self.wire.is_reusable() {
            return;
        }
        self.wire.finish_exchange();
        let pool = Rc::clone(self.pool());
        pool.put_back(self, now);
    }

    /// Passes an unused connection on to the next that waits.
    pub(super) fn give_on(self: Box<Self>, now: Instant) {
        if self.wire.is_multiplexed() {
            return;
        }
        let pool = Rc::clone(self.pool());
        pool.put_back(self, now);
    }

    /// The last request that an HTTP/2 connection may take has begun.
    pub(super) fn limit_line(&self) {
        let limit = u64::from(self.pool().cluster.config.http.max_requests_per_connection.unwrap_or(0));
        if self.wire.is_multiplexed() && limit > 0 && self.requests() >= limit {
            self.pool().cluster.stats.upstream_cx_max_requests().inc();
            self.line.drain();
        }
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        let active = self.active.get();
        self.end_request();
        match &self.wire {
            // The connection ends with its exchange.
            Upstream::Http1(_) => self.line.guard.active.set(u32::from(active)),
            Upstream::Http2(_) => {
                self.line.stream_over();
                let pool = Rc::clone(self.pool());
                if !pool.waiting.borrow().is_empty() {
                    pool.serve_waiting(&self.line);
                }
            }
        }
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
    pub(super) fn is_usable(&mut self, now: Instant) -> bool {
        if !self.connection.wire.is_usable() {
            self.connection.closed_by_peer();
            return false;
        }
        let cluster = &self.connection.pool().cluster;
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
        assert!(size <= 392, "{size} bytes");
    }
}
