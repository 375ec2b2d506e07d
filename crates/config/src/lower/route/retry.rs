//! `RetryPolicy`.

use super::{gaps, header_matchers};
use crate::compile::{Compile, message_of};
use crate::lower::number::{Wrapped, duration_field};
use crate::lower::value;
use nuncio_api::pb::envoy::config::route::v3 as pb;
use nuncio_api::pb::envoy::extensions::retry::host as host_extensions;
use nuncio_api::pb::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use nuncio_api::wkt::Any;
use nuncio_route::spec::{
    HostPredicate, Plugin, RateLimitedBackOffSpec, ResetHeaderFormat, ResetHeaderSpec, RetryBackOffSpec,
    RetryPolicySpec, RetryPriority,
};
use prost::Name;
use std::sync::Arc;
use std::time::Duration;

/// A retry policy. What can't be lowered is reported and left out.
pub(super) fn policy(policy: &pb::RetryPolicy, cx: &mut Compile<'_>) -> RetryPolicySpec {
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
    let priority =
        retry_priority.as_ref().and_then(|priority| self::priority(priority, &mut cx.field("retry_priority")));
    let mut predicates = Vec::with_capacity(retry_host_predicate.len());
    for (index, predicate) in retry_host_predicate.iter().enumerate() {
        predicates.extend(host_predicate(predicate, &mut cx.element("retry_host_predicate", index)));
    }
    RetryPolicySpec {
        retry_on: retry_on.clone(),
        num_retries: num_retries.get(),
        per_try_timeout: duration_field(per_try_timeout, "per_try_timeout", cx).ok().flatten(),
        per_try_idle_timeout: duration_field(per_try_idle_timeout, "per_try_idle_timeout", cx).ok().flatten(),
        retry_priority: priority,
        retry_host_predicate: predicates,
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

/// `retry_priority`; none for one that is not built, which is reported.
fn priority(priority: &pb::retry_policy::RetryPriority, cx: &mut Compile<'_>) -> Option<RetryPriority> {
    use pb::retry_policy::retry_priority::ConfigType;
    let any = priority.config_type.as_ref().map(|ConfigType::TypedConfig(any)| any);
    let config = match any {
        Some(any) if message_of(any) == PreviousPrioritiesConfig::full_name() => {
            cx.field("typed_config").decode::<PreviousPrioritiesConfig>(any).ok()?
        }
        _ => {
            cx.error(format!("the retry priority {} is not built", priority.name));
            return None;
        }
    };
    let update_frequency = u32::try_from(config.update_frequency).unwrap_or(0).max(1);
    Some(RetryPriority::PreviousPriorities { update_frequency })
}

/// `retry_host_predicate`; none for one that is not built, which is reported.
fn host_predicate(predicate: &pb::retry_policy::RetryHostPredicate, cx: &mut Compile<'_>) -> Option<HostPredicate> {
    use host_extensions::omit_canary_hosts::v3::OmitCanaryHostsPredicate;
    use host_extensions::omit_host_metadata::v3::OmitHostMetadataConfig;
    use host_extensions::previous_hosts::v3::PreviousHostsPredicate;
    use pb::retry_policy::retry_host_predicate::ConfigType;
    let any = predicate.config_type.as_ref().map(|ConfigType::TypedConfig(any)| any);
    let message = any.map(message_of).unwrap_or_default();
    if message == PreviousHostsPredicate::full_name()
        || any.is_none() && predicate.name == "envoy.retry_host_predicates.previous_hosts"
    {
        return Some(HostPredicate::PreviousHosts);
    }
    if message == OmitCanaryHostsPredicate::full_name()
        || any.is_none() && predicate.name == "envoy.retry_host_predicates.omit_canary_hosts"
    {
        return Some(HostPredicate::OmitCanaryHosts);
    }
    if let Some(any) = any.filter(|_| message == OmitHostMetadataConfig::full_name()) {
        let mut cx = cx.field("typed_config");
        let config = cx.decode::<OmitHostMetadataConfig>(any).ok()?;
        let fields = value::metadata(&config.metadata_match, "metadata_match", &mut cx);
        let fields = fields.as_ref().and_then(|metadata| metadata.namespace("envoy.lb"));
        return fields.map(|fields| HostPredicate::OmitHostMetadata(Arc::new(fields.clone())));
    }
    cx.error(format!("the retry host predicate {} is not built", predicate.name));
    None
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
