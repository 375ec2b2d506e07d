//! Serving a connection: choosing the upstream, connecting, and moving bytes until both sides are done.

use super::balance::{ClusterWeight, HashInput};
use super::early::{EarlyData, First, poll_first};
use super::proxied::ProxyTlvs;
use super::relay::{Over, Relay};
use super::reports::Reports;
use super::tunnel::{Refused, Tunneling};
use bytes::{Bytes, BytesMut};
use nuncio_cluster::connect::{ConnectTarget, Connected};
use nuncio_cluster::pool::{Acquire, ConnectFailure, ConnectionGuard, PoolKey, PoolProtocol, PooledConnection};
use nuncio_cluster::{Host, HostCounter, LbContext, RoutingPriority, WorkerCluster, WorkerClusters};
use nuncio_filter::{AccessLogs, Connection, TerminalFilterFactory, Worker};
use nuncio_http::connection::ClientConnection;
use nuncio_http::exchange::Upstream as Exchange;
use nuncio_io::splice::{Side, Splice, SpliceError, SpliceSocket};
use nuncio_io::transport::Transport;
use nuncio_stats::names::TcpProxyStats;
use nuncio_stream_info::{
    AccessLogType, FilterState, LogContext, ProxiedAddresses, ResponseFlags, StreamInfo, Struct, TimePoint,
};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Connections of their own, on which nothing is spoken here.
const RAW: PoolKey = PoolKey {
    priority: RoutingPriority::Default,
    protocol: PoolProtocol::Http1,
    server_name: None,
    proxied: None,
    protocols: None,
};

/// The filter; one value serves all connections of a chain.
pub(super) struct TcpProxy {
    pub stats: TcpProxyStats,
    pub clusters: Vec<ClusterWeight>,
    /// Those of the cluster that was chosen.
    pub labels: Option<Arc<Struct>>,
    pub hash: Option<HashInput>,
    pub idle_timeout: Option<Duration>,
    pub max_duration: Option<Duration>,
    pub max_connect_attempts: u32,
    pub access_logs: AccessLogs,
    pub log_on_connected: bool,
    pub tunneling: Option<Arc<Tunneling>>,
    pub early: EarlyData,
    pub tlvs: Arc<ProxyTlvs>,
}

impl TerminalFilterFactory for TcpProxy {
    fn serve(&self, connection: Connection) -> Pin<Box<dyn Future<Output = ()>>> {
        let chosen = self.choose(connection.worker.random());
        let proxy = TcpProxy {
            stats: self.stats.clone(),
            clusters: Vec::new(),
            labels: chosen.and_then(|cluster| cluster.labels.clone()),
            hash: self.hash.clone(),
            access_logs: Arc::clone(&self.access_logs),
            tunneling: self.tunneling.clone(),
            tlvs: Arc::clone(&self.tlvs),
            ..*self
        };
        let cluster = chosen.map(|cluster| Arc::clone(&cluster.name));
        Box::pin(proxy.run(cluster, connection))
    }

    fn counts_bytes(&self) -> bool {
        true
    }
}

/// An upstream connection with its counts.
enum Upstream {
    /// One of its own.
    Raw { transport: Transport, guard: ConnectionGuard },
    /// A tunnel over HTTP.
    Tunnel(Box<PooledConnection>),
}

impl TcpProxy {
    async fn run(self, cluster: Option<Arc<str>>, mut connection: Connection) {
        let worker = Rc::clone(&connection.worker);
        self.stats.downstream_cx_total().inc();
        let started = worker.tick();
        let mut info = StreamInfo::of_connection(Arc::clone(&connection.info), worker.wall());
        if !self.access_logs.is_empty() || connection.log.is_some() {
            info.set_stream_id(random(&worker));
        }
        let mut early = BytesMut::new();
        let upstream = match self.first_bytes(&mut connection, started, &mut early).await {
            None => self.connect(cluster, &connection, &mut info).await,
            Some(ended) => {
                if let Ended::TooLong = ended {
                    info.flags.insert(ResponseFlags::DURATION_TIMEOUT);
                }
                None
            }
        };
        info.bytes_received = early.len() as u64;
        if let Some(upstream) = upstream {
            if self.early.limit.is_some() && (!early.is_empty() || !connection.transport.is_quiet()) {
                self.stats.early_data_received_count_total().inc();
            }
            info.mark(TimePoint::UpstreamConnectEnd, worker.tick());
            if self.log_on_connected {
                self.log(&info, &connection, AccessLogType::TcpUpstreamConnected);
            }
            self.forward((&mut connection, early.freeze()), upstream, &mut info, started).await;
        }
        info.end = Some(worker.tick());
        connection.observers.tell(&info, true);
        self.log(&info, &connection, AccessLogType::TcpConnectionEnd);
        if let Some(log) = &connection.log {
            log.note(|whole| *whole = info);
        }
    }

    /// Waits for the client's first bytes where the upstream is asked only then. Says how the connection ended if it does before.
    async fn first_bytes(&self, connection: &mut Connection, started: Instant, early: &mut BytesMut) -> Option<Ended> {
        let limit = self.early.limit.filter(|_| self.early.waits)?;
        let mut clock = Clock::new(self, started);
        let Connection { transport, registration, worker, .. } = connection;
        poll_fn(|cx| {
            registration.set_waker(cx.waker());
            if registration.must_close() {
                return Poll::Ready(Some(Ended::Here));
            }
            match poll_first(transport, cx, limit, early) {
                Poll::Ready(First::Bytes) => Poll::Ready(None),
                // Nothing was said, and nothing follows: nobody is to be asked.
                Poll::Ready(First::End) => Poll::Ready(Some(Ended::DownstreamLast)),
                Poll::Pending => clock.poll(cx, worker.tick(), started).map(Some),
            }
        })
        .await
    }

    /// Connects to a host of the cluster, trying others as often as configured.
    async fn connect(
        &self,
        cluster: Option<Arc<str>>,
        connection: &Connection,
        info: &mut StreamInfo,
    ) -> Option<Upstream> {
        let clusters = connection.worker.services().get::<WorkerClusters>()?;
        let Some(cluster) = cluster.and_then(|name| clusters.get(&name)) else {
            self.stats.downstream_cx_no_route().inc();
            info.flags.insert(ResponseFlags::NO_CLUSTER_FOUND);
            return None;
        };
        info.upstream.cluster = Some(Arc::clone(cluster.info.stream_info()));
        for attempt in 1..=self.max_connect_attempts {
            info.upstream.attempts = attempt;
            match self.try_connect(&cluster, connection, info).await {
                Ok(upstream) => return Some(upstream),
                Err(Tried::Hopeless) => return None,
                Err(Tried::Failed) => {}
            }
        }
        cluster.info.stats.upstream_cx_connect_attempts_exceeded().inc();
        info.flags.insert(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
        None
    }

    /// What the upstream connection is told of the downstream one.
    fn target(&self, cluster: &WorkerCluster, connection: &Connection, info: &StreamInfo) -> ConnectTarget {
        let protocols = info.filter_state.application_protocols();
        ConnectTarget {
            proxied: self.proxied(cluster, connection, info),
            insists_on_protocols: protocols.is_some(),
            protocols: protocols.unwrap_or_default(),
            ..ConnectTarget::default()
        }
    }

    fn proxied(
        &self,
        cluster: &WorkerCluster,
        connection: &Connection,
        info: &StreamInfo,
    ) -> Option<Arc<ProxiedAddresses>> {
        if !cluster.info.config.transports.as_ref().is_some_and(|transports| transports.use_proxy_protocol()) {
            return None;
        }
        let worker = &connection.worker;
        let context = LogContext::new(info, worker.now(), worker.wall());
        Some(self.tlvs.proxied(&connection.info, &context))
    }

    async fn try_connect(
        &self,
        cluster: &Rc<WorkerCluster>,
        connection: &Connection,
        info: &mut StreamInfo,
    ) -> Result<Upstream, Tried> {
        let worker = &connection.worker;
        let now = worker.tick();
        let labels = cluster.info.config.common_lb.subset.as_ref().and_then(|_| self.wanted_labels(info));
        let host = worker.with_rng(|rng| {
            let mut context = LbContext::new(now, rng);
            context.original_dst = connection.info.local.socket();
            context.hash = self.hash(connection, info);
            context.labels = labels.as_deref();
            context.metadata = info.dynamic_metadata();
            cluster.choose_host(&mut context)
        });
        let Some(host) = host else {
            cluster.info.stats.upstream_cx_none_healthy().inc();
            info.flags.insert(ResponseFlags::NO_HEALTHY_UPSTREAM);
            return Err(Tried::Hopeless);
        };
        if let Some(tunneling) = &self.tunneling {
            return self.try_tunnel(tunneling, (cluster, &host), connection, info).await;
        }
        let pool = cluster.pools.of(&cluster.info, &host, RAW);
        let Acquire::Connect(mut connecting) = pool.connect(now, self.target(cluster, connection, info)) else {
            info.flags.insert(ResponseFlags::UPSTREAM_OVERFLOW);
            return Err(Tried::Hopeless);
        };
        info.upstream.set_host(Arc::clone(host.info()));
        info.upstream.mark_attempted();
        info.upstream.remote_address = Some(host.info().address.clone());
        info.mark(TimePoint::UpstreamConnectBegin, now);
        host.count(HostCounter::RqTotal);
        let mut closed_early = false;
        let outcome = poll_fn(|cx| {
            connection.registration.set_waker(cx.waker());
            if connection.registration.must_close() {
                closed_early = true;
                return Poll::Ready(None);
            }
            connecting.poll_raw(cx, worker.tick()).map(Some)
        });
        let outcome = outcome.await;
        info.upstream.pool_ready = Some(worker.now().saturating_duration_since(now));
        match outcome {
            None => Err(Tried::Hopeless),
            Some(Ok((Connected { transport, tls, alpn: _, filter_state }, guard))) => {
                info.upstream.tls = tls;
                info.upstream.filter_state = FilterState::on_connection(filter_state);
                info.upstream.set_connection(guard.id());
                info.upstream.local_address = local_address(&transport);
                cluster.info.stats.upstream_rq_total().inc();
                host.count(HostCounter::RqSuccess);
                Ok(Upstream::Raw { transport, guard })
            }
            Some(Err(failure)) => {
                host.count(HostCounter::RqError);
                cluster.info.stats.upstream_rq_pending_failure_eject().inc();
                connect_failed(info, &failure);
                Err(Tried::Failed)
            }
        }
    }

    /// Asks the host for a tunnel.
    async fn try_tunnel(
        &self,
        tunneling: &Tunneling,
        (cluster, host): (&Rc<WorkerCluster>, &Arc<Host>),
        connection: &Connection,
        info: &mut StreamInfo,
    ) -> Result<Upstream, Tried> {
        let now = connection.worker.tick();
        info.upstream.set_host(Arc::clone(host.info()));
        info.upstream.mark_attempted();
        info.upstream.remote_address = Some(host.info().address.clone());
        info.mark(TimePoint::UpstreamConnectBegin, now);
        host.count(HostCounter::RqTotal);
        let opened = {
            let proxied = self.proxied(cluster, connection, info);
            let mut opening = std::pin::pin!(tunneling.open((cluster, host, proxied), connection, info));
            poll_fn(|cx| {
                connection.registration.set_waker(cx.waker());
                if connection.registration.must_close() {
                    return Poll::Ready(None);
                }
                opening.as_mut().poll(cx).map(Some)
            })
            .await
        };
        info.upstream.pool_ready = Some(connection.worker.now().saturating_duration_since(now));
        match opened {
            None => Err(Tried::Hopeless),
            Some(Ok(pooled)) => {
                info.upstream.tls = pooled.tls().cloned();
                info.upstream.filter_state = FilterState::on_connection(pooled.filter_state().clone());
                info.upstream.set_connection(pooled.id());
                info.upstream.local_address = pooled.local_address().cloned();
                host.count(HostCounter::RqSuccess);
                Ok(Upstream::Tunnel(pooled))
            }
            Some(Err(Refused::Overflow)) => {
                info.flags.insert(ResponseFlags::UPSTREAM_OVERFLOW);
                Err(Tried::Hopeless)
            }
            Some(Err(Refused::Connect(failure))) => {
                host.count(HostCounter::RqError);
                cluster.info.stats.upstream_rq_pending_failure_eject().inc();
                connect_failed(info, &failure);
                Err(Tried::Failed)
            }
            Some(Err(Refused::Answer(text))) => {
                host.count(HostCounter::RqError);
                info.flags.insert(ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
                info.upstream.transport_failure_reason = Some(text.into());
                Err(Tried::Failed)
            }
        }
    }

    /// Moves bytes until both sides ended, one failed, or a timer fired.
    async fn forward(
        &self,
        (connection, early): (&mut Connection, Bytes),
        upstream: Upstream,
        info: &mut StreamInfo,
        started: Instant,
    ) {
        match upstream {
            Upstream::Raw { transport, guard } => {
                self.forward_raw((connection, early), (transport, guard), info, started).await;
            }
            Upstream::Tunnel(mut pooled) => {
                let ended = self.relay((connection, early), &mut pooled.wire, info, started).await;
                if let Ended::UpstreamLast | Ended::UpstreamFailed = ended {
                    pooled.closed_by_peer();
                }
                if let Ended::TooLong = ended {
                    info.flags.insert(ResponseFlags::DURATION_TIMEOUT);
                }
            }
        }
        self.stats.downstream_cx_rx_bytes_total().add(info.bytes_received);
        self.stats.downstream_cx_tx_bytes_total().add(info.bytes_sent);
    }

    async fn forward_raw(
        &self,
        (connection, early): (&mut Connection, Bytes),
        (upstream, guard): (Transport, ConnectionGuard),
        info: &mut StreamInfo,
        started: Instant,
    ) {
        let stats = &guard.pool().cluster().stats;
        stats.upstream_rq_active().add(1);
        guard.in_use();
        let (ended, upstream) = match (&connection.transport, &upstream) {
            // What was taken off the socket already can't be spliced.
            _ if !early.is_empty() => self.relay_raw((connection, early), upstream, info, started).await,
            (Transport::Tcp(a), Transport::Tcp(b)) => {
                (self.splice(connection, a, b, info, started).await, Some(upstream))
            }
            (Transport::Tcp(a), Transport::Unix(b)) => {
                (self.splice(connection, a, b, info, started).await, Some(upstream))
            }
            (Transport::Unix(a), Transport::Tcp(b)) => {
                (self.splice(connection, a, b, info, started).await, Some(upstream))
            }
            (Transport::Unix(a), Transport::Unix(b)) => {
                (self.splice(connection, a, b, info, started).await, Some(upstream))
            }
            _ => self.relay_raw((connection, early), upstream, info, started).await,
        };
        match ended {
            Ended::UpstreamLast | Ended::UpstreamFailed => guard.closed_by_peer(),
            Ended::UpstreamReset => {
                guard.closed_by_peer();
                info.flags.insert(ResponseFlags::UPSTREAM_REMOTE_RESET);
                reset_on_close(&connection.transport);
            }
            Ended::DownstreamReset => upstream.iter().for_each(reset_on_close),
            Ended::TooLong => info.flags.insert(ResponseFlags::DURATION_TIMEOUT),
            Ended::DownstreamLast | Ended::DownstreamFailed | Ended::Here => {}
        }
        stats.upstream_rq_active().sub(1);
        stats.upstream_cx_tx_bytes_total().add(info.upstream_bytes.wire_sent);
        stats.upstream_cx_rx_bytes_total().add(info.upstream_bytes.wire_received);
    }

    async fn relay_raw(
        &self,
        connection: (&mut Connection, Bytes),
        upstream: Transport,
        info: &mut StreamInfo,
        started: Instant,
    ) -> (Ended, Option<Transport>) {
        let mut exchange = Exchange::Http1(ClientConnection::opened(upstream));
        (self.relay(connection, &mut exchange, info, started).await, None)
    }

    async fn splice<A: SpliceSocket, B: SpliceSocket>(
        &self,
        connection: &Connection,
        a: &A,
        b: &B,
        info: &mut StreamInfo,
        started: Instant,
    ) -> Ended {
        let worker = &connection.worker;
        let mut splice = Splice::new(worker.tick());
        let mut upstream_first = false;
        let mut clock = Clock::new(self, started);
        let mut reports = Reports::new(&connection.observers);
        let ended = poll_fn(|cx| {
            connection.registration.set_waker(cx.waker());
            let now = worker.tick();
            if connection.registration.must_close() {
                return Poll::Ready(Ended::Here);
            }
            match splice.poll(cx, a, b, now) {
                Poll::Ready(Ok(_)) if upstream_first => return Poll::Ready(Ended::DownstreamLast),
                Poll::Ready(Ok(_)) => return Poll::Ready(Ended::UpstreamLast),
                Poll::Ready(Err(error)) => return Poll::Ready(failed(&error)),
                Poll::Pending => upstream_first = splice.ended(Side::B) && !splice.ended(Side::A),
            }
            reports.poll(cx, || {
                let (down, up) = (splice.a_to_b(), splice.b_to_a());
                let bytes = &mut info.downstream_bytes;
                (bytes.wire_received, bytes.wire_sent) = (down.received, up.sent);
                connection.observers.tell(info, false);
            });
            clock.poll(cx, now, splice.last_activity())
        })
        .await;
        let (down, up) = (splice.a_to_b(), splice.b_to_a());
        info.bytes_received = down.received;
        info.bytes_sent = up.sent;
        info.upstream_bytes.wire_sent = down.sent;
        info.upstream_bytes.wire_received = up.received;
        info.downstream_bytes.wire_received = down.received;
        info.downstream_bytes.wire_sent = up.sent;
        ended
    }

    /// Moves bytes that pass through this process.
    async fn relay(
        &self,
        (connection, early): (&mut Connection, Bytes),
        upstream: &mut Exchange,
        info: &mut StreamInfo,
        started: Instant,
    ) -> Ended {
        let Connection { transport, registration, worker, buffer_limit, observers, .. } = connection;
        let before = upstream.wire_bytes();
        let mut relay = Relay::new(transport, upstream, *buffer_limit as usize, worker.tick());
        if !early.is_empty() {
            relay.send_early(early);
        }
        let mut clock = Clock::new(self, started);
        let mut reports = Reports::new(observers);
        let ended = poll_fn(|cx| {
            registration.set_waker(cx.waker());
            let now = worker.tick();
            if registration.must_close() {
                return Poll::Ready(Ended::Here);
            }
            match relay.poll(cx, now) {
                Poll::Ready(Over::Upstream) => Poll::Ready(Ended::UpstreamLast),
                Poll::Ready(Over::Downstream) => Poll::Ready(Ended::DownstreamLast),
                Poll::Ready(Over::DownstreamFailed) => Poll::Ready(Ended::DownstreamFailed),
                Poll::Ready(Over::UpstreamFailed) => Poll::Ready(Ended::UpstreamFailed),
                Poll::Pending => {
                    reports.poll(cx, || {
                        let bytes = &mut info.downstream_bytes;
                        (bytes.wire_received, bytes.wire_sent) = (relay.received, relay.sent);
                        observers.tell(info, false);
                    });
                    clock.poll(cx, now, relay.last_activity)
                }
            }
        })
        .await;
        if let Some(tunneling) = &self.tunneling {
            tunneling.note_trailers(&relay.trailers, info);
        }
        info.bytes_received = relay.received;
        info.bytes_sent = relay.sent;
        info.downstream_bytes.wire_received = relay.received;
        info.downstream_bytes.wire_sent = relay.sent;
        let (received, sent) = upstream.wire_bytes();
        info.upstream_bytes.wire_received = received - before.0;
        info.upstream_bytes.wire_sent = sent - before.1;
        ended
    }

    fn log(&self, info: &StreamInfo, connection: &Connection, kind: AccessLogType) {
        let worker: &Worker = &connection.worker;
        let random = worker.random();
        let now = worker.now();
        let context = LogContext { kind, random: self::random(worker), ..LogContext::new(info, now, worker.wall()) };
        for log in self.access_logs.iter() {
            log.log(&context, random);
        }
    }
}

fn random(worker: &Worker) -> u128 {
    u128::from(worker.random()) << 64 | u128::from(worker.random())
}

/// Why there is no upstream connection.
enum Tried {
    /// Another try may work.
    Failed,
    /// It can't.
    Hopeless,
}

/// How the connection ended.
enum Ended {
    /// In order: the upstream was the last to say so.
    UpstreamLast,
    /// In order: the downstream was the last to say so.
    DownstreamLast,
    UpstreamReset,
    UpstreamFailed,
    DownstreamReset,
    DownstreamFailed,
    /// It has lived long enough.
    TooLong,
    /// By a timer, or because the process drains.
    Here,
}

/// The idle timeout and the longest duration of a connection.
struct Clock<'a> {
    proxy: &'a TcpProxy,
    longest: Option<Instant>,
    timer: Pin<Box<tokio::time::Sleep>>,
    armed: Option<Instant>,
}

impl Clock<'_> {
    fn new(proxy: &TcpProxy, started: Instant) -> Clock<'_> {
        Clock {
            proxy,
            longest: proxy.max_duration.and_then(|limit| started.checked_add(limit)),
            timer: Box::pin(tokio::time::sleep(Duration::from_secs(u64::from(u32::MAX)))),
            armed: None,
        }
    }

    /// Ready when the connection has lived long enough.
    fn poll(&mut self, cx: &mut Context<'_>, now: Instant, last_activity: Instant) -> Poll<Ended> {
        let idle = self.proxy.idle_timeout.and_then(|limit| last_activity.checked_add(limit));
        let Some(deadline) = [idle, self.longest].into_iter().flatten().min() else { return Poll::Pending };
        loop {
            if deadline <= now {
                if self.longest.is_some_and(|at| at <= now) {
                    self.proxy.stats.max_downstream_connection_duration().inc();
                    return Poll::Ready(Ended::TooLong);
                }
                self.proxy.stats.idle_timeout().inc();
                return Poll::Ready(Ended::Here);
            }
            // Armed for an earlier moment than needed: it fires, and is armed again.
            if self.armed.is_none_or(|at| at > deadline || at <= now) {
                self.timer.as_mut().reset(tokio::time::Instant::from_std(deadline));
                self.armed = Some(deadline);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.armed = None;
        }
    }
}

fn failed(error: &SpliceError) -> Ended {
    let reset = error.source.kind() == std::io::ErrorKind::ConnectionReset;
    match (error.side, reset) {
        (Side::A, true) => Ended::DownstreamReset,
        (Side::A, false) => Ended::DownstreamFailed,
        (Side::B, true) => Ended::UpstreamReset,
        (Side::B, false) => Ended::UpstreamFailed,
    }
}

/// The peer is told by a reset, as this side was.
fn reset_on_close(transport: &Transport) {
    if let Some(socket) = transport.lowest_tcp() {
        // It is closed in order if this fails.
        let _ = socket.set_zero_linger();
    }
}

fn connect_failed(info: &mut StreamInfo, failure: &ConnectFailure) {
    info.flags.insert(ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
    info.upstream.transport_failure_reason = Some(Arc::clone(&failure.reason));
}

fn local_address(transport: &Transport) -> Option<nuncio_stream_info::Address> {
    transport.lowest_tcp().and_then(|socket| socket.local_addr().ok()).map(nuncio_stream_info::Address::from)
}
