//! The upstream end of an HTTP/1 connection.

use super::wire::{BodyPart, BodyWriter, RecvError, Wire, field_lines};
use crate::h1::{self, BodyDecoder, ResponseHead, ResponseOptions, Spelling, TargetForm, TrailerOptions};
use crate::{Framing, Version};
use bytes::Bytes;
use nuncio_headers::{HeaderMap, Known};
use nuncio_io::transport::Transport;
use std::io;
use std::task::{Context, Poll, ready};

/// A connection on which requests are sent, one at a time.
pub struct ClientConnection {
    wire: Wire,
    trailers: TrailerOptions,
    spelling: Spelling,
    target: TargetForm,
    request: BodyWriter,
    response: BodyDecoder,
    /// Whether the present exchange allows another after it.
    keep_alive: bool,
    /// No HTTP is spoken: a tunnel from its first byte.
    raw: Raw,
}

/// How far a connection is that is a tunnel from its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Raw {
    /// It speaks HTTP.
    No,
    /// The tunnel was not announced yet.
    New,
    /// It was.
    Open,
    /// The sending half was asked to end, once all is sent.
    Ending,
    /// The sending half has ended.
    Ended,
}

impl ClientConnection {
    /// A connection that was just made.
    pub fn new(transport: Transport, trailers: TrailerOptions, spelling: Spelling, target: TargetForm) -> Self {
        ClientConnection {
            wire: Wire::new(transport),
            trailers,
            spelling,
            target,
            request: BodyWriter::new(Framing::None),
            response: BodyDecoder::new(Framing::None),
            keep_alive: true,
            raw: Raw::No,
        }
    }

    /// A connection that is a tunnel from its first byte: it takes no head, and answers with a 200 of its own, so that what
    /// ends a CONNECT request here looks like an upstream that accepted it.
    pub fn raw(transport: Transport) -> Self {
        let trailers = TrailerOptions::default();
        let connection = ClientConnection::new(transport, trailers, Spelling::Lower, TargetForm::Origin);
        ClientConnection { raw: Raw::New, keep_alive: false, ..connection }
    }

    /// [`ClientConnection::raw`] for bytes alone: no head is asked for, so that the tunnel is open at once.
    pub fn opened(transport: Transport) -> Self {
        let mut connection = ClientConnection::raw(transport);
        connection.raw = Raw::Open;
        connection.response = BodyDecoder::new(Framing::UntilClose);
        connection.tunnel();
        connection
    }

    /// Whether the connection is a tunnel from its first byte.
    #[inline]
    pub fn is_raw(&self) -> bool {
        self.raw != Raw::No
    }

    fn answer(&mut self, headers: &mut HeaderMap) -> ResponseHead {
        self.raw = Raw::Open;
        headers.clear();
        headers.append_known(Known::STATUS, b"200");
        self.response = BodyDecoder::new(Framing::UntilClose);
        ResponseHead {
            status: 200,
            version: Version::Http11,
            framing: Framing::UntilClose,
            keep_alive: false,
            close_notify: false,
            upgrade: true,
            head_bytes: 0,
            field_bytes: 0,
            dropped_underscore_headers: 0,
        }
    }

    /// The transport.
    pub fn transport(&self) -> &Transport {
        &self.wire.transport
    }

    /// Bytes received and sent on the wire so far.
    pub fn wire_bytes(&self) -> (u64, u64) {
        (self.wire.received, self.wire.sent)
    }

    /// Whether the idle connection can take a request: nothing came from the upstream, not even its close.
    #[inline]
    pub fn is_usable(&mut self) -> bool {
        self.wire.input.is_empty() && !self.wire.ended && self.wire.transport.is_quiet()
    }

    /// Writes a request head. Returns the bytes of its fields.
    pub fn send_head(&mut self, headers: &HeaderMap, framing: Framing) -> usize {
        if self.is_raw() {
            return 0;
        }
        let out = self.wire.output.tail();
        let before = out.len();
        h1::write_request_head(out, headers, framing, self.spelling, self.target);
        let fields = field_lines(out.get(before..).unwrap_or_default());
        self.request = BodyWriter::new(framing);
        // What was asked to become a tunnel, and whether the upstream thinks it did, is nothing to rely on (CVE-2026-73548).
        self.keep_alive = !headers.has(Known::UPGRADE) && headers.get(Known::METHOD) != Some(b"CONNECT");
        fields
    }

    /// Writes a piece of the request's body.
    pub fn send_data(&mut self, chunk: Bytes) {
        self.request.write(&mut self.wire.output, chunk);
    }

    pub(super) fn forward_from(&mut self, input: &mut nuncio_io::buffer::ReadBuffer, start: usize, end: usize) {
        self.request.forward(&mut self.wire.output, input, start, end);
    }

    /// Ends the request's body.
    pub fn send_end(&mut self, trailers: Option<&HeaderMap>) {
        if self.raw == Raw::Open {
            self.raw = Raw::Ending;
        }
        let trailers = trailers.filter(|_| self.trailers.deliver);
        self.request.finish(&mut self.wire.output, trailers);
    }

    /// Whether the upstream closed its side.
    #[inline]
    pub fn is_ended(&self) -> bool {
        self.wire.ended
    }

    /// Whether the request was written to its end.
    #[inline]
    pub fn request_done(&self) -> bool {
        self.request.framing() == Framing::None
    }

    /// Bytes that the upstream did not take yet.
    #[inline]
    pub fn buffered(&self) -> usize {
        self.wire.output.len()
    }

    /// Writes out what is buffered.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.raw == Raw::Ending {
            ready!(self.poll_shutdown_write(cx))?;
            self.raw = Raw::Ended;
        }
        self.wire.poll_flush(cx)
    }

    fn poll_shutdown_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.wire.poll_flush(cx))?;
        self.wire.transport.poll_shutdown(cx)
    }

    /// Reads the next head of the response; informational ones come out one by one.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        options: &ResponseOptions,
        headers: &mut HeaderMap,
    ) -> Poll<Result<ResponseHead, RecvError>> {
        if self.raw == Raw::New {
            return Poll::Ready(Ok(self.answer(headers)));
        }
        let head = ready!(self.wire.poll_head(cx, |buf, scan| h1::parse_response(buf, scan, options, headers)))?;
        if head.status >= 200 || head.upgrade {
            self.wire.bulk = matches!(head.framing, Framing::Length(length) if length > 4096);
            self.response = BodyDecoder::new(head.framing).with_trailers(self.trailers);
            self.keep_alive &= head.keep_alive && head.framing != Framing::UntilClose;
        }
        Poll::Ready(Ok(head))
    }

    /// Reads the next piece of the response's body.
    pub fn poll_body(&mut self, cx: &mut Context<'_>, trailers: &mut HeaderMap) -> Poll<Result<BodyPart, RecvError>> {
        self.wire.poll_body(cx, &mut self.response, trailers)
    }

    /// Whether the response was read to its end.
    #[inline]
    pub fn response_done(&self) -> bool {
        self.response.is_done()
    }

    /// Takes a piece out of the input buffer.
    pub fn take_body(&mut self, start: usize, end: usize, consumed: usize) -> Bytes {
        let chunk = self.wire.input.take(start, end);
        self.wire.input.consume(consumed.saturating_sub(end));
        chunk
    }

    /// Moves a piece from the input buffer into the body that `to` sends, with one copy at most.
    pub fn forward_body(&mut self, start: usize, end: usize, consumed: usize, to: &mut super::ServerConnection) {
        to.forward_from(&mut self.wire.input, start, end);
        self.wire.input.consume(consumed.saturating_sub(end));
    }

    /// From here on the request's body is sent as it is (after an upgrade).
    pub fn tunnel(&mut self) {
        self.request = BodyWriter::new(Framing::UntilClose);
        self.wire.bulk = true;
        self.keep_alive = false;
    }

    /// Whether bytes of a response were received in the present exchange and not consumed.
    #[inline]
    pub fn has_input(&self) -> bool {
        !self.wire.input.is_empty()
    }

    /// Whether the request was written completely and the response read completely, and both peers keep the
    /// connection: it can take the next request.
    pub fn is_reusable(&self) -> bool {
        self.keep_alive
            && self.request.framing() == Framing::None
            && self.response.is_done()
            && self.wire.output.is_empty()
            && self.wire.input.is_empty()
            && !self.wire.ended
    }

    /// The exchange is over: gives memory back that nothing waits in.
    pub fn finish_exchange(&mut self) {
        self.wire.bulk = false;
        self.wire.input.release();
        self.wire.output.release();
    }

    /// Ends the sending half: a tunnel whose client half-closed.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        self.wire.transport.poll_shutdown(cx)
    }
}
