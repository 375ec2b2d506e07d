//! A certificate with its key, loaded and checked.

use std::sync::Arc;
use std::time::SystemTime;

use nuncio_stream_info::CertificateNames;
use rustls::SignatureAlgorithm;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{Error, InconsistentKeys, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::certificate::{AlternativeName, Certificate, sha256, system_time};
use crate::der::{self, Reader};
use crate::finding::{ContextError, Finding};
use crate::ocsp::Staple;
use crate::shared::{Digest, Hasher, Shared};
use crate::spec::{CertificateMaterial, CertificateSpec};
use crate::{key, pem, pkcs12};

/// One certificate of a context, for `/certs` and the expiry gauges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateDetails {
    /// Path, or `<inline>`.
    pub path: Arc<str>,
    /// Lower-case hexadecimal.
    pub serial_number: Arc<str>,
    /// DNS names.
    pub dns: Vec<Arc<str>>,
    /// URIs.
    pub uri: Vec<Arc<str>>,
    /// IP addresses.
    pub ip_address: Vec<Arc<str>>,
    /// Start of the validity.
    pub valid_from: SystemTime,
    /// End of the validity.
    pub expiration_time: SystemTime,
    /// End of the validity of the OCSP staple, if there is one that says so.
    pub ocsp_expiration: Option<SystemTime>,
}

impl CertificateDetails {
    pub(crate) fn new(path: &Arc<str>, certificate: &Certificate<'_>) -> Self {
        let names = certificate.all_names();
        CertificateDetails {
            path: Arc::clone(path),
            serial_number: certificate.serial_text().into(),
            dns: names.dns,
            uri: names.uri,
            ip_address: names.ip,
            valid_from: system_time(certificate.not_before),
            expiration_time: system_time(certificate.not_after),
            ocsp_expiration: None,
        }
    }

    /// Whole seconds until it expires; 0 once it has (`ssl.certificate.<name>.expiration_unix_time_seconds` is the other form).
    pub fn seconds_until_expiration(&self, now: SystemTime) -> u64 {
        self.expiration_time.duration_since(now).map_or(0, |left| left.as_secs())
    }

    /// Whole days until it expires, rounded down as `days_until_expiration` of `/certs`.
    pub fn days_until_expiration(&self, now: SystemTime) -> u64 {
        self.seconds_until_expiration(now) / 86_400
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Without the staple.
    pub(crate) key: Arc<CertifiedKey>,
    /// With it.
    pub(crate) stapled: Option<Arc<CertifiedKey>>,
    pub(crate) staple: Option<Staple>,
    pub(crate) must_staple: bool,
    pub(crate) is_ecdsa: bool,
    pub(crate) names: CertificateNames,
    /// Server names that it is for, in lower case; `*.` in front of wildcards.
    pub(crate) server_names: Vec<String>,
    /// Changes when what the certificate stands for does, not when it is renewed.
    pub(crate) meaning: Digest,
    pub(crate) details: CertificateDetails,
}

static IDENTITIES: Shared<Identity> = Shared::new();

impl Identity {
    /// `at` is the path of the certificate's field.
    pub(crate) fn load(spec: &CertificateSpec, at: &str) -> Result<Arc<Identity>, ContextError> {
        let mut hasher = Hasher::new("identity");
        match &spec.material {
            CertificateMaterial::Pem { chain, key } => hasher.part(b"pem").part(chain).part(&key.0),
            CertificateMaterial::Pkcs12(data) => hasher.part(b"pkcs12").part(&data.0),
        };
        hasher.part(spec.source.as_bytes());
        hasher.part(spec.password.as_ref().map_or(&[][..], |password| &password.0));
        hasher.part(spec.ocsp_staple.as_deref().unwrap_or_default());
        IDENTITIES.get_or_make(hasher.finish(), || Self::make(spec, at))
    }

    fn make(spec: &CertificateSpec, at: &str) -> Result<Identity, ContextError> {
        let (chain, private) = material(spec, at)?;
        let (chain_field, key_field) = match spec.material {
            CertificateMaterial::Pem { .. } => (format!("{at}.certificate_chain"), format!("{at}.private_key")),
            CertificateMaterial::Pkcs12(_) => (format!("{at}.pkcs12"), format!("{at}.pkcs12")),
        };
        let leaf = chain.first().cloned();
        let leaf =
            leaf.ok_or_else(|| Finding::new(&chain_field, "there is no certificate in it", "the leaf comes first"))?;
        let mut parsed = None;
        for (index, der) in chain.iter().enumerate() {
            let certificate = Certificate::parse(der).ok_or_else(|| {
                Finding::new(&chain_field, format!("certificate {index} is malformed"), "the chain must be PEM")
            })?;
            parsed = parsed.or(Some(certificate));
        }
        let malformed = || Finding::new(&chain_field, "the leaf certificate is malformed", "");
        let certificate = parsed.ok_or_else(malformed)?;
        check_strength(&certificate, &chain_field)?;
        let signing = any_supported_type(&private).map_err(|_| {
            Finding::new(&key_field, "the private key can't be used", "RSA of 2048 bits or more, P-256, P-384 or P-521")
        })?;
        let is_ecdsa = signing.algorithm() == SignatureAlgorithm::ECDSA;
        let key = CertifiedKey::new(chain.clone(), signing);
        match key.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => {
                let found = "the private key does not belong to the certificate";
                return Err(Finding::new(&key_field, found, "the chain must begin with the key's own certificate"));
            }
        }
        let staple = staple(spec, &certificate, at)?;
        let stapled = staple.as_ref().map(|staple| {
            let mut key = key.clone();
            key.ocsp = Some(staple.der.clone());
            Arc::new(key)
        });
        let mut details = CertificateDetails::new(&spec.source, &certificate);
        details.ocsp_expiration = staple.as_ref().and_then(|staple| staple.next_update).map(system_time);
        let certificate = Certificate::parse(&leaf).ok_or_else(malformed)?;
        Ok(Identity {
            key: Arc::new(key),
            stapled,
            staple,
            must_staple: certificate.must_staple,
            is_ecdsa,
            names: certificate.all_names(),
            server_names: server_names(&certificate),
            meaning: meaning(&certificate),
            details,
        })
    }

    /// The same with a key that signs with these algorithms only.
    pub(crate) fn limited(key: &Arc<CertifiedKey>, allowed: &[SignatureScheme]) -> Arc<CertifiedKey> {
        let limited = LimitedKey { inner: Arc::clone(&key.key), allowed: allowed.into() };
        Arc::new(CertifiedKey { cert: key.cert.clone(), key: Arc::new(limited), ocsp: key.ocsp.clone() })
    }
}

type Material = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn material(spec: &CertificateSpec, at: &str) -> Result<Material, ContextError> {
    match &spec.material {
        CertificateMaterial::Pem { chain, key: private } => {
            let field = format!("{at}.certificate_chain");
            let blocks = pem::blocks(chain).map_err(|what| Finding::new(&field, what, "the chain must be PEM"))?;
            let is_certificate =
                |label: &str| matches!(label, "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE");
            let chain = blocks.into_iter().filter(|block| is_certificate(&block.label)).map(|block| block.der.into());
            let private = key::from_pem(&private.0, spec.password.as_ref())
                .map_err(|(what, hint)| Finding::new(format!("{at}.private_key"), what, hint))?;
            Ok((chain.collect(), private))
        }
        CertificateMaterial::Pkcs12(data) => {
            let wrong = |(what, hint)| Finding::new(format!("{at}.pkcs12"), what, hint);
            let password = spec.password.as_ref().map_or(&[][..], |password| &password.0);
            let contents = pkcs12::open(&data.0, password).map_err(wrong)?;
            let private = contents.key.ok_or_else(|| wrong(("there is no private key in it", "")))?;
            Ok((ordered(contents.certificates, &private), PrivateKeyDer::Pkcs8(private.into())))
        }
    }
}

/// PKCS#12 does not say in which order certificates stand: the key's own comes first.
fn ordered(certificates: Vec<Vec<u8>>, private: &[u8]) -> Vec<CertificateDer<'static>> {
    let signing = any_supported_type(&PrivateKeyDer::Pkcs8(private.to_vec().into())).ok();
    let mut chain: Vec<CertificateDer<'static>> = certificates.into_iter().map(CertificateDer::from).collect();
    let is_own = |der: &CertificateDer<'static>| {
        signing.as_ref().is_some_and(|key| CertifiedKey::new(vec![der.clone()], Arc::clone(key)).keys_match().is_ok())
    };
    if let Some(own) = chain.iter().position(is_own) {
        let own = chain.remove(own);
        chain.insert(0, own);
    }
    chain
}

/// As Envoy: RSA keys have at least 2,048 bits.
fn check_strength(certificate: &Certificate<'_>, field: &str) -> Result<(), ContextError> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    let modulus_bits = || {
        let mut info = Reader::new(certificate.public_key).enter(der::SEQUENCE)?;
        let mut algorithm = info.enter(der::SEQUENCE)?;
        if algorithm.content(der::OID)? != RSA {
            return None;
        }
        let modulus = Reader::new(info.bits()?).enter(der::SEQUENCE)?.content(der::INTEGER)?;
        let digits = modulus.strip_prefix(&[0]).unwrap_or(modulus);
        Some(digits.len() * 8 - digits.first().map_or(0, |first| first.leading_zeros() as usize))
    };
    match modulus_bits() {
        Some(bits) if bits < 2048 => {
            let hint = "only RSA certificates with 2048-bit or larger keys are supported";
            Err(Finding::new(field, format!("an RSA key of {bits} bits"), hint))
        }
        _ => Ok(()),
    }
}

fn staple(spec: &CertificateSpec, certificate: &Certificate<'_>, at: &str) -> Result<Option<Staple>, ContextError> {
    let Some(bytes) = spec.ocsp_staple.as_ref().filter(|bytes| !bytes.is_empty()) else { return Ok(None) };
    let wrong = |what: &str| Finding::new(format!("{at}.ocsp_staple"), what, "it must be the DER of an OCSP response");
    let staple = Staple::parse(bytes).map_err(wrong)?;
    if staple.serial != certificate.serial {
        return Err(wrong("OCSP response does not match its TLS certificate"));
    }
    Ok(Some(staple))
}

/// DNS names, or the common name of a certificate that has none, as Envoy.
fn server_names(certificate: &Certificate<'_>) -> Vec<String> {
    let usable = |text: &[u8]| {
        let is_fine = text.is_ascii() && !text.contains(&0);
        is_fine.then(|| String::from_utf8_lossy(text).to_ascii_lowercase())
    };
    let mut names: Vec<String> = certificate
        .names()
        .filter_map(|name| match name {
            AlternativeName::Dns(text) => usable(text),
            _ => None,
        })
        .collect();
    if names.is_empty() {
        names.extend(certificate.common_name().and_then(usable));
    }
    names
}

fn meaning(certificate: &Certificate<'_>) -> Digest {
    let mut hasher = Hasher::new("meaning");
    hasher.part(certificate.subject).part(certificate.issuer).part(certificate.alternative_names);
    sha256(&hasher.finish())
}

/// A key that does not sign with everything it could.
#[derive(Debug)]
struct LimitedKey {
    inner: Arc<dyn SigningKey>,
    allowed: Vec<SignatureScheme>,
}

impl SigningKey for LimitedKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let offered: Vec<_> = offered.iter().copied().filter(|scheme| self.allowed.contains(scheme)).collect();
        self.inner.choose_scheme(&offered)
    }

    fn public_key(&self) -> Option<rustls_pki_types::SubjectPublicKeyInfoDer<'_>> {
        self.inner.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.inner.algorithm()
    }
}
