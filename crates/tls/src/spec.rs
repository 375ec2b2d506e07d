//! What a TLS context is made of: plain data, everything read from disk already.
//!
//! Owns: the types that the lowering of `envoy.extensions.transport_sockets.tls.v3` fills. Does not own: protobuf, files, checks
//! (`ServerContext::new` and `ClientContext::new` check).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nuncio_matcher::{CidrRange, StringMatcherSpec};

/// Bytes that no debug output shows.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

impl<T: Into<Vec<u8>>> From<T> for Secret {
    fn from(bytes: T) -> Self {
        Secret(bytes.into())
    }
}

/// The certificate chain and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateMaterial {
    /// `certificate_chain` and `private_key`.
    Pem {
        /// Certificates, the leaf first, PEM.
        chain: Vec<u8>,
        /// The key: PKCS#8, PKCS#1 or SEC 1 as PEM; PKCS#8 may be encrypted.
        key: Secret,
    },
    /// `pkcs12`: chain and key in one file, DER.
    Pkcs12(Secret),
}

/// `TlsCertificate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSpec {
    /// Where the chain comes from (path, `<inline>`, name of the secret): for `/certs`.
    pub source: Arc<str>,
    /// Chain and key.
    pub material: CertificateMaterial,
    /// `password`: of the encrypted key or the PKCS#12 file.
    pub password: Option<Secret>,
    /// `ocsp_staple`, DER.
    pub ocsp_staple: Option<Vec<u8>>,
}

impl CertificateSpec {
    /// A chain and a clear key, both PEM.
    pub fn pem(chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        CertificateSpec {
            source: Arc::from("<inline>"),
            material: CertificateMaterial::Pem { chain: chain.into(), key: Secret(key.into()) },
            password: None,
            ocsp_staple: None,
        }
    }
}

/// `TlsParameters.TlsProtocol`, those that can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.0: never negotiated; as a minimum it means TLS 1.2, with a warning.
    V1_0,
    /// TLS 1.1: as TLS 1.0.
    V1_1,
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// `TlsParameters`. `None` and empty lists are the defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParametersSpec {
    /// Default TLS 1.2.
    pub minimum_version: Option<TlsVersion>,
    /// Default TLS 1.3 for servers and TLS 1.2 for clients, as in Envoy.
    pub maximum_version: Option<TlsVersion>,
    /// Of TLS 1.2, in BoringSSL's spelling, with `[A|B]` for equal preference.
    pub cipher_suites: Vec<String>,
    /// `X25519MLKEM768`, `X25519`, `P-256`, `P-384`.
    pub ecdh_curves: Vec<String>,
    /// `ecdsa_secp256r1_sha256`, `rsa_pss_rsae_sha256`, …
    pub signature_algorithms: Vec<String>,
}

/// `SubjectAltNameMatcher.SanType`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SanType {
    /// `EMAIL`.
    Email,
    /// `DNS`. A wildcard in the certificate stands for one label.
    Dns,
    /// `URI`.
    Uri,
    /// `IP_ADDRESS`.
    IpAddress,
    /// `OTHER_NAME`.
    OtherName {
        /// Dotted object identifier of the type.
        oid: String,
    },
}

/// `SubjectAltNameMatcher`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SanMatcherSpec {
    /// Which names are looked at.
    pub san_type: SanType,
    /// What they are compared with.
    pub matcher: StringMatcherSpec,
}

/// `CertificateValidationContext.TrustChainVerification`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrustChainVerification {
    /// The chain must end in a trusted CA.
    #[default]
    VerifyTrustChain,
    /// Certificates without a trusted chain are accepted, and reported as not validated.
    AcceptUntrusted,
}

/// `SPIFFECertValidatorConfig`: each trust domain has its own authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpiffeTrustDomain {
    /// `name`: the trust domain, without `spiffe://`.
    pub name: String,
    /// `trust_bundle`, PEM.
    pub bundle: Vec<u8>,
}

/// `CertificateValidationContext`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ValidationSpec {
    /// Where `trusted_ca` comes from: for `/certs`.
    pub trusted_ca_source: Option<Arc<str>>,
    /// `trusted_ca`, PEM. Without it no chain is verified, as in Envoy.
    pub trusted_ca: Option<Arc<[u8]>>,
    /// `match_typed_subject_alt_names`: one of them must match; empty: nothing is asked.
    pub match_typed_subject_alt_names: Vec<SanMatcherSpec>,
    /// `verify_certificate_spki`: Base64 of the SHA-256 of the public key.
    pub verify_certificate_spki: Vec<String>,
    /// `verify_certificate_hash`: SHA-256 of the certificate in hexadecimal, with or without colons.
    pub verify_certificate_hash: Vec<String>,
    /// `crl`, PEM or DER.
    pub crl: Option<Vec<u8>>,
    /// `only_verify_leaf_cert_crl`.
    pub only_verify_leaf_cert_crl: bool,
    /// `allow_expired_certificate`.
    pub allow_expired_certificate: bool,
    /// `trust_chain_verification`.
    pub trust_chain_verification: TrustChainVerification,
    /// `suppress_client_ca_list`: clients are not told which authorities count.
    pub suppress_client_ca_list: bool,
    /// `max_verify_depth`: intermediate certificates, 0 ..= 100. Default 100.
    pub max_verify_depth: Option<u32>,
    /// `custom_validator_config` of type `SPIFFECertValidatorConfig`; not empty: replaces `trusted_ca`.
    pub spiffe_trust_domains: Vec<SpiffeTrustDomain>,
}

/// `DownstreamTlsContext.OcspStaplePolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OcspStaplePolicy {
    /// A staple is optional; an expired one is left out.
    #[default]
    LenientStapling,
    /// A staple is optional; connections fail when it has expired.
    StrictStapling,
    /// A staple is needed, and connections fail when it has expired.
    MustStaple,
}

/// `TlsKeyLog`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLogSpec {
    /// `path`: appended to, in NSS format.
    pub path: PathBuf,
    /// `local_address_range`; empty: every address.
    pub local_address_range: Vec<CidrRange>,
    /// `remote_address_range`; empty: every address.
    pub remote_address_range: Vec<CidrRange>,
}

/// `DownstreamTlsContext`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerSpec {
    /// `tls_certificates`: at least one. The first is the default.
    pub certificates: Vec<CertificateSpec>,
    /// `tls_params`.
    pub parameters: ParametersSpec,
    /// `alpn_protocols`, in order of preference.
    pub alpn_protocols: Vec<Vec<u8>>,
    /// `validation_context`; `None`: client certificates are not asked for.
    pub validation: Option<ValidationSpec>,
    /// `require_client_certificate`.
    pub require_client_certificate: bool,
    /// `ocsp_staple_policy`.
    pub ocsp_staple_policy: OcspStaplePolicy,
    /// `require_sni`: connections without a server name are closed.
    pub require_sni: bool,
    /// `session_ticket_keys`, 80 bytes each: the first encrypts, all decrypt. Empty: random ones, changed every hour.
    pub session_ticket_keys: Vec<Secret>,
    /// `disable_stateless_session_resumption`: no tickets.
    pub disable_stateless_session_resumption: bool,
    /// `disable_stateful_session_resumption`: no session cache.
    pub disable_stateful_session_resumption: bool,
    /// `session_timeout`, at least 1 s. Default 2 h.
    pub session_timeout: Option<Duration>,
    /// `prefer_client_ciphers`: the client's order of ciphers counts. Default false.
    pub prefer_client_ciphers: bool,
    /// `full_scan_certs_on_sni_mismatch`: a name that no certificate has is served by the first certificate whose key the client can
    /// verify, rather than by the first.
    pub full_scan_certs_on_sni_mismatch: bool,
    /// `key_log`.
    pub key_log: Option<KeyLogSpec>,
}

/// `UpstreamTlsContext`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientSpec {
    /// `tls_certificates`: at most one is used.
    pub certificates: Vec<CertificateSpec>,
    /// `tls_params`.
    pub parameters: ParametersSpec,
    /// `alpn_protocols`, in order of preference.
    pub alpn_protocols: Vec<Vec<u8>>,
    /// `validation_context`; `None`: nothing is verified, as in Envoy.
    pub validation: Option<ValidationSpec>,
    /// `sni`; empty: none.
    pub sni: String,
    /// `auto_host_sni`: the host's name where it has one.
    pub auto_host_sni: bool,
    /// `auto_sni_san_validation`: the server name that is sent must be a DNS name of the certificate.
    pub auto_sni_san_validation: bool,
    /// `max_session_keys`: sessions kept for resumption; 0 disables it. Default 1.
    pub max_session_keys: Option<u32>,
    /// `enforce_rsa_key_usage`. Always enforced where a certificate states its usage.
    pub enforce_rsa_key_usage: bool,
    /// `key_log`.
    pub key_log: Option<KeyLogSpec>,
}
