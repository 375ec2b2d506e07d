//! Reading a body: by length, by chunks, or until the connection ends.

use super::error::{CodecError, CodecErrorKind, HEAD_TOO_LARGE};
use super::fields::{self, offset};
use super::options::Underscores;
use super::{HeadScanner, chunk};
use crate::Framing;
use httparse::Status;
use nuncio_headers::{HeaderMap, Known, KnownSet};

/// What to do with trailers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrailerOptions {
    /// Whether trailers are delivered; otherwise they are checked and thrown away. Default no
    /// (`Http1ProtocolOptions.enable_trailers`).
    pub deliver: bool,
    /// Limit of the trailers, in bytes. Default 60 KiB.
    pub max_bytes: u32,
    /// Limit of their number. Default 100.
    pub max_count: u16,
    /// What to do with `_` in names, if they are delivered. Default [`Underscores::Allow`].
    pub underscores: Underscores,
}

impl Default for TrailerOptions {
    fn default() -> Self {
        TrailerOptions { deliver: false, max_bytes: 60 * 1024, max_count: 100, underscores: Underscores::Allow }
    }
}

/// What a call of [`BodyDecoder::decode`] found. `consumed` is how many bytes of the buffer are done with in every
/// case; the next call starts behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEvent {
    /// Nothing to deliver: drop `consumed` bytes and read more.
    Need {
        /// Bytes done with.
        consumed: usize,
    },
    /// `buf[start..end]` is the next piece of the body.
    Data {
        /// Where the piece starts.
        start: usize,
        /// Where it ends.
        end: usize,
        /// Bytes done with: `end`, or more when framing follows it.
        consumed: usize,
        /// Whether the body ends with it, without trailers. No [`BodyEvent::End`] need be fetched.
        last: bool,
    },
    /// The body is over. Also the answer to every later call, with nothing consumed.
    End {
        /// Bytes done with.
        consumed: usize,
        /// Whether trailers were put into the map.
        trailers: bool,
    },
}

/// Reads one body. Holds no bytes: a part of the framing that is not complete stays in the caller's buffer, which
/// therefore needs room for [`TrailerOptions::max_bytes`].
#[derive(Debug, Clone)]
pub struct BodyDecoder {
    state: State,
    /// Bytes of chunk extensions so far.
    extensions: u32,
    trailers: TrailerOptions,
}

#[derive(Debug, Clone)]
enum State {
    Length(u64),
    UntilClose,
    ChunkHead,
    ChunkData(u64),
    /// Before the CR LF behind a chunk.
    ChunkEnd,
    Trailers(HeadScanner),
    Done,
}

/// Trailers that are not delivered: those that frame or route a message, or concern one connection only.
///
/// RFC 9110 §6.5.1: "A sender MUST NOT generate a trailer field unless the sender knows the corresponding header field
/// name's definition permits sending a trailer field section". A receiver that merged these into the header section
/// would read another message than we did. Envoy hands them on.
const FORBIDDEN: KnownSet = KnownSet::of(&[
    Known::CONNECTION,
    Known::CONTENT_LENGTH,
    Known::HOST,
    Known::HTTP2_SETTINGS,
    Known::KEEP_ALIVE,
    Known::PROXY_CONNECTION,
    Known::TE,
    Known::TRAILER,
    Known::TRANSFER_ENCODING,
    Known::UPGRADE,
]);

impl BodyDecoder {
    /// A decoder for one body.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkHead,
            Framing::UntilClose => State::UntilClose,
        };
        BodyDecoder { state, extensions: 0, trailers: TrailerOptions::default() }
    }

    /// The same, with other rules for trailers.
    pub fn with_trailers(mut self, trailers: TrailerOptions) -> Self {
        self.trailers = trailers;
        self
    }

    /// Reads the next piece from the start of `buf`. `trailers` is written only if it then is told by
    /// [`BodyEvent::End`].
    #[inline]
    pub fn decode(&mut self, buf: &[u8], trailers: &mut HeaderMap) -> Result<BodyEvent, CodecError> {
        match &mut self.state {
            State::Done => Ok(BodyEvent::End { consumed: 0, trailers: false }),
            _ if buf.is_empty() => Ok(BodyEvent::Need { consumed: 0 }),
            State::UntilClose => Ok(BodyEvent::Data { start: 0, end: buf.len(), consumed: buf.len(), last: false }),
            State::Length(left) => {
                let end = take(left, buf.len());
                let last = *left == 0;
                if last {
                    self.state = State::Done;
                }
                Ok(BodyEvent::Data { start: 0, end, consumed: end, last })
            }
            _ => self.decode_chunked(buf, trailers),
        }
    }

    fn decode_chunked(&mut self, buf: &[u8], trailers: &mut HeaderMap) -> Result<BodyEvent, CodecError> {
        let mut at = 0;
        loop {
            let rest = buf.get(at..).unwrap_or_default();
            match &mut self.state {
                State::ChunkHead => {
                    let Some(head) = chunk::parse_head(rest)? else { return Ok(BodyEvent::Need { consumed: at }) };
                    self.extensions = chunk::add_extension(self.extensions, head.extension)?;
                    at += head.len;
                    self.state = match head.size {
                        0 => State::Trailers(HeadScanner::new()),
                        size => State::ChunkData(size),
                    };
                }
                State::ChunkEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        at += 2;
                        self.state = State::ChunkHead;
                    }
                    [] | [b'\r'] => return Ok(BodyEvent::Need { consumed: at }),
                    _ => return Err(chunk::BAD_END),
                },
                State::ChunkData(_) if rest.is_empty() => return Ok(BodyEvent::Need { consumed: at }),
                State::ChunkData(left) => {
                    let end = at + take(left, rest.len());
                    let whole = *left == 0;
                    return Ok(self.chunk_data(buf, at, end, whole));
                }
                State::Trailers(_) => return self.decode_trailers(rest, at, trailers),
                State::Done | State::Length(_) | State::UntilClose => {
                    return Ok(BodyEvent::End { consumed: at, trailers: false });
                }
            }
        }
    }

    /// A piece of a chunk; looks over its end, so that the last piece of most bodies is known to be the last.
    fn chunk_data(&mut self, buf: &[u8], start: usize, end: usize, whole: bool) -> BodyEvent {
        if !whole {
            return BodyEvent::Data { start, end, consumed: end, last: false };
        }
        const LAST: &[u8] = b"\r\n0\r\n\r\n";
        let behind = buf.get(end..).unwrap_or_default();
        if behind.starts_with(LAST) {
            self.state = State::Done;
            return BodyEvent::Data { start, end, consumed: end + LAST.len(), last: true };
        }
        self.state = State::ChunkEnd;
        BodyEvent::Data { start, end, consumed: end, last: false }
    }

    fn decode_trailers(&mut self, rest: &[u8], at: usize, trailers: &mut HeaderMap) -> Result<BodyEvent, CodecError> {
        let State::Trailers(scan) = &mut self.state else { return Ok(BodyEvent::Need { consumed: at }) };
        if rest.starts_with(b"\r\n") {
            self.state = State::Done;
            return Ok(BodyEvent::End { consumed: at + 2, trailers: false });
        }
        let limit = self.trailers.max_bytes as usize;
        let partial = || if rest.len() > limit { Err(HEAD_TOO_LARGE) } else { Ok(BodyEvent::Need { consumed: at }) };
        if rest.is_empty() || !scan.is_worth_parsing(rest) {
            return partial();
        }
        let mut slots = vec![httparse::EMPTY_HEADER; self.trailers.max_count as usize];
        let (end, fields) = match httparse::parse_headers(rest, &mut slots) {
            Ok(Status::Complete(found)) => found,
            Ok(Status::Partial) => return partial(),
            Err(error) => return Err(fields::refusal(error, rest)),
        };
        if end > limit {
            return Err(HEAD_TOO_LARGE);
        }
        let delivered = self.take_trailers(rest.get(..end).unwrap_or_default(), fields, trailers)?;
        self.state = State::Done;
        Ok(BodyEvent::End { consumed: at + end, trailers: delivered })
    }

    fn take_trailers(
        &self,
        block: &[u8],
        fields: &[httparse::Header<'_>],
        trailers: &mut HeaderMap,
    ) -> Result<bool, CodecError> {
        let underscores = if self.trailers.deliver { self.trailers.underscores } else { Underscores::Allow };
        trailers.start(block, false);
        for field in fields {
            let name_at = offset(block, field.name.as_bytes());
            fields::check_line_start(block, name_at)?;
            if fields::is_kept(field.name, underscores)? {
                let value = (offset(block, field.value), field.value.len());
                trailers.push_received(field.name.as_bytes(), name_at, value).map_err(|_| HEAD_TOO_LARGE)?;
            }
        }
        fields::check_end(block)?;
        if !self.trailers.deliver {
            trailers.clear();
        }
        trailers.remove_all(FORBIDDEN);
        Ok(!trailers.is_empty())
    }

    /// Whether the body was read to its end.
    #[inline]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// The connection ended: fine for a body that lasts until then, an error in any other that is not done.
    pub fn finish(&mut self) -> Result<(), CodecError> {
        match self.state {
            State::Done | State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            // RFC 9112 §8: "A message body that uses the chunked transfer coding is incomplete if the zero-sized chunk
            // that terminates the encoding has not been received. A message that uses a valid Content-Length is
            // incomplete if the size of the message body received (in octets) is less than the value given".
            _ => Err(CodecError::new(CodecErrorKind::Truncated, "the connection ended inside a body")),
        }
    }
}

/// Takes as much as there is; returns how much.
#[inline]
fn take(left: &mut u64, available: usize) -> usize {
    let taken = usize::try_from(*left).map_or(available, |left| left.min(available));
    *left -= taken as u64;
    taken
}
