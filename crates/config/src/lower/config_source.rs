//! `ConfigSource` and `ApiConfigSource`.

use super::grpc_service::grpc_service;
use super::number::{Wrapped, duration_field};
use crate::compile::{Compile, Invalid};
use crate::sources::{ApiKind, ApiSource, FileSource, From, INITIAL_FETCH_TIMEOUT, Source};
use nuncio_api::pb::envoy::config::core::v3 as core;
use std::sync::Arc;
use std::time::Duration;

/// The waits between two streams, where the service does not name its own.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// `request_timeout`, where none is given.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// A `ConfigSource`.
pub fn config_source(source: &core::ConfigSource, cx: &mut Compile<'_>) -> Result<Source, Invalid> {
    use core::config_source::ConfigSourceSpecifier as Kind;
    let core::ConfigSource { authorities, initial_fetch_timeout, resource_api_version: _, config_source_specifier } =
        source;
    cx.unsupported_if(!authorities.is_empty(), "authorities");
    let timeout = duration_field(initial_fetch_timeout, "initial_fetch_timeout", cx);
    #[allow(deprecated)]
    let from = match config_source_specifier {
        Some(Kind::Ads(_)) => {
            if !cx.facts.has_ads {
                return Err(cx.field("ads").error_hint("there is no ADS", "set dynamic_resources.ads_config"));
            }
            From::Ads
        }
        // From where the resource came that names it: resources that can are sent over ADS.
        Some(Kind::Self_(_)) if cx.facts.has_ads => From::Ads,
        Some(Kind::Self_(_)) => return Err(cx.field("self").error_hint("is only built over ADS", "set ads")),
        Some(Kind::ApiConfigSource(api)) => From::Api(Arc::new(api_source(api, &mut cx.field("api_config_source"))?)),
        Some(Kind::PathConfigSource(file)) => From::File(FileSource {
            path: file.path.as_str().into(),
            watched_directory: file.watched_directory.as_ref().map(|directory| directory.path.as_str().into()),
        }),
        Some(Kind::Path(path)) => From::File(FileSource { path: path.as_str().into(), watched_directory: None }),
        None => return Err(cx.error_hint("names no source", "set ads, api_config_source or path_config_source")),
    };
    let initial_fetch_timeout = Some(timeout?.unwrap_or(INITIAL_FETCH_TIMEOUT)).filter(|timeout| !timeout.is_zero());
    Ok(Source { from, initial_fetch_timeout, digest: crate::tls::digest_of(source) })
}

/// An `ApiConfigSource`, as of `ads_config` and `api_config_source`.
pub fn api_source(api: &core::ApiConfigSource, cx: &mut Compile<'_>) -> Result<ApiSource, Invalid> {
    use core::api_config_source::ApiType;
    let kind = match ApiType::try_from(api.api_type) {
        Ok(ApiType::Rest) => ApiKind::Rest,
        Ok(ApiType::Grpc | ApiType::AggregatedGrpc) => ApiKind::Grpc,
        Ok(ApiType::DeltaGrpc | ApiType::AggregatedDeltaGrpc) => ApiKind::DeltaGrpc,
        _ => return Err(cx.field("api_type").error("is no way to get resources: use GRPC, DELTA_GRPC or REST")),
    };
    let core::ApiConfigSource {
        api_type: _,
        transport_api_version,
        cluster_names,
        grpc_services,
        refresh_delay,
        request_timeout,
        rate_limit_settings,
        set_node_on_first_message_only,
        config_validators,
    } = api;
    #[allow(deprecated)]
    if *transport_api_version == core::ApiVersion::V2 as i32 {
        return Err(cx.field("transport_api_version").error("the API's version 2 is gone: use V3"));
    }
    cx.unsupported_if(!config_validators.is_empty(), "config_validators");
    let before = cx.errors();
    let service = match (kind, grpc_services.as_slice()) {
        (ApiKind::Rest, _) => None,
        (_, []) => return Err(cx.field("grpc_services").error("is required for gRPC")),
        (_, [first, more @ ..]) => {
            if !more.is_empty() {
                let text = "has several services: the first one is used, and the others if xDS failover were built";
                cx.field("grpc_services").warn(text);
            }
            grpc_service(first, &mut cx.element("grpc_services", 0)).ok()
        }
    };
    if kind == ApiKind::Rest && cluster_names.len() != 1 {
        cx.field("cluster_names").error("REST needs exactly one cluster");
    }
    for name in cluster_names {
        cx.field("cluster_names").cluster(name);
    }
    let refresh_delay = duration_field(refresh_delay, "refresh_delay", cx);
    if kind == ApiKind::Rest && matches!(refresh_delay, Ok(None)) {
        cx.field("refresh_delay").error("is required for REST");
    }
    let request_timeout = duration_field(request_timeout, "request_timeout", cx);
    cx.unless_errors_since(before)?;
    let rate_limit = rate_limit_settings.as_ref().map(|settings| {
        (settings.max_tokens.value_or(100), settings.fill_rate.as_ref().map_or(10.0, |rate| rate.value))
    });
    Ok(ApiSource {
        kind,
        service,
        back_off: grpc_services.first().and_then(back_off).unwrap_or(BACK_OFF),
        clusters: cluster_names.iter().map(|name| name.as_str().into()).collect(),
        refresh_delay: refresh_delay?.unwrap_or_default(),
        request_timeout: request_timeout?.unwrap_or(REQUEST_TIMEOUT),
        node_on_first_only: *set_node_on_first_message_only,
        rate_limit,
    })
}

/// `envoy_grpc.retry_policy.retry_back_off`: of streams it is the wait between two of them.
fn back_off(service: &core::GrpcService) -> Option<(Duration, Duration)> {
    use core::grpc_service::TargetSpecifier::EnvoyGrpc;
    let Some(EnvoyGrpc(envoy)) = &service.target_specifier else { return None };
    let back_off = envoy.retry_policy.as_ref()?.retry_back_off.as_ref()?;
    let base = back_off.base_interval.as_ref().and_then(super::duration)?;
    let max = back_off.max_interval.as_ref().and_then(super::duration).unwrap_or(base.saturating_mul(10));
    Some((base, max))
}
