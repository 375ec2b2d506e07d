//! Trusted authorities, parsed once for all contexts that trust the same.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rustls::DistinguishedName;
use rustls_pki_types::{CertificateDer, TrustAnchor};

use crate::certificate::{Certificate, hex};
use crate::finding::{ContextError, Finding};
use crate::identity::CertificateDetails;
use crate::pem;
use crate::shared::{Digest, Hasher, Shared};

/// Fingerprint (SHA-256) and serial number of an authority.
pub(crate) type Known = (Arc<str>, Arc<str>);

/// A trust store.
#[derive(Debug)]
pub(crate) struct Roots {
    pub(crate) anchors: Vec<TrustAnchor<'static>>,
    /// Validity of each anchor, seconds since 1970.
    validity: Vec<(i64, i64)>,
    /// SHA-256 of each: a peer may show one of them itself.
    members: HashSet<Digest>,
    /// By name: fingerprint and serial number.
    issuers: HashMap<Box<[u8]>, Known>,
    /// Their names, as clients are told.
    pub(crate) subjects: Vec<DistinguishedName>,
    pub(crate) details: Vec<CertificateDetails>,
}

static ROOTS: Shared<Roots> = Shared::new();

impl Roots {
    /// `field` is where the text comes from.
    pub(crate) fn load(text: &[u8], source: &Arc<str>, field: &str) -> Result<Arc<Roots>, ContextError> {
        let mut hasher = Hasher::new("roots");
        hasher.part(text).part(source.as_bytes());
        let digest = hasher.finish();
        ROOTS.get_or_make(digest, || Self::make(text, source, field))
    }

    fn make(text: &[u8], source: &Arc<str>, field: &str) -> Result<Roots, ContextError> {
        let hint = "it must be PEM: BEGIN CERTIFICATE";
        let blocks = pem::blocks(text).map_err(|what| Finding::new(field, what, hint))?;
        let mut roots = Roots {
            anchors: Vec::new(),
            validity: Vec::new(),
            members: HashSet::new(),
            issuers: HashMap::new(),
            subjects: Vec::new(),
            details: Vec::new(),
        };
        for block in blocks.iter().filter(|block| block.label.ends_with("CERTIFICATE")) {
            let index = roots.anchors.len();
            let wrong = || Finding::new(field, format!("certificate {index} can't be read"), hint);
            let der = CertificateDer::from(block.der.as_slice());
            let certificate = Certificate::parse(&block.der).ok_or_else(wrong)?;
            let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|_| wrong())?.to_owned();
            let digest = certificate.sha256();
            if !roots.members.insert(digest) {
                continue;
            }
            roots.subjects.push(DistinguishedName::in_sequence(&anchor.subject));
            roots.validity.push((certificate.not_before, certificate.not_after));
            roots.details.push(CertificateDetails::new(source, &certificate));
            let known = (hex(&digest).into(), certificate.serial_text().into());
            roots.issuers.entry(certificate.subject.into()).or_insert(known);
            roots.anchors.push(anchor);
        }
        if roots.anchors.is_empty() {
            return Err(Finding::new(field, "there is no certificate in it", hint));
        }
        Ok(roots)
    }

    /// Fingerprint and serial number of the authority of this name.
    pub(crate) fn issuer(&self, name: &[u8]) -> Option<Known> {
        self.issuers.get(name).cloned()
    }

    pub(crate) fn contains(&self, certificate: &Certificate<'_>) -> bool {
        self.members.contains(&certificate.sha256())
    }

    /// Whether the anchor is valid at that time.
    pub(crate) fn is_current(&self, anchor: &TrustAnchor<'_>, now: i64) -> bool {
        let is_it = |known: &TrustAnchor<'_>| {
            known.subject == anchor.subject && known.subject_public_key_info == anchor.subject_public_key_info
        };
        let mut same = self.anchors.iter().zip(&self.validity).filter(|(known, _)| is_it(known));
        // A renewed authority may stand beside its predecessor.
        same.any(|(_, (from, until))| (*from..=*until).contains(&now))
    }
}
