//! What happens to request headers before any filter sees them: hop-by-hop headers, client address, origin, request id.
//!
//! Pure: headers and facts in, headers and facts out. The order of the steps is Envoy's, because each depends on the
//! ones before it (`x-forwarded-for` must be read before it is appended to, and so on).

use crate::client_cert;
use crate::config::{HcmConfig, TrustOptions};
use crate::detection::{self, nth_from_right, without_port};
use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_http::h1::is_protected;
use nuncio_stream_info::{Address, ConnectionInfo};
use std::net::{IpAddr, SocketAddr};

/// What conditioning found out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The trusted client address, where it is not the connection's peer.
    pub remote: Option<Address>,
    /// Whether the request comes from inside (`x-envoy-internal`).
    pub internal: bool,
    /// Whether this proxy is the first that the request meets.
    pub edge: bool,
}

/// Request headers that only trusted peers may set.
const EXTERNAL_STRIPPED: [Known; 15] = [
    Known::X_ENVOY_RETRIABLE_STATUS_CODES,
    Known::X_ENVOY_RETRIABLE_HEADER_NAMES,
    Known::X_ENVOY_RETRY_ON,
    Known::X_ENVOY_RETRY_GRPC_ON,
    Known::X_ENVOY_MAX_RETRIES,
    Known::X_ENVOY_UPSTREAM_ALT_STAT_NAME,
    Known::X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS,
    Known::X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS,
    Known::X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE,
    Known::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
    Known::X_ENVOY_FORCE_TRACE,
    Known::X_ENVOY_IP_TAGS,
    Known::X_ENVOY_ORIGINAL_URL,
    Known::X_ENVOY_UPSTREAM_STREAM_DURATION_MS,
    Known::X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT,
];

/// Removes what belongs to the connection and not to the message (RFC 9110 §7.6.1). With `upgrade`, `connection` and
/// `upgrade` stay.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap, upgrade: bool) {
    if headers.has(Known::CONNECTION) {
        strip_nominated(headers, upgrade);
        if !upgrade {
            headers.remove_known(Known::CONNECTION);
        }
    }
    if !upgrade {
        headers.remove_known(Known::UPGRADE);
    }
    headers.remove_known(Known::KEEP_ALIVE);
    headers.remove_known(Known::PROXY_CONNECTION);
    headers.remove_known(Known::TRANSFER_ENCODING);
    if headers.get(Known::TE).is_some_and(|te| !te.eq_ignore_ascii_case(b"trailers")) {
        let trailers = headers.get(Known::TE).is_some_and(|te| {
            te.split(|b| *b == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers"))
        });
        headers.remove_known(Known::TE);
        if trailers {
            headers.append_known(Known::TE, b"trailers");
        }
    }
}

/// Removes the headers that `connection` names. Names that the proxy itself relies on can't be removed that way
/// (a client could otherwise strip what a trusted proxy added).
fn strip_nominated(headers: &mut HeaderMap, upgrade: bool) {
    let Some(nominated) = headers.joined(&Known::CONNECTION.into()).map(|value| value.into_owned()) else { return };
    for token in nominated.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
        let plain = [&b"close"[..], b"keep-alive", b"te", b"upgrade", b"http2-settings"];
        if plain.iter().any(|known| token.eq_ignore_ascii_case(known)) {
            if !upgrade && token.eq_ignore_ascii_case(b"http2-settings") {
                headers.remove_known(Known::HTTP2_SETTINGS);
            }
            continue;
        }
        let Some(name) = std::str::from_utf8(token).ok().and_then(|text| HeaderName::new(text).ok()) else { continue };
        if !is_protected(name.as_str()) {
            headers.remove(&name);
        }
    }
}

/// Decides where the request comes from and writes what follows from it into the headers. The error is the status to
/// answer with where no address was found that had to be.
pub(crate) fn condition(
    config: &HcmConfig,
    connection: &ConnectionInfo,
    headers: &mut HeaderMap,
    local_address: Option<IpAddr>,
    random: impl FnMut() -> u64,
) -> Result<Origin, u16> {
    let trust = &config.trust;
    headers.remove_known(Known::X_ENVOY_INTERNAL);
    let chosen = config.forward_client_cert_matcher.as_ref();
    let chosen = chosen.and_then(|tree| tree.evaluate(&|name: &HeaderName| headers.joined(name)).copied());
    let (mode, details) = chosen.unwrap_or((config.forward_client_cert, config.client_cert_details));
    client_cert::forward(mode, details, connection, headers);
    let (client, single) = if trust.use_remote_address {
        from_peer(trust, connection, headers, local_address)
    } else {
        from_header(trust, connection, headers, local_address)?
    };
    set_scheme(trust, connection, headers);

    let is_internal = single
        && match client.as_ref().unwrap_or(&connection.remote) {
            Address::Ip(address) => {
                (client.is_some() || trust.use_remote_address) && trust.internal.contains(address.ip())
            }
            Address::Pipe(_) => trust.internal_unix,
            Address::Internal { .. } => false,
        };
    let edge = !is_internal && trust.use_remote_address;
    if is_internal {
        headers.append_known(Known::X_ENVOY_INTERNAL, b"true");
    } else {
        strip_untrusted(headers, edge);
    }
    if let Some(agent) = &config.add_user_agent {
        headers.set_known(Known::X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER, agent.as_bytes());
        if headers.get(Known::USER_AGENT).is_none_or(<[u8]>::is_empty) {
            headers.set_known(Known::USER_AGENT, agent.as_bytes());
        }
    }
    if edge {
        let address = client.as_ref().unwrap_or(&connection.remote);
        if address.ip().is_some() {
            headers.set_with(&Known::X_ENVOY_EXTERNAL_ADDRESS.into(), |out| address.write_without_port(out));
        }
    }
    set_request_id(config, headers, edge, random);
    if !config.via.is_empty() {
        headers.append_to_list(&Known::VIA.into(), ", ", |out| out.extend_from_slice(config.via.as_bytes()));
    }
    Ok(Origin { remote: client, internal: is_internal, edge })
}

/// `use_remote_address: true`: the peer is the client, unless trusted proxies stand in front.
fn from_peer(
    trust: &TrustOptions,
    connection: &ConnectionInfo,
    headers: &mut HeaderMap,
    local_address: Option<IpAddr>,
) -> (Option<Address>, bool) {
    let single = !headers.has(Known::X_FORWARDED_FOR);
    let client = (trust.trusted_hops > 0).then(|| nth_from_right(headers, trust.trusted_hops - 1)).flatten();
    if !trust.skip_xff_append {
        append_forwarded_for(trust, connection, headers, local_address);
    }
    let untrusted = trust.trusted_hops == 0;
    if untrusted || !headers.has(Known::X_FORWARDED_PROTO) {
        headers.set_known(Known::X_FORWARDED_PROTO, connection_scheme(connection));
    }
    if trust.append_port && (untrusted || !headers.has(Known::X_FORWARDED_PORT)) {
        set_forwarded_port(connection, headers);
    }
    (client.map(without_port), single)
}

/// `use_remote_address: false`: the client is what the headers say, or what extensions make of them.
fn from_header(
    trust: &TrustOptions,
    connection: &ConnectionInfo,
    headers: &mut HeaderMap,
    local_address: Option<IpAddr>,
) -> Result<(Option<Address>, bool), u16> {
    let (client, single) = if trust.detection.is_empty() {
        let single = headers.get(Known::X_FORWARDED_FOR).is_some_and(|value| !value.contains(&b','));
        (nth_from_right(headers, trust.trusted_hops).map(without_port), single)
    } else {
        let detected = detection::detect(&trust.detection, connection, headers)?;
        if detected.append {
            append_forwarded_for(trust, connection, headers, local_address);
        }
        (detected.address, detected.trusted)
    };
    if !headers.has(Known::X_FORWARDED_PROTO) {
        headers.append_known(Known::X_FORWARDED_PROTO, connection_scheme(connection));
    }
    if trust.append_port && !headers.has(Known::X_FORWARDED_PORT) {
        set_forwarded_port(connection, headers);
    }
    Ok((client, single))
}

fn connection_scheme(connection: &ConnectionInfo) -> &'static [u8] {
    if connection.tls.is_some() { b"https" } else { b"http" }
}

fn set_forwarded_port(connection: &ConnectionInfo, headers: &mut HeaderMap) {
    if let Some(port) = connection.local.port() {
        headers.set_known(Known::X_FORWARDED_PORT, port.to_string().as_bytes());
    }
}

/// Appends the peer to `x-forwarded-for`, without a space; a loopback peer is written as this host's own address.
fn append_forwarded_for(
    trust: &TrustOptions,
    connection: &ConnectionInfo,
    headers: &mut HeaderMap,
    local_address: Option<IpAddr>,
) {
    let Some(mut ip) = connection.remote.ip() else { return };
    let mut mapped = trust.ipv4_as_mapped_ipv6;
    if ip.is_loopback()
        && let Some(local) = local_address
    {
        (ip, mapped) = (local, false);
    }
    let address = Address::Ip(SocketAddr::new(ip, 0));
    headers.append_to_list(&Known::X_FORWARDED_FOR.into(), ",", |out| match ip {
        IpAddr::V4(v4) if mapped => {
            out.extend_from_slice(v4.to_ipv6_mapped().to_string().as_bytes());
        }
        _ => address.write_without_port(out),
    });
}

/// `:scheme` from `x-forwarded-proto` if that is one, else from the connection.
fn set_scheme(trust: &TrustOptions, connection: &ConnectionInfo, headers: &mut HeaderMap) {
    if let Some(scheme) = &trust.overwrite_scheme {
        headers.set_known(Known::SCHEME, scheme.as_bytes());
        headers.set_known(Known::X_FORWARDED_PROTO, scheme.as_bytes());
        return;
    }
    if headers.has(Known::SCHEME) {
        return;
    }
    let scheme: &'static [u8] = match headers.get(Known::X_FORWARDED_PROTO) {
        Some(proto) if proto.eq_ignore_ascii_case(b"https") => b"https",
        Some(proto) if proto.eq_ignore_ascii_case(b"http") => b"http",
        _ => connection_scheme(connection),
    };
    headers.append_known(Known::SCHEME, scheme);
}

fn strip_untrusted(headers: &mut HeaderMap, edge: bool) {
    if edge {
        headers.remove_known(Known::X_ENVOY_ORIGINAL_PATH);
        headers.remove_known(Known::X_ENVOY_ORIGINAL_HOST);
        headers.remove_known(Known::X_ENVOY_DECORATOR_OPERATION);
        headers.remove_known(Known::X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER);
        headers.remove_known(Known::X_ENVOY_DOWNSTREAM_SERVICE_NODE);
    }
    for name in EXTERNAL_STRIPPED {
        headers.remove_known(name);
    }
}

/// A new id for requests from outside and for requests without one.
fn set_request_id(config: &HcmConfig, headers: &mut HeaderMap, edge: bool, mut random: impl FnMut() -> u64) {
    let options = &config.request_id;
    if !options.generate {
        return;
    }
    if headers.has(Known::X_REQUEST_ID) && (!edge || options.preserve_external) {
        return;
    }
    let (high, low) = (random(), random());
    let id = uuid_v4(high, low);
    headers.set_known(Known::X_REQUEST_ID, &id);
}

/// A version 4 UUID (RFC 9562 §5.4) in its 36-character form.
pub(crate) fn uuid_v4(high: u64, low: u64) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut bits = (u128::from(high) << 64) | u128::from(low);
    bits = bits & !(0xf << 76) | (0x4 << 76);
    bits = bits & !(0x3 << 62) | (0x2 << 62);
    let mut text = [b'-'; 36];
    let mut shift = 128;
    for (at, place) in text.iter_mut().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            continue;
        }
        shift -= 4;
        *place = HEX[(bits >> shift) as usize & 0xf];
    }
    text
}
