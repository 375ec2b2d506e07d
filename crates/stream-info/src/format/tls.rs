//! Operators that print facts of TLS sessions. For cleartext connections they are unset.

use super::texts::{put, put_joined};
use crate::{LogContext, TlsInfo};
use std::sync::Arc;

/// Whose session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Downstream,
    Upstream,
}

impl Side {
    pub(super) fn of<'a>(self, cx: &LogContext<'a>) -> Option<&'a TlsInfo> {
        match self {
            Side::Downstream => cx.info.connection.as_deref()?.tls.as_deref(),
            Side::Upstream => cx.info.upstream.tls.as_deref(),
        }
    }
}

/// A fact of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    LocalSubject,
    LocalUri,
    LocalDns,
    LocalIp,
    LocalEmail,
    LocalOtherName,
    PeerSubject,
    PeerUri,
    PeerDns,
    PeerIp,
    PeerEmail,
    PeerOtherName,
    PeerIssuer,
    PeerSerial,
    PeerFingerprint256,
    PeerFingerprint1,
    PeerChainFingerprints256,
    PeerChainFingerprints1,
    PeerChainSerials,
    PeerIssuerFingerprint256,
    PeerIssuerSerial,
    PeerCertificate,
    SessionId,
    Cipher,
    Group,
    Version,
    ServerName,
}

impl Field {
    pub(super) fn write(self, tls: Option<&TlsInfo>, out: &mut Vec<u8>) -> bool {
        let Some(tls) = tls else { return false };
        let one = match self {
            Field::LocalSubject => &tls.local.subject,
            Field::PeerSubject => &tls.peer.subject,
            Field::PeerIssuer => &tls.peer_issuer,
            Field::PeerSerial => &tls.peer_serial,
            Field::PeerFingerprint256 => &tls.peer_fingerprint_256,
            Field::PeerFingerprint1 => &tls.peer_fingerprint_1,
            Field::PeerIssuerFingerprint256 => &tls.peer_issuer_fingerprint_256,
            Field::PeerIssuerSerial => &tls.peer_issuer_serial,
            Field::PeerCertificate => &tls.peer_certificate,
            Field::SessionId => &tls.session_id,
            Field::Cipher => &tls.cipher,
            Field::Group => &tls.group,
            Field::Version => &tls.version,
            Field::ServerName => &tls.server_name,
            _ => return self.write_list(tls, out),
        };
        put(one.as_deref().filter(|text| !text.is_empty()), out)
    }

    fn write_list(self, tls: &TlsInfo, out: &mut Vec<u8>) -> bool {
        let many: &[Arc<str>] = match self {
            Field::LocalUri => &tls.local.uri,
            Field::LocalDns => &tls.local.dns,
            Field::LocalIp => &tls.local.ip,
            Field::LocalEmail => &tls.local.email,
            Field::LocalOtherName => &tls.local.other_name,
            Field::PeerUri => &tls.peer.uri,
            Field::PeerDns => &tls.peer.dns,
            Field::PeerIp => &tls.peer.ip,
            Field::PeerEmail => &tls.peer.email,
            Field::PeerOtherName => &tls.peer.other_name,
            Field::PeerChainFingerprints256 => &tls.peer_chain_fingerprints_256,
            Field::PeerChainFingerprints1 => &tls.peer_chain_fingerprints_1,
            Field::PeerChainSerials => &tls.peer_chain_serials,
            _ => &[],
        };
        let start = out.len();
        put_joined(many.iter(), out, |text, out| out.extend_from_slice(text.as_bytes()));
        out.len() > start
    }
}
