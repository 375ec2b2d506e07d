//! HTTP/2 upstreams that mean harm: whatever they send, memory stays bounded, requests for others are served, and the
//! client gets an answer or learns that there is none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nuncio_testkit::client::Client;
use nuncio_testkit::h2_raw::RawServer;
use nuncio_testkit::message::End;

use super::*;

const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Fields of a cluster that speaks HTTP/2, with such options of any version, and of HTTP/2.
pub(super) fn http2(common: &str, options: &str) -> String {
    format!(
        ", typed_extension_protocol_options: {{{OPTIONS}: {{'@type': type.googleapis.com/{OPTIONS}, \
         common_http_protocol_options: {{{common}}}, explicit_http_config: {{http2_protocol_options: {{{options}}}}}}}}}"
    )
}

/// A proxy in front of a raw HTTP/2 server, and of an honest origin.
pub(super) struct Attacked {
    pub(super) target: Target,
    pub(super) server: RawServer,
}

impl Attacked {
    pub(super) fn new(server: RawServer) -> Self {
        Self::with(server, "", "")
    }

    /// With `common_http_protocol_options` and `http2_protocol_options` of the cluster.
    pub(super) fn with(server: RawServer, common: &str, options: &str) -> Self {
        let origin = origin(vec![]);
        let routes = "[{match: {path: /direct}, direct_response: {status: 200, body: {inline_string: fine}}}, \
                      {match: {path: /other}, route: {cluster: b}}, {match: {prefix: /}, route: {cluster: a}}]";
        let bad = cluster_with("a", &[server.address()], &http2(common, options));
        let clusters = vec![bad, cluster("b", &[origin.address()])];
        let manager = &["codec_type: AUTO", "stream_idle_timeout: 60s"][..];
        let running = Setup::new(&Http { routes, clusters, manager, ..Http::default() }.text()).start();
        let mut target = Target { running, origin, before: 0 };
        target.serves_others();
        target.before = target.memory();
        Self { target, server }
    }

    fn start() -> Self {
        Self::new(RawServer::start(settings(&[]), |_| Vec::new()).unwrap())
    }

    /// A client that has asked, and the upstream connection that its request came over.
    pub(super) fn asked(&self) -> (Client, RawH2) {
        let mut client = self.target.running.client();
        client.send(b"GET / HTTP/1.1\r\nhost: h.test\r\n\r\n").unwrap();
        let upstream = self.server.accept().unwrap();
        assert!(upstream.await_that(|account| account.headed == [1]), "{:?}", upstream.account());
        (client, upstream)
    }

    /// After an attack: the upstream's connection has ended and the client is told so, or its answer still comes.
    fn settles(&self, what: &str, client: &mut Client, upstream: &RawH2) {
        if !upstream.account().closed {
            // The proxy may end it meanwhile.
            let _ = upstream.send(&answer_frame(1, true));
        }
        let response = client.response(false);
        if !matches!(response.status(), 200 | 502 | 503) || response.body.end == End::TimedOut {
            self.target.running.fail(&format!("{what}: {response:?}, {:?}", upstream.account()));
        }
        self.holds(8 * MIB);
    }

    /// Memory did not grow by more than this, and other upstreams are there.
    pub(super) fn holds(&self, most: u64) {
        self.target.holds(most);
        assert_eq!(self.target.running.get("/other").status(), 200);
    }
}

/// The head of a 200.
pub(super) fn answer_frame(stream: u32, ends: bool) -> Vec<u8> {
    let flags = flag::END_HEADERS | if ends { flag::END_STREAM } else { 0 };
    frame(kind::HEADERS, flags, stream, &[0x88])
}

/// Sends pieces until the proxy closes or takes no more; how many bytes it took.
fn flood(upstream: &RawH2, piece: &[u8], most: u64) -> u64 {
    let mut sent = 0;
    while sent < most && !upstream.account().closed && upstream.send(piece).is_ok() {
        sent += piece.len() as u64;
    }
    sent
}

fn interim(more: &[(&str, &str)]) -> Vec<u8> {
    let block = [hpack::block(&[(":status", "103")]), hpack::block(more)].concat();
    frame(kind::HEADERS, flag::END_HEADERS, 1, &block)
}

#[test]
fn informational_responses_without_end() {
    let attacked = Attacked::start();
    for (what, piece) in
        [("empty", interim(&[]).repeat(1000)), ("full", interim(&[("link", &"x".repeat(8000))]).repeat(10))]
    {
        let (mut client, upstream) = attacked.asked();
        flood(&upstream, &piece, 8 * MIB);
        attacked.settles(what, &mut client, &upstream);
    }
}

#[test]
fn cve_2019_9512_pings_of_an_upstream() {
    let attacked = Attacked::start();
    let (mut client, upstream) = attacked.asked();
    flood(&upstream, &frame(kind::PING, 0, 0, b"flooding").repeat(1000), 8 * MIB);
    attacked.settles("pings", &mut client, &upstream);
}

#[test]
fn cve_2019_9515_settings_of_an_upstream() {
    let attacked = Attacked::start();
    for (what, piece) in [
        ("the same", settings(&[(INITIAL_WINDOW, 65_535)]).repeat(1000)),
        ("empty", settings(&[]).repeat(1000)),
        // A table for what the proxy compresses: 4 GiB.
        ("tables", settings(&[(1, u32::MAX), (1, 0), (1, u32::MAX)]).repeat(300)),
        ("unknown", settings(&(0xff00..0xff80).map(|id| (id, 1)).collect::<Vec<_>>()).repeat(20)),
    ] {
        let (mut client, upstream) = attacked.asked();
        flood(&upstream, &piece, 8 * MIB);
        attacked.settles(what, &mut client, &upstream);
    }
}

#[test]
fn answers_that_an_upstream_never_reads() {
    for (what, piece) in [
        ("pings", frame(kind::PING, 0, 0, b"flooding").repeat(1000)),
        ("settings", settings(&[(INITIAL_WINDOW, 65_535)]).repeat(1000)),
    ] {
        let attacked = Attacked::new(RawServer::deaf(settings(&[])).unwrap());
        let mut client = attacked.target.running.client();
        client.send(b"GET / HTTP/1.1\r\nhost: h.test\r\n\r\n").unwrap();
        let upstream = attacked.server.accept().unwrap();
        let sent = flood(&upstream, &piece, 256 * MIB);
        assert!(sent < 64 * MIB, "{what}: the proxy took {} KiB whose answers nobody reads", sent / 1024);
        attacked.holds(8 * MIB);
        drop(upstream);
        let status = client.response(false).status();
        assert!(matches!(status, 502 | 503), "{what}: {status}");
    }
}

#[test]
fn cve_2019_9518_empty_data_of_an_upstream() {
    let attacked = Attacked::start();
    for (what, data) in [("empty", frame(kind::DATA, 0, 1, &[])), ("padded", frame(kind::DATA, flag::PADDED, 1, &[0]))]
    {
        let (mut client, upstream) = attacked.asked();
        upstream.send(&answer_frame(1, false)).unwrap();
        flood(&upstream, &data.repeat(1000), 8 * MIB);
        // Whether it ends the connection or not, the client learns of the end.
        let _ = upstream.send(&frame(kind::DATA, flag::END_STREAM, 1, &[]));
        let response = client.response(false);
        assert!(matches!(response.status(), 200 | 502 | 503), "{what}: {response:?}");
        assert_ne!(response.body.end, End::TimedOut, "{what}: {response:?}");
        attacked.holds(8 * MIB);
    }
}

#[test]
fn cve_2024_27919_continuation_of_an_upstream() {
    let attacked = Attacked::start();
    let mut block = vec![0x88];
    while block.len() < 16_000 {
        hpack::literal(&mut block, b"x-filler", &[b'a'; 1000]);
    }
    block.truncate(16_000);
    for (what, piece) in [("full", block.clone()), ("empty", vec![])] {
        let (mut client, upstream) = attacked.asked();
        upstream.send(&frame(kind::HEADERS, 0, 1, &block)).unwrap();
        let sent = flood(&upstream, &frame(kind::CONTINUATION, 0, 1, &piece).repeat(16), 64 * MIB);
        assert!(sent < 16 * MIB, "{what}: the proxy took {} KiB of one header block", sent / 1024);
        attacked.settles(what, &mut client, &upstream);
    }
}

#[test]
fn cve_2024_30255_heads_of_an_upstream_that_are_too_large() {
    let attacked = Attacked::start();
    let (mut client, upstream) = attacked.asked();
    let mut large = vec![0x88];
    while large.len() < 200_000 {
        hpack::literal(&mut large, b"x-filler", &[b'a'; 4000]);
    }
    let _ = upstream.send(&in_pieces(0, 1, &large));
    let status = client.response(false).status();
    assert!(matches!(status, 502 | 503), "{status}");
    attacked.holds(8 * MIB);
}

/// A header block in HEADERS and CONTINUATION.
fn in_pieces(flags: u8, stream: u32, block: &[u8]) -> Vec<u8> {
    let pieces: Vec<&[u8]> = block.chunks(16_000).collect();
    let (last, before) = pieces.split_last().unwrap();
    let mut bytes = Vec::new();
    for (at, piece) in before.iter().enumerate() {
        let (kind, flags) = if at == 0 { (kind::HEADERS, flags) } else { (kind::CONTINUATION, 0) };
        bytes.extend(frame(kind, flags, stream, piece));
    }
    bytes.extend(frame(kind::CONTINUATION, flag::END_HEADERS, stream, last));
    bytes
}

#[test]
fn cve_2026_47774_hpack_bomb_of_an_upstream() {
    let attacked = Attacked::start();
    for name in [&b"set-cookie"[..], b"x-filler"] {
        let (mut client, upstream) = attacked.asked();
        let mut block = vec![0x88];
        hpack::indexing(&mut block, name, &[b'c'; 4000]);
        for _ in 0..15_000 - block.len() {
            hpack::indexed(&mut block, 62);
        }
        let _ = upstream.send(&frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block));
        let status = client.response(false).status();
        assert!(matches!(status, 502 | 503), "{status}");
        attacked.holds(8 * MIB);
    }
}

#[test]
fn pushes_that_nobody_asked_for() {
    let attacked = Attacked::start();
    let (mut client, upstream) = attacked.asked();
    let mut promise = 2_u32.to_be_bytes().to_vec();
    promise.extend(hpack::request("GET", "/pushed", &[]));
    let _ = upstream.send(&frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &promise).repeat(1000));
    assert!(upstream.await_closed(), "{:?}", upstream.account());
    attacked.settles("push", &mut client, &upstream);
}

/// CVE-2026-73513: trailers of an upstream that are too large or too many.
#[test]
fn cve_2026_73513_huge_trailers_of_an_upstream() {
    let attacked = Attacked::start();
    let mut large = Vec::new();
    while large.len() < 200_000 {
        hpack::literal(&mut large, b"x-filler", &[b'a'; 4000]);
    }
    let mut many = Vec::new();
    for number in 0..10_000 {
        hpack::literal(&mut many, format!("x{number}").as_bytes(), b"");
    }
    let mut bomb = Vec::new();
    hpack::indexing(&mut bomb, b"x-filler", &[b'a'; 4000]);
    for _ in 0..30_000 {
        hpack::indexed(&mut bomb, 62);
    }
    for (what, block) in [("large", large), ("many", many), ("bomb", bomb)] {
        let (mut client, upstream) = attacked.asked();
        let _ = upstream.send(&[answer_frame(1, false), frame(kind::DATA, 0, 1, b"body")].concat());
        let _ = upstream.send(&in_pieces(flag::END_STREAM, 1, &block));
        let response = client.response(false);
        assert!(matches!(response.status(), 200 | 502 | 503), "{what}: {response:?}");
        assert!(!matches!(response.body.end, End::TimedOut | End::Complete) || response.status() != 200, "{what}");
        attacked.holds(8 * MIB);
    }
}

#[test]
fn windows_that_overflow() {
    let attacked = Attacked::start();
    for (what, bytes) in [
        ("of the connection", window_update(0, 0x7fff_ffff).repeat(2)),
        ("of a stream", window_update(1, 0x7fff_ffff).repeat(2)),
        ("by settings", [window_update(1, 0x7fff_0000), settings(&[(INITIAL_WINDOW, 0x7fff_ffff)])].concat()),
        ("settings beyond", settings(&[(INITIAL_WINDOW, 0x8000_0000)])),
        ("of nothing", window_update(0, 0)),
        ("of nothing, of a stream", window_update(1, 0)),
        ("of an idle stream", window_update(101, 1)),
        ("flood", window_update(0, 1).repeat(100_000)),
    ] {
        let (mut client, upstream) = attacked.asked();
        let _ = upstream.send(&bytes);
        let _ = upstream.send(&frame(kind::PING, 0, 0, b"complete"));
        // The flood may pass: the upstream is one that the operator chose.
        upstream.await_that(|account| account.closed || account.frames[6] > 0 || account.reset(1).is_some());
        attacked.settles(what, &mut client, &upstream);
    }
}

#[test]
fn goaway_again_and_again() {
    let goaway = |last: u32, code: u32| frame(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat());
    let debug = frame(kind::GOAWAY, 0, 0, &[0x7f; 16_000]);
    // Requests that it did not take are sent again, and answered then.
    let answers = Arc::new(AtomicBool::new(false));
    for (what, bytes) in [
        ("the same", goaway(0x7fff_ffff, code::NO_ERROR).repeat(100_000)),
        ("down to the request", (1..1000).rev().flat_map(|last| goaway(2 * last - 1, code::NO_ERROR)).collect()),
        ("rising", (1..1000).flat_map(|last| goaway(2 * last - 1, code::NO_ERROR)).collect()),
        ("refused", goaway(0, code::NO_ERROR).repeat(1000)),
        ("in anger", goaway(0, code::ENHANCE_YOUR_CALM).repeat(1000)),
        ("with much to say", debug.repeat(100)),
    ] {
        answers.store(false, Ordering::Release);
        let asked = Arc::clone(&answers);
        let server = RawServer::start(settings(&[]), move |came| match came.kind {
            kind::HEADERS if asked.load(Ordering::Acquire) => answer_frame(came.stream, true),
            _ => Vec::new(),
        });
        let attacked = Attacked::new(server.unwrap());
        let (mut client, upstream) = attacked.asked();
        answers.store(true, Ordering::Release);
        let _ = upstream.send(&bytes);
        attacked.settles(what, &mut client, &upstream);
    }
}

#[test]
fn resets_of_an_upstream() {
    let attacked = Attacked::start();
    let (mut client, upstream) = attacked.asked();
    let _ = upstream.send(&reset(1, code::INTERNAL_ERROR).repeat(100_000));
    let status = client.response(false).status();
    assert!(matches!(status, 502 | 503), "{status}");
    attacked.holds(8 * MIB);
    // Of streams that there never were.
    let (mut client, upstream) = attacked.asked_again(upstream);
    let last = *upstream.account().headed.last().unwrap();
    let _ =
        upstream.send(&streams(1000).flat_map(|stream| reset(last + 2 + 2 * stream, code::CANCEL)).collect::<Vec<_>>());
    let _ = upstream.send(&answer_frame(last, true));
    let status = client.response(false).status();
    assert!(matches!(status, 200 | 502 | 503), "{status}");
    attacked.holds(8 * MIB);
}

impl Attacked {
    /// A further request, over the same connection or a new one.
    fn asked_again(&self, upstream: RawH2) -> (Client, RawH2) {
        let mut client = self.target.running.client();
        client.send(b"GET / HTTP/1.1\r\nhost: h.test\r\n\r\n").unwrap();
        if upstream.await_that(|account| account.closed || account.headed.len() > 1) && !upstream.account().closed {
            return (client, upstream);
        }
        let upstream = self.server.accept().unwrap();
        assert!(upstream.await_that(|account| account.headed == [1]), "{:?}", upstream.account());
        (client, upstream)
    }
}

/// Each request that comes is reset at once: no more work than the requests themselves, and no state that stays.
#[test]
fn an_upstream_that_resets_every_stream() {
    let server = RawServer::start(settings(&[]), |came| match came.kind {
        kind::HEADERS => reset(came.stream, code::CANCEL),
        _ => Vec::new(),
    });
    let attacked = Attacked::new(server.unwrap());
    let mut client = attacked.target.running.client();
    for _ in 0..3000 {
        let status = ask(&mut client, "GET / HTTP/1.1\r\nhost: h.test\r\n\r\n").status();
        assert!(matches!(status, 502 | 503), "{status}");
    }
    attacked.target.running.await_stat("cluster.a.upstream_rq_active", |active| active == 0);
    attacked.holds(8 * MIB);
}

/// An upstream that takes nothing: uploads stop, and what is kept of them is what the limits allow.
#[test]
fn an_upstream_that_never_reads() {
    let attacked = Attacked::new(RawServer::deaf(settings(&[(INITIAL_WINDOW, 0x7fff_ffff)])).unwrap());
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = attacked.target.running.client();
        client.send(b"POST / HTTP/1.1\r\nhost: h.test\r\ncontent-length: 100000000\r\n\r\n").unwrap();
        clients.push(client);
    }
    let upstream = attacked.server.accept().unwrap();
    std::thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(move || {
                // Until nothing is taken any more: a write that waits ends in an error.
                let piece = vec![b'x'; 1 << 20];
                while client.send(&piece).is_ok() {}
            });
        }
    });
    // `per_connection_buffer_limit_bytes` (1 MiB) twice for each.
    attacked.holds(20 * 3 * MIB);
    drop(upstream);
    attacked.target.running.await_stat("http.front.downstream_rq_active", |active| active == 0);
}
