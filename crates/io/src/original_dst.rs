//! Where a connection was going before a REDIRECT rule brought it here, and the mark of a socket.

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::address::canonical;

/// The destination before address translation: SO_ORIGINAL_DST or IP6T_SO_ORIGINAL_DST. `None`: the connection was not
/// redirected, or connection tracking does not know it. Two calls to the kernel at most.
///
/// Behind a TPROXY rule there is no translation; the local address of the connection is the original destination.
pub fn original_dst(stream: &TcpStream) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let local = stream.local_addr().ok()?;
    // An IPv4 connection on an IPv6 socket is tracked as IPv4.
    let found = match canonical(local) {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    found.ok()?.as_socket().map(canonical)
}

/// Sets SO_MARK, which firewall rules and routing can look at. Needs CAP_NET_ADMIN.
pub fn set_mark(stream: &TcpStream, mark: u32) -> io::Result<()> {
    SockRef::from(stream).set_mark(mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn direct_connection_has_no_other_destination() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = tokio::net::TcpListener::bind(address).await else {
                eprintln!("no IPv6 here");
                continue;
            };
            let address = listener.local_addr().unwrap();
            let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
            let (server, _) = server.unwrap();
            // Where connection tracking runs it knows the connection, and says where it really went.
            assert!(original_dst(&server).is_none_or(|found| found == address));
            drop(client);
        }
    }
}
