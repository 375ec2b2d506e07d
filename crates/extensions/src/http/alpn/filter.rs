//! Leaving what is offered in the filter state, where the router finds it.

use super::super::grpc;
use nuncio_cluster::config::UpstreamProtocol;
use nuncio_filter::{End, HttpFilter, HttpFilterFactory, Interest, Step, Stream, Worker};
use nuncio_stream_info::{
    ApplicationProtocols, FilterStateObject, LifeSpan, Metadata, Mutability, Protocol, Sharing, Value,
};
use std::rc::Rc;
use std::sync::Arc;

/// HTTP/1.0, HTTP/1.1 and HTTP/2.
pub(super) const PROTOCOLS: usize = 3;

/// What is offered, by what is spoken to the host.
pub(super) struct AlpnFactory {
    offers: Arc<[Option<Arc<ApplicationProtocols>>; PROTOCOLS]>,
    key: Arc<str>,
}

impl AlpnFactory {
    pub(super) fn new(offers: [Option<Arc<ApplicationProtocols>>; PROTOCOLS]) -> AlpnFactory {
        AlpnFactory { offers: Arc::new(offers), key: ApplicationProtocols::KEY.into() }
    }
}

impl HttpFilterFactory for AlpnFactory {
    fn create(&self, _worker: &Rc<Worker>) -> Box<dyn HttpFilter> {
        Box::new(AlpnFilter { offers: Arc::clone(&self.offers), key: Arc::clone(&self.key) })
    }

    fn interest(&self) -> Interest {
        Interest::REQUEST_HEADERS
    }
}

struct AlpnFilter {
    offers: Arc<[Option<Arc<ApplicationProtocols>>; PROTOCOLS]>,
    key: Arc<str>,
}

/// The place of what is spoken to a host among the offers.
pub(super) fn spoken(wanted: UpstreamProtocol, downstream: Option<Protocol>) -> usize {
    match (wanted, downstream) {
        (UpstreamProtocol::Http1, _) => 1,
        // Of what the handshake may choose the best, as in Envoy.
        (UpstreamProtocol::Http2 | UpstreamProtocol::Auto, _) => 2,
        (UpstreamProtocol::Downstream, Some(Protocol::Http10)) => 0,
        (UpstreamProtocol::Downstream, Some(Protocol::Http2 | Protocol::Http3)) => 2,
        (UpstreamProtocol::Downstream, Some(Protocol::Http11) | None) => 1,
    }
}

/// Whether the cluster is one whose offers stay as configured.
pub(super) fn is_exempt(metadata: Option<&Metadata>) -> bool {
    let value = metadata.and_then(|metadata| metadata.get("istio", &["alpn_override"]));
    value.and_then(Value::as_str) == Some("false")
}

impl HttpFilter for AlpnFilter {
    fn request_headers(&mut self, stream: &mut Stream<'_>, _end: End) -> Step {
        let Some(cluster) = grpc::cluster(stream) else { return Step::Next };
        let config = &cluster.info.config;
        if is_exempt(config.metadata.as_deref()) {
            return Step::Next;
        }
        let place = spoken(config.http.protocol, stream.info.protocol);
        if let Some(Some(offer)) = self.offers.get(place) {
            let object: Arc<dyn FilterStateObject> = Arc::clone(offer) as _;
            // What another filter chose stays: it is read-only, as in Envoy.
            let _ = stream.info.filter_state.set(
                Arc::clone(&self.key),
                object,
                Mutability::ReadOnly,
                LifeSpan::FilterChain,
                Sharing::None,
            );
        }
        Step::Next
    }
}
