//! Responses: local replies, the response head, and what timers do.

use super::{ActiveStream, Driver, Sent, TUNNEL};
use crate::chain::{self, Direction, Flow};
use crate::config::ServerHeader;
use crate::environment::Environment;
use crate::local_reply;
use bytes::Bytes;
use nuncio_filter::{LocalReply, RouteSlot};
use nuncio_headers::{HeaderMap, Known};
use nuncio_http::exchange::Downstream;
use nuncio_http::h1::response_framing;
use nuncio_stream_info::{AccessLogType, LogContext, ResponseFlags, TimePoint, details};
use std::time::Instant;

impl Driver<'_> {
    /// Answers the request from here. A response that is on its way already can't be replaced: the stream is reset.
    pub(crate) fn local_reply(&mut self, mut reply: Box<LocalReply>) {
        self.s.request_stopped = true;
        self.s.request_side.stop();
        self.cancel_upstream();
        if self.s.info.details.is_empty() || !self.s.replied {
            self.s.info.details = std::mem::take(&mut reply.details);
        }
        self.s.info.flags.insert(reply.flags);
        if reply.status == 400 && !self.wire.is_multiplexed() && !self.env.config.stream_error_on_invalid_message {
            // What was malformed may have been framed differently elsewhere.
            self.s.close = true;
        }
        if self.s.sent != Sent::Nothing {
            return self.abort();
        }
        self.s.bypass |= self.s.replied || self.s.response_side.started();
        self.s.replied = true;
        self.s.info.local_reply = true;
        self.s.response_side.restart();
        self.s.state.response_body.clear();
        self.write_reply(&mut reply);
        let body = std::mem::take(&mut reply.body);
        let last = body.is_empty();
        let mut flow = chain::headers(self, Direction::Response, last);
        if let Flow::Done = flow
            && !last
        {
            flow = chain::data(self, Direction::Response, body, true);
        }
        self.apply(flow);
    }

    /// The response can't be completed: what there is of it goes out, then the connection ends. HTTP/1 has no other way to
    /// say so.
    pub(crate) fn abort(&mut self) {
        self.s.reset = true;
    }

    /// The reply's headers, as configuration and protocol want them.
    fn write_reply(&mut self, reply: &mut LocalReply) {
        let mut response = std::mem::take(&mut self.s.response);
        response.clear();
        local_reply::set_status(&mut response, reply.status);
        // The route's headers are made before the stream has a status, as in Envoy.
        self.mutate_reply(&mut response);
        self.s.info.response_code = Some(reply.status);
        if let Some(edit) = reply.edit.take() {
            edit(&mut response);
        }
        if !self.env.config.local_reply.is_empty() {
            let (env, now, random) = (self.env, self.now, self.s.state.random);
            let chosen = {
                let context = with_context(self.s, env, now);
                env.config.local_reply.choose(&mut response, reply, &context, random)
            };
            self.s.info.response_code = Some(reply.status);
            env.config.local_reply.write(chosen, &mut response, reply, &with_context(self.s, env, now));
        }
        local_reply::write_head(&mut response, reply, self.s.is_grpc, self.s.head_request);
        self.s.response = response;
    }

    /// A reply in place of an upstream's answer gets the response headers of its route.
    fn mutate_reply(&mut self, response: &mut HeaderMap) {
        let RouteSlot::Found(route) = &self.s.state.route else { return };
        if route.forward().is_none() {
            return;
        }
        let context = self.s.context(self.env, AccessLogType::NotSet, self.now);
        route.mutate_response(self.s.router.weighted(), response, &context);
    }

    /// The response head left the chain: finishes it and hands it to the codec.
    pub(crate) fn send_response_head(&mut self, last: bool) {
        if let Some(config) = &self.env.config.proxy_status
            && let Some(status) = crate::proxy_status::apply(config, &self.s.info, &mut self.s.response)
        {
            local_reply::set_status(&mut self.s.response, status);
        }
        let status = status_of(&self.s.response);
        self.s.info.response_code = Some(status);
        let tunnel = self.s.tunnel;
        if !self.s.received {
            self.s.close |= !self.wire.is_multiplexed();
            self.env.config.stats.manager.downstream_rq_response_before_rq_complete().inc();
        }
        self.finish_response_headers(tunnel);
        let framing = if tunnel || self.wire.is_multiplexed() {
            TUNNEL
        } else {
            response_framing(&self.s.response, status, self.s.version, self.s.head_request, last)
        };
        if framing == TUNNEL && !self.wire.is_multiplexed() {
            self.s.close = true;
        }
        let announce_close = self.s.close && !tunnel;
        let fields = self.wire.send_head(&self.s.response, framing, announce_close);
        self.s.info.downstream_bytes.header_sent = fields as u64;
        self.s.info.mark_first(TimePoint::DownstreamTxBegin, self.now);
        self.s.sent = Sent::Head;
        self.progressed();
        if last {
            self.wire.send_end(None);
            self.s.sent = Sent::All;
        }
    }

    /// Headers that every response has, and those that none may have.
    fn finish_response_headers(&mut self, tunnel: bool) {
        let config = &self.env.config;
        crate::conditioning::strip_hop_by_hop(&mut self.s.response, tunnel);
        let headers = &mut self.s.response;
        match config.server_header {
            ServerHeader::Overwrite => headers.set_known(Known::SERVER, config.server_name.as_bytes()),
            ServerHeader::AppendIfAbsent if !headers.has(Known::SERVER) => {
                headers.append_known(Known::SERVER, config.server_name.as_bytes());
            }
            ServerHeader::AppendIfAbsent | ServerHeader::PassThrough => {}
        }
        if !headers.has(Known::DATE) {
            let wall = self.env.worker.wall();
            crate::date::with_http_date(wall, |date| headers.append_known(Known::DATE, date));
        }
        if !config.via.is_empty() {
            let name = Known::VIA.into();
            let present = headers.joined(&name).map(std::borrow::Cow::into_owned);
            headers.set_with(&name, |out| {
                if let Some(present) = present {
                    out.extend_from_slice(&present);
                    out.extend_from_slice(b", ");
                }
                out.extend_from_slice(config.via.as_bytes());
            });
        }
        let wants_id = config.request_id.in_response || self.s.request.has(Known::X_ENVOY_FORCE_TRACE);
        if wants_id && let Some(id) = self.s.request.get(Known::X_REQUEST_ID) {
            headers.set_known(Known::X_REQUEST_ID, id);
        }
    }
}

/// Looks at the stream as formats see it.
type Look<'a> = dyn FnMut(&LogContext<'_>) + 'a;

/// Shows the stream with other response headers and another body.
fn with_context(stream: &ActiveStream, env: &Environment, now: Instant) -> impl Fn(&HeaderMap, &[u8], &mut Look<'_>) {
    move |headers, body, see| {
        let mut view = stream.context(env, AccessLogType::NotSet, now);
        view.response = Some(headers);
        view.local_reply_body = body;
        see(&view);
    }
}

/// gRPC's status of a call whose time is up.
const DEADLINE_EXCEEDED: u32 = 4;

/// `:status` as a number; 0 if there is none.
pub(crate) fn status_of(headers: &HeaderMap) -> u16 {
    headers
        .get(Known::STATUS)
        .and_then(|value| std::str::from_utf8(value).ok())
        .and_then(|value| value.parse().ok())
        .unwrap_or(0)
}

impl ActiveStream {
    /// A deadline of the stream has passed.
    pub(crate) fn expired(&mut self, env: &Environment, wire: Downstream<'_>, now: Instant) {
        if self.next_log.is_some_and(|at| at <= now) {
            self.log(env, AccessLogType::DownstreamPeriodic, now);
            self.next_log = crate::timer::deadline(now, env.config.access_log_options.interval);
        }
        let mut driver = Driver { s: self, env, wire, now };
        if driver.router_expired() {
            return;
        }
        driver.stream_expired();
    }
}

impl Driver<'_> {
    fn stream_expired(&mut self) {
        let stats = &self.env.config.stats.manager;
        let reached = |at: Option<Instant>| at.is_some_and(|at| at <= self.now);
        if !self.s.received && reached(self.s.router.request_deadline) {
            stats.downstream_rq_timeout().inc();
            let body = Bytes::from_static(b"request timeout");
            return self.local_reply(LocalReply::new(408, body, details::REQUEST_OVERALL_TIMEOUT));
        }
        if reached(crate::timer::deadline(self.s.info.start, self.s.max_duration)) {
            stats.downstream_rq_max_duration_reached().inc();
            let status = if self.s.received { 504 } else { 408 };
            let body = Bytes::from_static(b"downstream duration timeout");
            let mut reply = LocalReply::new(status, body, details::MAX_DURATION_TIMEOUT);
            reply.grpc_status = Some(DEADLINE_EXCEEDED);
            return self.local_reply(reply);
        }
        if reached(self.s.idle_deadline(self.env)) {
            stats.downstream_rq_idle_timeout().inc();
            let status = if self.s.received { 504 } else { 408 };
            let body = Bytes::from_static(b"stream timeout");
            let reply = LocalReply::new(status, body, details::STREAM_IDLE_TIMEOUT);
            self.local_reply(reply.with_flags(ResponseFlags::STREAM_IDLE_TIMEOUT));
        }
    }
}
