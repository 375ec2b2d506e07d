//! Choosing the framing of a message that is sent.

use crate::{Framing, Version};
use nuncio_headers::{HeaderMap, Known};

/// The framing of a request that is about to be sent: `content-length` of the map if there is one, nothing for a
/// request without body, chunked otherwise. `end` says that no body follows.
pub fn request_framing(headers: &HeaderMap, end: bool) -> Framing {
    if let Some(length) = content_length(headers) {
        return Framing::Length(length);
    }
    match headers.get(Known::METHOD) {
        Some(b"CONNECT") => Framing::None,
        Some(b"POST" | b"PUT" | b"PATCH") if end => Framing::Length(0),
        _ if end => Framing::None,
        _ => Framing::Chunked,
    }
}

/// The framing of a response that is about to be sent, as a peer of `version` to a request with method HEAD or not
/// understands it. `end` says that no body follows.
pub fn response_framing(headers: &HeaderMap, status: u16, version: Version, head_request: bool, end: bool) -> Framing {
    if status < 200 || status == 204 {
        return Framing::None;
    }
    if let Some(length) = content_length(headers) {
        return Framing::Length(length);
    }
    if end {
        return if head_request || status == 304 { Framing::None } else { Framing::Length(0) };
    }
    if version == Version::Http10 { Framing::UntilClose } else { Framing::Chunked }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    std::str::from_utf8(headers.get(Known::CONTENT_LENGTH)?).ok()?.parse().ok()
}
