//! The facts of one stream: an HTTP request with its response, or a TCP connection.

use crate::timing::offset;
use crate::{
    Address, CloseType, ConnectionInfo, FilterState, Metadata, ResponseFlags, Struct, TimePoint, Timing, UpstreamInfo,
};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Version of HTTP that a stream is spoken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
    /// HTTP/3
    Http3,
}

impl Protocol {
    /// As logs and local replies spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http10 => "HTTP/1.0",
            Protocol::Http11 => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2",
            Protocol::Http3 => "HTTP/3",
        }
    }
}

/// Bytes counted on one side of a stream, heads and framing included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByteCounts {
    /// All bytes received.
    pub wire_received: u64,
    /// All bytes sent.
    pub wire_sent: u64,
    /// Header bytes received.
    pub header_received: u64,
    /// Header bytes sent.
    pub header_sent: u64,
    /// Header bytes received, after header decompression.
    pub decompressed_header_received: u64,
    /// Header bytes sent, before header compression.
    pub decompressed_header_sent: u64,
}

/// The virtual host that a route belongs to.
#[derive(Debug, Clone, Default)]
pub struct VirtualHostInfo {
    /// Name of the virtual host.
    pub name: Arc<str>,
    /// Metadata of the virtual host.
    pub metadata: Option<Arc<Metadata>>,
}

/// The route that a stream took; compiled once per route.
#[derive(Debug, Clone, Default)]
pub struct RouteInfo {
    /// Name of the route; empty if it has none.
    pub name: Arc<str>,
    /// Metadata of the route.
    pub metadata: Option<Arc<Metadata>>,
    /// Its virtual host.
    pub virtual_host: Arc<VirtualHostInfo>,
}

/// What tracing decided and named.
#[derive(Debug, Clone, Default)]
pub struct TraceInfo {
    /// Whether the stream is traced: Envoy's trace reason is another than "not traceable".
    pub traced: bool,
    /// Trace id, in the tracer's spelling.
    pub trace_id: Option<Arc<str>>,
    /// Id of the stream's span.
    pub span_id: Option<Arc<str>>,
}

impl TraceInfo {
    fn reset(&mut self) {
        (self.traced, self.trace_id, self.span_id) = (false, None, None);
    }
}

/// Everything that is known of one stream. One value serves all requests of a connection one after another.
#[derive(Debug)]
pub struct StreamInfo {
    /// When the first byte of the request was received (`DS_RX_BEG`), on the monotonic clock.
    pub start: Instant,
    /// The same on the wall clock.
    pub start_wall: SystemTime,
    /// When the stream passed which point.
    pub timing: Timing,
    /// When the stream was complete; durations up to "now" stop here.
    pub end: Option<Instant>,
    /// Protocol of the downstream side; none for TCP and for requests that could not be parsed.
    pub protocol: Option<Protocol>,
    /// Status code sent downstream.
    pub response_code: Option<u16>,
    /// Response flags.
    pub flags: ResponseFlags,
    /// Response code details: see [`crate::details`]. Empty if unset.
    pub details: Cow<'static, str>,
    /// Why the connection was terminated. Empty if unset.
    pub termination_details: Cow<'static, str>,
    /// Body bytes received from downstream.
    pub bytes_received: u64,
    /// Body bytes sent downstream.
    pub bytes_sent: u64,
    /// Bytes sent again; only QUIC knows.
    pub bytes_retransmitted: u64,
    /// Packets sent again; only QUIC knows.
    pub packets_retransmitted: u64,
    /// Bytes of the downstream side.
    pub downstream_bytes: ByteCounts,
    /// Bytes of the upstream side.
    pub upstream_bytes: ByteCounts,
    /// The downstream connection; kept by [`StreamInfo::reset`].
    pub connection: Option<Arc<ConnectionInfo>>,
    /// The client's address after `x-forwarded-for` and trust; `None` means the connection's.
    pub remote_address: Option<Address>,
    /// Smoothed round-trip time of the downstream connection.
    pub downstream_rtt: Option<Duration>,
    /// Why the downstream transport failed.
    pub downstream_transport_failure_reason: Option<Arc<str>>,
    /// Why this side closed the downstream connection.
    pub downstream_local_close_reason: Option<Arc<str>>,
    /// How the end of the downstream connection was noticed.
    pub downstream_close_type: CloseType,
    /// The upstream side.
    pub upstream: UpstreamInfo,
    /// The route taken.
    pub route: Option<Arc<RouteInfo>>,
    /// The virtual host, where no route of it was taken.
    pub virtual_host: Option<Arc<VirtualHostInfo>>,
    /// Name of the virtual cluster that the request fell into.
    pub virtual_cluster_name: Option<Arc<str>>,
    /// Id of a stream that has no `x-request-id` header (TCP).
    pub stream_id: Option<Arc<str>>,
    /// What tracing decided.
    pub trace: TraceInfo,
    /// Whether the request is a health check that the health check filter answers.
    pub health_check: bool,
    /// Whether the response was made by the proxy itself.
    pub local_reply: bool,
    /// How often the route was resolved.
    pub route_resolution_count: u32,
    /// Time spent resolving the route, all resolutions together; measured if [`crate::wants_route_times`].
    pub route_resolution_time: Option<Duration>,
    /// Words that filters leave for `%CUSTOM_FLAGS%`.
    pub custom_flags: Vec<Cow<'static, str>>,
    /// What filters said of the stream.
    dynamic_metadata: Option<Box<Metadata>>,
    /// Objects that filters share.
    pub filter_state: FilterState,
}

impl StreamInfo {
    /// Gives a stream without an `x-request-id` its id: a version 4 UUID of these bits.
    pub fn set_stream_id(&mut self, random: u128) {
        self.stream_id = Some(crate::format::uuid(random));
    }

    /// The facts of a connection that is itself the stream: what was said of it counts.
    pub fn of_connection(connection: Arc<ConnectionInfo>, wall: SystemTime) -> StreamInfo {
        let mut info = StreamInfo::new(connection.start, wall);
        info.dynamic_metadata = connection.dynamic_metadata.as_deref().cloned().map(Box::new);
        info.set_connection(connection);
        info
    }

    /// Makes it a stream of this connection, whose filter state it shares.
    pub fn set_connection(&mut self, connection: Arc<ConnectionInfo>) {
        self.filter_state = FilterState::on_connection(connection.filter_state.clone());
        self.connection = Some(connection);
    }

    /// The facts of a stream that starts now.
    pub fn new(start: Instant, start_wall: SystemTime) -> StreamInfo {
        StreamInfo {
            start,
            start_wall,
            timing: Timing::default(),
            end: None,
            protocol: None,
            response_code: None,
            flags: ResponseFlags::NONE,
            details: Cow::Borrowed(""),
            termination_details: Cow::Borrowed(""),
            bytes_received: 0,
            bytes_sent: 0,
            bytes_retransmitted: 0,
            packets_retransmitted: 0,
            downstream_bytes: ByteCounts::default(),
            upstream_bytes: ByteCounts::default(),
            connection: None,
            remote_address: None,
            downstream_rtt: None,
            downstream_transport_failure_reason: None,
            downstream_local_close_reason: None,
            downstream_close_type: CloseType::Normal,
            upstream: UpstreamInfo::default(),
            route: None,
            virtual_host: None,
            virtual_cluster_name: None,
            stream_id: None,
            trace: TraceInfo::default(),
            health_check: false,
            local_reply: false,
            route_resolution_count: 0,
            route_resolution_time: None,
            custom_flags: Vec::new(),
            dynamic_metadata: None,
            filter_state: FilterState::default(),
        }
    }

    /// Starts the next stream of the same connection: forgets everything but the connection and its filter state.
    pub fn reset(&mut self, start: Instant, start_wall: SystemTime) {
        // Every field by name, so that a new one is noticed. Writing them singly is cheaper than replacing all.
        let StreamInfo {
            start: own_start,
            start_wall: own_start_wall,
            timing,
            end,
            protocol,
            response_code,
            flags,
            details,
            termination_details,
            bytes_received,
            bytes_sent,
            bytes_retransmitted,
            packets_retransmitted,
            downstream_bytes,
            upstream_bytes,
            connection: _,
            remote_address,
            downstream_rtt,
            downstream_transport_failure_reason,
            downstream_local_close_reason,
            downstream_close_type,
            upstream,
            route,
            virtual_host,
            virtual_cluster_name,
            stream_id,
            trace,
            health_check,
            local_reply,
            route_resolution_count,
            route_resolution_time,
            custom_flags,
            dynamic_metadata,
            filter_state,
        } = self;
        (*own_start, *own_start_wall, *end) = (start, start_wall, None);
        timing.reset();
        (*protocol, *response_code, *flags) = (None, None, ResponseFlags::NONE);
        (*details, *termination_details) = (Cow::Borrowed(""), Cow::Borrowed(""));
        (*bytes_received, *bytes_sent, *bytes_retransmitted, *packets_retransmitted) = (0, 0, 0, 0);
        (*downstream_bytes, *upstream_bytes) = (ByteCounts::default(), ByteCounts::default());
        (*remote_address, *downstream_rtt, *downstream_close_type) = (None, None, CloseType::Normal);
        (*downstream_transport_failure_reason, *downstream_local_close_reason) = (None, None);
        upstream.reset();
        (*route, *virtual_host, *virtual_cluster_name) = (None, None, None);
        (*stream_id, *health_check, *local_reply) = (None, false, false);
        trace.reset();
        (*route_resolution_count, *route_resolution_time) = (0, None);
        custom_flags.clear();
        *dynamic_metadata = None;
        filter_state.end_stream();
    }

    /// Sets a point in time, over an earlier value.
    #[inline]
    pub fn mark(&mut self, point: TimePoint, at: Instant) {
        self.timing.set(point, self.start, at);
    }

    /// Sets a point in time unless it is set.
    #[inline]
    pub fn mark_first(&mut self, point: TimePoint, at: Instant) {
        self.timing.set_first(point, self.start, at);
    }

    /// Nanoseconds from the start of the stream to `at`.
    pub fn offset_of(&self, at: Instant) -> i64 {
        offset(self.start, at)
    }

    /// Time from the start of the stream to its end, or to `now` while it lasts.
    #[inline]
    pub fn duration(&self, now: Instant) -> Duration {
        self.end.unwrap_or(now).saturating_duration_since(self.start)
    }

    /// The client's address: trusted from headers, or the connection's peer.
    pub fn remote(&self) -> Option<&Address> {
        self.remote_address.as_ref().or_else(|| self.connection.as_deref().map(|connection| &connection.remote))
    }

    /// Dynamic metadata, if any was set.
    pub fn dynamic_metadata(&self) -> Option<&Metadata> {
        self.dynamic_metadata.as_deref()
    }

    /// Dynamic metadata to write to.
    pub fn dynamic_metadata_mut(&mut self) -> &mut Metadata {
        self.dynamic_metadata.get_or_insert_default()
    }

    /// Merges fields into a namespace of the dynamic metadata.
    pub fn set_dynamic_metadata(&mut self, namespace: &str, fields: Struct) {
        self.dynamic_metadata_mut().merge(namespace, fields);
    }

    /// Sets the flag and, unless there are some already, the details of a response.
    pub fn fail(&mut self, flag: ResponseFlags, details: &'static str) {
        self.flags.insert(flag);
        if self.details.is_empty() {
            self.details = Cow::Borrowed(details);
        }
    }
}

#[cfg(test)]
mod tests;
