//! Filters of connections to hosts: `Cluster.filters`.

use nuncio_io::transport::Transport;
use nuncio_stream_info::ConnectionState;
use std::fmt;
use std::sync::Arc;

/// A connection to a host as its filters see it, once its handshake is over.
pub struct UpstreamOpened<'a> {
    /// The bytes.
    pub transport: Transport,
    /// The protocol that both sides agreed on (ALPN).
    pub protocol: Option<&'a str>,
    /// What filters leave for others to see.
    pub state: &'a ConnectionState,
}

/// Makes filters of connections to hosts.
pub trait UpstreamFilterFactory: Send + Sync {
    /// The connection as the filter carries it on.
    fn carry(&self, opened: UpstreamOpened<'_>) -> Transport;
}

/// The filters of a cluster, in the order of the configuration.
pub struct UpstreamFilters {
    /// Bytes of what they were made of.
    pub identity: Box<[u8]>,
    /// What makes them.
    pub factories: Vec<Arc<dyn UpstreamFilterFactory>>,
}

impl PartialEq for UpstreamFilters {
    /// Equal configurations make equal filters.
    fn eq(&self, other: &UpstreamFilters) -> bool {
        self.identity == other.identity
    }
}

impl fmt::Debug for UpstreamFilters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpstreamFilters({})", self.factories.len())
    }
}
