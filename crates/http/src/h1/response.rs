//! Reading the head of a response.

use super::{CodecError, HeadScanner, Parsed, ResponseOptions};
use crate::{Framing, Version};
use nuncio_headers::HeaderMap;

/// What the head of a response says about the connection and the body. Everything else is in the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status, 100–999. One below 200 is an informational head: another head follows it, except after 101.
    pub status: u16,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// How the body ends.
    pub framing: Framing,
    /// Whether the connection may be used for another request.
    pub keep_alive: bool,
    /// Whether the connection is a tunnel from here on: 101 to an upgrade, 2xx to CONNECT.
    pub upgrade: bool,
    /// Bytes of the head on the wire.
    pub head_bytes: u32,
    /// Headers taken out because of [`Underscores::Drop`](super::Underscores::Drop).
    pub dropped_underscore_headers: u16,
}

/// Reads the head of a response from the start of `buf` into `headers`: `:status`, then the fields in their order.
/// An informational response comes out as a head of its own.
pub fn parse_response(
    buf: &[u8],
    scan: &mut HeadScanner,
    options: &ResponseOptions,
    headers: &mut HeaderMap,
) -> Result<Parsed<ResponseHead>, CodecError> {
    let _ = (buf, scan, options, headers);
    Ok(Parsed::Partial)
}
