//! The router's timers: the route's timeout, that of each try, and of its idleness.

use super::Attempt;
use crate::stream::{Driver, Sent};
use crate::timer::deadline;
use bytes::Bytes;
use nuncio_filter::LocalReply;
use nuncio_headers::{HeaderMap, Known};
use nuncio_http::ResetReason;
use nuncio_route::Forward;
use nuncio_stream_info::{ResponseFlags, details};
use std::time::{Duration, Instant};

/// How long what may take. `None` is without limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RouteTimeouts {
    /// From the end of the request to the end of the response (`RouteAction.timeout`). Default 15 s.
    pub response: Option<Duration>,
    /// The same for each try (`RetryPolicy.per_try_timeout`).
    pub per_try: Option<Duration>,
    /// Without progress of a try (`RetryPolicy.per_try_idle_timeout`).
    pub per_try_idle: Option<Duration>,
}

impl RouteTimeouts {
    /// What route and request headers say; the headers are removed, and the upstream is told what to expect.
    pub(crate) fn new(
        forward: &Forward,
        request: &mut HeaderMap,
        respect_expected: bool,
        tell: bool,
        is_grpc: bool,
    ) -> Self {
        let mut timeouts = RouteTimeouts {
            response: forward.timeout,
            per_try: forward.retry_policy.as_ref().and_then(|policy| policy.per_try_timeout),
            per_try_idle: forward.retry_policy.as_ref().and_then(|policy| policy.per_try_idle_timeout),
        };
        if is_grpc {
            apply_grpc_timeout(&mut timeouts, forward, request);
        }
        let millis = |name: Known, request: &HeaderMap| {
            let text = std::str::from_utf8(request.get(name)?).ok()?;
            text.parse::<u64>().ok().map(Duration::from_millis)
        };
        let some = |duration: Duration| (!duration.is_zero()).then_some(duration);
        let mut expected = false;
        if respect_expected && let Some(asked) = millis(Known::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, request) {
            timeouts.response = some(asked);
            expected = true;
        }
        if !expected && let Some(asked) = millis(Known::X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS, request) {
            timeouts.response = some(asked);
        }
        request.remove_known(Known::X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS);
        if let Some(asked) = millis(Known::X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS, request) {
            timeouts.per_try = some(asked);
        }
        request.remove_known(Known::X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS);
        if let (Some(per_try), Some(response)) = (timeouts.per_try, timeouts.response)
            && per_try >= response
        {
            timeouts.per_try = None;
        }
        let told = timeouts.per_try.or(timeouts.response);
        if tell && let Some(told) = told {
            let mut buffer = itoa::Buffer::new();
            let millis = u64::try_from(told.as_millis()).unwrap_or(u64::MAX);
            request.set_known(Known::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, buffer.format(millis).as_bytes());
        }
        timeouts
    }
}

/// `grpc-timeout`, as far as the route lets it count.
fn apply_grpc_timeout(timeouts: &mut RouteTimeouts, forward: &Forward, request: &HeaderMap) {
    let limits = match (&forward.max_stream_duration, &forward.grpc_timeout) {
        (Some(limits), _) if limits.grpc_timeout_header_max.is_some() => {
            (limits.grpc_timeout_header_max, limits.grpc_timeout_header_offset)
        }
        (_, Some(limits)) if limits.max.is_some() => (limits.max, limits.offset),
        _ => return,
    };
    let (Some(longest), offset) = limits else { return };
    let asked = request.get(Known::GRPC_TIMEOUT).and_then(parse_grpc_timeout);
    let mut timeout = asked.unwrap_or_default();
    if let Some(offset) = offset
        && offset < timeout
    {
        timeout -= offset;
    }
    if !longest.is_zero() && (timeout > longest || timeout.is_zero()) {
        timeout = longest;
    }
    timeouts.response = (!timeout.is_zero()).then_some(timeout);
}

/// The gRPC specification's `Timeout`: at most 8 digits and a unit.
fn parse_grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

impl Driver<'_> {
    /// The request is complete: from now on the response is waited for.
    pub(crate) fn arm_response_timeouts(&mut self) {
        if self.s.tunnel {
            return;
        }
        let router = &mut self.s.router;
        if router.response_deadline.is_none() {
            router.response_deadline = deadline(self.now, router.timeouts.response);
        }
        self.arm_try_timeout();
    }

    /// The present try has a connection and the request is complete.
    pub(super) fn arm_try_timeout(&mut self) {
        let received = self.s.received;
        let router = &mut self.s.router;
        let per_try = router.timeouts.per_try;
        if let Attempt::Active(active) = &mut router.attempt
            && received
            && active.deadline.is_none()
        {
            active.deadline = deadline(self.now, per_try);
        }
    }

    /// Looks whether one of the router's deadlines passed, and acts on it. False if none did.
    pub(crate) fn router_expired(&mut self) -> bool {
        let now = self.now;
        let reached = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if reached(self.s.router.response_deadline) {
            self.s.router.response_deadline = None;
            self.response_timeout();
            return true;
        }
        match &self.s.router.attempt {
            Attempt::Backoff(until) if *until <= now => {
                self.s.router.attempt = Attempt::None;
                self.start_attempt(false);
                true
            }
            Attempt::Active(active) if reached(active.deadline) => {
                self.try_timeout(false);
                true
            }
            Attempt::Active(active) if reached(active.idle_deadline()) => {
                self.try_timeout(true);
                true
            }
            _ => false,
        }
    }

    fn response_timeout(&mut self) {
        if let Some(cluster) = &self.s.router.cluster {
            cluster.info.stats.upstream_rq_timeout().inc();
        }
        self.charge_timeout();
        if self.s.sent != Sent::Nothing {
            self.s.info.flags.insert(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT);
            self.s.info.details = details::RESPONSE_TIMEOUT.into();
            self.cancel_upstream();
            self.s.reset = true;
            return;
        }
        let body = Bytes::from_static(b"upstream request timeout");
        let status = if self.s.request.has(Known::X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE) { 204 } else { 504 };
        self.charge_status(status);
        let reply = LocalReply::new(status, body, details::RESPONSE_TIMEOUT);
        self.router_reply(reply.with_flags(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT));
    }

    fn try_timeout(&mut self, idle: bool) {
        if let Some(cluster) = &self.s.router.cluster {
            let stats = &cluster.info.stats;
            if idle {
                stats.upstream_rq_per_try_idle_timeout().inc();
            } else {
                stats.upstream_rq_per_try_timeout().inc();
            }
        }
        self.charge_timeout();
        let detail = if idle { details::UPSTREAM_PER_TRY_IDLE_TIMEOUT } else { details::UPSTREAM_PER_TRY_TIMEOUT };
        if self.s.router.response_begun {
            self.s.info.flags.insert(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT);
            self.s.info.details = detail.into();
            self.cancel_upstream();
            self.s.reset = true;
            return;
        }
        if self.retry_after_reset(ResetReason::LocalReset, true) {
            return;
        }
        self.charge_status(504);
        let body = Bytes::from_static(b"upstream request timeout");
        let reply = LocalReply::new(504, body, detail);
        self.router_reply(reply.with_flags(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT));
    }
}
