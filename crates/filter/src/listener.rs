//! Listener filters: what looks at a new connection before a filter chain is chosen.

use nuncio_stream_info::{FilterStateObject, Metadata, ProxiedAddresses};
use std::net::SocketAddr;
use std::sync::Arc;

/// What listener filters found out, for the filter chain match and the logs.
#[derive(Debug, Clone, Default)]
pub struct Peeked {
    /// Where the connection was going before it was redirected here; the filter chain match uses it as the local address.
    pub original_destination: Option<SocketAddr>,
    /// The client's address as a proxy in front told it.
    pub client: Option<SocketAddr>,
    /// `raw_buffer` or `tls`; none if no filter looked.
    pub transport_protocol: Option<&'static str>,
    /// Application protocols: ALPN, or what the bytes look like (`http/1.1`, `h2c`).
    pub application_protocols: Vec<Arc<str>>,
    /// Server name of a TLS hello.
    pub server_name: Option<Arc<str>>,
    /// JA3 fingerprint of a TLS hello.
    pub ja3: Option<Arc<str>>,
    /// JA4 fingerprint of a TLS hello.
    pub ja4: Option<Arc<str>>,
    /// Metadata for the connection.
    pub metadata: Metadata,
    /// Read-only objects for the connection's filter state, by name.
    pub filter_state: Vec<(Arc<str>, Arc<dyn FilterStateObject>)>,
    /// What the PROXY protocol said, to be said again upstream.
    pub proxied: Option<Arc<ProxiedAddresses>>,
}

/// What a listener filter answers to the bytes so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeekStep {
    /// Done; on to the next filter.
    Next,
    /// Takes this many of the bytes that it saw off the connection: what follows the filter chain, and the filters after this
    /// one, start behind them. Then on to the next filter.
    Take(usize),
    /// Not enough bytes to tell; call again with more.
    More,
    /// Close the connection.
    Close,
}

/// One listener filter of one connection. It sees bytes without consuming them.
pub trait ListenerFilter {
    /// How many bytes it may need to see at most; 0 for a filter that only asks the socket.
    fn max_bytes(&self) -> usize;

    /// How many bytes it wants to see at first, at most; more are shown when these were not enough.
    fn first_look(&self) -> usize {
        1024
    }

    /// Looks at the bytes received so far; for a filter with `max_bytes` 0, `data` is empty. `end` says that
    /// `max_bytes` were reached: [`PeekStep::More`] then counts as `Next`. A client that ends before it said enough is not asked
    /// about: its connection is closed.
    fn peek(&mut self, socket: &tokio::net::TcpStream, data: &[u8], end: bool, peeked: &mut Peeked) -> PeekStep;
}

/// Makes listener filters.
pub trait ListenerFilterFactory: Send + Sync {
    /// A filter for one connection.
    fn create(&self) -> Box<dyn ListenerFilter>;

    /// Destination ports for which the filter is skipped (`ListenerFilter.filter_disabled`), decided when its turn
    /// comes, on the address that the filters before it have restored.
    fn disabled_for(&self, destination_port: u16) -> bool {
        let _ = destination_port;
        false
    }
}
