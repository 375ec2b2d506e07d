//! Operators that print words and addresses of a stream.

use crate::{Address, HostInfo, LogContext};
use nuncio_headers::Known;
use std::net::IpAddr;
use std::sync::Arc;

/// Text of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text {
    Protocol,
    UpstreamProtocol,
    ResponseCodeDetails { allow_whitespace: bool },
    ConnectionTerminationDetails,
    ResponseFlags,
    ResponseFlagsLong,
    CustomFlags,
    RouteName,
    VirtualClusterName,
    UpstreamCluster,
    UpstreamClusterRaw,
    UpstreamHostName { with_port: bool },
    UpstreamHostsAttempted { with_port: bool },
    UpstreamHostNamesAttempted { with_port: bool },
    UpstreamConnectionIdsAttempted,
    UpstreamTransportFailureReason,
    UpstreamDetectedCloseType,
    UpstreamLocalCloseReason,
    DownstreamTransportFailureReason,
    DownstreamDetectedCloseType,
    DownstreamLocalCloseReason,
    StreamId,
    UniqueId,
    TraceId,
    SpanId,
    FilterChainName,
    AccessLogType,
    LocalReplyBody,
    TlsJa3,
    TlsJa4,
}

/// Appends text that may be unset.
pub(super) fn put(text: Option<&str>, out: &mut Vec<u8>) -> bool {
    match text {
        Some(text) => {
            out.extend_from_slice(text.as_bytes());
            true
        }
        None => false,
    }
}

fn put_nonempty(text: Option<&str>, out: &mut Vec<u8>) -> bool {
    put(text.filter(|text| !text.is_empty()), out)
}

/// Appends text that may be unset, with its white space as underscores.
fn put_unspaced(text: Option<&str>, is_space: fn(u8) -> bool, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    if !put_nonempty(text, out) {
        return false;
    }
    for byte in &mut out[start..] {
        if is_space(*byte) {
            *byte = b'_';
        }
    }
    true
}

fn is_any_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Appends items with commas between; unset if there is none.
pub(super) fn put_joined<T>(
    items: impl Iterator<Item = T>,
    out: &mut Vec<u8>,
    mut write: impl FnMut(T, &mut Vec<u8>),
) -> bool {
    let mut any = false;
    for item in items {
        if any {
            out.push(b',');
        }
        any = true;
        write(item, out);
    }
    any
}

impl Text {
    #[inline(never)]
    pub(super) fn write(self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        let info = cx.info;
        match self {
            Text::Protocol => put(info.protocol.map(|protocol| protocol.as_str()), out),
            Text::ResponseFlags if info.flags.is_empty() => put(Some("-"), out),
            Text::ResponseFlags => put_joined(info.flags.short_names(), out, put_str),
            Text::ResponseCodeDetails { allow_whitespace: true } => put_nonempty(Some(&info.details), out),
            Text::ResponseCodeDetails { .. } => put_unspaced(Some(&info.details), is_any_space, out),
            Text::RouteName => put_nonempty(info.route.as_deref().map(|route| &*route.name), out),
            Text::UpstreamCluster => {
                put_nonempty(info.upstream.cluster.as_deref().map(|cluster| &*cluster.observability_name), out)
            }
            Text::UpstreamClusterRaw => {
                put_nonempty(info.upstream.cluster.as_deref().map(|cluster| &*cluster.name), out)
            }
            _ => self.write_downstream(cx, out),
        }
    }

    #[inline(never)]
    fn write_downstream(self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        let info = cx.info;
        let connection = info.connection.as_deref();
        match self {
            Text::ResponseFlagsLong if info.flags.is_empty() => put(Some("-"), out),
            Text::ResponseFlagsLong => put_joined(info.flags.long_names(), out, put_str),
            Text::CustomFlags => {
                put_joined(info.custom_flags.iter(), out, |flag, out| put_str(flag, out));
                true
            }
            Text::ConnectionTerminationDetails => put_nonempty(Some(&info.termination_details), out),
            Text::VirtualClusterName => put_nonempty(info.virtual_cluster_name.as_deref(), out),
            Text::FilterChainName => {
                put_nonempty(connection.and_then(|connection| connection.filter_chain_name.as_deref()), out)
            }
            Text::TlsJa3 => put_nonempty(connection.and_then(|connection| connection.ja3.as_deref()), out),
            Text::TlsJa4 => put_nonempty(connection.and_then(|connection| connection.ja4.as_deref()), out),
            Text::DownstreamTransportFailureReason => {
                put_unspaced(info.downstream_transport_failure_reason.as_deref(), |byte| byte == b' ', out)
            }
            Text::DownstreamDetectedCloseType => put(Some(info.downstream_close_type.as_str()), out),
            Text::DownstreamLocalCloseReason => put_nonempty(info.downstream_local_close_reason.as_deref(), out),
            Text::StreamId => put_stream_id(cx, out),
            Text::UniqueId => put_uuid(cx.random, out),
            Text::TraceId => put_nonempty(info.trace.trace_id.as_deref(), out),
            Text::SpanId => put_nonempty(info.trace.span_id.as_deref(), out),
            Text::AccessLogType => put(Some(cx.kind.as_str()), out),
            Text::LocalReplyBody => {
                out.extend_from_slice(cx.local_reply_body);
                true
            }
            _ => self.write_upstream(cx, out),
        }
    }

    fn write_upstream(self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        let upstream = &cx.info.upstream;
        match self {
            Text::UpstreamProtocol => put(upstream.protocol.map(|protocol| protocol.as_str()), out),
            Text::UpstreamHostName { with_port } => match upstream.host() {
                Some(host) => {
                    put_host_name(host, with_port, out);
                    true
                }
                None => false,
            },
            Text::UpstreamHostsAttempted { with_port } => {
                put_joined(upstream.hosts_attempted(), out, |host, out| match with_port {
                    true => host.address.write(out),
                    false => host.address.write_without_port(out),
                })
            }
            Text::UpstreamHostNamesAttempted { with_port } => {
                put_joined(upstream.hosts_attempted(), out, |host, out| put_host_name(host, with_port, out))
            }
            Text::UpstreamConnectionIdsAttempted => put_joined(upstream.connections_attempted(), out, |id, out| {
                super::op::put_integer(id, out);
            }),
            Text::UpstreamTransportFailureReason => {
                put_unspaced(upstream.transport_failure_reason.as_deref(), |byte| byte == b' ', out)
            }
            Text::UpstreamDetectedCloseType => put(upstream.is_used().then(|| upstream.close_type.as_str()), out),
            Text::UpstreamLocalCloseReason => put_nonempty(upstream.local_close_reason.as_deref(), out),
            _ => false,
        }
    }
}

fn put_str(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_bytes());
}

fn put_stream_id(cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
    if let Some(id) = cx.info.stream_id.as_deref() {
        return put(Some(id), out);
    }
    match cx.request.and_then(|headers| headers.get(Known::X_REQUEST_ID)) {
        Some(id) => {
            out.extend_from_slice(id);
            true
        }
        None => false,
    }
}

/// A version 4 UUID of these bits, as text (RFC 9562 §5.4).
pub fn uuid(random: u128) -> Arc<str> {
    let mut text = Vec::with_capacity(36);
    put_uuid(random, &mut text);
    String::from_utf8_lossy(&text).into()
}

/// A version 4 UUID (RFC 9562 §5.4) of 122 random bits.
fn put_uuid(random: u128, out: &mut Vec<u8>) -> bool {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bits = random & !(0xf000 << 64) & !(0xc000 << 48) | (0x4000 << 64) | (0x8000 << 48);
    for (at, byte) in bits.to_be_bytes().into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    true
}

/// Appends the host's name, or its address if it has none.
fn put_host_name(host: &HostInfo, with_port: bool, out: &mut Vec<u8>) {
    let start = out.len();
    if host.hostname.is_empty() {
        host.address.write(out);
    } else {
        out.extend_from_slice(host.hostname.as_bytes());
    }
    if with_port {
        return;
    }
    let name = &out[start..];
    let colon = name.iter().rposition(|byte| *byte == b':');
    let bracket = name.iter().rposition(|byte| *byte == b']');
    if let Some(colon) = colon.filter(|colon| bracket.is_none_or(|bracket| bracket < *colon)) {
        out.truncate(start + colon);
    }
}

/// One of the addresses of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressOf {
    DownstreamRemote,
    DownstreamDirectRemote,
    DownstreamLocal,
    DownstreamDirectLocal,
    UpstreamHost,
    UpstreamLocal,
    UpstreamRemote,
}

impl AddressOf {
    #[inline]
    pub(super) fn of<'a>(self, cx: &LogContext<'a>) -> Option<&'a Address> {
        let connection = cx.info.connection.as_deref();
        match self {
            AddressOf::DownstreamRemote => cx.info.remote(),
            AddressOf::DownstreamDirectRemote => connection.map(|connection| &connection.remote),
            AddressOf::DownstreamLocal => connection.map(|connection| &connection.local),
            AddressOf::DownstreamDirectLocal => connection.map(|connection| &connection.direct_local),
            AddressOf::UpstreamHost => cx.info.upstream.host().map(|host| &host.address),
            AddressOf::UpstreamLocal => cx.info.upstream.local_address.as_ref(),
            AddressOf::UpstreamRemote => cx.info.upstream.remote_address.as_ref(),
        }
    }
}

/// What of an address is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    WithPort,
    WithoutPort,
    Port,
    EndpointId,
    /// The network of so many bits (`10.1.0.0/16`); nothing for a negative number.
    Network(i32),
}

impl Part {
    /// `WITHOUT_PORT`'s parameter: a prefix length; anything else is as if it was not there.
    pub(super) fn without_port(parameters: &str) -> Part {
        match parameters.trim_ascii().parse::<i32>() {
            Ok(bits) => Part::Network(bits),
            Err(_) => Part::WithoutPort,
        }
    }

    #[inline(never)]
    pub(super) fn write(self, address: Option<&Address>, out: &mut Vec<u8>) -> bool {
        let Some(address) = address else { return false };
        match self {
            Part::WithPort => address.write(out),
            Part::WithoutPort => address.write_without_port(out),
            Part::Port => {
                if let Some(port) = address.port() {
                    super::op::put_integer(port, out);
                }
            }
            Part::EndpointId => put_str(address.endpoint_id().unwrap_or(""), out),
            Part::Network(bits) => write_network(address, bits, out),
        }
        true
    }
}

fn write_network(address: &Address, bits: i32, out: &mut Vec<u8>) {
    let Some(ip) = address.ip() else { return address.write_without_port(out) };
    let Ok(bits) = u32::try_from(bits) else { return };
    let (network, bits) = match ip {
        IpAddr::V4(ip) => {
            let bits = bits.min(32);
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            (IpAddr::V4((u32::from(ip) & mask).into()), bits)
        }
        IpAddr::V6(ip) => {
            let bits = bits.min(128);
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            (IpAddr::V6((u128::from(ip) & mask).into()), bits)
        }
    };
    Address::Ip((network, 0).into()).write_without_port(out);
    out.push(b'/');
    super::op::put_integer(bits, out);
}
