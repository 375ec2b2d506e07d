//! The terminal router: chooses cluster and host, sends the request, retries, and takes the response.
//!
//! Owns: the upstream side of a stream, attempt by attempt. Does not own: pools and balancing (`cluster`), retry
//! conditions ([`crate::retry`]), matching (`route`).

mod attempt;
mod choose;
mod response;
mod timeouts;

pub(crate) use timeouts::RouteTimeouts;

use crate::chain::Flow;
use crate::retry::RetryState;
use crate::stream::Driver;
use attempt::Attempt;
use bytes::Bytes;
use nuncio_cluster::{Host, RoutingPriority, WorkerCluster};
use nuncio_filter::{LocalReply, RouteSlot};
use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_route::{Action, Route};
use nuncio_stream_info::{AccessLogType, LogContext, ResponseFlags, details};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// The upstream side of one stream.
#[derive(Default)]
pub(crate) struct Router {
    attempt: Attempt,
    route: Option<Arc<Route>>,
    cluster: Option<Rc<WorkerCluster>>,
    priority: RoutingPriority,
    pub(crate) retry: RetryState,
    timeouts: RouteTimeouts,
    /// The request's headers left the chain.
    started: bool,
    /// The request's end left the chain.
    ended: bool,
    trailers: bool,
    kept: KeptBody,
    tried: Vec<Arc<Host>>,
    /// When the response must be complete.
    response_deadline: Option<Instant>,
    /// When the request must have been received.
    pub(crate) request_deadline: Option<Instant>,
    /// A request that was lost on a reused connection was sent again.
    replayed: bool,
    /// A retry counts against the breaker until the attempt has a response.
    retry_counted: bool,
    /// Which weighted cluster was chosen.
    weighted: Option<u32>,
    /// The response's headers were taken from the upstream.
    response_begun: bool,
    hash: Option<u64>,
    /// When the present try began to look for a connection.
    begun: Option<Instant>,
}

/// The request body as far as it may have to be sent (again).
#[derive(Default)]
struct KeptBody {
    chunks: Vec<Bytes>,
    bytes: usize,
    /// Chunks that the present attempt has been given.
    given: usize,
    /// A part is missing: the request can't be sent again.
    lost: bool,
}

impl Router {
    /// Which weighted cluster was chosen.
    pub(crate) fn weighted(&self) -> Option<u32> {
        self.weighted
    }

    pub(crate) fn reset(&mut self) {
        let mut tried = std::mem::take(&mut self.tried);
        let mut chunks = std::mem::take(&mut self.kept.chunks);
        tried.clear();
        chunks.clear();
        *self = Router { tried, kept: KeptBody { chunks, ..KeptBody::default() }, ..Router::default() };
    }

    /// The earliest deadline of the upstream side.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        crate::timer::earlier(self.response_deadline, self.attempt.deadline())
    }

    /// Whether more of the request body can be taken.
    pub(crate) fn wants_body(&self, limit: usize) -> bool {
        match &self.attempt {
            Attempt::Active(active) => active.connection.wire.buffered() < limit,
            _ if self.started => self.kept.bytes < limit,
            // A filter still holds the headers: it decides through its buffer limit.
            _ => true,
        }
    }

    /// Whether the request could be sent once more from the start.
    fn can_replay(&self) -> bool {
        !self.kept.lost
    }
}

impl Driver<'_> {
    /// The request's headers left the chain: decides where it goes.
    pub(crate) fn route_request(&mut self, last: bool) -> Flow {
        self.env.config.stats.router.rq_total().inc();
        self.resolve();
        self.s.router.started = true;
        self.s.router.ended = last;
        let route = match &self.s.state.route {
            RouteSlot::Found(route) => Arc::clone(route),
            RouteSlot::TlsRequired(_) => return Flow::Reply(self.tls_redirect()),
            RouteSlot::NoRoute(_) | RouteSlot::Unresolved => {
                self.env.config.stats.router.no_route().inc();
                let reply = LocalReply::new(404, Bytes::new(), details::ROUTE_NOT_FOUND);
                return Flow::Reply(reply.with_flags(ResponseFlags::NO_ROUTE_FOUND));
            }
        };
        match route.action() {
            Action::Forward(forward) => {
                if let Err(reply) = self.forward(&route, forward) {
                    return Flow::Reply(reply);
                }
                Flow::Done
            }
            Action::Redirect(_) | Action::DirectResponse(_) | Action::NonForwarding => {
                Flow::Reply(self.answer_directly(&route))
            }
        }
    }

    /// `require_tls`: the same request over TLS.
    fn tls_redirect(&mut self) -> Box<LocalReply> {
        let location = nuncio_route::tls_redirect_location(&self.s.request);
        self.env.config.stats.router.rq_redirect().inc();
        LocalReply::new(301, Bytes::new(), details::DIRECT_RESPONSE)
            .with_edit(move |headers| headers.set_known(Known::LOCATION, &location))
    }

    /// Redirects and direct responses.
    fn answer_directly(&mut self, route: &Arc<Route>) -> Box<LocalReply> {
        let stats = &self.env.config.stats.router;
        let keep_original = !self.env.config.router.suppress_envoy_headers;
        let mut edited = HeaderMap::new();
        let mut body = Vec::new();
        let mut request = std::mem::take(&mut self.s.request);
        let context = self.s.context(self.env, AccessLogType::NotSet, self.now);
        let status = match route.action() {
            Action::Redirect(_) => {
                stats.rq_redirect().inc();
                let context = LogContext { request: None, ..context };
                let (status, location) = route.redirect(&mut request, &context, keep_original).unwrap_or_default();
                edited.set_known(Known::LOCATION, &location);
                status
            }
            Action::DirectResponse(direct) => {
                stats.rq_direct_response().inc();
                let context = LogContext { request: Some(&request), ..context };
                if let Some(kind) = direct.write_body(&context, &mut body) {
                    edited.set_known(Known::CONTENT_TYPE, kind.as_bytes());
                }
                if let Some(location) = direct.location(&request) {
                    edited.set_known(Known::LOCATION, &location);
                }
                direct.status
            }
            Action::NonForwarding | Action::Forward(_) => 404,
        };
        let context = LogContext { request: Some(&request), ..context };
        route.mutate_response(None, &mut edited, &context);
        self.s.request = request;
        let reply = LocalReply::new(status, body, details::DIRECT_RESPONSE);
        reply.with_edit(move |headers| merge(headers, &edited))
    }

    /// A piece of the request body left the chain.
    pub(crate) fn upstream_data(&mut self, chunk: Bytes, last: bool) {
        let keep = self.keeps_body();
        let router = &mut self.s.router;
        router.ended |= last;
        let sending = matches!(router.attempt, Attempt::Active(_));
        if !chunk.is_empty() {
            if sending && !keep {
                if let Attempt::Active(active) = &mut router.attempt {
                    active.connection.wire.send_data(chunk);
                }
                router.kept.lost = true;
            } else {
                router.kept.bytes += chunk.len();
                router.kept.chunks.push(chunk.clone());
                if let Attempt::Active(active) = &mut router.attempt {
                    active.connection.wire.send_data(chunk);
                    router.kept.given += 1;
                }
                if router.kept.bytes > self.env.buffer_limit && sending {
                    self.abandon_replay();
                }
            }
        }
        if last {
            self.send_request_end();
        }
    }

    /// The request's trailers left the chain.
    pub(crate) fn upstream_trailers(&mut self) {
        self.s.router.trailers = !self.s.request_trailers.is_empty();
        self.s.router.ended = true;
        self.send_request_end();
    }

    fn send_request_end(&mut self) {
        let trailers = self.s.router.trailers.then_some(&self.s.request_trailers);
        if let Attempt::Active(active) = &mut self.s.router.attempt
            && !active.request_ended
        {
            active.connection.wire.send_end(trailers);
            active.request_ended = true;
        }
    }

    /// Whether sent chunks are kept for another attempt.
    fn keeps_body(&self) -> bool {
        let router = &self.s.router;
        router.can_replay() && !self.s.tunnel && !router.response_begun && router.retry.is_possible()
    }

    /// The body is too large to be kept: what was sent is forgotten, and no retry is possible.
    fn abandon_replay(&mut self) {
        let kept = &mut self.s.router.kept;
        kept.chunks.clear();
        kept.bytes = 0;
        kept.given = 0;
        kept.lost = true;
        if let Some(cluster) = &self.s.router.cluster {
            cluster.info.stats.retry_or_shadow_abandoned().inc();
        }
    }

    /// Moves a piece of the body straight from one connection to the other. False if it can't be done.
    pub(crate) fn forward_request(&mut self, start: usize, end: usize, consumed: usize, last: bool) -> bool {
        if self.keeps_body() {
            return false;
        }
        let router = &mut self.s.router;
        let Attempt::Active(active) = &mut router.attempt else { return false };
        if router.kept.given < router.kept.chunks.len() {
            return false;
        }
        self.wire.forward_body(start, end, consumed, &mut active.connection.wire);
        router.kept.lost = true;
        if last {
            router.ended = true;
            active.connection.wire.send_end(None);
            active.request_ended = true;
        }
        true
    }
}

/// Adds headers that were made for a reply to it.
fn merge(headers: &mut HeaderMap, edited: &HeaderMap) {
    for (name, value) in edited {
        if let Ok(name) = HeaderName::new(name) {
            headers.append(&name, value);
        }
    }
}
