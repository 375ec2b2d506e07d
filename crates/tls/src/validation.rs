//! `CertificateValidationContext` to a verifier.

use std::sync::Arc;

use rustls::SignatureScheme;
use webpki::{CertRevocationList, OwnedCertRevocationList};

use crate::finding::{ContextError, Finding};
use crate::parameters::Parameters;
use crate::pem;
use crate::roots::Roots;
use crate::san::SanMatcher;
use crate::shared::{Digest, Hasher, Shared};
use crate::spec::{TrustChainVerification, ValidationSpec};
use crate::spiffe::SpiffeDomains;
use crate::verify::{Peer, Verifier};

/// Envoy's default of `max_verify_depth`.
const DEFAULT_DEPTH: u32 = 100;

static VERIFIERS: Shared<Verifier> = Shared::new();

/// A verifier, and the digest of everything that it verifies.
pub(crate) struct Validation {
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) digest: Digest,
}

/// What the context says beside the validation context.
pub(crate) struct Demands<'a> {
    pub(crate) peer: Peer,
    pub(crate) require_client_certificate: bool,
    pub(crate) parameters: &'a Parameters,
}

impl Validation {
    /// `None` as the specification: nothing is verified.
    pub(crate) fn new(spec: Option<&ValidationSpec>, demands: &Demands<'_>) -> Result<Validation, ContextError> {
        let nothing = ValidationSpec::default();
        let digest = digest(spec.unwrap_or(&nothing), demands);
        let verifier = VERIFIERS.get_or_make(digest, || make(spec.unwrap_or(&nothing), demands))?;
        Ok(Validation { verifier, digest })
    }
}

/// Sharing and resumption both depend on it, so it covers every field.
fn digest(spec: &ValidationSpec, demands: &Demands<'_>) -> Digest {
    let ValidationSpec {
        trusted_ca_source,
        trusted_ca,
        match_typed_subject_alt_names,
        verify_certificate_spki,
        verify_certificate_hash,
        crl,
        only_verify_leaf_cert_crl,
        allow_expired_certificate,
        trust_chain_verification,
        max_verify_depth,
        suppress_client_ca_list,
        spiffe_trust_domains,
    } = spec;
    let mut hasher = Hasher::new("validation");
    hasher.part(format!("{:?}", demands.peer).as_bytes());
    hasher.part(&[u8::from(demands.require_client_certificate)]);
    hasher.part(format!("{:?}", demands.parameters.signatures).as_bytes());
    hasher.part(format!("{trusted_ca_source:?}").as_bytes());
    hasher.part(&[u8::from(trusted_ca.is_some())]).part(trusted_ca.as_deref().unwrap_or_default());
    hasher.part(format!("{match_typed_subject_alt_names:?}").as_bytes());
    hasher.part(format!("{verify_certificate_spki:?} {verify_certificate_hash:?}").as_bytes());
    hasher.part(&[u8::from(crl.is_some())]).part(crl.as_deref().unwrap_or_default());
    hasher.part(&[u8::from(*suppress_client_ca_list)]);
    let flags = (only_verify_leaf_cert_crl, allow_expired_certificate, trust_chain_verification, max_verify_depth);
    hasher.part(format!("{flags:?}").as_bytes());
    for domain in spiffe_trust_domains {
        hasher.part(domain.name.as_bytes()).part(&domain.bundle);
    }
    hasher.finish()
}

fn make(spec: &ValidationSpec, demands: &Demands<'_>) -> Result<Verifier, ContextError> {
    let field = |name: &str| format!("validation_context.{name}");
    let roots = match &spec.trusted_ca {
        Some(text) => {
            let inline: Arc<str> = Arc::from("<inline>");
            Some(Roots::load(text, spec.trusted_ca_source.as_ref().unwrap_or(&inline), &field("trusted_ca"))?)
        }
        None => None,
    };
    let has_spiffe = !spec.spiffe_trust_domains.is_empty();
    let spiffe = if has_spiffe { Some(SpiffeDomains::new(&spec.spiffe_trust_domains)?) } else { None };
    check_insecure(spec, roots.is_some() || has_spiffe)?;
    let mut sans = Vec::new();
    for (index, matcher) in spec.match_typed_subject_alt_names.iter().enumerate() {
        sans.push(SanMatcher::new(matcher, &field(&format!("match_typed_subject_alt_names[{index}]")))?);
    }
    let spki_hashes = pins(&spec.verify_certificate_spki, &field("verify_certificate_spki"), spki_pin)?;
    let certificate_hashes = pins(&spec.verify_certificate_hash, &field("verify_certificate_hash"), hash_pin)?;
    let crls = match &spec.crl {
        Some(bytes) => crls(bytes, &field("crl"))?,
        None => Vec::new(),
    };
    let accept_untrusted = spec.trust_chain_verification == TrustChainVerification::AcceptUntrusted;
    let has_names_or_pins = !sans.is_empty() || !spki_hashes.is_empty() || !certificate_hashes.is_empty();
    let asks =
        demands.require_client_certificate || roots.is_some() || has_spiffe || accept_untrusted || has_names_or_pins;
    let algorithms = demands.parameters.provider.signature_verification_algorithms;
    let schemes: Vec<SignatureScheme> = match &demands.parameters.signatures {
        Some(chosen) => chosen.clone(),
        None => algorithms.supported_schemes(),
    };
    let hints = match demands.peer {
        Peer::Client if spec.suppress_client_ca_list => Vec::new(),
        Peer::Client => {
            roots.iter().chain(spiffe.iter().flat_map(SpiffeDomains::all)).flat_map(|r| r.subjects.clone()).collect()
        }
        Peer::Server => Vec::new(),
    };
    Ok(Verifier {
        peer: demands.peer,
        roots,
        spiffe,
        crls,
        leaf_crl_only: spec.only_verify_leaf_cert_crl,
        sans,
        spki_hashes,
        certificate_hashes,
        allow_expired: spec.allow_expired_certificate,
        accept_untrusted,
        max_depth: spec.max_verify_depth.unwrap_or(DEFAULT_DEPTH) as usize,
        required: demands.require_client_certificate,
        asks,
        schemes,
        algorithms,
        hints,
    })
}

/// What would look like a check and be none.
fn check_insecure(spec: &ValidationSpec, has_authority: bool) -> Result<(), ContextError> {
    if has_authority {
        return Ok(());
    }
    let hint = "give trusted_ca";
    if !spec.match_typed_subject_alt_names.is_empty() {
        let found = "SAN-based verification of peer certificates without trusted CA is insecure and not allowed";
        return Err(Finding::new("validation_context.match_typed_subject_alt_names", found, hint));
    }
    if spec.crl.is_some() {
        return Err(Finding::new("validation_context.crl", "a CRL without trusted CA checks nothing", hint));
    }
    if spec.allow_expired_certificate {
        let found = "certificate validity period is always ignored without trusted CA";
        return Err(Finding::new("validation_context.allow_expired_certificate", found, hint));
    }
    Ok(())
}

fn pins(texts: &[String], field: &str, read: fn(&str) -> Option<Vec<u8>>) -> Result<Vec<Digest>, ContextError> {
    let pin = |(index, text): (usize, &String)| {
        let digest = read(text).and_then(|bytes| Digest::try_from(bytes).ok());
        digest.ok_or_else(|| {
            let found = format!("{text:?} is not a SHA-256");
            Finding::new(format!("{field}[{index}]"), found, "64 hexadecimal digits for certificates, Base64 for SPKI")
        })
    };
    texts.iter().enumerate().map(pin).collect()
}

fn spki_pin(text: &str) -> Option<Vec<u8>> {
    pem::base64(text.as_bytes())
}

fn hash_pin(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = match text.len() {
        64 => text.bytes().collect(),
        // Pairs of digits with colons between them.
        95 => {
            text.bytes().enumerate().filter(|(at, byte)| at % 3 != 2 || *byte != b':').map(|(_, byte)| byte).collect()
        }
        _ => return None,
    };
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    digits.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

fn crls(bytes: &[u8], field: &str) -> Result<Vec<CertRevocationList<'static>>, ContextError> {
    let hint = "it must be PEM: BEGIN X509 CRL, or DER";
    let texts: Vec<Vec<u8>> = if bytes.first() == Some(&0x30) {
        vec![bytes.to_vec()]
    } else {
        let blocks = pem::blocks(bytes).map_err(|what| Finding::new(field, what, hint))?;
        blocks.into_iter().filter(|block| block.label == "X509 CRL").map(|block| block.der).collect()
    };
    if texts.is_empty() {
        return Err(Finding::new(field, "there is no CRL in it", hint));
    }
    let read = |(index, der): (usize, &Vec<u8>)| match OwnedCertRevocationList::from_der(der) {
        Ok(crl) => Ok(CertRevocationList::from(crl)),
        Err(error) => Err(Finding::new(field, format!("CRL {index} can't be read: {error:?}"), hint)),
    };
    texts.iter().enumerate().map(read).collect()
}
