//! How HTTP/2 is spoken: Envoy's `Http2ProtocolOptions`, and the limits of the connection manager or cluster.

use crate::h1::Underscores;
use std::time::{Duration, Instant};

/// Options of one side of the proxy. Windows and sizes in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Http2Options {
    /// `hpack_table_size`: most that the peer's encoder may use. Default 4096.
    pub hpack_table_size: u32,
    /// `max_concurrent_streams`. Default 1024, as in Envoy 1.40.
    pub max_concurrent_streams: u32,
    /// `initial_stream_window_size`, 65535 to 2^31-1. Default 1 MiB; Envoy's 16 MiB let one client make the proxy hold as
    /// much for each of its streams.
    pub stream_window: u32,
    /// `initial_connection_window_size`, 65535 to 2^31-1. Default 8 MiB (Envoy 24 MiB).
    pub connection_window: u32,
    /// `allow_connect`: extended CONNECT (RFC 8441) is offered, or used where the peer offers it.
    pub allow_connect: bool,
    /// `max_outbound_control_frames`: answers to the peer's frames that may wait. Default 1000.
    pub max_outbound_control_frames: u32,
    /// `max_outbound_frames`: frames that may wait for a peer that does not read; beyond it, streams wait. Default 10000.
    pub max_outbound_frames: u32,
    /// `enable_huffman_encoding`: texts of heads are sent in Huffman code where that is shorter. Default yes.
    pub huffman: bool,
    /// `override_stream_error_on_invalid_http_message`: a malformed message ends its stream, not the connection. Default no.
    pub stream_error_on_invalid_message: bool,
    /// `max_consecutive_inbound_frames_with_empty_payload`. Default 1.
    pub max_consecutive_empty_frames: u32,
    /// `max_inbound_priority_frames_per_stream`. Default 100.
    pub max_priority_frames_per_stream: u32,
    /// `max_inbound_window_update_frames_per_data_frame_sent`. Default 10.
    pub max_window_updates_per_data_frame: u32,
    /// `connection_keepalive`, if pings are sent.
    pub keepalive: Option<Http2Keepalive>,
    /// `max_header_field_size_kb`, in bytes: limit of one header's name and value. None is the limit of the whole head.
    pub max_header_field_bytes: Option<u32>,
    /// `disallow_obs_text`: bytes above 0x7f in values are refused. Default no.
    pub disallow_obs_text: bool,
    /// `stream_reset_burst`, `stream_reset_rate`: RST_STREAM frames that the peer may send.
    pub stream_resets: Option<ResetRate>,
    /// `custom_settings_parameters`: identifier and value of settings sent besides the others.
    pub custom_settings: Vec<(u16, u32)>,
    /// Limit of a message's headers once decoded, as RFC 9113 §6.5.2 counts them. Default 60 KiB.
    pub max_header_list_bytes: u32,
    /// Limit of the number of headers. Default 100.
    pub max_headers: u16,
    /// What to do with `_` in names of requests.
    pub underscores: Underscores,
}

/// How many streams a peer may reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetRate {
    /// At once.
    pub burst: u64,
    /// And every second.
    pub per_second: u64,
}

/// `connection_keepalive`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Http2Keepalive {
    /// Time between pings; none sends them only after the connection was idle.
    pub interval: Option<Duration>,
    /// How long an answer may take before the connection is closed.
    pub timeout: Duration,
    /// Jitter of the interval, percent of it. Default 15.
    pub interval_jitter_percent: f64,
    /// Upstreams only: a ping goes with a request that is sent after so long without anything received; none sends no such
    /// ping.
    pub connection_idle_interval: Option<Duration>,
}

impl Http2Keepalive {
    /// When the next ping goes out.
    pub fn next(&self, now: Instant, random: u64) -> Option<Instant> {
        let interval = self.interval?;
        let share = (random % 10_000) as f64 / 10_000.0 * self.interval_jitter_percent.clamp(0.0, 100.0) / 100.0;
        now.checked_add(interval + interval.mul_f64(share))
    }
}

impl Default for Http2Options {
    fn default() -> Self {
        Http2Options {
            hpack_table_size: 4096,
            max_concurrent_streams: 1024,
            stream_window: 1 << 20,
            connection_window: 8 << 20,
            allow_connect: false,
            max_outbound_control_frames: 1000,
            max_outbound_frames: 10_000,
            huffman: true,
            stream_error_on_invalid_message: false,
            max_consecutive_empty_frames: 1,
            max_priority_frames_per_stream: 100,
            max_window_updates_per_data_frame: 10,
            keepalive: None,
            max_header_field_bytes: None,
            disallow_obs_text: false,
            stream_resets: None,
            custom_settings: Vec::new(),
            max_header_list_bytes: 60 * 1024,
            max_headers: 100,
            underscores: Underscores::Allow,
        }
    }
}
