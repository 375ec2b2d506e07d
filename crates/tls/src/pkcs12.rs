//! PKCS#12 files (RFC 7292): a chain and its key.
//!
//! Their integrity is checked with the password; what is encrypted must be so with PBES2.

use aws_lc_rs::digest::{self, Algorithm};
use aws_lc_rs::hmac;

use crate::der::{self, Reader};
use crate::key::{self, Problem};

const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
const ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 6];
const BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1];
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 22, 1];
const MALFORMED: Problem = ("the PKCS#12 file is malformed", "it must be DER, not PEM");
const MOST_ROUNDS: u64 = 1_000_000;

/// What the file holds.
#[derive(Default)]
pub(crate) struct Contents {
    /// PKCS#8.
    pub(crate) key: Option<Vec<u8>>,
    /// In the order of the file.
    pub(crate) certificates: Vec<Vec<u8>>,
}

/// Reads the file.
pub(crate) fn open(bytes: &[u8], password: &[u8]) -> Result<Contents, Problem> {
    let mut fields = Reader::new(bytes).enter(der::SEQUENCE).ok_or(MALFORMED)?;
    fields.small().filter(|version| *version == 3).ok_or(MALFORMED)?;
    let mut safe = fields.enter(der::SEQUENCE).ok_or(MALFORMED)?;
    if safe.content(der::OID) != Some(DATA) {
        return Err(("the PKCS#12 file is signed with a public key", "use one with a password"));
    }
    let safe = safe.enter(der::context(0)).and_then(|mut data| data.content(der::OCTET_STRING)).ok_or(MALFORMED)?;
    let mac = fields.enter(der::SEQUENCE).ok_or(("the PKCS#12 file has no MAC", "make it with a password"))?;
    check_mac(mac, safe, password)?;
    let mut contents = Contents::default();
    let mut infos = Reader::new(safe).enter(der::SEQUENCE).ok_or(MALFORMED)?;
    while !infos.is_empty() {
        let mut info = infos.enter(der::SEQUENCE).ok_or(MALFORMED)?;
        let kind = info.content(der::OID).ok_or(MALFORMED)?;
        let mut inner = info.enter(der::context(0)).ok_or(MALFORMED)?;
        if kind == DATA {
            read_bags(inner.content(der::OCTET_STRING).ok_or(MALFORMED)?, password, &mut contents)?;
        } else if kind == ENCRYPTED_DATA {
            let bags = decrypt_content(inner, password)?;
            read_bags(&bags, password, &mut contents)?;
        } else {
            return Err(("the PKCS#12 file is encrypted with a public key", "use one with a password"));
        }
    }
    Ok(contents)
}

fn decrypt_content(mut inner: Reader<'_>, password: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut fields = inner.enter(der::SEQUENCE).ok_or(MALFORMED)?;
    fields.small().ok_or(MALFORMED)?;
    let mut content = fields.enter(der::SEQUENCE).ok_or(MALFORMED)?;
    content.content(der::OID).ok_or(MALFORMED)?;
    let algorithm = content.enter(der::SEQUENCE).ok_or(MALFORMED)?;
    // [0] IMPLICIT OCTET STRING.
    let data = content.content(0x80).ok_or(MALFORMED)?;
    key::decrypt(algorithm, data, password)
}

fn read_bags(bytes: &[u8], password: &[u8], contents: &mut Contents) -> Result<(), Problem> {
    let mut bags = Reader::new(bytes).enter(der::SEQUENCE).ok_or(MALFORMED)?;
    while !bags.is_empty() {
        let mut bag = bags.enter(der::SEQUENCE).ok_or(MALFORMED)?;
        let kind = bag.content(der::OID).ok_or(MALFORMED)?;
        let mut value = bag.enter(der::context(0)).ok_or(MALFORMED)?;
        match kind.strip_prefix(BAG) {
            Some([1]) if contents.key.is_none() => {
                contents.key = Some(value.element(der::SEQUENCE).ok_or(MALFORMED)?.whole.to_vec());
            }
            Some([2]) if contents.key.is_none() => {
                let shrouded = value.element(der::SEQUENCE).ok_or(MALFORMED)?;
                contents.key = Some(key::decrypt_pkcs8(shrouded.whole, password)?);
            }
            Some([3]) => {
                let mut certificate = value.enter(der::SEQUENCE).ok_or(MALFORMED)?;
                if certificate.content(der::OID) == Some(X509) {
                    let der = certificate.enter(der::context(0)).and_then(|mut der| der.content(der::OCTET_STRING));
                    contents.certificates.push(der.ok_or(MALFORMED)?.to_vec());
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_mac(mut mac: Reader<'_>, safe: &[u8], password: &[u8]) -> Result<(), Problem> {
    let mut digest_info = mac.enter(der::SEQUENCE).ok_or(MALFORMED)?;
    let oid = digest_info.enter(der::SEQUENCE).and_then(|mut algorithm| algorithm.content(der::OID));
    let expected = digest_info.content(der::OCTET_STRING).ok_or(MALFORMED)?;
    let salt = mac.content(der::OCTET_STRING).ok_or(MALFORMED)?;
    let rounds = mac.small().unwrap_or(1);
    let (hash, algorithm) = match oid {
        Some([0x2b, 14, 3, 2, 26]) => (&digest::SHA1_FOR_LEGACY_USE_ONLY, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        Some([0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1]) => (&digest::SHA256, hmac::HMAC_SHA256),
        Some([0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2]) => (&digest::SHA384, hmac::HMAC_SHA384),
        Some([0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3]) => (&digest::SHA512, hmac::HMAC_SHA512),
        _ => return Err(("the PKCS#12 file's MAC is of an unknown kind", "use SHA-256, the default of OpenSSL 3")),
    };
    if !(1..=MOST_ROUNDS).contains(&rounds) {
        return Err(MALFORMED);
    }
    let text = std::str::from_utf8(password).map_err(|_| ("the password is not UTF-8", ""))?;
    let password: Vec<u8> = text.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect();
    let key = mac_key(hash, &password, salt, rounds);
    hmac::verify(&hmac::Key::new(algorithm, &key), safe, expected)
        .map_err(|_| ("the PKCS#12 file does not open", "is the password right?"))
}

/// RFC 7292, appendix B.2, with ID 3: one block is enough, as the key is as long as the digest.
fn mac_key(hash: &'static Algorithm, password: &[u8], salt: &[u8], rounds: u64) -> Vec<u8> {
    let block = hash.block_len();
    let filled = |bytes: &[u8]| -> Vec<u8> {
        let length = bytes.len().div_ceil(block) * block;
        bytes.iter().copied().cycle().take(length).collect()
    };
    let mut context = digest::Context::new(hash);
    context.update(&vec![3; block]);
    context.update(&filled(salt));
    context.update(&filled(password));
    let mut key = context.finish();
    for _ in 1..rounds {
        key = digest::digest(hash, key.as_ref());
    }
    key.as_ref().to_vec()
}
