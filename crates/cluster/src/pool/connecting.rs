//! Connections that are being made.

use super::multiplexed::Multiplexed;
use super::{HostPool, PoolProtocol, PooledConnection};
use crate::LocalOrigin;
use crate::breaker::Resource;
use crate::connect::{self, ConnectTarget, Connected};
use crate::host::Host;
use crate::info::ClusterInfo;
use nuncio_http::h2::Http2Options;
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
type Opening = Pin<Box<dyn Future<Output = Result<Established, ConnectFailure>>>>;

/// A connection that a protocol is spoken on.
enum Established {
    /// One exchange at a time, or none of ours.
    Single(Connected),
    /// Many exchanges at a time.
    Multiplexed(Box<Multiplexed>),
}

/// Connects, and opens HTTP/2 if that is what is spoken.
async fn establish(
    protocol: PoolProtocol,
    target: ConnectTarget,
    cluster: Arc<ClusterInfo>,
    host: Arc<Host>,
) -> Result<Established, ConnectFailure> {
    let connected = connect::open(Arc::clone(&cluster), host, target).await?;
    let multiplexed = match protocol {
        PoolProtocol::Http1 => false,
        PoolProtocol::Http2 => true,
        PoolProtocol::Auto => connected.alpn.as_deref() == Some("h2"),
    };
    if !multiplexed {
        return Ok(Established::Single(connected));
    }
    let http = &cluster.config.http;
    let options = Http2Options {
        max_header_list_bytes: http.max_response_headers_kb.saturating_mul(1024),
        max_headers: u16::try_from(http.max_headers_count).unwrap_or(u16::MAX),
        ..http.http2.clone()
    };
    Ok(Established::Multiplexed(Box::new(Multiplexed::open(connected, &options))))
}

/// A connection that was over before it could be used.
fn ended() -> ConnectFailure {
    ConnectFailure { timeout: false, local: false, overflow: false, reason: Arc::from("the connection ended") }
}

/// A connection being made for one request. Counts as an open connection from the start, and the request as pending.
pub struct Connecting {
    pool: Rc<HostPool>,
    started: Instant,
    future: Option<Opening>,
    settled: bool,
    /// The peer refused or broke the attempt.
    failed_remotely: bool,
    /// Requests wait to share the connection.
    shared: bool,
    /// No HTTP is spoken on it.
    raw: bool,
}

impl Connecting {
    pub(super) fn new(pool: &Rc<HostPool>, now: Instant, protocol: PoolProtocol, target: ConnectTarget) -> Connecting {
        let breaker = pool.cluster.breaker(pool.key.priority);
        breaker.acquire(Resource::Connections);
        breaker.acquire(Resource::PendingRequests);
        let stats = &pool.cluster.stats;
        stats.upstream_cx_total().inc();
        stats.upstream_cx_active().add(1);
        stats.upstream_rq_pending_total().inc();
        stats.upstream_rq_pending_active().add(1);
        pool.host.connection_opened();
        pool.open.set(pool.open.get() + 1);
        let shared = protocol != PoolProtocol::Http1;
        if shared {
            pool.connecting.set(pool.connecting.get() + 1);
        }
        let future = establish(protocol, target, Arc::clone(&pool.cluster), Arc::clone(&pool.host));
        Connecting {
            pool: Rc::clone(pool),
            started: now,
            future: Some(Box::pin(future)),
            settled: false,
            failed_remotely: false,
            shared,
            raw: false,
        }
    }

    /// The same, with no HTTP spoken on the connection.
    pub(super) fn raw(mut self) -> Connecting {
        self.raw = true;
        self
    }

    /// When the attempt began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Waits for the connection. Must not be polled after it was ready.
    pub fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<Box<PooledConnection>, ConnectFailure>> {
        Poll::Ready(match ready!(self.poll_transport(cx, now)) {
            Ok(established) => {
                let Some(connection) = self.pooled(established, now) else { return Poll::Ready(Err(ended())) };
                if connection.begin_request() {
                    connection.limit_line();
                    Ok(connection)
                } else {
                    connection.release(now);
                    Err(ConnectFailure { timeout: false, local: false, overflow: true, reason: Arc::from("overflow") })
                }
            }
            Err(failure) => {
                if self.shared {
                    self.pool.fail_waiting(&failure);
                }
                Err(failure)
            }
        })
    }

    /// The request's exchange on the connection; others may share it.
    fn pooled(&mut self, established: Established, now: Instant) -> Option<Box<PooledConnection>> {
        let pool = &self.pool;
        match established {
            Established::Single(connected) if self.raw => {
                Some(PooledConnection::raw(pool, connected, self.started, now))
            }
            Established::Single(connected) => {
                if self.shared {
                    pool.cluster.stats.upstream_cx_http1_total().inc();
                    pool.learned.set(PoolProtocol::Http1);
                }
                let connection = PooledConnection::new(pool, connected, self.started, now);
                if self.shared {
                    pool.retry_waiting();
                }
                Some(connection)
            }
            Established::Multiplexed(multiplexed) => {
                if pool.key.protocol == PoolProtocol::Auto {
                    pool.cluster.stats.upstream_cx_http2_total().inc();
                }
                pool.learned.set(PoolProtocol::Http2);
                let line = multiplexed.start(pool, self.started, now);
                let connection = PooledConnection::stream(&line);
                pool.serve_waiting(&line);
                connection
            }
        }
    }

    /// Waits for the bare transport and hands it over with its counts: for tunnels. The caller drops the guard when the
    /// connection ends.
    pub fn poll_raw(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<(Connected, super::ConnectionGuard), ConnectFailure>> {
        let connected = match ready!(self.poll_transport(cx, now)) {
            Ok(Established::Single(connected)) => connected,
            Ok(Established::Multiplexed(_)) => return Poll::Ready(Err(ended())),
            Err(failure) => return Poll::Ready(Err(failure)),
        };
        let guard = super::ConnectionGuard::new(&self.pool, now);
        Poll::Ready(Ok((connected, guard)))
    }

    fn poll_transport(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<Established, ConnectFailure>> {
        let Some(future) = &mut self.future else { return Poll::Pending };
        let outcome = ready!(future.as_mut().poll(cx));
        self.future = None;
        self.end_sharing();
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

    fn end_sharing(&self) {
        if self.shared {
            self.pool.connecting.set(self.pool.connecting.get().saturating_sub(1));
        }
    }

    fn settle_pending(&self) {
        self.pool.cluster.breaker(self.pool.key.priority).release(Resource::PendingRequests);
        self.pool.cluster.stats.upstream_rq_pending_active().sub(1);
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        if self.future.is_some() {
            self.end_sharing();
        }
        self.settle_pending();
        self.pool.cluster.breaker(self.pool.key.priority).release(Resource::Connections);
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
