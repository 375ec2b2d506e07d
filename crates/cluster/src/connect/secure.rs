//! What goes before the first byte of a connection to a host: a PROXY protocol header, a TLS handshake.

use super::{ConnectTarget, Connected};
use crate::config::{ProxyHeader, ProxyVersion, Transport as Carriage, UpstreamTls};
use crate::host::Host;
use crate::info::ClusterInfo;
use crate::pool::ConnectFailure;
use nuncio_io::transport::Transport;
use nuncio_stream_info::{Address, ConnectionState, ProxiedAddresses};
use nuncio_tls::{ConnectOptions, FailureKind};
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What version 2 of the PROXY protocol starts with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Makes a connected socket what the cluster's transport socket wants it to be.
pub(super) async fn establish(
    cluster: &ClusterInfo,
    host: &Host,
    carriage: &Carriage,
    target: &ConnectTarget,
    mut socket: Transport,
) -> Result<Connected, ConnectFailure> {
    if let Some(header) = &carriage.proxy_protocol {
        let bytes = proxy_header(header, target.proxied.as_deref());
        write_all(&mut socket, &bytes).await.map_err(|error| failed(error.to_string()))?;
    }
    match &carriage.tls {
        Some(tls) => handshake(cluster, host, tls, target, socket).await,
        None => Ok(Connected::plain(socket)),
    }
}

async fn handshake(
    cluster: &ClusterInfo,
    host: &Host,
    tls: &UpstreamTls,
    target: &ConnectTarget,
    socket: Transport,
) -> Result<Connected, ConnectFailure> {
    let hostname = &host.destination().info.hostname;
    let offers = (target.insists_on_protocols || !tls.has_protocols) && !target.protocols.is_empty();
    let options = ConnectOptions {
        server_name: target.server_name.clone(),
        host_name: (!hostname.is_empty()).then(|| Arc::clone(hostname)),
        subject_alt_names: target.names.clone(),
        alpn_protocols: offers.then(|| target.protocols.to_vec()),
        ..ConnectOptions::default()
    };
    let counters = cluster.stats.tls();
    match tls.context.connect(socket, options).await {
        Ok((transport, session)) => {
            counters.established(&session);
            let filter_state = ConnectionState::default();
            Ok(Connected { transport, tls: Some(session.info), alpn: session.alpn, filter_state })
        }
        Err(error) => {
            counters.failed(&error);
            if error.kind == FailureKind::NotReady {
                tls.factory.upstream_context_secrets_not_ready().inc();
            }
            Err(failed(error.reason))
        }
    }
}

fn failed(reason: String) -> ConnectFailure {
    ConnectFailure { timeout: false, local: false, overflow: false, reason: reason.into() }
}

async fn write_all(socket: &mut Transport, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match poll_fn(|cx| socket.poll_write(cx, bytes)).await? {
            0 => return Err(std::io::ErrorKind::WriteZero.into()),
            count => bytes = bytes.get(count..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// The header. A connection that no client asked for (a health check) speaks for the proxy itself.
fn proxy_header(header: &ProxyHeader, proxied: Option<&ProxiedAddresses>) -> Vec<u8> {
    let addresses = proxied.and_then(|proxied| match (&proxied.source, &proxied.destination) {
        (Address::Ip(source), Address::Ip(destination)) => same_family(*source, *destination),
        _ => None,
    });
    match header.version {
        ProxyVersion::V1 => version_1(addresses),
        ProxyVersion::V2 => version_2(header, addresses, proxied),
    }
}

/// Addresses of one family: an IPv4 address among IPv6 ones is mapped.
fn same_family(source: SocketAddr, destination: SocketAddr) -> Option<(SocketAddr, SocketAddr)> {
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    match source.is_ipv4() == destination.is_ipv4() {
        true => Some((source, destination)),
        false => Some((mapped(source), mapped(destination))),
    }
}

fn version_1(addresses: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let Some((source, destination)) = addresses else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

fn version_2(
    header: &ProxyHeader,
    addresses: Option<(SocketAddr, SocketAddr)>,
    proxied: Option<&ProxiedAddresses>,
) -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    let mut body = Vec::new();
    match addresses {
        None => out.extend([0x20, 0x00]),
        Some((source, destination)) => {
            out.extend([0x21, if source.is_ipv4() { 0x11 } else { 0x21 }]);
            for address in [source, destination] {
                match address.ip() {
                    IpAddr::V4(ip) => body.extend(ip.octets()),
                    IpAddr::V6(ip) => body.extend(ip.octets()),
                }
            }
            body.extend(source.port().to_be_bytes());
            body.extend(destination.port().to_be_bytes());
            values(header, proxied, &mut body);
        }
    }
    out.extend((body.len() as u16).to_be_bytes());
    out.extend(body);
    out
}

/// Values by type: the configured ones, and those of the downstream that they don't replace; as many as fit.
fn values(header: &ProxyHeader, proxied: Option<&ProxiedAddresses>, body: &mut Vec<u8>) {
    let passed = proxied.map_or(&[][..], |proxied| &proxied.tlvs).iter().filter(|(kind, _)| {
        let wanted = header.pass_through.as_ref().is_none_or(|kinds| kinds.contains(kind));
        wanted && !header.added.iter().any(|(added, _)| added == kind)
    });
    let added = header.added.iter().map(|(kind, value)| (*kind, &value[..]));
    for (kind, value) in added.chain(passed.map(|(kind, value)| (*kind, &value[..]))) {
        let Ok(length) = u16::try_from(value.len()) else { continue };
        if body.len() + 3 + value.len() > usize::from(u16::MAX) {
            continue;
        }
        body.push(kind);
        body.extend(length.to_be_bytes());
        body.extend(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxied(source: &str, destination: &str) -> ProxiedAddresses {
        let address = |text: &str| Address::Ip(text.parse().unwrap());
        let tlvs = vec![(1, Arc::from(&b"h2"[..])), (2, Arc::from(&b"name"[..]))];
        ProxiedAddresses { source: address(source), destination: address(destination), tlvs }
    }

    #[test]
    fn version_1_is_a_line() {
        let header = ProxyHeader::default();
        for (facts, expected) in [
            (Some(proxied("1.2.3.4:5", "6.7.8.9:10")), "PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n"),
            (Some(proxied("[::1]:5", "[::2]:10")), "PROXY TCP6 ::1 ::2 5 10\r\n"),
            (Some(proxied("1.2.3.4:5", "[::2]:10")), "PROXY TCP6 ::ffff:1.2.3.4 ::2 5 10\r\n"),
            (None, "PROXY UNKNOWN\r\n"),
        ] {
            assert_eq!(proxy_header(&header, facts.as_ref()), expected.as_bytes());
        }
    }

    #[test]
    fn version_2_carries_values() {
        let mut header = ProxyHeader { version: ProxyVersion::V2, pass_through: Some(vec![2]), added: Vec::new() };
        let facts = proxied("1.2.3.4:5", "6.7.8.9:10");
        let start = [&SIGNATURE[..], &[0x21, 0x11]].concat();
        let addresses = [1, 2, 3, 4, 6, 7, 8, 9, 0, 5, 0, 10];
        let expected = [&start[..], &[0, 19], &addresses, b"\x02\x00\x04name"].concat();
        assert_eq!(proxy_header(&header, Some(&facts)), expected);
        header.pass_through = None;
        header.added = vec![(2, b"x".to_vec()), (3, vec![0; 70_000])];
        let expected = [&start[..], &[0, 21], &addresses, b"\x02\x00\x01x\x01\x00\x02h2"].concat();
        assert_eq!(proxy_header(&header, Some(&facts)), expected);
        assert_eq!(proxy_header(&header, None), [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat());
    }
}
