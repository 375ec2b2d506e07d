//! `istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig`.

use super::filter::{AlpnFactory, PROTOCOLS};
use nuncio_api::istio::alpn::{FilterConfig, Protocol};
use nuncio_config::compile::{Compile, HttpExtension, Invalid, RouteConfig};
use nuncio_filter::HttpFilterFactory;
use nuncio_stream_info::ApplicationProtocols;
use std::sync::Arc;

/// The extension.
pub struct AlpnExtension;

impl HttpExtension for AlpnExtension {
    type Config = FilterConfig;
    type PerRoute = FilterConfig;
    const NAME: &'static str = "envoy.filters.http.alpn";

    fn compile(config: FilterConfig, cx: &mut Compile<'_>) -> Result<Arc<dyn HttpFilterFactory>, Invalid> {
        let mut offers: [Option<Arc<ApplicationProtocols>>; PROTOCOLS] = [None, None, None];
        for (index, entry) in config.alpn_override.iter().enumerate() {
            let mut cx = cx.element("alpn_override", index);
            let Ok(protocol) = Protocol::try_from(entry.upstream_protocol) else {
                return Err(cx.field("upstream_protocol").error("is no protocol"));
            };
            if let Some(place) = entry.alpn_override.iter().position(|name| !(1..=255).contains(&name.len())) {
                return Err(cx.element("alpn_override", place).error("must have 1 to 255 bytes (RFC 7301 §3.1)"));
            }
            let names: Vec<Vec<u8>> = entry.alpn_override.iter().map(|name| name.clone().into_bytes()).collect();
            // Of two entries for a protocol the first counts, as in Envoy.
            let place = &mut offers[protocol as usize];
            if place.is_none() && !names.is_empty() {
                *place = Some(Arc::new(ApplicationProtocols(names.into())));
            }
        }
        Ok(Arc::new(AlpnFactory::new(offers)))
    }

    fn compile_route(_config: FilterConfig, cx: &mut Compile<'_>) -> Result<RouteConfig, Invalid> {
        Err(cx.error_hint("this filter takes no configuration of routes", "configure it in http_filters"))
    }
}
