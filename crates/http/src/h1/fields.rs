//! Rules for header fields that requests, responses and trailers share.
//!
//! Owns: taking the fields of a parsed head over into the map, and what of them concerns framing and the connection.

use super::error::{
    BARE_LINE_FEED, CodecError, CodecErrorKind, HEAD_TOO_LARGE, INVALID_CHARACTERS, LENGTH_AND_CHUNKED,
    TOO_MANY_HEADERS, UNDERSCORE, UNSUPPORTED_ENCODING,
};
use super::options::Underscores;
use httparse::Header;
use nuncio_headers::{HeaderMap, Known};
use std::mem::MaybeUninit;

/// Header lines that are parsed without allocating. A limit above it is possible, and costs an allocation a message.
pub(super) const INLINE_HEADERS: usize = 128;

pub(super) type Slots<'b> = [MaybeUninit<Header<'b>>; INLINE_HEADERS];

/// What the fields of a head said about the message, while they were taken over.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) length: Option<u64>,
    pub(super) encoding: Encoding,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    /// `connection` lists `upgrade`.
    pub(super) upgrade: bool,
    /// `connection` lists something else than `close`, `keep-alive` and `upgrade`.
    pub(super) nominates: bool,
    pub(super) dropped: u16,
}

/// What `transfer-encoding` said.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    #[default]
    None,
    Chunked,
    Other,
}

/// Where the fields of a head are taken from and how.
pub(super) struct Source<'b> {
    /// The head, as given to [`HeaderMap::start`].
    pub(super) head: &'b [u8],
    pub(super) underscores: Underscores,
    /// Index of the field that was taken over already, as `:authority`.
    pub(super) host: Option<usize>,
}

/// Puts the fields into the map, except `transfer-encoding`, and notes what concerns framing and connection.
#[inline]
pub(super) fn take_over(
    source: &Source<'_>,
    fields: &[Header<'_>],
    headers: &mut HeaderMap,
) -> Result<Fields, CodecError> {
    let mut found = Fields::default();
    for (index, field) in fields.iter().enumerate() {
        let name_at = offset(source.head, field.name.as_bytes());
        check_line_start(source.head, name_at)?;
        if source.host == Some(index) {
            continue;
        }
        if source.underscores != Underscores::Allow && !is_kept(field.name, source.underscores)? {
            found.dropped += 1;
            continue;
        }
        if is_transfer_encoding(field.name) {
            found.note_encoding(field.value);
            continue;
        }
        let value = (offset(source.head, field.value), field.value.len());
        let known = headers.push_received(field.name.as_bytes(), name_at, value).map_err(|_| HEAD_TOO_LARGE)?;
        if let Some(known) = known
            && Fields::concerns(known)
        {
            found.note(known, field.value)?;
        }
    }
    check_end(source.head)?;
    Ok(found)
}

/// Whether the line before the one at `at` ended properly.
///
/// RFC 9112 §2.2: "a recipient MAY recognize a single LF as a line terminator". This one does not: whoever reads the
/// same bytes the other way sees other lines. Envoy recognises it.
#[inline]
pub(super) fn check_line_start(head: &[u8], at: usize) -> Result<(), CodecError> {
    let proper = at == 0 || matches!(head.get(at.wrapping_sub(2)..at), Some(b"\r\n"));
    if proper { Ok(()) } else { Err(BARE_LINE_FEED) }
}

/// [`check_line_start`] for the empty line and the last one before it.
#[inline]
pub(super) fn check_end(head: &[u8]) -> Result<(), CodecError> {
    if head.ends_with(b"\r\n\r\n") { Ok(()) } else { Err(BARE_LINE_FEED) }
}

/// What `_` in a name leads to: keeping the field, dropping it, or refusing the message.
#[inline]
pub(super) fn is_kept(name: &str, underscores: Underscores) -> Result<bool, CodecError> {
    match underscores {
        Underscores::Allow => Ok(true),
        _ if !name.as_bytes().contains(&b'_') => Ok(true),
        Underscores::Reject => Err(UNDERSCORE),
        Underscores::Drop => Ok(false),
    }
}

impl Fields {
    /// Whether [`Fields::note`] does something for the name.
    #[inline]
    fn concerns(known: Known) -> bool {
        matches!(known, Known::CONTENT_LENGTH | Known::CONNECTION | Known::PROXY_CONNECTION | Known::HOST)
    }

    fn note(&mut self, known: Known, value: &[u8]) -> Result<(), CodecError> {
        match known {
            Known::CONTENT_LENGTH => self.note_length(value),
            Known::CONNECTION => {
                self.note_connection(value);
                Ok(())
            }
            // Not in any RFC; Envoy and others close for it.
            Known::PROXY_CONNECTION => {
                self.close |= tokens(value).any(|token| token.eq_ignore_ascii_case(b"close"));
                Ok(())
            }
            Known::HOST => {
                Err(CodecError::new(CodecErrorKind::Host, "more than one 'Host'").details("http.invalid_authority"))
            }
            _ => Ok(()),
        }
    }

    /// RFC 9112 §6.3: "If a message is received without Transfer-Encoding and with an invalid Content-Length header
    /// field, then the message framing is invalid". Envoy refuses equal repetitions too, which the RFC would let pass.
    fn note_length(&mut self, value: &[u8]) -> Result<(), CodecError> {
        const BAD: CodecError = CodecError::new(CodecErrorKind::ContentLength, "invalid 'Content-Length'");
        if self.length.is_some() {
            return Err(CodecError::new(CodecErrorKind::ContentLength, "more than one 'Content-Length'"));
        }
        self.length = Some(parse_length(value).ok_or(BAD)?);
        Ok(())
    }

    fn note_encoding(&mut self, value: &[u8]) {
        self.encoding = match self.encoding {
            Encoding::None if value.eq_ignore_ascii_case(b"chunked") => Encoding::Chunked,
            _ => Encoding::Other,
        };
    }

    fn note_connection(&mut self, value: &[u8]) {
        for token in tokens(value) {
            if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.nominates = true;
            }
        }
    }

    /// Settles `content-length` beside `transfer-encoding`; tells whether the body is chunked.
    ///
    /// RFC 9112 §6.3: "Such a message might indicate an attempt to perform request smuggling or response splitting and
    /// ought to be handled as an error."
    pub(super) fn settle(&mut self, allow_both: bool, headers: &mut HeaderMap) -> Result<bool, CodecError> {
        if self.encoding == Encoding::None {
            return Ok(false);
        }
        if self.length.is_some() {
            if !allow_both || self.encoding != Encoding::Chunked {
                return Err(LENGTH_AND_CHUNKED);
            }
            self.length = None;
            headers.remove_known(Known::CONTENT_LENGTH);
        }
        // RFC 9112 §6.1: "A server that receives a request message with a transfer coding it does not understand
        // SHOULD respond with 501 (Not Implemented)."
        if self.encoding == Encoding::Other { Err(UNSUPPORTED_ENCODING) } else { Ok(true) }
    }
}

#[inline]
fn is_transfer_encoding(name: &str) -> bool {
    name.len() == "transfer-encoding".len() && name.eq_ignore_ascii_case("transfer-encoding")
}

/// `Content-Length = 1*DIGIT` (RFC 9110 §8.6), as far as 64 bits reach.
pub(crate) fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// The members of a comma-separated list, without white space and without empty ones.
pub(super) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Where `part`, a slice of `whole`, begins in it.
#[inline]
pub(super) fn offset(whole: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize)
}

/// Bytes of the fields of a head as Envoy counts them: names, values, and three each for what stands around them.
#[inline]
pub(super) fn field_bytes(head: &[u8], fields: &[Header<'_>]) -> u32 {
    let Some(first) = fields.first() else { return 0 };
    let start = offset(head, first.name.as_bytes());
    head.len().saturating_sub(start + b"\r\n".len() + fields.len()) as u32
}

/// Puts a parser's error into words. `head` is what was parsed.
#[cold]
pub(super) fn refusal(error: httparse::Error, head: &[u8]) -> CodecError {
    let message = match error {
        httparse::Error::TooManyHeaders => return TOO_MANY_HEADERS,
        httparse::Error::HeaderName => "invalid header name",
        httparse::Error::HeaderValue => "invalid header value",
        httparse::Error::NewLine => "invalid line end",
        httparse::Error::Status => "invalid status line",
        httparse::Error::Token => "invalid request line",
        httparse::Error::Version => "invalid version",
    };
    let is_control = |byte: &u8| matches!(byte, 0..=8 | 11 | 12 | 14..=31 | 127);
    let end = memchr::memmem::find(head, b"\r\n\r\n").unwrap_or(head.len());
    let head = head.get(..end).unwrap_or_default();
    match head.iter().position(is_control) {
        Some(1..) => INVALID_CHARACTERS,
        _ => CodecError::new(CodecErrorKind::Syntax, message),
    }
}
