//! What route configurations can say and nothing acts on yet, in one place: whoever builds one of these removes its line.

#![allow(deprecated)] // Deprecated fields are named, too.

use crate::compile::{Compile, message_of};
use nuncio_api::pb::envoy::config::route::v3 as pb;
use nuncio_api::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use pb::retry_policy::{RetryHostPredicate, retry_host_predicate::ConfigType};
use prost::Name;

/// Of a `RouteConfiguration`.
pub(super) fn config(config: &pb::RouteConfiguration, cx: &mut Compile<'_>) {
    if !config.internal_only_headers.is_empty() {
        cx.refuse("internal_only_headers", "requests from outside would keep these headers");
    }
    cx.unsupported_if(!config.request_mirror_policies.is_empty(), "request_mirror_policies");
}

/// Of a `VirtualHost`.
pub(super) fn virtual_host(host: &pb::VirtualHost, cx: &mut Compile<'_>) {
    for (set, field) in [
        (!host.virtual_clusters.is_empty(), "virtual_clusters"),
        (!host.rate_limits.is_empty(), "rate_limits"),
        (host.cors.is_some(), "cors"),
        (host.retry_policy_typed_config.is_some(), "retry_policy_typed_config"),
        (host.hedge_policy.is_some(), "hedge_policy"),
        (host.include_is_timeout_retry_header, "include_is_timeout_retry_header"),
        (host.per_request_buffer_limit_bytes.is_some(), "per_request_buffer_limit_bytes"),
        (host.request_body_buffer_limit.is_some(), "request_body_buffer_limit"),
        (!host.request_mirror_policies.is_empty(), "request_mirror_policies"),
    ] {
        cx.unsupported_if(set, field);
    }
}

/// Of a `Route`.
pub(super) fn route(route: &pb::Route, cx: &mut Compile<'_>) {
    for (set, field) in [
        (route.decorator.is_some(), "decorator"),
        (route.tracing.is_some(), "tracing"),
        (route.per_request_buffer_limit_bytes.is_some(), "per_request_buffer_limit_bytes"),
        (route.request_body_buffer_limit.is_some(), "request_body_buffer_limit"),
        (!route.stat_prefix.is_empty(), "stat_prefix"),
    ] {
        cx.unsupported_if(set, field);
    }
}

/// Of a `RouteAction`.
pub(super) fn action(action: &pb::RouteAction, cx: &mut Compile<'_>) {
    for (set, field) in [
        (action.flush_timeout.is_some(), "flush_timeout"),
        (action.early_data_policy.is_some(), "early_data_policy"),
        (action.retry_policy_typed_config.is_some(), "retry_policy_typed_config"),
        (!action.request_mirror_policies.is_empty(), "request_mirror_policies"),
        (!action.rate_limits.is_empty(), "rate_limits"),
        (action.cors.is_some(), "cors"),
        (action.hedge_policy.is_some(), "hedge_policy"),
        (action.internal_redirect_policy.is_some(), "internal_redirect_policy"),
        (action.internal_redirect_action != 0, "internal_redirect_action"),
    ] {
        cx.unsupported_if(set, field);
    }
}

/// Of a `RetryPolicy`.
pub(super) fn retry(policy: &pb::RetryPolicy, cx: &mut Compile<'_>) {
    let is_built = |predicate: &RetryHostPredicate| match &predicate.config_type {
        Some(ConfigType::TypedConfig(any)) => message_of(any) == PreviousHostsPredicate::full_name(),
        None => predicate.name == "envoy.retry_host_predicates.previous_hosts",
    };
    for (set, field) in [
        (policy.retry_priority.is_some(), "retry_priority"),
        (!policy.retry_host_predicate.iter().all(is_built), "retry_host_predicate"),
        (!policy.retry_options_predicates.is_empty(), "retry_options_predicates"),
        (policy.refresh_cluster_on_retry, "refresh_cluster_on_retry"),
    ] {
        cx.unsupported_if(set, field);
    }
}
