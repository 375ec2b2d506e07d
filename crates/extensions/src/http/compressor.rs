//! `envoy.extensions.filters.http.compressor.v3.Compressor`: accepted, and reported as having no effect, since compression is not
//! built yet. Messages leave as they are, which every client must understand (RFC 9110 §12.5.3); the bootstrap that Istio's agent
//! writes names the filter in front of the metrics.

use nuncio_api::pb::envoy::extensions::filters::http::compressor::v3::{
    Compressor, CompressorPerRoute, compressor_per_route::Override,
};
use nuncio_config::compile::{Compile, HttpExtension, Invalid, RouteConfig};
use nuncio_filter::{HttpFilter, HttpFilterFactory, Interest, Worker};
use std::rc::Rc;
use std::sync::Arc;

/// The extension.
pub struct CompressorExtension;

impl HttpExtension for CompressorExtension {
    type Config = Compressor;
    type PerRoute = CompressorPerRoute;
    const NAME: &'static str = "envoy.filters.http.compressor";

    fn compile(config: Compressor, cx: &mut Compile<'_>) -> Result<Arc<dyn HttpFilterFactory>, Invalid> {
        if config.compressor_library.is_none() {
            return Err(cx.field("compressor_library").error("is required"));
        }
        cx.unsupported("compressor_library");
        Ok(Arc::new(Factory))
    }

    fn compile_route(config: CompressorPerRoute, cx: &mut Compile<'_>) -> Result<RouteConfig, Invalid> {
        cx.unsupported_if(matches!(config.r#override, Some(Override::Overrides(_))), "overrides");
        Ok(Arc::new(()))
    }
}

struct Factory;

impl HttpFilterFactory for Factory {
    fn create(&self, _worker: &Rc<Worker>) -> Box<dyn HttpFilter> {
        Box::new(Identity)
    }

    fn interest(&self) -> Interest {
        Interest::NONE
    }
}

/// Leaves messages as they are.
struct Identity;

impl HttpFilter for Identity {}
