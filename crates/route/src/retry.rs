//! Retry policies (`envoy.config.route.v3.RetryPolicy`): which outcomes, how often, how long apart. What to do with them is
//! the router's business.

use crate::spec::{HostPredicate, Plugin, ResetHeaderFormat, RetryPriority};
use nuncio_headers::{HeaderMap, HeaderName};
use nuncio_matcher::HeaderMatcher;
use std::fmt;
use std::time::Duration;

/// Conditions under which a request is tried again (`retry_on`, `x-envoy-retry-on`, `x-envoy-retry-grpc-on`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct RetryOn(u32);

macro_rules! conditions {
    ($($(#[$doc:meta])* $id:ident = $bit:literal, $text:literal, $set:ident;)*) => {
        impl RetryOn {
            $($(#[$doc])* pub const $id: RetryOn = RetryOn(1 << $bit);)*
        }

        /// Word, condition, whether it is a gRPC one.
        const WORDS: &[(&str, RetryOn, bool)] = &[$(($text, RetryOn::$id, conditions!(@grpc $set))),*];
    };
    (@grpc http) => { false };
    (@grpc grpc) => { true };
}

conditions! {
    /// `5xx`: any 5xx response, or none at all.
    FIVE_XX = 0, "5xx", http;
    /// `gateway-error`: 502, 503 or 504.
    GATEWAY_ERROR = 1, "gateway-error", http;
    /// `connect-failure`: the connection could not be made.
    CONNECT_FAILURE = 2, "connect-failure", http;
    /// `retriable-4xx`: 409.
    RETRIABLE_4XX = 3, "retriable-4xx", http;
    /// `refused-stream`: reset with REFUSED_STREAM.
    REFUSED_STREAM = 4, "refused-stream", http;
    /// `retriable-status-codes`: the policy's, and those of `x-envoy-retriable-status-codes`.
    RETRIABLE_STATUS_CODES = 5, "retriable-status-codes", http;
    /// `reset`: no response at all.
    RESET = 6, "reset", http;
    /// `retriable-headers`: a response header that the policy or `x-envoy-retriable-header-names` names.
    RETRIABLE_HEADERS = 7, "retriable-headers", http;
    /// `envoy-ratelimited`: `x-envoy-ratelimited` in the response.
    ENVOY_RATE_LIMITED = 8, "envoy-ratelimited", http;
    /// `http3-post-connect-failure`.
    HTTP3_POST_CONNECT_FAILURE = 9, "http3-post-connect-failure", http;
    /// `reset-before-request`: reset before the request was sent.
    RESET_BEFORE_REQUEST = 10, "reset-before-request", http;
    /// `cancelled`: gRPC status 1.
    GRPC_CANCELLED = 11, "cancelled", grpc;
    /// `deadline-exceeded`: gRPC status 4.
    GRPC_DEADLINE_EXCEEDED = 12, "deadline-exceeded", grpc;
    /// `resource-exhausted`: gRPC status 8.
    GRPC_RESOURCE_EXHAUSTED = 13, "resource-exhausted", grpc;
    /// `unavailable`: gRPC status 14.
    GRPC_UNAVAILABLE = 14, "unavailable", grpc;
    /// `internal`: gRPC status 13.
    GRPC_INTERNAL = 15, "internal", grpc;
}

impl RetryOn {
    /// No condition: never.
    pub const NONE: RetryOn = RetryOn(0);
    /// All gRPC conditions.
    pub const ANY_GRPC: RetryOn = RetryOn(0b1_1111 << 11);

    /// Reads a policy's `retry_on`: words of both kinds, joined by commas. Unknown words are given to `unknown`.
    pub fn parse(text: &str, mut unknown: impl FnMut(&str)) -> RetryOn {
        let mut all = RetryOn::NONE;
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match WORDS.iter().find(|(known, ..)| *known == word) {
                Some((_, condition, _)) => all = all.and(*condition),
                None => unknown(word),
            }
        }
        all
    }

    /// Reads the value of `x-envoy-retry-on`; words of the other kind and unknown ones do not count.
    pub fn from_retry_on_header(value: &[u8]) -> RetryOn {
        RetryOn::from_header(value, false)
    }

    /// Reads the value of `x-envoy-retry-grpc-on`; words of the other kind and unknown ones do not count.
    pub fn from_retry_grpc_on_header(value: &[u8]) -> RetryOn {
        RetryOn::from_header(value, true)
    }

    /// Whether all words of `x-envoy-retry-on`, or with `grpc` of `x-envoy-retry-grpc-on`, are known.
    pub fn are_known(value: &[u8], grpc: bool) -> bool {
        let is_known = |word: &[u8]| WORDS.iter().any(|(known, _, kind)| *kind == grpc && known.as_bytes() == word);
        value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).all(is_known)
    }

    fn from_header(value: &[u8], grpc: bool) -> RetryOn {
        value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).fold(RetryOn::NONE, |all, word| {
            let found = WORDS.iter().find(|(known, _, kind)| *kind == grpc && known.as_bytes() == word);
            found.map_or(all, |(_, condition, _)| all.and(*condition))
        })
    }

    /// The words, in order; for messages.
    pub fn words() -> impl Iterator<Item = &'static str> {
        WORDS.iter().map(|(word, ..)| *word)
    }

    /// Both.
    #[must_use]
    pub const fn and(self, other: RetryOn) -> RetryOn {
        RetryOn(self.0 | other.0)
    }

    /// Whether a condition of `other` is among these.
    #[inline]
    pub const fn has(self, other: RetryOn) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether there is none.
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(WORDS.iter().filter(|(_, bit, _)| self.has(*bit)).map(|(word, ..)| word)).finish()
    }
}

/// A compiled `RetryPolicy`.
#[derive(Debug)]
pub struct RetryPolicy {
    /// `retry_on`.
    pub on: RetryOn,
    /// `num_retries`: retries at most, the first try not counted.
    pub num_retries: u32,
    /// `per_try_timeout`.
    pub per_try_timeout: Option<Duration>,
    /// `per_try_idle_timeout`.
    pub per_try_idle_timeout: Option<Duration>,
    /// `retry_priority`.
    pub retry_priority: Option<RetryPriority>,
    /// `retry_host_predicate`.
    pub host_predicates: Box<[HostPredicate]>,
    /// `retry_options_predicates`.
    pub options_predicates: Box<[Plugin]>,
    /// `host_selection_retry_max_attempts`: at least 1.
    pub host_selection_attempts: u32,
    /// `retriable_status_codes`.
    pub retriable_status_codes: Box<[u16]>,
    /// `retriable_headers`.
    pub retriable_headers: Box<[HeaderMatcher]>,
    /// `retriable_request_headers`.
    pub retriable_request_headers: Box<[HeaderMatcher]>,
    /// `retry_back_off`; `None`: the defaults, whose base the runtime key `upstream.base_retry_backoff_ms` may change.
    pub back_off: Option<BackOff>,
    /// `rate_limited_retry_back_off`.
    pub rate_limited_back_off: Option<RateLimitedBackOff>,
    /// `refresh_cluster_on_retry`.
    pub refresh_cluster: bool,
}

/// `RetryPolicy.RetryBackOff`: a wait is a random part of `base · (2ⁿ − 1)`, at most `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    /// At least 1 ms.
    pub base: Duration,
    /// At least `base`.
    pub max: Duration,
}

impl Default for BackOff {
    /// 25 ms, at most 250 ms.
    fn default() -> Self {
        BackOff { base: Duration::from_millis(25), max: Duration::from_millis(250) }
    }
}

/// `RetryPolicy.RateLimitedRetryBackOff`.
#[derive(Debug)]
pub struct RateLimitedBackOff {
    /// Response headers that tell when to come back.
    pub reset_headers: Box<[(HeaderName, ResetHeaderFormat)]>,
    /// A longer wait is not waited for.
    pub max: Duration,
}

impl RateLimitedBackOff {
    /// The wait that a response asks for: the first of the headers that holds a whole number of seconds. `None` if none
    /// does, if the time has passed, or if the wait is longer than `max`. `unix_seconds` is now.
    pub fn wait(&self, response: &HeaderMap, unix_seconds: u64) -> Option<Duration> {
        self.reset_headers.iter().find_map(|(name, format)| {
            let value = response.get_name(name)?;
            let seconds = u64::try_from(nuncio_matcher::parse_integer(value)?).ok()?;
            let wait = match format {
                ResetHeaderFormat::Seconds => seconds,
                ResetHeaderFormat::UnixTimestamp => seconds.checked_sub(unix_seconds).filter(|wait| *wait > 0)?,
            };
            Some(Duration::from_secs(wait)).filter(|wait| *wait <= self.max)
        })
    }
}

impl RetryPolicy {
    /// Whether the request may be retried at all (`retriable_request_headers`).
    pub fn allows_request(&self, headers: &HeaderMap) -> bool {
        self.retriable_request_headers.is_empty() || self.retriable_request_headers.iter().any(|m| m.matches(headers))
    }

    /// The longest and shortest wait of the back-off.
    pub fn back_off(&self) -> BackOff {
        self.back_off.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let check = |text: &str, expected: RetryOn, unknown: &[&str]| {
            let mut found = Vec::new();
            assert_eq!(RetryOn::parse(text, |word| found.push(word.to_owned())), expected, "{text}");
            assert_eq!(found, unknown, "{text}");
        };
        check("", RetryOn::NONE, &[]);
        check("5xx", RetryOn::FIVE_XX, &[]);
        check(" 5xx , reset,,", RetryOn::FIVE_XX.and(RetryOn::RESET), &[]);
        check("connect-failure,unavailable", RetryOn::CONNECT_FAILURE.and(RetryOn::GRPC_UNAVAILABLE), &[]);
        check("5XX,foo,5xx", RetryOn::FIVE_XX, &["5XX", "foo"]);
        let all: Vec<&str> = RetryOn::words().collect();
        check(&all.join(","), RetryOn(0xffff), &[]);
        assert!(RetryOn(0xffff).has(RetryOn::ANY_GRPC) && !RetryOn(0x7ff).has(RetryOn::ANY_GRPC));
    }

    #[test]
    fn header_values() {
        assert_eq!(RetryOn::from_retry_on_header(b"5xx, cancelled,x"), RetryOn::FIVE_XX);
        assert_eq!(RetryOn::from_retry_grpc_on_header(b"5xx, cancelled\xff,internal"), RetryOn::GRPC_INTERNAL);
    }

    #[test]
    fn rate_limited_waits() {
        let policy = RateLimitedBackOff {
            reset_headers: Box::new([
                (HeaderName::new("retry-after").unwrap(), ResetHeaderFormat::Seconds),
                (HeaderName::new("x-reset").unwrap(), ResetHeaderFormat::UnixTimestamp),
            ]),
            max: Duration::from_secs(300),
        };
        let check = |entries: &[(&str, &str)], expected: Option<u64>| {
            let mut headers = HeaderMap::new();
            for (name, value) in entries {
                headers.append(&HeaderName::new(name).unwrap(), value.as_bytes());
            }
            assert_eq!(policy.wait(&headers, 1000).map(|w| w.as_secs()), expected, "{entries:?}");
        };
        check(&[], None);
        check(&[("retry-after", "5")], Some(5));
        check(&[("retry-after", "301")], None);
        check(&[("retry-after", "-5")], None);
        check(&[("retry-after", "soon"), ("x-reset", "1010")], Some(10));
        check(&[("x-reset", "1000")], None);
        check(&[("x-reset", "18446744073709551615")], None);
    }
}
