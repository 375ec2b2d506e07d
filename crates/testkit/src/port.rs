//! Ports that nobody else can take between the moment a test chooses them and the moment the proxy binds them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// A TCP port of the loopback address, bound but not listening. A process of the same user that sets `SO_REUSEPORT`, as
/// Envoy and Nuncio do by default, can bind it as well; anybody else can't, and a connection to it is refused until then.
pub struct ReservedPort {
    port: u16,
    _socket: Socket,
}

impl ReservedPort {
    /// Reserves a free port of 127.0.0.1.
    pub fn new() -> io::Result<Self> {
        Self::bind(Domain::IPV4, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Reserves a free port of `::1`.
    pub fn v6() -> io::Result<Self> {
        Self::bind(Domain::IPV6, SocketAddr::from((Ipv6Addr::LOCALHOST, 0)))
    }

    fn bind(domain: Domain, address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        let port = socket.local_addr()?.as_socket().map_or(0, |address| address.port());
        Ok(Self { port, _socket: socket })
    }

    /// The number of the port.
    pub fn number(&self) -> u16 {
        self.port
    }
}
