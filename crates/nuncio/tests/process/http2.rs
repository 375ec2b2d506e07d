//! HTTP/2 between peers that mean well, on both sides of the proxy: fields, bodies and trailers come through whole, whatever
//! the settings of the peers are.

use std::net::SocketAddr;

use nuncio_testkit::PATIENCE;
use nuncio_testkit::client::Response;
use nuncio_testkit::gate::Gates;
use nuncio_testkit::h2_client::{H2Client, H2Request};
use nuncio_testkit::h2_raw::{self, RawH2, RawServer, code, flag, frame, kind, window_update};
use nuncio_testkit::message::End;
use nuncio_testkit::origin::{Http2Settings, Origin, Reply, Script};
use nuncio_testkit::process::Signal;

use crate::support::*;

const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

fn start(settings: Http2Settings, replies: Vec<Reply>) -> (Origin, Running) {
    start_with(settings, replies, "")
}

/// With `http2_protocol_options` of the cluster.
fn start_with(settings: Http2Settings, replies: Vec<Reply>, options: &str) -> (Origin, Running) {
    let origin = Origin::start(Script::Http2 { http2: settings, replies }, Gates::default()).unwrap();
    let running = in_front_of_http2(origin.address(), options);
    (origin, running)
}

fn in_front_of_http2(address: SocketAddr, options: &str) -> Running {
    let http2 = format!(
        ", typed_extension_protocol_options: {{{OPTIONS}: {{'@type': type.googleapis.com/{OPTIONS}, \
         explicit_http_config: {{http2_protocol_options: {{{options}}}}}}}}}"
    );
    let clusters = vec![cluster_with("a", &[address], &http2)];
    Setup::new(&Http { clusters, ..Http::default() }.text()).start()
}

fn connect(running: &Running, settings: Http2Settings) -> H2Client {
    H2Client::connect_with(running.setup.address("front"), settings).unwrap()
}

fn request(method: &str, path: &str) -> H2Request {
    H2Request {
        method: method.to_owned(),
        path: path.to_owned(),
        authority: "h.test".to_owned(),
        scheme: "http".to_owned(),
        ..H2Request::default()
    }
}

/// Fields of the `number`th message: some that repeat, some that are there once, long ones that drive others out of a table.
fn fields(number: usize) -> Vec<String> {
    let mut fields = vec![
        "x-same: always the same".to_owned(),
        format!("x-number: {number}"),
        format!("x-{}: {}", number % 7, "v".repeat(number % 50)),
        "accept-language: de-DE, en;q=0.5".to_owned(),
        "set-cookie: one=1".to_owned(),
        format!("set-cookie: two={number}"),
        "x-odd: !#$%&'*+.^_`|~ \"quoted\" <>[]{}()@,;:\\/?=".to_owned(),
    ];
    if number.is_multiple_of(5) {
        fields.push(format!("x-long: {}", format!("{number:04}").repeat(700)));
    }
    if number.is_multiple_of(11) {
        fields.push(format!("authorization: Bearer {number}"));
    }
    fields
}

/// Whether all these lines are among the fields, those of the same name in their order.
fn holds(fields: &[(String, String)], wanted: &[String]) -> bool {
    let mut at = fields.iter().filter(|(name, _)| name == "set-cookie");
    wanted.iter().all(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        match name {
            "set-cookie" => at.next().is_some_and(|(_, found)| found == value),
            _ => fields.iter().any(|(found, text)| found == name && text == value),
        }
    })
}

#[test]
fn fields_come_through_tables_of_every_size() {
    let sizes = [None, Some(0), Some(100), Some(65_536)];
    for of_origin in sizes {
        let reply = |number| Reply { path: Some(format!("/{number}")), headers: fields(number), ..Reply::default() };
        let settings = Http2Settings { header_table_size: of_origin, ..Http2Settings::default() };
        let (origin, running) = start(settings, (0..60).map(reply).collect());
        for of_client in sizes {
            let settings = Http2Settings { header_table_size: of_client, ..Http2Settings::default() };
            let client = connect(&running, settings);
            for number in 0..60 {
                let asked = H2Request { headers: fields(number), ..request("GET", &format!("/{number}")) };
                let response = client.request(&asked);
                let what = format!("{of_origin:?} {of_client:?} {number}");
                let head = response.head.unwrap_or_else(|| panic!("{what}: no response"));
                assert_eq!(head.status(), 200, "{what}");
                assert!(holds(&head.fields, &fields(number)), "{what}: {head:?}");
                let seen = origin.seen().pop().unwrap();
                assert!(holds(&seen.head.fields, &fields(number)), "{what}: {seen:?}");
            }
        }
    }
}

/// A body whose bytes tell their place.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| b'a' + u8::try_from((at * 7 + at / 26 + at / 4099) % 26).unwrap()).collect()
}

#[test]
fn bodies_come_through_windows_of_every_size() {
    const SIZES: [usize; 9] = [0, 1, 9, 16_383, 16_384, 16_385, 65_535, 65_536, 200_000];
    let windows = [None, Some(16_384), Some(1 << 20)];
    for (of_origin, frame) in windows.into_iter().zip([None, Some(20_000), Some(1 << 20)]) {
        let reply = |size| Reply {
            path: Some(format!("/{size}")),
            body: Some(String::from_utf8(pattern(size)).unwrap()),
            ..Reply::default()
        };
        let settings = Http2Settings { initial_window: of_origin, max_frame_size: frame, ..Http2Settings::default() };
        let (origin, running) = start(settings, SIZES.into_iter().map(reply).collect());
        for of_client in windows {
            let client = connect(
                &running,
                Http2Settings { initial_window: of_client, max_frame_size: frame, ..Http2Settings::default() },
            );
            let asked = SIZES.map(|size| {
                let body = pattern(size);
                let pieces = if size == 9 { body.chunks(1) } else { body.chunks(16_000) };
                H2Request { chunks: pieces.map(<[u8]>::to_vec).collect(), ..request("POST", &format!("/{size}")) }
            });
            let check = |response: Response, size: usize| {
                let what = format!("{of_origin:?} {of_client:?} {size}");
                assert_eq!((response.status(), response.body.end), (200, End::Complete), "{what}");
                assert!(response.body.data == pattern(size), "{what}: {} bytes", response.body.data.len());
            };
            // Downloads share the windows of the connections.
            let downloads = SIZES.map(|size| request("GET", &format!("/{size}")));
            client.requests(&downloads).into_iter().zip(SIZES).for_each(|(response, size)| check(response, size));
            asked.iter().zip(SIZES).for_each(|(asked, size)| check(client.request(asked), size));
            let seen = origin.seen();
            for seen in &seen[seen.len() - SIZES.len()..] {
                let size: usize = seen.head.word(1)[1..].parse().unwrap();
                assert_eq!(seen.body.end, End::Complete, "{size}");
                assert!(seen.body.data == pattern(size), "{size}: {} bytes", seen.body.data.len());
            }
        }
    }
}

#[test]
fn trailers_come_through_both_ways() {
    let reply = Reply {
        chunks: Some(vec!["one".to_owned(), "two".to_owned()]),
        trailers: vec!["x-after: 1".to_owned(), "grpc-status: 0".to_owned()],
        ..Reply::default()
    };
    let (origin, running) = start(Http2Settings::default(), vec![reply]);
    let client = connect(&running, Http2Settings::default());
    for chunks in [vec![], vec![b"body".to_vec()], vec![b"a".to_vec(), vec![], b"b".to_vec()]] {
        let sent: Vec<u8> = chunks.concat();
        let asked = H2Request { chunks, trailers: vec!["x-end: 2".to_owned()], ..request("POST", "/") };
        let response = client.request(&asked);
        assert_eq!((response.status(), response.body.data.as_slice()), (200, &b"onetwo"[..]));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(response.body.trailers, [pair("x-after", "1"), pair("grpc-status", "0")]);
        let seen = origin.seen().pop().unwrap();
        assert_eq!((seen.body.data, seen.body.trailers), (sent, vec![pair("x-end", "2")]));
    }
}

#[test]
fn more_requests_than_an_upstream_takes_at_once() {
    let settings = Http2Settings { max_concurrent_streams: Some(7), ..Http2Settings::default() };
    let (origin, running) = start(settings, vec![]);
    let client = connect(&running, Http2Settings::default());
    let asked: Vec<H2Request> = (0..300).map(|number| request("GET", &format!("/{number}"))).collect();
    for (number, response) in client.requests(&asked).into_iter().enumerate() {
        assert_eq!((response.status(), response.body.data.as_slice()), (200, &b"ok"[..]), "{number}");
    }
    assert_eq!(origin.seen().len(), 300);
}

/// Uploads that share a connection whose peer gives windows back piece by piece: none waits for ever.
#[test]
fn uploads_share_small_windows() {
    const SIZES: [usize; 6] = [16_383, 16_384, 65_535, 65_536, 100_000, 200_000];
    for window in [100, 16_384, 65_535] {
        let first = h2_raw::settings(&[(4, window)]);
        let server = RawServer::start(first, |came| match (came.kind, came.flags & flag::END_STREAM) {
            (kind::DATA, flag::END_STREAM) => {
                let answer = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, came.stream, &[0x88]);
                match u32::try_from(came.payload.len()).unwrap() {
                    0 => answer,
                    length => [window_update(0, length), answer].concat(),
                }
            }
            (kind::DATA, _) if !came.payload.is_empty() => {
                let length = u32::try_from(came.payload.len()).unwrap();
                [window_update(0, length), window_update(came.stream, length)].concat()
            }
            _ => Vec::new(),
        });
        let server = server.unwrap();
        let running = in_front_of_http2(server.address(), "");
        for round in 0..10 {
            std::thread::scope(|scope| {
                for size in SIZES {
                    let mut client = running.client();
                    scope.spawn(move || {
                        let head = format!("POST / HTTP/1.1\r\nhost: h.test\r\ncontent-length: {size}\r\n\r\n");
                        client.send(&[head.as_bytes(), &pattern(size)].concat()).unwrap();
                        assert_eq!(client.response(false).status(), 200, "window {window}, round {round}, {size}");
                    });
                }
            });
        }
        let upstream = server.accept().unwrap();
        let account = upstream.account();
        assert_eq!((account.data, account.closed), (10 * SIZES.iter().sum::<usize>() as u64, false), "{account:?}");
    }
}

/// A drain: GOAWAY in two steps, what is under way comes to its end, and then the connection and the process.
#[test]
fn a_drain_lets_streams_finish() {
    let gates = Gates::default();
    let replies = vec![Reply { path: Some("/slow".to_owned()), hold: Some("go".to_owned()), ..Reply::default() }];
    let origin = Origin::start(Script::Http(replies), gates.clone()).unwrap();
    let http = Http { clusters: vec![cluster("a", &[origin.address()])], ..Http::default() };
    let mut running = Setup::new(&http.text()).flags(&["--drain-time-s", "600"]).start();
    let client = RawH2::connect(running.setup.address("front")).unwrap();
    client.get(1, "/slow", &[]).unwrap();
    assert!(origin.await_seen(1, PATIENCE));
    running.proxy.signal(Signal::Terminate).unwrap();
    assert!(client.await_that(|account| account.frames[usize::from(kind::GOAWAY)] == 2), "{:?}", client.account());
    let account = client.account();
    assert_eq!(account.goaway, Some((1, code::NO_ERROR)), "{account:?}");
    // What comes after the last stream was named is not looked at; that is not an error of the connection.
    client.get(3, "/late", &[]).unwrap();
    gates.open("go");
    assert!(client.await_that(|account| account.status(1) == Some(200) && account.ended > 0), "{:?}", client.account());
    assert!(client.await_closed(), "{:?}", client.account());
    assert_eq!(client.account().status(3), None);
    assert_eq!(origin.seen().len(), 1);
    assert!(running.proxy.await_exit().unwrap().is_some_and(|status| status.success()));
}

/// An upstream that says GOAWAY with streams under way: they come to their end, and the next request gets a connection of its own.
#[test]
fn an_upstream_that_drains_is_let_finish() {
    let server = RawServer::start(h2_raw::settings(&[]), |_| Vec::new()).unwrap();
    let running = in_front_of_http2(server.address(), "");
    let mut clients: Vec<_> = (0..3).map(|_| running.client()).collect();
    for client in &mut clients {
        client.send(b"GET / HTTP/1.1\r\nhost: h.test\r\n\r\n").unwrap();
    }
    let first = server.accept().unwrap();
    assert!(first.await_that(|account| account.headed.len() == 3), "{:?}", first.account());
    let goaway = |last: u32| frame(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat());
    first.send(&goaway(0x7fff_ffff)).unwrap();
    first.send(&goaway(5)).unwrap();
    let mut next = running.client();
    // Once the proxy knows, it opens another connection.
    first.send(&frame(kind::PING, 0, 0, b"complete")).unwrap();
    assert!(first.await_that(|account| account.frames[usize::from(kind::PING)] > 0), "{:?}", first.account());
    next.send(b"GET /next HTTP/1.1\r\nhost: h.test\r\n\r\n").unwrap();
    let second = server.accept().unwrap();
    assert!(second.await_that(|account| account.headed == [1]), "{:?}", second.account());
    let answer = |stream: u32| frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &[0x88]);
    second.send(&answer(1)).unwrap();
    assert_eq!(next.response(false).status(), 200);
    for stream in [5, 1, 3] {
        first.send(&answer(stream)).unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.response(false).status(), 200);
    }
    assert!(first.await_closed(), "{:?}", first.account());
}
