//! What a handshake yields: the facts of a session, or why there is none.

use std::fmt;
use std::sync::Arc;

use nuncio_stream_info::TlsInfo;

pub use crate::notes::StapleOutcome;

/// The facts of a new session, besides its stream.
#[derive(Debug, Clone)]
pub struct TlsSession {
    /// For logs, headers and policies.
    pub info: Arc<TlsInfo>,
    /// The protocol that was agreed on.
    pub alpn: Option<Arc<str>>,
    /// The server name that the client asked for (servers), or that was sent (clients).
    pub server_name: Option<Arc<str>>,
    /// `ssl.session_reused`.
    pub resumed: bool,
    /// Whether the peer showed a certificate; otherwise count `ssl.no_certificate`.
    pub has_peer_certificate: bool,
    /// `ssl.ciphers.<cipher>`.
    pub cipher: &'static str,
    /// `ssl.versions.<version>`.
    pub version: &'static str,
    /// `ssl.curves.<curve>`; empty when a session was resumed without a key exchange.
    pub curve: &'static str,
    /// `ssl.sigalgs.<sigalg>`: how the peer signed; empty if it did not.
    pub signature_algorithm: &'static str,
    /// `ssl.ocsp_staple_*`.
    pub staple: StapleOutcome,
}

/// What to count for a handshake that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The peer showed no certificate though one is required: `ssl.fail_verify_no_cert`.
    NoCertificate,
    /// Its chain is not trusted: `ssl.fail_verify_error`.
    VerifyError,
    /// None of its names is accepted: `ssl.fail_verify_san`.
    VerifySan,
    /// Its hash is not pinned: `ssl.fail_verify_cert_hash`.
    VerifyCertificateHash,
    /// The protocol failed: `ssl.connection_error`.
    Protocol,
    /// The secrets of the context are not there yet: `*_context_secrets_not_ready`.
    NotReady,
    /// The peer closed the connection, or the network did: nothing is counted.
    Closed,
}

impl HandshakeError {
    /// The secrets of the context are not there yet; the text is Envoy's.
    pub(crate) fn not_ready() -> HandshakeError {
        let reason = "TLS error: Secret is not supplied by SDS".to_owned();
        HandshakeError { kind: FailureKind::NotReady, reason, staple: StapleOutcome::default(), info: None }
    }
}

/// Why there is no session.
#[derive(Debug, Clone)]
pub struct HandshakeError {
    /// What to count.
    pub kind: FailureKind,
    /// What was known by then, among it the peer's certificate that was not accepted: for access logs.
    pub info: Option<Arc<TlsInfo>>,
    /// In Envoy's words (access logs show spaces as `_`), for `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%` and `%UPSTREAM_TRANSPORT_FAILURE_REASON%`; empty when the peer
    /// just left.
    pub reason: String,
    /// `ssl.ocsp_staple_*`.
    pub staple: StapleOutcome,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.reason.is_empty() { "connection closed during the TLS handshake" } else { &self.reason })
    }
}

impl std::error::Error for HandshakeError {}
