//! The downstream end of an HTTP/1 connection.

use super::wire::{BodyPart, BodyWriter, RecvError, Wire, field_lines};
use crate::h1::{self, BodyDecoder, RequestHead, RequestOptions, ResponseWrite, Spelling, TrailerOptions};
use crate::{Framing, Version};
use bytes::Bytes;
use nuncio_headers::{HeaderMap, Known};
use nuncio_io::transport::Transport;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A connection on which requests are received and answered, one at a time. Pipelined requests wait in the input
/// buffer, which is not filled further until the present exchange is over.
pub struct ServerConnection {
    wire: Wire,
    options: Arc<RequestOptions>,
    trailers: TrailerOptions,
    spelling: Spelling,
    request: BodyDecoder,
    response: BodyWriter,
    version: Version,
    head_request: bool,
}

impl ServerConnection {
    /// A connection that was just accepted.
    pub fn new(
        transport: Transport,
        options: Arc<RequestOptions>,
        trailers: TrailerOptions,
        spelling: Spelling,
    ) -> Self {
        ServerConnection {
            wire: Wire::new(transport),
            options,
            trailers,
            spelling,
            request: BodyDecoder::new(Framing::None),
            response: BodyWriter::new(Framing::None),
            version: Version::Http11,
            head_request: false,
        }
    }

    /// Whether the first bytes of the connection are the preface of HTTP/2. Reads until that is known, or the client
    /// closed.
    pub fn poll_preface(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let have = self.wire.input.filled();
            if have.len() >= crate::h2::PREFACE.len() {
                return Poll::Ready(Ok(have.starts_with(crate::h2::PREFACE)));
            }
            if !crate::h2::PREFACE.starts_with(have) {
                return Poll::Ready(Ok(false));
            }
            if ready!(self.wire.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(false));
            }
        }
    }

    /// The transport, and what was read of it and not used.
    pub fn into_parts(mut self) -> (Transport, Bytes) {
        let length = self.wire.input.len();
        let read = self.wire.input.take(0, length);
        (self.wire.transport, read)
    }

    /// The transport.
    pub fn transport(&self) -> &Transport {
        &self.wire.transport
    }

    /// Bytes received and sent on the wire so far.
    pub fn wire_bytes(&self) -> (u64, u64) {
        (self.wire.received, self.wire.sent)
    }

    /// Bytes received and used so far: without what waits in the buffer.
    pub fn used_bytes(&self) -> u64 {
        self.wire.received - self.wire.input.len() as u64
    }

    /// Whether a part of the next message is here already.
    #[inline]
    pub fn has_input(&self) -> bool {
        !self.wire.input.is_empty()
    }

    /// Reads the head of the next request.
    pub fn poll_head(&mut self, cx: &mut Context<'_>, headers: &mut HeaderMap) -> Poll<Result<RequestHead, RecvError>> {
        let options = &self.options;
        self.head_request = false;
        let head = ready!(self.wire.poll_head(cx, |buf, scan| h1::parse_request(buf, scan, options, headers)))?;
        self.version = head.version;
        self.head_request = headers.get(Known::METHOD) == Some(b"HEAD");
        self.wire.bulk = matches!(head.framing, Framing::Length(length) if length > 4096);
        self.request = BodyDecoder::new(head.framing).with_trailers(self.trailers);
        Poll::Ready(Ok(head))
    }

    /// Reads the next piece of the request's body.
    pub fn poll_body(&mut self, cx: &mut Context<'_>, trailers: &mut HeaderMap) -> Poll<Result<BodyPart, RecvError>> {
        self.wire.poll_body(cx, &mut self.request, trailers)
    }

    /// Whether the request was read to its end.
    #[inline]
    pub fn request_done(&self) -> bool {
        self.request.is_done()
    }

    /// Takes a piece out of the input buffer.
    pub fn take_body(&mut self, start: usize, end: usize, consumed: usize) -> Bytes {
        let chunk = self.wire.input.take(start, end);
        self.wire.input.consume(consumed.saturating_sub(end));
        chunk
    }

    /// Moves a piece from the input buffer into the body that `to` sends, with one copy at most.
    pub fn forward_body(&mut self, start: usize, end: usize, consumed: usize, to: &mut super::ClientConnection) {
        to.forward_from(&mut self.wire.input, start, end);
        self.wire.input.consume(consumed.saturating_sub(end));
    }

    /// Waits, while a response is being prepared, for the client to go away. Bytes of pipelined requests are kept, up
    /// to `limit`; beyond it the socket is not read and so a close not seen. `Ok` is never returned.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<RecvError> {
        loop {
            if self.wire.input.len() >= limit {
                return Poll::Pending;
            }
            match ready!(self.wire.poll_fill(cx)) {
                Ok(0) => return Poll::Ready(RecvError::Closed),
                Ok(_) => {}
                Err(error) => return Poll::Ready(RecvError::Io(error)),
            }
        }
    }

    /// From here on the body of the request is all that comes (after an upgrade).
    pub fn tunnel(&mut self) {
        self.request = BodyDecoder::new(Framing::UntilClose);
        self.wire.bulk = true;
    }

    /// Writes a response head. `close` adds `connection: close`. Of a body that the response can't have (to HEAD, 204,
    /// 304), nothing will be written, whatever `framing` the head tells. Returns the bytes of the head's fields.
    pub fn send_head(&mut self, headers: &HeaderMap, framing: Framing, close: bool) -> usize {
        let how = ResponseWrite { version: self.version, framing, reason: None, close, spelling: self.spelling };
        let out = self.wire.output.tail();
        let before = out.len();
        h1::write_response_head(out, headers, &how);
        let fields = field_lines(out.get(before..).unwrap_or_default());
        let bodiless = self.head_request || matches!(headers.get(Known::STATUS), Some(b"204" | b"304"));
        self.response = BodyWriter::new(if bodiless { Framing::None } else { framing });
        fields
    }

    /// Writes an informational head (1xx), which another head follows.
    pub fn send_informational(&mut self, headers: &HeaderMap) {
        let how = ResponseWrite {
            version: self.version,
            framing: Framing::None,
            reason: None,
            close: false,
            spelling: self.spelling,
        };
        h1::write_response_head(self.wire.output.tail(), headers, &how);
    }

    /// Writes `HTTP/1.1 100 Continue`.
    pub fn send_continue(&mut self) {
        self.wire.output.tail().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    }

    /// Writes a piece of the body.
    pub fn send_data(&mut self, chunk: Bytes) {
        self.response.write(&mut self.wire.output, chunk);
    }

    pub(super) fn forward_from(&mut self, input: &mut nuncio_io::buffer::ReadBuffer, start: usize, end: usize) {
        self.response.forward(&mut self.wire.output, input, start, end);
    }

    /// Ends the body, with trailers if there are any, the framing allows them and they are enabled (`enable_trailers`).
    pub fn send_end(&mut self, trailers: Option<&HeaderMap>) {
        let trailers = trailers.filter(|_| self.trailers.deliver);
        self.response.finish(&mut self.wire.output, trailers);
    }

    /// Bytes that the client did not take yet.
    #[inline]
    pub fn buffered(&self) -> usize {
        self.wire.output.len()
    }

    /// Writes out what is buffered.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_flush(cx)
    }

    /// The exchange is over: gives memory back that nothing waits in.
    pub fn finish_exchange(&mut self) {
        self.wire.bulk = false;
        self.wire.input.release();
        self.wire.output.release();
    }

    /// Ends the sending half, so that the client reads all of the response before the close.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        self.wire.transport.poll_shutdown(cx)
    }

    /// Throws away what still comes; ready when the client closed. For the time between the last response and the close.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let waiting = self.wire.input.len();
            self.wire.input.consume(waiting);
            match ready!(self.wire.poll_fill(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
    }
}
