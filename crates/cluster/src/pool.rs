//! Connection pools: the upstream connections of one worker, by cluster and host.
//!
//! Owns: which connection a request gets, when a new one is made and when an idle one is closed. Does not own: which
//! host is chosen, nor what is sent.
//!
//! A pooled connection costs no task and no timer: it is looked at before it is used (a peer that closed it shows in its
//! readiness), and one sweep per worker closes idle connections that expired or were closed by their peers.

mod connecting;
mod line;
mod multiplexed;
mod pooled;
mod shed;
mod waiting;

pub use connecting::{ConnectFailure, Connecting};
pub use line::ConnectionGuard;
pub use pooled::PooledConnection;
pub use shed::shed_connections_if;
pub use waiting::{Waited, Waiting};

use crate::breaker::{Resource, RoutingPriority};
use crate::config::{HttpProtocolOptions, UpstreamProtocol};
use crate::connect::ConnectTarget;
use crate::host::Host;
use crate::info::ClusterInfo;
use crate::worker::HostObserver;
use line::Line;
use nuncio_http::Version;
use nuncio_http::h1::{ResponseOptions, Spelling, TargetForm, TrailerOptions};
use nuncio_stats::names::Http2CodecStats;
use nuncio_stream_info::ProxiedAddresses;
use pooled::IdleConnection;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often idle connections are looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// Pools of a cluster from which on unused ones are forgotten, where the names in requests make pools.
const MANY_POOLS: usize = 64;

/// What a request for a connection leads to.
pub enum Acquire {
    /// A connection, idle until now.
    Ready(Box<PooledConnection>),
    /// A new connection is being made.
    Connect(Box<Connecting>),
    /// No more connections are allowed: the request waits for one to be given back.
    Wait(Waiting),
    /// Too many requests wait for connections (`max_pending_requests`): a circuit breaker is open.
    PendingOverflow,
    /// Too many requests are served (`max_requests`): a circuit breaker is open.
    Overflow,
}

/// Why a request got no connection.
#[derive(Debug, Clone)]
pub enum NotObtained {
    /// A circuit breaker is open.
    Overflow,
    /// The connection was not made.
    Failed(ConnectFailure),
}

impl From<ConnectFailure> for NotObtained {
    fn from(failure: ConnectFailure) -> Self {
        if failure.overflow { NotObtained::Overflow } else { NotObtained::Failed(failure) }
    }
}

/// How HTTP/1 is spoken to a cluster.
#[derive(Debug, Clone)]
pub struct Http1Settings {
    /// How responses are read.
    pub response: ResponseOptions,
    /// Trailers of responses.
    pub trailers: TrailerOptions,
    /// How header names are written.
    pub spelling: Spelling,
    /// The form of the request target.
    pub target: TargetForm,
}

impl Http1Settings {
    fn new(options: &HttpProtocolOptions) -> Http1Settings {
        let max_head_bytes = options.max_response_headers_kb.saturating_mul(1024);
        let max_headers = u16::try_from(options.max_headers_count).unwrap_or(u16::MAX);
        let http1 = &options.http1;
        Http1Settings {
            response: ResponseOptions {
                max_head_bytes,
                max_headers,
                allow_chunked_length: http1.allow_chunked_length,
                underscores: options.headers_with_underscores_action,
                keep_spelling: http1.spelling == Spelling::Preserve,
                ..ResponseOptions::default()
            },
            trailers: TrailerOptions {
                deliver: http1.enable_trailers,
                max_bytes: max_head_bytes,
                max_count: max_headers,
                underscores: options.headers_with_underscores_action,
            },
            spelling: http1.spelling,
            target: if http1.send_fully_qualified_url { TargetForm::Absolute } else { TargetForm::Origin },
        }
    }
}

/// What connections of a pool speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolProtocol {
    /// HTTP/1: one request at a time.
    Http1,
    /// HTTP/2: many requests at a time.
    Http2,
    /// What each connection's host chooses (ALPN).
    Auto,
}

/// Which connections a request can go over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolKey {
    /// Requests of another priority have their own connections, as their breakers count them apart.
    pub priority: RoutingPriority,
    /// What they speak.
    pub protocol: PoolProtocol,
    /// The host that the request is for, where TLS goes by it (`auto_sni`, `auto_san_validation`).
    pub server_name: Option<Arc<str>>,
    /// The downstream connection, where the hosts are told of it (a PROXY protocol header).
    pub proxied: Option<Arc<ProxiedAddresses>>,
    /// What is offered in the TLS handshake (ALPN), where a filter chose it.
    pub protocols: Option<Arc<[Vec<u8>]>>,
}

impl PoolKey {
    /// For a request that came in with `downstream`, to a cluster that speaks `wanted`.
    #[inline]
    pub fn new(wanted: UpstreamProtocol, priority: RoutingPriority, downstream: Version) -> PoolKey {
        let protocol = match (wanted, downstream) {
            (UpstreamProtocol::Http2, _) | (UpstreamProtocol::Downstream, Version::Http2) => PoolProtocol::Http2,
            (UpstreamProtocol::Auto, _) => PoolProtocol::Auto,
            (UpstreamProtocol::Http1 | UpstreamProtocol::Downstream, _) => PoolProtocol::Http1,
        };
        PoolKey { priority, protocol, server_name: None, proxied: None, protocols: None }
    }

    /// The same, for requests whose connections offer these protocols.
    pub fn offering(self, protocols: Option<Arc<[Vec<u8>]>>) -> PoolKey {
        PoolKey { protocols, ..self }
    }

    /// The same, for requests of this downstream connection only.
    pub fn for_client(self, proxied: Option<Arc<ProxiedAddresses>>) -> PoolKey {
        PoolKey { proxied, ..self }
    }

    /// The same, for requests for this host only.
    pub fn for_server(self, server_name: Option<Arc<str>>) -> PoolKey {
        PoolKey { server_name, ..self }
    }
}

/// The pools of a cluster on one worker.
pub struct ClusterPools {
    http1: Rc<Http1Settings>,
    hosts: RefCell<Vec<Rc<HostPool>>>,
}

/// The connections of one worker to one host.
pub struct HostPool {
    pub(crate) host: Arc<Host>,
    pub(crate) cluster: Arc<ClusterInfo>,
    key: PoolKey,
    /// What the last connection chose, where each may choose (ALPN).
    learned: Cell<PoolProtocol>,
    /// Streams that the host takes at once, as far as it has said.
    host_streams: Cell<u32>,
    http1: Rc<Http1Settings>,
    /// HTTP/2 connections that take requests.
    lines: RefCell<Vec<Rc<Line>>>,
    /// Connections on their way that may turn out to speak HTTP/2.
    connecting: Cell<u32>,
    http2_stats: OnceCell<Http2CodecStats>,
    idle: RefCell<Vec<IdleConnection>>,
    waiting: RefCell<VecDeque<Rc<waiting::Slot>>>,
    /// Connections that exist or are being made.
    open: Cell<u32>,
    /// The host left the cluster: nothing is kept.
    closed: Cell<bool>,
    swept: Cell<bool>,
}

impl ClusterPools {
    pub(crate) fn new(cluster: &ClusterInfo) -> ClusterPools {
        ClusterPools { http1: Rc::new(Http1Settings::new(&cluster.config.http)), hosts: RefCell::default() }
    }

    /// The pool of a host. Clusters have few hosts that a worker uses at once, so a scan from the front beats hashing;
    /// a found pool moves one place forward.
    pub fn of(&self, cluster: &Arc<ClusterInfo>, host: &Arc<Host>, key: PoolKey) -> Rc<HostPool> {
        let mut hosts = self.hosts.borrow_mut();
        if let Some(at) = hosts.iter().position(|pool| Arc::ptr_eq(&pool.host, host) && pool.key == key) {
            if at > 0 {
                hosts.swap(at, at - 1);
                return Rc::clone(&hosts[at - 1]);
            }
            return Rc::clone(&hosts[at]);
        }
        if hosts.len() >= MANY_POOLS && (key.server_name.is_some() || key.proxied.is_some()) {
            hosts.retain(|pool| pool.open.get() > 0 || Rc::strong_count(pool) > 1);
        }
        let pool = Rc::new(HostPool {
            host: Arc::clone(host),
            cluster: Arc::clone(cluster),
            learned: Cell::new(key.protocol),
            host_streams: Cell::new(u32::MAX),
            key,
            http1: Rc::clone(&self.http1),
            lines: RefCell::default(),
            connecting: Cell::new(0),
            http2_stats: OnceCell::new(),
            idle: RefCell::default(),
            waiting: RefCell::default(),
            open: Cell::new(0),
            closed: Cell::new(false),
            swept: Cell::new(false),
        });
        hosts.push(Rc::clone(&pool));
        pool
    }

    /// The host left the cluster: its idle connections are closed, busy ones when they are given back.
    pub fn remove(&self, host: &Arc<Host>) {
        self.hosts.borrow_mut().retain(|pool| {
            let is_other = !Arc::ptr_eq(&pool.host, host);
            if !is_other {
                pool.close();
            }
            is_other
        });
    }

    /// Closes all idle connections; busy ones close when they are given back.
    pub fn close_all(&self) {
        for pool in self.hosts.borrow_mut().drain(..) {
            pool.close();
        }
    }
}

impl HostObserver for ClusterPools {
    fn hosts_removed(&self, hosts: &[Arc<Host>]) {
        hosts.iter().for_each(|host| self.remove(host));
    }

    fn hosts_failed(&self, hosts: &[Arc<Host>]) {
        hosts.iter().for_each(|host| self.remove(host));
    }

    fn host_set_changed(&self) {
        self.close_all();
    }

    fn cluster_retired(&self) {
        self.close_all();
    }
}

impl Drop for ClusterPools {
    fn drop(&mut self) {
        self.close_all();
    }
}

impl HostPool {
    /// A connection for one request. `fresh` passes idle connections over: a request that was lost on one is sent
    /// again on a new one.
    pub fn acquire(self: &Rc<Self>, now: Instant, fresh: bool) -> Acquire {
        if self.learned.get() != PoolProtocol::Http1
            && let Some(acquired) = self.acquire_shared(now)
        {
            return acquired;
        }
        if !fresh && let Some(connection) = self.take_idle(now) {
            return match connection.begin_request() {
                true => Acquire::Ready(connection),
                false => {
                    connection.release(now);
                    Acquire::Overflow
                }
            };
        }
        let breaker = self.cluster.breaker(self.key.priority);
        if !breaker.can_create(Resource::PendingRequests) {
            self.cluster.stats.upstream_rq_pending_overflow().inc();
            return Acquire::PendingOverflow;
        }
        if !self.may_connect() {
            self.cluster.stats.upstream_cx_overflow().inc();
            // A host without any connection gets one over the limit, or its requests would wait for ever.
            if self.open.get() > 0 {
                return Acquire::Wait(Waiting::new(self));
            }
        }
        if shed::is_shed() {
            return Acquire::Overflow;
        }
        match self.key.protocol {
            PoolProtocol::Http1 => self.cluster.stats.upstream_cx_http1_total().inc(),
            PoolProtocol::Http2 => self.cluster.stats.upstream_cx_http2_total().inc(),
            // Counted when it is known.
            PoolProtocol::Auto => {}
        }
        let target = self.target();
        Acquire::Connect(Box::new(Connecting::new(self, now, self.key.protocol, target)))
    }

    /// Gets a connection, however long that takes. `clock` tells the time. Cancel safe.
    pub async fn obtain(self: &Rc<Self>, clock: impl Fn() -> Instant) -> Result<Box<PooledConnection>, NotObtained> {
        loop {
            match self.acquire(clock(), false) {
                Acquire::Ready(connection) => return Ok(connection),
                Acquire::Overflow | Acquire::PendingOverflow => return Err(NotObtained::Overflow),
                Acquire::Connect(mut connecting) => {
                    let connected = poll_fn(|cx| connecting.poll(cx, clock())).await;
                    return connected.map_err(NotObtained::from);
                }
                Acquire::Wait(mut waiting) => match poll_fn(|cx| waiting.poll(cx, clock())).await {
                    Waited::Ready(connection) => return Ok(connection),
                    Waited::Again => {}
                    Waited::Overflow => return Err(NotObtained::Overflow),
                    Waited::Failed(failure) => return Err(NotObtained::from(failure)),
                },
            }
        }
    }

    /// Makes a connection for one request, whose tunnel ends here: what is in it goes to the host as it is.
    pub fn acquire_raw(self: &Rc<Self>, now: Instant) -> Acquire {
        let breaker = self.cluster.breaker(self.key.priority);
        if !breaker.can_create(Resource::PendingRequests) {
            self.cluster.stats.upstream_rq_pending_overflow().inc();
            return Acquire::PendingOverflow;
        }
        let mut target = self.target();
        if !target.insists_on_protocols {
            target.protocols = Arc::default();
        }
        match self.connect(now, target) {
            Acquire::Connect(connecting) => Acquire::Connect(Box::new(connecting.raw())),
            other => other,
        }
    }

    /// Makes a connection outside the pool, for a tunnel.
    pub fn connect(self: &Rc<Self>, now: Instant, target: ConnectTarget) -> Acquire {
        if !self.may_connect() {
            self.cluster.stats.upstream_cx_overflow().inc();
            return Acquire::Overflow;
        }
        if shed::is_shed() {
            return Acquire::Overflow;
        }
        Acquire::Connect(Box::new(Connecting::new(self, now, PoolProtocol::Http1, target)))
    }

    /// What a new connection asks of its host.
    fn target(&self) -> ConnectTarget {
        let mut target = ConnectTarget::offering(self.key.protocol);
        target.proxied = self.key.proxied.clone();
        if let Some(protocols) = &self.key.protocols {
            target.protocols = Arc::clone(protocols);
            target.insists_on_protocols = true;
        }
        if let (Some(name), Some(auto)) = (&self.key.server_name, &self.cluster.config.http.auto_sni) {
            target.server_name = auto.server_name.then(|| Arc::clone(name));
            target.names = auto.validate.then(|| Arc::from([Arc::clone(name)]));
        }
        target
    }

    /// Whether the cluster's and the host's limits of connections leave room for another one.
    fn may_connect(&self) -> bool {
        let of_host = self.cluster.config.circuit_breakers.per_host_max_connections;
        self.cluster.breaker(self.key.priority).can_create(Resource::Connections)
            && of_host.is_none_or(|most| self.host.cx_active() < most)
    }

    /// The connections go to this host.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// How HTTP/1 is spoken to the host.
    pub fn http1(&self) -> &Http1Settings {
        &self.http1
    }

    /// The cluster of the host.
    pub fn cluster(&self) -> &Arc<ClusterInfo> {
        &self.cluster
    }

    fn take_idle(self: &Rc<Self>, now: Instant) -> Option<Box<PooledConnection>> {
        loop {
            let mut idle = self.idle.borrow_mut().pop()?;
            if idle.is_usable(now) {
                return Some(idle.wake());
            }
        }
    }

    /// Takes a connection back that can serve another request.
    fn put_back(self: &Rc<Self>, connection: Box<PooledConnection>, now: Instant) {
        if self.closed.get() {
            return;
        }
        while let Some(slot) = self.pop_waiting() {
            if slot.is_wanted() {
                slot.give(connection);
                return;
            }
        }
        self.idle.borrow_mut().push(IdleConnection::new(connection, now));
        self.start_sweep();
    }

    /// A connection is gone: a waiting request may make a new one.
    fn connection_gone(&self) {
        self.open.set(self.open.get().saturating_sub(1));
        while let Some(slot) = self.pop_waiting() {
            if slot.is_wanted() {
                slot.retry();
                return;
            }
        }
    }

    fn pop_waiting(&self) -> Option<Rc<waiting::Slot>> {
        self.waiting.borrow_mut().pop_front()
    }

    fn close(&self) {
        self.closed.set(true);
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        drop(idle);
        let lines = std::mem::take(&mut *self.lines.borrow_mut());
        lines.iter().for_each(|line| line.drain());
    }

    /// `cluster.<name>.http2.*`.
    fn http2_stats(&self) -> &Http2CodecStats {
        self.http2_stats.get_or_init(|| Http2CodecStats::register(&self.cluster.stats.scope().child("http2")))
    }

    /// One task per pool looks at idle connections while there are any.
    fn start_sweep(self: &Rc<Self>) {
        if self.swept.replace(true) {
            return;
        }
        tokio::task::spawn_local(sweep(Rc::downgrade(self)));
    }
}

async fn sweep(pool: Weak<HostPool>) {
    let mut timer = tokio::time::interval(SWEEP);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    timer.tick().await;
    loop {
        timer.tick().await;
        let Some(pool) = pool.upgrade() else { return };
        let now = tokio::time::Instant::now().into_std();
        let idle = std::mem::take(&mut *pool.idle.borrow_mut());
        let kept: Vec<IdleConnection> =
            idle.into_iter().filter_map(|mut idle| idle.is_usable(now).then_some(idle)).collect();
        let mut idle = pool.idle.borrow_mut();
        let added = std::mem::replace(&mut *idle, kept);
        idle.extend(added);
        if idle.is_empty() {
            idle.shrink_to_fit();
            pool.swept.set(false);
            return;
        }
    }
}
