//! Distinguished names in the form of RFC 2253, escaped as OpenSSL does it for `XN_FLAG_RFC2253`.

use crate::certificate::hex;
use crate::der::{self, Reader};

/// Attribute types with a short name, by the content of their object identifier.
const SHORT_NAMES: &[(&[u8], &str)] = &[
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 4], "SN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "street"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 12], "title"),
    (&[0x55, 4, 13], "description"),
    (&[0x55, 4, 15], "businessCategory"),
    (&[0x55, 4, 17], "postalCode"),
    (&[0x55, 4, 41], "name"),
    (&[0x55, 4, 42], "GN"),
    (&[0x55, 4, 43], "initials"),
    (&[0x55, 4, 44], "generationQualifier"),
    (&[0x55, 4, 46], "dnQualifier"),
    (&[0x55, 4, 65], "pseudonym"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
];

const UTF8: u8 = 0x0c;
const T61: u8 = 0x14;
const BMP: u8 = 0x1e;
const UNIVERSAL: u8 = 0x1c;

/// The name, whose content is `name`: the last part first, parts of one RDN joined by `+`.
pub(crate) fn rfc2253(name: &[u8]) -> String {
    let mut parts = Vec::new();
    let mut rdns = Reader::new(name);
    while let Some(mut rdn) = rdns.enter(der::SET) {
        let mut attributes = Vec::new();
        while let Some(text) = rdn.enter(der::SEQUENCE).and_then(attribute) {
            attributes.push(text);
        }
        attributes.reverse();
        parts.push(attributes.join("+"));
    }
    parts.reverse();
    parts.join(",")
}

/// The value of the last attribute of this type.
pub(crate) fn last_value<'a>(name: &'a [u8], oid: &[u8]) -> Option<&'a [u8]> {
    let mut found = None;
    let mut rdns = Reader::new(name);
    while let Some(mut rdn) = rdns.enter(der::SET) {
        while let Some(mut attribute) = rdn.enter(der::SEQUENCE) {
            if attribute.content(der::OID)? == oid {
                found = Some(attribute.any()?.content);
            }
        }
    }
    found
}

fn attribute(mut fields: Reader<'_>) -> Option<String> {
    let oid = fields.content(der::OID)?;
    let value = fields.any()?;
    Some(match SHORT_NAMES.iter().find(|(known, _)| *known == oid) {
        Some((_, short)) => format!("{short}={}", escaped(&utf8(value.tag, value.content))),
        None => format!("{}=#{}", der::dotted(oid), hex(value.whole).to_uppercase()),
    })
}

/// The string as UTF-8.
fn utf8(tag: u8, content: &[u8]) -> Vec<u8> {
    let scalars = |size: usize| {
        let number = |chunk: &[u8]| chunk.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
        content.chunks(size).map(|chunk| char::from_u32(number(chunk)).unwrap_or('\u{fffd}')).collect::<String>()
    };
    match tag {
        BMP => scalars(2).into_bytes(),
        UNIVERSAL => scalars(4).into_bytes(),
        T61 => scalars(1).into_bytes(),
        UTF8 => content.to_vec(),
        _ => content.to_vec(),
    }
}

fn escaped(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, byte) in text.iter().enumerate() {
        let is_edge = at == 0 || at + 1 == text.len();
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => out.extend(['\\', char::from(*byte)]),
            b' ' if is_edge => out.push_str("\\ "),
            b'#' if at == 0 => out.push_str("\\#"),
            0x20..0x7f => out.push(char::from(*byte)),
            _ => out.push_str(&format!("\\{byte:02X}")),
        }
    }
    out
}
