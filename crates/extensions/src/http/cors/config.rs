//! `envoy.extensions.filters.http.cors.v3`: the filter itself says nothing, its routes do.

use super::filter::{CorsFactory, Policy};
use nuncio_api::pb::envoy::extensions::filters::http::cors::v3::{Cors, CorsPolicy};
use nuncio_config::compile::{Compile, HttpExtension, Invalid, RouteConfig};
use nuncio_config::lower;
use nuncio_filter::HttpFilterFactory;
use nuncio_stats::names::CorsStats;
use std::sync::Arc;

/// The extension.
pub struct CorsExtension;

impl HttpExtension for CorsExtension {
    type Config = Cors;
    type PerRoute = CorsPolicy;
    const NAME: &'static str = "envoy.filters.http.cors";

    fn compile(config: Cors, cx: &mut Compile<'_>) -> Result<Arc<dyn HttpFilterFactory>, Invalid> {
        let Cors {} = config;
        Ok(Arc::new(CorsFactory { stats: CorsStats::register(&cx.scope.child("cors")) }))
    }

    fn compile_route(config: CorsPolicy, cx: &mut Compile<'_>) -> Result<RouteConfig, Invalid> {
        let CorsPolicy {
            allow_origin_string_match,
            allow_methods,
            allow_headers,
            expose_headers,
            max_age,
            allow_credentials,
            filter_enabled,
            shadow_enabled,
            allow_private_network_access,
            forward_not_matching_preflights,
        } = config;
        Ok(Arc::new(Policy {
            origins: lower::strings(&allow_origin_string_match, "allow_origin_string_match", cx)?.into(),
            methods: allow_methods.into(),
            headers: allow_headers.into(),
            expose: expose_headers.into(),
            max_age: max_age.into(),
            credentials: allow_credentials.map(|allow| allow.value),
            private_network: allow_private_network_access.map(|allow| allow.value),
            forward_not_matching: forward_not_matching_preflights.map(|forward| forward.value),
            enabled: filter_enabled.as_ref().map(lower::runtime_fraction),
            shadow: shadow_enabled.as_ref().map(lower::runtime_fraction),
        }))
    }
}
