//! Reading the head of a response.

use super::error::{CodecError, CodecErrorKind, HEAD_TOO_LARGE};
use super::fields::{self, Encoding, Fields, INLINE_HEADERS, Slots, Source, take_over};
use super::{HeadScanner, Parsed, ResponseOptions};
use crate::{Framing, Version};
use httparse::Status;
use nuncio_headers::{HeaderMap, Known, KnownSet};
use std::mem::MaybeUninit;

/// What the head of a response says about the connection and the body. Everything else is in the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status, 100–999. One below 200 is an informational head: another head follows it, except after 101.
    pub status: u16,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// How the body ends. [`Framing::UntilClose`] also for a tunnel.
    pub framing: Framing,
    /// Whether the connection may be used for another request once the body is read.
    pub keep_alive: bool,
    /// Whether the upstream says that it closes the connection after this response: `connection: close`, or HTTP/1.0
    /// without `keep-alive`.
    pub close_notify: bool,
    /// Whether the connection is a tunnel from here on: 101 to an upgrade, 2xx to CONNECT.
    pub upgrade: bool,
    /// Bytes of the head on the wire.
    pub head_bytes: u32,
    /// Bytes of its fields as Envoy counts them: names, values, and three each for what stands around them.
    pub field_bytes: u32,
    /// Headers taken out because of [`Underscores::Drop`](super::Underscores::Drop).
    pub dropped_underscore_headers: u16,
}

/// Headers of which Envoy makes one when they are received several times, values joined with `,`.
pub(crate) const JOINED: KnownSet = KnownSet::of(&[
    Known::ACCESS_CONTROL_ALLOW_ORIGIN,
    Known::AGE,
    Known::CACHE_CONTROL,
    Known::CONNECTION,
    Known::CONTENT_ENCODING,
    Known::CONTENT_TYPE,
    Known::DATE,
    Known::ETAG,
    Known::GRPC_MESSAGE,
    Known::GRPC_STATUS,
    Known::KEEP_ALIVE,
    Known::LOCATION,
    Known::PROXY_CONNECTION,
    Known::SERVER,
    Known::UPGRADE,
    Known::VARY,
    Known::VIA,
    Known::X_ENVOY_ATTEMPT_COUNT,
    Known::X_ENVOY_DECORATOR_OPERATION,
    Known::X_ENVOY_DEGRADED,
    Known::X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL,
    Known::X_ENVOY_RATELIMITED,
    Known::X_ENVOY_UPSTREAM_CANARY,
    Known::X_ENVOY_UPSTREAM_SERVICE_TIME,
    Known::X_REQUEST_ID,
]);

/// Reads the head of a response from the start of `buf` into `headers`: `:status`, then the fields in their order.
/// An informational response comes out as a head of its own. `transfer-encoding` is told by [`ResponseHead::framing`]
/// alone. The status of an error is what a gateway answers with.
pub fn parse_response(
    buf: &[u8],
    scan: &mut HeadScanner,
    options: &ResponseOptions,
    headers: &mut HeaderMap,
) -> Result<Parsed<ResponseHead>, CodecError> {
    parse(buf, scan, options, headers).map_err(|error| error.status(502))
}

#[inline]
fn parse(
    buf: &[u8],
    scan: &mut HeadScanner,
    options: &ResponseOptions,
    headers: &mut HeaderMap,
) -> Result<Parsed<ResponseHead>, CodecError> {
    if !scan.is_worth_parsing(buf) {
        return partial(buf, options);
    }
    // RFC 9112 §2.2 lets only servers ignore empty lines before a message.
    if matches!(buf.first(), Some(b'\r' | b'\n')) {
        return Err(CodecError::new(CodecErrorKind::Syntax, "invalid status line"));
    }
    let mut slots: Slots<'_> = [const { MaybeUninit::uninit() }; INLINE_HEADERS];
    let mut many = Vec::new();
    let slots = match slots.get_mut(..options.max_headers as usize) {
        Some(slots) => slots,
        None => {
            many.resize_with(options.max_headers as usize, MaybeUninit::uninit);
            &mut many[..]
        }
    };
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let consumed = match config.parse_response_with_uninit_headers(&mut response, buf, slots) {
        Ok(Status::Complete(consumed)) => consumed,
        Ok(Status::Partial) => return partial(buf, options),
        Err(error) => return Err(fields::refusal(error, buf)),
    };
    if consumed > options.max_head_bytes as usize {
        return Err(HEAD_TOO_LARGE);
    }
    scan.reset();
    let head = buf.get(..consumed).unwrap_or_default();
    let status = response.code.unwrap_or_default();
    check_status_line(head, status)?;
    headers.start(head, options.keep_spelling);
    headers.push_parsed_known(Known::STATUS, (STATUS_AT, 3)).map_err(|_| HEAD_TOO_LARGE)?;
    let source = Source { head, underscores: options.underscores, host: None };
    let found = take_over(&source, response.headers, headers)?;
    headers.join_repeated(JOINED);
    let version = if response.version == Some(0) { Version::Http10 } else { Version::Http11 };
    let mut parsed = conclude(found, status, version, options, headers)?;
    parsed.head_bytes = consumed as u32;
    parsed.field_bytes = fields::field_bytes(head, response.headers);
    Ok(Parsed::Complete(parsed, consumed))
}

/// Where the status stands: behind `HTTP/1.1 `.
const STATUS_AT: usize = 9;

fn partial(buf: &[u8], options: &ResponseOptions) -> Result<Parsed<ResponseHead>, CodecError> {
    if buf.len() > options.max_head_bytes as usize { Err(HEAD_TOO_LARGE) } else { Ok(Parsed::Partial) }
}

/// RFC 9112 §4: `status-line = HTTP-version SP status-code SP [ reason-phrase ]`. A missing second space is let pass, as
/// everyone does. How the line ends is seen with the line behind it.
#[inline]
fn check_status_line(head: &[u8], status: u16) -> Result<(), CodecError> {
    // RFC 9110 §15: "Values outside the range 100..599 are invalid." Envoy hands up to 999 through, and so do we.
    let bad_status = status < 100;
    if bad_status || head.get(STATUS_AT - 1) != Some(&b' ') {
        return Err(CodecError::new(CodecErrorKind::Syntax, "invalid status line"));
    }
    Ok(())
}

#[inline]
fn conclude(
    mut found: Fields,
    status: u16,
    version: Version,
    options: &ResponseOptions,
    headers: &mut HeaderMap,
) -> Result<ResponseHead, CodecError> {
    let tunnel = options.connect_request && (200..300).contains(&status) || options.upgrade_request && status == 101;
    let framing = if options.connect_request && tunnel {
        // RFC 9110 §9.3.6: "A client MUST ignore any Content-Length or Transfer-Encoding header fields received in a
        // successful response to CONNECT."
        headers.remove_known(Known::CONTENT_LENGTH);
        Framing::UntilClose
    } else if status < 200 || status == 204 {
        check_bodiless(&found, headers)?;
        if status == 101 && !tunnel {
            return Err(CodecError::new(CodecErrorKind::Upgrade, "101 to a request that asked for no upgrade"));
        }
        if tunnel { Framing::UntilClose } else { Framing::None }
    } else {
        let chunked = found.settle(options.allow_chunked_length, headers)?;
        // RFC 9112 §6.3: "Any response to a HEAD request and any response with a 1xx (Informational), 204 (No Content),
        // or 304 (Not Modified) status code is always terminated by the first empty line after the header fields".
        match found.length {
            _ if options.head_request || status == 304 => Framing::None,
            _ if chunked => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        }
    };
    // RFC 9112 §9.3: "If the received protocol is HTTP/1.0, the "keep-alive" connection option is present […] the
    // connection will persist after the current response".
    let persists = !found.close && (version != Version::Http10 || found.keep_alive);
    Ok(ResponseHead {
        status,
        version,
        framing,
        keep_alive: persists && framing != Framing::UntilClose,
        close_notify: !persists,
        upgrade: tunnel,
        head_bytes: 0,
        field_bytes: 0,
        dropped_underscore_headers: found.dropped,
    })
}

/// RFC 9110 §8.6 and RFC 9112 §6.1: "A server MUST NOT send a Content-Length [or Transfer-Encoding] header field in any
/// response with a status code of 1xx (Informational) or 204 (No Content)." A length of zero is taken out, as in Envoy.
#[inline]
fn check_bodiless(found: &Fields, headers: &mut HeaderMap) -> Result<(), CodecError> {
    if found.encoding != Encoding::None {
        return Err(CodecError::new(CodecErrorKind::TransferEncoding, "transfer encoding not allowed in 1xx or 204")
            .details("http1.transfer_encoding_not_allowed"));
    }
    match found.length {
        None => Ok(()),
        Some(0) => {
            headers.remove_known(Known::CONTENT_LENGTH);
            Ok(())
        }
        Some(_) => Err(CodecError::new(CodecErrorKind::ContentLength, "content length not allowed in 1xx or 204")
            .details("http1.content_length_not_allowed")),
    }
}
