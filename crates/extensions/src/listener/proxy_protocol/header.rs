//! The PROXY protocol's header, versions 1 and 2 (HAProxy's `proxy-protocol.txt`), read as strictly as Envoy reads it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What version 2 starts with (§2.2).
pub(super) const SIGNATURE_V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1 starts with (§2.1).
pub(super) const SIGNATURE_V1: &[u8; 6] = b"PROXY ";
/// Bytes of version 2 before the addresses.
const HEADER_V2: usize = 16;
/// Most bytes of a version 1 line, its end included.
const MAX_V1: usize = 108;
/// Most bytes of a header.
pub(super) const MAX: usize = HEADER_V2 + u16::MAX as usize;

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// Where a connection comes from and was going; none where the proxy in front speaks for itself (`LOCAL`, `UNKNOWN`).
pub(super) type Addresses = Option<(SocketAddr, SocketAddr)>;

/// What the first bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    /// Perhaps the start of a header.
    Incomplete,
    /// No header of either version.
    Missing,
    /// A header that is wrong.
    Wrong(Version),
    /// A header.
    Header {
        version: Version,
        /// Bytes that it takes.
        size: usize,
        addresses: Addresses,
        /// Type and value, in the order of the header.
        tlvs: Vec<(u8, &'a [u8])>,
    },
}

/// Looks at the bytes received so far.
pub(super) fn parse(data: &[u8]) -> Parsed<'_> {
    if data.len() < HEADER_V2 {
        // A version 1 line may be shorter; none of its bytes could be of version 2 but the first.
        if !starts(data, SIGNATURE_V2) && !starts(data, SIGNATURE_V1) {
            return Parsed::Missing;
        }
    } else if data.starts_with(SIGNATURE_V2) {
        return parse_v2(data);
    } else if !data.starts_with(SIGNATURE_V1) {
        return Parsed::Missing;
    }
    if data.starts_with(SIGNATURE_V1) { parse_v1(data) } else { Parsed::Incomplete }
}

/// Whether `data` starts with `signature`, as far as it goes.
pub(super) fn starts(data: &[u8], signature: &[u8]) -> bool {
    let common = data.len().min(signature.len());
    data[..common] == signature[..common]
}

fn parse_v1(data: &[u8]) -> Parsed<'_> {
    let seen = &data[..data.len().min(MAX_V1)];
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        return if seen.len() == MAX_V1 { Parsed::Missing } else { Parsed::Incomplete };
    };
    let line = std::str::from_utf8(&data[SIGNATURE_V1.len()..end]).ok();
    match line.and_then(line_v1) {
        Some(addresses) => Parsed::Header { version: Version::V1, size: end + 2, addresses, tlvs: Vec::new() },
        None => Parsed::Wrong(Version::V1),
    }
}

fn line_v1(line: &str) -> Option<Addresses> {
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let mut words = line.split(' ');
    let family = words.next()?;
    let (source, destination) = (words.next()?, words.next()?);
    let (source_port, destination_port) = (port(words.next()?)?, port(words.next()?)?);
    if words.next().is_some() {
        return None;
    }
    let (source, destination): (IpAddr, IpAddr) = match family {
        "TCP4" => (source.parse::<Ipv4Addr>().ok()?.into(), destination.parse::<Ipv4Addr>().ok()?.into()),
        "TCP6" => (source.parse::<Ipv6Addr>().ok()?.into(), destination.parse::<Ipv6Addr>().ok()?.into()),
        _ => return None,
    };
    unicast(SocketAddr::new(source, source_port), SocketAddr::new(destination, destination_port)).map(Some)
}

/// Digits only: no sign, as `parse` would take one.
fn port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Addresses that a connection can have.
fn unicast(source: SocketAddr, destination: SocketAddr) -> Option<(SocketAddr, SocketAddr)> {
    let possible = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_broadcast() && !ip.is_multicast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    };
    (possible(source.ip()) && possible(destination.ip())).then_some((source, destination))
}

fn parse_v2(data: &[u8]) -> Parsed<'_> {
    const WRONG: Parsed<'_> = Parsed::Wrong(Version::V2);
    let (command, family) = (data[12], data[13]);
    let length = usize::from(u16::from_be_bytes([data[14], data[15]]));
    let address_length = match (command, family >> 4) {
        (0x20, _) => 0,
        (0x21, 1) => 12,
        (0x21, 2) => 36,
        _ => return WRONG,
    };
    // Neither stream nor datagram.
    if command == 0x21 && !matches!(family & 0x0f, 1 | 2) || length < address_length {
        return WRONG;
    }
    let size = HEADER_V2 + length;
    let Some(body) = data.get(HEADER_V2..size) else { return Parsed::Incomplete };
    let (addresses, rest) = body.split_at(address_length);
    let addresses = match addresses_v2(addresses) {
        Some(addresses) => Some(addresses),
        None if address_length == 0 => None,
        None => return WRONG,
    };
    // What a proxy that speaks for itself says behind its header is of no interest (§2.2).
    let tlvs = if addresses.is_some() { tlvs(rest) } else { Some(Vec::new()) };
    match tlvs {
        Some(tlvs) => Parsed::Header { version: Version::V2, size, addresses, tlvs },
        None => WRONG,
    }
}

fn addresses_v2(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let v4 = |at: usize| Some(IpAddr::from(*bytes.get(at..)?.first_chunk::<4>()?));
    let v6 = |at: usize| Some(IpAddr::from(*bytes.get(at..)?.first_chunk::<16>()?));
    match bytes.len() {
        12 => unicast(SocketAddr::new(v4(0)?, word(8)?), SocketAddr::new(v4(4)?, word(10)?)),
        36 => unicast(SocketAddr::new(v6(0)?, word(32)?), SocketAddr::new(v6(16)?, word(34)?)),
        _ => None,
    }
}

/// None if one of them says that it is longer than what there is.
fn tlvs(mut bytes: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_first_chunk::<3>()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([head[1], head[2]])))?;
        found.push((head[0], value));
        bytes = rest;
    }
    Some(found)
}

#[cfg(test)]
mod tests;
