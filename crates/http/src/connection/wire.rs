//! What both ends of a connection share: buffers, body reading and body writing.

use crate::h1::{self, BodyDecoder, BodyEvent, CodecError, HeadScanner};
use crate::{Framing, ResetReason};
use bytes::Bytes;
use nuncio_headers::HeaderMap;
use nuncio_io::buffer::{BULK_BUFFER, HEAD_BUFFER, LARGE_BUFFER, ReadBuffer, WriteBuffer};
use nuncio_io::transport::Transport;
use std::io;
use std::task::{Context, Poll, ready};

/// A piece of a body, still in the connection's input buffer: take it with `take_body` or `forward_body` before the
/// next call that reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyPart {
    /// Bytes of the body.
    Data {
        /// Place in the input buffer.
        start: usize,
        /// Place in the input buffer.
        end: usize,
        /// Bytes to drop from the input buffer afterwards.
        consumed: usize,
        /// Whether the body ends here, without trailers.
        last: bool,
    },
    /// The body is over; `trailers` says whether there are any.
    End {
        /// Whether trailers were read into the map.
        trailers: bool,
    },
}

/// Why nothing more comes from a peer.
#[derive(Debug)]
pub enum RecvError {
    /// The peer closed the connection where a message may end: before a head.
    Closed,
    /// The peer closed the connection inside a message.
    Truncated,
    /// The transport failed.
    Io(io::Error),
    /// The peer broke the protocol.
    Codec(CodecError),
    /// The stream was reset, by either side (HTTP/2).
    Reset(ResetReason),
}

impl From<CodecError> for RecvError {
    fn from(error: CodecError) -> Self {
        RecvError::Codec(error)
    }
}

impl std::fmt::Display for RecvError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RecvError::Closed => f.write_str("connection closed"),
            RecvError::Truncated => f.write_str("connection closed inside a message"),
            RecvError::Io(error) => error.fmt(f),
            RecvError::Codec(error) => error.fmt(f),
            RecvError::Reset(reason) => reason.fmt(f),
        }
    }
}

/// Bytes of a written head but for its first line and the empty line at its end.
#[inline]
pub(super) fn field_lines(head: &[u8]) -> usize {
    let first = head.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    head.len().saturating_sub(first + b"\r\n".len())
}

/// A transport with its buffers and byte counts.
pub(super) struct Wire {
    pub transport: Transport,
    pub input: ReadBuffer,
    pub output: WriteBuffer,
    pub scan: HeadScanner,
    pub received: u64,
    pub sent: u64,
    pub ended: bool,
    pub bulk: bool,
    /// The last read filled a buffer for bulk transfer.
    full: bool,
}

impl Wire {
    pub fn new(transport: Transport) -> Wire {
        Wire {
            transport,
            input: ReadBuffer::new(),
            output: WriteBuffer::new(),
            scan: HeadScanner::new(),
            received: 0,
            sent: 0,
            ended: false,
            bulk: false,
            full: false,
        }
    }

    /// Reads once. `Ok(0)` is the end of the stream.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        let want = match (self.bulk, self.full) {
            (false, _) => HEAD_BUFFER,
            (true, false) => BULK_BUFFER,
            (true, true) => LARGE_BUFFER,
        };
        let count = ready!(self.input.poll_fill(cx, &mut self.transport, want))?;
        self.full = count >= BULK_BUFFER;
        self.received += count as u64;
        self.ended = count == 0;
        Poll::Ready(Ok(count))
    }

    /// Reads a head with `parse`, which gets what is buffered and says how many bytes it used.
    pub fn poll_head<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut parse: impl FnMut(&[u8], &mut HeadScanner) -> Result<h1::Parsed<T>, CodecError>,
    ) -> Poll<Result<T, RecvError>> {
        loop {
            if !self.input.is_empty()
                && let h1::Parsed::Complete(head, used) = parse(self.input.filled(), &mut self.scan)?
            {
                self.scan.reset();
                self.input.consume(used);
                return Poll::Ready(Ok(head));
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) if self.input.is_empty() => return Poll::Ready(Err(RecvError::Closed)),
                Ok(0) => return Poll::Ready(Err(RecvError::Truncated)),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(RecvError::Io(error))),
            }
        }
    }

    /// Reads the next piece of a body.
    pub fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        decoder: &mut BodyDecoder,
        trailers: &mut HeaderMap,
    ) -> Poll<Result<BodyPart, RecvError>> {
        loop {
            if !self.input.is_empty() {
                match decoder.decode(self.input.filled(), trailers)? {
                    BodyEvent::Need { consumed } => self.input.consume(consumed),
                    BodyEvent::Data { start, end, consumed, last } => {
                        return Poll::Ready(Ok(BodyPart::Data { start, end, consumed, last }));
                    }
                    BodyEvent::End { consumed, trailers } => {
                        self.input.consume(consumed);
                        return Poll::Ready(Ok(BodyPart::End { trailers }));
                    }
                }
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) => {
                    let ended = decoder.finish().map(|()| BodyPart::End { trailers: false });
                    return Poll::Ready(ended.map_err(|_| RecvError::Truncated));
                }
                Ok(count) => self.bulk = self.bulk || count >= HEAD_BUFFER / 2,
                Err(error) => return Poll::Ready(Err(RecvError::Io(error))),
            }
        }
    }

    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.output.is_empty() && self.transport.tcp().is_some() {
            return Poll::Ready(Ok(()));
        }
        self.output.poll_flush(cx, &mut self.transport, &mut self.sent)
    }
}

/// Writes the framing of one body. *Invariant*: with [`Framing::None`] nothing is written, whatever is handed in: bytes
/// behind a head that ends its message would be read as the next message.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyWriter {
    framing: Framing,
}

impl BodyWriter {
    pub fn new(framing: Framing) -> BodyWriter {
        BodyWriter { framing }
    }

    pub fn framing(&self) -> Framing {
        self.framing
    }

    fn chunked(&self, length: usize) -> bool {
        self.framing == Framing::Chunked && length > 0
    }

    pub fn write(&self, output: &mut WriteBuffer, chunk: Bytes) {
        if self.framing == Framing::None {
            return;
        }
        let chunked = self.chunked(chunk.len());
        if chunked {
            h1::write_chunk_head(output.tail(), chunk.len());
        }
        output.push(chunk);
        if chunked {
            h1::write_chunk_end(output.tail());
        }
    }

    pub fn forward(&self, output: &mut WriteBuffer, input: &mut ReadBuffer, start: usize, end: usize) {
        if self.framing == Framing::None {
            return input.consume(end);
        }
        let chunked = self.chunked(end - start);
        if chunked {
            h1::write_chunk_head(output.tail(), end - start);
        }
        output.push_from(input, start, end);
        if chunked {
            h1::write_chunk_end(output.tail());
        }
    }

    pub fn finish(&mut self, output: &mut WriteBuffer, trailers: Option<&HeaderMap>) {
        if self.framing == Framing::Chunked {
            h1::write_last_chunk(output.tail(), trailers);
        }
        self.framing = Framing::None;
    }
}
