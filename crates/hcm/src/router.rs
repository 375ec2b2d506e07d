//! The terminal router: chooses cluster and host, sends the request, retries, and takes the response.
//!
//! Owns: the upstream side of a stream, attempt by attempt. Does not own: pools and balancing (`cluster`), retry
//! conditions ([`crate::retry`]), matching (`route`).

mod attempt;
mod choose;
mod hash;
mod mirror;
mod redirect;
mod response;
mod strict;
mod timeouts;

pub use strict::is_checkable;
pub(crate) use timeouts::RouteTimeouts;

use crate::chain::Flow;
use crate::retry::RetryState;
use crate::stream::Driver;
#[cfg(test)]
pub(crate) use attempt::Active;
use attempt::Attempt;
use bytes::Bytes;
use mirror::Mirrors;
use nuncio_cluster::{AlternateStats, Host, NamedHosts, RoutingPriority, WorkerCluster};
use nuncio_filter::{LocalReply, RouteSlot};
use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_route::{Action, Forward, RequestStats, Route};
use nuncio_stream_info::{AccessLogType, LogContext, ResponseFlags, details};
use redirect::Redirected;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// The upstream side of one stream.
#[derive(Default)]
pub(crate) struct Router {
    attempt: Attempt,
    route: Option<Arc<Route>>,
    cluster: Option<Rc<WorkerCluster>>,
    /// Where the request wants to be counted besides its cluster.
    alternate: Option<AlternateStats>,
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
    /// The hosts that the request named and that were not tried.
    named_hosts: NamedHosts,
    /// Cookies that the client is given so that it comes to the same host again.
    set_cookies: Vec<Vec<u8>>,
    /// What the request counts in besides the cluster: its virtual cluster, and the route.
    stats: [Option<Arc<RequestStats>>; 2],
    /// When the request had left the chain completely.
    complete: Option<Instant>,
    /// The status of a timeout, where the client wants another than 504.
    timeout_status: Option<u16>,
    /// The last try ran out of time.
    timed_out: bool,
    /// An informational head of the upstream was counted.
    informed: bool,
    /// Hosts in `tried` that `retry_priority` counts no longer.
    forgotten: usize,
    /// The route follows redirects of the upstream.
    redirects: bool,
    /// What earlier redirects of the request did.
    pub(crate) redirected: Redirected,
    mirrors: Option<Box<Mirrors>>,
    /// The request's tunnel ends here (`connect_config`).
    terminates: bool,
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
    /// Most bytes that are kept (`request_body_buffer_limit`).
    limit: usize,
}

impl Router {
    /// Which weighted cluster was chosen.
    pub(crate) fn weighted(&self) -> Option<u32> {
        self.weighted
    }

    pub(crate) fn reset(&mut self) {
        let mut tried = std::mem::take(&mut self.tried);
        let mut chunks = std::mem::take(&mut self.kept.chunks);
        let mut set_cookies = std::mem::take(&mut self.set_cookies);
        tried.clear();
        chunks.clear();
        set_cookies.clear();
        *self = Router { tried, set_cookies, kept: KeptBody { chunks, ..KeptBody::default() }, ..Router::default() };
    }

    /// The earliest deadline of the upstream side.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        crate::timer::earlier(self.response_deadline, self.attempt.deadline())
    }

    /// Whether more of the request body can be taken.
    pub(crate) fn wants_body(&self, limit: usize) -> bool {
        match &self.attempt {
            Attempt::Active(active) => !active.is_backed_up() && active.connection.wire.buffered() < limit,
            _ if self.started => self.kept.bytes < limit,
            // A filter still holds the headers: it decides through its buffer limit.
            _ => true,
        }
    }

    /// Calls for each of the request's statistics besides the cluster's.
    fn each_stat(&self, count: impl Fn(&RequestStats)) {
        for stats in self.stats.iter().flatten() {
            count(stats);
        }
    }

    /// Whether the upstream's tunnel can go on when the client has sent all it will.
    pub(crate) fn half_closes(&self) -> bool {
        matches!(&self.attempt, Attempt::Active(active) if active.connection.wire.half_closes())
    }

    /// Whether the request could be sent once more from the start.
    fn can_replay(&self) -> bool {
        !self.kept.lost
    }
}

impl Driver<'_> {
    /// Counts in the statistics of the virtual cluster and the route.
    fn each_request_stat(&self, count: impl Fn(&RequestStats)) {
        self.s.router.each_stat(count);
    }

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
                self.decide_tunnel(forward);
                if let Err(reply) = self.forward(&route, forward) {
                    return Flow::Reply(reply);
                }
                if last {
                    self.request_complete();
                    self.send_mirrors();
                }
                Flow::Done
            }
            Action::Redirect(_) | Action::DirectResponse(_) => Flow::Reply(self.answer_directly(&route)),
            // Envoy has a route to a cluster without a name in its place.
            Action::NonForwarding => Flow::Reply(self.no_cluster(503)),
        }
    }

    /// Whether what is in the request's tunnel leaves as it is (`upgrade_configs` with `connect_config`).
    fn decide_tunnel(&mut self, forward: &Forward) {
        let upgrade = forward.upgrade(b"connect").filter(|upgrade| upgrade.enabled);
        let Some(connect) = upgrade.and_then(|upgrade| upgrade.connect.as_ref()) else { return };
        match self.s.request.get(Known::METHOD) {
            Some(b"CONNECT") if self.s.upgrade => self.s.router.terminates = true,
            Some(b"POST") if connect.allow_post && !self.s.upgrade => {
                self.s.router.terminates = true;
                self.s.upgrade = true;
            }
            _ => {}
        }
    }

    /// `require_tls`: the same request over TLS.
    fn tls_redirect(&mut self) -> Box<LocalReply> {
        let location = nuncio_route::tls_redirect_location(&self.s.request);
        self.env.config.stats.router.rq_direct_response().inc();
        LocalReply::new(301, Bytes::new(), details::DIRECT_RESPONSE)
            .with_edit(move |headers| headers.set_known(Known::LOCATION, &location))
    }

    /// Redirects and direct responses.
    fn answer_directly(&mut self, route: &Arc<Route>) -> Box<LocalReply> {
        self.env.config.stats.router.rq_direct_response().inc();
        let keep_original = !self.env.config.router.suppress_envoy_headers;
        let mut edited = HeaderMap::new();
        let mut body = Vec::new();
        let mut request = std::mem::take(&mut self.s.request);
        let context = self.s.context(self.env, AccessLogType::NotSet, self.now);
        let status = match route.action() {
            Action::Redirect(_) => {
                let context = LogContext { request: None, ..context };
                let (status, location) = route.redirect(&mut request, &context, keep_original).unwrap_or_default();
                edited.set_known(Known::LOCATION, &location);
                status
            }
            Action::DirectResponse(direct) => {
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
        if !chunk.is_empty() {
            self.take_data(chunk);
        }
        if last && self.s.router.route.is_some() {
            self.request_complete();
            self.send_mirrors();
            self.send_request_end();
        }
    }

    fn take_data(&mut self, chunk: Bytes) {
        let keep = self.keeps_body();
        let router = &mut self.s.router;
        let sending = matches!(router.attempt, Attempt::Active(_));
        if sending && !keep {
            if let Attempt::Active(active) = &mut router.attempt {
                active.connection.wire.send_data(chunk);
            }
            router.kept.lost = true;
            return;
        }
        router.kept.bytes += chunk.len();
        router.kept.chunks.push(chunk.clone());
        if let Attempt::Active(active) = &mut router.attempt {
            active.connection.wire.send_data(chunk);
            router.kept.given += 1;
        }
        if keep && router.kept.bytes > router.kept.limit {
            self.abandon_replay();
        }
    }

    /// The request's trailers left the chain.
    pub(crate) fn upstream_trailers(&mut self) {
        self.s.router.trailers = !self.s.request_trailers.is_empty();
        if self.s.router.route.is_some() {
            self.request_complete();
            self.send_mirrors();
            self.send_request_end();
        }
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

    /// Whether sent chunks are kept: for another attempt, a redirect, or a copy.
    fn keeps_body(&self) -> bool {
        let router = &self.s.router;
        router.can_replay()
            && !self.s.tunnel
            && !router.response_begun
            && (router.retry.is_possible() || router.redirects || router.mirrors.is_some())
    }

    /// The body is too large to be kept: what was sent is forgotten, and there is no retry, redirect or copy.
    fn abandon_replay(&mut self) {
        if let Some(cluster) = &self.s.router.cluster {
            cluster.info.stats.retry_or_shadow_abandoned().inc();
        }
        let router = &mut self.s.router;
        router.retry = RetryState::default();
        router.redirects = false;
        router.mirrors = None;
        match router.attempt {
            Attempt::Active(_) => {
                router.kept.chunks.clear();
                router.kept.bytes = 0;
                router.kept.given = 0;
                router.kept.lost = true;
            }
            // What was not sent yet still goes out.
            Attempt::Connecting(_) | Attempt::Waiting(_) => {}
            Attempt::None | Attempt::Backoff(_) => {
                let body = Bytes::from_static(b"exceeded request buffer limit while retrying upstream");
                let details = details::REQUEST_PAYLOAD_EXCEEDED_RETRY_BUFFER_LIMIT;
                self.router_reply(LocalReply::new(507, body, details));
            }
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
            active.connection.wire.send_end(None);
            active.request_ended = true;
            self.request_complete();
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
