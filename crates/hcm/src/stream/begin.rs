//! The start of a stream: checks, conditioning, the chain.

use super::{ActiveStream, Driver};
use crate::chain::{self, ChainEntry, Direction};
use crate::conditioning;
use crate::config::StripPort;
use crate::environment::Environment;
use crate::path::{self, Normalized};
use bytes::Bytes;
use nuncio_filter::{FilterSlot, Interest, LocalReply, RouteSlot, Stream};
use nuncio_headers::{HeaderMap, Known};
use nuncio_http::exchange::Downstream;
use nuncio_http::h1::{CodecError, CodecErrorKind, RequestHead};
use nuncio_http::h2::ServerStream;
use nuncio_http::{ResetReason, Version};
use nuncio_stream_info::{Protocol, ResponseFlags, TimePoint, details};
use std::sync::Arc;
use std::time::Instant;

impl ActiveStream {
    /// A request head was parsed into the stream's map: conditions it and sends it through the chain.
    pub(crate) fn begin(
        &mut self,
        env: &Environment,
        wire: Downstream<'_>,
        head: RequestHead,
        started: Instant,
        close: bool,
    ) {
        self.start(env, &wire, started);
        self.version = head.version;
        self.info.protocol = Some(protocol(head.version));
        self.close = close || !head.keep_alive;
        self.expects_continue = head.expect_continue;
        if head.expect_continue && !env.config.proxy_100_continue {
            self.request.remove_known(Known::EXPECT);
        }
        self.head_request = self.request.get(Known::METHOD) == Some(b"HEAD");
        self.is_grpc = nuncio_route::is_grpc(&self.request);
        self.upgrade = head.upgrade || head.connect;
        self.received = head.framing.is_empty() && !self.upgrade;
        self.wire_before.0 = self.wire_before.0.saturating_sub(u64::from(head.head_bytes));
        self.info.downstream_bytes.header_received = u64::from(head.field_bytes);
        let now = env.worker.now();
        if self.received {
            self.info.mark(TimePoint::DownstreamRxEnd, now);
        }
        self.router.request_deadline = crate::timer::deadline(started, env.config.timeouts.request);
        let mut driver = Driver { s: self, env, wire, now };
        if head.dropped_underscore_headers > 0 {
            driver.env.count_dropped_underscores(head.dropped_underscore_headers);
        }
        let last = driver.s.received;
        driver.enter(Pass::First, last);
    }

    /// Forgets what came of the request so far, keeps what is known of the client's side of it.
    fn restart(&mut self, env: &Environment) {
        let (start, wall) = (self.info.start, self.info.start_wall);
        let (protocol, remote) = (self.info.protocol, self.info.remote_address.take());
        let (received, bytes) = (self.info.bytes_received, self.info.downstream_bytes);
        let (timing, mut filter_state) = (self.info.timing.clone(), std::mem::take(&mut self.info.filter_state));
        let redirected = std::mem::take(&mut self.router.redirected);
        filter_state.end_filter_chain();
        self.info.reset(start, wall);
        self.info.protocol = protocol;
        self.info.remote_address = remote;
        self.info.bytes_received = received;
        self.info.downstream_bytes = bytes;
        self.info.timing = timing;
        self.info.filter_state = filter_state;
        let random = self.state.random;
        self.state.reset();
        self.state.random = random;
        self.state.buffer_limit = env.configured_buffer_limit();
        env.config.routes.begin(&mut self.state);
        self.entries.clear();
        self.request_side.reset();
        self.response_side.reset();
        self.router.reset();
        self.router.redirected = redirected;
        self.response.clear();
        self.response_trailers.clear();
        self.request_trailers.clear();
        self.is_grpc = nuncio_route::is_grpc(&self.request);
        self.request_stopped = false;
        self.idle_timeout = env.config.timeouts.stream_idle;
        self.idle_from_route = false;
        self.max_duration = env.config.timeouts.max_stream_duration;
    }

    /// The bytes received are not a request: answers, and the connection ends.
    pub(crate) fn refuse(&mut self, env: &Environment, wire: Downstream<'_>, error: &CodecError, started: Instant) {
        self.start(env, &wire, started);
        self.request.clear();
        self.info.protocol = Some(Protocol::Http11);
        self.info.flags.insert(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR);
        self.request_stopped = true;
        self.close = true;
        self.bypass = true;
        let body: &'static [u8] = match error.kind {
            CodecErrorKind::HeadTooLarge | CodecErrorKind::TooManyHeaders => b"Request Header Fields Too Large",
            CodecErrorKind::Version => b"Upgrade Required",
            _ if error.status == 501 => b"Not Implemented",
            _ => b"Bad Request",
        };
        env.count_codec_error(error);
        let now = env.worker.now();
        let mut driver = Driver { s: self, env, wire, now };
        driver.local_reply(LocalReply::new(error.status, Bytes::from_static(body), error.details));
    }

    /// A stream of a connection with many has a head that is refused: it is reset without an answer.
    pub(crate) fn refuse_stream(
        &mut self,
        env: &Environment,
        wire: &mut ServerStream,
        details: &'static str,
        reason: ResetReason,
    ) {
        let now = env.worker.now();
        self.start(env, &Downstream::Http2(wire), now);
        self.request.clear();
        self.info.protocol = Some(Protocol::Http2);
        self.info.flags.insert(ResponseFlags::DOWNSTREAM_REMOTE_RESET);
        self.info.details = details.into();
        self.request_stopped = true;
        self.bypass = true;
        self.reset = true;
        self.gone = true;
        self.reset_reason = reason;
        self.finish(env, Downstream::Http2(wire), now);
    }

    /// The head did not come to its end in time.
    pub(crate) fn refuse_slow(&mut self, env: &Environment, wire: Downstream<'_>, started: Instant, now: Instant) {
        self.start(env, &wire, started);
        self.request.clear();
        self.info.protocol = Some(Protocol::Http11);
        self.request_stopped = true;
        self.close = true;
        self.bypass = true;
        let mut driver = Driver { s: self, env, wire, now };
        let reply =
            LocalReply::new(408, Bytes::from_static(b"request header timeout"), details::REQUEST_HEADER_TIMEOUT);
        driver.local_reply(reply);
    }

    /// The process is overloaded: answers without a look at the request, and the connection ends.
    pub(crate) fn refuse_overloaded(&mut self, env: &Environment, wire: Downstream<'_>, started: Instant) {
        self.start(env, &wire, started);
        self.request.clear();
        self.info.protocol = Some(Protocol::Http11);
        // Envoy's codec reports it as one of its errors.
        self.info.flags.insert(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR);
        self.request_stopped = true;
        self.close = true;
        self.bypass = true;
        env.config.stats.manager.downstream_rq_overload_close().inc();
        let now = env.worker.now();
        let mut driver = Driver { s: self, env, wire, now };
        driver.local_reply(LocalReply::new(500, Bytes::from_static(b"Internal Server Error"), details::OVERLOAD));
    }

    fn start(&mut self, env: &Environment, wire: &Downstream<'_>, started: Instant) {
        let now = env.worker.now();
        let wall =
            env.worker.wall().checked_sub(now.saturating_duration_since(started)).unwrap_or_else(|| env.worker.wall());
        self.info.reset(started, wall);
        self.info.set_connection(Arc::clone(&env.info));
        self.info.mark(TimePoint::DownstreamRxHeadersEnd, now);
        self.state.random = env.worker.random();
        self.state.buffer_limit = env.configured_buffer_limit();
        env.config.routes.begin(&mut self.state);
        self.progress = now;
        self.logged_at = now;
        self.idle_timeout = env.config.timeouts.stream_idle;
        self.max_duration = env.config.timeouts.max_stream_duration;
        self.wire_before = (wire.used_bytes(), wire.wire_bytes().1);
        self.finished = true;
        env.config.stats.manager.downstream_rq_active().add(1);
    }
}

/// How often a request has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// It comes from the client.
    First,
    /// A redirect was followed: what says where the request comes from is settled.
    Again,
}

impl Driver<'_> {
    /// Sends the request's head through the chain, with filters of its own. False if it is answered already.
    fn enter(&mut self, pass: Pass, last: bool) -> bool {
        let refused = if pass == Pass::First { self.env.refuses_request() } else { None };
        let prepared = self.prepare(pass);
        self.ensure_chain();
        if let Some(reply) = refused {
            self.local_reply(reply);
            return false;
        }
        if let Err(reply) = prepared {
            self.local_reply(reply);
            return false;
        }
        if self.s.upgrade
            && let Err(reply) = self.check_upgrade()
        {
            self.local_reply(reply);
            return false;
        }
        if self.env.config.access_log_options.on_new_request {
            self.s.log(self.env, nuncio_stream_info::AccessLogType::DownstreamStart, self.now);
        }
        self.s.next_log = crate::timer::deadline(self.now, self.env.config.access_log_options.interval);
        let flow = chain::headers(self, Direction::Request, last);
        self.apply(flow);
        !self.s.replied
    }

    /// Ends the stream as one that was redirected, and begins it again with another request.
    pub(crate) fn begin_again(&mut self, request: HeaderMap, body: Bytes) {
        let (env, now) = (self.env, self.now);
        let s = &mut *self.s;
        s.request = request;
        s.info.details = details::INTERNAL_REDIRECT.into();
        s.finish_pass(env, &self.wire, now);
        s.restart(env);
        let stats = &env.config.stats.manager;
        stats.downstream_rq_total().inc();
        if s.version == Version::Http2 {
            stats.downstream_rq_http2_total().inc();
        } else {
            stats.downstream_rq_http1_total().inc();
        }
        stats.downstream_rq_active().add(1);
        if self.enter(Pass::Again, body.is_empty()) && !body.is_empty() {
            let flow = chain::data(self, Direction::Request, body, true);
            self.apply(flow);
        }
    }

    /// Checks and conditions the request head.
    fn prepare(&mut self, pass: Pass) -> Result<(), Box<LocalReply>> {
        let headers = &mut self.s.request;
        let connect = headers.get(Known::METHOD) == Some(b"CONNECT");
        if !headers.has(Known::AUTHORITY) {
            return Err(LocalReply::new(400, Bytes::new(), details::MISSING_HOST_HEADER));
        }
        match headers.get(Known::PATH) {
            None | Some(b"") if !connect => {
                return Err(LocalReply::new(404, Bytes::new(), details::MISSING_PATH_REJECTED));
            }
            Some(path) if path.first() != Some(&b'/') && !connect => {
                self.env.config.stats.manager.downstream_rq_non_relative_path().inc();
                return Err(LocalReply::new(404, Bytes::new(), details::ABSOLUTE_PATH_REJECTED));
            }
            _ => {}
        }
        // A fragment never belongs to a request target (RFC 9112 §3.2); servers behind may cut it off, or not.
        if self.s.request.get(Known::PATH).is_some_and(|path| path.contains(&b'#')) {
            self.env.config.stats.manager.downstream_rq_failed_path_normalization().inc();
            return Err(LocalReply::new(400, Bytes::new(), details::PATH_NORMALIZATION_FAILED));
        }
        self.normalize_path()?;
        self.normalize_host();
        if pass == Pass::Again {
            return Ok(());
        }
        conditioning::strip_hop_by_hop(&mut self.s.request, self.s.upgrade && !connect);
        let worker = &self.env.worker;
        let origin = conditioning::condition(
            &self.env.config,
            &self.env.info,
            &mut self.s.request,
            self.env.local_address(),
            || worker.random(),
        )
        .map_err(|status| LocalReply::new(status, Bytes::new(), details::REMOTE_ADDRESS_DETECTION_FAILED))?;
        for mutations in &self.env.config.early_header_mutations {
            self.s.mutate_request(mutations, self.env, self.now);
        }
        self.s.info.remote_address = origin.remote;
        Ok(())
    }

    fn normalize_path(&mut self) -> Result<(), Box<LocalReply>> {
        let Some(present) = self.s.request.get(Known::PATH) else { return Ok(()) };
        match path::normalize(present, self.env.config.path) {
            Normalized::Same => Ok(()),
            Normalized::Changed(path) => {
                self.s.request.set_known(Known::PATH, &path);
                Ok(())
            }
            Normalized::Redirect(path) => {
                self.env.config.stats.manager.downstream_rq_redirected_with_normalized_path().inc();
                self.s.request.set_known(Known::PATH, &path);
                let reply = LocalReply::new(307, Bytes::new(), details::PATH_NORMALIZATION_FAILED);
                Err(reply.with_edit(move |headers| headers.set_known(Known::LOCATION, &path)))
            }
            Normalized::Rejected(path) => {
                if let Some(path) = path {
                    self.s.request.set_known(Known::PATH, &path);
                }
                self.env.config.stats.manager.downstream_rq_failed_path_normalization().inc();
                Err(LocalReply::new(400, Bytes::new(), details::PATH_NORMALIZATION_FAILED))
            }
        }
    }

    fn normalize_host(&mut self) {
        let config = &self.env.config;
        if config.strip_port == StripPort::Keep && !config.strip_trailing_host_dot {
            return;
        }
        let Some(host) = self.s.request.get(Known::AUTHORITY) else { return };
        let stripped = strip_host(host, config.strip_port, config.strip_trailing_host_dot, self.env.info.local.port());
        if let Some(stripped) = stripped {
            self.s.request.set_known(Known::AUTHORITY, &stripped);
        }
    }

    /// Makes the filters of the stream, as its route wants them.
    fn ensure_chain(&mut self) {
        let config = Arc::clone(&self.env.config);
        let slots = self.slots(&config);
        if slots.is_empty() {
            return;
        }
        self.resolve();
        let route = match &self.s.state.route {
            RouteSlot::Found(route) => Some(Arc::clone(route)),
            _ => None,
        };
        let levels =
            route.as_ref().map(|route| route.per_filter(self.s.state.entry())).filter(|levels| !levels.is_empty());
        for slot in slots.iter() {
            let disabled = levels.and_then(|levels| levels.disabled(&slot.name)).unwrap_or(slot.disabled);
            if disabled {
                continue;
            }
            let interest = slot.factory.interest();
            self.s.entries.push(ChainEntry { filter: slot.factory.create(&self.env.worker), interest });
            self.s.state.names.push(Arc::clone(&slot.name));
            self.s.request_side.looks_at_body |= interest.has(Interest::REQUEST_BODY);
            self.s.response_side.looks_at_body |= interest.has(Interest::RESPONSE_BODY);
        }
    }

    /// The chain for this request: an upgrade may have its own.
    fn slots(&self, config: &crate::config::HcmConfig) -> Arc<[FilterSlot]> {
        if self.s.upgrade
            && let Some(name) = self.upgrade_name()
            && let Some(filters) = config
                .upgrades
                .iter()
                .find(|u| u.name.as_bytes().eq_ignore_ascii_case(name))
                .and_then(|u| u.filters.clone())
        {
            return filters;
        }
        Arc::clone(&config.filters)
    }

    /// An upgrade must be allowed by the route or the connection manager.
    fn check_upgrade(&mut self) -> Result<(), Box<LocalReply>> {
        self.resolve();
        let name = self.upgrade_name().unwrap_or_default().to_ascii_lowercase();
        let config = &self.env.config;
        let of_manager = config.upgrades.iter().find(|entry| entry.name.as_bytes() == name).map(|entry| entry.enabled);
        let of_route = match &self.s.state.route {
            RouteSlot::Found(route) => {
                route.forward().and_then(|forward| forward.upgrade(&name)).map(|upgrade| upgrade.enabled)
            }
            // Only routes that want CONNECT match it.
            _ if self.s.request.get(Known::METHOD) == Some(b"CONNECT") => return Ok(()),
            _ => None,
        };
        let stats = &config.stats.manager;
        if of_route.or(of_manager).unwrap_or(false) {
            stats.downstream_cx_upgrades_total().inc();
            stats.downstream_cx_upgrades_active().add(1);
            self.s.upgrade_counted = true;
            return Ok(());
        }
        stats.downstream_rq_ws_on_non_ws_route().inc();
        Err(LocalReply::new(403, Bytes::new(), details::UPGRADE_FAILED))
    }

    /// What the request wants to upgrade to.
    pub(crate) fn upgrade_name(&self) -> Option<&[u8]> {
        if self.s.request.get(Known::METHOD) == Some(b"CONNECT") {
            return Some(b"connect");
        }
        self.s.request.get(Known::UPGRADE)
    }

    /// Looks the route up if it is not known.
    pub(crate) fn resolve(&mut self) {
        let ActiveStream { request, request_trailers, response, response_trailers, info, state, .. } = &mut *self.s;
        let worker = &self.env.worker;
        Stream { request, request_trailers, response, response_trailers, info, worker, state }.resolve();
    }
}

pub(crate) fn protocol(version: Version) -> Protocol {
    match version {
        Version::Http10 => Protocol::Http10,
        Version::Http11 => Protocol::Http11,
        Version::Http2 => Protocol::Http2,
    }
}

/// The host without its port or trailing dot; none if it stays as it is.
fn strip_host(host: &[u8], strip: StripPort, strip_dot: bool, local_port: Option<u16>) -> Option<Vec<u8>> {
    let colon = host.iter().rposition(|b| *b == b':').filter(|colon| !host[*colon..].contains(&b']'));
    let (mut name, mut port) = match colon {
        Some(colon) => (&host[..colon], &host[colon..]),
        None => (host, &b""[..]),
    };
    let number = std::str::from_utf8(port.get(1..).unwrap_or_default()).ok().and_then(|text| text.parse::<u16>().ok());
    match strip {
        StripPort::Any if number.is_some() => port = b"",
        StripPort::Matching if number.is_some() && number == local_port => port = b"",
        _ => {}
    }
    if strip_dot {
        name = name.strip_suffix(b".").unwrap_or(name);
    }
    let stripped = [name, port].concat();
    (stripped != host).then_some(stripped)
}
