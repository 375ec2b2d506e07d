//! `XFCC_VALUE`: one field of `x-forwarded-client-cert`.

use super::super::error::Refusal;
use crate::LogContext;
use nuncio_headers::{HeaderName, Known};

/// A field of an element of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::format) struct XfccKey(&'static str);

const KEYS: [&str; 7] = ["by", "hash", "cert", "chain", "subject", "uri", "dns"];

impl XfccKey {
    /// Reads the parameter: a key in any case.
    pub(in crate::format) fn new(parameters: &str) -> Result<XfccKey, Refusal> {
        match KEYS.into_iter().find(|key| key.eq_ignore_ascii_case(parameters)) {
            Some(key) => Ok(XfccKey(key)),
            None if parameters.is_empty() => {
                Err(Refusal::new(format!("XFCC_VALUE requires a key: one of {}", KEYS.join(", "))))
            }
            None => Err(Refusal::new(format!("{parameters:?} is none of {}", KEYS.join(", ")))),
        }
    }

    /// Appends the first value of the key in any element.
    pub(in crate::format) fn write(self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        let Some(headers) = cx.request else { return false };
        let name = HeaderName::from(Known::X_FORWARDED_CLIENT_CERT);
        headers.all(&name).any(|value| self.write_from(value, out))
    }

    fn write_from(self, value: &[u8], out: &mut Vec<u8>) -> bool {
        if !has_closed_quotes(value) {
            return false;
        }
        split_unquoted(value, b',').flat_map(|element| split_unquoted(element, b';')).any(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let (key, rest) = pair.split_at(equals);
            let is_it = key.trim_ascii().eq_ignore_ascii_case(self.0.as_bytes());
            if is_it {
                unquote(rest.get(1..).unwrap_or(b"").trim_ascii(), out);
            }
            is_it
        })
    }
}

/// Where a text is inside of double quotes: backslashes escape there.
#[derive(Default)]
struct Quotes {
    inside: bool,
    escaped: bool,
}

impl Quotes {
    /// Tells whether the byte stands outside of quotes.
    fn step(&mut self, byte: u8) -> bool {
        let outside = !self.inside;
        if self.escaped {
            self.escaped = false;
        } else if byte == b'"' {
            self.inside = !self.inside;
        } else {
            self.escaped = self.inside && byte == b'\\';
        }
        outside
    }
}

fn has_closed_quotes(text: &[u8]) -> bool {
    let mut quotes = Quotes::default();
    for byte in text {
        quotes.step(*byte);
    }
    !quotes.inside
}

/// Splits at a byte where it stands outside of quotes.
fn split_unquoted(text: &[u8], at: u8) -> impl Iterator<Item = &[u8]> {
    let mut quotes = Quotes::default();
    text.split(move |byte| quotes.step(*byte) && *byte == at)
}

/// Appends a value without the quotes around it and the backslashes in it. One with a bare quote inside stays as it is.
fn unquote(value: &[u8], out: &mut Vec<u8>) {
    let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let Some(inner) = inner else { return out.extend_from_slice(value) };
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => out.extend(bytes.next()),
            _ => out.push(*byte),
        }
    }
}
