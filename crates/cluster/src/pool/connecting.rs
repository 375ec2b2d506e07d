//! Connections that are being made.

use super::{HostPool, PooledConnection};
use crate::LocalOrigin;
use crate::breaker::Resource;
use crate::connect::{self, Connected};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// Why there is no connection.
#[derive(Debug, Clone)]
pub struct ConnectFailure {
    /// The time for it ran out.
    pub timeout: bool,
    /// A circuit breaker for requests opened meanwhile.
    pub overflow: bool,
    /// It failed on this side (no address, no file descriptor), not at the peer.
    pub local: bool,
    /// What failed, as `%UPSTREAM_TRANSPORT_FAILURE_REASON%` shows it.
    pub reason: Arc<str>,
}

/// The attempt under way.
type Opening = Pin<Box<dyn Future<Output = Result<Connected, ConnectFailure>>>>;

/// A connection being made for one request. Counts as an open connection from the start, and the request as pending.
pub struct Connecting {
    pool: Rc<HostPool>,
    started: Instant,
    future: Option<Opening>,
    settled: bool,
    /// The peer refused or broke the attempt.
    failed_remotely: bool,
}

impl Connecting {
    pub(super) fn new(pool: &Rc<HostPool>, now: Instant) -> Connecting {
        let breaker = pool.cluster.breaker(pool.priority);
        breaker.acquire(Resource::Connections);
        breaker.acquire(Resource::PendingRequests);
        let stats = &pool.cluster.stats;
        stats.upstream_cx_total().inc();
        stats.upstream_cx_active().add(1);
        stats.upstream_rq_pending_total().inc();
        stats.upstream_rq_pending_active().add(1);
        pool.host.connection_opened();
        pool.open.set(pool.open.get() + 1);
        let future = connect::open(Arc::clone(&pool.cluster), Arc::clone(&pool.host));
        Connecting {
            pool: Rc::clone(pool),
            started: now,
            future: Some(Box::pin(future)),
            settled: false,
            failed_remotely: false,
        }
    }

    /// When the attempt began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Waits for the connection. Must not be polled after it was ready.
    pub fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<Box<PooledConnection>, ConnectFailure>> {
        Poll::Ready(match ready!(self.poll_transport(cx, now)) {
            Ok(connected) => {
                let connection = PooledConnection::new(&self.pool, connected, self.started, now);
                if connection.begin_request() {
                    Ok(connection)
                } else {
                    connection.release(now);
                    Err(ConnectFailure { timeout: false, local: false, overflow: true, reason: Arc::from("overflow") })
                }
            }
            Err(failure) => Err(failure),
        })
    }

    /// Waits for the bare transport and hands it over with its counts: for tunnels. The caller drops the guard when the
    /// connection ends.
    pub fn poll_raw(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<(Connected, super::pooled::ConnectionGuard), ConnectFailure>> {
        let connected = match ready!(self.poll_transport(cx, now)) {
            Ok(connected) => connected,
            Err(failure) => return Poll::Ready(Err(failure)),
        };
        let guard = super::pooled::ConnectionGuard::new(&self.pool, now);
        Poll::Ready(Ok((connected, guard)))
    }

    fn poll_transport(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<Connected, ConnectFailure>> {
        let Some(future) = &mut self.future else { return Poll::Pending };
        let outcome = ready!(future.as_mut().poll(cx));
        self.future = None;
        let stats = &self.pool.cluster.stats;
        match &outcome {
            Ok(_) => {
                self.settled = true;
                self.settle_pending();
                let taken = now.saturating_duration_since(self.started);
                stats.upstream_cx_connect_ms().record(taken.as_millis() as u64);
                self.pool.host.record_local_origin(LocalOrigin::Connected);
            }
            Err(failure) => {
                self.failed_remotely = !failure.timeout && !failure.local;
                stats.upstream_cx_connect_fail().inc();
                self.pool.host.count(crate::host::HostCounter::CxConnectFail);
                let origin = if failure.timeout {
                    stats.upstream_cx_connect_timeout().inc();
                    LocalOrigin::Timeout(504)
                } else {
                    LocalOrigin::ConnectFailed
                };
                self.pool.host.record_local_origin(origin);
            }
        }
        Poll::Ready(outcome)
    }

    fn settle_pending(&self) {
        self.pool.cluster.breaker(self.pool.priority).release(Resource::PendingRequests);
        self.pool.cluster.stats.upstream_rq_pending_active().sub(1);
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        self.settle_pending();
        self.pool.cluster.breaker(self.pool.priority).release(Resource::Connections);
        let stats = &self.pool.cluster.stats;
        stats.upstream_cx_active().sub(1);
        stats.upstream_cx_destroy().inc();
        if self.failed_remotely {
            stats.upstream_cx_destroy_remote().inc();
        } else {
            stats.upstream_cx_destroy_local().inc();
        }
        self.pool.host.connection_closed();
        self.pool.connection_gone();
    }
}
