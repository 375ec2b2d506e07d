//! `envoy.extensions.filters.http.grpc_http1_bridge.v3.Config`.

use super::filter::{BridgeFactory, BridgeOptions};
use nuncio_api::pb::envoy::extensions::filters::http::grpc_http1_bridge::v3::Config;
use nuncio_config::compile::{Compile, HttpExtension, Invalid, RouteConfig};
use nuncio_filter::HttpFilterFactory;
use std::sync::Arc;

/// The extension.
pub struct GrpcHttp1BridgeExtension;

impl HttpExtension for GrpcHttp1BridgeExtension {
    type Config = Config;
    type PerRoute = Config;
    const NAME: &'static str = "envoy.filters.http.grpc_http1_bridge";

    fn compile(config: Config, _cx: &mut Compile<'_>) -> Result<Arc<dyn HttpFilterFactory>, Invalid> {
        let Config { upgrade_protobuf_to_grpc, ignore_query_parameters } = config;
        Ok(Arc::new(BridgeFactory {
            options: BridgeOptions {
                upgrade_protobuf: upgrade_protobuf_to_grpc,
                ignore_query: ignore_query_parameters,
            },
        }))
    }

    fn compile_route(_config: Config, cx: &mut Compile<'_>) -> Result<RouteConfig, Invalid> {
        Err(cx.error_hint("this filter takes no configuration of routes", "configure it in http_filters"))
    }
}
