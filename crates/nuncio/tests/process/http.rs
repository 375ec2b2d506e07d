//! HTTP/1 between real sockets, where a whole process is what is tested: upgrades, 100-continue, HTTP/1.0, pipelining,
//! HEAD, trailers.

use nuncio_testkit::gate::Gates;
use nuncio_testkit::message::{End, text};
use nuncio_testkit::origin::{After, Origin, Reply, Script};

use crate::support::*;

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nhost: test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

#[test]
fn a_websocket_echoes() {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    let origin = origin(vec![Reply { raw: Some(switching.into()), then: After::Echo, ..Reply::default() }]);
    let config = Http {
        clusters: vec![cluster("a", &[origin.address()])],
        manager: &["upgrade_configs: [{upgrade_type: websocket}]"],
        ..Http::default()
    };
    let running = Setup::new(&config.text()).start();
    let mut client = running.client();
    client.send(UPGRADE.as_bytes()).unwrap();
    let head = client.head().unwrap();
    assert_eq!((head.status(), head.get("upgrade")), (101, Some("websocket")));
    for round in 0..20 {
        let message = format!("\u{1}frame {round:04}\0");
        client.send(message.as_bytes()).unwrap();
        assert_eq!(client.bytes(message.len()).data, message.as_bytes());
    }
    let big = "x".repeat(1 << 20);
    std::thread::scope(|scope| {
        let copy = big.as_bytes();
        let mut client = client;
        let (sender, receiver) = std::sync::mpsc::channel();
        // The other half: reading while it is sent is what the echo needs.
        client.send(&copy[..32 * 1024]).unwrap();
        scope.spawn(move || sender.send(client.bytes(32 * 1024)).unwrap());
        assert_eq!(receiver.recv().unwrap().data, &copy[..32 * 1024]);
    });
    assert_eq!(running.stat("http.front.downstream_cx_upgrades_total"), 1);
    assert_eq!(origin.seen()[0].head.get("upgrade"), Some("websocket"));
}

#[test]
fn an_upgrade_that_is_not_configured_is_refused() {
    let origin = origin(vec![]);
    let running = in_front_of(&origin);
    assert_eq!(ask(&mut running.client(), UPGRADE).status(), 403);
    assert_eq!(origin.seen(), []);
}

#[test]
fn an_upgrade_that_the_origin_refuses() {
    let origin = origin(vec![Reply { status: Some(403), body: Some("no".into()), ..Reply::default() }]);
    let config = Http {
        clusters: vec![cluster("a", &[origin.address()])],
        manager: &["upgrade_configs: [{upgrade_type: websocket}]"],
        ..Http::default()
    };
    let running = Setup::new(&config.text()).start();
    assert_eq!(answer(&ask(&mut running.client(), UPGRADE)), (403, "no".into()));
}

#[test]
fn an_expectation_is_answered_before_the_body() {
    let origin = origin(vec![]);
    let running = in_front_of(&origin);
    let mut client = running.client();
    client.send(b"POST / HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").unwrap();
    assert_eq!(client.head().unwrap().status(), 100);
    client.send(b"body").unwrap();
    assert_eq!(client.response(false).status(), 200);
    let seen = &origin.seen()[0];
    assert_eq!((text(&seen.body.data), seen.head.get("expect")), ("body".into(), None));
}

#[test]
fn an_expectation_is_passed_on_where_that_is_configured() {
    let gates = Gates::default();
    let reply = Reply { interim: vec![100], ..Reply::default() };
    let origin = Origin::start(Script::Http(vec![reply]), gates).unwrap();
    let config = Http {
        clusters: vec![cluster("a", &[origin.address()])],
        manager: &["proxy_100_continue: true"],
        ..Http::default()
    };
    let running = Setup::new(&config.text()).start();
    let mut client = running.client();
    client.send(b"POST / HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\nbody").unwrap();
    let response = client.response(false);
    assert_eq!((response.status(), response.interim.len()), (200, 1));
    assert_eq!(origin.seen()[0].head.get("expect"), Some("100-continue"));
}

#[test]
fn the_old_version_is_refused_or_served() {
    let origin = origin(vec![Reply { chunks: Some(vec!["chunk".into(), "ed".into()]), ..Reply::default() }]);
    let running = in_front_of(&origin);
    assert_eq!(ask(&mut running.client(), "GET / HTTP/1.0\r\nhost: test\r\n\r\n").status(), 426);
    let config = Http {
        clusters: vec![cluster("a", &[origin.address()])],
        manager: &["http_protocol_options: {accept_http_10: true, default_host_for_http_10: fallback}"],
        ..Http::default()
    };
    let running = Setup::new(&config.text()).start();
    let mut client = running.client();
    // No chunks for whom they are unknown: the body ends with the connection.
    let response = ask(&mut client, "GET / HTTP/1.0\r\n\r\n");
    assert_eq!(answer(&response), (200, "chunked".into()));
    assert_eq!(header(&response, "transfer-encoding"), None);
    assert_eq!(client.rest().end, End::Complete);
    assert_eq!(origin.seen()[0].head.get("host"), Some("fallback"));
    assert_eq!(origin.seen()[0].head.word(2), "HTTP/1.1");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let first = Reply { path: Some("/1".into()), body: Some("one".into()), ..Reply::default() };
    let second = Reply { path: Some("/2".into()), chunks: Some(vec!["t".into(), "wo".into()]), ..Reply::default() };
    let origin = origin(vec![first, second, body("other")]);
    let running = in_front_of(&origin);
    let mut client = running.client();
    let request = |target: &str| format!("{target} HTTP/1.1\r\nhost: test\r\n\r\n");
    let all = ["GET /1", "HEAD /1", "GET /2", "GET /3", "GET /1"].map(request).concat();
    client.send(all.as_bytes()).unwrap();
    let bodies: Vec<String> =
        [false, true, false, false, false].map(|to_head| text(&client.response(to_head).body.data)).into();
    assert_eq!(bodies, ["one", "", "two", "other", "one"]);
}

#[test]
fn trailers_pass_where_they_are_enabled() {
    let reply = Reply { chunks: Some(vec!["body".into()]), trailers: vec!["x-sum: 1".into()], ..Reply::default() };
    let origin = origin(vec![reply]);
    let enabled = "{http_protocol_options: {enable_trailers: true}}";
    let options = format!(
        ", typed_extension_protocol_options: {{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{'@type': \
         type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {enabled}}}}}"
    );
    let config = Http {
        clusters: vec![cluster_with("a", &[origin.address()], &options)],
        manager: &["http_protocol_options: {enable_trailers: true}"],
        ..Http::default()
    };
    let running = Setup::new(&config.text()).start();
    let request = "POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-end: 2\r\n\r\n";
    let response = ask(&mut running.client(), request);
    assert_eq!(response.body.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    assert_eq!(origin.seen()[0].body.trailers, [("x-end".to_owned(), "2".to_owned())]);
}
