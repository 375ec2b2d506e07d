//! `io.istio.http.peer_metadata.Config`.

use super::cache::digest;
use super::filter::{Discover, Exchange, PeerMetadataFactory, Tell};
use crate::base64;
use crate::istio::workload::{Labels, Workload};
use nuncio_api::istio::peer_metadata::{
    Config, Discovery, DiscoveryMethod, IstioHeaders, Propagation, PropagationMethod,
};
use nuncio_config::compile::{Compile, HttpExtension, Invalid, RouteConfig};
use nuncio_filter::HttpFilterFactory;
use std::sync::Arc;

/// The extension.
pub struct PeerMetadataExtension;

impl HttpExtension for PeerMetadataExtension {
    type Config = Config;
    type PerRoute = Config;
    const NAME: &'static str = "envoy.filters.http.peer_metadata";

    fn compile(config: Config, cx: &mut Compile<'_>) -> Result<Arc<dyn HttpFilterFactory>, Invalid> {
        let Config {
            downstream_discovery,
            upstream_discovery,
            downstream_propagation,
            upstream_propagation,
            shared_with_upstream,
            additional_labels,
        } = config;
        let labels: Labels = additional_labels.into_iter().map(String::into_boxed_str).collect();
        let own = Workload::of_node(&cx.facts.node, &labels);
        let exchange = Exchange {
            from_client: discovery(&downstream_discovery),
            from_server: {
                let baggage = |method: &DiscoveryMethod| matches!(method.method_specifier, Some(Discovery::Baggage(_)));
                if let Some(index) = upstream_discovery.iter().position(baggage) {
                    cx.element("upstream_discovery", index).warn("does nothing: servers send no baggage");
                }
                discovery(&upstream_discovery)
            },
            to_client: propagation(&downstream_propagation),
            to_server: propagation(&upstream_propagation),
            shared_with_upstream,
            digest: digest(&labels),
            labels,
            id: cx.facts.node_id.as_bytes().into(),
            value: base64::encode(&own.to_wire()).into(),
        };
        Ok(Arc::new(PeerMetadataFactory::new(exchange)))
    }

    fn compile_route(_config: Config, cx: &mut Compile<'_>) -> Result<RouteConfig, Invalid> {
        Err(cx.error_hint("this filter takes no configuration of routes", "configure it in http_filters"))
    }
}

/// Workload discovery finds nothing while its bootstrap extension is not built, as in an Envoy without it.
fn discovery(methods: &[DiscoveryMethod]) -> Vec<Discover> {
    let one = |method: &DiscoveryMethod| match method.method_specifier {
        Some(Discovery::IstioHeaders(_)) => Some(Discover::Headers),
        Some(Discovery::Baggage(_)) => Some(Discover::Baggage),
        Some(Discovery::WorkloadDiscovery(_)) | None => None,
    };
    methods.iter().filter_map(one).collect()
}

/// Ways to tell differ only in whom they leave out: one that leaves out fewer is all there need be.
fn propagation(methods: &[PropagationMethod]) -> Option<Tell> {
    let skips = methods.iter().filter_map(|method| {
        method
            .method_specifier
            .map(|Propagation::IstioHeaders(IstioHeaders { skip_external_clusters })| skip_external_clusters)
    });
    skips.reduce(|one, other| one && other).map(|skip_external_clusters| Tell { skip_external_clusters })
}
