//! What all threads share of a cluster: configuration, stats and circuit breakers. Membership is elsewhere.

use crate::Host;
use crate::TlsCounters;
use crate::breaker::{Breaker, BreakerStats, Resource, RoutingPriority};
use crate::config::{ClusterConfig, Discovery};
use crate::event::{Event, Events};
use crate::grpc::{GrpcProtocol, GrpcStats};
use crate::manager::ClusterManagerOptions;
use crate::outlier::Watch;
use crate::worker::SharedHosts;
use hashbrown::HashMap;
use nuncio_stats::names::{
    ClusterRequestTimeStats, ClusterStats as TrafficStats, ClusterUpdateStats, Http1CodecStats, TransportMatchStats,
};
use nuncio_stats::{CodeCounters, Scope, Store};
use nuncio_stream_info::Locality;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A cluster as its users see it.
pub struct ClusterInfo {
    /// The configuration.
    pub config: Arc<ClusterConfig>,
    /// `cluster.<name>.*`. A cluster that replaces another one goes on with its stats.
    pub stats: ClusterStats,
    breakers: [Breaker; 2],
    stream: OnceLock<Arc<nuncio_stream_info::ClusterInfo>>,
    pub(crate) events: Events,
    /// What outlier monitors of the hosts share; `None` without outlier detection.
    pub(crate) watch: Option<Arc<Watch>>,
    /// Worker ids are 1 to this.
    pub(crate) workers: u32,
    /// How many requests endpoints want to be dropped, in millionths.
    drop_overload: AtomicU32,
    /// Where this proxy is.
    pub(crate) locality: Option<Arc<Locality>>,
    /// Hosts of an `ORIGINAL_DST` cluster; `None` for any other.
    original_dst: Option<Box<SharedHosts>>,
}

impl ClusterInfo {
    pub(crate) fn new(
        config: Arc<ClusterConfig>,
        stats: ClusterStats,
        events: Events,
        options: &ClusterManagerOptions,
    ) -> Self {
        let workers = options.workers;
        let locality = options.locality.clone();
        let watch = config
            .outlier_detection
            .as_deref()
            .map(|outlier| Arc::new(Watch { config: outlier.clone(), events: events.clone(), workers }));
        let original_dst = matches!(config.discovery, Discovery::OriginalDst(_)).then(Box::default);
        if config.transports.as_ref().is_some_and(|transports| transports.use_tls()) {
            stats.tls();
        }
        let limits = &config.circuit_breakers;
        let breakers = [
            Breaker::new(&limits.default, RoutingPriority::Default, stats.inner.breakers.clone(), stats.scope()),
            Breaker::new(&limits.high, RoutingPriority::High, stats.inner.breakers.clone(), stats.scope()),
        ];
        ClusterInfo {
            config,
            stats,
            breakers,
            stream: OnceLock::new(),
            events,
            watch,
            workers,
            drop_overload: AtomicU32::new(0),
            locality,
            original_dst,
        }
    }

    /// The name.
    #[inline]
    pub fn name(&self) -> &Arc<str> {
        &self.config.name
    }

    /// The circuit breakers of a routing priority.
    #[inline]
    pub fn breaker(&self, priority: RoutingPriority) -> &Breaker {
        match priority {
            RoutingPriority::Default => &self.breakers[0],
            RoutingPriority::High => &self.breakers[1],
        }
    }

    /// The limits of a routing priority, by their names in `/clusters`.
    pub(crate) fn limits(&self, priority: RoutingPriority) -> [(&'static str, u32); 4] {
        let breaker = self.breaker(priority);
        [
            ("max_connections", breaker.max(Resource::Connections)),
            ("max_pending_requests", breaker.max(Resource::PendingRequests)),
            ("max_requests", breaker.max(Resource::Requests)),
            ("max_retries", breaker.max(Resource::Retries)),
        ]
    }

    /// The hosts of an `ORIGINAL_DST` cluster, of all workers; `None` for any other cluster.
    pub(crate) fn original_dst_hosts(&self) -> Option<MutexGuard<'_, HashMap<SocketAddr, Arc<Host>>>> {
        self.original_dst.as_ref().map(|hosts| hosts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What streams refer to the cluster by. Made on first use.
    pub fn stream_info(&self) -> &Arc<nuncio_stream_info::ClusterInfo> {
        self.stream.get_or_init(|| {
            Arc::new(nuncio_stream_info::ClusterInfo {
                name: self.config.name.clone(),
                observability_name: self.config.observability_name().clone(),
                metadata: self.config.metadata.clone(),
            })
        })
    }

    /// How many of the requests are to be answered 503 at once, in millionths (`drop_overloads`).
    #[inline]
    pub fn drop_overload(&self) -> u32 {
        self.drop_overload.load(Relaxed)
    }

    pub(crate) fn set_drop_overload(&self, millionths: u32) {
        self.drop_overload.store(millionths, Relaxed);
    }

    /// The stats of responses from the host's zone; none if it or this proxy is in none.
    pub fn zone_stats<'a>(&self, host: &'a Host) -> Option<&'a ZoneStats> {
        let from = &self.locality.as_ref()?.zone;
        let to = &host.info().locality.zone;
        if from.is_empty() || to.is_empty() {
            return None;
        }
        Some(host.zone_stats(|| self.stats.zone(from, to)))
    }

    /// A response from the host said `x-envoy-immediate-health-check-fail`: it is taken out of balancing until a health
    /// check passes. Does nothing in a cluster without active health checks.
    pub fn immediate_health_check_fail(&self, host: &Arc<Host>) {
        if self.config.health_check.is_some() {
            self.events.send(Event::ImmediateHealthCheckFail(host.clone()));
        }
    }
}

impl fmt::Debug for ClusterInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClusterInfo").field(&self.config.name).finish()
    }
}

/// Most alternative names of a cluster's stats: they come from request headers.
const MOST_ALTERNATES: usize = 1000;

/// The stats of a cluster; those of its traffic are reached directly. Clones share them.
#[derive(Clone)]
pub struct ClusterStats {
    inner: Arc<Stats>,
}

struct Stats {
    scope: Scope,
    traffic: TrafficStats,
    update: ClusterUpdateStats,
    breakers: BreakerStats,
    http1: OnceLock<Http1CodecStats>,
    grpc: OnceLock<Arc<GrpcStats>>,
    grpc_web: OnceLock<Arc<GrpcStats>>,
    tls: OnceLock<Box<TlsCounters>>,
    responses: OnceLock<Box<Responses>>,
    alternates: Mutex<HashMap<Box<str>, Arc<Responses>>>,
    named: OnceLock<Box<Named>>,
}

/// Stats of names that most clusters have none of.
#[derive(Default)]
struct Named {
    zones: Mutex<HashMap<Arc<str>, ZoneStats>>,
    transport_matches: Mutex<HashMap<Arc<str>, Arc<TransportMatchStats>>>,
}

/// Stats that appear with the first response.
struct Responses {
    scope: Scope,
    all: ResponseStats,
    internal: OnceLock<ResponseStats>,
    external: OnceLock<ResponseStats>,
    canary: OnceLock<ResponseStats>,
    retry: OnceLock<CodeCounters>,
}

/// `upstream_rq_<code>` and so on, and `upstream_rq_time`.
struct ResponseStats {
    codes: CodeCounters,
    time: ClusterRequestTimeStats,
}

impl ResponseStats {
    fn new(scope: &Scope) -> Self {
        ResponseStats { codes: scope.code_counters("upstream_rq"), time: ClusterRequestTimeStats::register(scope) }
    }
}

impl ClusterStats {
    /// Registers the stats of a cluster.
    pub(crate) fn new(store: &Store, observability_name: &str) -> Self {
        let scope = store.scope(&format!("cluster.{}", nuncio_stats::sanitize(observability_name)), &[]);
        let inner = Stats {
            traffic: TrafficStats::register(&scope),
            update: ClusterUpdateStats::register(&scope),
            breakers: BreakerStats::register(&scope),
            http1: OnceLock::new(),
            grpc: OnceLock::new(),
            grpc_web: OnceLock::new(),
            tls: OnceLock::new(),
            responses: OnceLock::new(),
            alternates: Mutex::default(),
            named: OnceLock::new(),
            scope,
        };
        ClusterStats { inner: Arc::new(inner) }
    }

    /// `cluster.<name>`, for stats of features that the cluster may have.
    pub fn scope(&self) -> &Scope {
        &self.inner.scope
    }

    /// Membership and updates.
    pub fn update(&self) -> &ClusterUpdateStats {
        &self.inner.update
    }

    /// `http1.*` of connections to hosts; appears on first use.
    pub fn http1(&self) -> &Http1CodecStats {
        self.inner.http1.get_or_init(|| Http1CodecStats::register(&self.inner.scope.child("http1")))
    }

    /// The stats of gRPC calls over a protocol.
    pub fn grpc(&self, protocol: GrpcProtocol) -> &Arc<GrpcStats> {
        let cell = match protocol {
            GrpcProtocol::Grpc => &self.inner.grpc,
            GrpcProtocol::GrpcWeb => &self.inner.grpc_web,
        };
        cell.get_or_init(|| Arc::new(GrpcStats::new(&self.inner.scope, protocol)))
    }

    /// `<match>.total_match_count`, for one of `transport_socket_matches`.
    pub(crate) fn transport_match(&self, name: &Arc<str>) -> Arc<TransportMatchStats> {
        let named = self.inner.named.get_or_init(Box::default);
        let mut known = named.transport_matches.lock().unwrap_or_else(PoisonError::into_inner);
        let register = || TransportMatchStats::register(&self.inner.scope.child(&nuncio_stats::sanitize(name)));
        known.entry(name.clone()).or_insert_with(|| Arc::new(register())).clone()
    }

    /// `ssl.*` of connections to hosts; appears with the first context.
    pub fn tls(&self) -> &TlsCounters {
        self.inner.tls.get_or_init(|| Box::new(TlsCounters::register(&self.inner.scope)))
    }

    /// Counts a response: `upstream_rq_<code>`, `upstream_rq_<class>xx`, `upstream_rq_completed`, and the same below
    /// `internal` or `external`, and below `canary` for a canary host (`x-envoy-upstream-canary`).
    pub fn charge_response(&self, status: u16, internal: bool, canary: bool) {
        self.responses().charge(status, internal, canary);
    }

    /// Counts a response that a retry takes the place of: `retry.upstream_rq_<code>` and so on.
    pub fn charge_retried(&self, status: u16) {
        let codes = &self.responses().retry;
        codes.get_or_init(|| self.inner.scope.child("retry").code_counters("upstream_rq")).charge(status);
    }

    /// Records how long a request took, in milliseconds: `upstream_rq_time`, in the places of
    /// [`ClusterStats::charge_response`].
    pub fn record_time(&self, ms: u64, internal: bool, canary: bool) {
        self.responses().record_time(ms, internal, canary);
    }

    /// The same stats once more, below a name that requests ask for (`x-envoy-upstream-alt-stat-name`). None once a cluster
    /// has [`MOST_ALTERNATES`] of them.
    pub fn alternate(&self, name: &[u8]) -> Option<AlternateStats> {
        let name = nuncio_stats::sanitize(std::str::from_utf8(name).ok()?);
        let mut known = self.inner.alternates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(responses) = known.get(&*name) {
            return Some(AlternateStats(Arc::clone(responses)));
        }
        if name.is_empty() || known.len() >= MOST_ALTERNATES {
            return None;
        }
        let responses = Arc::new(Responses::new(self.inner.scope.child(&name)));
        known.insert(name.as_str().into(), Arc::clone(&responses));
        Some(AlternateStats(responses))
    }

    /// `zone.<from>.<to>.*`: responses that a host in the zone `to` gave to this proxy in `from`.
    fn zone(&self, from: &str, to: &Arc<str>) -> ZoneStats {
        let mut known = self.inner.named.get_or_init(Box::default).zones.lock().unwrap_or_else(PoisonError::into_inner);
        let scope = || {
            let zone = self.inner.scope.child("zone").child(&nuncio_stats::sanitize(from));
            zone.child(&nuncio_stats::sanitize(to))
        };
        known.entry(to.clone()).or_insert_with(|| ZoneStats(Arc::new(ResponseStats::new(&scope())))).clone()
    }

    fn responses(&self) -> &Responses {
        self.inner.responses.get_or_init(|| Box::new(Responses::new(self.inner.scope.clone())))
    }
}

/// Response stats below another name.
#[derive(Clone)]
pub struct AlternateStats(Arc<Responses>);

impl AlternateStats {
    /// As [`ClusterStats::charge_response`].
    pub fn charge_response(&self, status: u16, internal: bool, canary: bool) {
        self.0.charge(status, internal, canary);
    }

    /// As [`ClusterStats::record_time`].
    pub fn record_time(&self, ms: u64, internal: bool, canary: bool) {
        self.0.record_time(ms, internal, canary);
    }
}

/// Response stats of a pair of zones.
#[derive(Clone)]
pub struct ZoneStats(Arc<ResponseStats>);

impl ZoneStats {
    /// As [`ClusterStats::charge_response`].
    pub fn charge_response(&self, status: u16) {
        self.0.codes.charge(status);
    }

    /// As [`ClusterStats::record_time`].
    pub fn record_time(&self, ms: u64) {
        self.0.time.upstream_rq_time().record(ms);
    }
}

impl Responses {
    fn new(scope: Scope) -> Responses {
        Responses {
            all: ResponseStats::new(&scope),
            internal: OnceLock::new(),
            external: OnceLock::new(),
            canary: OnceLock::new(),
            retry: OnceLock::new(),
            scope,
        }
    }

    fn charge(&self, status: u16, internal: bool, canary: bool) {
        self.all.codes.charge(status);
        self.origin(internal).codes.charge(status);
        if canary {
            self.canary().codes.charge(status);
        }
    }

    fn record_time(&self, ms: u64, internal: bool, canary: bool) {
        self.all.time.upstream_rq_time().record(ms);
        self.origin(internal).time.upstream_rq_time().record(ms);
        if canary {
            self.canary().time.upstream_rq_time().record(ms);
        }
    }

    fn origin(&self, internal: bool) -> &ResponseStats {
        let (cell, name) = if internal { (&self.internal, "internal") } else { (&self.external, "external") };
        cell.get_or_init(|| ResponseStats::new(&self.scope.child(name)))
    }

    fn canary(&self) -> &ResponseStats {
        self.canary.get_or_init(|| ResponseStats::new(&self.scope.child("canary")))
    }
}

impl Deref for ClusterStats {
    type Target = TrafficStats;

    #[inline]
    fn deref(&self) -> &TrafficStats {
        &self.inner.traffic
    }
}

impl fmt::Debug for ClusterStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClusterStats").field(&self.inner.scope).finish()
    }
}
