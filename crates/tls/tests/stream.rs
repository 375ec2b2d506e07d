//! Established sessions: bulk, back-pressure, ends, and what an idle one costs.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::IoSlice;
use std::task::{Context, Poll, Waker};

use nuncio_io::transport::Transport;
use nuncio_testkit::allocation::{CountingAllocator, net_bytes};
use nuncio_tls::ConnectOptions;
use nuncio_tls::spec::{ParametersSpec, TlsVersion};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

fn version(version: TlsVersion) -> ParametersSpec {
    ParametersSpec { minimum_version: Some(version), maximum_version: Some(version), ..ParametersSpec::default() }
}

async fn session(at: TlsVersion, suite: &str, capacity: usize) -> (End, End) {
    let authority = Authority::new("Root");
    let mut spec = client_spec("a.example");
    spec.parameters = version(at);
    spec.parameters.cipher_suites = Some(suite.to_owned()).filter(|suite| !suite.is_empty()).into_iter().collect();
    let server = server(&server_spec(&authority.leaf("a.example", P256)));
    let (server, client) = handshake_over(capacity, &server, &client(&spec), ConnectOptions::default()).await;
    (server.unwrap(), client.unwrap())
}

#[tokio::test]
async fn bulk_through_a_narrow_pipe() {
    let body = bytes(1_000_003);
    for (at, suite) in [
        (TlsVersion::V1_3, ""),
        (TlsVersion::V1_2, "ECDHE-ECDSA-AES256-GCM-SHA384"),
        (TlsVersion::V1_2, "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ] {
        for capacity in [1, 7_000, 300_000] {
            let length = if capacity == 1 { 20_000 } else { body.len() };
            let (mut server, mut client) = session(at, suite, capacity.max(512)).await;
            let sent = async {
                write(&mut server.transport, &body[..length]).await;
                shutdown(&mut server.transport).await;
            };
            let received = async {
                let mut all = Vec::new();
                loop {
                    let part = read(&mut client.transport).await;
                    if part.is_empty() {
                        return all;
                    }
                    all.extend(part);
                }
            };
            let ((), received) = tokio::join!(sent, received);
            assert!(received == body[..length], "{at:?} {suite} {capacity}");
        }
    }
}

#[tokio::test]
async fn a_small_reader_gets_everything() {
    let (mut server, mut client) = session(TlsVersion::V1_3, "", 100_000).await;
    let body = bytes(40_000);
    write(&mut server.transport, &body).await;
    let mut all = Vec::new();
    while all.len() < body.len() {
        let mut into = bytes::BytesMut::with_capacity(1000);
        poll_fn(|cx| client.transport.poll_read(cx, &mut into)).await.unwrap();
        all.extend_from_slice(&into);
    }
    assert!(all == body);
}

#[tokio::test]
async fn several_slices_are_one_record() {
    let authority = Authority::new("Root");
    let server = server(&server_spec(&authority.leaf("a.example", P256)));
    let client = client(&client_spec("a.example"));
    let (near, far) = tokio::io::duplex(100_000);
    let (mut tap, behind) = tokio::io::duplex(100_000);
    // Everything that the server writes passes through the tap.
    let (mut far_read, mut far_write) = tokio::io::split(far);
    let accept = server.accept(Transport::Other(Box::new(behind)), None, None);
    let connect = client.connect(Transport::Other(Box::new(near)), ConnectOptions::default());
    let relay = async {
        let (mut up, mut down) = (vec![0; 20_000], vec![0; 20_000]);
        let count = far_read.read(&mut up).await.unwrap();
        tap.write_all(&up[..count]).await.unwrap();
        let count = tap.read(&mut down).await.unwrap();
        far_write.write_all(&down[..count]).await.unwrap();
        let count = far_read.read(&mut up).await.unwrap();
        tap.write_all(&up[..count]).await.unwrap();
        tap
    };
    let (accepted, connected, mut tap) = tokio::join!(accept, connect, relay);
    let (mut transport, _) = accepted.unwrap();
    connected.unwrap();
    let slices = [IoSlice::new(b"head"), IoSlice::new(b""), IoSlice::new(b"body")];
    let count = poll_fn(|cx| transport.poll_write_vectored(cx, &slices)).await.unwrap();
    assert_eq!(count, 8);
    let mut bytes = vec![0; 2000];
    let size = tap.read(&mut bytes).await.unwrap();
    // The tickets leave with the first bytes that are written.
    let mut records = Vec::new();
    let mut rest = &bytes[..size];
    while let [kind, _, _, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        records.push((*kind, length));
        rest = &after[length..];
    }
    assert_eq!(records.last(), Some(&(23, 8 + 1 + 16)), "{records:?}");
    assert!(records.len() > 1, "{records:?}");
}

#[tokio::test]
async fn a_writer_waits_for_a_slow_reader() {
    let (mut server, client) = session(TlsVersion::V1_3, "", 4096).await;
    let body = bytes(200_000);
    let mut cx = Context::from_waker(Waker::noop());
    let mut taken = 0;
    while let Poll::Ready(count) = server.transport.poll_write(&mut cx, &body[taken..]) {
        taken += count.unwrap();
        assert!(taken < 150_000, "it takes what the reader does not want");
    }
    assert!(server.transport.poll_flush(&mut cx).is_pending());
    drop(client);
    assert!(matches!(server.transport.poll_flush(&mut cx), Poll::Ready(Err(_))));
}

#[tokio::test]
async fn close_notify_ends_a_session() {
    for at in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let (mut server, mut client) = session(at, "", 4096).await;
        write(&mut client.transport, b"last words").await;
        shutdown(&mut client.transport).await;
        assert_eq!(read(&mut server.transport).await, b"last words");
        assert_eq!(read(&mut server.transport).await, b"");
        // The other direction goes on.
        write(&mut server.transport, b"reply").await;
        assert_eq!(read(&mut client.transport).await, b"reply");
        assert!(poll_fn(|cx| client.transport.poll_write(cx, b"more")).await.is_err());
    }
}

/// A carrier that ends within a record is an error, not an end: what came before may be a part only.
#[tokio::test]
async fn truncation_is_an_error() {
    let (server, client) = session(TlsVersion::V1_3, "", 100_000).await;
    let mut server = server;
    drop(client);
    assert_eq!(read(&mut server.transport).await, b"");

    let authority = Authority::new("Root");
    let context = support::server(&server_spec(&authority.leaf("a.example", P256)));
    let (near, mut far) = tokio::io::duplex(100_000);
    let (mut tap, behind) = tokio::io::duplex(100_000);
    let accept = context.accept(Transport::Other(Box::new(behind)), None, None);
    let client = support::client(&client_spec("a.example"));
    let connect = client.connect(Transport::Other(Box::new(near)), ConnectOptions::default());
    let exchange = async {
        let ((mut server, _), (mut client, _)) = {
            let (server, client) = tokio::join!(accept, connect);
            (server.unwrap(), client.unwrap())
        };
        write(&mut client, &bytes(1000)).await;
        drop(client);
        try_read(&mut server).await
    };
    let relay = async {
        let (mut up, mut down) = (vec![0; 20_000], vec![0; 20_000]);
        for _ in 0..2 {
            let count = far.read(&mut up).await.unwrap();
            tap.write_all(&up[..count]).await.unwrap();
            let count = tap.read(&mut down).await.unwrap();
            // The client may be gone when the tickets come.
            let _ = far.write_all(&down[..count]).await;
        }
        let mut last = Vec::new();
        far.read_to_end(&mut last).await.unwrap();
        tap.write_all(&last[..last.len() - 1]).await.unwrap();
        drop(tap);
    };
    let (result, ()) = tokio::join!(exchange, relay);
    assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}

/// Tickets that arrive on an idle connection are no reason to throw it away; bytes and the end are.
#[tokio::test]
async fn quiet_is_what_nobody_asked_for() {
    let (mut server, mut client) = session(TlsVersion::V1_3, "", 100_000).await;
    assert!(client.transport.is_quiet(), "two tickets wait");
    assert!(client.transport.is_quiet());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(client.transport.poll_readable(&mut cx).is_pending());
    write(&mut server.transport, b"surprise").await;
    assert!(!client.transport.is_quiet());
    assert!(client.transport.poll_readable(&mut cx).is_ready());
    assert_eq!(read(&mut client.transport).await, b"surprise");
    assert!(client.transport.is_quiet());
    shutdown(&mut server.transport).await;
    assert!(!client.transport.is_quiet());
}

/// Everything that a session holds beside its socket, on each side, after it carried bulk.
#[tokio::test]
async fn what_an_idle_session_costs() {
    let authority = Authority::new("Root");
    let context = server(&server_spec(&authority.leaf("a.example", P256)));
    let body = bytes(1_000_000);
    for at in [TlsVersion::V1_3, TlsVersion::V1_2] {
        let mut spec = client_spec("a.example");
        spec.parameters = version(at);
        let client = client(&spec);
        for round in 0..3 {
            let (near, far) = tokio::net::UnixStream::pair().unwrap();
            let before = net_bytes();
            let accept = context.accept(Transport::Unix(far), None, None);
            let connect = client.connect(Transport::Unix(near), ConnectOptions::default());
            let (accepted, connected) = tokio::join!(accept, connect);
            let (mut server_end, client_end) = (accepted.unwrap().0, connected.unwrap().0);
            let mut peer = client_end;
            let (_, received) = tokio::join!(write(&mut server_end, &body), async {
                let mut received = 0;
                while received < body.len() {
                    received += read(&mut peer).await.len();
                }
                received
            });
            assert_eq!(received, body.len());
            let both = net_bytes() - before;
            drop(server_end);
            let server_cost = both - (net_bytes() - before);
            println!("{at:?} round {round}: both {both}, server {server_cost}");
            // The first ones fill the pools and the stores of sessions.
            if round > 0 {
                assert!(both < 2 * 5 * 1024, "{at:?}: {both} bytes for both");
                assert!(server_cost < 5 * 1024, "{at:?}: {server_cost} bytes for the server's end");
            }
        }
    }
}

/// TLS within TLS.
#[tokio::test]
async fn a_session_within_a_session() {
    let authority = Authority::new("Root");
    let context = server(&server_spec(&authority.leaf("a.example", P256)));
    let client = client(&client_spec("a.example"));
    let (outer_server, outer_client) = established(&context, &client).await;
    let accept = context.accept(outer_server.transport, None, None);
    let connect = client.connect(outer_client.transport, ConnectOptions::default());
    let (server, client) = tokio::join!(accept, connect);
    let ((mut server, _), (mut client, _)) = (server.unwrap(), client.unwrap());
    let body = bytes(50_000);
    write(&mut client, &body).await;
    let mut all = Vec::new();
    while all.len() < body.len() {
        all.extend(read(&mut server).await);
    }
    assert!(all == body);
}
