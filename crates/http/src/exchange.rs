//! One request with its response, whichever version either side speaks.
//!
//! Owns: the dispatch between HTTP/1 connections and HTTP/2 streams, so that the stream driver is written once. A match on
//! two variants costs less than a call through a table, and lets the HTTP/1 path be inlined as if it were alone.

use crate::connection::{BodyPart, ClientConnection, RecvError, ServerConnection};
use crate::h1::{ResponseHead, ResponseOptions};
use crate::h2::{ClientStream, ServerStream};
use crate::{Framing, ResetReason};
use bytes::Bytes;
use nuncio_headers::HeaderMap;
use std::io;
use std::task::{Context, Poll};

/// Where a request came from, and its response goes.
pub enum Downstream<'a> {
    /// The only exchange of its connection.
    Http1(&'a mut ServerConnection),
    /// One of many.
    Http2(&'a mut ServerStream),
}

impl<'a> From<&'a mut ServerConnection> for Downstream<'a> {
    fn from(wire: &'a mut ServerConnection) -> Self {
        Downstream::Http1(wire)
    }
}

impl<'a> From<&'a mut ServerStream> for Downstream<'a> {
    fn from(stream: &'a mut ServerStream) -> Self {
        Downstream::Http2(stream)
    }
}

impl Downstream<'_> {
    /// Whether the stream is one of many: its end is not the connection's.
    #[inline]
    pub fn is_multiplexed(&self) -> bool {
        matches!(self, Downstream::Http2(_))
    }

    /// The same, for a shorter time.
    #[inline]
    pub fn reborrow(&mut self) -> Downstream<'_> {
        match self {
            Downstream::Http1(wire) => Downstream::Http1(wire),
            Downstream::Http2(stream) => Downstream::Http2(stream),
        }
    }

    /// Bytes received and sent so far.
    pub fn wire_bytes(&self) -> (u64, u64) {
        match self {
            Downstream::Http1(wire) => wire.wire_bytes(),
            Downstream::Http2(stream) => stream.bytes(),
        }
    }

    /// Bytes received and used so far: without what waits in the buffer.
    pub fn used_bytes(&self) -> u64 {
        match self {
            Downstream::Http1(wire) => wire.used_bytes(),
            Downstream::Http2(stream) => stream.bytes().0,
        }
    }

    /// Reads the next piece of the request's body.
    #[inline]
    pub fn poll_body(&mut self, cx: &mut Context<'_>, trailers: &mut HeaderMap) -> Poll<Result<BodyPart, RecvError>> {
        match self {
            Downstream::Http1(wire) => wire.poll_body(cx, trailers),
            Downstream::Http2(stream) => stream.poll_body(cx, trailers),
        }
    }

    /// Takes a piece out of the input buffer.
    #[inline]
    pub fn take_body(&mut self, start: usize, end: usize, consumed: usize) -> Bytes {
        match self {
            Downstream::Http1(wire) => wire.take_body(start, end, consumed),
            Downstream::Http2(stream) => stream.take_body(),
        }
    }

    /// Moves a piece from the input buffer into the body that `to` sends, with one copy at most.
    #[inline]
    pub fn forward_body(&mut self, start: usize, end: usize, consumed: usize, to: &mut Upstream) {
        match (self, to) {
            (Downstream::Http1(wire), Upstream::Http1(to)) => wire.forward_body(start, end, consumed, to),
            (from, to) => to.send_data(from.take_body(start, end, consumed)),
        }
    }

    /// Waits, while a response is being prepared, for the client to go away. Of HTTP/1, bytes of pipelined requests are
    /// kept meanwhile, up to `limit`.
    #[inline]
    pub fn poll_closed(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<RecvError> {
        match self {
            Downstream::Http1(wire) => wire.poll_closed(cx, limit),
            Downstream::Http2(stream) => stream.poll_closed(cx),
        }
    }

    /// From here on the body of the request is all that comes (after an upgrade).
    pub fn tunnel(&mut self) {
        if let Downstream::Http1(wire) = self {
            wire.tunnel();
        }
    }

    /// Writes a response head. For HTTP/1, `close` announces the end of the connection. Returns the bytes of the head's
    /// fields.
    #[inline]
    pub fn send_head(&mut self, headers: &HeaderMap, framing: Framing, close: bool) -> usize {
        match self {
            Downstream::Http1(wire) => wire.send_head(headers, framing, close),
            Downstream::Http2(stream) => stream.send_head(headers),
        }
    }

    /// Writes an informational head (1xx), which another head follows.
    pub fn send_informational(&mut self, headers: &HeaderMap) {
        match self {
            Downstream::Http1(wire) => wire.send_informational(headers),
            Downstream::Http2(stream) => stream.send_informational(headers),
        }
    }

    /// Tells the client that its body is wanted.
    pub fn send_continue(&mut self) {
        match self {
            Downstream::Http1(wire) => wire.send_continue(),
            Downstream::Http2(stream) => {
                let mut headers = HeaderMap::new();
                headers.append_known(nuncio_headers::Known::STATUS, b"100");
                stream.send_informational(&headers);
            }
        }
    }

    /// Writes a piece of the body.
    #[inline]
    pub fn send_data(&mut self, chunk: Bytes) {
        match self {
            Downstream::Http1(wire) => wire.send_data(chunk),
            Downstream::Http2(stream) => stream.send_data(chunk),
        }
    }

    /// Ends the body, with trailers if there are any and the version has a place for them.
    #[inline]
    pub fn send_end(&mut self, trailers: Option<&HeaderMap>) {
        match self {
            Downstream::Http1(wire) => wire.send_end(trailers),
            Downstream::Http2(stream) => stream.send_end(trailers),
        }
    }

    /// Bytes that the client did not take yet.
    #[inline]
    pub fn buffered(&self) -> usize {
        match self {
            Downstream::Http1(wire) => wire.buffered(),
            Downstream::Http2(stream) => stream.buffered(),
        }
    }

    /// Writes out what is buffered.
    #[inline]
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Downstream::Http1(wire) => wire.poll_flush(cx),
            Downstream::Http2(stream) => stream.poll_flush(cx),
        }
    }

    /// Ends a stream whose response can't be completed. HTTP/1 has only its connection's end for that.
    pub fn reset(&mut self, reason: ResetReason) {
        if let Downstream::Http2(stream) = self {
            stream.reset(reason);
        }
    }
}

/// Where a request goes, and its response comes from.
// The larger variant lies in a box already: that of its connection in the pool.
#[allow(clippy::large_enum_variant)]
pub enum Upstream {
    /// The only exchange of its connection.
    Http1(ClientConnection),
    /// One of many.
    Http2(Box<ClientStream>),
}

impl Upstream {
    /// Whether the stream is one of many.
    #[inline]
    pub fn is_multiplexed(&self) -> bool {
        matches!(self, Upstream::Http2(_))
    }

    /// Bytes received and sent so far.
    pub fn wire_bytes(&self) -> (u64, u64) {
        match self {
            Upstream::Http1(wire) => wire.wire_bytes(),
            Upstream::Http2(stream) => stream.bytes(),
        }
    }

    /// Writes a request head. Returns the bytes of its fields.
    #[inline]
    pub fn send_head(&mut self, headers: &HeaderMap, framing: Framing) -> usize {
        match self {
            Upstream::Http1(wire) => wire.send_head(headers, framing),
            Upstream::Http2(stream) => stream.send_head(headers),
        }
    }

    /// Writes a piece of the request's body.
    #[inline]
    pub fn send_data(&mut self, chunk: Bytes) {
        match self {
            Upstream::Http1(wire) => wire.send_data(chunk),
            Upstream::Http2(stream) => stream.send_data(chunk),
        }
    }

    /// Ends the request's body.
    #[inline]
    pub fn send_end(&mut self, trailers: Option<&HeaderMap>) {
        match self {
            Upstream::Http1(wire) => wire.send_end(trailers),
            Upstream::Http2(stream) => stream.send_end(trailers),
        }
    }

    /// Whether the upstream closed its side of the connection.
    #[inline]
    pub fn is_ended(&self) -> bool {
        match self {
            Upstream::Http1(wire) => wire.is_ended(),
            Upstream::Http2(_) => false,
        }
    }

    /// Whether the request was written to its end.
    #[inline]
    pub fn request_done(&self) -> bool {
        match self {
            Upstream::Http1(wire) => wire.request_done(),
            Upstream::Http2(stream) => stream.request_done(),
        }
    }

    /// Bytes that the upstream did not take yet.
    #[inline]
    pub fn buffered(&self) -> usize {
        match self {
            Upstream::Http1(wire) => wire.buffered(),
            Upstream::Http2(stream) => stream.buffered(),
        }
    }

    /// Writes out what is buffered.
    #[inline]
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Upstream::Http1(wire) => wire.poll_flush(cx),
            Upstream::Http2(stream) => stream.poll_flush(cx),
        }
    }

    /// Reads the next head of the response; informational ones come out one by one.
    #[inline]
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        options: &ResponseOptions,
        headers: &mut HeaderMap,
    ) -> Poll<Result<ResponseHead, RecvError>> {
        match self {
            Upstream::Http1(wire) => wire.poll_head(cx, options, headers),
            Upstream::Http2(stream) => stream.poll_head(cx, headers),
        }
    }

    /// Reads the next piece of the response's body.
    #[inline]
    pub fn poll_body(&mut self, cx: &mut Context<'_>, trailers: &mut HeaderMap) -> Poll<Result<BodyPart, RecvError>> {
        match self {
            Upstream::Http1(wire) => wire.poll_body(cx, trailers),
            Upstream::Http2(stream) => stream.poll_body(cx, trailers),
        }
    }

    /// Takes a piece out of the input buffer.
    #[inline]
    pub fn take_body(&mut self, start: usize, end: usize, consumed: usize) -> Bytes {
        match self {
            Upstream::Http1(wire) => wire.take_body(start, end, consumed),
            Upstream::Http2(stream) => stream.take_body(),
        }
    }

    /// Moves a piece from the input buffer into the body that `to` sends, with one copy at most.
    #[inline]
    pub fn forward_body(&mut self, start: usize, end: usize, consumed: usize, to: &mut Downstream<'_>) {
        match (self, to) {
            (Upstream::Http1(wire), Downstream::Http1(to)) => wire.forward_body(start, end, consumed, to),
            (from, to) => to.send_data(from.take_body(start, end, consumed)),
        }
    }

    /// Whether one direction of a tunnel can end before the other.
    pub fn half_closes(&self) -> bool {
        match self {
            Upstream::Http1(wire) => wire.is_raw(),
            Upstream::Http2(_) => true,
        }
    }

    /// From here on the request's body is sent as it is (after an upgrade).
    pub fn tunnel(&mut self) {
        if let Upstream::Http1(wire) = self {
            wire.tunnel();
        }
    }

    /// Whether bytes of a response were received in the present exchange.
    #[inline]
    pub fn has_input(&self) -> bool {
        match self {
            Upstream::Http1(wire) => wire.has_input(),
            Upstream::Http2(stream) => stream.is_answered(),
        }
    }

    /// Whether the connection can take the next request, when this is the only exchange on it.
    pub fn is_reusable(&self) -> bool {
        match self {
            Upstream::Http1(wire) => wire.is_reusable(),
            Upstream::Http2(_) => false,
        }
    }

    /// Whether the idle connection can take a request.
    #[inline]
    pub fn is_usable(&mut self) -> bool {
        match self {
            Upstream::Http1(wire) => wire.is_usable(),
            Upstream::Http2(_) => false,
        }
    }

    /// The exchange is over: gives memory back that nothing waits in.
    pub fn finish_exchange(&mut self) {
        if let Upstream::Http1(wire) = self {
            wire.finish_exchange();
        }
    }
}
