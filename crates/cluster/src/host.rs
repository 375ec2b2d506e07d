//! A host of a cluster, shared by all threads. Owns its health flags, its counters and what its outlier monitor saw.

mod load;

use crate::cells::WorkerCells;
use crate::config::EndpointHealthCheck;
use crate::health::{AtomicHealthFlags, HealthFlags};
use crate::info::ZoneStats;
use crate::orca::LoadReport;
use crate::outlier::Monitor;
use nuncio_lb::{ClientSideWeights, Endpoint, Health};
use nuncio_stream_info::{Address, HostInfo, Struct};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Counters of a host, as `/clusters` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostCounter {
    /// Connections that failed to be made.
    CxConnectFail,
    /// Connections.
    CxTotal,
    /// Requests that failed: 5xx, reset, or no answer.
    RqError,
    /// Requests with an answer other than 5xx.
    RqSuccess,
    /// Requests that timed out.
    RqTimeout,
    /// Requests.
    RqTotal,
}

/// What a host is made from.
#[derive(Debug, Clone)]
pub struct HostSpec {
    /// Address, hostname, metadata and locality.
    pub info: Arc<HostInfo>,
    /// All addresses, the first one included, if there are several; tried one after another (RFC 8305).
    pub addresses: Arc<[Address]>,
    /// `load_balancing_weight`, at least 1.
    pub weight: u32,
    /// 0 is the highest.
    pub priority: u32,
    /// `health_check_config`.
    pub health_check: Option<Box<EndpointHealthCheck>>,
    /// What ring hash and Maglev place the host by, if not by its address.
    pub hash_key: Option<Arc<str>>,
    /// Flags at the start.
    pub health: HealthFlags,
    /// Which of `transport_socket_matches` is for the host; none: the cluster's transport socket.
    pub transport: Option<u16>,
}

/// Where to connect to, and what streams say of it.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Names the first address.
    pub info: Arc<HostInfo>,
    /// All addresses in the order in which to try them; empty if there is only that one.
    pub addresses: Arc<[Address]>,
}

/// A host. Everything that changes is atomic; nothing is locked on the way of a request.
pub struct Host {
    destination: Destination,
    /// The present destination of a logical host (`LOGICAL_DNS`), which stays the same host when its address changes.
    moved: Option<Mutex<Destination>>,
    weight: AtomicU32,
    priority: u32,
    hash_key: Arc<str>,
    health_check: Option<Box<EndpointHealthCheck>>,
    transport: Option<u16>,
    health: AtomicHealthFlags,
    counters: WorkerCells,
    cx_active: AtomicU32,
    rq_active: AtomicU32,
    rq_pending_active: AtomicU32,
    monitor: Option<Box<Monitor>>,
    added: Instant,
    /// Microseconds after `added` at which the host became ready for load, plus one; 0 if it never was.
    ready: AtomicU64,
    used: AtomicBool,
    /// Taken from the cluster when the host first answers.
    zone: OnceLock<ZoneStats>,
    /// Only in clusters that weigh hosts by what they report.
    load: Option<Box<load::ReportedLoad>>,
}

/// What the cluster gives to each of its hosts.
pub(crate) struct HostSetup {
    /// Worker ids are 1 to this.
    pub(crate) workers: u32,
    /// Watches for outliers; `None` if the cluster does not.
    pub(crate) monitor: Option<Box<Monitor>>,
    /// Whether the cluster weighs hosts by what they report.
    pub(crate) reports_load: bool,
    /// Whether the address may change (`LOGICAL_DNS`).
    pub(crate) logical: bool,
    /// The present moment.
    pub(crate) now: Instant,
}

impl Host {
    pub(crate) fn new(spec: HostSpec, setup: HostSetup) -> Self {
        let destination = Destination { info: spec.info, addresses: spec.addresses };
        let hash_key = spec.hash_key.unwrap_or_else(|| Arc::from(""));
        let is_ready = spec.health.health() == Health::Healthy;
        Host {
            moved: setup.logical.then(|| Mutex::new(destination.clone())),
            destination,
            weight: AtomicU32::new(spec.weight.max(1)),
            priority: spec.priority,
            hash_key,
            health_check: spec.health_check,
            transport: spec.transport,
            health: AtomicHealthFlags::new(spec.health),
            counters: WorkerCells::new(setup.workers),
            cx_active: AtomicU32::new(0),
            rq_active: AtomicU32::new(0),
            rq_pending_active: AtomicU32::new(0),
            monitor: setup.monitor,
            added: setup.now,
            ready: AtomicU64::new(u64::from(is_ready)),
            used: AtomicBool::new(false),
            zone: OnceLock::new(),
            load: setup.reports_load.then(Box::default),
        }
    }

    /// Address, hostname, metadata and locality, as they were when the host was added. The address of a logical host may
    /// have changed since; connections must ask [`Host::destination`].
    #[inline]
    pub fn info(&self) -> &Arc<HostInfo> {
        &self.destination.info
    }

    /// The address at which the host was added.
    pub fn address(&self) -> &Address {
        &self.destination.info.address
    }

    /// Its host name; empty if it has none.
    pub fn hostname(&self) -> &Arc<str> {
        &self.destination.info.hostname
    }

    /// Where a new connection goes. Ask once for each connection: a logical host takes a lock here.
    pub fn destination(&self) -> Destination {
        match &self.moved {
            None => self.destination.clone(),
            Some(moved) => moved.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// New connections of a logical host go elsewhere from now on.
    pub(crate) fn move_to(&self, destination: Destination) {
        if let Some(moved) = &self.moved {
            *moved.lock().unwrap_or_else(PoisonError::into_inner) = destination;
        }
    }

    /// Main thread only, followed by an update of the cluster's hosts.
    pub(crate) fn set_weight(&self, weight: u32) {
        self.weight.store(weight.max(1), Relaxed);
    }

    /// 0 is the highest.
    pub fn priority(&self) -> u32 {
        self.priority
    }

    /// `health_check_config` of the endpoint.
    pub fn health_check_config(&self) -> Option<&EndpointHealthCheck> {
        self.health_check.as_deref()
    }

    /// Which of `transport_socket_matches` is for the host; none: the cluster's transport socket.
    pub(crate) fn transport(&self) -> Option<u16> {
        self.transport
    }

    pub(crate) fn zone_stats(&self, find: impl FnOnce() -> ZoneStats) -> &ZoneStats {
        self.zone.get_or_init(find)
    }

    /// Why it takes load, or not.
    #[inline]
    pub fn health_flags(&self) -> HealthFlags {
        self.health.get()
    }

    /// Main thread only, followed by a refresh of the cluster.
    pub(crate) fn set_health(&self, flags: HealthFlags) -> bool {
        self.health.set(flags)
    }

    /// Main thread only, followed by a refresh of the cluster. A host that becomes healthy by it starts slowly.
    pub(crate) fn clear_health(&self, flags: HealthFlags, now: Instant) -> bool {
        let was = self.health.get().health();
        let changed = self.health.clear(flags);
        if changed && was != Health::Healthy && self.health.get().health() == Health::Healthy {
            let since = now.saturating_duration_since(self.added);
            self.ready.store(since.as_micros().min(u128::from(u64::MAX) - 1) as u64 + 1, Relaxed);
        }
        changed
    }

    /// Counts one.
    #[inline]
    pub fn count(&self, counter: HostCounter) {
        self.counters.add(counter as usize, 1);
    }

    /// The sum over all workers.
    pub fn counter(&self, counter: HostCounter) -> u64 {
        self.counters.sum(counter as usize)
    }

    /// A connection was opened: `cx_total`, `cx_active`.
    #[inline]
    pub fn connection_opened(&self) {
        self.counters.add(HostCounter::CxTotal as usize, 1);
        self.cx_active.fetch_add(1, Relaxed);
    }

    /// A connection that [`Host::connection_opened`] counted is gone.
    #[inline]
    pub fn connection_closed(&self) {
        self.cx_active.fetch_sub(1, Relaxed);
    }

    /// Open connections.
    pub fn cx_active(&self) -> u32 {
        self.cx_active.load(Relaxed)
    }

    /// A request was sent to the host: `rq_total`, `rq_active`.
    #[inline]
    pub fn request_started(&self) {
        self.counters.add(HostCounter::RqTotal as usize, 1);
        self.rq_active.fetch_add(1, Relaxed);
    }

    /// A request that [`Host::request_started`] counted is over.
    #[inline]
    pub fn request_finished(&self) {
        self.rq_active.fetch_sub(1, Relaxed);
    }

    /// Requests in flight.
    pub fn rq_active(&self) -> u32 {
        self.rq_active.load(Relaxed)
    }

    /// A request waits for a connection to the host.
    #[inline]
    pub fn pending_started(&self) {
        self.rq_pending_active.fetch_add(1, Relaxed);
    }

    /// A request that [`Host::pending_started`] counted waits no more.
    #[inline]
    pub fn pending_finished(&self) {
        self.rq_pending_active.fetch_sub(1, Relaxed);
    }

    /// Requests that wait for a connection to the host.
    pub fn rq_pending_active(&self) -> u32 {
        self.rq_pending_active.load(Relaxed)
    }

    /// The outlier monitor; `None` if the cluster does not detect outliers.
    pub fn outlier(&self) -> Option<&Monitor> {
        self.monitor.as_deref()
    }

    /// A response came with this status: what outlier detection and `rq_success`/`rq_error` count.
    #[inline]
    pub fn record_status(self: &Arc<Self>, status: u16) {
        self.count(if status >= 500 { HostCounter::RqError } else { HostCounter::RqSuccess });
        if let Some(monitor) = &self.monitor {
            monitor.record_status(self, status);
        }
    }

    /// What happened on this side of a connection or request to the host.
    #[inline]
    pub fn record_local_origin(self: &Arc<Self>, outcome: crate::outlier::LocalOrigin) {
        if let Some(monitor) = &self.monitor {
            monitor.record_local_origin(self, outcome);
        }
    }

    /// A response of the host said how busy it is (ORCA).
    pub fn record_load(&self, report: &LoadReport, options: &ClientSideWeights, now: Instant) {
        if let (Some(load), Some(weight)) = (&self.load, report.weight(options)) {
            load.record(weight, load::age(self.added, now));
        }
    }

    /// When the host was added.
    pub fn added(&self) -> Instant {
        self.added
    }

    /// Notes that the host was chosen, so that an `ORIGINAL_DST` host is not cleaned up.
    #[inline]
    pub(crate) fn mark_used(&self) {
        if !self.used.load(Relaxed) {
            self.used.store(true, Relaxed);
        }
    }

    /// Whether the host was chosen since the last call, or has connections.
    pub(crate) fn take_used(&self) -> bool {
        self.used.swap(false, Relaxed) || self.cx_active() > 0
    }
}

impl Endpoint for Host {
    #[inline]
    fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    #[inline]
    fn health(&self) -> Health {
        self.health.get().health()
    }

    #[inline]
    fn active_requests(&self) -> u32 {
        self.rq_active.load(Relaxed)
    }

    fn ready_since(&self) -> Option<Instant> {
        let micros = self.ready.load(Relaxed).checked_sub(1)?;
        self.added.checked_add(Duration::from_micros(micros))
    }

    fn reported_weight(&self, now: Instant, options: &ClientSideWeights) -> Option<u32> {
        self.load.as_ref()?.weight(load::age(self.added, now), options)
    }

    fn hash_key(&self) -> &str {
        &self.hash_key
    }

    fn address_text(&self) -> String {
        self.destination.info.address.to_string()
    }

    fn labels(&self) -> Option<&Struct> {
        self.info().metadata.as_ref()?.namespace("envoy.lb")
    }

    fn shares_locality(&self, other: &Host) -> bool {
        self.info().locality == other.info().locality
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("address", &format_args!("{}", self.address()))
            .field("health", &self.health_flags())
            .finish_non_exhaustive()
    }
}
