//! Private keys as files hold them: PKCS#8 (clear or encrypted, RFC 5958, RFC 8018), PKCS#1, SEC 1.

use aws_lc_rs::cipher::{AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use rustls_pki_types::PrivateKeyDer;
use std::num::NonZeroU32;

use crate::der::{self, Reader};
use crate::pem;
use crate::spec::Secret;

/// Rounds of key derivation that a file may ask for: about five seconds.
const MOST_ROUNDS: u64 = 10_000_000;

/// What is wrong, and what to do about it.
pub(crate) type Problem = (&'static str, &'static str);

/// The first key of a PEM text.
pub(crate) fn from_pem(text: &[u8], password: Option<&Secret>) -> Result<PrivateKeyDer<'static>, Problem> {
    let blocks = pem::blocks(text).map_err(|what| (what, "the key must be PEM"))?;
    let block = blocks.into_iter().find(|block| block.label.ends_with("PRIVATE KEY"));
    let block = block.ok_or(("there is no private key in it", "the key must be PEM: BEGIN PRIVATE KEY"))?;
    match block.label.as_str() {
        _ if block.has_headers => {
            Err(("the key is encrypted in the old way of OpenSSL", "convert it: openssl pkcs8 -topk8 -v2 aes-256-cbc"))
        }
        "PRIVATE KEY" => Ok(PrivateKeyDer::Pkcs8(block.der.into())),
        "RSA PRIVATE KEY" => Ok(PrivateKeyDer::Pkcs1(block.der.into())),
        "EC PRIVATE KEY" => Ok(PrivateKeyDer::Sec1(block.der.into())),
        "ENCRYPTED PRIVATE KEY" => {
            let password = password.ok_or(("the key is encrypted", "give its password"))?;
            decrypt_pkcs8(&block.der, &password.0).map(|der| PrivateKeyDer::Pkcs8(der.into()))
        }
        _ => Err(("the key is of an unknown kind", "RSA and ECDSA keys can be used")),
    }
}

/// `EncryptedPrivateKeyInfo` to `PrivateKeyInfo`.
pub(crate) fn decrypt_pkcs8(bytes: &[u8], password: &[u8]) -> Result<Vec<u8>, Problem> {
    let malformed = ("the encrypted key is malformed", "");
    let mut fields = Reader::new(bytes).enter(der::SEQUENCE).ok_or(malformed)?;
    let algorithm = fields.enter(der::SEQUENCE).ok_or(malformed)?;
    let data = fields.content(der::OCTET_STRING).ok_or(malformed)?;
    decrypt(algorithm, data, password)
}

/// PBES2 with PBKDF2 and AES-CBC.
pub(crate) fn decrypt(mut algorithm: Reader<'_>, data: &[u8], password: &[u8]) -> Result<Vec<u8>, Problem> {
    const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
    const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12];
    let malformed = ("the encryption's parameters are malformed", "");
    let unsupported =
        ("it is encrypted with an old algorithm", "encrypt it again: PBES2 with AES-256-CBC, the default of OpenSSL 3");
    if algorithm.content(der::OID) != Some(PBES2) {
        return Err(unsupported);
    }
    let mut parameters = algorithm.enter(der::SEQUENCE).ok_or(malformed)?;
    let mut derivation = parameters.enter(der::SEQUENCE).ok_or(malformed)?;
    let mut encryption = parameters.enter(der::SEQUENCE).ok_or(malformed)?;
    if derivation.content(der::OID) != Some(PBKDF2) {
        return Err(("its key derivation is not PBKDF2", unsupported.1));
    }
    let mut derivation = derivation.enter(der::SEQUENCE).ok_or(malformed)?;
    let salt = derivation.content(der::OCTET_STRING).ok_or(malformed)?;
    let rounds = derivation.small().filter(|rounds| *rounds <= MOST_ROUNDS).ok_or(malformed)?;
    let rounds = NonZeroU32::new(rounds as u32).ok_or(malformed)?;
    let _length = derivation.small();
    let hash = match derivation.enter(der::SEQUENCE).map(|mut prf| prf.content(der::OID)) {
        None => pbkdf2::PBKDF2_HMAC_SHA1,
        Some(Some([0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, last])) => match last {
            7 => pbkdf2::PBKDF2_HMAC_SHA1,
            9 => pbkdf2::PBKDF2_HMAC_SHA256,
            10 => pbkdf2::PBKDF2_HMAC_SHA384,
            11 => pbkdf2::PBKDF2_HMAC_SHA512,
            _ => return Err(unsupported),
        },
        Some(_) => return Err(unsupported),
    };
    let (cipher, length) = match encryption.content(der::OID) {
        Some([0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 2]) => (&AES_128, 16),
        Some([0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 22]) => (&AES_192, 24),
        Some([0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 42]) => (&AES_256, 32),
        _ => return Err(unsupported),
    };
    let iv = encryption.content(der::OCTET_STRING).and_then(|iv| <[u8; 16]>::try_from(iv).ok()).ok_or(malformed)?;
    let mut key = vec![0; length];
    pbkdf2::derive(hash, rounds, salt, password, &mut key);
    let wrong = ("it does not decrypt", "is the password right?");
    let key = UnboundCipherKey::new(cipher, &key).and_then(PaddedBlockDecryptingKey::cbc_pkcs7).map_err(|_| wrong)?;
    let mut data = data.to_vec();
    let length = key.decrypt(&mut data, DecryptionContext::Iv128(FixedLength::from(iv))).map_err(|_| wrong)?.len();
    data.truncate(length);
    if Reader::new(&data).element(der::SEQUENCE).is_none() {
        return Err(wrong);
    }
    Ok(data)
}
