//! HTTP/2 clients that mean harm: each attack that has a name is one test. What must hold of every one: memory and the work
//! for upstreams stay bounded, the connection ends as it should, and others are served meanwhile.

mod heads;
mod lifetime;
mod mangled;
mod shared;
mod timeouts;
mod translation;
mod upstreams;

use std::time::Duration;

use nuncio_testkit::h2_raw::{RawH2, code, flag, frame, hpack, kind, reset, settings, window_update};
use nuncio_testkit::origin::{Origin, Reply};

use crate::support::*;

/// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2).
const INITIAL_WINDOW: u16 = 4;

const MIB: u64 = 1 << 20;

/// A proxy for HTTP/2 in front of an origin.
struct Target {
    running: Running,
    origin: Origin,
    /// Memory in use before the attack.
    before: u64,
}

impl Target {
    fn new(replies: Vec<Reply>) -> Self {
        Self::with(replies, &[])
    }

    fn with(replies: Vec<Reply>, manager: &[&str]) -> Self {
        let origin = origin(replies);
        let routes = "[{match: {path: /direct}, direct_response: {status: 200, body: {inline_string: fine}}}, \
                      {match: {prefix: /}, route: {cluster: a}}]";
        let manager = [&["codec_type: HTTP2"], manager].concat();
        let http =
            Http { routes, clusters: vec![cluster("a", &[origin.address()])], manager: &manager, ..Http::default() };
        let running = Setup::new(&http.text()).start();
        let mut target = Self { running, origin, before: 0 };
        // What the first requests take is no growth.
        target.serves_others();
        target.before = target.memory();
        target
    }

    fn memory(&self) -> u64 {
        self.running.proxy.resident_bytes().unwrap()
    }

    fn connect(&self) -> RawH2 {
        RawH2::connect(self.running.setup.address("front")).unwrap()
    }

    fn connect_with(&self, first: &[u8]) -> RawH2 {
        RawH2::connect_with(self.running.setup.address("front"), first).unwrap()
    }

    fn deaf(&self) -> RawH2 {
        RawH2::deaf(self.running.setup.address("front"), &settings(&[])).unwrap()
    }

    /// Another client gets its answer, and asks for no more of the origin than one request.
    fn serves_others(&self) {
        let other = self.connect();
        other.get(1, "/direct", &[]).unwrap();
        if !other.await_that(|account| account.status(1) == Some(200)) {
            self.running.fail(&format!("another client is not served: {:?}", other.account()));
        }
    }

    /// The connection ends. Where the client is told why, it is with one of these codes; Envoy tells it nothing.
    fn ends(&self, client: &RawH2, codes: &[u32]) {
        if !client.await_closed() {
            self.running.fail(&format!("the connection stays open: {:?}", client.account()));
        }
        let account = client.account();
        let code = account.goaway_code();
        assert!(code.is_none_or(|code| codes.contains(&code)), "GOAWAY with {code:?}, not {codes:?}");
    }

    /// Memory did not grow by more than this, and others are served.
    fn holds(&self, most: u64) {
        self.serves_others();
        let grown = self.memory().saturating_sub(self.before);
        assert!(grown <= most, "memory grew by {} KiB, more than {} KiB", grown / 1024, most / 1024);
    }
}

/// The headers of a GET that ends with them.
fn get_frame(stream: u32, path: &str) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &hpack::request("GET", path, &[]))
}

/// The headers of a POST whose body follows.
fn post_frame(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS, stream, &hpack::request("POST", "/", more))
}

/// The numbers of so many streams of a client.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 2 * number + 1)
}

/// Sends pieces until the peer takes no more, or has said that it will not; how many bytes it took until then.
fn send_until_refused(client: &RawH2, piece: &[u8], most: u64) -> u64 {
    let mut sent = 0;
    while sent < most && client.account().goaway.is_none() && client.send(piece).is_ok() {
        sent += piece.len() as u64;
    }
    sent
}

#[test]
fn cve_2023_44487_rapid_reset() {
    let target = Target::new(vec![Reply { hold: Some("never".into()), ..Reply::default() }]);
    let client = target.connect();
    let mut all = Vec::new();
    for stream in streams(50_000) {
        all.extend(get_frame(stream, "/"));
        all.extend(reset(stream, code::CANCEL));
    }
    // The proxy may close before it has taken all.
    let _ = client.send(&all);
    target.ends(&client, &[code::ENHANCE_YOUR_CALM]);
    target.holds(16 * MIB);
    let seen = target.origin.seen().len();
    assert!(seen < 2000, "the origin saw {seen} requests");
}

#[test]
fn cve_2023_44487_rapid_reset_in_small_portions() {
    let target = Target::new(vec![Reply { hold: Some("never".into()), ..Reply::default() }]);
    let client = target.connect();
    // Few enough at a time that each portion is read and forwarded before the next comes.
    for portion in 0..5_000_u32 {
        let mut bytes = Vec::new();
        for stream in streams(10).map(|stream| portion * 20 + stream) {
            bytes.extend(get_frame(stream, "/"));
            bytes.extend(reset(stream, code::CANCEL));
        }
        bytes.extend(frame(kind::PING, 0, 0, b"portion!"));
        if client.send(&bytes).is_err()
            || !client.await_that(|account| account.closed || account.frames[6] > u64::from(portion))
        {
            break;
        }
    }
    target.ends(&client, &[code::ENHANCE_YOUR_CALM, code::NO_ERROR]);
    target.holds(16 * MIB);
    let seen = target.origin.connections();
    assert!(seen < 2000, "the origin saw {seen} connections");
}

#[test]
fn cve_2025_8671_made_you_reset() {
    for (what, provoke) in [
        ("a window update of nothing", (|stream| window_update(stream, 0)) as fn(u32) -> Vec<u8>),
        ("a window that overflows", |stream| window_update(stream, 0x7fff_ffff)),
        ("data after the end", |stream| frame(kind::DATA, 0, stream, b"x")),
        ("headers after the end", |stream| {
            frame(kind::HEADERS, flag::END_HEADERS, stream, &hpack::block(&[("x", "y")]))
        }),
        ("a stream that depends on itself", |stream| {
            frame(kind::PRIORITY, 0, stream, &[stream.to_be_bytes().as_slice(), &[1]].concat())
        }),
    ] {
        let target = Target::new(vec![Reply { hold: Some("never".into()), ..Reply::default() }]);
        let client = target.connect();
        let mut all = Vec::new();
        for stream in streams(20_000) {
            all.extend(get_frame(stream, "/"));
            all.extend(provoke(stream));
        }
        let _ = client.send(&all);
        if !client.await_closed() {
            target.running.fail(&format!("{what}: the connection stays open: {:?}", client.account()));
        }
        target.holds(24 * MIB);
        let seen = target.origin.connections();
        assert!(seen < 2000, "{what}: the origin saw {seen} connections");
    }
}

#[test]
fn cve_2024_27919_continuation_without_end_headers() {
    let target = Target::new(vec![]);
    let client = target.connect();
    let mut block = Vec::new();
    while block.len() < 16_000 {
        hpack::literal(&mut block, b"x-filler", &[b'a'; 1000]);
    }
    let mut first = hpack::request("GET", "/", &[]);
    first.extend(&block);
    first.truncate(16_000);
    client.send(&frame(kind::HEADERS, flag::END_STREAM, 1, &first)).unwrap();
    let sent = send_until_refused(&client, &frame(kind::CONTINUATION, 0, 1, &block[..16_000]), 64 * MIB);
    assert!(sent < 16 * MIB, "the proxy took {} KiB of one header block", sent / 1024);
    target.ends(&client, &[code::ENHANCE_YOUR_CALM, code::PROTOCOL_ERROR, code::COMPRESSION_ERROR]);
    target.holds(8 * MIB);
    assert_eq!(target.origin.seen().len(), 0);
}

#[test]
fn cve_2024_27919_empty_continuations() {
    let target = Target::new(vec![]);
    let client = target.connect();
    client.send(&frame(kind::HEADERS, flag::END_STREAM, 1, &hpack::request("GET", "/", &[]))).unwrap();
    let empty = frame(kind::CONTINUATION, 0, 1, &[]).repeat(1000);
    let sent = send_until_refused(&client, &empty, 64 * MIB);
    assert!(sent < 16 * MIB, "the proxy took {} KiB of empty frames", sent / 1024);
    target.ends(&client, &[code::ENHANCE_YOUR_CALM, code::PROTOCOL_ERROR]);
    target.holds(8 * MIB);
}

#[test]
fn cve_2024_30255_continuation_with_end_headers() {
    let target = Target::new(vec![]);
    let client = target.connect();
    let mut large = hpack::request("GET", "/", &[]);
    while large.len() < 200_000 {
        hpack::literal(&mut large, b"x-filler", &[b'a'; 4000]);
    }
    let pieces: Vec<&[u8]> = large.chunks(16_000).collect();
    for stream in streams(500) {
        let mut bytes = frame(kind::HEADERS, flag::END_STREAM, stream, pieces[0]);
        for piece in &pieces[1..pieces.len() - 1] {
            bytes.extend(frame(kind::CONTINUATION, 0, stream, piece));
        }
        bytes.extend(frame(kind::CONTINUATION, flag::END_HEADERS, stream, pieces[pieces.len() - 1]));
        if client.send(&bytes).is_err() {
            break;
        }
    }
    target.holds(16 * MIB);
    assert_eq!(target.origin.seen().len(), 0);
}

/// CVE-2026-47774 and, in another server, CVE-2026-49975: a field of the table costs a byte and is worth thousands.
#[test]
fn cve_2026_47774_cve_2026_49975_hpack_bomb_of_cookie_crumbs() {
    let target = Target::new(vec![]);
    // A window of nothing keeps what is answered, and with it the streams.
    let client = target.connect_with(&settings(&[(INITIAL_WINDOW, 0)]));
    let mut bytes = 0;
    for stream in streams(100) {
        let mut block = hpack::request("GET", "/", &[]);
        if stream == 1 {
            hpack::indexing(&mut block, b"cookie", &[b'c'; 4000]);
        }
        for _ in 0..16_000 - block.len().min(16_000) {
            hpack::indexed(&mut block, 62);
        }
        let sent = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &block);
        bytes += sent.len() as u64;
        if client.send(&sent).is_err() {
            break;
        }
    }
    target.holds(2 * bytes + 4 * MIB);
    assert_eq!(target.origin.seen().len(), 0);
}

#[test]
fn cve_2026_47774_cookie_crumbs_within_the_limit() {
    // As many streams as there may be, each with as many cookies as there may be, that wait for an upstream.
    let target = Target::new(vec![Reply { hold: Some("never".into()), ..Reply::default() }]);
    let client = target.connect_with(&settings(&[(INITIAL_WINDOW, 0)]));
    let mut bytes = 0;
    for stream in streams(500) {
        let mut block = hpack::request("GET", "/", &[]);
        if stream == 1 {
            hpack::indexing(&mut block, b"cookie", &[b'c'; 4000]);
        }
        for _ in 0..13 {
            hpack::indexed(&mut block, 62);
        }
        let sent = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &block);
        bytes += sent.len() as u64;
        if client.send(&sent).is_err() {
            break;
        }
    }
    // Beyond what may be held the streams are refused; those that were let in go on.
    assert!(client.await_that(|account| account.closed || account.reset(999) == Some(code::REFUSED_STREAM)));
    assert!(target.origin.await_seen(20, nuncio_testkit::PATIENCE), "{:?}", client.account());
    target.holds(2 * bytes + 16 * MIB);
}

#[test]
fn cve_2019_9512_ping_flood() {
    let target = Target::new(vec![]);
    let client = target.deaf();
    let sent = send_until_refused(&client, &frame(kind::PING, 0, 0, b"flooding").repeat(1000), 256 * MIB);
    assert!(sent < 64 * MIB, "the proxy took {} KiB of PINGs whose answers nobody reads", sent / 1024);
    target.holds(8 * MIB);
}

#[test]
fn cve_2019_9515_settings_flood() {
    let target = Target::new(vec![]);
    let client = target.deaf();
    let sent = send_until_refused(&client, &settings(&[(INITIAL_WINDOW, 65_535)]).repeat(1000), 256 * MIB);
    assert!(sent < 64 * MIB, "the proxy took {} KiB of SETTINGS whose answers nobody reads", sent / 1024);
    target.holds(8 * MIB);
}

#[test]
fn priority_flood() {
    let target = Target::new(vec![]);
    let client = target.connect();
    let mut all = Vec::new();
    for number in 0..50_000_u32 {
        all.extend(frame(kind::PRIORITY, 0, 2 * (number % 1000) + 1, &[0, 0, 0, 0, 15]));
    }
    let _ = client.send(&all);
    target.ends(&client, &[code::ENHANCE_YOUR_CALM]);
    target.holds(8 * MIB);
}

#[test]
fn window_update_flood() {
    let target = Target::new(vec![]);
    let client = target.connect();
    let _ = client.send(&window_update(0, 1).repeat(100_000));
    target.ends(&client, &[code::ENHANCE_YOUR_CALM]);
    target.holds(8 * MIB);
}

#[test]
fn cve_2019_9518_empty_data_flood() {
    let target = Target::new(vec![]);
    let client = target.connect();
    client.send(&post_frame(1, &[])).unwrap();
    let _ = client.send(&frame(kind::DATA, 0, 1, &[]).repeat(100_000));
    target.ends(&client, &[code::ENHANCE_YOUR_CALM]);
    target.holds(8 * MIB);
}

#[test]
fn cve_2019_9518_empty_padded_data_flood() {
    let target = Target::new(vec![]);
    let client = target.connect();
    client.send(&post_frame(1, &[])).unwrap();
    let padded = frame(kind::DATA, flag::PADDED, 1, &[0]);
    let sent = send_until_refused(&client, &padded.repeat(1000), 16 * MIB);
    assert!(sent < 8 * MIB, "the proxy took {} KiB of padding", sent / 1024);
    target.holds(8 * MIB);
}

#[test]
fn cve_2019_9516_headers_without_names() {
    let target = Target::new(vec![]);
    let client = target.connect();
    let mut block = hpack::request("GET", "/", &[]);
    for _ in 0..5000 {
        hpack::literal(&mut block, b"", b"");
    }
    for stream in streams(200) {
        if client.send(&frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &block)).is_err() {
            break;
        }
    }
    target.holds(8 * MIB);
    assert_eq!(target.origin.seen().len(), 0);
}

#[test]
fn cve_2019_9517_stalled_by_windows_of_nothing() {
    let replies = vec![Reply { size: Some(1 << 20), ..Reply::default() }];
    let target = Target::with(replies, &["stream_idle_timeout: 2s"]);
    let client = target.connect_with(&settings(&[(INITIAL_WINDOW, 0)]));
    for stream in streams(200) {
        client.send(&get_frame(stream, "/")).unwrap();
    }
    assert!(client.await_that(|account| account.frames[1] >= 200), "{:?}", client.account());
    // A buffer of `per_connection_buffer_limit_bytes` (1 MiB) for each.
    target.holds(200 * MIB);
    // Streams that nobody reads end.
    assert!(client.await_that(|account| account.closed || account.frames[3] >= 200), "{:?}", client.account());
    drop(client);
    target.running.await_stat("cluster.a.upstream_rq_active", |active| active == 0);
}

#[test]
fn cve_2020_12604_a_slow_window() {
    let replies = vec![Reply { size: Some(1 << 20), ..Reply::default() }];
    let target =
        Target::with(replies, &["request_timeout: 60s", "common_http_protocol_options: {max_stream_duration: 2s}"]);
    let client = target.connect_with(&settings(&[(INITIAL_WINDOW, 1)]));
    for stream in streams(100) {
        client.send(&get_frame(stream, "/")).unwrap();
    }
    // A byte now and then keeps a stream from being idle; its duration is limited all the same.
    for _ in 0..50 {
        for stream in streams(100) {
            let _ = client.send(&window_update(stream, 1));
        }
        client.await_within(Duration::from_millis(10), |account| account.closed);
    }
    assert!(client.await_that(|account| account.closed || account.frames[3] >= 100), "{:?}", client.account());
    target.holds(128 * MIB);
}

/// envoy#45077: floods that are counted over the life of a connection pass unseen on one that has carried many streams.
#[test]
fn envoy_45077_a_million_streams_on_one_connection() {
    open_and_close(1_000_000);
}

fn open_and_close(streams_in_all: u32) {
    let target = Target::new(vec![]);
    let client = target.connect();
    let each = 100;
    let rounds = streams_in_all / each;
    for round in 0..rounds {
        let mut bytes = Vec::new();
        for stream in streams(each).map(|stream| round * each * 2 + stream) {
            bytes.extend(get_frame(stream, "/direct"));
        }
        client.send(&bytes).unwrap();
        let wanted = u64::from((round + 1) * each);
        if !client.await_that(|account| account.closed || account.ended >= wanted) || client.account().closed {
            target.running.fail(&format!("round {round}: {:?}", client.account()));
        }
        // The client gives the window of the connection back.
        client.send(&window_update(0, each * 4)).unwrap();
    }
    target.holds(8 * MIB);
    // What the streams before allowed does not add up.
    let mut all = Vec::new();
    for number in 0..200_000_u32 {
        all.extend(frame(kind::PRIORITY, 0, 2 * (number % 1000) + 1, &[0, 0, 0, 0, 15]));
    }
    let _ = client.send(&all);
    target.ends(&client, &[code::ENHANCE_YOUR_CALM]);
}

#[test]
fn cve_2026_73550_many_hosts() {
    let target = Target::new(vec![]);
    let client = target.connect();
    let mut block = hpack::request("GET", "/", &[]);
    for number in 0..500 {
        hpack::literal(&mut block, b"host", format!("h{number}.test").as_bytes());
    }
    for stream in streams(2000) {
        if client.send(&frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &block)).is_err() {
            break;
        }
    }
    target.holds(8 * MIB);
    assert_eq!(target.origin.seen().len(), 0);
    // And two that differ.
    let client = target.connect();
    client.get(1, "/", &[("host", "other.test")]).unwrap();
    client.get(3, "/", &[("host", "a.test"), ("host", "b.test")]).unwrap();
    client.send(&frame(kind::PING, 0, 0, b"complete")).unwrap();
    client.await_that(|account| account.frames[6] > 0 || account.closed);
    for seen in target.origin.seen() {
        let hosts: Vec<_> = seen.head.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host")).collect();
        assert_eq!(hosts.len(), 1, "{hosts:?}");
    }
}

#[test]
fn huge_trailers() {
    let target = Target::new(vec![]);
    let client = target.connect();
    let mut trailers = Vec::new();
    while trailers.len() < 200_000 {
        hpack::literal(&mut trailers, b"x-filler", &[b'a'; 4000]);
    }
    let pieces: Vec<&[u8]> = trailers.chunks(16_000).collect();
    let mut bytes = [post_frame(1, &[]), frame(kind::DATA, 0, 1, b"x")].concat();
    bytes.extend(frame(kind::HEADERS, flag::END_STREAM, 1, pieces[0]));
    for piece in &pieces[1..pieces.len() - 1] {
        bytes.extend(frame(kind::CONTINUATION, 0, 1, piece));
    }
    bytes.extend(frame(kind::CONTINUATION, flag::END_HEADERS, 1, pieces[pieces.len() - 1]));
    let _ = client.send(&bytes);
    assert!(client.await_that(|account| account.closed || account.ended > 0 || !account.resets.is_empty()));
    assert_ne!(client.account().status(1), Some(200));
    target.holds(8 * MIB);
}

#[test]
fn cve_2023_35945_resets_after_goaway() {
    let target = Target::new(vec![Reply { hold: Some("never".into()), ..Reply::default() }]);
    let client = target.connect();
    let mut all = Vec::new();
    for stream in streams(80) {
        all.extend(get_frame(stream, "/"));
    }
    client.send(&all).unwrap();
    assert!(target.origin.await_seen(80, nuncio_testkit::PATIENCE));
    let mut all = frame(kind::GOAWAY, 0, 0, &[0; 8]);
    for stream in streams(80) {
        all.extend(reset(stream, code::CANCEL));
    }
    client.send(&all).unwrap();
    target.running.await_stat("cluster.a.upstream_rq_active", |active| active == 0);
    target.running.await_stat("http.front.downstream_rq_active", |active| active == 0);
    target.holds(8 * MIB);
}
