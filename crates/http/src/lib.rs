//! The HTTP codecs, behind version-neutral terms.
//!
//! Owns: turning bytes into heads, body pieces and trailers and back, without any I/O, clock or policy. The caller
//! owns sockets, buffers and time; it hands in what it has, and is told how much of it was used.
//!
//! - [`h1`]: HTTP/1.0 and HTTP/1.1 (RFC 9112).
//! - [`h2`]: HTTP/2 (RFC 9113).
//! - [`exchange`]: one request with its response, whichever version either side speaks.
//! - [`Version`], [`Framing`], [`ResetReason`], [`reason_phrase`]: what every version shares.
//!
//! Does not own: which requests are wanted (the HTTP connection manager's job), or where they go.

pub mod connection;
pub mod exchange;
pub mod h1;
pub mod h2;
mod reason;
mod reset;

pub use reason::reason_phrase;
pub use reset::ResetReason;

/// The version of HTTP that a message was received or is sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0 (RFC 1945).
    Http10,
    /// HTTP/1.1 (RFC 9112).
    Http11,
    /// HTTP/2 (RFC 9113).
    Http2,
}

impl Version {
    /// The version as Envoy's access log operator `%PROTOCOL%` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the end of a message's body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body, and no header that says so.
    None,
    /// `content-length`: exactly so many bytes. Zero is a message that says it has no body.
    Length(u64),
    /// `transfer-encoding: chunked`.
    Chunked,
    /// The body ends with the connection: HTTP/1 responses without a length, and everything after an upgrade.
    UntilClose,
}

impl Framing {
    /// Whether the message certainly ends with its head.
    #[inline]
    pub fn is_empty(self) -> bool {
        matches!(self, Framing::None | Framing::Length(0))
    }
}
