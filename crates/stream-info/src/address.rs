//! Addresses of peers and listeners, printed as Envoy prints them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// An address as Envoy's `core.v3.Address` knows them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// IPv4 or IPv6 with a port: `10.0.0.1:80`, `[::1]:80`.
    Ip(SocketAddr),
    /// A unix socket; an abstract one starts with `@`. Empty for the unnamed peer of one.
    Pipe(Arc<str>),
    /// A listener inside the proxy: `envoy://name/endpoint`.
    Internal {
        /// Name of the internal listener.
        listener: Arc<str>,
        /// What tells apart the endpoints that use the same listener; may be empty.
        endpoint_id: Arc<str>,
    },
}

impl Address {
    /// The socket address, if it is one.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(address) => Some(*address),
            _ => None,
        }
    }

    /// The IP address, if there is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.socket().map(|address| address.ip())
    }

    /// The port, if there is one.
    pub fn port(&self) -> Option<u16> {
        self.socket().map(|address| address.port())
    }

    /// The endpoint id of an internal address.
    pub fn endpoint_id(&self) -> Option<&str> {
        match self {
            Address::Internal { endpoint_id, .. } => Some(endpoint_id),
            _ => None,
        }
    }

    /// Appends the address with its port, as [`fmt::Display`] prints it; allocates nothing by itself.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Address::Ip(SocketAddr::V4(address)) => {
                write_v4(address.ip().octets(), out);
                write_port(address.port(), out);
            }
            Address::Ip(SocketAddr::V6(address)) => {
                out.push(b'[');
                write_display(address.ip(), out);
                out.push(b']');
                write_port(address.port(), out);
            }
            Address::Pipe(path) => out.extend_from_slice(path.as_bytes()),
            Address::Internal { listener, endpoint_id } => {
                out.extend_from_slice(b"envoy://");
                out.extend_from_slice(listener.as_bytes());
                out.push(b'/');
                out.extend_from_slice(endpoint_id.as_bytes());
            }
        }
    }

    /// Appends the address without its port and brackets; others than IP addresses as a whole.
    pub fn write_without_port(&self, out: &mut Vec<u8>) {
        match self {
            Address::Ip(SocketAddr::V4(address)) => write_v4(address.ip().octets(), out),
            Address::Ip(SocketAddr::V6(address)) => write_display(address.ip(), out),
            _ => self.write(out),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address::Ip(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Pipe(path) => f.write_str(path),
            Address::Internal { listener, endpoint_id } => write!(f, "envoy://{listener}/{endpoint_id}"),
        }
    }
}

/// The decimal digits of a byte and a point after them, and how many bytes these are.
const fn octet_text(octet: u8) -> ([u8; 4], u8) {
    let (hundreds, tens, ones) = (b'0' + octet / 100, b'0' + octet / 10 % 10, b'0' + octet % 10);
    match octet {
        100.. => ([hundreds, tens, ones, b'.'], 4),
        10.. => ([tens, ones, b'.', 0], 3),
        _ => ([ones, b'.', 0, 0], 2),
    }
}

static OCTETS: [([u8; 4], u8); 256] = {
    let mut all = [([0; 4], 0); 256];
    let mut at = 0;
    while at < 256 {
        all[at] = octet_text(at as u8);
        at += 1;
    }
    all
};

/// Appends an IPv4 address. The text is put together first: one copy of a fixed length is cheaper than seven.
fn write_v4(octets: [u8; 4], out: &mut Vec<u8>) {
    let mut text = [0; 16];
    let mut len = 0;
    for octet in octets {
        let (digits, count) = OCTETS[usize::from(octet)];
        if let Some(place) = text.get_mut(len..len + 4) {
            place.copy_from_slice(&digits);
        }
        len += usize::from(count);
    }
    // The last point is not wanted.
    let end = out.len() + len - 1;
    out.extend_from_slice(&text);
    out.truncate(end);
}

fn write_port(port: u16, out: &mut Vec<u8>) {
    out.push(b':');
    out.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
}

fn write_display(value: &dyn fmt::Display, out: &mut Vec<u8>) {
    use std::io::Write;
    // Writing into a Vec can't fail.
    let _ = write!(out, "{value}");
}
