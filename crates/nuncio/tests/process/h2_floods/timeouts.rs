//! HTTP/2 peers that begin and do not go on, and how long connections live. No test asserts how long anything takes: each
//! waits for the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use nuncio_testkit::h2_raw::RawServer;

use super::upstreams::{Attacked, answer_frame};
use super::*;

/// A head without its end: `request_headers_timeout` ends the stream or the connection.
#[test]
fn a_head_that_does_not_end() {
    let target = Target::with(vec![], &["request_headers_timeout: 0.3s"]);
    let client = target.connect();
    client.send(&frame(kind::HEADERS, flag::END_STREAM, 1, &hpack::request("GET", "/", &[]))).unwrap();
    let ended =
        client.await_that(|account| account.closed || account.reset(1).is_some() || account.status(1).is_some());
    assert!(ended, "{:?}", client.account());
    assert_eq!(target.origin.seen().len(), 0);
    target.running.await_stat("http.front.downstream_rq_active", |active| active == 0);
    target.serves_others();
}

/// A connection without a stream ends by `idle_timeout`, whatever else its client said.
#[test]
fn a_connection_on_which_nothing_is_asked() {
    let target = Target::with(vec![], &["common_http_protocol_options: {idle_timeout: 0.3s}"]);
    let connect = |bytes: &[u8]| {
        let client = target.connect();
        client.send(bytes).unwrap();
        client
    };
    for (what, client) in [
        ("preface", target.connect()),
        ("pings", connect(&frame(kind::PING, 0, 0, b"complete").repeat(10))),
        ("settings", connect(&settings(&[(INITIAL_WINDOW, 65_535)]))),
        ("a request that ended", connect(&get_frame(1, "/direct"))),
    ] {
        if !client.await_closed() {
            target.running.fail(&format!("{what}: {:?}", client.account()));
        }
    }
    // Nor where not even the preface came.
    let mut client = target.running.client();
    client.send(b"PRI * HT").unwrap();
    assert_ne!(client.rest().end, nuncio_testkit::message::End::TimedOut);
    target.running.await_stat("http.front.downstream_cx_active", |active| active == 0);
}

/// Pings and settings are no sign that a stream lives.
#[test]
fn a_stream_that_stops() {
    let target = Target::with(vec![], &["stream_idle_timeout: 0.3s"]);
    let client = target.connect();
    client.send(&post_frame(1, &[])).unwrap();
    let ended =
        client.await_that(|account| account.closed || account.status(1).is_some() || account.reset(1).is_some());
    assert!(ended, "{:?}", client.account());
    assert!(matches!(client.account().status(1), None | Some(408 | 504)), "{:?}", client.account());
    target.running.await_stat("cluster.a.upstream_rq_active", |active| active == 0);
}

/// `max_connection_duration` and `max_requests_per_connection` of a downstream connection: GOAWAY, and streams go on.
#[test]
fn a_connection_whose_time_is_over() {
    for options in ["max_connection_duration: 0.3s", "max_requests_per_connection: 1"] {
        let target = Target::with(
            vec![Reply { path: Some("/slow".into()), hold_body: Some("never".into()), ..Reply::default() }],
            &[&format!("common_http_protocol_options: {{{options}}}"), "drain_timeout: 0.3s"],
        );
        let client = target.connect();
        client.get(1, "/direct", &[]).unwrap();
        assert!(client.await_that(|account| account.goaway.is_some()), "{options}: {:?}", client.account());
        assert!(client.await_that(|account| account.status(1) == Some(200)), "{options}: {:?}", client.account());
        assert_eq!(client.account().goaway_code(), Some(code::NO_ERROR), "{options}");
        assert!(client.await_closed(), "{options}: {:?}", client.account());
        target.serves_others();
    }
}

fn answering() -> RawServer {
    let server = RawServer::start(settings(&[]), |came| match came.kind {
        kind::HEADERS => answer_frame(came.stream, true),
        _ => Vec::new(),
    });
    server.unwrap()
}

/// The same options of a cluster.
#[test]
fn upstream_connections_end_by_their_options() {
    let limited = Attacked::with(answering(), "max_requests_per_connection: 3", "");
    for round in 0..4 {
        for _ in 0..3 {
            assert_eq!(limited.target.running.get("/").status(), 200);
        }
        let upstream = limited.server.accept().unwrap();
        assert!(upstream.await_closed(), "{round}: {:?}", upstream.account());
        assert_eq!(upstream.account().headed, [1, 3, 5]);
    }
    limited.target.running.await_stat("cluster.a.upstream_cx_max_requests", |count| count == 4);
    for (option, stat) in [
        ("idle_timeout: 0.3s", "cluster.a.upstream_cx_idle_timeout"),
        ("max_connection_duration: 0.3s", "cluster.a.upstream_cx_max_duration_reached"),
    ] {
        let attacked = Attacked::with(answering(), option, "");
        assert_eq!(attacked.target.running.get("/").status(), 200);
        let upstream = attacked.server.accept().unwrap();
        assert!(upstream.await_closed(), "{option}: {:?}", upstream.account());
        attacked.target.running.await_stat(stat, |count| count == 1);
        // Another one takes its place.
        assert_eq!(attacked.target.running.get("/").status(), 200);
        attacked.server.accept().unwrap();
    }
}

/// `connection_idle_interval`: a request after silence asks whether the upstream is still there.
#[test]
fn a_request_after_silence() {
    let pinged = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&pinged);
    let server = RawServer::start(settings(&[]), move |came| {
        seen.fetch_or(came.kind == kind::PING && came.flags & flag::ACK == 0, Ordering::SeqCst);
        if came.kind == kind::HEADERS { answer_frame(came.stream, true) } else { Vec::new() }
    });
    let options = "connection_keepalive: {timeout: 30s, connection_idle_interval: 0.001s}";
    let attacked = Attacked::with(server.unwrap(), "", options);
    // How long nothing is received between two requests is up to the machine; reading the statistics takes its time.
    let asked = (0..1000).any(|_| {
        attacked.target.running.await_stat("cluster.a.upstream_rq_active", |active| active == 0);
        assert_eq!(attacked.target.running.get("/").status(), 200);
        pinged.load(Ordering::SeqCst)
    });
    assert!(asked);
}

/// A request without a body says so in its head, also on a connection that is open already: an empty DATA frame behind it
/// would make the next hop think of a body.
#[test]
fn requests_without_a_body_end_with_their_heads() {
    let flags = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&flags);
    let server = RawServer::start(settings(&[]), move |came| match came.kind {
        kind::HEADERS => {
            seen.lock().unwrap().push(came.flags & flag::END_STREAM);
            answer_frame(came.stream, true)
        }
        _ => Vec::new(),
    });
    let attacked = Attacked::with(server.unwrap(), "", "");
    let client = attacked.target.running.setup.address("front");
    let client = RawH2::connect(client).unwrap();
    for stream in [1, 3, 5] {
        client.send(&get_frame(stream, "/")).unwrap();
        assert!(client.await_that(|account| account.status(stream) == Some(200)), "{:?}", client.account());
    }
    assert_eq!(*flags.lock().unwrap(), [flag::END_STREAM; 3]);
}

/// A stream that is under way when its connection's time is over comes to its end.
#[test]
fn a_stream_outlives_the_duration_of_its_connection() {
    let server = RawServer::start(settings(&[]), |_| Vec::new()).unwrap();
    let attacked = Attacked::with(server, "max_connection_duration: 0.3s", "");
    let (mut client, upstream) = attacked.asked();
    attacked.target.running.await_stat("cluster.a.upstream_cx_max_duration_reached", |count| count == 1);
    upstream.send(&answer_frame(1, true)).unwrap();
    assert_eq!(client.response(false).status(), 200);
    assert!(upstream.await_closed(), "{:?}", upstream.account());
}
