//! Which cluster a connection goes to, and what the choice of a host within it depends on.

use super::filter::TcpProxy;
use nuncio_filter::Connection;
use nuncio_lb::hash_bytes;
use nuncio_stream_info::{StreamInfo, Struct};
use std::sync::Arc;

/// A cluster and its share of the connections.
pub(super) struct ClusterWeight {
    pub name: Arc<str>,
    pub weight: u32,
    /// Labels that its hosts should have.
    pub labels: Option<Arc<Struct>>,
}

/// What hashing load balancers find the host by.
#[derive(Clone)]
pub(super) enum HashInput {
    SourceIp,
    FilterState(Arc<str>),
}

impl TcpProxy {
    /// The cluster that a random number falls to; none if all weigh 0.
    pub(super) fn choose(&self, random: u64) -> Option<&ClusterWeight> {
        let total: u64 = self.clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
        let mut at = random % total.max(1);
        for cluster in &self.clusters {
            if at < u64::from(cluster.weight) {
                return Some(cluster);
            }
            at -= u64::from(cluster.weight);
        }
        None
    }

    /// The labels that the host should have: those of configuration, replaced by those of dynamic metadata.
    pub(super) fn wanted_labels(&self, info: &StreamInfo) -> Option<Arc<Struct>> {
        let mut labels = self.labels.clone();
        if let Some(more) = info.dynamic_metadata().and_then(|metadata| metadata.namespace("envoy.lb")) {
            let merged = Arc::make_mut(labels.get_or_insert_default());
            more.iter().for_each(|(name, value)| {
                merged.set(name, value.clone());
            });
        }
        labels
    }

    /// What hashing policies find the host by.
    pub(super) fn hash(&self, connection: &Connection, info: &StreamInfo) -> Option<u64> {
        match self.hash.as_ref()? {
            HashInput::SourceIp => Some(hash_bytes(connection.info.remote.ip()?.to_string().as_bytes(), 0)),
            HashInput::FilterState(key) => {
                info.filter_state.get(key)?.to_plain().map(|text| hash_bytes(text.as_bytes(), 0))
            }
        }
    }
}
