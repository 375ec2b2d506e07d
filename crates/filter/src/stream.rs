//! The view of a stream that HTTP filter hooks are given.

use crate::{End, Work, Worker};
use bytes::{Bytes, BytesMut};
use nuncio_headers::HeaderMap;
use nuncio_route::{ClusterChoice, LiveScopes, Outcome, PeerCertificate, Route, RouteQuery, RouteTable, VirtualHost};
use nuncio_stream_info::{StreamInfo, wants_route_times};
use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// The route of a stream, as far as it is known.
#[derive(Clone, Default)]
pub enum RouteSlot {
    /// Not looked up, or cleared by a filter that changed what the match depends on.
    #[default]
    Unresolved,
    /// Nothing matched; the virtual host is that of the authority, if there is one.
    NoRoute(Option<Arc<VirtualHost>>),
    /// The virtual host wants TLS (`require_tls`), which the request did not use.
    TlsRequired(Arc<VirtualHost>),
    /// Matched.
    Found(Arc<Route>),
}

/// What the driver keeps for the hooks of one stream. Filters see it through [`Stream`].
#[derive(Default)]
pub struct StreamState {
    /// The route.
    pub route: RouteSlot,
    /// The weighted cluster of the route, where it had to be chosen before the filters ran.
    pub cluster: Option<ClusterChoice>,
    /// The table that the stream's routes come from.
    pub routes: Option<Arc<RouteTable>>,
    /// Where the table is chosen by the request's headers: among which, each time that the route is looked up.
    pub scopes: Option<Arc<LiveScopes>>,
    /// The random number that all choices of the stream share, so that they are stable.
    pub random: u64,
    /// The names under which the filters of the chain find their route configuration, by place.
    pub names: Vec<Arc<str>>,
    /// The place of the filter whose hook runs.
    pub current: usize,
    /// The part of the request body that a filter holds back.
    pub request_body: BytesMut,
    /// The part of the response body that a filter holds back.
    pub response_body: BytesMut,
    /// Limit of each of the two, in bytes.
    pub buffer_limit: usize,
    /// Bytes to send on behind the request headers of the current filter.
    pub added_request_body: Option<Bytes>,
    /// Bytes to send on behind the response headers of the current filter.
    pub added_response_body: Option<Bytes>,
    /// Work that was started without pausing the stream.
    pub started: Vec<Background>,
    /// Parts of bodies that the current filter sends on, in order.
    pub sent: Vec<SentPart>,
    /// The current filter lets its held request headers go.
    pub continue_request: bool,
    /// The current filter lets its held response headers go.
    pub continue_response: bool,
}

impl StreamState {
    /// Which of the weighted clusters it is, if that is known already.
    #[inline]
    pub fn entry(&self) -> Option<u32> {
        self.cluster.as_ref().and_then(|cluster| cluster.entry)
    }

    /// Forgets the stream, keeps the memory of lists.
    pub fn reset(&mut self) {
        let mut names = std::mem::take(&mut self.names);
        let mut started = std::mem::take(&mut self.started);
        let mut sent = std::mem::take(&mut self.sent);
        names.clear();
        started.clear();
        sent.clear();
        *self = StreamState { names, started, sent, ..StreamState::default() };
    }
}

/// Work that runs beside the stream.
#[derive(Debug)]
pub struct Background {
    /// The place of the filter that started it.
    pub filter: usize,
    /// The body that grows by its output, if one does.
    pub feeds: Option<Body>,
    /// The work.
    pub work: Work,
}

/// One of a stream's two bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// What goes upstream.
    Request,
    /// What goes downstream.
    Response,
}

/// A part of a body that a filter sends on by itself, see [`Stream::send`].
#[derive(Debug)]
pub struct SentPart {
    /// Which body it belongs to.
    pub body: Body,
    /// The bytes.
    pub bytes: Bytes,
    /// Whether the message ends with it.
    pub end: End,
}

/// A stream as a hook sees it.
pub struct Stream<'a> {
    /// Request headers, as far as they came; complete from `request_headers` on.
    pub request: &'a mut HeaderMap,
    /// Request trailers.
    pub request_trailers: &'a mut HeaderMap,
    /// Response headers; empty until there is a response.
    pub response: &'a mut HeaderMap,
    /// Response trailers.
    pub response_trailers: &'a mut HeaderMap,
    /// Facts, flags, metadata, filter state.
    pub info: &'a mut StreamInfo,
    /// The worker.
    pub worker: &'a Rc<Worker>,
    /// What the driver keeps.
    pub state: &'a mut StreamState,
}

impl Stream<'_> {
    /// The route, looked up if it is not known.
    pub fn route(&mut self) -> Option<&Arc<Route>> {
        self.resolve();
        match &self.state.route {
            RouteSlot::Found(route) => Some(route),
            _ => None,
        }
    }

    /// The virtual host of the route, or of the authority if no route matched.
    pub fn virtual_host(&mut self) -> Option<&Arc<VirtualHost>> {
        self.resolve();
        match &self.state.route {
            RouteSlot::Found(route) => Some(route.virtual_host()),
            RouteSlot::TlsRequired(host) => Some(host),
            RouteSlot::NoRoute(host) => host.as_ref(),
            RouteSlot::Unresolved => None,
        }
    }

    /// Forgets the route: the next that asks looks it up with the headers as they are then (`clearRouteCache`).
    pub fn clear_route(&mut self) {
        self.state.route = RouteSlot::Unresolved;
        self.state.cluster = None;
    }

    /// Looks the route up if it is not known.
    pub fn resolve(&mut self) {
        if !matches!(self.state.route, RouteSlot::Unresolved) {
            return;
        }
        if let Some(scopes) = &self.state.scopes {
            self.state.routes = scopes.find(self.request);
        }
        let Some(table) = &self.state.routes else { return };
        let random = self.state.random;
        let began = wants_route_times().then(Instant::now);
        let outcome = self.worker.with_runtime(|runtime| {
            let query = RouteQuery {
                headers: self.request,
                random,
                runtime,
                info: Some(self.info),
                peer_certificate: PeerCertificate::default(),
            };
            table.find(&query)
        });
        self.state.route = match outcome {
            Outcome::Route(route) => RouteSlot::Found(Arc::clone(route)),
            Outcome::NoRoute(host) => RouteSlot::NoRoute(host.map(Arc::clone)),
            Outcome::TlsRedirect(host) => RouteSlot::TlsRequired(Arc::clone(host)),
        };
        self.state.cluster = self.choose_cluster();
        self.info.route_resolution_count += 1;
        if let Some(began) = began {
            *self.info.route_resolution_time.get_or_insert_default() += began.elapsed();
        }
        if let RouteSlot::Found(route) = &self.state.route {
            self.info.route = Some(Arc::clone(route.info()));
        }
    }

    /// The weighted cluster, if one of them says something to filters.
    fn choose_cluster(&self) -> Option<ClusterChoice> {
        let RouteSlot::Found(route) = &self.state.route else { return None };
        let forward = route.forward()?;
        if !forward.clusters_configure_filters() || forward.needs_hash() {
            return None;
        }
        self.worker.with_runtime(|runtime| {
            let query = RouteQuery {
                headers: self.request,
                random: self.state.random,
                runtime,
                info: Some(self.info),
                peer_certificate: PeerCertificate::default(),
            };
            forward.choose_cluster(&query, None)
        })
    }

    /// The most specific `typed_per_filter_config` that the route holds for the current filter, if it is a `T`.
    pub fn per_route<T: Any>(&mut self) -> Option<&T> {
        self.resolve();
        let name = self.state.names.get(self.state.current)?;
        let levels = match &self.state.route {
            RouteSlot::Found(route) => route.per_filter(self.state.entry()),
            RouteSlot::NoRoute(Some(host)) => host.per_filter(),
            _ => return None,
        };
        levels.most_specific(name)?.downcast_ref()
    }

    /// All configurations that the route holds for the current filter, from the least to the most specific level.
    pub fn per_route_all<T: Any>(&mut self, mut each: impl FnMut(&T)) {
        self.resolve();
        let Some(name) = self.state.names.get(self.state.current) else { return };
        let RouteSlot::Found(route) = &self.state.route else { return };
        for config in route.per_filter(self.state.entry()).least_to_most_specific(name) {
            if let Some(config) = config.downcast_ref() {
                each(config);
            }
        }
    }

    /// The same, as shared handles, for filters that change the stream by them.
    pub fn per_route_shared<T: Any + Send + Sync>(&mut self, mut each: impl FnMut(Arc<T>)) {
        self.resolve();
        let Some(name) = self.state.names.get(self.state.current) else { return };
        let RouteSlot::Found(route) = &self.state.route else { return };
        for config in route.per_filter(self.state.entry()).least_to_most_specific(name) {
            if let Ok(config) = Arc::clone(config).downcast() {
                each(config);
            }
        }
    }

    /// The part of the request body that is held back.
    pub fn request_body(&mut self) -> &mut BytesMut {
        &mut self.state.request_body
    }

    /// The part of the response body that is held back.
    pub fn response_body(&mut self) -> &mut BytesMut {
        &mut self.state.response_body
    }

    /// Gives a request without a body one, or puts bytes before its body; in `request_trailers`, puts bytes behind the
    /// body. Only in these two.
    pub fn add_request_body(&mut self, bytes: Bytes) {
        self.state.added_request_body = Some(bytes);
    }

    /// Gives a response without a body one, or puts bytes before its body; in `response_trailers`, puts bytes behind the
    /// body. Only in these two.
    pub fn add_response_body(&mut self, bytes: Bytes) {
        self.state.added_response_body = Some(bytes);
    }

    /// Starts work that does not pause the stream; its output comes to the filter's `resume`.
    pub fn background(&mut self, work: Work) {
        let filter = self.state.current;
        self.state.started.push(Background { filter, feeds: None, work });
    }

    /// As [`Stream::background`], for work whose output the filter will [`Stream::send`]. It is not polled while as much
    /// of that body waits for its receiver as may wait, nor while a filter behind this one lets nothing through: what
    /// produces the output is slowed down to what the receiver takes.
    pub fn feed(&mut self, body: Body, work: Work) {
        let filter = self.state.current;
        self.state.started.push(Background { filter, feeds: Some(body), work });
    }

    /// Sends a part of a body on to the next filter, behind what this filter let go so far; headers that it holds go
    /// first. Only in `resume`. It is for a filter that takes chunks out of the stream ([`crate::DataStep::Hold`]) and
    /// puts others in their place when it pleases: having ended a message with [`End::Last`], it must hold whatever else
    /// comes of it. Nothing is sent of a message whose headers did not reach the filter, or that is over
    /// (Envoy's `injectDecodedDataToFilterChain`, `injectEncodedDataToFilterChain`).
    pub fn send(&mut self, body: Body, bytes: Bytes, end: End) {
        self.state.sent.push(SentPart { body, bytes, end });
    }

    /// Lets the request go on that this filter holds, its headers, bytes and trailers: from `resume` after background
    /// work.
    pub fn continue_request(&mut self) {
        self.state.continue_request = true;
    }

    /// Lets the response go on that this filter holds, its headers, bytes and trailers: from `resume` after background
    /// work.
    pub fn continue_response(&mut self) {
        self.state.continue_response = true;
    }
}
