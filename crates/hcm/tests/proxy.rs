//! The connection manager between a client and an origin, on real sockets in this process.

mod support;

use nuncio_stats::Store;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use support::{cluster, config, exchange, origin, read_response, run, start, to_cluster};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

fn store() -> Arc<Store> {
    nuncio_stats::set_worker(1);
    Arc::new(Store::new(1))
}

#[test]
fn requests_share_one_upstream_connection() {
    run(async {
        let store = store();
        let seen = Rc::new(Cell::new(0));
        let count = Rc::clone(&seen);
        let upstream = origin(move |head| {
            assert!(head.starts_with("GET /path?q HTTP/1.1\r\nhost: example\r\n"), "{head}");
            assert!(head.contains("\r\nx-request-id: "), "{head}");
            count.set(count.get() + 1);
            OK.to_vec()
        })
        .await;
        let hcm = config(&store, vec![to_cluster("a")]);
        let proxy = start(store, hcm, vec![cluster("a", &[upstream])]).await;
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        for _ in 0..3 {
            let response = exchange(&mut client, b"GET /path?q HTTP/1.1\r\nHost: example\r\n\r\n").await;
            assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
            assert!(response.contains("\r\nserver: envoy\r\n"), "{response}");
            assert!(response.contains("\r\nx-envoy-upstream-service-time: "), "{response}");
            assert!(response.ends_with("\r\n\r\nhello"), "{response}");
        }
        assert_eq!(seen.get(), 3);
        let value = |name: &str| proxy.store.value(name).unwrap_or(0);
        assert_eq!(value("cluster.a.upstream_cx_total"), 1);
        assert_eq!(value("cluster.a.upstream_rq_total"), 3);
        assert_eq!(value("cluster.a.upstream_rq_200"), 3);
        assert_eq!(value("http.test.downstream_rq_2xx"), 3);
        assert_eq!(value("http.test.downstream_cx_active"), 1);
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    run(async {
        let store = store();
        let upstream = origin(|head| {
            let path = head.split(' ').nth(1).unwrap();
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len()).into_bytes()
        })
        .await;
        let hcm = config(&store, vec![to_cluster("a")]);
        let proxy = start(store, hcm, vec![cluster("a", &[upstream])]).await;
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        client.write_all(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /22 HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert!(read_response(&mut client).await.ends_with("/1"));
        assert!(read_response(&mut client).await.ends_with("/22"));
    });
}

#[test]
fn bodies_go_both_ways() {
    run(async {
        let store = store();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            let mut buffer = [0; 65536];
            while !seen.ends_with(b"\r\n0\r\n\r\n") {
                let count = socket.read(&mut buffer).await.unwrap();
                assert!(count > 0);
                seen.extend_from_slice(&buffer[..count]);
            }
            let head = seen.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
            let head = String::from_utf8_lossy(&seen[..head]).into_owned();
            assert!(head.contains("transfer-encoding: chunked"), "{head}");
            let body = vec![b'x'; 300_000];
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n").await.unwrap();
            socket.write_all(&body).await.unwrap();
        });
        let hcm = config(&store, vec![to_cluster("a")]);
        let proxy = start(store, hcm, vec![cluster("a", &[upstream])]).await;
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        let mut request = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..20 {
            request.extend_from_slice(b"2710\r\n");
            request.extend_from_slice(&[b'y'; 10_000]);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
        client.write_all(&request).await.unwrap();
        let mut received = vec![0; 300_000];
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            client.read_exact(&mut byte).await.unwrap();
            head.push(byte[0]);
        }
        client.read_exact(&mut received).await.unwrap();
        assert!(received.iter().all(|b| *b == b'x'));
    });
}

#[test]
fn a_refused_connection_is_503() {
    run(async {
        let store = store();
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = unused.local_addr().unwrap();
        drop(unused);
        let hcm = config(&store, vec![to_cluster("a")]);
        let proxy = start(store, hcm, vec![cluster("a", &[address])]).await;
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        let response = exchange(&mut client, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(response.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{response}");
        assert!(response.contains("reset reason: remote connection failure"), "{response}");
    });
}

#[test]
fn no_cluster_no_host_no_route() {
    run(async {
        let store = store();
        let hcm = config(&store, vec![to_cluster("a")]);
        let proxy = start(Arc::clone(&store), hcm, vec![cluster("a", &[])]).await;
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        let response = exchange(&mut client, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
        assert!(response.ends_with("no healthy upstream"), "{response}");
        let hcm = config(&store, vec![to_cluster("missing")]);
        let proxy = start(Arc::clone(&store), hcm, Vec::new()).await;
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        let response = exchange(&mut client, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
        let hcm = config(&store, Vec::new());
        let proxy = start(store, hcm, Vec::new()).await;
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        let response = exchange(&mut client, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(response.starts_with("HTTP/1.1 404 "), "{response}");
    });
}

#[test]
fn a_connection_that_its_upstream_closed_is_replaced() {
    run(async {
        let store = store();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            // Every connection answers one request and is closed at the next, before any answer.
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                tokio::task::spawn_local(async move {
                    let mut buffer = [0; 4096];
                    let _ = socket.read(&mut buffer).await.unwrap();
                    socket.write_all(OK).await.unwrap();
                    let _ = socket.read(&mut buffer).await.unwrap();
                });
            }
        });
        let hcm = config(&store, vec![to_cluster("a")]);
        let proxy = start(store, hcm, vec![cluster("a", &[upstream])]).await;
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        for _ in 0..3 {
            let response = exchange(&mut client, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        }
    });
}

#[test]
fn malformed_requests_are_refused_and_the_connection_closed() {
    run(async {
        let store = store();
        let hcm = config(&store, vec![to_cluster("a")]);
        let proxy = start(store, hcm, vec![cluster("a", &[])]).await;
        for request in [
            &b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nhost : a\r\n\r\n",
            b"\x00\x01\x02\r\n\r\n",
        ] {
            let mut client = TcpStream::connect(proxy.address).await.unwrap();
            client.write_all(request).await.unwrap();
            let mut response = Vec::new();
            client.read_to_end(&mut response).await.unwrap();
            let response = String::from_utf8_lossy(&response).into_owned();
            assert!(response.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{response}");
        }
    });
}

#[test]
fn websocket_upgrades_become_tunnels() {
    run(async {
        let store = store();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            let count = socket.read(&mut buffer).await.unwrap();
            let head = String::from_utf8_lossy(&buffer[..count]).to_ascii_lowercase();
            assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
            let accepted = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
            socket.write_all(accepted).await.unwrap();
            loop {
                let count = socket.read(&mut buffer).await.unwrap();
                if count == 0 {
                    return;
                }
                socket.write_all(&buffer[..count]).await.unwrap();
            }
        });
        let hcm = config(&store, vec![to_cluster("a")]);
        let proxy = start(store, hcm, vec![cluster("a", &[upstream])]).await;
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            client.read_exact(&mut byte).await.unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
        for message in [&b"one"[..], b"two!"] {
            client.write_all(message).await.unwrap();
            let mut echo = vec![0; message.len()];
            client.read_exact(&mut echo).await.unwrap();
            assert_eq!(echo, message);
        }
    });
}
