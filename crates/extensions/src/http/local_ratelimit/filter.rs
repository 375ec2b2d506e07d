//! Taking a token for each request.

use super::buckets::{Buckets, Verdict};
use crate::network::TokenBucket;
use bytes::Bytes;
use nuncio_filter::{End, HttpFilter, HttpFilterFactory, Interest, LocalReply, Step, Stream, Worker};
use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_matcher::RuntimeFractionalPercent;
use nuncio_route::{Forward, HeaderEdits, LegacyFilters, RateLimitInput, RateLimitPolicies, RateLimitPolicy, Route};
use nuncio_stats::names::HttpLocalRateLimitStats;
use nuncio_stream_info::{ConnectionInfo, LogContext, ResponseFlags, details};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Instant;

/// A compiled limit.
pub(super) struct Limit {
    /// Tells limits apart within the process.
    pub id: u64,
    /// Empty: nothing is limited here, routes may.
    pub buckets: Arc<Buckets>,
    /// Each connection has buckets of its own.
    pub per_connection: bool,
    /// `rate_limits`, which stand for those of routes and virtual hosts.
    pub policies: Option<RateLimitPolicies>,
    /// Which policies of routes and virtual hosts count.
    pub stage: u32,
    /// Whether those of virtual hosts do.
    pub virtual_host: VirtualHostLimits,
    /// The share of requests that are counted at all.
    pub enabled: RuntimeFractionalPercent,
    /// The share of requests beyond the limit that are answered.
    pub enforced: RuntimeFractionalPercent,
    pub status: u16,
    pub request_edits: HeaderEdits,
    pub response_edits: Arc<HeaderEdits>,
    pub x_ratelimit_headers: bool,
    /// `enable_retry_after_header`.
    pub retry_after: bool,
    pub resource_exhausted: bool,
    pub stats: HttpLocalRateLimitStats,
}

/// `vh_rate_limits`: what becomes of the policies of a virtual host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VirtualHostLimits {
    /// They count where the route has none.
    Override,
    /// They count.
    Include,
    /// They don't.
    Ignore,
}

impl Limit {
    /// A number that no other limit has.
    pub(super) fn next_id() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        NEXT.fetch_add(1, Relaxed)
    }

    /// What the buckets say of a request.
    fn take(&self, stream: &mut Stream<'_>, now: Instant) -> Verdict {
        let buckets = if self.per_connection { self.of_connection(stream) } else { Arc::clone(&self.buckets) };
        if buckets.descriptors.is_empty() {
            return buckets.take(&[], now);
        }
        let Some(route) = stream.route().map(Arc::clone) else { return buckets.take(&[], now) };
        let Some(forward) = route.forward() else { return buckets.take(&[], now) };
        let chosen = stream.info.upstream.cluster.as_ref().map(|cluster| Arc::clone(&cluster.name));
        let cluster = chosen.or_else(|| forward.cluster_names().next().cloned());
        let input = RateLimitInput {
            headers: stream.request,
            remote: stream.info.remote().and_then(|address| address.socket()).map(|address| address.ip()),
            cluster: cluster.as_deref(),
        };
        let mut descriptors = Vec::new();
        match &self.policies {
            Some(own) => descriptors.extend(own.iter().filter_map(|policy| policy.descriptor(&input))),
            None => {
                let policies = self.policies_of(&route, forward).into_iter().flatten().flatten();
                let of_stage = policies.filter(|policy| policy.stage == self.stage);
                descriptors.extend(of_stage.filter_map(|policy| policy.descriptor(&input)));
            }
        }
        buckets.take(&descriptors, now)
    }

    /// The policies of the route, and those of its virtual host if they count.
    fn policies_of<'r>(&self, route: &'r Route, forward: &'r Forward) -> [Option<&'r [RateLimitPolicy]>; 2] {
        let own = policies(forward.legacy.as_deref());
        let include = forward.legacy.as_ref().is_some_and(|legacy| legacy.include_vh_rate_limits);
        let host = match self.virtual_host {
            VirtualHostLimits::Include => true,
            _ if include => true,
            VirtualHostLimits::Override => own.is_none(),
            VirtualHostLimits::Ignore => false,
        };
        [own, policies(route.virtual_host().legacy.as_deref()).filter(|_| host)]
    }

    /// The buckets of the stream's connection.
    fn of_connection(&self, stream: &Stream<'_>) -> Arc<Buckets> {
        let Some(connection) = &stream.info.connection else { return Arc::clone(&self.buckets) };
        let kept = stream.worker.services().get_or_insert_with(ConnectionBuckets::default);
        kept.of(self, connection)
    }
}

fn policies(legacy: Option<&LegacyFilters>) -> Option<&[RateLimitPolicy]> {
    legacy?.rate_limits.as_ref()?.downcast_ref::<RateLimitPolicies>().map(|policies| &**policies)
}

/// The buckets of connections, on one worker.
#[derive(Default)]
struct ConnectionBuckets {
    by_connection: RefCell<HashMap<(u64, u64), OfConnection>>,
    /// How many there may be before those of connections that are gone are looked for.
    look_at: Cell<usize>,
}

/// A connection and its buckets, by the numbers of limit and connection.
type OfConnection = (Weak<ConnectionInfo>, Arc<Buckets>);

impl ConnectionBuckets {
    fn of(&self, limit: &Limit, connection: &Arc<ConnectionInfo>) -> Arc<Buckets> {
        let mut known = self.by_connection.borrow_mut();
        if known.len() > self.look_at.get() {
            known.retain(|_, (connection, _)| connection.strong_count() > 0);
            self.look_at.set(known.len() * 2 + 64);
        }
        let make = || (Arc::downgrade(connection), Arc::new(limit.buckets.another()));
        Arc::clone(&known.entry((limit.id, connection.id)).or_insert_with(make).1)
    }
}

pub(super) struct LocalRateLimitFactory {
    pub limit: Arc<Limit>,
}

impl HttpFilterFactory for LocalRateLimitFactory {
    fn create(&self, _worker: &Rc<Worker>) -> Box<dyn HttpFilter> {
        Box::new(LocalRateLimitFilter { limit: Arc::clone(&self.limit), counted: None })
    }

    fn interest(&self) -> Interest {
        Interest::REQUEST_HEADERS.and(Interest::RESPONSE_HEADERS)
    }
}

pub(super) struct LocalRateLimitFilter {
    pub limit: Arc<Limit>,
    /// The bucket that spoke of this request.
    counted: Option<Arc<TokenBucket>>,
}

impl HttpFilter for LocalRateLimitFilter {
    fn request_headers(&mut self, stream: &mut Stream<'_>, _end: End) -> Step {
        let mut own = None;
        stream.per_route_shared::<Limit>(|limit| own = Some(limit));
        if let Some(limit) = own {
            self.limit = limit;
        }
        let limit = Arc::clone(&self.limit);
        if limit.buckets.is_empty() {
            return Step::Next;
        }
        let worker = Rc::clone(stream.worker);
        let selected = |fraction: &RuntimeFractionalPercent| {
            let random = worker.random();
            worker.with_runtime(|runtime| fraction.enabled(runtime, random))
        };
        if !selected(&limit.enabled) {
            return Step::Next;
        }
        limit.stats.enabled().inc();
        let now = worker.now();
        let Verdict { allowed, shadowed, bucket } = limit.take(stream, now);
        if limit.x_ratelimit_headers {
            self.counted = bucket.clone();
        }
        if shadowed {
            limit.stats.shadow_mode().inc();
        }
        if allowed {
            limit.stats.ok().inc();
            return Step::Next;
        }
        limit.stats.rate_limited().inc();
        if !selected(&limit.enforced) {
            edit_request(&limit.request_edits, stream);
            return Step::Next;
        }
        limit.stats.enforced().inc();
        let wait = bucket.map_or(1, |bucket| bucket.reset_seconds(now).max(1));
        refuse(&limit, stream, wait)
    }

    fn response_headers(&mut self, stream: &mut Stream<'_>, _end: End) -> Step {
        if let Some(bucket) = &self.counted {
            let now = stream.worker.now();
            for (name, value) in [
                ("x-ratelimit-limit", bucket.size()),
                ("x-ratelimit-remaining", bucket.left(now)),
                ("x-ratelimit-reset", bucket.reset_seconds(now)),
            ] {
                set(stream.response, name, value);
            }
        }
        Step::Next
    }
}

fn set(headers: &mut HeaderMap, name: &str, value: u64) {
    if let Ok(name) = HeaderName::new(name) {
        headers.set(&name, value.to_string().as_bytes());
    }
}

fn edit_request(edits: &HeaderEdits, stream: &mut Stream<'_>) {
    if edits.is_empty() {
        return;
    }
    let mut headers = std::mem::take(stream.request);
    edits.apply(&mut headers, &LogContext::new(stream.info, stream.worker.now(), stream.worker.wall()));
    *stream.request = headers;
}

/// Answers the request. `wait`: seconds until there is a token.
fn refuse(limit: &Limit, stream: &mut Stream<'_>, wait: u64) -> Step {
    // The values may be formats: they are made now, with what is known of the request.
    let mut added = HeaderMap::new();
    let context = LogContext {
        request: Some(stream.request),
        ..LogContext::new(stream.info, stream.worker.now(), stream.worker.wall())
    };
    limit.response_edits.apply(&mut added, &context);
    if limit.retry_after && limit.status == 429 && !added.has(Known::RETRY_AFTER) {
        set(&mut added, "retry-after", wait);
    }
    let body = Bytes::from_static(b"local_rate_limited");
    let mut reply =
        LocalReply::new(limit.status, body, details::LOCAL_RATE_LIMITED).with_flags(ResponseFlags::RATE_LIMITED);
    if limit.resource_exhausted {
        reply.grpc_status = Some(8);
    }
    Step::Reply(reply.with_edit(move |headers| {
        for (name, value) in &added {
            if let Ok(name) = HeaderName::new(name) {
                headers.set(&name, value);
            }
        }
    }))
}
