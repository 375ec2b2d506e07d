//! `RetryPolicy`.

use super::{gaps, header_matchers};
use crate::compile::{Compile, message_of};
use crate::lower::number::{Wrapped, duration_field};
use nuncio_api::pb::envoy::config::route::v3 as pb;
use nuncio_api::wkt::Any;
use nuncio_route::spec::{
    Plugin, RateLimitedBackOffSpec, ResetHeaderFormat, ResetHeaderSpec, RetryBackOffSpec, RetryPolicySpec,
};
use std::time::Duration;

/// A retry policy. What can't be lowered is reported and left out.
pub(super) fn policy(policy: &pb::RetryPolicy, cx: &mut Compile<'_>) -> RetryPolicySpec {
    use pb::retry_policy::{retry_host_predicate, retry_priority};
    let pb::RetryPolicy {
        retry_on,
        num_retries,
        per_try_timeout,
        per_try_idle_timeout,
        retry_priority,
        retry_host_predicate,
        retry_options_predicates,
        host_selection_retry_max_attempts,
        retriable_status_codes,
        retry_back_off,
        rate_limited_retry_back_off,
        retriable_headers,
        retriable_request_headers,
        refresh_cluster_on_retry,
    } = policy;
    gaps::retry(policy, cx);
    let priority = retry_priority.as_ref().map(|priority| {
        let any = priority.config_type.as_ref().map(|retry_priority::ConfigType::TypedConfig(any)| any);
        plugin(&priority.name, any)
    });
    let predicate = |predicate: &pb::retry_policy::RetryHostPredicate| {
        let any = predicate.config_type.as_ref().map(|retry_host_predicate::ConfigType::TypedConfig(any)| any);
        plugin(&predicate.name, any)
    };
    RetryPolicySpec {
        retry_on: retry_on.clone(),
        num_retries: num_retries.get(),
        per_try_timeout: duration_field(per_try_timeout, "per_try_timeout", cx).ok().flatten(),
        per_try_idle_timeout: duration_field(per_try_idle_timeout, "per_try_idle_timeout", cx).ok().flatten(),
        retry_priority: priority,
        retry_host_predicate: retry_host_predicate.iter().map(predicate).collect(),
        retry_options_predicates: retry_options_predicates
            .iter()
            .map(|extension| plugin(&extension.name, extension.typed_config.as_ref()))
            .collect(),
        host_selection_retry_max_attempts: *host_selection_retry_max_attempts,
        retriable_status_codes: retriable_status_codes.clone(),
        retry_back_off: retry_back_off.as_ref().map(|back_off| {
            let mut cx = cx.field("retry_back_off");
            RetryBackOffSpec {
                base_interval: duration_field(&back_off.base_interval, "base_interval", &mut cx)
                    .ok()
                    .flatten()
                    .unwrap_or(Duration::from_millis(25)),
                max_interval: duration_field(&back_off.max_interval, "max_interval", &mut cx).ok().flatten(),
            }
        }),
        rate_limited_retry_back_off: rate_limited_retry_back_off.as_ref().map(|limited| {
            let mut cx = cx.field("rate_limited_retry_back_off");
            RateLimitedBackOffSpec {
                reset_headers: limited.reset_headers.iter().map(reset_header).collect(),
                max_interval: duration_field(&limited.max_interval, "max_interval", &mut cx).ok().flatten(),
            }
        }),
        retriable_headers: header_matchers(retriable_headers, "retriable_headers", cx),
        retriable_request_headers: header_matchers(retriable_request_headers, "retriable_request_headers", cx),
        refresh_cluster_on_retry: *refresh_cluster_on_retry,
    }
}

/// An extension by its name and type.
pub(super) fn plugin(name: &str, any: Option<&Any>) -> Plugin {
    Plugin { name: name.into(), type_name: any.map(message_of).unwrap_or_default().into(), config: None }
}

fn reset_header(header: &pb::retry_policy::ResetHeader) -> ResetHeaderSpec {
    ResetHeaderSpec {
        name: header.name.clone(),
        format: match header.format() {
            pb::retry_policy::ResetHeaderFormat::Seconds => ResetHeaderFormat::Seconds,
            pb::retry_policy::ResetHeaderFormat::UnixTimestamp => ResetHeaderFormat::UnixTimestamp,
        },
    }
}
