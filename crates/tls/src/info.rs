//! The facts of a session in the form that logs, headers and policies use.
//!
//! Sessions of a context that differ in nothing share them: for clients without a certificate a handshake costs a look-up.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use nuncio_stream_info::{CertificateNames, TlsInfo};
use rustls::{CipherSuite, NamedGroup, ProtocolVersion};
use rustls_pki_types::CertificateDer;

use crate::certificate::{Certificate, hex, system_time};
use crate::name;
use crate::parameters::{group_name, suite_name, version_name};
use crate::roots::Known;
use crate::shared::{Digest, Hasher};

/// Different sessions that a context remembers.
const REMEMBERED: usize = 64;

/// Everything that the facts are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) identity: Option<usize>,
    pub(crate) suite: CipherSuite,
    pub(crate) version: ProtocolVersion,
    pub(crate) group: Option<NamedGroup>,
    pub(crate) server_name: Option<Arc<str>>,
    pub(crate) is_validated: bool,
    peer: Option<Digest>,
}

impl Key {
    pub(crate) fn new(suite: CipherSuite, version: ProtocolVersion, peer: Option<&[CertificateDer<'_>]>) -> Key {
        let digest = |chain: &[CertificateDer<'_>]| {
            let mut hasher = Hasher::new("chain");
            chain.iter().for_each(|der| {
                hasher.part(der);
            });
            hasher.finish()
        };
        Key {
            identity: None,
            suite,
            version,
            group: None,
            server_name: None,
            is_validated: false,
            peer: peer.map(digest),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Infos {
    known: Mutex<VecDeque<(Key, Arc<TlsInfo>)>>,
}

impl Infos {
    /// `local` are the names of the certificate that this side showed.
    pub(crate) fn get(
        &self,
        key: Key,
        local: Option<&CertificateNames>,
        peer: Option<&[CertificateDer<'_>]>,
        issuer: Issuer<'_>,
    ) -> Arc<TlsInfo> {
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, info)) = known.iter().find(|(known, _)| *known == key) {
                return Arc::clone(info);
            }
        }
        let info = Arc::new(make(&key, local, peer.unwrap_or_default(), issuer));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.pop_front();
        }
        known.push_back((key, Arc::clone(&info)));
        info
    }
}

/// Fingerprint and serial number of a trusted authority, by its name.
type Issuer<'a> = &'a dyn Fn(&[u8]) -> Option<Known>;

/// What is known of a session that did not come about: `refused` is the peer's chain if it was not accepted.
pub(crate) fn of_failed(local: Option<&CertificateNames>, refused: &[CertificateDer<'_>]) -> TlsInfo {
    let mut info = TlsInfo {
        local: local.cloned().unwrap_or_default(),
        peer_presented: !refused.is_empty(),
        ..TlsInfo::default()
    };
    add_peer(&mut info, &parsed(refused));
    info
}

fn parsed<'a>(chain: &'a [CertificateDer<'_>]) -> Vec<Certificate<'a>> {
    chain.iter().filter_map(|der| Certificate::parse(der)).collect()
}

fn make(key: &Key, local: Option<&CertificateNames>, peer: &[CertificateDer<'_>], issuer: Issuer<'_>) -> TlsInfo {
    let mut info = TlsInfo {
        local: local.cloned().unwrap_or_default(),
        cipher: Some(suite_name(key.suite).into()),
        group: key.group.map(|group| group_name(group).into()),
        version: Some(version_name(key.version).into()),
        server_name: key.server_name.clone(),
        peer_presented: !peer.is_empty(),
        peer_validated: key.is_validated && !peer.is_empty(),
        ..TlsInfo::default()
    };
    let chain = parsed(peer);
    add_peer(&mut info, &chain);
    let Some(leaf) = chain.first().filter(|_| info.peer_validated) else { return info };
    let shown = chain.get(1).filter(|issuer| issuer.subject == leaf.issuer);
    let shown = shown.map(|issuer| (hex(&issuer.sha256()).into(), issuer.serial_text().into()));
    if let Some((fingerprint, serial)) = shown.or_else(|| issuer(leaf.issuer)) {
        info.peer_issuer_fingerprint_256 = Some(fingerprint);
        info.peer_issuer_serial = Some(serial);
    }
    info
}

fn add_peer(info: &mut TlsInfo, chain: &[Certificate<'_>]) {
    let Some(leaf) = chain.first() else { return };
    let fingerprint = |certificate: &Certificate<'_>| Arc::<str>::from(hex(&certificate.sha256()));
    info.peer = leaf.all_names();
    info.peer_issuer = Some(name::rfc2253(leaf.issuer).into());
    info.peer_fingerprint_256 = Some(fingerprint(leaf));
    info.peer_fingerprint_1 = Some(leaf.sha1_text().into());
    info.peer_serial = Some(leaf.serial_text().into());
    info.peer_chain_fingerprints_256 = chain.iter().map(fingerprint).collect();
    info.peer_chain_fingerprints_1 = chain.iter().map(|certificate| certificate.sha1_text().into()).collect();
    info.peer_chain_serials = chain.iter().map(|certificate| certificate.serial_text().into()).collect();
    info.peer_certificate = Some(leaf.url_encoded_pem().into());
    info.peer_certificate_chain = Some(chain.iter().map(Certificate::url_encoded_pem).collect::<String>().into());
    info.peer_valid_from = Some(system_time(leaf.not_before));
    info.peer_valid_until = Some(system_time(leaf.not_after));
}
