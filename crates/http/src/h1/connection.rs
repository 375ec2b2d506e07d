//! Headers that `connection` names as meant for the next hop only.

use super::error::{CodecError, CodecErrorKind};
use super::fields::tokens;
use nuncio_headers::{HeaderMap, HeaderName, Known};

/// Members of `connection` that are looked at. Envoy's limit.
const MAX_NOMINATED: usize = 9;
/// Length of `te` that is looked at, in bytes. Envoy's limit.
const MAX_TE: usize = 255;

/// Removes the headers that the request's `connection` names.
///
/// RFC 9110 §7.6.1: "Intermediaries MUST parse a received Connection header field before a message is forwarded and,
/// for each connection-option in this field, remove any header or trailer field(s) from the message with the same name
/// as the connection-option". But "A sender MUST NOT send a connection option corresponding to a field that is intended
/// for all recipients of the content": a client that names what says where a request is for or where it comes from
/// wants to hide it, and is refused.
#[cold]
pub(super) fn remove_nominated(headers: &mut HeaderMap) -> Result<(), CodecError> {
    let refused =
        CodecError::new(CodecErrorKind::Connection, "invalid 'Connection'").details("http1.connection_header_rejected");
    let name = HeaderName::from(Known::CONNECTION);
    let Some(value) = headers.joined(&name).map(|value| value.into_owned()) else { return Ok(()) };
    if tokens(&value).count() > MAX_NOMINATED {
        return Err(refused);
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    for token in tokens(&value) {
        let is = |name: &str| token.eq_ignore_ascii_case(name.as_bytes());
        if ["close", "keep-alive", "upgrade", "connection"].iter().any(|name| is(name)) {
            kept.push(token);
        } else if token.starts_with(b":")
            || ["host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"].iter().any(|name| is(name))
        {
            return Err(refused);
        } else if is("te") {
            limit_te(headers).map_err(|()| refused)?;
        } else {
            headers.retain(|name, _| !is(name) || is_protected(name));
        }
    }
    let kept = kept.join(&b", "[..]);
    headers.remove_known(Known::CONNECTION);
    if !kept.is_empty() {
        headers.append_known(Known::CONNECTION, &kept);
    }
    Ok(())
}

/// Whether a header stays whatever `connection` says: what proxies before this one say of the request, and what says who
/// sends it. A client could otherwise take away what a server behind this proxy trusts in (CVE-2026-105299).
pub fn is_protected(name: &str) -> bool {
    name.starts_with(':')
        || name.starts_with("x-forwarded-")
        || name.starts_with("x-envoy-")
        || ["host", "x-request-id", "content-length", "authorization", "cookie"].contains(&name)
}

/// RFC 9110 §10.1.4: "A sender of TE MUST also send a "TE" connection option". It is hop-by-hop; only `trailers` says
/// something about the whole way, and stays.
fn limit_te(headers: &mut HeaderMap) -> Result<(), ()> {
    let Some(value) = headers.get(Known::TE) else { return Ok(()) };
    if value.len() > MAX_TE {
        return Err(());
    }
    if tokens(value).any(|token| token.eq_ignore_ascii_case(b"trailers")) {
        headers.set_known(Known::TE, b"trailers");
    } else {
        headers.remove_known(Known::TE);
    }
    Ok(())
}
