//! Request heads that are held, over many connections: what they cost is a multiple of what was received for them.

use std::net::TcpListener;

use super::*;

/// A proxy whose requests go to an upstream that takes connections and answers nothing.
fn silent() -> (Target, TcpListener) {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = origin(vec![]);
    let routes = "[{match: {path: /direct}, direct_response: {status: 200, body: {inline_string: fine}}}, \
                  {match: {prefix: /}, route: {cluster: a}}]";
    let clusters = vec![cluster("a", &[upstream.local_addr().unwrap()])];
    let http = Http { routes, clusters, manager: &["codec_type: HTTP2"], ..Http::default() };
    let running = Setup::new(&http.text()).start();
    let mut target = Target { running, origin, before: 0 };
    target.serves_others();
    target.before = target.memory();
    (target, upstream)
}

/// Opens POSTs on each of so many connections, each with so many references to one field. Memory may grow to three times
/// what was sent, and by what a connection may hold in any case.
fn hold(connections: u64, value: &[u8], references: usize) {
    let (target, _upstream) = silent();
    let mut clients = Vec::new();
    let mut sent = 0;
    for _ in 0..connections {
        let client = target.connect();
        let mut block = hpack::request("POST", "/x", &[]);
        hpack::indexing(&mut block, b"cookie", value);
        let mut bytes = frame(kind::HEADERS, flag::END_HEADERS, 1, &block);
        let mut block = hpack::request("POST", "/x", &[]);
        for _ in 0..references {
            hpack::indexed(&mut block, 62);
        }
        for stream in streams(150).skip(1) {
            bytes.extend(frame(kind::HEADERS, flag::END_HEADERS, stream, &block));
        }
        bytes.extend(frame(kind::PING, 0, 0, b"complete"));
        sent += bytes.len() as u64;
        let _ = client.send(&bytes);
        assert!(client.await_that(|account| account.closed || account.frames[6] > 0), "{:?}", client.account());
        clients.push(client);
    }
    // A fixed part: the streams that were let in, and what a connection may hold however little it sent.
    target.holds(3 * sent + connections * MIB * 3 + 16 * MIB);
    drop(clients);
    target.running.await_stat("http.front.downstream_cx_active", |active| active == 0);
}

/// Empty crumbs: each is a byte on the wire.
#[test]
fn cve_2026_47774_empty_crumbs_over_many_connections() {
    hold(10, b"", 1600);
}

/// Few references to a large one.
#[test]
fn cve_2026_47774_large_crumbs_over_many_connections() {
    hold(50, &[b'v'; 3900], 14);
}
