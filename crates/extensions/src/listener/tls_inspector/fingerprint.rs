//! JA3 and JA4 fingerprints of a client hello, as Envoy prints them.

use super::hello::{ALPN, Hello, SERVER_NAME};
use md5::{Digest, Md5};
use sha2::Sha256;
use std::fmt::Write;
use std::sync::Arc;

/// Values that clients put in to keep servers tolerant (RFC 8701).
fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Version, ciphers, extensions, groups and point formats, as an MD5 digest in hexadecimal.
pub(super) fn ja3(hello: &Hello) -> Arc<str> {
    let decimal = |values: &[u16]| {
        let kept = values.iter().filter(|value| !is_grease(**value)).map(u16::to_string);
        kept.collect::<Vec<_>>().join("-")
    };
    let points: Vec<u16> = hello.point_formats.iter().map(|format| u16::from(*format)).collect();
    let points = points.iter().map(u16::to_string).collect::<Vec<_>>().join("-");
    let text = format!(
        "{},{},{},{},{points}",
        hello.legacy_version,
        decimal(&hello.ciphers),
        decimal(&hello.extensions),
        decimal(&hello.groups)
    );
    hex(&Md5::digest(text)).into()
}

/// Three parts: what the client is like, a digest of its ciphers, a digest of its extensions and signature algorithms.
pub(super) fn ja4(hello: &Hello) -> Arc<str> {
    let kept = |values: &[u16]| values.iter().copied().filter(|value| !is_grease(*value)).collect::<Vec<u16>>();
    let (mut ciphers, mut extensions) = (kept(&hello.ciphers), kept(&hello.extensions));
    let named = if extensions.contains(&SERVER_NAME) { 'd' } else { 'i' };
    let head = format!(
        "t{}{named}{:02}{:02}{}",
        version(hello),
        ciphers.len().min(99),
        extensions.len().min(99),
        protocol(hello.protocols.first())
    );
    ciphers.sort_unstable();
    extensions.retain(|kind| ![SERVER_NAME, ALPN].contains(kind));
    extensions.sort_unstable();
    let mut text = list(&extensions);
    let algorithms = kept(&hello.signature_algorithms);
    if !algorithms.is_empty() {
        text.push('_');
        text.push_str(&list(&algorithms));
    }
    let none = ciphers.is_empty();
    let ciphers = digest(if none { None } else { Some(list(&ciphers)) });
    let extensions = digest(if extensions.is_empty() { None } else { Some(text) });
    format!("{head}_{ciphers}_{extensions}").into()
}

fn list(values: &[u16]) -> String {
    values.iter().map(|value| format!("{value:04x}")).collect::<Vec<_>>().join(",")
}

fn digest(text: Option<String>) -> String {
    match text {
        Some(text) => hex(&Sha256::digest(text)[..6]),
        None => "000000000000".to_owned(),
    }
}

fn version(hello: &Hello) -> &'static str {
    let highest = hello.versions.iter().copied().filter(|version| !is_grease(*version)).max();
    match highest.unwrap_or(hello.legacy_version) {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        _ => "00",
    }
}

/// First and last character of the first application protocol.
fn protocol(first: Option<&Arc<str>>) -> String {
    let Some(name) = first else { return "00".to_owned() };
    let (Some(start), Some(end)) = (name.bytes().next(), name.bytes().last()) else { return "00".to_owned() };
    if start.is_ascii_alphanumeric() && end.is_ascii_alphanumeric() {
        return [char::from(start), char::from(end)].iter().collect();
    }
    let (start, end) = (format!("{start:02x}"), format!("{end:02x}"));
    start.chars().take(1).chain(end.chars().skip(1)).collect()
}
