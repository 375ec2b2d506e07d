//! What becomes of an upstream's answer: retry, pass on, or answer in its place.

use super::{Attempt, Router};
use crate::chain::{self, Direction};
use crate::retry::Wanted;
use crate::stream::{Driver, Sent};
use bytes::Bytes;
use nuncio_cluster::{HostCounter, LoadReport, LocalOrigin, Resource};
use nuncio_filter::LocalReply;
use nuncio_headers::Known;
use nuncio_http::ResetReason;
use nuncio_lb::Policy;
use nuncio_stream_info::{AccessLogType, ResponseFlags, details};
use std::sync::Arc;
use std::time::Duration;

impl Driver<'_> {
    /// The final head of a response.
    pub(super) fn upstream_response(&mut self, status: u16, last: bool) {
        self.record_status(status);
        if self.s.router.redirects && !self.s.tunnel && self.follow_redirect(status, last) {
            return;
        }
        let wall = self.env.worker.wall();
        let wanted = self.s.router.retry.on_response(status, &self.s.response, wall);
        match wanted {
            Wanted::Exhausted => self.retries_exhausted(),
            Wanted::No => {}
            Wanted::Backoff | Wanted::After(_) => {
                let possible = self.s.router.can_replay() && !self.s.tunnel;
                if possible && self.schedule_retry(wanted, Some((status, last))) {
                    return;
                }
            }
        }
        if self.s.router.retry.made > 0
            && matches!(wanted, Wanted::No)
            && let Some(cluster) = &self.s.router.cluster
        {
            cluster.info.stats.upstream_rq_retry_success().inc();
            self.each_request_stat(|stats| stats.upstream_rq_retry_success().inc());
        }
        self.release_retry();
        self.s.router.response_begun = true;
        self.charge_status(status);
        self.s.info.response_code = Some(status);
        self.s.info.details = details::VIA_UPSTREAM.into();
        self.finish_upstream_headers();
        if last {
            self.response_complete();
        }
        let flow = chain::headers(self, Direction::Response, last);
        self.apply(flow);
    }

    /// Headers that the router adds, and the route's changes.
    fn finish_upstream_headers(&mut self) {
        let suppress = self.env.config.router.suppress_envoy_headers;
        if !suppress && let Some(taken) = self.since_complete() {
            let millis = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
            self.s
                .response
                .set_known(Known::X_ENVOY_UPSTREAM_SERVICE_TIME, itoa::Buffer::new().format(millis).as_bytes());
        }
        for cookie in &self.s.router.set_cookies {
            self.s.response.append_known(Known::SET_COOKIE, cookie);
        }
        self.mutate_response();
    }

    /// The route's changes to response headers, for responses and for replies in their place.
    fn mutate_response(&mut self) {
        let Router { route: Some(route), weighted, .. } = &self.s.router else { return };
        let (route, weighted) = (Arc::clone(route), *weighted);
        if route.virtual_host().include_attempt_count_in_response {
            let count = self.s.info.upstream.attempts;
            self.s.response.set_known(Known::X_ENVOY_ATTEMPT_COUNT, itoa::Buffer::new().format(count).as_bytes());
        }
        let mut response = std::mem::take(&mut self.s.response);
        let context = self.s.context(self.env, AccessLogType::NotSet, self.now);
        route.mutate_response(weighted, &mut response, &context);
        self.s.response = response;
    }

    /// A reply of the router's own.
    pub(super) fn router_reply(&mut self, reply: Box<LocalReply>) {
        let attempts = self.s.info.upstream.attempts;
        let shows = |route: &Arc<nuncio_route::Route>| route.virtual_host().include_attempt_count_in_response;
        if !self.s.router.route.as_ref().is_some_and(shows) {
            return self.local_reply(reply);
        }
        self.local_reply(reply.with_edit(move |headers| {
            headers.set_known(Known::X_ENVOY_ATTEMPT_COUNT, itoa::Buffer::new().format(attempts).as_bytes());
        }));
    }

    /// The try failed before its response was complete.
    pub(super) fn upstream_reset(&mut self, reason: ResetReason, detail: Option<Arc<str>>) {
        let sent = self.request_was_sent();
        self.note_wire_bytes();
        self.count_reset(reason);
        if self.sends_multiplexed() {
            self.count_stream_reset(reason);
        }
        if self.s.router.response_begun {
            return self.reset_after_response_started(reason);
        }
        if self.retry_after_reset(reason, sent) {
            return;
        }
        let status = if reason == ResetReason::ProtocolError { 502 } else { 503 };
        self.charge_status(status);
        let retried = if self.s.router.retry.made > 0 { "retried and the latest " } else { "" };
        let body =
            format!("upstream connect error or disconnect/reset before headers. {retried}reset reason: {reason}");
        let extra = detail.map(|detail| format!("|{detail}")).unwrap_or_default();
        let text = format!("upstream_reset_before_response_started{{{reason}{extra}}}").replace(' ', "_");
        let mut reply = LocalReply::new(status, Bytes::from(body), text).with_flags(flag_of(reason));
        if reason == ResetReason::Overflow && !self.env.config.router.suppress_envoy_headers {
            reply = reply.with_edit(|headers| headers.set_known(Known::X_ENVOY_OVERLOADED, b"true"));
        }
        self.router_reply(reply);
    }

    fn reset_after_response_started(&mut self, reason: ResetReason) {
        let text = format!("upstream_reset_after_response_started{{{reason}}}").replace(' ', "_");
        self.s.router.attempt = Attempt::None;
        if self.s.sent == Sent::Nothing {
            return self.local_reply(LocalReply::new(503, Bytes::new(), text).with_flags(flag_of(reason)));
        }
        self.break_off(flag_of(reason), text);
    }

    fn sends_multiplexed(&self) -> bool {
        matches!(&self.s.router.attempt, Attempt::Active(active) if active.connection.wire.is_multiplexed())
    }

    /// A stream of many that ended before its time: by the upstream, or because of what the upstream sent. A refusal is no
    /// reset.
    fn count_stream_reset(&self, reason: ResetReason) {
        let Some(cluster) = &self.s.router.cluster else { return };
        match reason {
            ResetReason::RemoteReset | ResetReason::RemoteResetNoError => {
                cluster.info.stats.upstream_rq_rx_reset().inc()
            }
            ResetReason::ProtocolError | ResetReason::LocalReset => cluster.info.stats.upstream_rq_tx_reset().inc(),
            _ => {}
        }
    }

    fn count_reset(&mut self, reason: ResetReason) {
        let Some(cluster) = &self.s.router.cluster else { return };
        if let Attempt::Active(active) = &self.s.router.attempt {
            let host = active.connection.pool().host();
            host.count(HostCounter::RqError);
            host.record_local_origin(LocalOrigin::ConnectFailed);
        } else if matches!(
            reason,
            ResetReason::LocalConnectionFailure | ResetReason::RemoteConnectionFailure | ResetReason::ConnectionTimeout
        ) {
            cluster.info.stats.upstream_rq_pending_failure_eject().inc();
        }
    }

    /// Retries after a reset, if the policy says so. True if the matter is settled.
    pub(super) fn retry_after_reset(&mut self, reason: ResetReason, sent: bool) -> bool {
        if !self.s.router.can_replay() {
            self.s.router.attempt = Attempt::None;
            return false;
        }
        let wanted = self.s.router.retry.on_reset(reason, sent);
        let settled = match wanted {
            Wanted::Backoff | Wanted::After(_) => self.schedule_retry(wanted, None),
            Wanted::Exhausted => {
                self.retries_exhausted();
                false
            }
            Wanted::No => false,
        };
        if !settled {
            self.s.router.attempt = Attempt::None;
        }
        settled
    }

    /// Ends the try and plans the next one. False if the circuit breaker for retries is open. `discarded` is the status of
    /// the response that is not passed on, and whether it is complete.
    fn schedule_retry(&mut self, wanted: Wanted, discarded: Option<(u16, bool)>) -> bool {
        self.release_retry();
        let Some(cluster) = self.s.router.cluster.clone() else { return false };
        let stats = &cluster.info.stats;
        if !cluster.info.breaker(self.s.router.priority).try_acquire(Resource::Retries) {
            stats.upstream_rq_retry_overflow().inc();
            self.each_request_stat(|stats| stats.upstream_rq_retry_overflow().inc());
            self.s.info.flags.insert(ResponseFlags::UPSTREAM_OVERFLOW);
            return false;
        }
        self.s.router.retry_counted = true;
        stats.upstream_rq_retry().inc();
        self.each_request_stat(|stats| stats.upstream_rq_retry().inc());
        if let Some((status, _)) = discarded
            && !self.env.config.router.dynamic_stats_off
        {
            stats.charge_retried(status);
        }
        if let Wanted::After(_) = wanted {
            stats.upstream_rq_retry_backoff_ratelimited().inc();
        } else {
            stats.upstream_rq_retry_backoff_exponential().inc();
        }
        self.end_try(matches!(discarded, Some((_, true))));
        self.s.response.clear();
        let random = self.env.worker.random();
        let wait = self.s.router.retry.take(wanted, random);
        if wait == Duration::ZERO {
            self.start_attempt(false);
        } else {
            self.s.router.attempt = Attempt::Backoff(self.now + wait);
        }
        true
    }

    fn retries_exhausted(&mut self) {
        self.s.info.flags.insert(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
        if let Some(cluster) = &self.s.router.cluster {
            cluster.info.stats.upstream_rq_retry_limit_exceeded().inc();
        }
        self.each_request_stat(|stats| stats.upstream_rq_retry_limit_exceeded().inc());
    }

    /// The retry that was under way is settled: the breaker forgets it.
    pub(super) fn release_retry(&mut self) {
        if std::mem::take(&mut self.s.router.retry_counted)
            && let Some(cluster) = &self.s.router.cluster
        {
            cluster.info.breaker(self.s.router.priority).release(Resource::Retries);
        }
    }

    fn record_status(&mut self, status: u16) {
        if let Attempt::Active(active) = &self.s.router.attempt {
            active.connection.pool().host().record_status(status);
        }
        if self.s.response.has(Known::X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL)
            && let Attempt::Active(active) = &self.s.router.attempt
        {
            let pool = active.connection.pool();
            pool.cluster().immediate_health_check_fail(pool.host());
        }
    }

    /// What the host says of its load, where balancing asks for it. Trailers are looked at too, as gRPC has it there.
    pub(super) fn take_load_report(&mut self, trailers: bool) {
        let Attempt::Active(active) = &self.s.router.attempt else { return };
        let pool = active.connection.pool();
        if let Policy::ClientSideWeighted(options) = &*pool.cluster().config.lb_policy {
            let headers = if trailers { &self.s.response_trailers } else { &self.s.response };
            if let Some(report) = LoadReport::of(headers) {
                pool.host().record_load(&report, options, self.now);
            }
        }
    }

    /// Counts a response code for the cluster, the virtual cluster and the route.
    pub(super) fn charge_status(&mut self, status: u16) {
        let Some(cluster) = &self.s.router.cluster else { return };
        if self.env.config.router.dynamic_stats_off || self.s.info.health_check {
            return;
        }
        let canary = self.s.response.get(Known::X_ENVOY_UPSTREAM_CANARY) == Some(b"true");
        let internal = self.s.request.has(Known::X_ENVOY_INTERNAL);
        cluster.info.stats.charge_response(status, internal, canary);
        if let Some(alternate) = &self.s.router.alternate {
            alternate.charge_response(status, internal, canary);
        }
        if let Some(zone) = self.s.router.tried.last().and_then(|host| cluster.info.zone_stats(host)) {
            zone.charge_response(status);
        }
        self.each_request_stat(|stats| stats.charge(status));
    }

    pub(super) fn charge_response_time(&mut self) {
        let (Some(cluster), Some(taken)) = (&self.s.router.cluster, self.since_complete()) else { return };
        if self.env.config.router.dynamic_stats_off || self.s.info.health_check {
            return;
        }
        let millis = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
        let canary = self.s.response.get(Known::X_ENVOY_UPSTREAM_CANARY) == Some(b"true");
        let internal = self.s.request.has(Known::X_ENVOY_INTERNAL);
        cluster.info.stats.record_time(millis, internal, canary);
        if let Some(alternate) = &self.s.router.alternate {
            alternate.record_time(millis, internal, canary);
        }
        if let Some(zone) = self.s.router.tried.last().and_then(|host| cluster.info.zone_stats(host)) {
            zone.record_time(millis);
        }
        self.each_request_stat(|stats| stats.record_time(millis));
    }

    /// A timeout counts against the host.
    pub(super) fn charge_timeout(&mut self) {
        if let Attempt::Active(active) = &self.s.router.attempt {
            let host = active.connection.pool().host();
            host.count(HostCounter::RqTimeout);
            host.record_local_origin(LocalOrigin::Timeout(504));
        }
    }
}

/// The response flag of a reset.
fn flag_of(reason: ResetReason) -> ResponseFlags {
    match reason {
        ResetReason::LocalReset | ResetReason::LocalRefusedStreamReset => ResponseFlags::LOCAL_RESET,
        ResetReason::RemoteReset
        | ResetReason::RemoteResetNoError
        | ResetReason::RemoteRefusedStreamReset
        | ResetReason::ConnectError => ResponseFlags::UPSTREAM_REMOTE_RESET,
        ResetReason::LocalConnectionFailure | ResetReason::RemoteConnectionFailure | ResetReason::ConnectionTimeout => {
            ResponseFlags::UPSTREAM_CONNECTION_FAILURE
        }
        ResetReason::ConnectionTermination | ResetReason::Http1PrematureUpstreamHalfClose => {
            ResponseFlags::UPSTREAM_CONNECTION_TERMINATION
        }
        ResetReason::Overflow => ResponseFlags::UPSTREAM_OVERFLOW,
        ResetReason::ProtocolError => ResponseFlags::UPSTREAM_PROTOCOL_ERROR,
        ResetReason::OverloadManager => ResponseFlags::OVERLOAD_MANAGER,
    }
}
