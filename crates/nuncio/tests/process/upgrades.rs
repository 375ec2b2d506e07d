//! Upgrades and CONNECT that mean harm: bytes that pass as a tunnel's and are a request, upstream connections that are left
//! in a state nobody knows, headers that a client strips by naming them. Each class is one test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use nuncio_testkit::PATIENCE;
use nuncio_testkit::h2_raw::{RawH2, flag, frame, hpack, kind};
use nuncio_testkit::message::{End, text};
use nuncio_testkit::origin::{After, Origin, Reply};

use crate::support::*;

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nhost: h.test\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\r\n";
const CONNECT: &str = "CONNECT h.test:80 HTTP/1.1\r\nhost: h.test:80\r\n\r\n";
/// A request that the proxy would not let through.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: h.test\r\n\r\n";

/// WebSocket and CONNECT to an origin; `/smuggled` is forbidden.
fn start(address: SocketAddr, more: &[&str]) -> Running {
    let manager = [&["upgrade_configs: [{upgrade_type: websocket}, {upgrade_type: CONNECT}]"], more].concat();
    let routes = "[{match: {path: /smuggled}, direct_response: {status: 403}}, \
                  {match: {connect_matcher: {}}, route: {cluster: a}}, {match: {prefix: /}, route: {cluster: a}}]";
    let clusters = vec![cluster("a", &[address])];
    Setup::new(&Http { routes, clusters, manager: &manager, ..Http::default() }.text()).start()
}

/// The head of a request by extended CONNECT (RFC 8441), as block of fields.
fn websocket() -> Vec<u8> {
    hpack::block(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "h.test"),
        (":path", "/chat"),
    ])
}

/// An upstream of one connection: it answers the first head that it gets, and returns all that came until its peer closed.
fn once(answer: &'static str) -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut came, mut buffer) = (Vec::new(), [0; 4096]);
        while !came.windows(4).any(|end| end == b"\r\n\r\n") {
            let count = stream.read(&mut buffer).unwrap();
            assert_ne!(count, 0, "closed within {:?}", text(&came));
            came.extend_from_slice(&buffer[..count]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        // However the peer closes.
        let _ = stream.read_to_end(&mut came);
        came
    });
    (address, serving)
}

fn heads(came: &[u8]) -> usize {
    came.windows(4).filter(|end| end == b"\r\n\r\n").count()
}

/// CVE-2026-73548: a connection that an upgrade was tried on goes back to the pool, and what is left on it answers another
/// request.
#[test]
fn cve_2026_73548_a_connection_is_not_used_after_an_upgrade_was_tried_on_it() {
    let reply = |status: u16| Reply { path: Some("/chat".into()), status: Some(status), ..Reply::default() };
    let accepted = Reply {
        headers: vec!["upgrade: websocket".to_owned(), "connection: upgrade".to_owned()],
        then: After::Echo,
        ..reply(101)
    };
    let chunked = Reply { chunks: Some(vec!["no".to_owned()]), ..reply(400) };
    for (what, reply) in [("200", reply(200)), ("403", reply(403)), ("chunks", chunked), ("101", accepted)] {
        let origin = origin(vec![reply]);
        let running = start(origin.address(), &[]);
        let mut client = running.client();
        client.send(UPGRADE.as_bytes()).unwrap();
        client.head().unwrap();
        drop(client);
        for _ in 0..2 {
            assert_eq!(running.get("/next").status(), 200, "{what}");
        }
        let seen = origin.seen();
        let connections: Vec<_> = seen.iter().map(|seen| (seen.head.word(1), seen.connection)).collect();
        assert_eq!(connections, [("/chat", 1), ("/next", 2), ("/next", 2)], "{what}");
    }
}

/// The same by CONNECT, whose refusal leaves a connection that nobody knows the state of.
#[test]
fn cve_2026_73548_a_connection_is_not_used_after_connect_was_tried_on_it() {
    let origin = origin(vec![Reply { path: Some("h.test:80".into()), status: Some(403), ..Reply::default() }]);
    let running = start(origin.address(), &[]);
    let mut client = running.client();
    assert_eq!(ask(&mut client, CONNECT).status(), 403);
    assert_eq!(running.get("/next").status(), 200);
    let connections: Vec<_> = origin.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [1, 2]);
}

/// CVE-2024-23326: a 200 that says `upgrade` is no upgrade; what follows is a request like any other.
#[test]
fn cve_2024_23326_an_upgrade_that_is_answered_200_is_none() {
    let accepts = "HTTP/1.1 200 OK\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 2\r\n\r\nok";
    let (address, upstream) = once(accepts);
    let running = start(address, &[]);
    let mut client = running.client();
    let response = ask(&mut client, UPGRADE);
    assert_eq!(answer(&response), (200, "ok".to_owned()));
    assert_eq!(header(&response, "upgrade"), None);
    // The proxy may have closed; if not, it judges what comes.
    let _ = client.send(SMUGGLED.as_bytes());
    let next = client.response(false);
    assert!(matches!(next.status(), 0 | 400 | 403), "{next:?}");
    drop(client);
    let came = upstream.join().unwrap();
    assert_eq!(heads(&came), 1, "{:?}", text(&came));
}

/// The same where the client speaks HTTP/2, to whom a 200 would say that the tunnel is open.
#[test]
fn cve_2024_23326_an_extended_connect_that_is_answered_200_is_none() {
    let (address, upstream) =
        once("HTTP/1.1 200 OK\r\nupgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 2\r\n\r\nok");
    let running = start(address, &["codec_type: HTTP2", "http2_protocol_options: {allow_connect: true}"]);
    let client = RawH2::connect(running.setup.address("front")).unwrap();
    client.send(&frame(kind::HEADERS, flag::END_HEADERS, 1, &websocket())).unwrap();
    assert!(client.await_that(|account| account.ended == 1), "{:?}", client.account());
    assert_eq!(client.account().status(1), Some(502));
    let _ = client.send(&frame(kind::DATA, 0, 1, SMUGGLED.as_bytes()));
    drop(client);
    let came = upstream.join().unwrap();
    assert_eq!(heads(&came), 1, "{:?}", text(&came));
}

/// CVE-2026-2833: bytes behind the head of an upgrade reach the upstream only when it has accepted.
#[test]
fn cve_2026_2833_bytes_behind_an_upgrade_wait_for_the_answer() {
    for refusal in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno",
        "HTTP/1.1 426 Upgrade Required\r\nupgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 0\r\n\r\n",
    ] {
        for first in [UPGRADE, CONNECT] {
            // A 200 accepts a CONNECT.
            if first == CONNECT && refusal.contains("200") {
                continue;
            }
            let (address, upstream) = once(refusal);
            let running = start(address, &[]);
            let mut client = running.client();
            client.send(format!("{first}{SMUGGLED}").as_bytes()).unwrap();
            assert_ne!(client.response(false).status(), 0);
            drop(client);
            let came = upstream.join().unwrap();
            assert_eq!(heads(&came), 1, "{refusal:?}: {:?}", text(&came));
        }
    }
    // Where it accepts, they come through, each once.
    let origin = origin(vec![Reply {
        status: Some(101),
        headers: vec!["upgrade: websocket".to_owned(), "connection: upgrade".to_owned()],
        then: After::Echo,
        ..Reply::default()
    }]);
    let running = start(origin.address(), &[]);
    let mut client = running.client();
    client.send(format!("{UPGRADE}early").as_bytes()).unwrap();
    assert_eq!(client.head().unwrap().status(), 101);
    client.send(b" late").unwrap();
    assert_eq!(text(&client.bytes(10).data), "early late");
}

/// The same by extended CONNECT over HTTP/2, in one write and after the answer.
#[test]
fn cve_2026_2833_data_behind_an_extended_connect_waits_for_the_answer() {
    let (address, upstream) = once("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    let running = start(address, &["codec_type: HTTP2", "http2_protocol_options: {allow_connect: true}"]);
    let client = RawH2::connect(running.setup.address("front")).unwrap();
    let data = frame(kind::DATA, 0, 1, SMUGGLED.as_bytes());
    client.send(&[frame(kind::HEADERS, flag::END_HEADERS, 1, &websocket()), data.clone()].concat()).unwrap();
    assert!(client.await_that(|account| account.status(1) == Some(403)), "{:?}", client.account());
    let _ = client.send(&data);
    drop(client);
    let came = upstream.join().unwrap();
    assert_eq!(heads(&came), 1, "{:?}", text(&came));
}

/// CVE-2026-105299: what `connection` names is not passed on, but a client cannot so take away what a proxy before this one
/// said of it, nor what says who it is.
#[test]
fn cve_2026_105299_headers_that_connection_names() {
    let origin = origin(vec![]);
    let running = start(origin.address(), &[]);
    let ask_with = |named: &str, lines: &str| {
        let request = format!("GET / HTTP/1.1\r\nhost: h.test\r\nconnection: {named}\r\n{lines}\r\n");
        ask(&mut running.client(), &request).status()
    };
    assert_eq!(ask_with("close, x-own", "x-own: 1\r\nx-other: 2\r\n"), 200);
    let seen = origin.seen();
    assert_eq!((seen[0].head.get("x-own"), seen[0].head.get("x-other")), (None, Some("2")));
    for named in ["host", "x-forwarded-for", "X-Forwarded-Proto", "x-forwarded-host", ":path", ":authority"] {
        assert_eq!(ask_with(named, "x-forwarded-for: 192.0.2.1\r\n"), 400, "{named}");
    }
    assert_eq!(origin.seen().len(), 1);
    for (named, lines) in [
        ("x-forwarded-client-cert", "x-forwarded-client-cert: By=me\r\n"),
        ("X-Request-Id", "x-request-id: one\r\n"),
        ("authorization", "authorization: Basic eA==\r\n"),
        ("cookie", "cookie: a=b\r\n"),
    ] {
        let before = origin.seen().len();
        assert_eq!(ask_with(named, lines), 200, "{named}");
        let seen = origin.seen();
        let (name, value) = lines.trim().split_once(": ").unwrap();
        // The certificates that a client speaks of are not believed, whatever `connection` says.
        let expected = if name == "x-forwarded-client-cert" { None } else { Some(value) };
        if name == "x-request-id" {
            assert!(seen[before].head.get(name).is_some(), "{named}");
        } else {
            assert_eq!(seen[before].head.get(name), expected, "{named}");
        }
    }
    // Nor what says how long the body is.
    let posted = "POST / HTTP/1.1\r\nhost: h.test\r\nconnection: content-length\r\ncontent-length: 3\r\n\r\nabc";
    let mut client = running.client();
    let response = ask(&mut client, posted);
    if response.status() == 200 {
        let last = origin.seen().pop().unwrap();
        assert_eq!((text(&last.body.data), last.body.end), ("abc".to_owned(), End::Complete));
        assert_eq!(get(&mut client, "/").status(), 200);
    }
}

/// CVE-2026-73547: a CONNECT without a path is no request that anything but a route for CONNECT takes.
#[test]
fn cve_2026_73547_connect_without_a_path() {
    let origin = origin(vec![]);
    let routes = "[{match: {prefix: /}, route: {cluster: a}}]";
    let clusters = vec![cluster("a", &[origin.address()])];
    for manager in [&["codec_type: HTTP2"][..], &["codec_type: HTTP2", "http2_protocol_options: {allow_connect: true}"]]
    {
        let http = Http { routes, clusters: clusters.clone(), manager, ..Http::default() };
        let running = Setup::new(&http.text()).start();
        let client = RawH2::connect(running.setup.address("front")).unwrap();
        let head = hpack::block(&[(":method", "CONNECT"), (":authority", "h.test:80")]);
        client.send(&frame(kind::HEADERS, flag::END_HEADERS, 1, &head)).unwrap();
        let ended = client.await_that(|account| account.status(1).is_some() || account.reset(1).is_some());
        assert!(ended, "{:?}", client.account());
        assert_ne!(client.account().status(1), Some(200));
        client.get(3, "/", &[]).unwrap();
        assert!(client.await_that(|account| account.status(3) == Some(200)), "{:?}", client.account());
    }
    let running = start(origin.address(), &[]);
    assert_eq!(Origin::seen(&origin).len(), 2);
    // Envoy's answer to a CONNECT that no route is for.
    let mut client = running.client();
    assert_ne!(ask(&mut client, "CONNECT / HTTP/1.1\r\nhost: h.test\r\n\r\n").status(), 200);
}
