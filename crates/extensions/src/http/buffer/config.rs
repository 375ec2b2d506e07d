//! `envoy.extensions.filters.http.buffer.v3.Buffer`.

use super::filter::{BufferFactory, RouteBuffer};
use nuncio_api::pb::envoy::extensions::filters::http::buffer::v3::{
    Buffer, BufferPerRoute, buffer_per_route::Override,
};
use nuncio_config::compile::{Compile, HttpExtension, Invalid, RouteConfig};
use nuncio_filter::HttpFilterFactory;
use std::sync::Arc;

/// The extension.
pub struct BufferExtension;

impl HttpExtension for BufferExtension {
    type Config = Buffer;
    type PerRoute = BufferPerRoute;
    const NAME: &'static str = "envoy.filters.http.buffer";

    fn compile(config: Buffer, cx: &mut Compile<'_>) -> Result<Arc<dyn HttpFilterFactory>, Invalid> {
        Ok(Arc::new(BufferFactory { max_request_bytes: max(&config, cx)? }))
    }

    fn compile_route(config: BufferPerRoute, cx: &mut Compile<'_>) -> Result<RouteConfig, Invalid> {
        Ok(Arc::new(match config.r#override {
            Some(Override::Disabled(_)) => RouteBuffer { max_request_bytes: None },
            Some(Override::Buffer(buffer)) => {
                RouteBuffer { max_request_bytes: Some(max(&buffer, &mut cx.field("buffer"))?) }
            }
            None => return Err(cx.error_hint("says nothing", "set disabled or buffer")),
        }))
    }
}

fn max(config: &Buffer, cx: &mut Compile<'_>) -> Result<usize, Invalid> {
    match &config.max_request_bytes {
        Some(max) if max.value > 0 => Ok(max.value as usize),
        _ => Err(cx.field("max_request_bytes").error("is required, and more than 0")),
    }
}
