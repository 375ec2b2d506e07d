//! Delaying and aborting requests.

use bytes::Bytes;
use nuncio_filter::{
    Chunk, Completed, DataStep, End, HttpFilter, HttpFilterFactory, Interest, LocalReply, RouteSlot, Runtime, Step,
    Stream, Work, Worker,
};
use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_matcher::{FractionalPercent, HeaderMatcher, RuntimeLookup};
use nuncio_stats::Scope;
use nuncio_stats::names::FaultStats;
use nuncio_stream_info::{ResponseFlags, Struct, details};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The namespace of `filter_metadata`.
const NAMESPACE: &str = "envoy.filters.http.fault";

/// What is injected, and where.
pub(super) struct Fault {
    pub delay: Option<Delay>,
    pub abort: Option<Abort>,
    pub rate_limit: Option<RateLimit>,
    pub upstream_cluster: Box<str>,
    pub headers: Box<[HeaderMatcher]>,
    pub downstream_nodes: Box<[Box<str>]>,
    pub max_active: Option<u32>,
    /// Count by the cluster that the request comes from, too (`disable_downstream_cluster_stats` is off).
    pub count_downstream: bool,
    /// What a fault leaves in the dynamic metadata.
    pub metadata: Option<Struct>,
    pub keys: Keys,
}

/// Runtime keys.
pub(super) struct Keys {
    pub delay_percent: Box<str>,
    pub abort_percent: Box<str>,
    pub delay_duration: Box<str>,
    pub abort_http_status: Box<str>,
    pub abort_grpc_status: Box<str>,
    pub rate_limit_percent: Box<str>,
    pub max_active: Box<str>,
}

/// `delay`; without a fixed duration the request's headers decide.
pub(super) struct Delay {
    pub percentage: FractionalPercent,
    pub fixed: Option<Duration>,
}

/// `response_rate_limit`: KiB a second; without a fixed one the request's headers decide.
pub(super) struct RateLimit {
    pub percentage: FractionalPercent,
    pub fixed: Option<u64>,
}

/// Whether any route limits the rate of responses: a filter is made before its route is known. It stays so.
static ROUTES_LIMIT: AtomicBool = AtomicBool::new(false);

pub(super) fn note_rate_limit_of_route() {
    ROUTES_LIMIT.store(true, Relaxed);
}

/// `abort`.
pub(super) struct Abort {
    pub percentage: FractionalPercent,
    pub kind: AbortKind,
    pub body: Bytes,
}

pub(super) enum AbortKind {
    Http(u16),
    Grpc(u32),
    Header,
}

pub(super) struct FaultFactory {
    pub fault: Arc<Fault>,
    pub stats: FaultStats,
    /// Of the statistics.
    pub scope: Scope,
    pub clusters: Arc<Clusters>,
    pub active: Arc<AtomicU64>,
}

/// Most downstream clusters that are counted by, and the longest name of one: clients may name any.
const MAX_CLUSTERS: usize = 1000;
const MAX_NAME: usize = 256;

/// The downstream clusters that are counted by.
#[derive(Default)]
pub(super) struct Clusters(Mutex<HashSet<Box<str>>>);

impl Clusters {
    fn admit(&self, name: &str) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(name) || (known.len() < MAX_CLUSTERS && name.len() <= MAX_NAME && known.insert(name.into()))
    }
}

impl HttpFilterFactory for FaultFactory {
    fn create(&self, _worker: &Rc<Worker>) -> Box<dyn HttpFilter> {
        Box::new(FaultFilter {
            fault: Arc::clone(&self.fault),
            stats: self.stats.clone(),
            scope: self.scope.clone(),
            clusters: Arc::clone(&self.clusters),
            downstream: None,
            active: Arc::clone(&self.active),
            counted: false,
            pace: None,
        })
    }

    fn interest(&self) -> Interest {
        if self.fault.rate_limit.is_some() || ROUTES_LIMIT.load(Relaxed) {
            return Interest::REQUEST_HEADERS.and(Interest::RESPONSE_BODY);
        }
        Interest::REQUEST_HEADERS
    }
}

pub(super) struct FaultFilter {
    pub fault: Arc<Fault>,
    pub stats: FaultStats,
    pub scope: Scope,
    pub clusters: Arc<Clusters>,
    /// The cluster that the request comes from (`x-envoy-downstream-service-cluster`), if it is counted by.
    pub downstream: Option<Box<str>>,
    pub active: Arc<AtomicU64>,
    /// This stream counts as an active fault.
    pub counted: bool,
    /// How fast the response goes.
    pub pace: Option<Pace>,
}

/// The pace of a limited response.
pub(super) struct Pace {
    /// Bytes a second.
    rate: u64,
    /// When what was let go so far would have been sent at that rate.
    free_at: Option<Instant>,
}

/// The pause before a piece of a limited response is over.
struct Paced;

impl Pace {
    /// How long a piece of the body waits.
    fn wait(&mut self, length: usize, now: Instant) -> Duration {
        let takes = Duration::from_secs_f64(length as f64 / self.rate as f64);
        let from = self.free_at.filter(|at| *at > now).unwrap_or(now);
        self.free_at = from.checked_add(takes);
        self.free_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }
}

impl Fault {
    fn concerns(&self, stream: &mut Stream<'_>) -> bool {
        if !self.upstream_cluster.is_empty() && !self.is_for_cluster(stream) {
            return false;
        }
        if !self.downstream_nodes.is_empty() {
            let node = stream.request.get(Known::X_ENVOY_DOWNSTREAM_SERVICE_NODE);
            if !node.is_some_and(|node| self.downstream_nodes.iter().any(|wanted| wanted.as_bytes() == node)) {
                return false;
            }
        }
        self.headers.iter().all(|matcher| matcher.matches(stream.request))
    }

    fn is_for_cluster(&self, stream: &mut Stream<'_>) -> bool {
        stream.resolve();
        let RouteSlot::Found(route) = &stream.state.route else { return false };
        route.forward().is_some_and(|forward| forward.cluster_names().any(|name| **name == *self.upstream_cluster))
    }

    fn delay(&self, request: &HeaderMap, runtime: &Runtime, random: u64) -> Option<Duration> {
        let delay = self.delay.as_ref()?;
        let mut percentage = runtime.fraction(&self.keys.delay_percent, delay.percentage);
        let duration = match delay.fixed {
            Some(fixed) => {
                let millis = u64::try_from(fixed.as_millis()).unwrap_or(u64::MAX);
                Duration::from_millis(runtime.integer(&self.keys.delay_duration, millis))
            }
            None => {
                percentage.numerator = header_percentage(request, "x-envoy-fault-delay-request-percentage", percentage);
                Duration::from_millis(number(request, "x-envoy-fault-delay-request")?)
            }
        };
        (percentage.selects(random) && !duration.is_zero()).then_some(duration)
    }

    /// The rate of the response, bytes a second.
    fn rate(&self, request: &HeaderMap, runtime: &Runtime, random: u64) -> Option<u64> {
        let limit = self.rate_limit.as_ref()?;
        let mut percentage = runtime.fraction(&self.keys.rate_limit_percent, limit.percentage);
        let kib = match limit.fixed {
            Some(fixed) => fixed,
            None => {
                percentage.numerator =
                    header_percentage(request, "x-envoy-fault-throughput-response-percentage", percentage);
                number(request, "x-envoy-fault-throughput-response").filter(|rate| *rate > 0)?
            }
        };
        percentage.selects(random).then(|| kib.saturating_mul(1024))
    }

    /// Status and gRPC status of an abort.
    fn abort(&self, request: &HeaderMap, runtime: &Runtime, random: u64) -> Option<(u16, Option<u32>)> {
        let abort = self.abort.as_ref()?;
        let mut percentage = runtime.fraction(&self.keys.abort_percent, abort.percentage);
        let status = match abort.kind {
            AbortKind::Http(status) => (http(runtime.integer(&self.keys.abort_http_status, u64::from(status)))?, None),
            AbortKind::Grpc(status) => {
                (200, Some(grpc(runtime.integer(&self.keys.abort_grpc_status, u64::from(status)))?))
            }
            AbortKind::Header => {
                percentage.numerator = header_percentage(request, "x-envoy-fault-abort-request-percentage", percentage);
                match number(request, "x-envoy-fault-abort-request").and_then(http) {
                    Some(status) => (status, None),
                    None => (200, Some(number(request, "x-envoy-fault-abort-grpc-request").and_then(grpc)?)),
                }
            }
        };
        percentage.selects(random).then_some(status)
    }
}

fn http(status: u64) -> Option<u16> {
    u16::try_from(status).ok().filter(|status| (200..600).contains(status))
}

fn grpc(status: u64) -> Option<u32> {
    u32::try_from(status).ok()
}

fn number(request: &HeaderMap, name: &str) -> Option<u64> {
    let name = HeaderName::new(name).ok()?;
    std::str::from_utf8(request.get_name(&name)?).ok()?.parse().ok()
}

/// A header may lower the configured percentage, never raise it.
fn header_percentage(request: &HeaderMap, name: &str, configured: FractionalPercent) -> u32 {
    let asked = number(request, name).and_then(|asked| u32::try_from(asked).ok());
    asked.map_or(configured.numerator, |asked| asked.min(configured.numerator))
}

impl FaultFilter {
    fn may_start(&mut self, runtime: &Runtime) -> bool {
        let default = self.fault.max_active.map_or(u64::MAX, u64::from);
        if self.active.load(Relaxed) >= runtime.integer(&self.fault.keys.max_active, default) {
            self.stats.faults_overflow().inc();
            return false;
        }
        if !self.counted {
            self.counted = true;
            self.active.fetch_add(1, Relaxed);
            self.stats.active_faults().add(1);
        }
        true
    }

    /// What an injected fault leaves behind besides the filter's own counters.
    fn injected(&self, counter: &str, stream: &mut Stream<'_>) {
        if let Some(cluster) = &self.downstream
            && self.clusters.admit(cluster)
        {
            self.scope.dynamic_counter(&format!("{cluster}.{counter}")).inc();
        }
        if let Some(metadata) = &self.fault.metadata {
            *stream.info.dynamic_metadata_mut().namespace_mut(NAMESPACE) = metadata.clone();
        }
    }

    fn abort(&mut self, stream: &mut Stream<'_>) -> Step {
        let runtime = stream.worker.runtime();
        let random = stream.worker.random();
        let Some((status, grpc_status)) = self.fault.abort(stream.request, &runtime, random) else { return Step::Next };
        if !self.may_start(&runtime) {
            return Step::Next;
        }
        self.stats.aborts_injected().inc();
        self.injected("aborts_injected", stream);
        let body = self.fault.abort.as_ref().map(|abort| abort.body.clone()).unwrap_or_default();
        let mut reply =
            LocalReply::new(status, body, details::FAULT_FILTER_ABORT).with_flags(ResponseFlags::FAULT_INJECTED);
        reply.grpc_status = grpc_status;
        Step::Reply(reply)
    }
}

impl HttpFilter for FaultFilter {
    fn request_headers(&mut self, stream: &mut Stream<'_>, _end: End) -> Step {
        let mut own = None;
        stream.per_route_shared::<Fault>(|fault| own = Some(fault));
        if let Some(fault) = own {
            self.fault = fault;
        }
        let fault = Arc::clone(&self.fault);
        if !fault.concerns(stream) {
            return Step::Next;
        }
        if fault.count_downstream {
            let cluster = stream.request.get(Known::X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER);
            let name = cluster.filter(|name| !name.is_empty()).map(String::from_utf8_lossy);
            self.downstream = name.map(|name| nuncio_stats::sanitize(&name).into());
        }
        let runtime = stream.worker.runtime();
        if let Some(rate) = fault.rate(stream.request, &runtime, stream.worker.random())
            && self.may_start(&runtime)
        {
            self.stats.response_rl_injected().inc();
            self.injected("response_rl_injected", stream);
            self.pace = Some(Pace { rate, free_at: None });
        }
        let random = stream.worker.random();
        if let Some(delay) = fault.delay(stream.request, &runtime, random)
            && self.may_start(&runtime)
        {
            self.stats.delays_injected().inc();
            self.injected("delays_injected", stream);
            stream.info.flags.insert(ResponseFlags::DELAY_INJECTED);
            return Step::Await(Work::sleep(delay));
        }
        self.abort(stream)
    }

    fn response_data(&mut self, stream: &mut Stream<'_>, data: &mut Chunk, _end: End) -> DataStep {
        let Some(pace) = &mut self.pace else { return DataStep::Next };
        let wait = pace.wait(data.len(), stream.worker.now());
        if wait.is_zero() {
            return DataStep::Next;
        }
        DataStep::Await(Work::new(async move {
            tokio::time::sleep(wait).await;
            Paced
        }))
    }

    fn resume(&mut self, stream: &mut Stream<'_>, done: Completed) -> Step {
        match done.take::<Paced>() {
            Ok(Paced) => Step::Next,
            Err(_) => self.abort(stream),
        }
    }
}

impl Drop for FaultFilter {
    fn drop(&mut self) {
        if self.counted {
            self.active.fetch_sub(1, Relaxed);
            self.stats.active_faults().sub(1);
        }
    }
}
