//! Input that no honest peer sends.

#![allow(clippy::unwrap_used)]

mod support;

use nuncio_io::transport::Transport;
use nuncio_testkit::allocation::{CountingAllocator, net_bytes};
use nuncio_tls::{ConnectOptions, FailureKind, HandshakeError, ServerContext};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn context() -> ServerContext {
    let authority = Authority::new("Root");
    server(&server_spec(&authority.leaf("a.example", P256)))
}

/// What a server says that receives `bytes`, and then the end.
async fn receive(server: &ServerContext, bytes: &[u8]) -> HandshakeError {
    let (mut near, far) = tokio::io::duplex(1 << 20);
    near.write_all(bytes).await.unwrap();
    near.shutdown().await.unwrap();
    let result = server.accept(Transport::Other(Box::new(far)), None, None).await;
    result.err().unwrap()
}

fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 3, 1];
    out.extend((payload.len() as u16).to_be_bytes());
    out.extend(payload);
    out
}

fn hello_message(length: usize) -> Vec<u8> {
    let mut out = vec![1];
    out.extend(&(length as u32).to_be_bytes()[1..]);
    out.extend(vec![0; length]);
    out
}

/// The first flight of a real client.
async fn client_hello() -> Vec<u8> {
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let client = client(&client_spec("a.example"));
    let connect = client.connect(Transport::Other(Box::new(near)), ConnectOptions::default());
    let read = async {
        let mut bytes = vec![0; 1 << 16];
        let count = far.read(&mut bytes).await.unwrap();
        bytes.truncate(count);
        drop(far);
        bytes
    };
    tokio::join!(connect, read).1
}

#[tokio::test]
async fn other_protocols() {
    let server = context();
    for (bytes, reason) in [
        (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], "268435612:SSL routines:OPENSSL_internal:HTTP_REQUEST"),
        (b"CONNECT a:443 HTTP/1.1\r\n\r\n", "HTTPS_PROXY_REQUEST"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "WRONG_VERSION_NUMBER"),
        (&[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10], "WRONG_VERSION_NUMBER"),
    ] {
        let error = receive(&server, bytes).await;
        assert_eq!(error.kind, FailureKind::Protocol);
        assert!(error.reason.contains(reason), "{error}");
    }
    let error = receive(&server, b"").await;
    assert_eq!((error.kind, error.reason.as_str()), (FailureKind::Closed, ""));
}

/// Every prefix of a hello, and every hello with one byte changed, ends in an error or a handshake that waits for more.
#[tokio::test]
async fn truncated_and_mangled_hellos() {
    let server = context();
    let hello = client_hello().await;
    for length in (0..hello.len()).step_by(7) {
        receive(&server, &hello[..length]).await;
    }
    for at in 0..hello.len().min(600) {
        let mut mangled = hello.clone();
        mangled[at] ^= 0x55;
        receive(&server, &mangled).await;
    }
}

/// A hello in pieces of one byte, each its own record, is still one.
#[tokio::test]
async fn a_hello_in_many_records() {
    let server = context();
    let hello = client_hello().await;
    let pieces: Vec<u8> = hello[5..].chunks(hello.len() / 20).flat_map(|piece| record(22, piece)).collect();
    let (mut near, far) = tokio::io::duplex(1 << 20);
    let reply = async {
        near.write_all(&pieces).await.unwrap();
        let mut first = [0; 6];
        near.read_exact(&mut first).await.unwrap();
        drop(near);
        first
    };
    let (result, first) = tokio::join!(server.accept(Transport::Other(Box::new(far)), None, None), reply);
    assert!(result.is_err());
    assert_eq!((first[0], first[5]), (22, 2), "a ServerHello");
    // In pieces of one byte it still is.
    let pieces: Vec<u8> = hello[5..].iter().flat_map(|byte| record(22, &[*byte])).collect();
    receive(&server, &pieces).await;
}

#[tokio::test]
async fn oversized_hellos() {
    let server = context();
    let whole = hello_message(0xffff);
    let in_records: Vec<u8> = whole.chunks(1 << 14).flat_map(|piece| record(22, piece)).collect();
    let claims = |length: usize| record(22, &hello_message(length)[..100]);
    for bytes in [in_records, claims(0x4001), claims(0xffffff)] {
        let error = receive(&server, &bytes).await;
        assert!(error.reason.contains("EXCESSIVE_MESSAGE_SIZE"), "{error}");
    }
    for bytes in [claims(0x4000), record(22, &[]), vec![22, 3, 1, 0xff, 0xff, 1, 0, 0, 0]] {
        let error = receive(&server, &bytes).await;
        assert!(error.kind == FailureKind::Protocol || error.kind == FailureKind::Closed, "{error}");
    }
}

/// What clients cost that send a part of a hello and then nothing: little, and no state of a handshake.
#[tokio::test]
async fn clients_that_wait() {
    let server = context();
    let hello = client_hello().await;
    let mut waiting = Vec::new();
    let mut costs = Vec::new();
    for part in [0, 1, 100, hello.len() - 1] {
        let (mut near, far) = tokio::net::UnixStream::pair().unwrap();
        near.write_all(&hello[..part]).await.unwrap();
        // The reactor must have seen the bytes.
        if part > 0 {
            far.readable().await.unwrap();
        }
        let before = net_bytes();
        let mut accept = Box::pin(server.accept(Transport::Unix(far), None, None));
        for _ in 0..3 {
            let pending = poll_fn(|cx| std::task::Poll::Ready(accept.as_mut().poll(cx).is_pending())).await;
            assert!(pending);
        }
        costs.push(net_bytes() - before);
        waiting.push((near, accept));
    }
    // The first takes the worker's first buffers.
    assert!(costs[1..].iter().all(|cost| *cost < 20 * 1024), "{costs:?}");
    drop(waiting);
}

/// Handshakes may not go on for ever: a client that sends warnings and nothing else is sent away.
#[tokio::test]
async fn handshakes_are_bounded() {
    let server = context();
    let hello = client_hello().await;
    for filler in [record(21, &[1, 90]), record(20, &[1]), record(23, &[0; 1000]), record(22, &[0, 0, 0, 0])] {
        let mut bytes = hello.clone();
        for _ in 0..10_000 / filler.len() * 40 {
            bytes.extend(&filler);
        }
        let error = receive(&server, &bytes).await;
        assert_ne!(error.kind, FailureKind::Closed, "{error}");
    }
}

/// Both ends over a relay; then `attack` is put in front of what the client sends.
async fn attacked(attack: &[u8]) -> std::io::Result<Vec<u8>> {
    let context = context();
    let client = client(&client_spec("a.example"));
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let (mut tap, behind) = tokio::io::duplex(1 << 20);
    let sessions = async {
        let accept = context.accept(Transport::Other(Box::new(behind)), None, None);
        let connect = client.connect(Transport::Other(Box::new(near)), ConnectOptions::default());
        let (server, client) = tokio::join!(accept, connect);
        (server.unwrap().0, client.unwrap().0)
    };
    let relay = async {
        let mut bytes = vec![0; 1 << 16];
        let count = far.read(&mut bytes).await.unwrap();
        tap.write_all(&bytes[..count]).await.unwrap();
        let count = tap.read(&mut bytes).await.unwrap();
        far.write_all(&bytes[..count]).await.unwrap();
        let count = far.read(&mut bytes).await.unwrap();
        tap.write_all(&bytes[..count]).await.unwrap();
        (far, tap)
    };
    let ((mut server, _client), (_far, mut tap)) = tokio::join!(sessions, relay);
    tap.write_all(attack).await.unwrap();
    tap.shutdown().await.unwrap();
    let result = try_read(&mut server).await;
    assert!(try_read(&mut server).await.is_err() || result.is_ok(), "an error stays");
    result
}

#[tokio::test]
async fn hostile_records() {
    for attack in [
        // Not what the key protects.
        record(23, &[7; 100]),
        record(23, &[7; 10]),
        record(23, &[]),
        // Larger than a record can be.
        vec![23, 3, 3, 0x41, 0x01],
        vec![23, 3, 3, 0xff, 0xff],
        // In clear, where everything must be protected.
        record(21, &[1, 0]),
        record(21, &[2, 40]),
        record(22, &[0, 0, 0, 0]),
        record(20, &[1]),
        // Not TLS.
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        // Truncated.
        vec![23, 3, 3, 0, 100, 1, 2, 3],
    ] {
        let error = attacked(&attack).await.unwrap_err();
        assert!(!error.to_string().is_empty(), "{attack:?}");
    }
    assert_eq!(attacked(&[]).await.unwrap(), b"");
}
