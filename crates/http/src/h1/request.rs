//! Reading the head of a request.

use super::error::{BARE_LINE_FEED, CodecError, CodecErrorKind, HEAD_TOO_LARGE};
use super::fields::{self, Fields, INLINE_HEADERS, Slots, Source, offset, take_over};
use super::target::{self, Target};
use super::{HeadScanner, Parsed, RequestOptions, connection};
use crate::{Framing, Version};
use httparse::{Header, Status};
use nuncio_headers::{HeaderMap, Known, KnownSet};
use std::mem::MaybeUninit;

/// What the head of a request says about the connection and the body. Everything else is in the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHead {
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// How the body ends. [`Framing::UntilClose`] for upgrades and CONNECT: what follows is not HTTP.
    pub framing: Framing,
    /// Whether the connection may be used for another request.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// Whether the client asks for an upgrade: `connection: upgrade` and an `upgrade` header that is not ignored.
    pub upgrade: bool,
    /// Whether the method is CONNECT.
    pub connect: bool,
    /// Bytes of the head on the wire, empty lines before it included.
    pub head_bytes: u32,
    /// Bytes of its fields as Envoy counts them: names, values, and three each for what stands around them.
    pub field_bytes: u32,
    /// Headers taken out because of [`Underscores::Drop`](super::Underscores::Drop): what
    /// `http1.dropped_headers_with_underscores` grows by.
    pub dropped_underscore_headers: u16,
}

/// Headers of which Envoy makes one when they are received several times, values joined with `,`.
pub(crate) const JOINED: KnownSet = KnownSet::of(&[
    Known::ACCEPT,
    Known::ACCEPT_ENCODING,
    Known::ACCESS_CONTROL_REQUEST_METHOD,
    Known::AUTHORIZATION,
    Known::CACHE_CONTROL,
    Known::CONNECTION,
    Known::CONTENT_ENCODING,
    Known::CONTENT_TYPE,
    Known::EXPECT,
    Known::GRPC_TIMEOUT,
    Known::IF_MODIFIED_SINCE,
    Known::KEEP_ALIVE,
    Known::ORIGIN,
    Known::PROXY_CONNECTION,
    Known::REFERER,
    Known::TE,
    Known::UPGRADE,
    Known::USER_AGENT,
    Known::VIA,
    Known::X_CLIENT_TRACE_ID,
    Known::X_ENVOY_ATTEMPT_COUNT,
    Known::X_ENVOY_DECORATOR_OPERATION,
    Known::X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER,
    Known::X_ENVOY_DOWNSTREAM_SERVICE_NODE,
    Known::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
    Known::X_ENVOY_EXTERNAL_ADDRESS,
    Known::X_ENVOY_FORCE_TRACE,
    Known::X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT,
    Known::X_ENVOY_INTERNAL,
    Known::X_ENVOY_IP_TAGS,
    Known::X_ENVOY_MAX_RETRIES,
    Known::X_ENVOY_ORIGINAL_HOST,
    Known::X_ENVOY_ORIGINAL_PATH,
    Known::X_ENVOY_RETRIABLE_HEADER_NAMES,
    Known::X_ENVOY_RETRIABLE_STATUS_CODES,
    Known::X_ENVOY_RETRY_GRPC_ON,
    Known::X_ENVOY_RETRY_ON,
    Known::X_ENVOY_UPSTREAM_ALT_STAT_NAME,
    Known::X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS,
    Known::X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE,
    Known::X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS,
    Known::X_ENVOY_UPSTREAM_STREAM_DURATION_MS,
    Known::X_FORWARDED_CLIENT_CERT,
    Known::X_FORWARDED_FOR,
    Known::X_FORWARDED_HOST,
    Known::X_FORWARDED_PORT,
    Known::X_FORWARDED_PROTO,
    Known::X_REQUEST_ID,
]);

/// Reads the head of a request from the start of `buf` into `headers`: `:method`, `:path` (not for CONNECT),
/// `:authority` if the target or `host` has one, `:scheme` if the target has one, then the fields in their order.
/// `transfer-encoding` is told by [`RequestHead::framing`] alone. What `headers` held before is gone, also when the
/// result is not [`Parsed::Complete`].
pub fn parse_request(
    buf: &[u8],
    scan: &mut HeadScanner,
    options: &RequestOptions,
    headers: &mut HeaderMap,
) -> Result<Parsed<RequestHead>, CodecError> {
    if !scan.is_worth_parsing(buf) {
        return partial(buf, options);
    }
    let blank = scan.skip_blank(buf).ok_or(BARE_LINE_FEED)?;
    let head = buf.get(blank..).unwrap_or_default();
    let mut slots: Slots<'_> = [const { MaybeUninit::uninit() }; INLINE_HEADERS];
    let mut many = Vec::new();
    let slots = match slots.get_mut(..options.max_headers as usize) {
        Some(slots) => slots,
        None => {
            many.resize_with(options.max_headers as usize, MaybeUninit::uninit);
            &mut many[..]
        }
    };
    let mut request = httparse::Request::new(&mut []);
    let end = match request.parse_with_uninit_headers(head, slots) {
        Ok(Status::Complete(end)) => end,
        Ok(Status::Partial) => return partial(buf, options),
        Err(error) => return Err(refusal(error, head)),
    };
    let consumed = blank + end;
    if consumed > options.max_head_bytes as usize {
        return Err(HEAD_TOO_LARGE);
    }
    scan.reset();
    let line = RequestLine {
        method: request.method.unwrap_or_default(),
        target: request.path.unwrap_or_default(),
        version: if request.version == Some(0) { Version::Http10 } else { Version::Http11 },
    };
    let head = head.get(..end).unwrap_or_default();
    let mut parsed = line.interpret(head, request.headers, options, headers)?;
    parsed.head_bytes = consumed as u32;
    parsed.field_bytes = fields::field_bytes(head, request.headers);
    Ok(Parsed::Complete(parsed, consumed))
}

fn partial(buf: &[u8], options: &RequestOptions) -> Result<Parsed<RequestHead>, CodecError> {
    if buf.len() > options.max_head_bytes as usize { Err(HEAD_TOO_LARGE) } else { Ok(Parsed::Partial) }
}

struct RequestLine<'b> {
    method: &'b str,
    target: &'b str,
    version: Version,
}

impl RequestLine<'_> {
    fn interpret(
        &self,
        head: &[u8],
        fields: &[Header<'_>],
        options: &RequestOptions,
        headers: &mut HeaderMap,
    ) -> Result<RequestHead, CodecError> {
        if self.version == Version::Http10 && !options.accept_http_10 {
            return Err(low_version());
        }
        if !target::is_served(self.method, options) {
            return Err(CodecError::new(CodecErrorKind::Method, "unknown method"));
        }
        let target = target::parse(self.target.as_bytes(), self.method, options)?;
        headers.start(head, options.keep_spelling);
        let host = self.push_line(head, &target, fields, options, headers).map_err(Refused::into_error)?;
        let source = Source { head, underscores: options.underscores, host };
        let found = take_over(&source, fields, headers)?;
        headers.join_repeated(JOINED);
        conclude(found, self.version, target == Target::Authority, options, headers)
    }

    /// Puts method, path, authority and scheme in front of the map; returns which field was the host.
    #[inline]
    fn push_line(
        &self,
        head: &[u8],
        target: &Target,
        fields: &[Header<'_>],
        options: &RequestOptions,
        headers: &mut HeaderMap,
    ) -> Result<Option<usize>, Refused> {
        let at = offset(head, self.target.as_bytes());
        headers.push_parsed_known(Known::METHOD, (0, self.method.len()))?;
        match target {
            Target::Path => headers.push_parsed_known(Known::PATH, (at, self.target.len()))?,
            Target::Absolute { path, .. } if path.is_empty() => headers.append_known(Known::PATH, b"/"),
            Target::Absolute { path, .. } => headers.push_parsed_known(Known::PATH, (at + path.start, path.len()))?,
            Target::Authority => {}
        }
        let host = fields.iter().position(|field| field.name.eq_ignore_ascii_case("host"));
        match (target, host.and_then(|host| fields.get(host))) {
            // RFC 9112 §3.2.2: "When an origin server receives a request with an absolute-form of request-target, the
            // origin server MUST ignore the received Host header field (if any) and instead use the host information
            // of the request-target." The same for a proxy.
            (Target::Absolute { authority, https, .. }, _) => {
                headers.push_parsed_known(Known::AUTHORITY, (at + authority.start, authority.len()))?;
                headers.append_known(Known::SCHEME, if *https { b"https" } else { b"http" });
            }
            (Target::Authority, _) => headers.push_parsed_known(Known::AUTHORITY, (at, self.target.len()))?,
            (Target::Path, Some(field)) => {
                // RFC 9112 §3.2: "A server MUST respond with a 400 (Bad Request) status code […] to any request
                // message that contains more than one Host header field line or a Host header field with an invalid
                // field value."
                if !target::is_host_value(field.value) {
                    return Err(Refused::Host);
                }
                let name_at = offset(head, field.name.as_bytes());
                headers.push_parsed_host(name_at, (offset(head, field.value), field.value.len()))?;
            }
            (Target::Path, None) => {
                if let (Version::Http10, Some(host)) = (self.version, &options.default_host_for_http_10) {
                    headers.append_known(Known::AUTHORITY, host.as_bytes());
                }
            }
        }
        Ok(host)
    }
}

/// Decides framing and reuse, once all fields are known.
#[inline]
fn conclude(
    mut found: Fields,
    version: Version,
    connect: bool,
    options: &RequestOptions,
    headers: &mut HeaderMap,
) -> Result<RequestHead, CodecError> {
    let upgrade = found.upgrade && wants_upgrade(options, headers);
    if found.nominates {
        connection::remove_nominated(headers)?;
    }
    if connect {
        check_connect(&mut found, headers)?;
    }
    let chunked = found.settle(options.allow_chunked_length, headers)?;
    let http_10 = version == Version::Http10;
    if chunked && http_10 {
        return Err(http_10_chunked());
    }
    let framing = match found.length {
        _ if upgrade || connect => Framing::UntilClose,
        _ if chunked => Framing::Chunked,
        Some(length) => Framing::Length(length),
        // RFC 9112 §6.3: "If this is a request message and none of the above are true, then the message body
        // length is zero (no message body is present)."
        None => Framing::None,
    };
    Ok(RequestHead {
        version,
        framing,
        keep_alive: !found.close && (!http_10 || found.keep_alive),
        // RFC 9110 §10.1.1: "A server that receives a 100-continue expectation in an HTTP/1.0 request MUST ignore
        // that expectation."
        expect_continue: !http_10
            && headers.get(Known::EXPECT).is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue")),
        upgrade,
        connect,
        head_bytes: 0,
        field_bytes: 0,
        dropped_underscore_headers: found.dropped,
    })
}

/// Whether the `upgrade` header asks for something. `h2c` never does: Envoy takes it out, and answers in HTTP/1.1.
#[cold]
fn wants_upgrade(options: &RequestOptions, headers: &mut HeaderMap) -> bool {
    let Some(protocol) = headers.get(Known::UPGRADE).filter(|value| !value.is_empty()) else { return false };
    let h2c = protocol.eq_ignore_ascii_case(b"h2c");
    if !h2c && !options.ignore_upgrade.as_ref().is_some_and(|ignored| ignored.matches(protocol)) {
        return true;
    }
    headers.remove_known(Known::UPGRADE);
    headers.remove_known(Known::HTTP2_SETTINGS);
    false
}

/// RFC 9110 §9.3.6: "A CONNECT request message does not have content."
#[cold]
fn check_connect(found: &mut Fields, headers: &mut HeaderMap) -> Result<(), CodecError> {
    if found.encoding != fields::Encoding::None {
        return Err(super::error::UNSUPPORTED_ENCODING);
    }
    match found.length.take() {
        None => Ok(()),
        Some(0) => {
            headers.remove_known(Known::CONTENT_LENGTH);
            Ok(())
        }
        Some(_) => Err(CodecError::new(CodecErrorKind::ContentLength, "unsupported content length")
            .details("http1.body_disallowed")),
    }
}

/// RFC 9112 §6.1: "A server or client that receives an HTTP/1.0 message containing a Transfer-Encoding header field MUST
/// treat the message as if the framing is faulty". Envoy reads it as chunked.
#[cold]
fn http_10_chunked() -> CodecError {
    CodecError::new(CodecErrorKind::TransferEncoding, "transfer encoding not allowed in HTTP/1.0")
        .details("http1.transfer_encoding_not_allowed")
}

#[cold]
fn low_version() -> CodecError {
    CodecError::new(CodecErrorKind::Version, "HTTP version not supported").status(426).details("low_version")
}

/// A parser's error; a request line that is right but for its version is told apart.
#[cold]
fn refusal(error: httparse::Error, head: &[u8]) -> CodecError {
    let end = memchr::memchr(b'\r', head).unwrap_or(head.len());
    let (line, rest) = head.split_at(end);
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version, more) = (words.next(), words.next(), words.next(), words.next());
    let is_name = |word: &[u8]| !word.is_empty() && word.iter().all(u8::is_ascii_uppercase);
    let is_target = |word: &[u8]| word.first() == Some(&b'/') && word.iter().all(u8::is_ascii_graphic);
    let is_version = |word: &[u8]| matches!(word, [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']);
    let ended = rest.starts_with(b"\r\n");
    match error {
        httparse::Error::Version | httparse::Error::Token
            if ended
                && more.is_none()
                && method.is_some_and(is_name)
                && target.is_some_and(is_target)
                && version.is_none_or(is_version) =>
        {
            low_version()
        }
        _ => fields::refusal(error, head),
    }
}

/// Why the request line could not be put into the map.
enum Refused {
    Host,
    TooLarge,
}

impl From<nuncio_headers::HeadersTooLarge> for Refused {
    fn from(_: nuncio_headers::HeadersTooLarge) -> Self {
        Refused::TooLarge
    }
}

impl Refused {
    #[cold]
    fn into_error(self) -> CodecError {
        match self {
            Refused::Host => CodecError::new(CodecErrorKind::Host, "invalid 'Host'").details("http.invalid_authority"),
            Refused::TooLarge => HEAD_TOO_LARGE,
        }
    }
}
