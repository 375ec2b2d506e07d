//! The certificate that every proxy shows, made at the start of a run, and authorities that clusters trust.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};

/// Authorities in the bundle: about as many as Mozilla's program has.
const AUTHORITIES: usize = 140;

/// A certificate of an ECDSA key on P-256 that signs itself, and a bundle of authorities; PEM.
pub struct Credentials {
    chain: String,
    key: String,
    bundle: String,
}

impl Credentials {
    /// Makes new ones.
    pub fn new() -> Result<Self, String> {
        let make = || {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let chain = CertificateParams::new(vec!["bench.test".to_owned()])?.self_signed(&key)?.pem();
            let mut bundle = String::new();
            for number in 0..AUTHORITIES {
                bundle.push_str(&authority(number)?);
            }
            Ok(Self { chain, key: key.serialize_pem(), bundle })
        };
        make().map_err(|error: rcgen::Error| format!("a certificate: {error}"))
    }

    /// Writes them into `directory`, where [`chain`], [`key`], [`both`] and [`bundle`] say.
    pub fn write(&self, directory: &Path) -> Result<(), String> {
        let write =
            |path: PathBuf, text: &str| fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()));
        write(chain(directory), &self.chain)?;
        write(key(directory), &self.key)?;
        write(both(directory), &format!("{}{}", self.chain, self.key))?;
        write(bundle(directory), &self.bundle)
    }
}

fn authority(number: usize) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Trust Services of the Benchmark");
    params.distinguished_name.push(DnType::CommonName, format!("Root {number}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params.self_signed(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)?.pem())
}

/// The certificate.
pub fn chain(directory: &Path) -> PathBuf {
    directory.join("chain.pem")
}

/// Its key.
pub fn key(directory: &Path) -> PathBuf {
    directory.join("key.pem")
}

/// Both, as HAProxy wants them.
pub fn both(directory: &Path) -> PathBuf {
    directory.join("both.pem")
}

/// The authorities.
pub fn bundle(directory: &Path) -> PathBuf {
    directory.join("bundle.pem")
}
