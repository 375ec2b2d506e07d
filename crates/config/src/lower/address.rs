//! Addresses, socket options and what else a socket is made with.

use super::number::{self, Wrapped};
use crate::compile::{Compile, Invalid};
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_cluster::config::{BindConfig, SourceAddress};
use nuncio_io::Address;
use nuncio_io::socket_option::{Keepalive, SocketOption, SocketOptionValue, SocketState};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// A `SocketAddress` taken apart; the host may be a name.
pub(super) struct HostPort<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
}

/// The parts of a `SocketAddress`; what no TCP socket can have is refused.
pub(super) fn host_port<'a>(address: &'a core::SocketAddress, cx: &mut Compile<'_>) -> Result<HostPort<'a>, Invalid> {
    use core::socket_address::PortSpecifier;
    let core::SocketAddress {
        protocol: _,
        address: host,
        resolver_name,
        // For listeners only: see `listen_address`.
        ipv4_compat: _,
        network_namespace_filepath,
        port_specifier,
    } = address;
    let before = cx.errors();
    if address.protocol() == core::socket_address::Protocol::Udp {
        cx.field("protocol").error("UDP is not built yet: use TCP");
    }
    if !resolver_name.is_empty() {
        let text = format!("the resolver {resolver_name} is not built");
        cx.field("resolver_name").error_hint(text, "a cluster of type STRICT_DNS or LOGICAL_DNS resolves names");
    }
    if !network_namespace_filepath.is_empty() {
        cx.refuse("network_namespace_filepath", "the socket would be in the network namespace of the proxy");
    }
    let port = match port_specifier {
        None => 0,
        Some(PortSpecifier::PortValue(value)) => number::port(*value, "port_value", cx)?,
        Some(PortSpecifier::NamedPort(name)) => {
            let text = format!("the named port {name} can't be resolved");
            return Err(cx.field("named_port").error_hint(text, "use port_value"));
        }
    };
    cx.unless_errors_since(before)?;
    Ok(HostPort { host, port })
}

/// An IP address with a port. IPv6 addresses may have a numeric zone.
pub(super) fn parse_ip(host: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Some(SocketAddr::from((ip, port)));
    }
    format!("[{host}]:{port}").parse::<SocketAddrV6>().ok().map(SocketAddr::V6)
}

/// A `SocketAddress` that must be an IP address.
pub(super) fn ip(address: &core::SocketAddress, hint: &str, cx: &mut Compile<'_>) -> Result<SocketAddr, Invalid> {
    let HostPort { host, port } = host_port(address, cx)?;
    match parse_ip(host, port) {
        Some(address) => Ok(address),
        None => Err(cx.field("address").error_hint(format!("malformed IP address: {host}"), hint)),
    }
}

/// A unix path.
pub(super) fn pipe(path: &str, cx: &mut Compile<'_>) -> Result<Address, Invalid> {
    let mut cx = cx.field("path");
    if path.is_empty() || path.contains('\0') {
        return Err(cx.error("found an empty path or one with a NUL byte, expected the path of a unix socket"));
    }
    if path.len() > 107 {
        let text = format!("Path \"{path}\" exceeds maximum UNIX domain socket path size of 108.");
        return Err(cx.error(text));
    }
    Ok(Address::pipe(path))
}

/// Where to listen, with what the address itself says about the socket.
pub(super) struct ListenAddress {
    pub(super) address: Address,
    pub(super) ipv4_compat: bool,
    pub(super) mode: u32,
}

/// `core.v3.Address` of a listener.
pub(super) fn listen_address(address: &core::Address, cx: &mut Compile<'_>) -> Result<ListenAddress, Invalid> {
    use core::address::Address as Kind;
    match &address.address {
        None => Err(cx.error_hint("has no address", "set socket_address or pipe")),
        Some(Kind::SocketAddress(socket)) => {
            let mut cx = cx.field("socket_address");
            let address = Address::Ip(ip(socket, "a listener is bound to an IP address, such as 0.0.0.0", &mut cx)?);
            Ok(ListenAddress { address, ipv4_compat: socket.ipv4_compat, mode: 0 })
        }
        Some(Kind::Pipe(core::Pipe { path, mode })) => {
            let address = pipe(path, &mut cx.field("pipe"))?;
            Ok(ListenAddress { address, ipv4_compat: false, mode: *mode })
        }
        Some(Kind::EnvoyInternalAddress(_)) => {
            Err(cx.field("envoy_internal_address").error("internal listeners are not built yet"))
        }
    }
}

/// `core.v3.TcpKeepalive`.
pub(super) fn keepalive(keepalive: &core::TcpKeepalive) -> Keepalive {
    let core::TcpKeepalive { keepalive_probes, keepalive_time, keepalive_interval } = keepalive;
    Keepalive {
        probes: keepalive_probes.get(),
        time: keepalive_time.get().map(|seconds| Duration::from_secs(seconds.into())),
        interval: keepalive_interval.get().map(|seconds| Duration::from_secs(seconds.into())),
    }
}

/// The options of `field` that are for a TCP socket to `address`; none knows no family yet, and gets those of both.
pub fn socket_options(
    options: &[core::SocketOption],
    field: &'static str,
    address: Option<&Address>,
    cx: &mut Compile<'_>,
) -> Result<Vec<SocketOption>, Invalid> {
    let mut lowered = Vec::with_capacity(options.len());
    let before = cx.errors();
    for (index, option) in options.iter().enumerate() {
        lowered.extend(socket_option(option, address, &mut cx.element(field, index)).ok().flatten());
    }
    cx.unless_errors_since(before)?;
    Ok(lowered)
}

fn socket_option(
    option: &core::SocketOption,
    address: Option<&Address>,
    cx: &mut Compile<'_>,
) -> Result<Option<SocketOption>, Invalid> {
    use core::socket_option::{SocketIpVersion, SocketState as State, Value};
    let core::SocketOption { description, level, name, state: _, r#type, ip_version: _, value } = option;
    let number = |number: i64, field: &'static str, cx: &mut Compile<'_>| {
        i32::try_from(number).map_err(|_| cx.field(field).error(format!("{number} is no socket option number")))
    };
    let (level, name) = (number(*level, "level", cx)?, number(*name, "name", cx)?);
    let value = match value {
        None => return Err(cx.error_hint("has no value", "set int_value or buf_value")),
        Some(Value::IntValue(value)) => SocketOptionValue::Int(*value),
        Some(Value::BufValue(bytes)) => SocketOptionValue::Bytes(bytes.clone()),
    };
    let for_datagrams = r#type.as_ref().is_some_and(|kind| kind.stream.is_none() && kind.datagram.is_some());
    let other_family = match (option.ip_version(), address.and_then(Address::ip)) {
        (SocketIpVersion::Unspecified, _) => false,
        (_, None) => {
            cx.unsupported("ip_version");
            false
        }
        (SocketIpVersion::Ipv4, Some(address)) => !address.is_ipv4(),
        (SocketIpVersion::Ipv6, Some(address)) => !address.is_ipv6(),
    };
    if for_datagrams || other_family {
        return Ok(None);
    }
    let state = match option.state() {
        State::StatePrebind => SocketState::Prebind,
        State::StateBound => SocketState::Bound,
        State::StateListening => SocketState::Listening,
    };
    Ok(Some(SocketOption { description: description.clone(), level, name, value, state }))
}

/// `core.v3.BindConfig`.
pub(super) fn bind_config(bind: &core::BindConfig, cx: &mut Compile<'_>) -> Result<BindConfig, Invalid> {
    #[allow(deprecated)]
    let core::BindConfig {
        source_address,
        freebind,
        socket_options,
        extra_source_addresses,
        additional_source_addresses,
        local_address_selector,
        validate_network_namespaces,
    } = bind;
    let before = cx.errors();
    if let Some(selector) = local_address_selector
        && selector.name != "envoy.upstream.local_address_selector.default_local_address_selector"
    {
        let text = format!("the local address selector {} is not built", selector.name);
        cx.field("local_address_selector").error(text);
    }
    cx.unsupported_if(*validate_network_namespaces, "validate_network_namespaces");
    let further = extra_source_addresses.len() + additional_source_addresses.len();
    if further > 0 && source_address.is_none() {
        cx.field("source_address").error("is required where there are further source addresses");
    }
    let mut sources = Vec::with_capacity(1 + further);
    if let Some(address) = source_address {
        let address = source_ip(address, &mut cx.field("source_address"));
        sources.extend(address.ok().map(|address| SourceAddress { address, socket_options: None }));
    }
    for (index, extra) in extra_source_addresses.iter().enumerate() {
        let mut cx = cx.element("extra_source_addresses", index);
        let Some(address) = &extra.address else {
            cx.field("address").error("is required");
            continue;
        };
        let address = source_ip(address, &mut cx.field("address"));
        let own = extra.socket_options.as_ref();
        let options = own.map(|own| upstream_options(&own.socket_options, &mut cx.field("socket_options"))).transpose();
        if let (Ok(address), Ok(socket_options)) = (address, options) {
            sources.push(SourceAddress { address, socket_options });
        }
    }
    for (index, address) in additional_source_addresses.iter().enumerate() {
        let address = source_ip(address, &mut cx.element("additional_source_addresses", index));
        sources.extend(address.ok().map(|address| SourceAddress { address, socket_options: None }));
    }
    if let Some(second) = same_family(&sources) {
        cx.error(format!("two source addresses of one family: {second} would never be used"));
    }
    let socket_options = upstream_options(socket_options, cx);
    cx.unless_errors_since(before)?;
    Ok(BindConfig { sources, freebind: freebind.value_or(false), socket_options: socket_options? })
}

fn source_ip(address: &core::SocketAddress, cx: &mut Compile<'_>) -> Result<SocketAddr, Invalid> {
    ip(address, "connections are bound to an IP address of this host", cx)
}

/// The first source address whose family an earlier one has.
fn same_family(sources: &[SourceAddress]) -> Option<SocketAddr> {
    let repeated = |(at, source): (usize, &SourceAddress)| {
        let same = |other: &SourceAddress| other.address.is_ipv4() == source.address.is_ipv4();
        sources.iter().take(at).any(same).then_some(source.address)
    };
    sources.iter().enumerate().find_map(repeated)
}

/// `socket_options` of connections to hosts, as the cluster manager takes them.
fn upstream_options(
    options: &[core::SocketOption],
    cx: &mut Compile<'_>,
) -> Result<Vec<nuncio_cluster::config::SocketOption>, Invalid> {
    use nuncio_cluster::config::{SocketOption as Option, SocketOptionState as State};
    let options = socket_options(options, "socket_options", None, cx)?;
    let lowered = options.into_iter().map(|SocketOption { description: _, level, name, value, state }| Option {
        level,
        name,
        value: match value {
            SocketOptionValue::Int(value) => (value as i32).to_ne_bytes().to_vec(),
            SocketOptionValue::Bytes(bytes) => bytes,
        },
        state: match state {
            SocketState::Prebind => State::Prebind,
            SocketState::Bound => State::Bound,
            SocketState::Listening => State::Listening,
        },
    });
    Ok(lowered.collect())
}
