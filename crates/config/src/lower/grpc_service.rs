//! `GrpcService`: services that the proxy itself calls.

use super::number::{Wrapped, duration_field};
use crate::compile::{Compile, Invalid};
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_filter::grpc::{GrpcRetry, GrpcService};
use nuncio_headers::HeaderName;

/// A `GrpcService`. Only `envoy_grpc` is built: its cluster is one of the configuration.
pub fn grpc_service(service: &core::GrpcService, cx: &mut Compile<'_>) -> Result<GrpcService, Invalid> {
    use core::grpc_service::TargetSpecifier;
    let core::GrpcService { timeout, initial_metadata, retry_policy, target_specifier } = service;
    let before = cx.errors();
    let envoy = match target_specifier {
        Some(TargetSpecifier::EnvoyGrpc(envoy)) => envoy,
        Some(TargetSpecifier::GoogleGrpc(_)) => {
            return Err(cx.field("google_grpc").error_hint("is not built", "use envoy_grpc with a cluster"));
        }
        None => return Err(cx.error_hint("names no service", "set envoy_grpc with a cluster")),
    };
    let mut at = cx.field("envoy_grpc");
    let core::grpc_service::EnvoyGrpc {
        cluster_name,
        authority,
        retry_policy: own_retry,
        max_receive_message_length,
        skip_envoy_headers,
    } = envoy;
    at.unsupported_if(max_receive_message_length.is_some(), "max_receive_message_length");
    at.unsupported_if(*skip_envoy_headers, "skip_envoy_headers");
    at.field("cluster_name").cluster(cluster_name);
    let timeout = duration_field(timeout, "timeout", cx);
    let mut metadata = Vec::with_capacity(initial_metadata.len());
    for (index, header) in initial_metadata.iter().enumerate() {
        let mut cx = cx.element("initial_metadata", index);
        let value = if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value };
        match HeaderName::new(&header.key) {
            Ok(name) => metadata.push((name, value.into())),
            Err(error) => {
                cx.field("key").error(error.to_string());
            }
        }
    }
    let retry = own_retry.as_ref().or(retry_policy.as_ref()).map(|policy| retry(policy, cx)).unwrap_or_default();
    cx.unless_errors_since(before)?;
    Ok(GrpcService {
        cluster: cluster_name.as_str().into(),
        authority: (!authority.is_empty()).then(|| authority.as_str().into()),
        timeout: timeout?.filter(|timeout| !timeout.is_zero()),
        initial_metadata: metadata,
        retry,
    })
}

fn retry(policy: &core::RetryPolicy, cx: &mut Compile<'_>) -> GrpcRetry {
    let mut cx = cx.field("retry_policy");
    let defaults = GrpcRetry::default();
    let core::RetryPolicy {
        retry_back_off,
        num_retries,
        retry_on,
        retry_priority,
        retry_host_predicate,
        host_selection_retry_max_attempts,
    } = policy;
    cx.unsupported_if(!retry_on.is_empty(), "retry_on");
    cx.unsupported_if(retry_priority.is_some(), "retry_priority");
    cx.unsupported_if(!retry_host_predicate.is_empty(), "retry_host_predicate");
    cx.unsupported_if(*host_selection_retry_max_attempts != 0, "host_selection_retry_max_attempts");
    let back_off = retry_back_off.as_ref();
    let base = back_off.and_then(|back_off| back_off.base_interval.as_ref()).and_then(super::duration);
    let base = base.unwrap_or(defaults.base_interval);
    let longest = back_off.and_then(|back_off| back_off.max_interval.as_ref()).and_then(super::duration);
    GrpcRetry {
        retries: num_retries.value_or(1),
        base_interval: base,
        max_interval: longest.unwrap_or(base.saturating_mul(10)),
    }
}
