//! Why a stream ended before its time.

/// Why a stream was reset: Envoy's `StreamResetReason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResetReason {
    /// This proxy reset the stream.
    LocalReset,
    /// This proxy refused the stream before any of it was processed: it may be sent again.
    LocalRefusedStreamReset,
    /// The peer reset the stream.
    RemoteReset,
    /// The peer reset the stream and said that nothing went wrong (HTTP/2 `NO_ERROR`).
    RemoteResetNoError,
    /// The peer refused the stream before any of it was processed: it may be sent again.
    RemoteRefusedStreamReset,
    /// The connection could not be made, for a reason on this side.
    LocalConnectionFailure,
    /// The connection could not be made, for a reason on the other side (refused, unreachable).
    RemoteConnectionFailure,
    /// The connection was not made in time.
    ConnectionTimeout,
    /// The connection was closed under the stream.
    ConnectionTermination,
    /// A limit on pending requests, requests or connections was reached.
    Overflow,
    /// A CONNECT request was answered with an error.
    ConnectError,
    /// The peer broke the protocol.
    ProtocolError,
    /// The overload manager shed the stream.
    OverloadManager,
    /// The upstream ended its half of an HTTP/1 connection before the request was sent completely.
    Http1PrematureUpstreamHalfClose,
}

impl ResetReason {
    /// The text that Envoy puts after `reset reason: ` in local replies, and, with spaces made `_`, in details.
    pub fn as_str(self) -> &'static str {
        match self {
            ResetReason::LocalReset => "local reset",
            ResetReason::LocalRefusedStreamReset => "local refused stream reset",
            ResetReason::RemoteReset | ResetReason::RemoteResetNoError => "remote reset",
            ResetReason::RemoteRefusedStreamReset => "remote refused stream reset",
            ResetReason::LocalConnectionFailure => "local connection failure",
            ResetReason::RemoteConnectionFailure => "remote connection failure",
            ResetReason::ConnectionTimeout => "connection timeout",
            ResetReason::ConnectionTermination => "connection termination",
            ResetReason::Overflow => "overflow",
            ResetReason::ConnectError => "remote error with CONNECT request",
            ResetReason::ProtocolError => "protocol error",
            ResetReason::OverloadManager => "overload manager reset",
            ResetReason::Http1PrematureUpstreamHalfClose => "HTTP/1 premature upstream half close",
        }
    }
}

impl std::fmt::Display for ResetReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
