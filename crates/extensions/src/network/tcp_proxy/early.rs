//! What the client says before there is an upstream (`upstream_connect_mode`, `max_early_data_bytes`).

use bytes::BytesMut;
use nuncio_io::transport::Transport;
use std::task::{Context, Poll};
use tokio::io::ReadBuf;

/// Whether and how the client's first bytes are waited for (`ON_DOWNSTREAM_DATA`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct EarlyData {
    /// The upstream is asked when there are bytes for it.
    pub waits: bool,
    /// `max_early_data_bytes`; none: the client's bytes are not looked at before the upstream agreed.
    pub limit: Option<u32>,
}

/// What came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// Bytes.
    Bytes,
    /// The end, or a failure.
    End,
}

/// Waits for the client's first bytes. What a TCP socket has stays there, so that it can be spliced; else at most `limit` bytes are
/// taken into `bytes`.
pub(super) fn poll_first(
    transport: &mut Transport,
    cx: &mut Context<'_>,
    limit: u32,
    bytes: &mut BytesMut,
) -> Poll<First> {
    let came = match transport {
        Transport::Tcp(socket) => {
            let mut byte = [0];
            socket.poll_peek(cx, &mut ReadBuf::new(&mut byte))
        }
        _ => {
            let mut room = BytesMut::with_capacity((limit.max(1) as usize).min(MOST_READ));
            let came = transport.poll_read(cx, &mut room);
            bytes.unsplit(room);
            came
        }
    };
    came.map(|came| if came.is_ok_and(|count| count > 0) { First::Bytes } else { First::End })
}

/// Most bytes that the first read takes; the others are read when there is somebody for them.
const MOST_READ: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream, UnixStream};

    async fn first(transport: &mut Transport) -> (First, usize) {
        let mut bytes = BytesMut::new();
        let first = poll_fn(|cx| poll_first(transport, cx, 4, &mut bytes)).await;
        (first, bytes.len())
    }

    #[tokio::test]
    async fn bytes_of_a_tcp_socket_stay_in_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut server = Transport::Tcp(listener.accept().await.unwrap().0);
        client.write_all(b"hello").await.unwrap();
        assert_eq!(first(&mut server).await, (First::Bytes, 0));
        let mut read = BytesMut::with_capacity(16);
        poll_fn(|cx| server.poll_read(cx, &mut read)).await.unwrap();
        assert_eq!(read, "hello");
        drop(client);
        assert_eq!(first(&mut server).await, (First::End, 0));
    }

    #[tokio::test]
    async fn others_are_read_up_to_the_limit() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut server = Transport::Unix(server);
        client.write_all(b"hello").await.unwrap();
        assert_eq!(first(&mut server).await, (First::Bytes, 4));
        assert_eq!(first(&mut server).await, (First::Bytes, 1));
        drop(client);
        assert_eq!(first(&mut server).await, (First::End, 0));
    }
}
