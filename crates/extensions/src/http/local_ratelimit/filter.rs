//! Taking a token for each request.

use crate::network::TokenBucket;
use bytes::Bytes;
use nuncio_filter::{End, HttpFilter, HttpFilterFactory, Interest, LocalReply, Step, Stream, Worker};
use nuncio_headers::{HeaderMap, HeaderName};
use nuncio_matcher::RuntimeFractionalPercent;
use nuncio_route::HeaderEdits;
use nuncio_stats::names::HttpLocalRateLimitStats;
use nuncio_stream_info::{LogContext, ResponseFlags, details};
use std::rc::Rc;
use std::sync::Arc;

/// A compiled limit.
pub(super) struct Limit {
    /// None: nothing is limited here, routes may.
    pub bucket: Option<TokenBucket>,
    /// The share of requests that are counted at all.
    pub enabled: RuntimeFractionalPercent,
    /// The share of requests beyond the limit that are answered.
    pub enforced: RuntimeFractionalPercent,
    pub status: u16,
    pub request_edits: HeaderEdits,
    pub response_edits: Arc<HeaderEdits>,
    pub x_ratelimit_headers: bool,
    pub resource_exhausted: bool,
    pub stats: HttpLocalRateLimitStats,
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
    /// What the bucket said of this request: tokens left, and seconds until the next.
    counted: Option<(u64, u64)>,
}

impl HttpFilter for LocalRateLimitFilter {
    fn request_headers(&mut self, stream: &mut Stream<'_>, _end: End) -> Step {
        let mut own = None;
        stream.per_route_shared::<Limit>(|limit| own = Some(limit));
        if let Some(limit) = own {
            self.limit = limit;
        }
        let limit = Arc::clone(&self.limit);
        let Some(bucket) = &limit.bucket else { return Step::Next };
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
        let allowed = bucket.take(now);
        if limit.x_ratelimit_headers {
            self.counted = Some((bucket.left(now), bucket.reset_seconds(now)));
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
        refuse(&limit, stream)
    }

    fn response_headers(&mut self, stream: &mut Stream<'_>, _end: End) -> Step {
        if let (Some((left, reset)), Some(bucket)) = (self.counted, &self.limit.bucket) {
            for (name, value) in
                [("x-ratelimit-limit", bucket.size()), ("x-ratelimit-remaining", left), ("x-ratelimit-reset", reset)]
            {
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

fn refuse(limit: &Limit, stream: &mut Stream<'_>) -> Step {
    // The values may be formats: they are made now, with what is known of the request.
    let mut added = HeaderMap::new();
    let context = LogContext {
        request: Some(stream.request),
        ..LogContext::new(stream.info, stream.worker.now(), stream.worker.wall())
    };
    limit.response_edits.apply(&mut added, &context);
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
