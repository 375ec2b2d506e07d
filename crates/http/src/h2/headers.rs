//! Header maps: from the `h2` crate's to ours and back.
//!
//! Upgrades look in ours as they do in HTTP/1 (`upgrade`, `connection: upgrade`, answered 101), whichever version the
//! peer speaks, so that the stream driver knows one form only. On an HTTP/2 connection they are extended CONNECT (RFC 8441).

use super::Http2Options;
use crate::h1::Underscores;
use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri};
use nuncio_headers::{HeaderMap, HeadersTooLarge, Known, KnownSet};
use std::cell::OnceCell;

/// Connection-specific headers, which HTTP/2 has no place for (RFC 9113 §8.2.2).
const CONNECTION_SPECIFIC: KnownSet = KnownSet::of(&[
    Known::CONNECTION,
    Known::HOST,
    Known::HTTP2_SETTINGS,
    Known::KEEP_ALIVE,
    Known::PROXY_CONNECTION,
    Known::TRANSFER_ENCODING,
    Known::UPGRADE,
]);

/// Why a received head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Longer headers than allowed.
    TooLarge,
    /// More headers than allowed.
    TooMany,
    /// A name holds `_`, and that is not wanted.
    Underscore,
    /// The message is malformed (RFC 9113 §8.1.1).
    Malformed,
    /// The heads of the streams that are open take enough of memory.
    NoRoom,
}

impl From<HeadersTooLarge> for Refused {
    fn from(_: HeadersTooLarge) -> Self {
        Refused::TooLarge
    }
}

/// What is wanted of headers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub most: u16,
    pub underscores: Underscores,
    pub longest: u32,
    /// Bytes of all fields, as RFC 9113 §6.5.2 counts them.
    pub heaviest: u32,
    pub disallow_obs_text: bool,
}

impl Rules {
    pub fn new(options: &Http2Options, underscores: Underscores) -> Rules {
        Rules {
            most: options.max_headers,
            underscores,
            longest: options.max_header_field_bytes.unwrap_or(u32::MAX),
            heaviest: options.max_header_list_bytes,
            disallow_obs_text: options.disallow_obs_text,
        }
    }
}

/// What a field costs besides its text: its entry in the map, and in the copy for the upstream.
const FIELD_COST: usize = 64;

/// What a request's fields say besides what is in the map.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taken {
    /// Names and values, in bytes.
    pub bytes: u32,
    /// The same with what each field costs besides: what the head makes this side hold.
    pub weight: u32,
    pub dropped_underscores: u16,
    pub expect_continue: bool,
    pub upgrade: bool,
    pub connect: bool,
    pub length: Option<u64>,
}

/// Copies a request's head into `into`.
pub(super) fn take_request(parts: &http::request::Parts, rules: Rules, into: &mut HeaderMap) -> Result<Taken, Refused> {
    into.clear();
    let protocol = parts.extensions.get::<Protocol>().map(Protocol::as_str);
    let mut taken = Taken {
        upgrade: protocol.is_some(),
        connect: parts.method == Method::CONNECT && protocol.is_none(),
        ..Taken::default()
    };
    let method = if protocol.is_some() { "GET" } else { parts.method.as_str() };
    into.append_known(Known::METHOD, method.as_bytes());
    if let Some(path) = parts.uri.path_and_query().filter(|_| !taken.connect) {
        into.append_known(Known::PATH, path.as_str().as_bytes());
    }
    let host = parts.headers.get(http::header::HOST);
    match (parts.uri.authority(), host) {
        (Some(authority), _) if is_authority(authority.as_str().as_bytes()) => {
            into.append_known(Known::AUTHORITY, authority.as_str().as_bytes());
        }
        (Some(_), _) => return Err(Refused::Malformed),
        (None, Some(host)) if is_authority(host.as_bytes()) => into.append_known(Known::AUTHORITY, host.as_bytes()),
        (None, Some(_)) => return Err(Refused::Malformed),
        (None, None) => {}
    }
    if let Some(scheme) = parts.uri.scheme_str() {
        into.append_known(Known::SCHEME, scheme.as_bytes());
    }
    if let Some(protocol) = protocol {
        into.append_known(Known::UPGRADE, protocol.as_bytes());
        into.append_known(Known::CONNECTION, b"upgrade");
    }
    taken.bytes = into.byte_size() as u32;
    taken.weight = taken.bytes;
    take_fields(&parts.headers, rules, into, &mut taken)?;
    into.join_repeated(JOINED);
    join_cookies(into);
    Ok(taken)
}

/// Headers of which one is made when they were received several times: as for HTTP/1.
const JOINED: KnownSet = crate::h1::JOINED_REQUEST;

/// RFC 9113 §8.2.3: "If there are multiple Cookie header fields after decompression, these MUST be concatenated into a
/// single octet string using the two-octet delimiter of 0x3b, 0x20 (the ASCII string "; ") before being passed into a
/// non-HTTP/2 context".
fn join_cookies(into: &mut HeaderMap) {
    if !into.is_repeated(Known::COOKIE) {
        return;
    }
    let name = Known::COOKIE.into();
    let joined = into.all(&name).collect::<Vec<_>>().join(&b"; "[..]);
    into.set(&name, &joined);
}

fn take_fields(fields: &http::HeaderMap, rules: Rules, into: &mut HeaderMap, taken: &mut Taken) -> Result<(), Refused> {
    let mut count = 0u32;
    let mut weight = taken.bytes;
    for (name, value) in fields {
        // Browsers send a cookie in many crumbs, which become one header: the limit of bytes bounds them
        // (CVE-2026-47774), not the limit of headers.
        count += u32::from(*name != http::header::COOKIE);
        if count > u32::from(rules.most) {
            return Err(Refused::TooMany);
        }
        // RFC 9113 §6.5.2: "the uncompressed size of field lines in units of octets plus an overhead of 32 octets for each".
        weight = weight.saturating_add((name.as_str().len() + value.len() + 32) as u32);
        if weight > rules.heaviest {
            return Err(Refused::TooLarge);
        }
        let (name, value) = (name.as_str(), value.as_bytes());
        if name.len() + value.len() > rules.longest as usize {
            return Err(Refused::TooLarge);
        }
        if rules.disallow_obs_text && !value.is_ascii() {
            return Err(Refused::Malformed);
        }
        if rules.underscores != Underscores::Allow && name.contains('_') {
            match rules.underscores {
                Underscores::Reject => return Err(Refused::Underscore),
                _ => {
                    taken.dropped_underscores = taken.dropped_underscores.saturating_add(1);
                    continue;
                }
            }
        }
        if name == "host" {
            continue;
        }
        taken.bytes = taken.bytes.saturating_add((name.len() + value.len()) as u32);
        taken.weight = taken.weight.saturating_add((name.len() + value.len() + FIELD_COST) as u32);
        match into.append_received(name.as_bytes(), value)? {
            Some(Known::EXPECT) => taken.expect_continue |= value.eq_ignore_ascii_case(b"100-continue"),
            Some(Known::CONTENT_LENGTH) => note_length(value, taken)?,
            _ => {}
        }
    }
    Ok(())
}

/// Several lengths, or one that is no number, could be read differently by the next hop.
fn note_length(value: &[u8], taken: &mut Taken) -> Result<(), Refused> {
    let length = crate::h1::parse_length(value).ok_or(Refused::Malformed)?;
    if taken.length.is_some() {
        return Err(Refused::Malformed);
    }
    taken.length = Some(length);
    Ok(())
}

/// Whether this may be `:authority`, or `host` in its place: without user information (RFC 9113 §8.3.1).
fn is_authority(host: &[u8]) -> bool {
    crate::h1::is_host_value(host) && !host.contains(&b'@')
}

/// Copies a response's head into `into`. With `upgrade`, a 200 is the answer to extended CONNECT.
pub(super) fn take_response(
    parts: &http::response::Parts,
    upgrade: Option<&[u8]>,
    rules: Rules,
    into: &mut HeaderMap,
) -> Result<Taken, Refused> {
    into.clear();
    let mut taken = Taken::default();
    match upgrade {
        Some(protocol) if parts.status == StatusCode::OK => {
            into.append_known(Known::STATUS, b"101");
            into.append_known(Known::UPGRADE, protocol);
            into.append_known(Known::CONNECTION, b"upgrade");
            taken.upgrade = true;
        }
        _ => into.append_known(Known::STATUS, parts.status.as_str().as_bytes()),
    }
    take_fields(&parts.headers, rules, into, &mut taken)?;
    into.join_repeated(crate::h1::JOINED_RESPONSE);
    Ok(taken)
}

/// Copies trailers into `into`.
pub(super) fn take_trailers(fields: &http::HeaderMap, rules: Rules, into: &mut HeaderMap) -> Result<(), Refused> {
    into.clear();
    let mut taken = Taken::default();
    take_fields(fields, rules, into, &mut taken)?;
    into.remove_all(CONNECTION_SPECIFIC.with(Known::CONTENT_LENGTH).with(Known::TE).with(Known::TRAILER));
    Ok(())
}

thread_local! {
    /// The names that are known, as the crate has them: no look-up per header.
    static NAMES: OnceCell<Vec<Option<HeaderName>>> = const { OnceCell::new() };
}

/// The fields of a message for the crate, and their bytes. Values share one copy of the map's text.
fn fields(headers: &HeaderMap, extra_skip: KnownSet) -> (http::HeaderMap, usize) {
    let text = Bytes::copy_from_slice(headers.text());
    let mut out = http::HeaderMap::with_capacity(headers.len());
    let mut bytes = 0;
    NAMES.with(|names| {
        let names = names
            .get_or_init(|| Known::all().map(|known| HeaderName::from_bytes(known.as_str().as_bytes()).ok()).collect());
        for (line, at) in headers.placed() {
            let name = match line.known {
                Some(known) if CONNECTION_SPECIFIC.contains(known) || extra_skip.contains(known) => continue,
                Some(known) => names.get(known.index()).cloned().flatten(),
                None => HeaderName::from_bytes(line.name).ok(),
            };
            // Pseudo-headers have no such name: they are told apart.
            let Some(name) = name else { continue };
            if line.known == Some(Known::TE) && !line.value.eq_ignore_ascii_case(b"trailers") {
                continue;
            }
            let Ok(value) = HeaderValue::from_maybe_shared(text.slice(at..at + line.value.len())) else { continue };
            bytes += line.name.len() + line.value.len();
            out.append(name, value);
        }
    });
    (out, bytes)
}

/// A request for the crate, and the bytes of its fields. None if method, path or authority can't stand in HTTP/2.
pub(super) fn make_request(headers: &HeaderMap) -> Option<(Request<()>, usize)> {
    let method = headers.get(Known::METHOD)?;
    let protocol = headers.get(Known::UPGRADE).filter(|_| method != b"CONNECT");
    let mut uri = http::uri::Parts::default();
    uri.authority = match headers.get(Known::AUTHORITY) {
        Some(authority) => Some(Authority::try_from(authority).ok()?),
        None => None,
    };
    if method != b"CONNECT" {
        let path = headers.get(Known::PATH).unwrap_or(b"/");
        uri.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
        let https = headers.get(Known::SCHEME).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"https"));
        uri.scheme = Some(if https { Scheme::HTTPS } else { Scheme::HTTP });
    }
    let mut request = Request::new(());
    *request.method_mut() = match protocol {
        Some(_) => Method::CONNECT,
        None => Method::from_bytes(method).ok()?,
    };
    *request.uri_mut() = Uri::from_parts(uri).ok()?;
    *request.version_mut() = http::Version::HTTP_2;
    if let Some(protocol) = protocol {
        request.extensions_mut().insert(Protocol::from(std::str::from_utf8(protocol).ok()?));
    }
    let skip = if protocol.is_some() { KnownSet::of(&[Known::CONTENT_LENGTH]) } else { KnownSet::of(&[]) };
    let (fields, bytes) = fields(headers, skip);
    *request.headers_mut() = fields;
    Some((request, bytes))
}

/// A response for the crate, and the bytes of its fields. The answer to an upgrade (101) becomes 200, the answer to
/// extended CONNECT.
pub(super) fn make_response(headers: &HeaderMap) -> Option<(Response<()>, usize)> {
    let status = headers.get(Known::STATUS).and_then(|status| StatusCode::from_bytes(status).ok())?;
    let mut response = Response::new(());
    let upgraded = status == StatusCode::SWITCHING_PROTOCOLS;
    *response.status_mut() = if upgraded { StatusCode::OK } else { status };
    *response.version_mut() = http::Version::HTTP_2;
    let skip = if upgraded { KnownSet::of(&[Known::CONTENT_LENGTH]) } else { KnownSet::of(&[]) };
    let (fields, bytes) = fields(headers, skip);
    *response.headers_mut() = fields;
    Some((response, bytes))
}

/// Trailers for the crate.
pub(super) fn make_trailers(headers: &HeaderMap) -> http::HeaderMap {
    fields(headers, KnownSet::of(&[Known::CONTENT_LENGTH, Known::TRAILER])).0
}
