//! Clients that are slow, don't read, or go away.

use std::sync::atomic::{AtomicUsize, Ordering};

use nuncio_testkit::PATIENCE;
use nuncio_testkit::client::Client;
use nuncio_testkit::gate::Gates;
use nuncio_testkit::message::{End, text};
use nuncio_testkit::origin::{Action, Origin, Reply, Script};

use crate::support::*;

const MIB: usize = 1 << 20;

#[test]
fn a_client_that_sends_byte_by_byte() {
    let origin = origin(vec![]);
    let running = in_front_of(&origin);
    let mut client = running.client();
    let request = "POST /slow HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\na: b\r\n\r\n";
    for _ in 0..2 {
        for byte in request.as_bytes() {
            client.send(&[*byte]).unwrap();
        }
        assert_eq!(client.response(false).status(), 200);
    }
    for seen in origin.seen() {
        assert_eq!((text(&seen.body.data), seen.body.end), ("abcdefg".into(), End::Complete));
    }
    assert_eq!(origin.seen().len(), 2);
}

#[test]
fn a_client_that_never_ends_its_head() {
    let origin = origin(vec![]);
    let config = Http {
        clusters: vec![cluster("a", &[origin.address()])],
        manager: &["request_headers_timeout: 0.2s"],
        ..Http::default()
    };
    let running = Setup::new(&config.text()).start();
    let mut client = running.client();
    client.send(b"GET / HTTP/1.1\r\nhost: te").unwrap();
    let response = client.response(false);
    assert_eq!(response.status(), 408);
    assert_eq!(client.rest().end, End::Complete);
    assert_eq!(running.stat("http.front.downstream_rq_header_timeout"), 1);
    assert_eq!(running.get("/").status(), 200);
}

#[test]
fn a_client_that_never_ends_its_body() {
    let origin = origin(vec![]);
    let config = Http {
        clusters: vec![cluster("a", &[origin.address()])],
        manager: &["request_timeout: 0.2s"],
        ..Http::default()
    };
    let running = Setup::new(&config.text()).start();
    let mut client = running.client();
    client.send(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nabc").unwrap();
    assert_eq!(client.response(false).status(), 408);
    assert_eq!(running.stat("http.front.downstream_rq_timeout"), 1);
}

const CLIENTS: usize = 8;

/// Waits until the origin sends no more, which must be before it sent everything, and says how much the memory of the
/// proxy has grown.
fn grown_when_stuck(running: &Running, origin: &Origin, all: usize, before: u64) -> u64 {
    let (mut last, mut same) = (0, 0);
    let stuck = running.proxy.await_that(|_| {
        let now = origin.sent();
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
        same > 40
    });
    assert!(stuck && last < all as u64, "{last} of {all} bytes were taken");
    running.proxy.resident_bytes().unwrap().saturating_sub(before)
}

const LIMITED: &str = ", per_connection_buffer_limit_bytes: 65536";

#[test]
fn clients_that_never_read_a_response() {
    let origin = origin(vec![Reply { size: Some(32 * MIB), ..Reply::default() }]);
    let config = Http {
        clusters: vec![cluster_with("a", &[origin.address()], LIMITED)],
        listener: &["per_connection_buffer_limit_bytes: 65536"],
        ..Http::default()
    };
    let running = Setup::new(&config.text()).start();
    let before = running.proxy.resident_bytes().unwrap();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| running.client()).collect();
    for client in &mut clients {
        client.send(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    }
    let grown = grown_when_stuck(&running, &origin, CLIENTS * 32 * MIB, before);
    // Each side buffers up to the limit of 64 KiB and what one read may add.
    assert!(grown < 8 * MIB as u64, "{} KiB for {CLIENTS} connections", grown / 1024);
    assert!(running.stat("cluster.a.upstream_flow_control_paused_reading_total") >= CLIENTS as u64);
    // One who does read gets everything.
    let mut reader = running.client();
    reader.send(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    let response = reader.response(false);
    assert_eq!((response.body.data.len(), response.body.end), (32 * MIB, End::Complete));
}

#[test]
fn clients_that_never_read_a_connection() {
    let script = Script::Tcp { tcp: vec![Action::SendSize(32 * MIB), Action::Finish, Action::Drain] };
    let origin = Origin::start(script, Gates::default()).unwrap();
    let listener = String::from(
        "name: front, address: {socket_address: {address: 127.0.0.1, port_value: $front}}, \
         per_connection_buffer_limit_bytes: 65536, filter_chains: [{filters: [{name: t, typed_config: {'@type': \
         type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: a}}]}]",
    );
    let config = bootstrap(&[listener], &[cluster_with("a", &[origin.address()], LIMITED)], &[]);
    let running = Setup::new(&config).start();
    let before = running.proxy.resident_bytes().unwrap();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| running.client()).collect();
    let grown = grown_when_stuck(&running, &origin, CLIENTS * 32 * MIB, before);
    assert!(grown < 8 * MIB as u64, "{} KiB for {CLIENTS} connections", grown / 1024);
    let body = clients[0].rest();
    assert_eq!((body.data.len(), body.end), (32 * MIB, End::Complete));
}

/// The origin does not read what clients upload.
#[test]
fn an_origin_that_never_reads_a_request() {
    let gates = Gates::default();
    let script = Script::Tcp { tcp: vec![Action::Hold("read".into()), Action::Drain] };
    let origin = Origin::start(script, gates.clone()).unwrap();
    let config = Http {
        clusters: vec![cluster_with("a", &[origin.address()], LIMITED)],
        listener: &["per_connection_buffer_limit_bytes: 65536"],
        ..Http::default()
    };
    let running = Setup::new(&config.text()).start();
    let before = running.proxy.resident_bytes().unwrap();
    let mut client = running.client();
    client.send(format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", 256 * MIB).as_bytes()).unwrap();
    let sent = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        // It ends when the connection does.
        let writer = scope.spawn(|| {
            let block = vec![b'x'; 64 * 1024];
            while sent.load(Ordering::Acquire) < 256 * MIB && client.send(&block).is_ok() {
                sent.fetch_add(block.len(), Ordering::AcqRel);
            }
        });
        let (mut last, mut same) = (0, 0);
        let stuck = running.proxy.await_that(|_| {
            let now = sent.load(Ordering::Acquire);
            same = if now == last && now > 0 { same + 1 } else { 0 };
            last = now;
            same > 40
        });
        let grown = running.proxy.resident_bytes().unwrap().saturating_sub(before);
        let paused = running.stat("http.front.downstream_flow_control_paused_reading_total");
        gates.open("read");
        drop(running);
        writer.join().unwrap();
        assert!(stuck && last < 256 * MIB, "{last} bytes were taken that nobody read");
        assert!(grown < 8 * MIB as u64, "{} KiB for one connection", grown / 1024);
        assert!(paused >= 1, "it is not counted that the client was paused");
    });
}

const LOG: &str = "access_log: [{name: f, typed_config: {'@type': \
                   type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: $dir/access.log, \
                   log_format: {text_format_source: {inline_string: \"%RESPONSE_CODE% %RESPONSE_FLAGS%\\n\"}}}}]";

#[test]
fn a_client_that_leaves_within_its_request() {
    let origin = origin(vec![]);
    let config = Http { clusters: vec![cluster("a", &[origin.address()])], manager: &[LOG], ..Http::default() };
    let running = Setup::new(&config.text()).start();
    for reset in [false, true] {
        let mut client = running.client();
        client.send(b"POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\n\r\nabc").unwrap();
        running.await_stat("cluster.a.upstream_rq_active", |n| n == 1);
        if reset {
            client.reset().unwrap()
        } else {
            drop(client)
        }
        running.await_stat("cluster.a.upstream_rq_active", |n| n == 0);
    }
    running.await_stat("http.front.downstream_cx_destroy_remote_active_rq", |n| n == 2);
    await_file(&running, &running.setup.path("access.log"), |text| text == "0 DC\n0 DC\n");
    // The origin learns that the bodies did not come whole.
    assert!(origin.await_open(0, PATIENCE), "the connections to the origin stay open");
    for seen in origin.seen() {
        assert_ne!(seen.body.end, End::Complete);
    }
    assert_eq!(running.get("/").status(), 200);
}

/// The listener's log has a line for the connection, which tells why it ended.
#[test]
fn a_client_that_breaks_http2() {
    let origin = origin(vec![]);
    let manager = &["codec_type: HTTP2"][..];
    let clusters = vec![cluster("a", &[origin.address()])];
    let running = Setup::new(&Http { clusters, manager, listener: &[LOG], ..Http::default() }.text()).start();
    let mut client = running.client();
    client.send(b"this is no preface of HTTP/2\r\n\r\n").unwrap();
    let goaway = b"the connection does not begin with the preface of HTTP/2";
    assert!(client.rest().data.ends_with(goaway));
    await_file(&running, &running.setup.path("access.log"), |text| text == "0 DPE\n");
    running.await_stat("http.front.downstream_cx_protocol_error", |n| n == 1);
}

#[test]
fn a_client_that_leaves_while_it_waits() {
    let gates = Gates::default();
    let held = Reply { path: Some("/held".into()), hold: Some("go".into()), ..Reply::default() };
    let origin = Origin::start(Script::Http(vec![held]), gates.clone()).unwrap();
    let config = Http { clusters: vec![cluster("a", &[origin.address()])], manager: &[LOG], ..Http::default() };
    let running = Setup::new(&config.text()).start();
    let mut client = running.client();
    client.send(b"GET /held HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    assert!(origin.await_seen(1, PATIENCE));
    drop(client);
    running.await_stat("cluster.a.upstream_rq_active", |n| n == 0);
    running.await_stat("cluster.a.upstream_cx_active", |n| n == 0);
    await_file(&running, &running.setup.path("access.log"), |text| text == "0 DC\n");
    gates.open("go");
    assert_eq!(running.get("/").status(), 200);
}

#[test]
fn a_client_that_leaves_within_the_response() {
    let origin = origin(vec![Reply { path: Some("/big".into()), size: Some(32 * MIB), ..Reply::default() }]);
    let config = Http { clusters: vec![cluster("a", &[origin.address()])], manager: &[LOG], ..Http::default() };
    let running = Setup::new(&config.text()).start();
    let mut client = running.client();
    client.send(b"GET /big HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    assert_eq!(client.head().unwrap().status(), 200);
    client.reset().unwrap();
    running.await_stat("cluster.a.upstream_cx_active", |n| n == 0);
    await_file(&running, &running.setup.path("access.log"), |text| text == "200 DC\n");
    assert_eq!(running.get("/").status(), 200);
}

#[test]
fn heads_that_are_too_big() {
    let origin = origin(vec![]);
    let config = Http {
        clusters: vec![cluster("a", &[origin.address()])],
        manager: &["max_request_headers_kb: 8", "common_http_protocol_options: {max_headers_count: 20}"],
        ..Http::default()
    };
    let running = Setup::new(&config.text()).start();
    let check = |request: String| {
        let mut client = running.client();
        assert_eq!(ask(&mut client, &request).status(), 431);
        assert_ne!(client.rest().end, End::TimedOut);
    };
    check(format!("GET / HTTP/1.1\r\nhost: test\r\nx: {}\r\n\r\n", "a".repeat(10_000)));
    check(format!("GET / HTTP/1.1\r\nhost: test\r\n{}\r\n", "x: y\r\n".repeat(21)));
    check(format!("GET /{} HTTP/1.1\r\nhost: test\r\n\r\n", "a".repeat(10_000)));
    // Without an end.
    check(format!("GET / HTTP/1.1\r\nhost: test\r\nx: {}", "a".repeat(100_000)));
    assert_eq!(origin.seen(), []);
}

/// CVE-2024-45806 and CVE-2023-27487: headers by which a trusted proxy tells this one what to do, from a client that is none.
/// Over either version of HTTP none is believed, and none reaches the upstream as the client wrote it.
#[test]
fn cve_2024_45806_cve_2023_27487_headers_of_trusted_peers() {
    const BELIEVED: &[&str] = &[
        "x-envoy-internal",
        "x-envoy-external-address",
        "x-envoy-original-path",
        "x-envoy-original-host",
        "x-envoy-retry-on",
        "x-envoy-retry-grpc-on",
        "x-envoy-max-retries",
        "x-envoy-upstream-alt-stat-name",
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-upstream-rq-per-try-timeout-ms",
        "x-envoy-upstream-rq-timeout-alt-response",
        "x-envoy-expected-rq-timeout-ms",
        "x-envoy-force-trace",
        "x-envoy-ip-tags",
        "x-envoy-decorator-operation",
        "x-envoy-downstream-service-cluster",
        "x-envoy-downstream-service-node",
        "x-envoy-hedge-on-per-try-timeout",
        "x-forwarded-client-cert",
    ];
    let origin = origin(vec![]);
    let manager = &[
        "codec_type: AUTO",
        "use_remote_address: true",
        "internal_address_config: {cidr_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]}",
    ][..];
    let http = Http { clusters: vec![cluster("a", &[origin.address()])], manager, ..Http::default() };
    let running = Setup::new(&http.text()).start();
    let lines: String = BELIEVED.iter().map(|name| format!("{name}: 1\r\n")).collect();
    let request =
        format!("GET / HTTP/1.1\r\nhost: h\r\nx-forwarded-for: 10.1.1.1\r\nx-forwarded-proto: https\r\n{lines}\r\n");
    assert_eq!(ask(&mut running.client(), &request).status(), 200);
    let mut fields: Vec<(&str, &str)> = BELIEVED.iter().map(|name| (*name, "1")).collect();
    fields.extend([("x-forwarded-for", "10.1.1.1"), ("x-forwarded-proto", "https")]);
    let client = nuncio_testkit::h2_raw::RawH2::connect(running.setup.address("front")).unwrap();
    client.get(1, "/", &fields).unwrap();
    assert!(client.await_that(|account| account.status(1) == Some(200)), "{:?}", client.account());
    let seen = origin.seen();
    assert_eq!(seen.len(), 2);
    for seen in seen {
        let passed: Vec<_> = BELIEVED.iter().filter(|name| seen.head.get(name) == Some("1")).collect();
        assert!(passed.is_empty(), "{passed:?}");
        assert_eq!(seen.head.get("x-forwarded-proto"), Some("http"));
        // The address that the connection came from is the last, and the one that counts.
        let forwarded = seen.head.get("x-forwarded-for").unwrap();
        assert!(forwarded.starts_with("10.1.1.1,") && forwarded.len() > 9, "{forwarded}");
        assert_eq!(seen.head.get("x-envoy-external-address"), Some("127.0.0.1"));
    }
}
