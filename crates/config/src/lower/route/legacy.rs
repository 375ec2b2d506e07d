//! Fields of routes and virtual hosts that are messages of filters by now.

use crate::compile::Compile;
use nuncio_api::pb::envoy::config::route::v3 as pb;
use nuncio_api::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use nuncio_api::wkt::Any;
use nuncio_route::spec::Opaque;
use pb::cors_policy::EnabledSpecifier;
use prost::{Message, Name};

/// `cors`, compiled by the CORS filter; nothing where this build or configuration has none. What is wrong is reported.
pub(super) fn cors(policy: Option<&pb::CorsPolicy>, cx: &mut Compile<'_>) -> Option<Opaque> {
    let pb::CorsPolicy {
        allow_origin_string_match,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        shadow_enabled,
        allow_private_network_access,
        forward_not_matching_preflights,
        enabled_specifier,
    } = policy?.clone();
    let message = CorsPolicy::full_name();
    let registry = cx.registry;
    let entry = registry.http.iter().find(|entry| entry.per_route == message)?;
    let policy = CorsPolicy {
        allow_origin_string_match,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        filter_enabled: enabled_specifier.map(|EnabledSpecifier::FilterEnabled(enabled)| enabled),
        shadow_enabled,
        allow_private_network_access,
        forward_not_matching_preflights,
    };
    let any = Any { type_url: format!("type.googleapis.com/{message}"), value: policy.encode_to_vec() };
    (entry.compile_route)(&any, &mut cx.field("cors")).ok()
}
