//! A certificate authority for tests, and certificates that it issues, as files.

// Only tests call it, with names of their own: what is wrong there is to end the test.
#![allow(clippy::expect_used, clippy::panic)]

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use std::fs;
use std::path::Path;

/// An authority. Its key is ECDSA P-256, as are those of its certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Nuncio");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// `DNS:a.test`, `URI:spiffe://a/b` or `IP:127.0.0.1`.
fn name(text: &str) -> SanType {
    let (kind, value) = text.split_once(':').expect("kind:value");
    match kind {
        "DNS" => SanType::DnsName(value.try_into().expect("a name")),
        "URI" => SanType::URI(value.try_into().expect("a URI")),
        "IP" => SanType::IpAddress(value.parse().expect("an address")),
        other => panic!("{other} is no kind of name"),
    }
}

impl Authority {
    /// A new authority of this common name.
    pub fn new(common_name: &str) -> Authority {
        let mut params = params(common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate and its key, both PEM. Names are written `DNS:a.test`, `URI:spiffe://a/b`, `IP:127.0.0.1`.
    pub fn issue(&self, common_name: &str, names: &[&str]) -> (String, String) {
        let mut params = params(common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.subject_alt_names = names.iter().map(|text| name(text)).collect();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// The same in the files `<stem>.crt` and `<stem>.key` of a directory, and the authority's own in `ca.crt`.
    pub fn write(&self, directory: &Path, stem: &str, names: &[&str]) {
        let (certificate, key) = self.issue(stem, names);
        fs::write(directory.join("ca.crt"), &self.pem).expect("a file");
        fs::write(directory.join(format!("{stem}.crt")), certificate).expect("a file");
        fs::write(directory.join(format!("{stem}.key")), key).expect("a file");
    }
}
