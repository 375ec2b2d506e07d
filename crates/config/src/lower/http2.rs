//! `Http2ProtocolOptions`, which downstream and upstream share.

use super::number::{Wrapped, duration_field};
use crate::compile::Compile;
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_http::h2::{Http2Keepalive, Http2Options, ResetRate};
use std::collections::BTreeSet;

/// Settings that have a field of their own (RFC 9113 §6.5.2, RFC 8441 §3), and its name.
const NAMED: [(u16, &str); 4] =
    [(1, "hpack_table_size"), (3, "max_concurrent_streams"), (4, "initial_stream_window_size"), (8, "allow_connect")];
/// `SETTINGS_ENABLE_PUSH`: pushed responses have nowhere to go.
const ENABLE_PUSH: u16 = 2;

/// The options of HTTP/2. Fields that are not set keep the values of [`Http2Options::default`].
pub fn http2_options(options: &core::Http2ProtocolOptions, cx: &mut Compile<'_>) -> Http2Options {
    #[allow(deprecated)]
    let core::Http2ProtocolOptions {
        hpack_table_size,
        max_concurrent_streams,
        initial_stream_window_size,
        initial_connection_window_size,
        allow_connect,
        allow_metadata,
        max_outbound_frames,
        max_outbound_control_frames,
        max_consecutive_inbound_frames_with_empty_payload,
        max_inbound_priority_frames_per_stream,
        max_inbound_window_update_frames_per_data_frame_sent,
        stream_error_on_invalid_http_messaging,
        override_stream_error_on_invalid_http_message,
        custom_settings_parameters,
        connection_keepalive,
        use_oghttp2_codec,
        max_metadata_size,
        enable_huffman_encoding,
        max_header_field_size_kb,
        disallow_obs_text,
        stream_reset_burst,
        stream_reset_rate,
    } = options;
    let defaults = Http2Options::default();
    cx.unsupported_if(*allow_metadata, "allow_metadata");
    cx.unsupported_if(max_metadata_size.is_some(), "max_metadata_size");
    cx.unsupported_if(use_oghttp2_codec.is_some(), "use_oghttp2_codec");
    Http2Options {
        hpack_table_size: hpack_table_size.value_or(defaults.hpack_table_size),
        max_concurrent_streams: max_concurrent_streams.value_or(defaults.max_concurrent_streams),
        stream_window: initial_stream_window_size.value_or(defaults.stream_window),
        connection_window: initial_connection_window_size.value_or(defaults.connection_window),
        allow_connect: *allow_connect,
        max_outbound_control_frames: max_outbound_control_frames.value_or(defaults.max_outbound_control_frames),
        max_outbound_frames: max_outbound_frames.value_or(defaults.max_outbound_frames),
        huffman: enable_huffman_encoding.value_or(defaults.huffman),
        stream_error_on_invalid_message: override_stream_error_on_invalid_http_message
            .value_or(*stream_error_on_invalid_http_messaging),
        max_consecutive_empty_frames: max_consecutive_inbound_frames_with_empty_payload
            .value_or(defaults.max_consecutive_empty_frames),
        max_priority_frames_per_stream: max_inbound_priority_frames_per_stream
            .value_or(defaults.max_priority_frames_per_stream),
        max_window_updates_per_data_frame: max_inbound_window_update_frames_per_data_frame_sent
            .value_or(defaults.max_window_updates_per_data_frame),
        keepalive: keepalive(connection_keepalive, cx),
        custom_settings: custom_settings(custom_settings_parameters, cx),
        max_header_field_bytes: max_header_field_size_kb.get().map(|kb| kb.saturating_mul(1024)),
        disallow_obs_text: disallow_obs_text.value_or(false),
        stream_resets: (stream_reset_burst.is_some() || stream_reset_rate.is_some()).then(|| ResetRate {
            burst: stream_reset_burst.value_or(1000),
            per_second: stream_reset_rate.value_or(33),
        }),
        ..defaults
    }
}

fn keepalive(settings: &Option<core::KeepaliveSettings>, cx: &mut Compile<'_>) -> Option<Http2Keepalive> {
    let core::KeepaliveSettings { interval, timeout, interval_jitter, connection_idle_interval } = settings.as_ref()?;
    let mut cx = cx.field("connection_keepalive");
    let interval = duration_field(interval, "interval", &mut cx).ok()?;
    let timeout = duration_field(timeout, "timeout", &mut cx).ok()?;
    let idle = duration_field(connection_idle_interval, "connection_idle_interval", &mut cx).ok()?;
    let Some(timeout) = timeout else {
        cx.error_hint("has no timeout", "set timeout: how long the answer to a ping may take");
        return None;
    };
    Some(Http2Keepalive {
        interval: interval.filter(|interval| !interval.is_zero()),
        timeout,
        interval_jitter_percent: super::number::percent(interval_jitter, 15.0),
        connection_idle_interval: idle.filter(|idle| !idle.is_zero()),
    })
}

fn custom_settings(
    parameters: &[core::http2_protocol_options::SettingsParameter],
    cx: &mut Compile<'_>,
) -> Vec<(u16, u32)> {
    let mut seen = BTreeSet::new();
    let mut lowered = Vec::with_capacity(parameters.len());
    for (index, parameter) in parameters.iter().enumerate() {
        let mut cx = cx.element("custom_settings_parameters", index);
        let (Some(identifier), Some(value)) = (parameter.identifier.get(), parameter.value.get()) else {
            cx.error("has no identifier or no value");
            continue;
        };
        let Ok(identifier) = u16::try_from(identifier) else {
            cx.field("identifier").error(format!("found {identifier}, expected at most 65535"));
            continue;
        };
        if let Some((_, field)) = NAMED.iter().find(|(named, _)| *named == identifier) {
            cx.field("identifier")
                .error_hint(format!("the setting {identifier} has a field of its own"), format!("set {field} instead"));
        } else if identifier == ENABLE_PUSH && value != 0 {
            cx.field("value").error("server push is not supported and can't be enabled");
        } else if !seen.insert(identifier) {
            cx.field("identifier").error(format!("the setting {identifier} is given twice"));
        } else {
            lowered.push((identifier, value));
        }
    }
    lowered
}
