//! What a certificate says (RFC 5280), read where it stands.
//!
//! Owns: names, validity, serial number, fingerprints, and their forms in logs and headers. Does not own: trust.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

use crate::der::{self, Element, Reader};
use crate::name;
use crate::pem;
use nuncio_stream_info::CertificateNames;

/// A certificate's parts, not verified.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Certificate<'a> {
    pub(crate) der: &'a [u8],
    pub(crate) serial: &'a [u8],
    /// Content of the Name.
    pub(crate) issuer: &'a [u8],
    pub(crate) subject: &'a [u8],
    /// Seconds since 1970.
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    /// The whole SubjectPublicKeyInfo.
    pub(crate) public_key: &'a [u8],
    pub(crate) alternative_names: &'a [u8],
    /// The key usage bits, the first in the highest bit; `None` if the certificate does not say.
    pub(crate) key_usage: Option<u8>,
    pub(crate) is_authority: bool,
    pub(crate) must_staple: bool,
}

/// Bits of the key usage.
pub(crate) const DIGITAL_SIGNATURE: u8 = 0x80;
pub(crate) const KEY_CERT_SIGN: u8 = 0x04;
pub(crate) const CRL_SIGN: u8 = 0x02;

/// A subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AlternativeName<'a> {
    Email(&'a [u8]),
    Dns(&'a [u8]),
    Uri(&'a [u8]),
    Ip(IpAddr),
    /// Type (an object identifier's content) and the string.
    Other(&'a [u8], &'a [u8]),
}

impl<'a> Certificate<'a> {
    /// `None` if it is malformed.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Certificate<'a>> {
        let mut outer = Reader::new(bytes);
        let whole = outer.element(der::SEQUENCE)?;
        if !outer.is_empty() {
            return None;
        }
        let mut fields = Reader::new(whole.content).enter(der::SEQUENCE)?;
        let _version = fields.element(der::context(0));
        let serial = fields.content(der::INTEGER)?;
        let _algorithm = fields.element(der::SEQUENCE)?;
        let issuer = fields.content(der::SEQUENCE)?;
        let mut validity = fields.enter(der::SEQUENCE)?;
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        let subject = fields.content(der::SEQUENCE)?;
        let public_key = fields.element(der::SEQUENCE)?.whole;
        let mut certificate = Certificate {
            der: whole.whole,
            serial,
            issuer,
            subject,
            not_before,
            not_after,
            public_key,
            alternative_names: &[],
            key_usage: None,
            is_authority: false,
            must_staple: false,
        };
        while let Some(element) = fields.any() {
            if element.tag == der::context(3) {
                certificate.read_extensions(Reader::new(element.content).enter(der::SEQUENCE)?)?;
            }
        }
        Some(certificate)
    }

    fn read_extensions(&mut self, mut extensions: Reader<'a>) -> Option<()> {
        while !extensions.is_empty() {
            let mut extension = extensions.enter(der::SEQUENCE)?;
            let oid = extension.content(der::OID)?;
            let _critical = extension.element(der::BOOLEAN);
            let mut value = extension.enter(der::OCTET_STRING)?;
            match oid {
                [0x55, 0x1d, 17] => self.alternative_names = value.content(der::SEQUENCE)?,
                [0x55, 0x1d, 15] => self.key_usage = Some(value.bits()?.first().copied().unwrap_or(0)),
                [0x55, 0x1d, 19] => {
                    let flag = value.enter(der::SEQUENCE)?.content(der::BOOLEAN);
                    self.is_authority = flag.is_some_and(|flag| flag != [0]);
                }
                // id-pe-tlsfeature (RFC 7633), feature 5: status_request.
                [0x2b, 6, 1, 5, 5, 7, 1, 24] => {
                    let mut features = value.enter(der::SEQUENCE)?;
                    while let Some(feature) = features.small() {
                        self.must_staple |= feature == 5;
                    }
                }
                _ => {}
            }
        }
        Some(())
    }

    /// The alternative names that can be read; others are left out.
    pub(crate) fn names(&self) -> impl Iterator<Item = AlternativeName<'a>> + use<'a> {
        let mut names = Reader::new(self.alternative_names);
        std::iter::from_fn(move || names.any()).filter_map(alternative_name)
    }

    /// The last common name of the subject.
    pub(crate) fn common_name(&self) -> Option<&'a [u8]> {
        name::last_value(self.subject, &[0x55, 4, 3])
    }

    /// Serial number in lower-case hexadecimal, as Envoy prints it.
    pub(crate) fn serial_text(&self) -> String {
        let digits = match self.serial {
            [0, rest @ ..] if !rest.is_empty() => rest,
            all => all,
        };
        hex(digits)
    }

    pub(crate) fn sha256(&self) -> [u8; 32] {
        sha256(self.der)
    }

    pub(crate) fn sha1_text(&self) -> String {
        hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, self.der).as_ref())
    }

    /// All names, for logs and headers.
    pub(crate) fn all_names(&self) -> CertificateNames {
        let mut names =
            CertificateNames { subject: Some(name::rfc2253(self.subject).into()), ..CertificateNames::default() };
        for name in self.names() {
            match name {
                AlternativeName::Email(text) => names.email.push(printable(text)),
                AlternativeName::Dns(text) => names.dns.push(printable(text)),
                AlternativeName::Uri(text) => names.uri.push(printable(text)),
                AlternativeName::Ip(address) => names.ip.push(address.to_string().into()),
                AlternativeName::Other(_, text) => names.other_name.push(printable(text)),
            }
        }
        names
    }

    /// PEM as it stands in a header field (URL-encoded).
    pub(crate) fn url_encoded_pem(&self) -> String {
        let text = pem::encode("CERTIFICATE", self.der);
        let mut out = String::with_capacity(text.len() + text.len() / 8);
        for byte in text.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
                _ => out.push_str(&format!("%{byte:02X}")),
            }
        }
        out
    }
}

/// Text that can't break out of a line or pretend to be shorter: what is not printable ASCII is escaped.
fn printable(text: &[u8]) -> Arc<str> {
    match std::str::from_utf8(text) {
        Ok(text) if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) => text.into(),
        _ => text.escape_ascii().to_string().into(),
    }
}

fn alternative_name(element: Element<'_>) -> Option<AlternativeName<'_>> {
    let content = element.content;
    Some(match element.tag {
        0x81 => AlternativeName::Email(content),
        0x82 => AlternativeName::Dns(content),
        0x86 => AlternativeName::Uri(content),
        0x87 => AlternativeName::Ip(match content.len() {
            4 => <[u8; 4]>::try_from(content).ok()?.into(),
            16 => <[u8; 16]>::try_from(content).ok()?.into(),
            _ => return None,
        }),
        0xa0 => {
            let mut fields = Reader::new(content);
            let oid = fields.content(der::OID)?;
            AlternativeName::Other(oid, fields.enter(der::context(0))?.any()?.content)
        }
        _ => return None,
    })
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let pairs = bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    pairs.map(char::from).collect()
}

/// A time in seconds since 1970.
pub(crate) fn system_time(seconds: i64) -> SystemTime {
    match u64::try_from(seconds) {
        Ok(after) => SystemTime::UNIX_EPOCH + Duration::from_secs(after),
        Err(_) => SystemTime::UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()),
    }
}

/// Seconds since 1970.
pub(crate) fn unix_seconds(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_secs() as i64,
        Err(before) => -(before.duration().as_secs() as i64),
    }
}
