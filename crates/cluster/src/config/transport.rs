//! How connections to hosts are carried: `transport_socket` and `transport_socket_matches`.

use nuncio_stats::names::TlsSocketFactoryStats;
use nuncio_stream_info::{Metadata, Struct};
use nuncio_tls::ClientContext;
use std::fmt;
use std::sync::Arc;

/// The namespace of a host's metadata that `transport_socket_matches` look at.
const MATCH_NAMESPACE: &str = "envoy.transport_socket_match";

/// The transport sockets of a cluster.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Transports {
    /// `transport_socket`.
    pub default: Transport,
    /// `transport_socket_matches`, in order.
    pub matches: Vec<TransportMatch>,
}

impl Transports {
    /// The match for a host: the first one whose every field is in the metadata of its endpoint, else the first one whose
    /// fields are all in that of its locality. None: the default transport.
    pub fn choose(&self, endpoint: Option<&Metadata>, locality: Option<&Metadata>) -> Option<u16> {
        let of = |metadata: Option<&Metadata>| {
            self.position(metadata.and_then(|metadata| metadata.namespace(MATCH_NAMESPACE)))
        };
        if self.matches.is_empty() {
            return None;
        }
        of(endpoint).or_else(|| of(locality))
    }

    /// The transport of a host, as [`Transports::choose`] found it.
    pub fn of_host(&self, chosen: Option<u16>) -> &Transport {
        let found = chosen.and_then(|position| self.matches.get(usize::from(position)));
        found.map_or(&self.default, |entry| &entry.transport)
    }

    /// The transport that these fields choose.
    pub fn find(&self, fields: Option<&Struct>) -> &Transport {
        self.of_host(self.position(fields))
    }

    fn position(&self, fields: Option<&Struct>) -> Option<u16> {
        let has = |wanted: &Struct| {
            wanted.iter().all(|(name, value)| fields.and_then(|fields| fields.get(name)) == Some(value))
        };
        self.matches.iter().position(|entry| has(&entry.criteria)).and_then(|position| u16::try_from(position).ok())
    }

    /// Whether any of them tells hosts of the downstream connection.
    pub fn use_proxy_protocol(&self) -> bool {
        self.default.proxy_protocol.is_some() || self.matches.iter().any(|one| one.transport.proxy_protocol.is_some())
    }

    /// Whether any of them uses TLS.
    pub fn use_tls(&self) -> bool {
        self.default.tls.is_some() || self.matches.iter().any(|entry| entry.transport.tls.is_some())
    }
}

/// `Cluster.TransportSocketMatch`.
#[derive(Debug, Clone, PartialEq)]
pub struct TransportMatch {
    /// `name`.
    pub name: Arc<str>,
    /// `match`; empty matches every host.
    pub criteria: Struct,
    /// `transport_socket`.
    pub transport: Transport,
}

/// One way to carry connections. The default is the bare socket.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transport {
    /// `UpstreamTlsContext`.
    pub tls: Option<Arc<UpstreamTls>>,
    /// `ProxyProtocolUpstreamTransport`: a header before everything else.
    pub proxy_protocol: Option<Arc<ProxyHeader>>,
}

/// A TLS context that follows its secrets.
pub struct UpstreamTls {
    /// The context.
    pub context: ClientContext,
    /// Whether it lists protocols to offer (ALPN).
    pub has_protocols: bool,
    /// Bytes of what it was made of: its message and secrets.
    pub identity: Box<[u8]>,
    /// `cluster.<name>.client_ssl_socket_factory.*`
    pub factory: Arc<TlsSocketFactoryStats>,
}

impl PartialEq for UpstreamTls {
    /// Equal configurations make equal contexts: what changes on disk changes both.
    fn eq(&self, other: &UpstreamTls) -> bool {
        self.identity == other.identity
    }
}

impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpstreamTls")
    }
}

/// The version of a PROXY protocol header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyVersion {
    /// A line of text.
    #[default]
    V1,
    /// Binary, with values by type.
    V2,
}

/// `core.v3.ProxyProtocolConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxyHeader {
    /// `version`. Default version 1.
    pub version: ProxyVersion,
    /// `pass_through_tlvs`: types of the downstream's values that are said again; none: all of them.
    pub pass_through: Option<Vec<u8>>,
    /// `added_tlvs`; they replace those of the downstream that have their type.
    pub added: Vec<(u8, Vec<u8>)>,
}
