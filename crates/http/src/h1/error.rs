//! What can be wrong with a message, and what the other side is told.

/// Why a message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodecErrorKind {
    /// The bytes are not HTTP/1.
    Syntax,
    /// The version is not read.
    Version,
    /// The head is larger than allowed.
    HeadTooLarge,
    /// More headers than allowed.
    TooManyHeaders,
    /// `content-length` is malformed or contradicts itself.
    ContentLength,
    /// `transfer-encoding` is not exactly `chunked`, or stands where it must not.
    TransferEncoding,
    /// `content-length` and `transfer-encoding` are both there.
    LengthAndChunked,
    /// The request target is malformed.
    Target,
    /// `host` is malformed or there is more than one.
    Host,
    /// A name holds `_`, and that is not wanted.
    Underscore,
    /// A chunk is malformed.
    Chunk,
    /// Trailers are malformed or too large.
    Trailers,
    /// The connection ended inside a message.
    Truncated,
}

/// The counter of Envoy's `http1.` family that an error moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodecStat {
    /// None.
    None,
    /// `http1.requests_rejected_with_underscores_in_headers`.
    RequestsRejectedWithUnderscoresInHeaders,
}

/// A message that is refused. The connection that it came on can't be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodecError {
    /// What is wrong.
    pub kind: CodecErrorKind,
    /// The status that a server answers with.
    pub status: u16,
    /// Envoy's response code details (`%RESPONSE_CODE_DETAILS%`).
    pub details: &'static str,
    /// One sentence for a log: what is wrong, in words.
    pub message: &'static str,
    /// The counter to move.
    pub stat: CodecStat,
}

impl std::fmt::Display for CodecError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http/1.1 protocol error: {}", self.message)
    }
}

impl std::error::Error for CodecError {}
