//! `envoy.extensions.filters.http.grpc_web.v3.GrpcWeb`.

use super::filter::GrpcWebFactory;
use nuncio_api::pb::envoy::extensions::filters::http::grpc_web::v3::GrpcWeb;
use nuncio_config::compile::{Compile, HttpExtension, Invalid, RouteConfig};
use nuncio_filter::HttpFilterFactory;
use std::sync::Arc;

/// The extension.
pub struct GrpcWebExtension;

impl HttpExtension for GrpcWebExtension {
    type Config = GrpcWeb;
    type PerRoute = GrpcWeb;
    const NAME: &'static str = "envoy.filters.http.grpc_web";

    fn compile(config: GrpcWeb, _cx: &mut Compile<'_>) -> Result<Arc<dyn HttpFilterFactory>, Invalid> {
        let GrpcWeb {} = config;
        Ok(Arc::new(GrpcWebFactory))
    }

    fn compile_route(_config: GrpcWeb, cx: &mut Compile<'_>) -> Result<RouteConfig, Invalid> {
        Err(cx.error_hint("this filter takes no configuration of routes", "configure it in http_filters"))
    }
}
