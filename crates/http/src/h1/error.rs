//! What can be wrong with a message, and what the other side is told.

/// Why a message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CodecErrorKind {
    /// The bytes are not HTTP/1.
    Syntax,
    /// The version is not read.
    Version,
    /// The method is not known, and custom methods are not allowed.
    Method,
    /// The head is larger than allowed.
    HeadTooLarge,
    /// More headers than allowed.
    TooManyHeaders,
    /// `content-length` is malformed, contradicts itself, or stands where it must not.
    ContentLength,
    /// `transfer-encoding` is not exactly `chunked`, or stands where it must not.
    TransferEncoding,
    /// `content-length` and `transfer-encoding` are both there.
    LengthAndChunked,
    /// The request target is malformed.
    Target,
    /// `host` is malformed or there is more than one.
    Host,
    /// `connection` names headers that it must not name, or too many.
    Connection,
    /// A name holds `_`, and that is not wanted.
    Underscore,
    /// A 101 answers a request that asked for no upgrade.
    Upgrade,
    /// A chunk is malformed.
    Chunk,
    /// The connection ended inside a message.
    Truncated,
}

/// The counter of Envoy's `http1.` family that an error moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CodecStat {
    /// None.
    None,
    /// `http1.requests_rejected_with_underscores_in_headers`.
    RequestsRejectedWithUnderscoresInHeaders,
}

/// A message that is refused. The connection that it came on can't be used any more: where the next message would
/// begin is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodecError {
    /// What is wrong.
    pub kind: CodecErrorKind,
    /// The status that a server answers with.
    pub status: u16,
    /// Envoy's response code details (`%RESPONSE_CODE_DETAILS%`).
    pub details: &'static str,
    /// What is wrong, in words, for a log.
    pub message: &'static str,
    /// The counter to move.
    pub stat: CodecStat,
}

impl CodecError {
    /// A refusal with 400 and the details `http1.codec_error`.
    #[cold]
    pub(super) const fn new(kind: CodecErrorKind, message: &'static str) -> Self {
        CodecError { kind, status: 400, details: "http1.codec_error", message, stat: CodecStat::None }
    }

    pub(super) const fn details(mut self, details: &'static str) -> Self {
        self.details = details;
        self
    }

    pub(super) const fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(super) const fn stat(mut self, stat: CodecStat) -> Self {
        self.stat = stat;
        self
    }
}

impl std::fmt::Display for CodecError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http/1.1 protocol error: {}", self.message)
    }
}

impl std::error::Error for CodecError {}

// === Refusals that several parsers share ===

pub(super) const HEAD_TOO_LARGE: CodecError =
    CodecError::new(CodecErrorKind::HeadTooLarge, "the headers are larger than allowed")
        .status(431)
        .details("http1.headers_too_large");

pub(super) const TOO_MANY_HEADERS: CodecError =
    CodecError::new(CodecErrorKind::TooManyHeaders, "more headers than allowed")
        .status(431)
        .details("http1.too_many_headers");

pub(super) const INVALID_CHARACTERS: CodecError =
    CodecError::new(CodecErrorKind::Syntax, "a control character in the head").details("http1.invalid_characters");

pub(super) const BARE_LINE_FEED: CodecError = CodecError::new(CodecErrorKind::Syntax, "a line does not end with CR LF");

pub(super) const UNDERSCORE: CodecError =
    CodecError::new(CodecErrorKind::Underscore, "header name contains underscores")
        .details("http1.unexpected_underscore")
        .stat(CodecStat::RequestsRejectedWithUnderscoresInHeaders);

pub(super) const LENGTH_AND_CHUNKED: CodecError =
    CodecError::new(CodecErrorKind::LengthAndChunked, "both 'Content-Length' and 'Transfer-Encoding' are set.")
        .details("http1.content_length_and_chunked_not_allowed");

pub(super) const UNSUPPORTED_ENCODING: CodecError =
    CodecError::new(CodecErrorKind::TransferEncoding, "unsupported transfer encoding")
        .status(501)
        .details("http1.invalid_transfer_encoding");
