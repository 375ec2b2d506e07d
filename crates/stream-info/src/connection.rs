//! Facts of a downstream connection that all of its streams share.

use crate::{Address, ConnectionState, Metadata};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// A downstream connection as its streams see it. Made when the filter chain was chosen, then shared unchanged.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// Number of the connection, unique in the process.
    pub id: u64,
    /// When it was accepted (`DS_CX_BEG`).
    pub start: Instant,
    /// The local address, after original_dst or PROXY protocol restored it.
    pub local: Address,
    /// The local address of the socket itself.
    pub direct_local: Address,
    /// The peer of the socket, or what the PROXY protocol told.
    pub remote: Address,
    /// Server name asked for in the TLS client hello.
    pub sni: Option<Arc<str>>,
    /// Application protocols offered in the TLS client hello.
    pub alpn: Vec<Arc<str>>,
    /// Name of the listener.
    pub listener_name: Arc<str>,
    /// Metadata of the listener.
    pub listener_metadata: Option<Arc<Metadata>>,
    /// Name of the filter chain, if it has one.
    pub filter_chain_name: Option<Arc<str>>,
    /// Metadata of the filter chain.
    pub filter_chain_metadata: Option<Arc<Metadata>>,
    /// When the TLS client hello was received (`DS_HS_BEG`).
    pub handshake_begin: Option<Instant>,
    /// When the TLS handshake was complete (`DS_HS_END`).
    pub handshake_end: Option<Instant>,
    /// Facts of the TLS session; `None` for cleartext.
    pub tls: Option<Arc<TlsInfo>>,
    /// JA3 fingerprint of the client hello, in hexadecimal.
    pub ja3: Option<Arc<str>>,
    /// JA4 fingerprint of the client hello.
    pub ja4: Option<Arc<str>>,
    /// What listener filters said of the connection.
    pub dynamic_metadata: Option<Arc<Metadata>>,
    /// What the PROXY protocol said in front of the connection.
    pub proxied: Option<Arc<ProxiedAddresses>>,
    /// The filter state that its streams share.
    pub filter_state: ConnectionState,
}

impl ConnectionInfo {
    /// What hosts are told of the connection: what the proxy in front said, or its own addresses.
    pub fn proxied_addresses(&self) -> Arc<ProxiedAddresses> {
        self.proxied.clone().unwrap_or_else(|| {
            let (source, destination) = (self.remote.clone(), self.local.clone());
            Arc::new(ProxiedAddresses { source, destination, tlvs: Vec::new() })
        })
    }
}

/// What a PROXY protocol header says of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProxiedAddresses {
    /// Where the connection comes from.
    pub source: Address,
    /// Where it was going.
    pub destination: Address,
    /// Further values by type, of version 2 only: those that `pass_through_tlvs` keeps.
    pub tlvs: Vec<(u8, Arc<[u8]>)>,
}

impl ConnectionInfo {
    /// A cleartext connection without filter chain name and metadata.
    pub fn new(id: u64, start: Instant, local: Address, remote: Address) -> ConnectionInfo {
        ConnectionInfo {
            id,
            start,
            direct_local: local.clone(),
            local,
            remote,
            sni: None,
            alpn: Vec::new(),
            listener_name: Arc::from(""),
            listener_metadata: None,
            filter_chain_name: None,
            filter_chain_metadata: None,
            handshake_begin: None,
            handshake_end: None,
            tls: None,
            ja3: None,
            ja4: None,
            dynamic_metadata: None,
            proxied: None,
            filter_state: ConnectionState::default(),
        }
    }
}

/// Names and identities of one side's certificate.
#[derive(Debug, Clone, Default)]
pub struct CertificateNames {
    /// Subject, RFC 2253 form.
    pub subject: Option<Arc<str>>,
    /// URI subject alternative names.
    pub uri: Vec<Arc<str>>,
    /// DNS subject alternative names.
    pub dns: Vec<Arc<str>>,
    /// IP subject alternative names.
    pub ip: Vec<Arc<str>>,
    /// E-mail subject alternative names.
    pub email: Vec<Arc<str>>,
    /// Other-name subject alternative names.
    pub other_name: Vec<Arc<str>>,
}

/// Facts of a TLS session, of either side of the proxy. What is not known is empty.
#[derive(Debug, Clone, Default)]
pub struct TlsInfo {
    /// Names in the certificate that this proxy showed.
    pub local: CertificateNames,
    /// Names in the certificate that the peer showed.
    pub peer: CertificateNames,
    /// Issuer of the peer's certificate, RFC 2253 form.
    pub peer_issuer: Option<Arc<str>>,
    /// Session id in hexadecimal.
    pub session_id: Option<Arc<str>>,
    /// OpenSSL name of the cipher suite.
    pub cipher: Option<Arc<str>>,
    /// Key exchange group.
    pub group: Option<Arc<str>>,
    /// Protocol version, `TLSv1.3`.
    pub version: Option<Arc<str>>,
    /// SHA-256 of the peer's certificate, in hexadecimal.
    pub peer_fingerprint_256: Option<Arc<str>>,
    /// SHA-1 of the peer's certificate, in hexadecimal.
    pub peer_fingerprint_1: Option<Arc<str>>,
    /// Serial number of the peer's certificate, in hexadecimal.
    pub peer_serial: Option<Arc<str>>,
    /// SHA-256 of every certificate of the peer's chain.
    pub peer_chain_fingerprints_256: Vec<Arc<str>>,
    /// SHA-1 of every certificate of the peer's chain.
    pub peer_chain_fingerprints_1: Vec<Arc<str>>,
    /// Serial number of every certificate of the peer's chain.
    pub peer_chain_serials: Vec<Arc<str>>,
    /// SHA-256 of the certificate that issued the peer's.
    pub peer_issuer_fingerprint_256: Option<Arc<str>>,
    /// Serial number of the certificate that issued the peer's.
    pub peer_issuer_serial: Option<Arc<str>>,
    /// The peer's certificate, URL-encoded PEM.
    pub peer_certificate: Option<Arc<str>>,
    /// All certificates that the peer showed, URL-encoded PEM.
    pub peer_certificate_chain: Option<Arc<str>>,
    /// Start of the validity of the peer's certificate.
    pub peer_valid_from: Option<SystemTime>,
    /// End of the validity of the peer's certificate.
    pub peer_valid_until: Option<SystemTime>,
    /// Whether the peer showed a certificate.
    pub peer_presented: bool,
    /// Whether the peer's certificate was verified. It may be shown without being so, for example with `ACCEPT_UNTRUSTED`: its
    /// names are then no more than claims.
    pub peer_validated: bool,
    /// Server name that was sent (upstream sessions).
    pub server_name: Option<Arc<str>>,
}

/// How the end of a connection was noticed (Envoy's `DetectedCloseType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CloseType {
    /// Nothing special: the usual end of stream.
    #[default]
    Normal,
    /// The local side reset the connection.
    LocalReset,
    /// The peer reset the connection.
    RemoteReset,
}

impl CloseType {
    /// Envoy's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            CloseType::Normal => "Normal",
            CloseType::LocalReset => "LocalReset",
            CloseType::RemoteReset => "RemoteReset",
        }
    }
}
