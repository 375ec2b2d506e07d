//! Answering health checks.

use nuncio_cluster::{WorkerCluster, WorkerClusters};
use nuncio_filter::{Chunk, DataStep, End, HttpFilter, HttpFilterFactory, Interest, LocalReply, Step, Stream, Worker};
use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_matcher::HeaderMatcher;
use nuncio_stats::names::HealthCheckFilterStats;
use nuncio_stream_info::{ResponseFlags, details};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What the filter is configured to do.
pub(super) struct HealthCheck {
    /// Health checks go on to the upstream, unless a cached answer is there.
    pub pass_through: bool,
    pub cache: Option<Cache>,
    pub min_healthy: Box<[MinHealthy]>,
    /// Which requests are health checks.
    pub headers: Box<[HeaderMatcher]>,
    pub node_cluster: Arc<str>,
    pub stats: HealthCheckFilterStats,
}

/// How much of a cluster must be able to serve.
pub(super) struct MinHealthy {
    pub cluster: Box<str>,
    /// 0 to 100.
    pub percent: f64,
}

/// The last answer to a health check. Answers count until the next multiple of the caching time, as Envoy's timer has it.
pub(super) struct Cache {
    start: Instant,
    time: Duration,
    /// 0: none; else the number of the period, counted from 1, above 11 bits of status and one of being degraded.
    answer: AtomicU64,
}

impl Cache {
    /// `time`: at least 1 ms.
    pub(super) fn new(time: Duration) -> Cache {
        Cache { start: Instant::now(), time, answer: AtomicU64::new(0) }
    }

    fn period(&self, now: Instant) -> u64 {
        let period = now.saturating_duration_since(self.start).as_millis() / self.time.as_millis().max(1);
        u64::try_from(period).unwrap_or(0).wrapping_add(1)
    }

    pub(super) fn put(&self, status: u16, degraded: bool, now: Instant) {
        let answer = self.period(now) << 12 | u64::from(status & 0x7ff) << 1 | u64::from(degraded);
        self.answer.store(answer, Relaxed);
    }

    /// Status, and whether the upstream is degraded.
    pub(super) fn get(&self, now: Instant) -> Option<(u16, bool)> {
        let answer = self.answer.load(Relaxed);
        (answer >> 12 == self.period(now)).then_some(((answer >> 1 & 0x7ff) as u16, answer & 1 != 0))
    }
}

pub(super) struct HealthCheckFactory(pub Arc<HealthCheck>);

impl HttpFilterFactory for HealthCheckFactory {
    fn create(&self, _worker: &Rc<Worker>) -> Box<dyn HttpFilter> {
        Box::new(HealthCheckFilter { config: Arc::clone(&self.0), is_check: false, cached: None, handling: false })
    }

    fn interest(&self) -> Interest {
        Interest::ALL
    }
}

struct HealthCheckFilter {
    config: Arc<HealthCheck>,
    /// The request is a health check.
    is_check: bool,
    /// It is answered from here.
    handling: bool,
    /// With this.
    cached: Option<(u16, bool)>,
}

/// An answer: status, details, and whether it is degraded.
struct Answer(u16, &'static str, bool);

impl HealthCheck {
    fn answer(&self, cached: Option<(u16, bool)>, stream: &Stream<'_>) -> Answer {
        if stream.worker.fails_health_checks() {
            return Answer(503, details::HEALTH_CHECK_FAILED, false);
        }
        if let Some((status, degraded)) = cached {
            self.stats.cached_response().inc();
            if degraded {
                self.stats.degraded().inc();
            }
            return Answer(status, details::HEALTH_CHECK_CACHED, degraded);
        }
        if self.min_healthy.is_empty() {
            return Answer(200, details::HEALTH_CHECK_OK, false);
        }
        let clusters = stream.worker.services().get::<WorkerClusters>();
        for wanted in &self.min_healthy {
            let Some(cluster) = clusters.as_ref().and_then(|clusters| clusters.get(&wanted.cluster)) else {
                self.stats.failed_cluster_not_found().inc();
                return Answer(503, details::HEALTH_CHECK_FAILED_NO_CLUSTER_FOUND, false);
            };
            let (total, able) = members(&cluster);
            if total == 0 && wanted.percent > 0.0 {
                self.stats.failed_cluster_empty().inc();
                return Answer(503, details::HEALTH_CHECK_FAILED_CLUSTER_EMPTY, false);
            }
            // As in Envoy the percentage counts without its fraction.
            if 100 * able < total * (wanted.percent as u64) {
                self.stats.failed_cluster_unhealthy().inc();
                return Answer(503, details::HEALTH_CHECK_FAILED_CLUSTER_UNHEALTHY, false);
            }
        }
        Answer(200, details::HEALTH_CHECK_OK_CLUSTER_HEALTHY, false)
    }
}

/// How many hosts a cluster has, and how many of them are healthy or degraded.
fn members(cluster: &WorkerCluster) -> (u64, u64) {
    let hosts = cluster.hosts();
    let each = hosts.sets().iter().map(|set| (set.hosts().len(), set.healthy_count() + set.degraded_count()));
    each.fold((0, 0), |(total, able), (more, also)| (total + more as u64, able + also as u64))
}

impl HealthCheckFilter {
    fn reply(&self, stream: &Stream<'_>) -> Box<LocalReply> {
        let stats = &self.config.stats;
        stats.request_total().inc();
        let Answer(status, details, degraded) = self.config.answer(self.cached, stream);
        let mut reply = LocalReply::new(status, "", details);
        if (200..300).contains(&status) {
            stats.ok().inc();
        } else {
            stats.failed().inc();
            reply = reply.with_flags(ResponseFlags::FAILED_LOCAL_HEALTH_CHECK);
        }
        if degraded { reply.with_edit(|headers| headers.set_known(Known::X_ENVOY_DEGRADED, b"")) } else { reply }
    }
}

impl HttpFilter for HealthCheckFilter {
    fn request_headers(&mut self, stream: &mut Stream<'_>, end: End) -> Step {
        if !self.config.headers.iter().all(|matcher| matcher.matches(stream.request)) {
            return Step::Next;
        }
        self.is_check = true;
        stream.info.health_check = true;
        self.cached = self.config.cache.as_ref().and_then(|cache| cache.get(stream.worker.now()));
        self.handling = !self.config.pass_through || self.cached.is_some() || stream.worker.fails_health_checks();
        match (self.handling, end) {
            (true, End::Last) => Step::Reply(self.reply(stream)),
            (true, End::More) => Step::Hold,
            (false, _) => Step::Next,
        }
    }

    fn request_data(&mut self, stream: &mut Stream<'_>, data: &mut Chunk, end: End) -> DataStep {
        match (self.handling, end) {
            (true, End::Last) => DataStep::Reply(self.reply(stream)),
            (true, End::More) => {
                data.take();
                DataStep::Hold
            }
            (false, _) => DataStep::Next,
        }
    }

    fn request_trailers(&mut self, stream: &mut Stream<'_>) -> Step {
        if self.handling { Step::Reply(self.reply(stream)) } else { Step::Next }
    }

    fn response_headers(&mut self, stream: &mut Stream<'_>, _end: End) -> Step {
        if self.is_check {
            if let Some(cache) = &self.config.cache {
                let degraded = stream.response.has(Known::X_ENVOY_DEGRADED);
                cache.put(status(stream.response), degraded, stream.worker.now());
            }
            if let Ok(name) = HeaderName::new("x-envoy-upstream-healthchecked-cluster") {
                stream.response.set(&name, self.config.node_cluster.as_bytes());
            }
        }
        if stream.worker.fails_health_checks() {
            stream.response.set_known(Known::X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL, b"true");
        }
        Step::Next
    }
}

fn status(response: &HeaderMap) -> u16 {
    let text = response.get(Known::STATUS).and_then(|status| std::str::from_utf8(status).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}
