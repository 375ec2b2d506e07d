//! Methods and request targets.

use super::error::{CodecError, CodecErrorKind};
use super::options::RequestOptions;
use std::ops::Range;

/// A request target taken apart. Ranges are offsets into the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// `/path?query` or `*`: all of it is the path.
    Path,
    /// `scheme://authority/path`; an empty path range stands for `/`.
    Absolute { https: bool, authority: Range<usize>, path: Range<usize> },
    /// `host:port` of CONNECT.
    Authority,
}

const INVALID: CodecError =
    CodecError::new(CodecErrorKind::Target, "invalid url in request line").details("http1.invalid_url");
const MALFORMED: CodecError = CodecError::new(CodecErrorKind::Target, "malformed request target");

/// Whether requests with the method are served. Envoy knows a fixed list, unless `allow_custom_methods` is set; that the
/// method is a token was checked by the parser.
#[inline]
pub(super) fn is_served(method: &str, options: &RequestOptions) -> bool {
    matches!(method, "GET" | "POST" | "PUT" | "HEAD" | "DELETE" | "PATCH" | "OPTIONS" | "CONNECT")
        || options.allow_custom_methods
        || is_rare(method)
}

#[cold]
fn is_rare(method: &str) -> bool {
    const RARE: [&str; 27] = [
        "ACL",
        "BIND",
        "CHECKOUT",
        "COPY",
        "LINK",
        "LOCK",
        "MERGE",
        "MKACTIVITY",
        "MKCALENDAR",
        "MKCOL",
        "MOVE",
        "MSEARCH",
        "NOTIFY",
        "PROPFIND",
        "PROPPATCH",
        "PURGE",
        "QUERY",
        "REBIND",
        "REPORT",
        "SEARCH",
        "SOURCE",
        "SUBSCRIBE",
        "TRACE",
        "UNBIND",
        "UNLINK",
        "UNLOCK",
        "UNSUBSCRIBE",
    ];
    RARE.contains(&method)
}

/// Takes a target apart (RFC 9112 §3.2). The parser has checked that it holds neither space nor control character.
#[inline]
pub(super) fn parse(target: &[u8], method: &str, options: &RequestOptions) -> Result<Target, CodecError> {
    // RFC 9112 §3.2: "Recipients of an invalid request-line SHOULD respond with either a 400 (Bad Request) error".
    // Bytes beyond ASCII are in no URI (RFC 3986 §2).
    if !target.is_ascii() {
        return Err(MALFORMED);
    }
    if method == "CONNECT" {
        return parse_connect(target);
    }
    if target.starts_with(b"/") {
        return Ok(Target::Path);
    }
    parse_other(target, method, options)
}

#[cold]
fn parse_other(target: &[u8], method: &str, options: &RequestOptions) -> Result<Target, CodecError> {
    if target == b"*" {
        // RFC 9112 §3.2.4: "The asterisk-form of request-target is only used for a server-wide OPTIONS request".
        return if method == "OPTIONS" { Ok(Target::Path) } else { Err(INVALID) };
    }
    let scheme = memchr::memmem::find(target, b"://").ok_or(MALFORMED)?;
    let (scheme, rest) = (&target[..scheme], scheme + 3);
    if !scheme.first().is_some_and(u8::is_ascii_alphabetic) || !scheme.iter().all(u8::is_ascii_alphanumeric) {
        return Err(MALFORMED);
    }
    if !options.allow_absolute_url {
        return Ok(Target::Path);
    }
    let https = scheme.eq_ignore_ascii_case(b"https");
    if !https && !scheme.eq_ignore_ascii_case(b"http") {
        return Err(CodecError::new(CodecErrorKind::Target, "invalid scheme").details("http1.invalid_scheme"));
    }
    let ends = |byte: &u8| matches!(byte, b'/' | b'?' | b'#');
    let end = target[rest..].iter().position(ends).map_or(target.len(), |at| rest + at);
    if target.get(end) == Some(&b'#') || target[rest..end].contains(&b'\\') {
        return Err(MALFORMED);
    }
    // RFC 9110 §4.2.4: "Before making use of an "http" or "https" URI reference received from an untrusted source, a
    // recipient SHOULD parse for userinfo and treat its presence as an error". Envoy cuts it off, as here.
    let start = target[rest..end].iter().position(|byte| *byte == b'@').map_or(rest, |at| rest + at + 1);
    let authority = &target[start..end];
    let (host, port) = split_port(authority).ok_or(INVALID)?;
    if !is_host(host) || !port.is_none_or(is_port) {
        return Err(INVALID);
    }
    Ok(Target::Absolute { https, authority: start..end, path: end..target.len() })
}

/// RFC 9112 §3.2.3: "the authority-form of request-target […] consists of only the uri-host and port number of the
/// tunnel destination, separated by a colon".
#[cold]
fn parse_connect(target: &[u8]) -> Result<Target, CodecError> {
    match split_port(target) {
        Some((host, Some(port))) if is_host(host) && is_port(port) => Ok(Target::Authority),
        _ => Err(INVALID),
    }
}

/// Splits an authority at the colon before the port; `None` if a bracket is not closed or followed by something else.
fn split_port(authority: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let after_host = match authority.first() {
        Some(b'[') => authority.iter().position(|byte| *byte == b']')? + 1,
        _ => authority.iter().position(|byte| *byte == b':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(after_host);
    match rest {
        [] => Some((host, None)),
        [b':', port @ ..] => Some((host, Some(port))),
        _ => None,
    }
}

/// What Envoy takes for a host in a URL: a name of letters, digits, `-` and `.`, or an IPv6 address in brackets.
fn is_host(host: &[u8]) -> bool {
    match host {
        [b'[', inner @ .., b']'] => {
            !inner.is_empty() && inner.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
        }
        _ => !host.is_empty() && host.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')),
    }
}

fn is_port(port: &[u8]) -> bool {
    port.len() <= 5 && super::fields::parse_length(port).is_some_and(|port| port <= u64::from(u16::MAX))
}

/// Whether a `host` value may be one: the characters of `uri-host [ ":" port ]` (RFC 9110 §7.2), and `@`, which Envoy
/// lets pass. Empty is allowed: RFC 9112 §3.2 asks for it where the target has no authority.
#[inline]
pub(crate) fn is_host_value(value: &[u8]) -> bool {
    value.iter().all(|byte| HOST_BYTES[*byte as usize])
}

static HOST_BYTES: [bool; 256] = {
    let mut allowed = [false; 256];
    let others = b"-._~%!$&'()*+,;=:@[]";
    let mut byte = 0;
    while byte < 128 {
        allowed[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        allowed[others[at] as usize] = true;
        at += 1;
    }
    allowed
};
