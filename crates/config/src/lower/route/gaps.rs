//! What route configurations can say and nothing acts on yet, in one place: whoever builds one of these removes its line.

#![allow(deprecated)] // Deprecated fields are named, too.

use crate::compile::Compile;
use nuncio_api::pb::envoy::config::route::v3 as pb;

/// Of a `RouteConfiguration`.
pub(super) fn config(config: &pb::RouteConfiguration, cx: &mut Compile<'_>) {
    if !config.internal_only_headers.is_empty() {
        cx.refuse("internal_only_headers", "requests from outside would keep these headers");
    }
}

/// Of a `VirtualHost`.
pub(super) fn virtual_host(host: &pb::VirtualHost, cx: &mut Compile<'_>) {
    for (set, field) in [
        (host.retry_policy_typed_config.is_some(), "retry_policy_typed_config"),
        (host.hedge_policy.is_some(), "hedge_policy"),
    ] {
        cx.unsupported_if(set, field);
    }
}

/// Of a `Route`.
pub(super) fn route(route: &pb::Route, cx: &mut Compile<'_>) {
    for (set, field) in [(route.decorator.is_some(), "decorator"), (route.tracing.is_some(), "tracing")] {
        cx.unsupported_if(set, field);
    }
}

/// Of a `RouteAction`.
pub(super) fn action(action: &pb::RouteAction, cx: &mut Compile<'_>) {
    for (set, field) in [
        (action.flush_timeout.is_some(), "flush_timeout"),
        (action.early_data_policy.is_some(), "early_data_policy"),
        (action.retry_policy_typed_config.is_some(), "retry_policy_typed_config"),
        (action.hedge_policy.is_some(), "hedge_policy"),
    ] {
        cx.unsupported_if(set, field);
    }
}

/// Of a `RetryPolicy`.
pub(super) fn retry(policy: &pb::RetryPolicy, cx: &mut Compile<'_>) {
    cx.unsupported_if(!policy.retry_options_predicates.is_empty(), "retry_options_predicates");
    cx.unsupported_if(policy.refresh_cluster_on_retry, "refresh_cluster_on_retry");
}
