//! Operators: one value of a stream each.

use super::coalesce::Coalesce;
use super::data::{FilterStateValue, MetadataValue};
use super::messages::{GrpcStatusFormat, HeaderValue, PathValue, QueryParameter, ServerName, XfccKey};
use super::{messages, texts, tls};
use crate::time::TimeFormat;
use crate::value::escape_from;
use crate::{Expression, LogContext, TimePoint};
use std::sync::Arc;
use std::time::Duration;

/// A number of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    RequestHeadersBytes,
    ResponseHeadersBytes,
    ResponseTrailersBytes,
    BytesReceived,
    BytesSent,
    BytesRetransmitted,
    PacketsRetransmitted,
    UpstreamWireBytesSent,
    UpstreamWireBytesReceived,
    UpstreamHeaderBytesSent,
    UpstreamHeaderBytesReceived,
    UpstreamDecompressedHeaderBytesSent,
    UpstreamDecompressedHeaderBytesReceived,
    DownstreamWireBytesSent,
    DownstreamWireBytesReceived,
    DownstreamHeaderBytesSent,
    DownstreamHeaderBytesReceived,
    DownstreamDecompressedHeaderBytesSent,
    DownstreamDecompressedHeaderBytesReceived,
    ResponseCode,
    AttemptCount,
    ConnectionId,
    UpstreamConnectionId,
    Duration,
    RequestDuration,
    RequestTxDuration,
    ResponseDuration,
    ResponseTxDuration,
    RoundtripDuration,
    HandshakeDuration,
    PoolReadyDuration,
    DownstreamRtt,
    RouteResolutionCount,
    RouteResolutionTime,
}

/// A point that `COMMON_DURATION` measures from or to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Point {
    Start,
    ConnectionBegin,
    HandshakeBegin,
    HandshakeEnd,
    Known(TimePoint),
    /// A point that filters name.
    Custom(Arc<str>),
}

/// `COMMON_DURATION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) from: Point,
    pub(super) to: Point,
    /// 1 for ns, 1,000 for µs, 1,000,000 for ms.
    pub(super) nanos_per_unit: i64,
}

/// Which clock reading a time operator prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Start,
    Emit,
    DownstreamCertificateFrom,
    DownstreamCertificateUntil,
    UpstreamCertificateFrom,
    UpstreamCertificateUntil,
}

/// One operator, compiled.
#[derive(Debug)]
pub(super) enum Op {
    Number(Number),
    Interval(Box<Interval>),
    Text(texts::Text),
    Address(texts::AddressOf, texts::Part),
    Time(Moment, Box<TimeFormat>),
    Tls(tls::Side, tls::Field),
    Header(messages::Headers, HeaderValue),
    GrpcStatus(GrpcStatusFormat),
    Path(PathValue),
    QueryParameter(Box<QueryParameter>),
    QueryParameters {
        decoded: bool,
        max_length: Option<usize>,
    },
    ServerName(ServerName),
    Xfcc(XfccKey),
    Metadata(Box<MetadataValue>),
    FilterState(Box<FilterStateValue>),
    Coalesce(Box<Coalesce>),
    Expression {
        expression: Arc<dyn Expression>,
        /// In JSON it is what it is, not text.
        typed: bool,
        max_length: Option<usize>,
    },
    /// Known when compiling: the host name, a variable of the environment.
    Constant(Option<Box<str>>),
}

impl Op {
    /// Appends the value as text. False, with nothing appended, if it is unset. The writers are calls of their own, so
    /// that each has a small frame.
    #[inline(always)]
    pub(super) fn write(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        match self {
            Op::Header(headers, value) => value.write(headers.of(cx), out),
            Op::Number(number) => number.write(cx, out),
            Op::Text(text) => text.write(cx, out),
            Op::Address(of, part) => part.write(of.of(cx), out),
            Op::Time(moment, format) => moment.write(cx, format, out),
            _ => self.write_rare(cx, out),
        }
    }

    #[inline(never)]
    fn write_rare(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        match self {
            Op::Interval(interval) => interval.write(cx, out),
            Op::Tls(side, field) => field.write(side.of(cx), out),
            Op::GrpcStatus(format) => format.write(cx, out),
            Op::Path(path) => path.write(cx, out),
            Op::QueryParameter(parameter) => parameter.write(cx, out),
            Op::QueryParameters { decoded, max_length } => messages::write_query(cx, *decoded, *max_length, out),
            Op::ServerName(name) => name.write(cx, out),
            Op::Xfcc(key) => key.write(cx, out),
            Op::Metadata(value) => value.write(cx, out),
            Op::FilterState(value) => value.write(cx, out),
            Op::Coalesce(coalesce) => coalesce.write(cx, out),
            Op::Expression { expression, max_length, .. } => {
                let start = out.len();
                let written = expression.write(cx, out);
                messages::cut(out, start, *max_length);
                written
            }
            Op::Constant(text) => texts::put(text.as_deref(), out),
            _ => false,
        }
    }

    /// Appends the value as JSON. False, with nothing appended, if it is unset.
    pub(super) fn write_json(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        match self {
            Op::Metadata(value) => return value.write_json(cx, out),
            Op::FilterState(value) if value.is_typed() => return value.write_json(cx, out),
            Op::Coalesce(coalesce) => return coalesce.write_json(cx, out),
            Op::Expression { expression, typed: true, .. } => return expression.write_json(cx, out),
            // A port of an address that has none is empty text and no number.
            _ if self.is_number() => return self.write(cx, out) && out.len() > start,
            _ => {}
        }
        out.push(b'"');
        if !self.write(cx, out) {
            out.truncate(start);
            return false;
        }
        if !self.is_plain() {
            escape_from(out, start + 1);
        }
        out.push(b'"');
        true
    }

    /// Whether nothing in the text ever has to be escaped in JSON.
    fn is_plain(&self) -> bool {
        match self {
            Op::Text(text) => matches!(text, texts::Text::Protocol | texts::Text::ResponseFlags),
            Op::Time(_, format) => format.is_default(),
            _ => false,
        }
    }

    fn is_number(&self) -> bool {
        matches!(
            self,
            Op::Number(_)
                | Op::Interval(_)
                | Op::Address(_, texts::Part::Port)
                | Op::GrpcStatus(GrpcStatusFormat::Number)
        )
    }
}

/// Appends an integer.
#[inline]
pub(super) fn put_integer(value: impl itoa::Integer, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    true
}

const NANOS_PER_MILLI: i64 = 1_000_000;

impl Number {
    #[inline(never)]
    fn write(self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        match self.get(cx) {
            Some(value @ 0..=9) => {
                out.push(b'0' + value as u8);
                true
            }
            Some(value) => put_integer(value, out),
            None => false,
        }
    }

    #[inline]
    fn get(self, cx: &LogContext<'_>) -> Option<i64> {
        let info = cx.info;
        let count = match self {
            Number::ResponseCode => u64::from(info.response_code.unwrap_or(0)),
            Number::BytesReceived => info.bytes_received,
            Number::BytesSent => info.bytes_sent,
            Number::Duration => millis(info.duration(cx.now)),
            Number::AttemptCount => u64::from(info.upstream.attempts),
            Number::ConnectionId => info.connection.as_deref().map_or(0, |connection| connection.id),
            Number::UpstreamConnectionId => info.upstream.connection_id().unwrap_or(0),
            Number::RouteResolutionCount => u64::from(info.route_resolution_count),
            Number::RouteResolutionTime => u64::try_from(info.route_resolution_time?.as_micros()).unwrap_or(u64::MAX),
            Number::DownstreamRtt => millis(info.downstream_rtt.unwrap_or_default()),
            Number::PoolReadyDuration => millis(info.upstream.pool_ready?),
            Number::RequestHeadersBytes => byte_size(cx.request),
            Number::ResponseHeadersBytes => byte_size(cx.response),
            Number::ResponseTrailersBytes => byte_size(cx.trailers),
            _ => return self.byte_count(cx).or_else(|| self.interval(cx)),
        };
        Some(i64::try_from(count).unwrap_or(i64::MAX))
    }

    fn byte_count(self, cx: &LogContext<'_>) -> Option<i64> {
        let (up, down) = (&cx.info.upstream_bytes, &cx.info.downstream_bytes);
        let count = match self {
            Number::UpstreamWireBytesSent => up.wire_sent,
            Number::UpstreamWireBytesReceived => up.wire_received,
            Number::UpstreamHeaderBytesSent => up.header_sent,
            Number::UpstreamHeaderBytesReceived => up.header_received,
            Number::UpstreamDecompressedHeaderBytesSent => up.decompressed_header_sent,
            Number::UpstreamDecompressedHeaderBytesReceived => up.decompressed_header_received,
            Number::DownstreamWireBytesSent => down.wire_sent,
            Number::DownstreamWireBytesReceived => down.wire_received,
            Number::DownstreamHeaderBytesSent => down.header_sent,
            Number::DownstreamHeaderBytesReceived => down.header_received,
            Number::DownstreamDecompressedHeaderBytesSent => down.decompressed_header_sent,
            Number::DownstreamDecompressedHeaderBytesReceived => down.decompressed_header_received,
            Number::BytesRetransmitted => cx.info.bytes_retransmitted,
            Number::PacketsRetransmitted => cx.info.packets_retransmitted,
            _ => return None,
        };
        Some(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// Milliseconds to a point in time.
    fn interval(self, cx: &LogContext<'_>) -> Option<i64> {
        let timing = &cx.info.timing;
        let nanos = match self {
            Number::RequestDuration => timing.get(TimePoint::DownstreamRxEnd)?,
            Number::RequestTxDuration => timing.get(TimePoint::UpstreamTxEnd)?,
            Number::ResponseDuration => timing.get(TimePoint::UpstreamRxBegin)?,
            Number::RoundtripDuration => timing.get(TimePoint::DownstreamAckReceived)?,
            Number::HandshakeDuration => Point::HandshakeEnd.get(cx)?,
            Number::ResponseTxDuration => {
                let from = timing.get(TimePoint::UpstreamRxBegin)?;
                timing.get(TimePoint::DownstreamTxEnd)?.checked_sub(from)?
            }
            _ => return None,
        };
        Some(nanos / NANOS_PER_MILLI)
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000).saturating_add(u64::from(duration.subsec_millis()))
}

fn byte_size(headers: Option<&nuncio_headers::HeaderMap>) -> u64 {
    headers.map_or(0, |headers| headers.byte_size() as u64)
}

impl Point {
    /// The point of a name; names that are not Envoy's are left to filters.
    pub(super) fn named(name: &str) -> Point {
        let known = match name {
            "DS_RX_BEG" => return Point::Start,
            "DS_CX_BEG" => return Point::ConnectionBegin,
            "DS_HS_BEG" => return Point::HandshakeBegin,
            "DS_HS_END" => return Point::HandshakeEnd,
            "DS_RX_HDR_END" => TimePoint::DownstreamRxHeadersEnd,
            "DS_RX_END" => TimePoint::DownstreamRxEnd,
            "US_CX_BEG" => TimePoint::UpstreamConnectBegin,
            "US_CX_END" => TimePoint::UpstreamConnectEnd,
            "US_HS_END" => TimePoint::UpstreamHandshakeEnd,
            "US_TX_BEG" => TimePoint::UpstreamTxBegin,
            "US_TX_END" => TimePoint::UpstreamTxEnd,
            "US_RX_BEG" => TimePoint::UpstreamRxBegin,
            "US_RX_BODY_BEG" => TimePoint::UpstreamRxBodyBegin,
            "US_RX_END" => TimePoint::UpstreamRxEnd,
            "DS_TX_BEG" => TimePoint::DownstreamTxBegin,
            "DS_TX_END" => TimePoint::DownstreamTxEnd,
            "DS_CX_END" => TimePoint::DownstreamConnectionEnd,
            _ => return Point::Custom(name.into()),
        };
        Point::Known(known)
    }

    /// Nanoseconds from the start of the stream.
    fn get(&self, cx: &LogContext<'_>) -> Option<i64> {
        let connection = cx.info.connection.as_deref();
        let at = match self {
            Point::Start => return Some(0),
            Point::Known(point) => return cx.info.timing.get(*point),
            Point::Custom(name) => return cx.info.timing.custom(name),
            Point::ConnectionBegin => connection?.start,
            Point::HandshakeBegin => connection?.handshake_begin?,
            Point::HandshakeEnd => connection?.handshake_end?,
        };
        Some(cx.info.offset_of(at))
    }
}

impl Interval {
    fn write(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        let (Some(from), Some(to)) = (self.from.get(cx), self.to.get(cx)) else { return false };
        match to.checked_sub(from) {
            Some(nanos) if nanos >= 0 => put_integer(nanos / self.nanos_per_unit, out),
            _ => false,
        }
    }
}

impl Moment {
    #[inline(never)]
    fn write(self, cx: &LogContext<'_>, format: &TimeFormat, out: &mut Vec<u8>) -> bool {
        let downstream = || cx.info.connection.as_deref()?.tls.as_deref();
        let upstream = || cx.info.upstream.tls.as_deref();
        let at = match self {
            Moment::Start => Some(cx.info.start_wall),
            Moment::Emit => Some(cx.now_wall),
            Moment::DownstreamCertificateFrom => downstream().and_then(|tls| tls.peer_valid_from),
            Moment::DownstreamCertificateUntil => downstream().and_then(|tls| tls.peer_valid_until),
            Moment::UpstreamCertificateFrom => upstream().and_then(|tls| tls.peer_valid_from),
            Moment::UpstreamCertificateUntil => upstream().and_then(|tls| tls.peer_valid_until),
        };
        match at {
            Some(at) => {
                format.write(at, out);
                true
            }
            None => false,
        }
    }
}
