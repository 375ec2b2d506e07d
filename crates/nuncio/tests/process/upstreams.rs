//! Origins that refuse, break off, answer nonsense, or answer too early.

use nuncio_testkit::PATIENCE;
use nuncio_testkit::gate::Gates;
use nuncio_testkit::message::{End, text};
use nuncio_testkit::origin::{After, Origin, Reply, Script};

use crate::support::*;

const LOG: &str = "access_log: [{name: f, typed_config: {'@type': \
     type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: $dir/access.log, log_format: \
     {text_format_source: {inline_string: \"%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\\n\"}}}}]";

/// A proxy in front of the origin, with response flags and details in its log.
fn logged(origin: &Origin) -> Running {
    let config = Http { clusters: vec![cluster("a", &[origin.address()])], manager: &[LOG], ..Http::default() };
    Setup::new(&config.text()).start()
}

/// The one line of the log begins with `expected`.
fn logs(running: &Running, expected: &str) {
    let log = await_file(running, &running.setup.path("access.log"), |text| text.contains('\n'));
    assert!(log.starts_with(expected), "{log:?}, not {expected:?}");
}

/// An origin with one reply, one request, and what comes back.
fn check(reply: Reply, expected: (u16, &str), log: &str) {
    let what = format!("{reply:?}");
    let origin = origin(vec![Reply { times: Some(1), ..reply }]);
    let running = logged(&origin);
    let mut client = running.client();
    let (status, body) = answer(&get(&mut client, "/"));
    assert_eq!(status, expected.0, "{what}: {body:?}");
    assert!(body.starts_with(expected.1), "{what}: {body:?}");
    logs(&running, log);
    // The client's connection lives on, and the next request is served by a new connection.
    assert_eq!(get(&mut client, "/").status(), 200, "{what}");
}

fn raw(raw: &str) -> Reply {
    Reply { raw: Some(raw.into()), then: After::Close, ..Reply::default() }
}

#[test]
fn an_upstream_that_refuses() {
    let origin = Origin::refusing().unwrap();
    let running = logged(&origin);
    let (status, body) = running.answer("/");
    assert_eq!(status, 503);
    assert!(body.starts_with("upstream connect error or disconnect/reset before headers. reset reason: "), "{body}");
    logs(&running, "503 UF upstream_reset_before_response_started{");
    assert_eq!(running.stat("cluster.a.upstream_cx_connect_fail"), 1);
}

#[test]
fn an_upstream_that_closes_before_it_answers() {
    let closes = Reply { cut: Some(0), ..Reply::default() };
    check(closes, (503, "upstream connect error"), "503 UC upstream_reset_before_response_started{");
    let resets = Reply { cut: Some(0), then: After::Reset, ..Reply::default() };
    check(resets, (503, "upstream connect error"), "503 UC upstream_reset_before_response_started{");
    // Half a head is a broken one.
    let half = Reply { cut: Some(20), ..Reply::default() };
    check(half, (502, "upstream connect error"), "502 UPE upstream_reset_before_response_started{protocol_error");
}

#[test]
fn an_upstream_that_resets_within_the_body() {
    for then in [After::Close, After::Reset] {
        for chunks in [None, Some(vec!["0123456789".to_owned(), "abcdef".to_owned()])] {
            let gates = Gates::default();
            let cut = if chunks.is_some() { 65 } else { 48 };
            let body = chunks.is_none().then(|| "0123456789".to_owned());
            let reply = Reply {
                body,
                chunks,
                cut: Some(cut),
                then,
                hold_body: Some("go".into()),
                times: Some(1),
                ..Reply::default()
            };
            let what = format!("{reply:?}");
            let origin = Origin::start(Script::Http(vec![reply]), gates.clone()).unwrap();
            let running = logged(&origin);
            let mut client = running.client();
            client.send(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
            assert_eq!(client.head().unwrap().status(), 200, "{what}");
            gates.open("go");
            let end = client.rest();
            assert!(text(&end.data).contains("01"), "{what}: {:?}", text(&end.data));
            assert!(!text(&end.data).contains("\r\n0\r\n"), "{what}: the end of a message that did not end");
            assert_ne!(end.end, End::TimedOut, "{what}: the client is left waiting");
            // Envoy 1.40 calls every early end of a body an error of the protocol.
            logs(&running, "200 UPE upstream_reset_after_response_started{protocol_error");
            assert_eq!(running.get("/").status(), 200);
        }
    }
}

#[test]
fn an_upstream_that_answers_nonsense() {
    let log = "502 UPE upstream_reset_before_response_started{protocol_error";
    for wrong in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
        "HTTP/1.1 999999 OK\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        "HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nabcdef",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nabc",
    ] {
        check(raw(wrong), (502, "upstream connect error"), log);
    }
}

#[test]
fn an_upstream_that_sends_too_many_headers() {
    let log = "502 UPE upstream_reset_before_response_started{protocol_error";
    let many = "x: y\r\n".repeat(101);
    check(raw(&format!("HTTP/1.1 200 OK\r\n{many}content-length: 0\r\n\r\n")), (502, "upstream connect error"), log);
    let long = "x".repeat(1 << 20);
    check(
        raw(&format!("HTTP/1.1 200 OK\r\nx: {long}\r\ncontent-length: 0\r\n\r\n")),
        (502, "upstream connect error"),
        log,
    );
    let endless = "x".repeat(1 << 20);
    check(raw(&format!("HTTP/1.1 200 OK\r\nx: {endless}")), (502, "upstream connect error"), log);
    // As many as are allowed.
    let origin = origin(vec![raw(&format!("HTTP/1.1 200 OK\r\n{}content-length: 2\r\n\r\nok", "x: y\r\n".repeat(90)))]);
    let running = in_front_of(&origin);
    assert_eq!(running.answer("/"), (200, "ok".into()));
}

#[test]
fn a_chunked_body_that_breaks() {
    for wrong in ["zz\r\nabc\r\n", "3\r\nabcdef\r\n0\r\n\r\n", "ffffffffffffffffff\r\nabc"] {
        let reply = raw(&format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{wrong}"));
        let origin = origin(vec![reply]);
        let running = logged(&origin);
        let mut client = running.client();
        client.send(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
        let end = client.rest();
        // Depending on what was read when, the head has been passed on or not; the body never ends as if it were whole.
        assert!(!text(&end.data).ends_with("0\r\n\r\n"), "{wrong:?}: {:?}", text(&end.data));
        assert_ne!(end.end, End::TimedOut, "{wrong:?}");
    }
}

#[test]
fn an_upstream_that_answers_before_the_request_ended() {
    let early = Reply {
        path: Some("/upload".into()),
        early: true,
        status: Some(413),
        body: Some("too big".into()),
        ..Reply::default()
    };
    let origin = origin(vec![early]);
    let running = logged(&origin);
    let mut client = running.client();
    client.send(b"POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: 1000000\r\n\r\nabc").unwrap();
    assert_eq!(answer(&client.response(false)), (413, "too big".into()));
    // The rest of the request can't be read as another one: the connection ends.
    assert_ne!(client.rest().end, End::TimedOut);
    assert_eq!(running.stat("http.front.downstream_rq_response_before_rq_complete"), 1);
    assert_eq!(running.get("/").status(), 200);
}

#[test]
fn an_upstream_that_speaks_unasked() {
    // More than one response to one request: the rest must not answer the next request.
    let two = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirstHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond";
    let origin =
        origin(vec![Reply { times: Some(1), ..Reply { raw: Some(two.into()), ..Reply::default() } }, body("right")]);
    let running = in_front_of(&origin);
    let mut client = running.client();
    assert_eq!(answer(&get(&mut client, "/")), (200, "first".into()));
    assert_eq!(answer(&get(&mut client, "/")), (200, "right".into()));
}

#[test]
fn a_pooled_connection_that_was_closed_is_not_used() {
    let origin = origin(vec![]);
    let running = in_front_of(&origin);
    for _ in 0..20 {
        assert_eq!(running.get("/").status(), 200);
        origin.close_connections();
        assert!(origin.await_open(0, PATIENCE));
    }
    assert_eq!(running.stat("cluster.a.upstream_rq_5xx"), 0);
    assert_eq!(running.stat("http.front.downstream_rq_2xx"), 20);
}

#[test]
fn an_upstream_that_never_answers() {
    let silent = Reply { path: Some("/silent".into()), cut: Some(0), then: After::Hang, ..Reply::default() };
    let origin = origin(vec![silent]);
    let routes = "[{match: {prefix: /}, route: {cluster: a, timeout: 0.2s}}]";
    let config = Http { routes, clusters: vec![cluster("a", &[origin.address()])], manager: &[LOG], ..Http::default() };
    let running = Setup::new(&config.text()).start();
    assert_eq!(running.answer("/silent"), (504, "upstream request timeout".into()));
    logs(&running, "504 UT response_timeout");
    assert_eq!(running.stat("cluster.a.upstream_rq_timeout"), 1);
    assert_eq!(running.get("/").status(), 200);
}
