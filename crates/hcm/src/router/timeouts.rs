//! The router's timers: the route's timeout, that of each try, of its idleness, and of the cluster's streams.

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
    /// The upstream is told in `x-envoy-expected-rq-timeout-ms`.
    tell: bool,
    /// The upstream is told in `grpc-timeout`, too.
    tell_grpc: bool,
}

impl RouteTimeouts {
    /// What route and request headers say; the headers are removed.
    pub(crate) fn new(
        forward: &Forward,
        request: &mut HeaderMap,
        respect_expected: bool,
        tell: bool,
        is_grpc: bool,
    ) -> Self {
        let policy = forward.retry_policy.as_ref();
        let mut timeouts = RouteTimeouts {
            response: forward.timeout,
            per_try: policy.and_then(|policy| policy.per_try_timeout),
            per_try_idle: policy.and_then(|policy| policy.per_try_idle_timeout),
            tell,
            tell_grpc: false,
        };
        if forward.max_stream_duration.is_some() {
            // The stream's duration is limited instead.
            timeouts.response = None;
        } else if is_grpc
            && let Some(limits) = &forward.grpc_timeout
            && let Some(longest) = limits.max
        {
            timeouts.response = grpc_timeout(request, longest, limits.offset);
            timeouts.tell_grpc = true;
        }
        let some = |duration: Duration| (!duration.is_zero()).then_some(duration);
        if respect_expected && request.has(Known::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS) {
            if let Some(asked) = millis(Known::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, request) {
                timeouts.response = some(asked);
            }
        } else if let Some(asked) = millis(Known::X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS, request) {
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
        timeouts
    }

    /// Tells the upstream how long the present try may take; `elapsed` is the time since the request was complete.
    pub(crate) fn announce(&self, elapsed: Duration, request: &mut HeaderMap) {
        let Some(mut told) = self.per_try.or(self.response) else { return };
        if let Some(response) = self.response {
            // When the time is up 0 would mean any; the timer ends the request soon.
            told = told.min(response.saturating_sub(elapsed)).max(Duration::from_millis(1));
        }
        let millis = u64::try_from(told.as_millis()).unwrap_or(u64::MAX);
        if self.tell {
            let mut buffer = itoa::Buffer::new();
            request.set_known(Known::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, buffer.format(millis).as_bytes());
        }
        if self.tell_grpc {
            set_grpc_timeout(request, millis);
        }
    }
}

fn millis(name: Known, request: &HeaderMap) -> Option<Duration> {
    let text = std::str::from_utf8(request.get(name)?).ok()?;
    text.parse::<u64>().ok().map(Duration::from_millis)
}

/// `grpc-timeout`, as far as `max_grpc_timeout` and `grpc_timeout_offset` let it count.
fn grpc_timeout(request: &HeaderMap, longest: Duration, offset: Option<Duration>) -> Option<Duration> {
    let mut timeout = request.get(Known::GRPC_TIMEOUT).and_then(parse_grpc_timeout).unwrap_or_default();
    if let Some(offset) = offset
        && offset < timeout
    {
        timeout -= offset;
    }
    if !longest.is_zero() && (timeout > longest || timeout.is_zero()) {
        timeout = longest;
    }
    (!timeout.is_zero()).then_some(timeout)
}

/// The gRPC specification's `Timeout`: at most 8 digits and a unit. Whole milliseconds, rounded up.
pub(super) fn parse_grpc_timeout(value: &[u8]) -> Option<Duration> {
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
        b'u' => Duration::from_millis(number.div_ceil(1_000)),
        b'n' => Duration::from_millis(number.div_ceil(1_000_000)),
        _ => return None,
    })
}

/// Writes `grpc-timeout` in the finest unit that 8 digits hold.
pub(super) fn set_grpc_timeout(request: &mut HeaderMap, millis: u64) {
    const MOST: u64 = 99_999_999;
    let (mut number, mut unit) = (millis, b'm');
    for (parts, coarser) in [(1000, b'S'), (60, b'M'), (60, b'H')] {
        if number <= MOST {
            break;
        }
        number /= parts;
        unit = coarser;
    }
    let mut text = itoa::Buffer::new().format(number.min(MOST)).as_bytes().to_vec();
    text.push(unit);
    request.set_known(Known::GRPC_TIMEOUT, &text);
}

impl Driver<'_> {
    /// The request left the chain completely: from now on the response is waited for.
    pub(super) fn request_complete(&mut self) {
        let settled = self.s.replied || self.s.tunnel;
        let router = &mut self.s.router;
        router.ended = true;
        if router.complete.is_none() {
            router.complete = Some(self.now);
            router.response_deadline = deadline(self.now, router.timeouts.response).filter(|_| !settled);
        }
        self.arm_try_timeout();
    }

    /// How long ago the request was complete.
    pub(super) fn since_complete(&self) -> Option<Duration> {
        self.s.router.complete.map(|complete| self.now.saturating_duration_since(complete))
    }

    /// The present try has a connection and the request is complete.
    pub(super) fn arm_try_timeout(&mut self) {
        let router = &mut self.s.router;
        if let Attempt::Active(active) = &mut router.attempt
            && router.complete.is_some()
            && active.deadline.is_none()
        {
            active.deadline = deadline(self.now, router.timeouts.per_try);
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
            }
            Attempt::Active(active) if reached(active.life_ends) => self.life_ended(),
            Attempt::Active(active) if reached(active.deadline) => self.try_timeout(false),
            Attempt::Active(active) if reached(active.idle_deadline()) => self.try_timeout(true),
            _ => return false,
        }
        true
    }

    fn response_timeout(&mut self) {
        if let Some(cluster) = &self.s.router.cluster {
            cluster.info.stats.upstream_rq_timeout().inc();
        }
        self.each_request_stat(|stats| stats.upstream_rq_timeout().inc());
        self.charge_timeout();
        self.timed_out(details::RESPONSE_TIMEOUT);
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
        self.s.router.timed_out = true;
        if !self.s.router.response_begun && self.retry_after_reset(ResetReason::LocalReset, true) {
            return;
        }
        self.timed_out(detail);
    }

    /// Answers a request whose time is up; a response that is under way breaks off.
    fn timed_out(&mut self, detail: &'static str) {
        let flag = ResponseFlags::UPSTREAM_REQUEST_TIMEOUT;
        if self.s.sent != Sent::Nothing {
            return self.break_off(flag, detail);
        }
        let (status, body) = match self.s.router.timeout_status {
            Some(status) => (status, ""),
            None => (504, "upstream request timeout"),
        };
        if !self.s.router.response_begun {
            self.charge_status(status);
        }
        self.router_reply(LocalReply::new(status, Bytes::from_static(body.as_bytes()), detail).with_flags(flag));
    }

    /// The cluster's `max_stream_duration` is over.
    fn life_ended(&mut self) {
        if let Some(cluster) = &self.s.router.cluster {
            cluster.info.stats.upstream_rq_max_duration_reached().inc();
        }
        let detail = details::UPSTREAM_MAX_STREAM_DURATION_REACHED;
        let flag = ResponseFlags::UPSTREAM_MAX_STREAM_DURATION_REACHED;
        if self.s.sent != Sent::Nothing {
            return self.break_off(flag, detail);
        }
        if !self.s.router.response_begun && self.retry_after_reset(ResetReason::LocalReset, true) {
            return;
        }
        let status = if self.s.received { 504 } else { 408 };
        let body = Bytes::from_static(b"upstream max stream duration reached");
        self.router_reply(LocalReply::new(status, body, detail).with_flags(flag));
    }

    /// Ends a response that is under way.
    pub(super) fn break_off(&mut self, flag: ResponseFlags, detail: impl Into<nuncio_filter::Details>) {
        self.s.info.flags.insert(flag);
        self.s.info.details = detail.into();
        self.cancel_upstream();
        self.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts() {
        for (text, millis) in [
            ("5S", Some(5000)),
            ("2M", Some(120_000)),
            ("1H", Some(3_600_000)),
            ("99999999m", Some(99_999_999)),
            ("1u", Some(1)),
            ("1000001n", Some(2)),
            ("100", None),
            ("S", None),
            ("-1S", None),
            ("123456789S", None),
            ("", None),
        ] {
            let found = parse_grpc_timeout(text.as_bytes()).map(|timeout| timeout.as_millis());
            assert_eq!(found, millis, "{text}");
        }
        for (millis, text) in [(5, "5m"), (99_999_999, "99999999m"), (100_000_000, "100000S"), (u64::MAX, "99999999H")]
        {
            let mut request = HeaderMap::new();
            set_grpc_timeout(&mut request, millis);
            assert_eq!(request.get(Known::GRPC_TIMEOUT), Some(text.as_bytes()), "{millis}");
        }
    }

    #[test]
    fn what_the_upstream_is_told() {
        let seconds = Duration::from_secs;
        let check = |response: Option<Duration>, per_try: Option<Duration>, elapsed: Duration, told: Option<&str>| {
            let timeouts = RouteTimeouts { response, per_try, tell: true, ..RouteTimeouts::default() };
            let mut request = HeaderMap::new();
            timeouts.announce(elapsed, &mut request);
            let found = request.get(Known::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS);
            assert_eq!(found, told.map(str::as_bytes), "{timeouts:?} {elapsed:?}");
        };
        check(None, None, Duration::ZERO, None);
        check(Some(seconds(15)), None, Duration::ZERO, Some("15000"));
        check(Some(seconds(15)), None, seconds(1), Some("14000"));
        check(Some(seconds(15)), Some(seconds(2)), seconds(1), Some("2000"));
        check(Some(seconds(15)), Some(seconds(2)), seconds(14), Some("1000"));
        check(Some(seconds(15)), None, seconds(16), Some("1"));
        check(None, Some(seconds(2)), seconds(16), Some("2000"));
    }
}
