//! Taking the peer's headers off, and putting ours on.

use super::super::grpc;
use super::cache::PeerCache;
use crate::istio::workload::{
    DOWNSTREAM_PEER, DOWNSTREAM_PEER_OBJECT, Labels, UPSTREAM_PEER, UPSTREAM_PEER_OBJECT, Workload,
};
use nuncio_filter::{End, HttpFilter, HttpFilterFactory, Interest, Step, Stream, Worker};
use nuncio_headers::{HeaderMap, HeaderName};
use nuncio_stream_info::{FilterStateObject, LifeSpan, Metadata, Mutability, Sharing, StreamInfo, Value};
use std::rc::Rc;
use std::sync::Arc;

/// A way to find the peer out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Discover {
    /// Istio's headers.
    Headers,
    /// The `baggage` header of requests.
    Baggage,
}

/// How the peer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tell {
    /// `skip_external_clusters`.
    pub skip_external_clusters: bool,
}

/// The configuration.
pub(super) struct Exchange {
    pub from_client: Vec<Discover>,
    pub from_server: Vec<Discover>,
    pub to_client: Option<Tell>,
    pub to_server: Option<Tell>,
    pub shared_with_upstream: bool,
    pub labels: Labels,
    /// Of the labels.
    pub digest: u64,
    /// `node.id`.
    pub id: Box<[u8]>,
    /// What this proxy stands before, as the header says it.
    pub value: Box<[u8]>,
}

pub(super) struct PeerMetadataFactory {
    exchange: Arc<Exchange>,
    names: Arc<Names>,
}

struct Names {
    id: Option<HeaderName>,
    value: Option<HeaderName>,
    baggage: Option<HeaderName>,
    downstream: [Arc<str>; 2],
    upstream: [Arc<str>; 2],
}

impl PeerMetadataFactory {
    pub(super) fn new(exchange: Exchange) -> PeerMetadataFactory {
        let names = Names {
            id: HeaderName::new("x-envoy-peer-metadata-id").ok(),
            value: HeaderName::new("x-envoy-peer-metadata").ok(),
            baggage: HeaderName::new("baggage").ok(),
            downstream: [DOWNSTREAM_PEER.into(), DOWNSTREAM_PEER_OBJECT.into()],
            upstream: [UPSTREAM_PEER.into(), UPSTREAM_PEER_OBJECT.into()],
        };
        PeerMetadataFactory { exchange: Arc::new(exchange), names: Arc::new(names) }
    }
}

impl HttpFilterFactory for PeerMetadataFactory {
    fn create(&self, worker: &Rc<Worker>) -> Box<dyn HttpFilter> {
        Box::new(PeerMetadataFilter {
            exchange: Arc::clone(&self.exchange),
            names: Arc::clone(&self.names),
            peers: worker.services().get_or_insert_with(PeerCache::default),
            asked_for_id: false,
            asked_for_value: false,
        })
    }

    fn interest(&self) -> Interest {
        Interest::REQUEST_HEADERS.and(Interest::RESPONSE_HEADERS)
    }
}

struct PeerMetadataFilter {
    exchange: Arc<Exchange>,
    names: Arc<Names>,
    peers: Rc<PeerCache>,
    /// The client said its id, and so it is told ours.
    asked_for_id: bool,
    /// The client said what it is, and so it is told what we are.
    asked_for_value: bool,
}

impl PeerMetadataFilter {
    /// What a message says of its sender. Istio's headers are taken off.
    fn discover(&self, methods: &[Discover], headers: &mut HeaderMap) -> Option<Arc<Workload>> {
        let get = |headers: &HeaderMap, name: &Option<HeaderName>| {
            name.as_ref().and_then(|name| headers.get_name(name)).filter(|value| !value.is_empty()).map(<[u8]>::to_vec)
        };
        let mut found = None;
        for method in methods {
            found = match method {
                Discover::Headers => {
                    let name = self.names.value.as_ref();
                    let header = name.and_then(|name| headers.get_name(name)).filter(|value| !value.is_empty());
                    header.and_then(|header| self.peers.find(header, &self.exchange.labels, self.exchange.digest))
                }
                Discover::Baggage => {
                    let header = get(headers, &self.names.baggage);
                    let text = header.as_deref().and_then(|header| std::str::from_utf8(header).ok());
                    text.and_then(Workload::of_baggage).map(Arc::new)
                }
            };
            if found.is_some() {
                break;
            }
        }
        if methods.contains(&Discover::Headers) {
            for name in [&self.names.id, &self.names.value].into_iter().flatten() {
                headers.remove(name);
            }
        }
        found
    }

    fn put(&self, names: &[Arc<str>; 2], workload: &Arc<Workload>, info: &mut StreamInfo) {
        let [peer, object] = names;
        if info.filter_state.get(peer).is_some() {
            return;
        }
        let sharing = match self.exchange.shared_with_upstream {
            true => Sharing::SharedWithUpstreamOnce,
            false => Sharing::None,
        };
        for name in [peer, object] {
            let workload: Arc<dyn FilterStateObject> = Arc::clone(workload) as _;
            // What a listener's filter found out about the connection stays.
            let _ =
                info.filter_state.set(Arc::clone(name), workload, Mutability::Mutable, LifeSpan::FilterChain, sharing);
        }
    }
}

/// Whether the hosts of a cluster are told nothing.
pub(super) fn is_left_out(tell: Tell, cluster: &str, metadata: Option<&Metadata>) -> bool {
    let is_set = |field| metadata.and_then(|metadata| metadata.get("istio", &[field])) == Some(&Value::Bool(true));
    let external = tell.skip_external_clusters && (cluster == "PassthroughCluster" || is_set("external"));
    external || is_set("disable_mx")
}

impl HttpFilter for PeerMetadataFilter {
    fn request_headers(&mut self, stream: &mut Stream<'_>, _end: End) -> Step {
        let exchange = Arc::clone(&self.exchange);
        if exchange.from_client.contains(&Discover::Headers) {
            let has =
                |name: &Option<HeaderName>| name.as_ref().is_some_and(|name| stream.request.get_name(name).is_some());
            (self.asked_for_id, self.asked_for_value) = (has(&self.names.id), has(&self.names.value));
        }
        if let Some(workload) = self.discover(&exchange.from_client, stream.request) {
            self.put(&self.names.downstream, &workload, stream.info);
        }
        let Some(tell) = exchange.to_server else { return Step::Next };
        let cluster = grpc::cluster(stream);
        let config = cluster.as_ref().map(|cluster| &cluster.info.config);
        if !config.is_some_and(|config| is_left_out(tell, &config.name, config.metadata.as_deref())) {
            self.tell(stream.request, true, true);
        }
        Step::Next
    }

    fn response_headers(&mut self, stream: &mut Stream<'_>, _end: End) -> Step {
        let exchange = Arc::clone(&self.exchange);
        if let Some(workload) = self.discover(&exchange.from_server, stream.response) {
            self.put(&self.names.upstream, &workload, stream.info);
        }
        let Some(tell) = exchange.to_client else { return Step::Next };
        let cluster = stream.info.upstream.cluster.as_ref();
        if !cluster.is_some_and(|cluster| is_left_out(tell, &cluster.name, cluster.metadata.as_deref())) {
            self.tell(stream.response, self.asked_for_id, self.asked_for_value);
        }
        Step::Next
    }
}

impl PeerMetadataFilter {
    fn tell(&self, headers: &mut HeaderMap, id: bool, value: bool) {
        if let Some(name) = self.names.id.as_ref().filter(|_| id) {
            headers.set(name, &self.exchange.id);
        }
        if let Some(name) = self.names.value.as_ref().filter(|_| value) {
            headers.set(name, &self.exchange.value);
        }
    }
}
