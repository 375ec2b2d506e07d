//! Compiling `RetryPolicy`.

use super::cx::Build;
use crate::retry::{BackOff, RateLimitedBackOff, RetryOn, RetryPolicy};
use crate::spec::{RateLimitedBackOffSpec, RetryBackOffSpec, RetryPolicySpec};
use nuncio_matcher::{HeaderMatcher, Side};
use std::time::Duration;

/// `RateLimitedRetryBackOff.max_interval` when none is given.
const DEFAULT_RATE_LIMITED_MAX: Duration = Duration::from_secs(300);

pub(super) fn policy(cx: &mut Build<'_>, spec: RetryPolicySpec) -> Option<RetryPolicy> {
    let on = cx.within("retry_on", |cx| {
        let mut unknown = Vec::new();
        let on = RetryOn::parse(&spec.retry_on, |word| unknown.push(word.to_owned()));
        for word in unknown {
            let known: Vec<&str> = RetryOn::words().collect();
            cx.warning(format!("{word:?} is unknown and ignored, as in Envoy; known are {}", known.join(", ")));
        }
        on
    });
    let status_codes = cx.within("retriable_status_codes", |cx| status_codes(cx, &spec.retriable_status_codes));
    let retriable_headers =
        cx.list("retriable_headers", &spec.retriable_headers, |spec| HeaderMatcher::on(Side::Response, spec));
    let retriable_request_headers = cx.header_matchers("retriable_request_headers", &spec.retriable_request_headers);
    let back_off = match spec.retry_back_off {
        None => Some(None),
        Some(back_off) => cx.within("retry_back_off", |cx| self::back_off(cx, back_off)).map(Some),
    };
    let rate_limited = match spec.rate_limited_retry_back_off {
        None => Some(None),
        Some(limited) => cx.within("rate_limited_retry_back_off", |cx| rate_limited(cx, &limited)).map(Some),
    };
    let attempts = spec.host_selection_retry_max_attempts.max(0);
    Some(RetryPolicy {
        on,
        num_retries: spec.num_retries.unwrap_or(1),
        per_try_timeout: spec.per_try_timeout.filter(|timeout| !timeout.is_zero()),
        per_try_idle_timeout: spec.per_try_idle_timeout.filter(|timeout| !timeout.is_zero()),
        retry_priority: spec.retry_priority,
        host_predicates: spec.retry_host_predicate.into(),
        options_predicates: spec.retry_options_predicates.into(),
        host_selection_attempts: u32::try_from(attempts).unwrap_or(u32::MAX).max(1),
        retriable_status_codes: status_codes,
        retriable_headers: retriable_headers?,
        retriable_request_headers: retriable_request_headers?,
        back_off: back_off?,
        rate_limited_back_off: rate_limited?,
        refresh_cluster: spec.refresh_cluster_on_retry,
    })
}

fn status_codes(cx: &mut Build<'_>, codes: &[u32]) -> Box<[u16]> {
    let mut known = Vec::with_capacity(codes.len());
    for (at, code) in codes.iter().enumerate() {
        match u16::try_from(*code).ok().filter(|code| (100..600).contains(code)) {
            Some(code) => known.push(code),
            None => cx.within_index(at, |cx| cx.warning(format!("{code} is no status code; it never matches"))),
        }
    }
    known.into()
}

fn back_off(cx: &mut Build<'_>, spec: RetryBackOffSpec) -> Option<BackOff> {
    const SHORTEST: Duration = Duration::from_millis(1);
    if spec.base_interval.is_zero() {
        return cx.within("base_interval", |cx| cx.error("must be greater than 0"));
    }
    let base = spec.base_interval.max(SHORTEST);
    let max = match spec.max_interval {
        None => base.saturating_mul(10),
        Some(max) => max.max(SHORTEST),
    };
    if max < base {
        return cx.within("max_interval", |cx| {
            cx.error("retry_policy.max_interval must greater than or equal to the base_interval")
        });
    }
    Some(BackOff { base, max })
}

fn rate_limited(cx: &mut Build<'_>, spec: &RateLimitedBackOffSpec) -> Option<RateLimitedBackOff> {
    if spec.reset_headers.is_empty() {
        return cx.within("reset_headers", |cx| cx.error("must have at least one header"));
    }
    let mut headers = Vec::with_capacity(spec.reset_headers.len());
    for (at, header) in spec.reset_headers.iter().enumerate() {
        let name = cx.within_item("reset_headers", at, |cx| cx.within("name", |cx| cx.header_name(&header.name)));
        headers.push((name?, header.format));
    }
    let max = spec.max_interval.map_or(DEFAULT_RATE_LIMITED_MAX, |max| max.max(Duration::from_millis(1)));
    Some(RateLimitedBackOff { reset_headers: headers.into(), max })
}
