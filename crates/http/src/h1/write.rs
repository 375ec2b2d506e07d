//! Writing heads, chunks and trailers.

use crate::{Framing, Version};
use nuncio_headers::HeaderMap;

/// How header names are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spelling {
    /// `content-type`: Envoy's default.
    #[default]
    Lower,
    /// `Content-Type` (Envoy's `proper_case_words`).
    ProperCase,
    /// As received, where the map kept it; lower case for the rest (Envoy's `preserve_case`).
    Preserve,
}

/// The form of the request target that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetForm {
    /// `/path?query`; the authority for CONNECT.
    #[default]
    Origin,
    /// `http://host/path?query`, as forward proxies want it (Envoy's `send_fully_qualified_url`).
    Absolute,
}

/// Appends a request head. The length headers come from `framing` alone; `:authority` is written as `host`.
pub fn write_request_head(
    out: &mut Vec<u8>,
    headers: &HeaderMap,
    framing: Framing,
    spelling: Spelling,
    target: TargetForm,
) {
    let _ = (out, headers, framing, spelling, target);
}

/// How a response head is written.
#[derive(Debug, Clone, Copy)]
pub struct ResponseWrite<'a> {
    /// Version of the request that is answered.
    pub version: Version,
    /// The length headers.
    pub framing: Framing,
    /// Reason phrase; `None` takes Envoy's for the status.
    pub reason: Option<&'a str>,
    /// Whether `connection: close` is written.
    pub close: bool,
    /// How names are written.
    pub spelling: Spelling,
}

/// Appends a response head. The status is the map's `:status`.
pub fn write_response_head(out: &mut Vec<u8>, headers: &HeaderMap, how: &ResponseWrite<'_>) {
    let _ = (out, headers, how);
}

/// Appends the line before a chunk of `len` bytes. `len` must not be zero: that would be the last chunk.
pub fn write_chunk_head(out: &mut Vec<u8>, len: usize) {
    let _ = (out, len);
}

/// Appends what stands after a chunk.
pub fn write_chunk_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Appends the last chunk, trailers, and the end of the body.
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    let _ = (out, trailers);
}
