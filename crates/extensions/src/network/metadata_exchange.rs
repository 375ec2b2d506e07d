//! `envoy.tcp.metadataexchange.config.MetadataExchange`: Istio's metadata exchange over TCP, on connections of clients and, as
//! a filter of a cluster, on those to hosts.

use crate::istio::exchange::Exchange;
use crate::istio::workload::{DOWNSTREAM_PEER, Labels, UPSTREAM_PEER, Workload};
use nuncio_api::istio::metadata_exchange::MetadataExchange;
use nuncio_cluster::config::{UpstreamFilterFactory, UpstreamOpened};
use nuncio_config::compile::{Compile, Invalid, NetworkExtension, NetworkFactory, UpstreamExtension};
use nuncio_filter::{Connection, NetworkFilter, NetworkFilterFactory, Worker};
use nuncio_io::transport::Transport;
use nuncio_stats::Scope;
use nuncio_stats::names::MetadataExchangeStats;
use std::rc::Rc;
use std::sync::Arc;

/// The extension for connections of clients.
pub struct MetadataExchangeExtension;

impl NetworkExtension for MetadataExchangeExtension {
    type Config = MetadataExchange;
    const NAME: &'static str = "envoy.filters.network.metadata_exchange";

    fn compile(config: MetadataExchange, cx: &mut Compile<'_>) -> Result<NetworkFactory, Invalid> {
        let scope = cx.store.scope("metadata_exchange", &[]);
        Ok(NetworkFactory::Filter(Arc::new(Factory(exchange(config, DOWNSTREAM_PEER, &scope, cx)))))
    }
}

/// The extension for connections to hosts.
pub struct UpstreamMetadataExchange;

impl UpstreamExtension for UpstreamMetadataExchange {
    type Config = MetadataExchange;
    const NAME: &'static str = "envoy.filters.network.upstream.metadata_exchange";

    fn compile(config: MetadataExchange, cx: &mut Compile<'_>) -> Result<Arc<dyn UpstreamFilterFactory>, Invalid> {
        let scope = cx.scope.child("metadata_exchange");
        Ok(Arc::new(Factory(exchange(config, UPSTREAM_PEER, &scope, cx))))
    }
}

fn exchange(config: MetadataExchange, peer: &'static str, scope: &Scope, cx: &mut Compile<'_>) -> Arc<Exchange> {
    // `enable_discovery` asks workload discovery, which tells nothing while its bootstrap extension is not built: as in an Envoy
    // without it.
    let MetadataExchange { protocol, enable_discovery: _, additional_labels } = config;
    if protocol.is_empty() {
        cx.field("protocol").warn("is empty: nothing is exchanged");
    }
    let labels: Labels = additional_labels.into_iter().map(String::into_boxed_str).collect();
    let own = Workload::from_metadata(&cx.facts.node.metadata, &labels);
    Arc::new(Exchange {
        protocol: protocol.into(),
        own: Exchange::message(&own, &cx.facts.node_id),
        labels,
        stats: MetadataExchangeStats::register(scope),
        peer,
    })
}

struct Factory(Arc<Exchange>);

impl NetworkFilterFactory for Factory {
    fn create(&self, _worker: &Rc<Worker>) -> Box<dyn NetworkFilter> {
        Box::new(Filter(Arc::clone(&self.0)))
    }
}

struct Filter(Arc<Exchange>);

impl NetworkFilter for Filter {
    fn carry(&mut self, connection: &mut Connection) {
        let taken = Transport::Other(Box::new(tokio::io::empty()));
        let transport = std::mem::replace(&mut connection.transport, taken);
        let protocol = connection.negotiated_protocol.as_deref();
        connection.transport = self.0.carry(transport, protocol, &connection.info.filter_state);
    }
}

impl UpstreamFilterFactory for Factory {
    fn carry(&self, opened: UpstreamOpened<'_>) -> Transport {
        let UpstreamOpened { transport, protocol, state } = opened;
        self.0.carry(transport, protocol, state)
    }
}
