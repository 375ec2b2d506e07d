//! Choosing the framing of a message that is sent.
//!
//! Owns: which length headers Envoy's HTTP/1 codec writes. Does not own: whether a body follows.

use super::fields::parse_length;
use crate::{Framing, Version};
use nuncio_headers::{HeaderMap, Known};

/// The framing of a request that is about to be sent: `content-length` of the map if there is one, chunked for another
/// with a body. `end` says that no body follows; methods that usually have one then say so with a length of zero.
///
/// An upgrade request has no framing: use [`Framing::UntilClose`] for it.
#[inline]
pub fn request_framing(headers: &HeaderMap, end: bool) -> Framing {
    let method = headers.get(Known::METHOD).unwrap_or_default();
    // RFC 9110 §8.6: "A user agent SHOULD send Content-Length in a request when the method defines a meaning for
    // enclosed content and it is not sending Transfer-Encoding. […] A user agent SHOULD NOT send a Content-Length
    // header field when the request message does not contain content and the method semantics do not anticipate such
    // data."
    match method {
        b"CONNECT" => Framing::UntilClose,
        _ if headers.has(Known::CONTENT_LENGTH) => declared(headers, end),
        _ if !end => Framing::Chunked,
        b"GET" | b"HEAD" | b"DELETE" | b"TRACE" => Framing::None,
        _ => Framing::Length(0),
    }
}

/// The framing of a response that is about to be sent to a peer that spoke `version`. `end` says that no body follows.
///
/// The result names the headers to write: a response to HEAD (`head_request`) and a 304 have no body however it comes
/// out. A tunnel has no framing: use [`Framing::UntilClose`] for it.
#[inline]
pub fn response_framing(headers: &HeaderMap, status: u16, version: Version, head_request: bool, end: bool) -> Framing {
    match status {
        ..200 | 204 => Framing::None,
        _ if headers.has(Known::CONTENT_LENGTH) => declared(headers, end && !head_request),
        304 => Framing::None,
        // What a GET would get is not known: `chunked` promises the least. For HTTP/1.0, nothing does.
        _ if head_request && version != Version::Http10 => Framing::Chunked,
        _ if head_request => Framing::None,
        _ if end => Framing::Length(0),
        _ if version == Version::Http10 => Framing::UntilClose,
        _ => Framing::Chunked,
    }
}

/// The length that the map declares. One that a filter made unreadable is no length.
fn declared(headers: &HeaderMap, end: bool) -> Framing {
    match headers.get(Known::CONTENT_LENGTH).and_then(parse_length) {
        Some(length) => Framing::Length(length),
        None if end => Framing::Length(0),
        None => Framing::Chunked,
    }
}
