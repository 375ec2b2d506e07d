//! Versions, cipher suites, groups and signature algorithms: Envoy's (BoringSSL's) names for what rustls has.
//!
//! What rustls does not have is unsafe or out of use; it is left out, and a warning names it.

use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::{
    CipherSuite, NamedGroup, ProtocolVersion, SignatureScheme, SupportedCipherSuite, SupportedProtocolVersion,
};

use crate::finding::{ContextError, Finding, Warning};
use crate::spec::{ParametersSpec, TlsVersion};

/// Suites in the order in which a server chooses and a client offers: Envoy's default.
const SUITES: &[(CipherSuite, &str)] = &[
    (CipherSuite::TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256"),
    (CipherSuite::TLS13_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384"),
    (CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, "TLS_CHACHA20_POLY1305_SHA256"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "ECDHE-RSA-AES128-GCM-SHA256"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-CHACHA20-POLY1305"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "ECDHE-RSA-AES256-GCM-SHA384"),
];

/// Suites that BoringSSL knows and that are not safe enough.
const UNSAFE_SUITES: &[&str] = &[
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "AES128-SHA256",
    "ECDHE-PSK-AES128-CBC-SHA",
    "ECDHE-PSK-AES256-CBC-SHA",
    "ECDHE-PSK-CHACHA20-POLY1305",
    "PSK-AES128-CBC-SHA",
    "PSK-AES256-CBC-SHA",
    "DES-CBC3-SHA",
];

/// Groups, with the spellings that configurations use.
const GROUPS: &[(&str, &[&str], NamedGroup)] = &[
    ("X25519MLKEM768", &["X25519MLKEM768"], NamedGroup::X25519MLKEM768),
    ("X25519", &["X25519"], NamedGroup::X25519),
    ("P-256", &["P-256", "prime256v1", "secp256r1"], NamedGroup::secp256r1),
    ("P-384", &["P-384", "secp384r1"], NamedGroup::secp384r1),
];

/// Signature algorithms by BoringSSL's names.
const SIGNATURES: &[(&str, SignatureScheme)] = &[
    ("ecdsa_secp256r1_sha256", SignatureScheme::ECDSA_NISTP256_SHA256),
    ("ecdsa_secp384r1_sha384", SignatureScheme::ECDSA_NISTP384_SHA384),
    ("ecdsa_secp521r1_sha512", SignatureScheme::ECDSA_NISTP521_SHA512),
    ("rsa_pss_rsae_sha256", SignatureScheme::RSA_PSS_SHA256),
    ("rsa_pss_rsae_sha384", SignatureScheme::RSA_PSS_SHA384),
    ("rsa_pss_rsae_sha512", SignatureScheme::RSA_PSS_SHA512),
    ("rsa_pkcs1_sha256", SignatureScheme::RSA_PKCS1_SHA256),
    ("rsa_pkcs1_sha384", SignatureScheme::RSA_PKCS1_SHA384),
    ("rsa_pkcs1_sha512", SignatureScheme::RSA_PKCS1_SHA512),
    ("ed25519", SignatureScheme::ED25519),
];

/// What contexts that ask for nothing special share.
static DEFAULT: OnceLock<Arc<CryptoProvider>> = OnceLock::new();

/// What a context negotiates.
#[derive(Debug, Clone)]
pub(crate) struct Parameters {
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    /// Signature algorithms for this side's certificate and the peer's; `None`: all that rustls has.
    pub(crate) signatures: Option<Vec<SignatureScheme>>,
}

impl Parameters {
    /// `maximum` is the default of the side.
    pub(crate) fn new(
        spec: &ParametersSpec,
        maximum: TlsVersion,
        warnings: &mut Vec<Warning>,
    ) -> Result<Parameters, ContextError> {
        let versions = versions(spec, maximum, warnings)?;
        let has_v1_2 = versions.iter().any(|version| version.version == ProtocolVersion::TLSv1_2);
        let make = |warnings: &mut Vec<Warning>| -> Result<_, ContextError> {
            let mut provider = aws_lc_rs::default_provider();
            provider.cipher_suites = suites(&spec.cipher_suites, has_v1_2, warnings)?;
            provider.kx_groups = groups(&spec.ecdh_curves, warnings)?;
            Ok(Arc::new(provider))
        };
        let is_default = spec.cipher_suites.is_empty() && spec.ecdh_curves.is_empty();
        let provider = match DEFAULT.get() {
            Some(provider) if is_default => Arc::clone(provider),
            _ => {
                let made = make(warnings)?;
                if is_default { Arc::clone(DEFAULT.get_or_init(|| made)) } else { made }
            }
        };
        let signatures = signatures(&spec.signature_algorithms, warnings)?;
        Ok(Parameters { provider, versions, signatures })
    }
}

fn versions(
    spec: &ParametersSpec,
    maximum: TlsVersion,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<&'static SupportedProtocolVersion>, ContextError> {
    let minimum = spec.minimum_version.unwrap_or(TlsVersion::V1_2);
    // A minimum alone moves the default maximum up with it.
    let maximum = spec.maximum_version.unwrap_or(maximum.max(minimum));
    if minimum < TlsVersion::V1_2 && maximum >= TlsVersion::V1_2 {
        let field = "tls_params.tls_minimum_protocol_version";
        warnings.push(Finding::new(field, "TLS 1.0 and 1.1 are not offered", "the minimum is TLS 1.2"));
    }
    let all = [(TlsVersion::V1_3, &rustls::version::TLS13), (TlsVersion::V1_2, &rustls::version::TLS12)];
    let chosen: Vec<_> = all
        .into_iter()
        .filter(|(version, _)| (minimum..=maximum).contains(version))
        .map(|(_, version)| version)
        .collect();
    if chosen.is_empty() {
        let found = format!("no version remains between {minimum:?} and {maximum:?}");
        return Err(Finding::new("tls_params", found, "allow TLS 1.2 or TLS 1.3"));
    }
    Ok(chosen)
}

fn suite(id: CipherSuite) -> Option<SupportedCipherSuite> {
    aws_lc_rs::ALL_CIPHER_SUITES.iter().find(|suite| suite.suite() == id).copied()
}

fn suites(
    names: &[String],
    has_v1_2: bool,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<SupportedCipherSuite>, ContextError> {
    let is_v1_3 = |name: &str| name.starts_with("TLS_");
    let mut chosen: Vec<SupportedCipherSuite> =
        SUITES.iter().filter(|(_, name)| names.is_empty() || is_v1_3(name)).filter_map(|(id, _)| suite(*id)).collect();
    let v1_3 = chosen.len();
    for (index, entry) in names.iter().enumerate() {
        for name in entry.trim_matches(['[', ']']).split('|') {
            let field = format!("tls_params.cipher_suites[{index}]");
            match SUITES.iter().find(|(_, known)| *known == name) {
                Some(_) if is_v1_3(name) => {
                    let hint = "the suites of TLS 1.3 are always offered; leave it out";
                    warnings.push(Finding::new(field, format!("{name} is a suite of TLS 1.3"), hint));
                }
                Some((id, _)) => chosen.extend(suite(*id).filter(|suite| !chosen.contains(suite))),
                None => {
                    let is_unsafe = UNSAFE_SUITES.contains(&name);
                    let what = if is_unsafe { "is not safe and is not offered" } else { "is unknown" };
                    let hint = "offered are ECDHE with AES-GCM and with CHACHA20-POLY1305";
                    warnings.push(Finding::new(field, format!("cipher suite {name} {what}"), hint));
                }
            }
        }
    }
    if has_v1_2 && !names.is_empty() && chosen.len() == v1_3 {
        let found = format!("none of {} can be used", names.join(":"));
        let hint = "name at least one such as ECDHE-ECDSA-AES128-GCM-SHA256, or make TLS 1.3 the minimum";
        return Err(Finding::new("tls_params.cipher_suites", found, hint));
    }
    Ok(chosen)
}

fn group(id: NamedGroup) -> Option<&'static dyn SupportedKxGroup> {
    aws_lc_rs::ALL_KX_GROUPS.iter().find(|group| group.name() == id).copied()
}

fn groups(names: &[String], warnings: &mut Vec<Warning>) -> Result<Vec<&'static dyn SupportedKxGroup>, ContextError> {
    if names.is_empty() {
        return Ok(GROUPS.iter().filter_map(|(_, _, id)| group(*id)).collect());
    }
    let mut chosen: Vec<&'static dyn SupportedKxGroup> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match GROUPS.iter().find(|(_, spellings, _)| spellings.contains(&name.as_str())) {
            Some((_, _, id)) => chosen.extend(group(*id).filter(|_| chosen.iter().all(|group| group.name() != *id))),
            None => {
                let hint = "offered are X25519MLKEM768, X25519, P-256 and P-384";
                let field = format!("tls_params.ecdh_curves[{index}]");
                warnings.push(Finding::new(field, format!("curve {name} is not offered"), hint));
            }
        }
    }
    if chosen.is_empty() {
        let found = format!("none of {} can be used", names.join(":"));
        return Err(Finding::new("tls_params.ecdh_curves", found, "name X25519 or P-256"));
    }
    Ok(chosen)
}

fn signatures(names: &[String], warnings: &mut Vec<Warning>) -> Result<Option<Vec<SignatureScheme>>, ContextError> {
    if names.is_empty() {
        return Ok(None);
    }
    let mut chosen = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match SIGNATURES.iter().find(|(known, _)| known == name) {
            Some((_, scheme)) => chosen.push(*scheme),
            None => {
                let field = format!("tls_params.signature_algorithms[{index}]");
                let found = format!("signature algorithm {name} is not offered");
                warnings.push(Finding::new(field, found, "name one such as ecdsa_secp256r1_sha256"));
            }
        }
    }
    if chosen.is_empty() {
        let found = format!("none of {} can be used", names.join(":"));
        let hint = "name one such as ecdsa_secp256r1_sha256";
        return Err(Finding::new("tls_params.signature_algorithms", found, hint));
    }
    Ok(Some(chosen))
}

/// OpenSSL's name of a suite.
pub(crate) fn suite_name(id: CipherSuite) -> &'static str {
    SUITES.iter().find(|(known, _)| *known == id).map_or("", |(_, name)| name)
}

/// BoringSSL's name of a group.
pub(crate) fn group_name(id: NamedGroup) -> &'static str {
    GROUPS.iter().find(|(_, _, known)| *known == id).map_or("", |(name, ..)| name)
}

/// BoringSSL's name of a signature algorithm.
pub(crate) fn signature_name(scheme: SignatureScheme) -> &'static str {
    SIGNATURES.iter().find(|(_, known)| *known == scheme).map_or("", |(name, _)| name)
}

/// Envoy's name of a version.
pub(crate) fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        _ => "",
    }
}
