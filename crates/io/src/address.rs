//! Where a socket is bound or connected: an IP address with a port, or a unix path. Owns the text form, which is Envoy's.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use socket2::SockAddr;

/// An IP address with a port, or the path of a unix socket. Printed as Envoy prints it: `127.0.0.1:80`, `[::1]:80`,
/// `/run/x.sock`, `@abstract`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// IPv4 or IPv6.
    Ip(SocketAddr),
    /// A path; one that starts with `@` is a name in the abstract namespace. Empty for a peer without a name.
    Pipe(Arc<str>),
}

impl Address {
    /// The path of a unix socket, as in `core.v3.Pipe.path`.
    pub fn pipe(path: &str) -> Self {
        Address::Pipe(path.into())
    }

    /// The IP address and port, if it is one.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(address) => Some(*address),
            Address::Pipe(_) => None,
        }
    }

    /// Whether this is a unix socket in the abstract namespace: it has no file.
    pub fn is_abstract(&self) -> bool {
        matches!(self, Address::Pipe(path) if path.starts_with('@'))
    }

    /// The form that the kernel takes. Fails for a path that is empty, has a NUL, or has more than 107 bytes.
    pub(crate) fn to_kernel(&self) -> io::Result<SockAddr> {
        match self {
            Address::Ip(address) => Ok(SockAddr::from(*address)),
            Address::Pipe(path) if path.is_empty() || path.contains('\0') => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "a path must not be empty or contain a NUL byte"))
            }
            Address::Pipe(path) => match path.strip_prefix('@') {
                Some(name) => SockAddr::unix(format!("\0{name}")),
                None => SockAddr::unix(&**path),
            },
        }
    }

    /// What the kernel gave: an IPv4 address mapped into IPv6 becomes IPv4, as a dual-stack listener should show it.
    pub(crate) fn from_kernel(address: &SockAddr) -> Self {
        if let Some(ip) = address.as_socket() {
            return Address::Ip(canonical(ip));
        }
        if let Some(path) = address.as_pathname() {
            return Address::Pipe(path.to_string_lossy().into());
        }
        let name = address.as_abstract_namespace().map(String::from_utf8_lossy);
        Address::Pipe(name.map(|name| format!("@{name}")).unwrap_or_default().into())
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
        }
    }
}

/// `::ffff:192.0.2.1` is `192.0.2.1`.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::new(v4.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// What the system says about an error, without Rust's `(os error N)`: the words that Envoy puts into its texts.
pub fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    match (error.raw_os_error(), text.rfind(" (os error ")) {
        (Some(_), Some(end)) => text[..end].to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_kernel_form() {
        let check = |address: Address, text: &str| {
            assert_eq!(address.to_string(), text);
            assert_eq!(Address::from_kernel(&address.to_kernel().unwrap()), address);
        };
        check(Address::Ip("127.0.0.1:80".parse().unwrap()), "127.0.0.1:80");
        check(Address::Ip("[::1]:80".parse().unwrap()), "[::1]:80");
        check(Address::pipe("/run/x.sock"), "/run/x.sock");
        check(Address::pipe("@name"), "@name");
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:7".parse().unwrap();
        assert_eq!(Address::from_kernel(&mapped.into()).to_string(), "192.0.2.1:7");
    }

    #[test]
    fn bad_paths_are_refused() {
        for path in ["", "a\0b", &"x".repeat(108), &format!("@{}", "x".repeat(108))] {
            assert!(Address::pipe(path).to_kernel().is_err(), "{path:?}");
        }
    }

    #[test]
    fn errno_has_no_number() {
        assert_eq!(errno_text(&io::Error::from_raw_os_error(libc::ECONNREFUSED)), "Connection refused");
        assert_eq!(errno_text(&io::Error::other("a (os error x")), "a (os error x");
    }
}
