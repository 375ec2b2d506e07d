//! Transport sockets: raw buffers, TLS, and the PROXY protocol in front of either.

use crate::compile::{Compile, Invalid, message_of};
use crate::tls::{self as contexts, DownstreamTls};
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use nuncio_api::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use nuncio_api::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use nuncio_api::wkt::Any;
use nuncio_cluster::config::{ProxyHeader, ProxyVersion, Transport};
use nuncio_stats::Scope;
use prost::Name;
use std::sync::Arc;

/// The context of a filter chain's transport socket; none for bare sockets. `chain` tells the chain from others.
pub(super) fn downstream(
    socket: &core::TransportSocket,
    chain: &[u8],
    cx: &mut Compile<'_>,
) -> Result<Option<Arc<DownstreamTls>>, Invalid> {
    let Some(any) = config(socket, cx)? else { return Ok(None) };
    let scope = cx.scope.clone();
    let mut cx = cx.field("typed_config");
    let message = message_of(any);
    if message == RawBuffer::full_name() {
        Ok(None)
    } else if message == tls::DownstreamTlsContext::full_name() {
        contexts::server(any, (&scope, chain), &mut cx).map(Some)
    } else if message == tls::UpstreamTlsContext::full_name() {
        Err(cx.error_hint("an UpstreamTlsContext stands in a filter chain", "use a DownstreamTlsContext"))
    } else {
        Err(not_built(socket, message, &mut cx))
    }
}

/// How a cluster's transport socket carries connections. `scope` is the cluster's.
pub(super) fn upstream(
    socket: &core::TransportSocket,
    scope: &Scope,
    cx: &mut Compile<'_>,
) -> Result<Transport, Invalid> {
    let Some(any) = config(socket, cx)? else { return Ok(Transport::default()) };
    let mut cx = cx.field("typed_config");
    let message = message_of(any);
    if message == RawBuffer::full_name() {
        Ok(Transport::default())
    } else if message == tls::UpstreamTlsContext::full_name() {
        Ok(Transport { tls: Some(contexts::client(any, scope, &mut cx)?), proxy_protocol: None })
    } else if message == tls::DownstreamTlsContext::full_name() {
        Err(cx.error_hint("a DownstreamTlsContext stands in a cluster", "use an UpstreamTlsContext"))
    } else if message == ProxyProtocolUpstreamTransport::full_name() {
        let wrapper = cx.decode::<ProxyProtocolUpstreamTransport>(any)?;
        proxy_protocol(&wrapper, scope, &mut cx)
    } else {
        Err(not_built(socket, message, &mut cx))
    }
}

fn not_built(socket: &core::TransportSocket, message: &str, cx: &mut Compile<'_>) -> Invalid {
    let text = format!("the transport socket {} ({message}) is not built", socket.name);
    cx.error_hint(text, "envoy.transport_sockets.tls, raw_buffer and upstream_proxy_protocol (for clusters) are")
}

/// The configuration; none for the raw buffer by its name alone.
fn config<'a>(socket: &'a core::TransportSocket, cx: &mut Compile<'_>) -> Result<Option<&'a Any>, Invalid> {
    use core::transport_socket::ConfigType;
    let core::TransportSocket { name, config_type } = socket;
    match config_type {
        Some(ConfigType::TypedConfig(any)) => Ok(Some(any)),
        None if matches!(name.as_str(), "envoy.transport_sockets.raw_buffer" | "raw_buffer") => Ok(None),
        None => Err(cx.error(format!("the transport socket {name} has no typed_config"))),
    }
}

fn proxy_protocol(
    wrapper: &ProxyProtocolUpstreamTransport,
    scope: &Scope,
    cx: &mut Compile<'_>,
) -> Result<Transport, Invalid> {
    let ProxyProtocolUpstreamTransport { config, transport_socket, allow_unspecified_address, tlv_as_pool_key } =
        wrapper;
    // Connections are never shared by clients of which their hosts were told different things, values included.
    let _ = tlv_as_pool_key;
    cx.unsupported_if(*allow_unspecified_address, "allow_unspecified_address");
    let inner = match transport_socket {
        Some(socket) => upstream(socket, scope, &mut cx.field("transport_socket")),
        None => Err(cx
            .field("transport_socket")
            .error_hint("is required", "name the socket behind the header: raw_buffer or tls")),
    };
    let header = header(&config.clone().unwrap_or_default(), &mut cx.field("config"));
    let inner = inner?;
    if inner.proxy_protocol.is_some() {
        return Err(cx.field("transport_socket").error("a PROXY protocol header stands in front of another"));
    }
    Ok(Transport { tls: inner.tls, proxy_protocol: Some(Arc::new(header?)) })
}

fn header(config: &core::ProxyProtocolConfig, cx: &mut Compile<'_>) -> Result<ProxyHeader, Invalid> {
    use core::proxy_protocol_pass_through_tl_vs::PassTlVsMatchType;
    let version = match config.version() {
        core::proxy_protocol_config::Version::V1 => ProxyVersion::V1,
        core::proxy_protocol_config::Version::V2 => ProxyVersion::V2,
    };
    let core::ProxyProtocolConfig { version: _, pass_through_tlvs, added_tlvs } = config;
    let before = cx.errors();
    let kind =
        |kind: u32, cx: &mut Compile<'_>| u8::try_from(kind).map_err(|_| cx.error("a type is one byte: 0 to 255"));
    let pass_through = match pass_through_tlvs {
        None => Some(Vec::new()),
        Some(pass) if pass.match_type() == PassTlVsMatchType::IncludeAll => None,
        Some(pass) => {
            let mut cx = cx.field("pass_through_tlvs");
            Some(pass.tlv_type.iter().filter_map(|one| kind(*one, &mut cx.field("tlv_type")).ok()).collect())
        }
    };
    let mut added = Vec::with_capacity(added_tlvs.len());
    for (index, entry) in added_tlvs.iter().enumerate() {
        let mut cx = cx.element("added_tlvs", index);
        if entry.format_string.is_some() {
            cx.refuse("format_string", "the host would not be told what it says");
        }
        if entry.value.len() > usize::from(u16::MAX) {
            cx.field("value").error("is longer than the 65535 bytes that a value may have");
        }
        added.extend(kind(entry.r#type, &mut cx.field("type")).ok().map(|kind| (kind, entry.value.clone())));
    }
    cx.unless_errors_since(before)?;
    Ok(ProxyHeader { version, pass_through, added })
}
