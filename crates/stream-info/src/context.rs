//! What a format or a log filter looks at.

use crate::StreamInfo;
use nuncio_headers::HeaderMap;
use std::time::{Instant, SystemTime};

/// Why a log line is written (Envoy's `AccessLogType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum AccessLogType {
    /// Not an access log: header values and local replies.
    #[default]
    NotSet,
    /// A TCP proxy got its upstream connection.
    TcpUpstreamConnected,
    /// Interval of a TCP proxy.
    TcpPeriodic,
    /// End of a TCP connection.
    TcpConnectionEnd,
    /// Start of a request.
    DownstreamStart,
    /// Interval of a request.
    DownstreamPeriodic,
    /// End of a request.
    DownstreamEnd,
    /// The router got its upstream connection.
    UpstreamPoolReady,
    /// Interval of an upstream request.
    UpstreamPeriodic,
    /// End of an upstream request.
    UpstreamEnd,
    /// A tunnel was made from the downstream side.
    DownstreamTunnelSuccessfullyEstablished,
    /// A UDP tunnel's upstream is connected.
    UdpTunnelUpstreamConnected,
    /// Interval of a UDP session.
    UdpPeriodic,
    /// End of a UDP session.
    UdpSessionEnd,
}

impl AccessLogType {
    /// Envoy's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            AccessLogType::NotSet => "NotSet",
            AccessLogType::TcpUpstreamConnected => "TcpUpstreamConnected",
            AccessLogType::TcpPeriodic => "TcpPeriodic",
            AccessLogType::TcpConnectionEnd => "TcpConnectionEnd",
            AccessLogType::DownstreamStart => "DownstreamStart",
            AccessLogType::DownstreamPeriodic => "DownstreamPeriodic",
            AccessLogType::DownstreamEnd => "DownstreamEnd",
            AccessLogType::UpstreamPoolReady => "UpstreamPoolReady",
            AccessLogType::UpstreamPeriodic => "UpstreamPeriodic",
            AccessLogType::UpstreamEnd => "UpstreamEnd",
            AccessLogType::DownstreamTunnelSuccessfullyEstablished => "DownstreamTunnelSuccessfullyEstablished",
            AccessLogType::UdpTunnelUpstreamConnected => "UdpTunnelUpstreamConnected",
            AccessLogType::UdpPeriodic => "UdpPeriodic",
            AccessLogType::UdpSessionEnd => "UdpSessionEnd",
        }
    }
}

/// A stream and its messages at the moment of formatting. All headers are those that the proxy would send on.
#[derive(Clone, Copy)]
pub struct LogContext<'a> {
    /// The stream.
    pub info: &'a StreamInfo,
    /// Request headers.
    pub request: Option<&'a HeaderMap>,
    /// Response headers.
    pub response: Option<&'a HeaderMap>,
    /// Response trailers.
    pub trailers: Option<&'a HeaderMap>,
    /// Body of a local reply, before a format of its own.
    pub local_reply_body: &'a [u8],
    /// Why the line is written.
    pub kind: AccessLogType,
    /// Now, on the monotonic clock: the end of durations that still last.
    pub now: Instant,
    /// Now, on the wall clock: `EMIT_TIME`.
    pub now_wall: SystemTime,
    /// A random number for what needs one (`UNIQUE_ID`); fresh for every context.
    pub random: u128,
}

impl<'a> LogContext<'a> {
    /// A context without messages.
    pub fn new(info: &'a StreamInfo, now: Instant, now_wall: SystemTime) -> LogContext<'a> {
        LogContext {
            info,
            request: None,
            response: None,
            trailers: None,
            local_reply_body: b"",
            kind: AccessLogType::NotSet,
            now,
            now_wall,
            random: 0,
        }
    }
}
