//! Whether a peer's certificate is what the configuration asks for (`CertificateValidationContext`).
//!
//! Envoy's order: the chain, then the names, then the pinned hashes. Upstream host names are compared only where names are asked
//! for; without a trusted authority no chain is verified.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder,
};

use crate::certificate::{self, Certificate};
use crate::identity::CertificateDetails;
use crate::notes;
use crate::roots::{Known, Roots};
use crate::san::{self, SanMatcher};
use crate::session::FailureKind;
use crate::shared::Digest;
use crate::spiffe::SpiffeDomains;

/// Certificates of a refused chain that are kept for the log.
const MOST_REFUSED: usize = 4;

/// Which side's certificates are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Client,
    Server,
}

/// Compiled `CertificateValidationContext`.
#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) peer: Peer,
    pub(crate) roots: Option<Arc<Roots>>,
    pub(crate) spiffe: Option<SpiffeDomains>,
    pub(crate) crls: Vec<CertRevocationList<'static>>,
    pub(crate) leaf_crl_only: bool,
    pub(crate) sans: Vec<SanMatcher>,
    pub(crate) spki_hashes: Vec<Digest>,
    pub(crate) certificate_hashes: Vec<Digest>,
    pub(crate) allow_expired: bool,
    pub(crate) accept_untrusted: bool,
    pub(crate) max_depth: usize,
    /// Whether a client must show a certificate.
    pub(crate) required: bool,
    /// Whether it is asked for one.
    pub(crate) asks: bool,
    pub(crate) schemes: Vec<SignatureScheme>,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
    /// Names of authorities that clients are told.
    pub(crate) hints: Vec<DistinguishedName>,
}

/// Why a certificate is not accepted: what to count, OpenSSL's words, and what the peer is told.
pub(crate) struct Refusal {
    pub(crate) kind: FailureKind,
    pub(crate) text: String,
    pub(crate) error: CertificateError,
}

impl Refusal {
    fn chain(depth: usize, text: &str, error: CertificateError) -> Refusal {
        let text = format!("X509_verify_cert: certificate verification error at depth {depth}: {text}");
        Refusal { kind: FailureKind::VerifyError, text, error }
    }
}

/// A chain that a peer showed.
pub(crate) struct Chain<'a> {
    pub(crate) leaf: Certificate<'a>,
    pub(crate) der: &'a CertificateDer<'a>,
    pub(crate) intermediates: &'a [CertificateDer<'a>],
    /// Seconds since 1970.
    pub(crate) now: i64,
}

impl Verifier {
    /// Verifies, and notes the outcome.
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        match self.outcome(leaf, intermediates, now.as_secs() as i64) {
            Ok(is_validated) => {
                notes::with(|notes| notes.is_validated = is_validated);
                Ok(())
            }
            Err(refusal) => {
                let failure = (refusal.kind, format!("verify cert failed: {}", refusal.text));
                let chain = std::iter::once(leaf).chain(intermediates).take(MOST_REFUSED);
                let refused = chain.map(|der| der.clone().into_owned()).collect();
                notes::with(|notes| (notes.failure, notes.refused) = (Some(failure), refused));
                Err(Error::InvalidCertificate(refusal.error))
            }
        }
    }

    /// As [`Verifier::outcome`] for a session that is resumed in the context in which it was verified. What depends on the time is
    /// looked at again.
    pub(crate) fn outcome_of_resumed(
        &self,
        der: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: i64,
    ) -> Result<bool, Refusal> {
        if self.accept_untrusted || !self.crls.is_empty() || !self.always_validates() {
            return self.outcome(der, intermediates, now);
        }
        let has_authority = self.roots.is_some() || self.spiffe.is_some();
        let leaf = Certificate::parse(der).filter(|_| has_authority && !self.allow_expired);
        leaf.map_or(Ok(()), |leaf| check_validity(&leaf, now, 0)).map(|()| true)
    }

    /// Whether the certificate is accepted, and if so, whether because something about it was verified.
    pub(crate) fn outcome(
        &self,
        der: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: i64,
    ) -> Result<bool, Refusal> {
        let malformed = || Refusal::chain(0, "certificate is malformed", CertificateError::BadEncoding);
        let leaf = Certificate::parse(der).ok_or_else(malformed)?;
        if self.peer == Peer::Server && leaf.key_usage.is_some_and(|usage| usage & certificate::DIGITAL_SIGNATURE == 0)
        {
            let text = "KEY_USAGE_BIT_INCORRECT";
            return Err(Refusal::chain(0, text, CertificateError::InvalidPurpose));
        }
        let chain = Chain { leaf, der, intermediates, now };
        let trusted = self.trusted(&chain);
        let mut is_validated = match trusted {
            Ok(is_verified) => is_verified,
            Err(_) if self.accept_untrusted => false,
            Err(refusal) => return Err(refusal),
        };
        let names = self.check_names(&chain.leaf);
        let pins = names.and_then(|has_names| Ok(self.check_pins(&chain.leaf)? || has_names));
        match pins {
            Ok(is_checked) => is_validated |= is_checked,
            Err(_) if self.accept_untrusted => is_validated = false,
            Err(refusal) => return Err(refusal),
        }
        Ok(is_validated)
    }

    /// Whether every certificate that is accepted was verified.
    pub(crate) fn always_validates(&self) -> bool {
        let has_authority = self.roots.is_some() || self.spiffe.is_some();
        let has_pins = !self.spki_hashes.is_empty() || !self.certificate_hashes.is_empty();
        !self.accept_untrusted && (has_authority || has_pins)
    }

    /// Fingerprint and serial number of the trusted authority of this name.
    pub(crate) fn issuer(&self, name: &[u8]) -> Option<Known> {
        let spiffe = self.spiffe.iter().flat_map(SpiffeDomains::all);
        self.roots.iter().chain(spiffe).find_map(|roots| roots.issuer(name))
    }

    /// The authorities, for `/certs`.
    pub(crate) fn authorities(&self) -> Vec<CertificateDetails> {
        let spiffe = self.spiffe.iter().flat_map(SpiffeDomains::all);
        self.roots.iter().chain(spiffe).flat_map(|roots| roots.details.iter().cloned()).collect()
    }

    /// The chain; `false` if there is nothing to verify it against.
    fn trusted(&self, chain: &Chain<'_>) -> Result<bool, Refusal> {
        if let Some(spiffe) = &self.spiffe {
            let roots = spiffe.roots_for(&chain.leaf)?;
            self.verify_chain(chain, roots)?;
            return Ok(true);
        }
        match &self.roots {
            Some(roots) => self.verify_chain(chain, roots).map(|()| true),
            None => Ok(false),
        }
    }

    fn verify_chain(&self, chain: &Chain<'_>, roots: &Roots) -> Result<(), Refusal> {
        if !self.allow_expired {
            check_validity(&chain.leaf, chain.now, 0)?;
        }
        let result = self.build_path(chain, roots, chain.now);
        let result = match result {
            Err(webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. }) if self.allow_expired => {
                self.build_path_at_any_time(chain, roots)
            }
            other => other,
        };
        match result {
            Ok(()) => Ok(()),
            // The leaf itself may be trusted (X509_V_FLAG_PARTIAL_CHAIN).
            Err(webpki::Error::UnknownIssuer | webpki::Error::CaUsedAsEndEntity)
                if roots.contains(&chain.leaf) && self.crls.is_empty() =>
            {
                Ok(())
            }
            Err(error) => Err(refusal(&error, chain)),
        }
    }

    /// With `allow_expired_certificate` the time does not matter, but webpki wants one: those at which some certificate of the chain
    /// is valid are tried.
    fn build_path_at_any_time(&self, chain: &Chain<'_>, roots: &Roots) -> Result<(), webpki::Error> {
        let parsed = chain.intermediates.iter().take(8).filter_map(|der| Certificate::parse(der));
        let times = std::iter::once(chain.leaf).chain(parsed).flat_map(|known| [known.not_after, known.not_before]);
        let mut last = Err(webpki::Error::UnknownIssuer);
        for time in times {
            last = self.build_path(chain, roots, time);
            match last {
                Err(webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. }) => {}
                _ => break,
            }
        }
        last
    }

    fn build_path(&self, chain: &Chain<'_>, roots: &Roots, time: i64) -> Result<(), webpki::Error> {
        let end_entity = EndEntityCert::try_from(chain.der)?;
        let crls: Vec<&CertRevocationList<'_>> = self.crls.iter().collect();
        let depth = if self.leaf_crl_only { RevocationCheckDepth::EndEntity } else { RevocationCheckDepth::Chain };
        let expiration = if self.allow_expired { ExpirationPolicy::Ignore } else { ExpirationPolicy::Enforce };
        let revocation = RevocationOptionsBuilder::new(&crls)
            .ok()
            .map(|options| options.with_depth(depth).with_expiration_policy(expiration).build());
        let usage = match self.peer {
            Peer::Client => KeyUsage::client_auth(),
            Peer::Server => KeyUsage::server_auth(),
        };
        let limits = |path: &webpki::VerifiedPath<'_>| {
            if path.intermediate_certificates().count() > self.max_depth {
                return Err(webpki::Error::MaximumPathDepthExceeded);
            }
            let is_current = self.allow_expired || roots.is_current(path.anchor(), chain.now);
            if is_current { Ok(()) } else { Err(webpki::Error::UnknownIssuer) }
        };
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(time).unwrap_or(0)));
        let algorithms = self.algorithms.all;
        end_entity
            .verify_for_usage(algorithms, &roots.anchors, chain.intermediates, time, usage, revocation, Some(&limits))
            .map(|_| ())
    }

    /// Whether names were asked for; an error if none of them is there.
    fn check_names(&self, leaf: &Certificate<'_>) -> Result<bool, Refusal> {
        let instead = notes::with(|notes| notes.names.clone());
        let is_fine = match &instead {
            Some(names) => san::has_name(leaf, names),
            None if self.sans.is_empty() => return Ok(false),
            None => san::any_matches(leaf, &self.sans),
        };
        if is_fine {
            return Ok(true);
        }
        let text = format!("SAN matcher, certificate SANs are [{}]", san::listed(leaf));
        Err(Refusal { kind: FailureKind::VerifySan, text, error: not_acceptable() })
    }

    /// Whether hashes were asked for; an error if none of them is this one's.
    fn check_pins(&self, leaf: &Certificate<'_>) -> Result<bool, Refusal> {
        if self.spki_hashes.is_empty() && self.certificate_hashes.is_empty() {
            return Ok(false);
        }
        let has_certificate = self.certificate_hashes.contains(&leaf.sha256());
        if has_certificate || self.spki_hashes.contains(&certificate::sha256(leaf.public_key)) {
            return Ok(true);
        }
        let (kind, text) = (FailureKind::VerifyCertificateHash, "cert hash and spki".to_owned());
        Err(Refusal { kind, text, error: not_acceptable() })
    }

    fn note_scheme(&self, signed: &DigitallySignedStruct) -> Result<(), Error> {
        notes::with(|notes| notes.peer_scheme = Some(signed.scheme));
        if self.schemes.contains(&signed.scheme) {
            return Ok(());
        }
        Err(Error::PeerMisbehaved(rustls::PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme))
    }
}

/// For which the peer is told `certificate_unknown`.
fn not_acceptable() -> CertificateError {
    #[derive(Debug)]
    struct NotAcceptable;
    impl std::fmt::Display for NotAcceptable {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("certificate is not acceptable")
        }
    }
    impl std::error::Error for NotAcceptable {}
    CertificateError::Other(rustls::OtherError(Arc::new(NotAcceptable)))
}

fn check_validity(certificate: &Certificate<'_>, now: i64, depth: usize) -> Result<(), Refusal> {
    if now > certificate.not_after {
        return Err(Refusal::chain(depth, "certificate has expired", CertificateError::Expired));
    }
    if now < certificate.not_before {
        return Err(Refusal::chain(depth, "certificate is not yet valid", CertificateError::NotValidYet));
    }
    Ok(())
}

/// In OpenSSL's words.
fn refusal(error: &webpki::Error, chain: &Chain<'_>) -> Refusal {
    use webpki::Error as Webpki;
    let is_self_signed = chain.leaf.issuer == chain.leaf.subject;
    let (depth, text, error) = match error {
        Webpki::CertExpired { .. } => (1, "certificate has expired", CertificateError::Expired),
        Webpki::CertNotValidYet { .. } => (1, "certificate is not yet valid", CertificateError::NotValidYet),
        Webpki::CertRevoked => (0, "certificate revoked", CertificateError::Revoked),
        Webpki::UnknownRevocationStatus => {
            (0, "unable to get certificate CRL", CertificateError::UnknownRevocationStatus)
        }
        Webpki::CrlExpired { .. } => (0, "CRL has expired", CertificateError::UnknownRevocationStatus),
        Webpki::RequiredEkuNotFoundContext(_) => {
            (0, "unsupported certificate purpose", CertificateError::InvalidPurpose)
        }
        Webpki::MaximumPathDepthExceeded | Webpki::PathLenConstraintViolated => {
            (1, "certificate chain too long", CertificateError::UnknownIssuer)
        }
        Webpki::UnknownIssuer | Webpki::CaUsedAsEndEntity if is_self_signed => {
            (0, "self signed certificate", CertificateError::UnknownIssuer)
        }
        Webpki::UnknownIssuer => (0, "unable to get local issuer certificate", CertificateError::UnknownIssuer),
        Webpki::InvalidSignatureForPublicKey => (0, "certificate signature failure", CertificateError::BadSignature),
        other => {
            let text = format!("{other:?}");
            return Refusal::chain(0, &text, CertificateError::BadEncoding);
        }
    };
    Refusal::chain(depth, text, error)
}

impl Refusal {
    /// The SPIFFE validator's words.
    pub(crate) fn spiffe(text: &str) -> Refusal {
        let error = CertificateError::UnknownIssuer;
        Refusal { kind: FailureKind::VerifyError, text: text.to_owned(), error }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.note_scheme(dss)?;
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.note_scheme(dss)?;
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

impl ClientCertVerifier for Verifier {
    fn offer_client_auth(&self) -> bool {
        self.asks
    }

    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
