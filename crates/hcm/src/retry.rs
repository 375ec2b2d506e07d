//! Whether a request is sent again, and when.
//!
//! Pure: outcome and random numbers in, decision out. The conditions are those of Envoy's router filter
//! (`x-envoy-retry-on`); the circuit breaker for retries is asked by the caller.

use nuncio_headers::{HeaderMap, Known};
use nuncio_http::ResetReason;
use nuncio_route::{RetryOn, RetryPolicy};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The retries of one request.
pub(crate) struct RetryState {
    policy: Option<Arc<RetryPolicy>>,
    on: RetryOn,
    remaining: u32,
    /// Retries made.
    pub made: u32,
    codes: Vec<u16>,
    headers: Vec<Box<str>>,
    interval: Option<Duration>,
}

impl Default for RetryState {
    fn default() -> Self {
        RetryState {
            policy: None,
            on: RetryOn::NONE,
            remaining: 0,
            made: 0,
            codes: Vec::new(),
            headers: Vec::new(),
            interval: None,
        }
    }
}

/// Why a retry is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// None is.
    No,
    /// After the exponential back-off.
    Backoff,
    /// After the time that the response names.
    After(Duration),
    /// It would be, but the number of tries is used up.
    Exhausted,
}

impl RetryState {
    /// The retries that the route and the request's own headers allow. The headers are removed.
    pub(crate) fn new(policy: Option<Arc<RetryPolicy>>, request: &mut HeaderMap) -> RetryState {
        let mut on = policy.as_ref().map_or(RetryOn::NONE, |policy| policy.on);
        let mut remaining = policy.as_ref().map_or(1, |policy| policy.num_retries);
        if policy.as_ref().is_some_and(|policy| !policy.allows_request(request)) {
            on = RetryOn::NONE;
        }
        if let Some(words) = request.get(Known::X_ENVOY_RETRY_ON) {
            on = on.and(RetryOn::from_retry_on_header(words));
        }
        if let Some(words) = request.get(Known::X_ENVOY_RETRY_GRPC_ON) {
            on = on.and(RetryOn::from_retry_grpc_on_header(words));
        }
        if on.is_none() {
            return RetryState::default();
        }
        let number = |value: &[u8]| std::str::from_utf8(value).ok().and_then(|text| text.trim().parse::<u32>().ok());
        if let Some(retries) = request.get(Known::X_ENVOY_MAX_RETRIES).and_then(number) {
            remaining = retries;
        }
        let list = |name: Known| -> Vec<String> {
            let value = request.get(name).map(String::from_utf8_lossy).unwrap_or_default();
            value.split(',').map(|word| word.trim().to_ascii_lowercase()).filter(|word| !word.is_empty()).collect()
        };
        let codes = list(Known::X_ENVOY_RETRIABLE_STATUS_CODES).iter().filter_map(|code| code.parse().ok()).collect();
        let headers = list(Known::X_ENVOY_RETRIABLE_HEADER_NAMES).into_iter().map(String::into_boxed_str).collect();
        RetryState { policy, on, remaining, made: 0, codes, headers, interval: None }
    }

    /// Whether any outcome leads to a retry: the request must then be kept.
    pub(crate) fn is_possible(&self) -> bool {
        !self.on.is_none() && self.remaining > 0
    }

    /// The policy, for what else it holds.
    pub(crate) fn policy(&self) -> Option<&RetryPolicy> {
        self.policy.as_deref()
    }

    /// What the final response headers call for.
    pub(crate) fn on_response(&mut self, status: u16, response: &HeaderMap, wall: SystemTime) -> Wanted {
        if !self.response_matches(status, response) {
            return Wanted::No;
        }
        if self.remaining == 0 {
            return Wanted::Exhausted;
        }
        let seconds = wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let named = self.policy.as_ref().and_then(|policy| policy.rate_limited_back_off.as_ref());
        match named.and_then(|back_off| back_off.wait(response, seconds)) {
            Some(after) => Wanted::After(after),
            None => Wanted::Backoff,
        }
    }

    fn response_matches(&self, status: u16, response: &HeaderMap) -> bool {
        if self.on.is_none() {
            return false;
        }
        if response.has(Known::X_ENVOY_RATELIMITED) {
            return self.on.has(RetryOn::ENVOY_RATE_LIMITED);
        }
        let policy = self.policy.as_deref();
        (self.on.has(RetryOn::FIVE_XX) && (500..600).contains(&status))
            || (self.on.has(RetryOn::GATEWAY_ERROR) && (502..=504).contains(&status))
            || (self.on.has(RetryOn::RETRIABLE_4XX) && status == 409)
            || (self.on.has(RetryOn::RETRIABLE_STATUS_CODES)
                && (self.codes.contains(&status)
                    || policy.is_some_and(|policy| policy.retriable_status_codes.contains(&status))))
            || (self.on.has(RetryOn::RETRIABLE_HEADERS)
                && (policy
                    .is_some_and(|policy| policy.retriable_headers.iter().any(|matcher| matcher.matches(response)))
                    || self.headers.iter().any(|name| response.iter().any(|(present, _)| present == &**name))))
            || self.grpc_matches(response)
    }

    fn grpc_matches(&self, response: &HeaderMap) -> bool {
        let Some(status) = response.get(Known::GRPC_STATUS) else { return false };
        let condition = match std::str::from_utf8(status).ok().and_then(|status| status.trim().parse().ok()) {
            Some(1_u64) => RetryOn::GRPC_CANCELLED,
            Some(4) => RetryOn::GRPC_DEADLINE_EXCEEDED,
            Some(8) => RetryOn::GRPC_RESOURCE_EXHAUSTED,
            Some(13) => RetryOn::GRPC_INTERNAL,
            Some(14) => RetryOn::GRPC_UNAVAILABLE,
            _ => return false,
        };
        self.on.has(condition)
    }

    /// What a reset before the response calls for. `started` says that a part of the request was sent.
    pub(crate) fn on_reset(&mut self, reason: ResetReason, started: bool) -> Wanted {
        if !self.reset_matches(reason, started) {
            return Wanted::No;
        }
        if self.remaining == 0 { Wanted::Exhausted } else { Wanted::Backoff }
    }

    fn reset_matches(&self, reason: ResetReason, started: bool) -> bool {
        // Retrying what a circuit breaker refused would defeat the breaker.
        if reason == ResetReason::Overflow {
            return false;
        }
        let on = self.on;
        let connect = matches!(
            reason,
            ResetReason::LocalConnectionFailure | ResetReason::RemoteConnectionFailure | ResetReason::ConnectionTimeout
        );
        on.has(RetryOn::RESET)
            || on.has(RetryOn::FIVE_XX)
            || on.has(RetryOn::GATEWAY_ERROR)
            || (on.has(RetryOn::CONNECT_FAILURE) && connect)
            || (on.has(RetryOn::RESET_BEFORE_REQUEST) && !started)
            || (on.has(RetryOn::REFUSED_STREAM) && reason == ResetReason::RemoteRefusedStreamReset)
    }

    /// Takes one of the tries, and tells how long to wait before it: a random part of an interval that doubles.
    pub(crate) fn take(&mut self, wanted: Wanted, random: u64) -> Duration {
        self.remaining = self.remaining.saturating_sub(1);
        self.made += 1;
        if let Wanted::After(after) = wanted {
            return after;
        }
        let back_off = self.policy.as_ref().map(|policy| policy.back_off()).unwrap_or_default();
        let interval = self.interval.unwrap_or(back_off.base).max(Duration::from_millis(1));
        self.interval = Some(interval.saturating_mul(2).min(back_off.max));
        let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(random % millis)
    }
}
