//! Writing heads, chunks and trailers.

use super::spelling::{Spelling, write_lines_spelled};
use crate::{Framing, Version, reason_phrase};
use nuncio_headers::{HeaderMap, Known, KnownSet, LineWriter};

/// The form of the request target that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetForm {
    /// `/path?query`; the authority for CONNECT.
    #[default]
    Origin,
    /// `http://host/path?query`, as forward proxies want it (Envoy's `send_fully_qualified_url`).
    Absolute,
}

/// Entries that are not written as lines: the parts of the first line, and what [`Framing`] says.
const NOT_LINES: KnownSet = KnownSet::of(&[
    Known::METHOD,
    Known::PATH,
    Known::SCHEME,
    Known::STATUS,
    Known::PROTOCOL,
    Known::TRANSFER_ENCODING,
]);

/// Appends a request head. The length headers come from `framing` alone; `:authority` is written as `host`.
///
/// Whatever a filter put into the map, one request line comes out: bytes that can't stand in a method are left out,
/// those that can't stand in a target are percent-encoded.
pub fn write_request_head(
    out: &mut Vec<u8>,
    headers: &HeaderMap,
    framing: Framing,
    spelling: Spelling,
    target: TargetForm,
) {
    let authority = headers.get(Known::AUTHORITY);
    let mut skip = NOT_LINES;
    if authority.is_some() {
        skip = skip.with(Known::HOST);
    }
    let length = Length::of(headers, framing);
    // Nearly always the request goes out as it came, but for its headers.
    if spelling == Spelling::Lower && target == TargetForm::Origin && is_authority_early(headers) {
        let mut lines = LineWriter::new(headers, out);
        if lines.received_request_line(VERSION) {
            lines.write(length.skip(skip));
            length.write_rest(out, spelling);
            out.extend_from_slice(b"\r\n");
            return;
        }
    }
    write_request_line(out, headers, target);
    if let Some(authority) = authority {
        out.extend_from_slice(spelling.host(headers));
        out.extend_from_slice(b": ");
        out.extend_from_slice(authority);
        out.extend_from_slice(b"\r\n");
    }
    length.write_lines(out, headers, spelling, skip.with(Known::AUTHORITY));
    length.write_rest(out, spelling);
    out.extend_from_slice(b"\r\n");
}

const VERSION: &[u8] = b" HTTP/1.1\r\n";

/// Whether nothing that becomes a line stands before `:authority`: `host` comes first.
#[inline]
fn is_authority_early(headers: &HeaderMap) -> bool {
    let line = headers.lines().find(|line| !line.known.is_some_and(|known| NOT_LINES.contains(known)));
    line.is_none_or(|line| line.known == Some(Known::AUTHORITY)) || !headers.has(Known::AUTHORITY)
}

fn write_request_line(out: &mut Vec<u8>, headers: &HeaderMap, target: TargetForm) {
    let method = headers.get(Known::METHOD).unwrap_or(b"GET");
    let authority = headers.get(Known::AUTHORITY).unwrap_or_default();
    out.extend(method.iter().filter(|byte| is_token(**byte)));
    out.push(b' ');
    if method == b"CONNECT" {
        push_target(out, authority);
    } else {
        if target == TargetForm::Absolute {
            out.extend_from_slice(if headers.get(Known::SCHEME) == Some(b"https") { b"https://" } else { b"http://" });
            push_target(out, authority);
        }
        push_target(out, headers.get(Known::PATH).unwrap_or(b"/"));
    }
    out.extend_from_slice(VERSION);
}

/// How a response head is written.
#[derive(Debug, Clone, Copy)]
pub struct ResponseWrite<'a> {
    /// Version of the request that is answered. [`Version::Http10`] is answered in HTTP/1.0, as Envoy does.
    pub version: Version,
    /// The length headers.
    pub framing: Framing,
    /// Reason phrase; `None` takes Envoy's for the status.
    pub reason: Option<&'a str>,
    /// Whether `connection: close` is written. Without it, HTTP/1.0 is told `connection: keep-alive`. Not looked at
    /// for 101, whose `connection` is the map's.
    pub close: bool,
    /// How names are written.
    pub spelling: Spelling,
}

/// Appends a response head. The status is the map's `:status`; the length headers come from
/// [`ResponseWrite::framing`] alone.
pub fn write_response_head(out: &mut Vec<u8>, headers: &HeaderMap, how: &ResponseWrite<'_>) {
    let status = headers.get(Known::STATUS).unwrap_or_default();
    let http_10 = how.version == Version::Http10;
    let close = how.close || http_10 && how.framing == Framing::UntilClose;
    // An informational response says nothing about the connection, and 101 says it itself.
    let own_line: Option<&[u8]> = match (status.first(), close, http_10) {
        (Some(b'1'), ..) | (_, false, false) => None,
        (_, true, _) => Some(b"connection: close\r\n"),
        (_, false, true) => Some(b"connection: keep-alive\r\n"),
    };
    let length = Length::of(headers, how.framing);
    let skip = if own_line.is_some() { NOT_LINES.with(Known::CONNECTION) } else { NOT_LINES };
    let plain = status == b"200" && !http_10 && how.reason.is_none();
    if plain && how.spelling == Spelling::Lower {
        let mut lines = LineWriter::new(headers, out);
        lines.first_line(b"HTTP/1.1 200 OK\r\n");
        lines.write(length.skip(skip));
    } else {
        write_status_line(out, status, http_10, how.reason);
        length.write_lines(out, headers, how.spelling, skip);
    }
    if let Some(line) = own_line {
        how.spelling.push_own_line(out, line);
    }
    length.write_rest(out, how.spelling);
    out.extend_from_slice(b"\r\n");
}

fn write_status_line(out: &mut Vec<u8>, status: &[u8], http_10: bool, reason: Option<&str>) {
    let code = match status {
        [a, b, c] if status.iter().all(u8::is_ascii_digit) => {
            u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
        }
        _ => 0,
    };
    let code = if code < 100 { 500 } else { code };
    out.extend_from_slice(if http_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(itoa::Buffer::new().format(code).as_bytes());
    out.push(b' ');
    let reason = reason.unwrap_or_else(|| reason_phrase(code));
    out.extend(reason.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }));
    out.extend_from_slice(b"\r\n");
}

/// The length headers of a message: one of the map's lines if it says the right thing, otherwise one at the end.
struct Length {
    framing: Framing,
    /// The map's `content-length` is what [`Length::framing`] says.
    in_place: bool,
}

impl Length {
    #[inline]
    fn of(headers: &HeaderMap, framing: Framing) -> Self {
        let in_place = match framing {
            Framing::Length(length) => {
                !headers.is_repeated(Known::CONTENT_LENGTH)
                    && headers.get(Known::CONTENT_LENGTH).is_some_and(|value| {
                        // Short values, nearly all there are, compare without being written out first.
                        match (value, length) {
                            ([digit], 0..10) => u64::from(digit ^ b'0') == length,
                            _ => itoa::Buffer::new().format(length).as_bytes() == value,
                        }
                    })
            }
            _ => false,
        };
        Length { framing, in_place }
    }

    /// What is not written of the map.
    #[inline]
    fn skip(&self, skip: KnownSet) -> KnownSet {
        if self.in_place { skip } else { skip.with(Known::CONTENT_LENGTH) }
    }

    #[inline]
    fn write_lines(&self, out: &mut Vec<u8>, headers: &HeaderMap, spelling: Spelling, skip: KnownSet) {
        let skip = self.skip(skip);
        match spelling {
            Spelling::Lower => headers.write_lines(out, skip),
            _ => write_lines_spelled(out, headers, skip, spelling),
        }
    }

    #[inline]
    fn write_rest(&self, out: &mut Vec<u8>, spelling: Spelling) {
        match self.framing {
            Framing::Length(length) if !self.in_place => {
                spelling.push_own_line(out, b"content-length: ");
                out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            Framing::Chunked => spelling.push_own_line(out, b"transfer-encoding: chunked\r\n"),
            Framing::Length(_) | Framing::None | Framing::UntilClose => {}
        }
    }
}

/// Appends the line before a chunk of `len` bytes. Nothing for 0: that would end the body.
#[inline]
pub fn write_chunk_head(out: &mut Vec<u8>, len: usize) {
    if len == 0 {
        return;
    }
    let mut digits = [0u8; 18];
    let mut at = 16;
    let mut left = len;
    while left != 0 && at > 0 {
        at -= 1;
        digits[at] = b"0123456789abcdef"[left & 15];
        left >>= 4;
    }
    digits[16] = b'\r';
    digits[17] = b'\n';
    out.extend_from_slice(&digits[at..]);
}

/// Appends what stands after a chunk.
#[inline]
pub fn write_chunk_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Appends the last chunk, trailers, and the end of the body. Trailers that would reframe the message are left out.
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        let skip = NOT_LINES.with(Known::AUTHORITY).with(Known::CONTENT_LENGTH).with(Known::HOST).with(Known::TRAILER);
        trailers.write_lines(out, skip);
    }
    out.extend_from_slice(b"\r\n");
}

/// A target, or a part of one. What the parser let pass goes out as it came.
#[inline]
fn push_target(out: &mut Vec<u8>, target: &[u8]) {
    if target.iter().all(|byte| byte.wrapping_sub(0x21) < 0x5e) {
        out.extend_from_slice(target);
    } else {
        push_encoded(out, target);
    }
}

#[cold]
fn push_encoded(out: &mut Vec<u8>, target: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in target {
        match byte {
            0x21..=0x7e => out.push(*byte),
            _ => out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
}

/// `tchar` of RFC 9110 §5.6.2.
#[inline]
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
