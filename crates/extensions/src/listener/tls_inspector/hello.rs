//! Reading a TLS client hello (RFC 8446 §4.1.2, RFC 5246 §7.4.1.2) without taking part in the handshake.
//!
//! Strict and bounded: what isn't exactly a client hello in well-formed records is not TLS, and nothing here allocates more
//! than the bytes that it was given.

use std::borrow::Cow;
use std::sync::Arc;

/// Bytes of a record's header.
const RECORD_HEADER: usize = 5;
/// Bytes of a handshake message's header.
const MESSAGE_HEADER: usize = 4;
/// Most bytes of a plaintext record (RFC 8446 §5.1).
const MAX_RECORD: usize = 1 << 14;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

pub(super) const SERVER_NAME: u16 = 0;
pub(super) const SUPPORTED_GROUPS: u16 = 10;
pub(super) const POINT_FORMATS: u16 = 11;
pub(super) const SIGNATURE_ALGORITHMS: u16 = 13;
pub(super) const ALPN: u16 = 16;
pub(super) const SUPPORTED_VERSIONS: u16 = 43;

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First {
    /// Perhaps the start of a hello.
    Incomplete,
    /// Something else.
    NotTls,
    /// The start of a hello of more bytes than are allowed.
    TooLarge,
    /// A hello.
    Hello(Box<Hello>),
}

/// A client hello.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hello {
    pub legacy_version: u16,
    pub ciphers: Vec<u16>,
    /// Extension types in the order of the hello.
    pub extensions: Vec<u16>,
    pub groups: Vec<u16>,
    pub point_formats: Vec<u8>,
    pub signature_algorithms: Vec<u16>,
    pub versions: Vec<u16>,
    /// In lower case.
    pub server_name: Option<Arc<str>>,
    pub protocols: Vec<Arc<str>>,
    /// Bytes of records that carry it.
    pub size: usize,
}

/// Looks at the bytes received so far; a hello may have `limit` bytes, record headers not counted.
pub(super) fn first(data: &[u8], limit: usize) -> First {
    let (message, size) = match message(data, limit) {
        Ok(found) => found,
        Err(other) => return other,
    };
    match hello(&message) {
        Some(hello) => First::Hello(Box::new(Hello { size, ..hello })),
        None => First::NotTls,
    }
}

/// The body of the first handshake message, put together from its records; and how many bytes those are.
fn message(data: &[u8], limit: usize) -> Result<(Cow<'_, [u8]>, usize), First> {
    let mut joined: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut rest = data;
    loop {
        let Some((header, after)) = rest.split_at_checked(RECORD_HEADER) else {
            let plausible =
                rest.first().is_none_or(|kind| *kind == HANDSHAKE) && rest.get(1).is_none_or(|major| *major == 3);
            return Err(if plausible { First::Incomplete } else { First::NotTls });
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if header[0] != HANDSHAKE || header[1] != 3 || length == 0 || length > MAX_RECORD {
            return Err(First::NotTls);
        }
        let payload = &after[..length.min(after.len())];
        if joined.is_empty() {
            joined = Cow::Borrowed(payload);
        } else {
            joined.to_mut().extend_from_slice(payload);
        }
        if joined.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(First::NotTls);
        }
        if let Some(&[_, high, middle, low]) = joined.first_chunk::<MESSAGE_HEADER>() {
            let expected = u32::from_be_bytes([0, high, middle, low]) as usize;
            if expected > limit {
                return Err(First::TooLarge);
            }
            let end = MESSAGE_HEADER + expected;
            if joined.len() >= end {
                let used = data.len() - after.len() + payload.len();
                let body = match joined {
                    Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[MESSAGE_HEADER..end]),
                    Cow::Owned(bytes) => Cow::Owned(bytes[MESSAGE_HEADER..end].to_vec()),
                };
                return Ok((body, used));
            }
        }
        if after.len() < length {
            return Err(First::Incomplete);
        }
        rest = &after[length..];
    }
}

fn hello(body: &[u8]) -> Option<Hello> {
    let mut reader = Reader(body);
    let mut hello = Hello { legacy_version: reader.u16()?, ..Hello::default() };
    reader.take(32)?;
    let session = reader.vector8()?;
    if session.len() > 32 {
        return None;
    }
    hello.ciphers = numbers(reader.vector16()?)?;
    let compressions = reader.vector8()?;
    if hello.ciphers.is_empty() || !compressions.contains(&0) {
        return None;
    }
    if reader.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(reader.vector16()?);
    if !reader.0.is_empty() {
        return None;
    }
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let data = extensions.vector16()?;
        hello.extensions.push(kind);
        extension(&mut hello, kind, data)?;
    }
    let mut kinds = hello.extensions.clone();
    kinds.sort_unstable();
    let twice = kinds.windows(2).any(|pair| pair[0] == pair[1]);
    (!twice).then_some(hello)
}

fn extension(hello: &mut Hello, kind: u16, data: &[u8]) -> Option<()> {
    match kind {
        SERVER_NAME => hello.server_name = server_name(data)?,
        ALPN => hello.protocols = protocols(data)?,
        SUPPORTED_GROUPS => hello.groups = numbers(whole16(data)?)?,
        SIGNATURE_ALGORITHMS => hello.signature_algorithms = numbers(whole16(data)?)?,
        POINT_FORMATS => hello.point_formats = whole8(data)?.to_vec(),
        SUPPORTED_VERSIONS => hello.versions = numbers(whole8(data)?)?,
        _ => {}
    }
    Some(())
}

/// The outer none is a malformed list (RFC 6066 §3); the inner one a name that can't be a host's.
fn server_name(data: &[u8]) -> Option<Option<Arc<str>>> {
    let mut list = Reader(whole16(data)?);
    let kind = list.u8()?;
    let name = list.vector16()?;
    if kind != 0 || name.is_empty() || name.len() > 255 || name.contains(&0) || !list.0.is_empty() {
        return None;
    }
    let printable = name.iter().all(u8::is_ascii_graphic);
    Some(std::str::from_utf8(name).ok().filter(|_| printable).map(|name| name.to_ascii_lowercase().into()))
}

/// RFC 7301 §3.1.
fn protocols(data: &[u8]) -> Option<Vec<Arc<str>>> {
    let mut list = Reader(whole16(data)?);
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let protocol = list.vector8()?;
        if protocol.is_empty() {
            return None;
        }
        protocols.push(String::from_utf8_lossy(protocol).into());
    }
    (!protocols.is_empty()).then_some(protocols)
}

/// An extension that is one vector with a length of two bytes.
fn whole16(data: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(data);
    let vector = reader.vector16()?;
    reader.0.is_empty().then_some(vector)
}

/// An extension that is one vector with a length of one byte.
fn whole8(data: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(data);
    let vector = reader.vector8()?;
    reader.0.is_empty().then_some(vector)
}

fn numbers(bytes: &[u8]) -> Option<Vec<u16>> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(length.into())
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}
