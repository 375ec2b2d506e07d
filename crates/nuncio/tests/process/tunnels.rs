//! Tunnels: WebSocket over either version, CONNECT that ends here, TCP in HTTP.

use nuncio_testkit::gate::Gates;
use nuncio_testkit::h2_raw::{RawH2, RawServer, code, flag, frame, hpack, kind, reset, settings};
use nuncio_testkit::message::End;
use nuncio_testkit::origin::{Action, After, Origin, Reply, Script};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::support::*;

/// An origin that accepts an upgrade and sends back what it gets.
fn echo() -> Origin {
    origin(vec![Reply {
        status: Some(101),
        reason: Some("Switching Protocols".to_owned()),
        headers: vec!["upgrade: websocket".to_owned(), "connection: upgrade".to_owned()],
        then: After::Echo,
        ..Reply::default()
    }])
}

fn start(routes: &str, clusters: Vec<String>) -> Running {
    let manager = [
        "codec_type: HTTP2",
        "http2_protocol_options: {allow_connect: true}",
        "upgrade_configs: [{upgrade_type: websocket}, {upgrade_type: CONNECT}]",
    ];
    Setup::new(&Http { routes, clusters, manager: &manager, ..Http::default() }.text()).start()
}

/// The head of a request by extended CONNECT (RFC 8441).
fn websocket(path: &str) -> Vec<u8> {
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "h.test"),
        (":path", path),
        ("sec-websocket-version", "13"),
    ];
    hpack::block(&fields)
}

#[test]
fn a_websocket_over_http2_reaches_an_upstream_of_http1() {
    let origin = echo();
    let running = start("[{match: {prefix: /}, route: {cluster: a}}]", vec![cluster("a", &[origin.address()])]);
    let client = RawH2::connect(running.setup.address("front")).unwrap();
    client.send(&frame(kind::HEADERS, flag::END_HEADERS, 1, &websocket("/chat"))).unwrap();
    assert!(client.await_that(|account| account.status(1) == Some(200)), "{:?}", client.account());
    client.send(&frame(kind::DATA, 0, 1, b"ping")).unwrap();
    assert!(client.await_that(|account| account.data == 4), "{:?}", client.account());
    client.send(&frame(kind::DATA, 0, 1, &[b'x'; 10_000])).unwrap();
    assert!(client.await_that(|account| account.data == 10_004), "{:?}", client.account());
    let seen = origin.seen();
    assert_eq!(seen[0].head.start, "GET /chat HTTP/1.1");
    assert_eq!(seen[0].head.get("upgrade"), Some("websocket"));
    assert_eq!(seen[0].head.get("sec-websocket-version"), Some("13"));
    origin.close_connections();
    assert!(client.await_that(|account| account.ended == 1), "{:?}", client.account());
}

#[test]
fn what_is_no_upgrade_stays_a_response_and_one_that_is_not_allowed_is_refused() {
    let origin = origin(vec![]);
    let manager = ["codec_type: HTTP2", "http2_protocol_options: {allow_connect: true}"];
    let routes = "[{match: {path: /open}, route: {cluster: a, upgrade_configs: [{upgrade_type: websocket}]}}, \
                  {match: {prefix: /}, route: {cluster: a}}]";
    let clusters = vec![cluster("a", &[origin.address()])];
    let running = Setup::new(&Http { routes, clusters, manager: &manager, ..Http::default() }.text()).start();
    let client = RawH2::connect(running.setup.address("front")).unwrap();
    client.send(&frame(kind::HEADERS, flag::END_HEADERS, 1, &websocket("/closed"))).unwrap();
    assert!(client.await_that(|account| account.status(1) == Some(403)), "{:?}", client.account());
    assert_eq!(origin.seen().len(), 0);
    client.send(&frame(kind::HEADERS, flag::END_HEADERS, 3, &websocket("/open"))).unwrap();
    assert!(client.await_that(|account| account.status(3).is_some()), "{:?}", client.account());
}

#[test]
fn connect_over_http2_ends_here() {
    let origin = origin(vec![Reply { body: Some("from the origin".to_owned()), ..Reply::default() }]);
    let routes = "[{match: {connect_matcher: {}}, route: {cluster: a, upgrade_configs: [{upgrade_type: CONNECT, \
                  connect_config: {}}]}}]";
    let running = start(routes, vec![cluster("a", &[origin.address()])]);
    let client = RawH2::connect(running.setup.address("front")).unwrap();
    let head = hpack::block(&[(":method", "CONNECT"), (":authority", "h.test:80")]);
    client.send(&frame(kind::HEADERS, flag::END_HEADERS, 1, &head)).unwrap();
    assert!(client.await_that(|account| account.status(1) == Some(200)), "{:?}", client.account());
    client.send(&frame(kind::DATA, 0, 1, b"GET / HTTP/1.1\r\nhost: h.test\r\nconnection: close\r\n\r\n")).unwrap();
    assert!(client.await_that(|account| account.data > 15), "{:?}", client.account());
    assert_eq!(origin.seen()[0].head.start, "GET / HTTP/1.1");
}

/// CVE-2025-64763: bytes behind a CONNECT must not reach the upstream before it accepted.
#[test]
fn cve_2025_64763_early_bytes_of_connect_wait_for_the_answer() {
    let origin = origin(vec![Reply { status: Some(403), ..Reply::default() }]);
    let routes = "[{match: {connect_matcher: {}}, route: {cluster: a}}]";
    let running = start(routes, vec![cluster("a", &[origin.address()])]);
    let client = RawH2::connect(running.setup.address("front")).unwrap();
    let head = hpack::block(&[(":method", "CONNECT"), (":authority", "h.test:80")]);
    let early = b"GET /smuggled HTTP/1.1\r\nhost: h.test\r\n\r\n";
    let both = [frame(kind::HEADERS, flag::END_HEADERS, 1, &head), frame(kind::DATA, 0, 1, early)].concat();
    client.send(&both).unwrap();
    assert!(client.await_that(|account| account.status(1) == Some(403)), "{:?}", client.account());
    let seen = origin.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].head.start, "CONNECT h.test:80 HTTP/1.1");
    assert!(client.account().reset(1).is_none_or(|reset| reset == code::NO_ERROR));
}

/// `tcp_proxy` in front of a gateway that ends its tunnels, over CONNECT and POST, HTTP/1 and HTTP/2.
#[test]
fn tcp_goes_through_tunnels_of_either_version() {
    const TCP: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let origin = origin(vec![]);
    let ends = "upgrade_configs: [{upgrade_type: CONNECT, connect_config: {allow_post: true}}]";
    let routes = format!(
        "[{{match: {{connect_matcher: {{}}}}, route: {{cluster: a, {ends}}}}}, {{match: {{prefix: /}}, route: {{cluster: \
         a, {ends}}}}}]"
    );
    let manager = ["http2_protocol_options: {allow_connect: true}", "upgrade_configs: [{upgrade_type: CONNECT}]"];
    let gateway = Http { routes: &routes, manager: &manager, ..Http::default() }.connection_manager();
    let place = |name: &str| format!("address: {{socket_address: {{address: 127.0.0.1, port_value: ${name}}}}}");
    let mut listeners = vec![format!("name: front, {}, filter_chains: [{{filters: [{gateway}]}}]", place("front"))];
    for (name, cluster, post) in
        [("alpha", "one", false), ("beta", "two", false), ("gamma", "one", true), ("delta", "two", true)]
    {
        let tunnel = format!("tunneling_config: {{hostname: 'h.test:80', use_post: {post}}}");
        let filter =
            format!("{{name: tcp, typed_config: {{'@type': {TCP}, stat_prefix: t, cluster: {cluster}, {tunnel}}}}}");
        listeners.push(format!("name: {name}, {}, filter_chains: [{{filters: [{filter}]}}]", place(name)));
    }
    let to_gateway = |name: &str, fields: &str| {
        let endpoint = format!("{{endpoint: {{{}}}}}", place("front"));
        let load = format!("{{cluster_name: {name}, endpoints: [{{lb_endpoints: [{endpoint}]}}]}}");
        format!("name: {name}, type: STATIC, load_assignment: {load}{fields}")
    };
    let http2 = format!(
        ", typed_extension_protocol_options: {{{OPTIONS}: {{'@type': type.googleapis.com/{OPTIONS}, \
         explicit_http_config: {{http2_protocol_options: {{}}}}}}}}"
    );
    let clusters = [cluster("a", &[origin.address()]), to_gateway("one", ""), to_gateway("two", &http2)];
    let running = Setup::new(&bootstrap(&listeners, &clusters, &[])).start();
    for name in ["alpha", "beta", "gamma", "delta"] {
        let mut client = running.client_of(name);
        assert_eq!(answer(&get(&mut client, "/small")), (200, "ok".to_owned()), "{name}");
        let body = "x".repeat(300_000);
        let large =
            ask(&mut client, &format!("POST /large HTTP/1.1\r\nhost: h\r\ncontent-length: 300000\r\n\r\n{body}"));
        assert_eq!(large.status(), 200, "{name}");
    }
    assert_eq!(origin.seen().len(), 8);
}

/// `ON_DOWNSTREAM_DATA`: who says nothing brings no connection to the upstream, and is not kept until a timeout.
#[test]
fn a_client_that_leaves_without_a_word_brings_no_upstream_connection() {
    const TCP: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    let origin = Origin::start(Script::Tcp { tcp: vec![Action::Echo] }, Gates::default()).unwrap();
    let mode = "upstream_connect_mode: ON_DOWNSTREAM_DATA, max_early_data_bytes: 4";
    let filter = format!("{{name: tcp, typed_config: {{'@type': {TCP}, stat_prefix: t, cluster: a, {mode}}}}}");
    let place = "address: {socket_address: {address: 127.0.0.1, port_value: $front}}";
    let listener = format!("name: front, {place}, filter_chains: [{{filters: [{filter}]}}]");
    let running = Setup::new(&bootstrap(&[listener], &[cluster("a", &[origin.address()])], &[])).start();
    let address = running.setup.address("front");
    let mut silent = TcpStream::connect(address).unwrap();
    silent.shutdown(Shutdown::Write).unwrap();
    assert_eq!(silent.read(&mut [0; 8]).unwrap(), 0);
    let mut talks = TcpStream::connect(address).unwrap();
    talks.write_all(b"more than four").unwrap();
    let mut heard = [0; 14];
    talks.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"more than four");
    assert_eq!(running.stat("cluster.a.upstream_cx_total"), 1);
    assert_eq!(running.stat("tcp.t.early_data_received_count_total"), 1);
}

const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// An upstream that speaks HTTP/2, takes extended CONNECT or does not, and sends back the DATA that it gets.
fn echo_of_http2(offers: bool) -> RawServer {
    // SETTINGS_ENABLE_CONNECT_PROTOCOL.
    let first = if offers { settings(&[(8, 1)]) } else { settings(&[]) };
    let server = RawServer::start(first, |came| match came.kind {
        kind::HEADERS => frame(kind::HEADERS, flag::END_HEADERS | came.flags & flag::END_STREAM, came.stream, &[0x88]),
        kind::DATA => frame(kind::DATA, came.flags & flag::END_STREAM, came.stream, came.payload),
        _ => Vec::new(),
    });
    server.unwrap()
}

fn start_to_http2(server: &RawServer) -> Running {
    let http2 = format!(
        ", typed_extension_protocol_options: {{{OPTIONS}: {{'@type': type.googleapis.com/{OPTIONS}, \
         explicit_http_config: {{http2_protocol_options: {{allow_connect: true}}}}}}}}"
    );
    let manager = [
        "codec_type: AUTO",
        "http2_protocol_options: {allow_connect: true}",
        "upgrade_configs: [{upgrade_type: websocket}, {upgrade_type: CONNECT}]",
    ];
    let routes = "[{match: {connect_matcher: {}}, route: {cluster: a}}, {match: {prefix: /}, route: {cluster: a}}]";
    let clusters = vec![cluster_with("a", &[server.address()], &http2)];
    Setup::new(&Http { routes, clusters, manager: &manager, ..Http::default() }.text()).start()
}

const UPGRADE: &[u8] =
    b"GET /chat HTTP/1.1\r\nhost: h.test\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\r\n";

#[test]
fn a_websocket_of_http1_reaches_an_upstream_of_http2() {
    let server = echo_of_http2(true);
    let running = start_to_http2(&server);
    let mut client = running.client();
    client.send(UPGRADE).unwrap();
    let head = client.head().unwrap();
    assert_eq!((head.status(), head.get("upgrade")), (101, Some("websocket")));
    client.send(b"ping").unwrap();
    assert_eq!(client.bytes(4).data, b"ping");
    let large = vec![b'x'; 50_000];
    client.send(&large).unwrap();
    assert_eq!(client.bytes(large.len()).data, large);
    // Others share the connection meanwhile.
    let upstream = server.accept().unwrap();
    let mut other = running.client();
    other.send(UPGRADE).unwrap();
    assert_eq!(other.head().unwrap().status(), 101);
    assert_eq!(upstream.account().headed, [1, 3]);
    // The upstream's end is the client's.
    upstream.send(&frame(kind::DATA, flag::END_STREAM, 1, b"bye")).unwrap();
    let rest = client.rest();
    assert_eq!((rest.data.as_slice(), rest.end), (&b"bye"[..], End::Complete));
    other.send(b"still here").unwrap();
    assert_eq!(other.bytes(10).data, b"still here");
    // And a client's end is the upstream's.
    drop(other);
    assert!(upstream.await_that(|account| account.reset(3).is_some() || account.ended > 0), "{:?}", upstream.account());
    running.await_stat("cluster.a.upstream_rq_active", |active| active == 0);
}

#[test]
fn a_websocket_of_http2_reaches_an_upstream_of_http2() {
    let server = echo_of_http2(true);
    let running = start_to_http2(&server);
    let client = RawH2::connect(running.setup.address("front")).unwrap();
    for stream in [1, 3] {
        client.send(&frame(kind::HEADERS, flag::END_HEADERS, stream, &websocket("/chat"))).unwrap();
        assert!(client.await_that(|account| account.status(stream) == Some(200)), "{:?}", client.account());
    }
    client.send(&frame(kind::DATA, 0, 1, &[b'x'; 10_000])).unwrap();
    client.send(&frame(kind::DATA, flag::END_STREAM, 3, b"last words")).unwrap();
    assert!(client.await_that(|account| account.data == 10_010 && account.ended == 1), "{:?}", client.account());
    let upstream = server.accept().unwrap();
    client.send(&reset(1, code::CANCEL)).unwrap();
    assert!(upstream.await_that(|account| account.reset(1).is_some()), "{:?}", upstream.account());
    assert!(!client.account().closed);
}

#[test]
fn a_websocket_to_an_upstream_that_does_not_take_it() {
    let server = echo_of_http2(false);
    let running = start_to_http2(&server);
    let mut client = running.client();
    client.send(UPGRADE).unwrap();
    let response = client.response(false);
    assert!(matches!(response.status(), 502 | 503), "{response:?}");
    // What it does take is served.
    let other = RawH2::connect(running.setup.address("front")).unwrap();
    let head = hpack::block(&[(":method", "CONNECT"), (":authority", "h.test:80")]);
    other.send(&frame(kind::HEADERS, flag::END_HEADERS, 1, &head)).unwrap();
    assert!(other.await_that(|account| account.status(1) == Some(200)), "{:?}", other.account());
    other.send(&frame(kind::DATA, 0, 1, b"through")).unwrap();
    assert!(other.await_that(|account| account.data == 7), "{:?}", other.account());
}
