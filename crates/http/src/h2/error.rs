//! Why streams and connections end: error codes on the wire (RFC 9113 §7), and what they mean to the stream driver.

use super::meter::Flood;
use crate::ResetReason;
use std::io;

/// An error code of RST_STREAM and GOAWAY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ErrorCode(pub u32);

impl ErrorCode {
    pub const NO_ERROR: ErrorCode = ErrorCode(0);
    pub const PROTOCOL_ERROR: ErrorCode = ErrorCode(1);
    pub const INTERNAL_ERROR: ErrorCode = ErrorCode(2);
    pub const FLOW_CONTROL_ERROR: ErrorCode = ErrorCode(3);
    pub const STREAM_CLOSED: ErrorCode = ErrorCode(5);
    pub const FRAME_SIZE_ERROR: ErrorCode = ErrorCode(6);
    pub const REFUSED_STREAM: ErrorCode = ErrorCode(7);
    pub const CANCEL: ErrorCode = ErrorCode(8);
    pub const COMPRESSION_ERROR: ErrorCode = ErrorCode(9);
    pub const CONNECT_ERROR: ErrorCode = ErrorCode(10);
    pub const ENHANCE_YOUR_CALM: ErrorCode = ErrorCode(11);

    /// What RST_STREAM of a peer means.
    pub fn remote_reset(self) -> ResetReason {
        match self {
            ErrorCode::REFUSED_STREAM => ResetReason::RemoteRefusedStreamReset,
            ErrorCode::NO_ERROR => ResetReason::RemoteResetNoError,
            ErrorCode::CONNECT_ERROR => ResetReason::ConnectError,
            ErrorCode::PROTOCOL_ERROR => ResetReason::ProtocolError,
            _ => ResetReason::RemoteReset,
        }
    }

    /// What the peer is told when this side resets a stream.
    pub fn of_local(reason: ResetReason) -> ErrorCode {
        match reason {
            ResetReason::LocalRefusedStreamReset => ErrorCode::REFUSED_STREAM,
            ResetReason::ConnectError => ErrorCode::CONNECT_ERROR,
            ResetReason::ProtocolError => ErrorCode::PROTOCOL_ERROR,
            ResetReason::RemoteResetNoError => ErrorCode::NO_ERROR,
            _ => ErrorCode::INTERNAL_ERROR,
        }
    }
}

/// A fault of the peer that ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    pub(super) code: ErrorCode,
    pub(super) what: &'static str,
    pub(super) flood: Option<Flood>,
}

impl Violation {
    pub(super) fn new(code: ErrorCode, what: &'static str) -> Violation {
        Violation { code, what, flood: None }
    }

    pub(super) fn protocol(what: &'static str) -> Violation {
        Violation::new(ErrorCode::PROTOCOL_ERROR, what)
    }

    pub(super) fn size(what: &'static str) -> Violation {
        Violation::new(ErrorCode::FRAME_SIZE_ERROR, what)
    }
}

impl From<Flood> for Violation {
    fn from(flood: Flood) -> Violation {
        Violation { code: ErrorCode::ENHANCE_YOUR_CALM, what: flood.details(), flood: Some(flood) }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.what)
    }
}

/// Why an HTTP/2 connection ended before its time.
#[derive(Debug)]
pub enum ConnectionError {
    /// The peer passed a limit of frames.
    Flood(Flood),
    /// The peer broke the protocol, and was told so.
    Protocol(Violation),
    /// The transport failed.
    Io(io::Error),
}

impl From<Violation> for ConnectionError {
    fn from(violation: Violation) -> ConnectionError {
        match violation.flood {
            Some(flood) => ConnectionError::Flood(flood),
            None => ConnectionError::Protocol(violation),
        }
    }
}

impl std::fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConnectionError::Flood(flood) => f.write_str(flood.details()),
            ConnectionError::Protocol(violation) => violation.fmt(f),
            ConnectionError::Io(error) => error.fmt(f),
        }
    }
}
