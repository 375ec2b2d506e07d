//! Messages: their order, their length, their end, and their end before that.

use super::*;
use crate::ResetReason;

fn lenient() -> Http2Options {
    Http2Options { stream_error_on_invalid_message: true, ..Http2Options::default() }
}

#[test]
fn a_request_with_its_response() {
    let mut server = Server::new(&Http2Options::default(), &[]);
    server.peer.send_head(1, 0, &[POST, &[("content-length", "5"), ("x", "y")]].concat());
    let (headers, head, mut stream) = server.accept();
    assert_eq!(dump(&headers), ":method=POST :scheme=http :path=/ :authority=a content-length=5 x=y");
    assert_eq!(head.unwrap().framing, crate::Framing::Length(5));
    let task = Task::default();
    server.peer.send(&data(1, 0, 2));
    server.idle();
    assert_eq!(task.read(&mut stream), "2 waits");
    server.peer.send(&data(1, 0, 3));
    let trailers = server.peer.block(&[("t", "1"), ("content-length", "9"), ("te", "trailers")]);
    server.peer.send(&frame(kind::HEADERS, END_STREAM | END_HEADERS, 1, &trailers));
    server.idle();
    assert!(task.woken());
    assert_eq!(task.read(&mut stream), "3 end t=1");
    assert_eq!(task.read(&mut stream), "0 end");
    stream.send_informational(&map(&[(":status", "103"), ("link", "l")]));
    stream.send_head(&map(&[(":status", "200"), ("connection", "close"), ("te", "gzip"), ("a", "b")]));
    stream.send_data(Bytes::from_static(b"hello"));
    stream.send_end(Some(&map(&[("grpc-status", "0")])));
    assert_eq!(task.flush(&mut stream), Poll::Ready(true));
    assert_eq!(
        server.heard(),
        ["HEADERS 1 :status=103 link=l", "HEADERS 1 :status=200 a=b", "DATA 1 5", "HEADERS 1 end grpc-status=0"]
    );
    drop(stream);
    assert_eq!(server.heard(), [""; 0]);
}

/// The end goes with the last frame as long as that was not sent.
#[test]
fn the_end_costs_no_frame_if_it_is_known_in_time() {
    type Case<'a> = (&'a str, fn(&mut Server, &Task, &mut ServerStream), &'a [&'a str]);
    let cases: [Case<'_>; 5] = [
        ("with the head", |_, _, stream| stream.send_end(None), &["HEADERS 1 end :status=200"]),
        (
            "with the head that waits",
            |_, task, stream| {
                let _ = task.flush(stream);
                stream.send_end(None);
            },
            &["HEADERS 1 end :status=200"],
        ),
        (
            "after the head",
            |server, task, stream| {
                let _ = task.flush(stream);
                server.idle();
                stream.send_end(None);
            },
            &["HEADERS 1 :status=200", "DATA 1 0 end"],
        ),
        (
            "with data",
            |_, task, stream| {
                stream.send_data(Bytes::from(vec![0; 5000]));
                let _ = task.flush(stream);
                stream.send_end(None);
            },
            &["HEADERS 1 :status=200", "DATA 1 5000 end"],
        ),
        (
            "after part of the data",
            |server, task, stream| {
                stream.send_data(Bytes::from(vec![0; 5000]));
                let _ = task.flush(stream);
                server.peer.give_room(100);
                server.idle();
                server.peer.give_room(usize::MAX);
                stream.send_end(None);
            },
            &["HEADERS 1 :status=200", "DATA 1 5000", "DATA 1 0 end"],
        ),
    ];
    for (what, end, heard) in cases {
        let mut server = Server::new(&Http2Options::default(), &[]);
        let (task, mut stream) = (Task::default(), server.request(1, END_STREAM, GET));
        stream.send_head(&map(OK));
        end(&mut server, &task, &mut stream);
        assert_eq!(task.flush(&mut stream), Poll::Ready(true), "{what}");
        assert_eq!(server.heard(), heard, "{what}");
        drop(stream);
        assert_eq!(server.heard(), [""; 0], "{what}");
    }
}

#[test]
fn streams_are_reset_from_both_sides() {
    for (reason, heard) in [
        (ResetReason::LocalReset, "RST_STREAM 1 2"),
        (ResetReason::LocalRefusedStreamReset, "RST_STREAM 1 7"),
        (ResetReason::ProtocolError, "RST_STREAM 1 1"),
        (ResetReason::ConnectError, "RST_STREAM 1 10"),
    ] {
        let mut server = Server::new(&Http2Options::default(), &[]);
        let mut stream = server.request(1, 0, POST);
        stream.send_head(&map(OK));
        stream.reset(reason);
        stream.reset(reason);
        stream.send_head(&map(OK));
        stream.send_data(Bytes::from_static(b"x"));
        assert_eq!(Task::default().flush(&mut stream), Poll::Ready(true));
        assert_eq!(server.heard(), ["HEADERS 1 :status=200", heard]);
        assert_eq!(Task::default().read(&mut stream), "0 LocalReset");
        drop(stream);
        assert_eq!(server.heard(), [""; 0]);
        // What was on its way is no fault.
        server.peer.send(&[data(1, 0, 10), word(kind::WINDOW_UPDATE, 1, 5), word(kind::RST_STREAM, 1, 8)].concat());
        let trailers = server.peer.block(&[("a", "b")]);
        server.peer.send(&frame(kind::HEADERS, END_STREAM | END_HEADERS, 1, &trailers));
        assert_eq!(server.heard(), [""; 0]);
    }
    for (code, reason) in [(0, "RemoteResetNoError"), (2, "RemoteReset"), (7, "RemoteRefusedStreamReset")] {
        let mut server = Server::new(&Http2Options::default(), &[]);
        let (task, mut stream) = (Task::default(), server.request(1, 0, POST));
        let waker = task.waker();
        assert!(stream.poll_closed(&mut Context::from_waker(&waker)).is_pending());
        server.peer.send(&word(kind::RST_STREAM, 1, code));
        server.idle();
        assert!(task.woken());
        assert_eq!(task.read(&mut stream), format!("0 {reason}"));
        stream.send_head(&map(OK));
        stream.send_end(None);
        assert_eq!(task.flush(&mut stream), Poll::Ready(false));
        drop(stream);
        assert_eq!(server.heard(), [""; 0], "nothing is said of a stream that is over");
    }
}

/// A head that waits for room when its stream is reset is not sent.
#[test]
fn nothing_follows_a_reset() {
    let mut server = Server::new(&Http2Options::default(), &[]);
    let task = Task::default();
    server.peer.send(&word(kind::WINDOW_UPDATE, 0, 1 << 24));
    server.peer.send(&settings(&[(4, 1 << 24)]));
    server.idle();
    server.heard();
    let [mut large, mut stream] = [1, 3].map(|id| server.request(id, 0, POST));
    server.peer.give_room(0);
    large.send_head(&map(OK));
    large.send_data(Bytes::from(vec![0; 1 << 20]));
    let _ = task.flush(&mut large);
    stream.send_head(&map(OK));
    assert!(task.flush(&mut stream).is_pending());
    server.peer.send(&word(kind::RST_STREAM, 3, 8));
    server.idle();
    assert!(task.woken());
    assert_eq!(task.flush(&mut stream), Poll::Ready(false));
    drop(stream);
    server.peer.give_room(usize::MAX);
    assert!(server.heard().iter().all(|line| !line.starts_with("HEADERS 3")));
}

#[test]
fn bodies_are_as_long_as_they_say() {
    for (length, frames, end, outcome) in [
        ("5", &[5][..], true, "5 end"),
        ("5", &[2, 3], true, "5 end"),
        ("0", &[0], true, "0 end"),
        ("5", &[6], false, "0 ProtocolError"),
        ("5", &[5, 1], false, "0 ProtocolError"),
        ("5", &[4], true, "0 ProtocolError"),
        ("0", &[1], true, "0 ProtocolError"),
        ("18446744073709551615", &[4], true, "0 ProtocolError"),
    ] {
        for trailers in [false, true] {
            let mut server = Server::new(&lenient(), &[]);
            let mut stream = server.request(1, 0, &[POST, &[("content-length", length)]].concat());
            for (at, bytes) in frames.iter().enumerate() {
                let last = end && !trailers && at + 1 == frames.len();
                // One empty frame after the other is a flood.
                if last || *bytes > 0 {
                    server.peer.send(&data(1, if last { END_STREAM } else { 0 }, *bytes));
                }
            }
            if end && trailers {
                server.peer.send_head(1, END_STREAM, &[("a", "b")]);
            }
            let heard = server.heard();
            let expected = if trailers && end { outcome.replace("end", "end a=b") } else { outcome.into() };
            assert_eq!(Task::default().read(&mut stream), expected, "{length} {frames:?} {trailers}");
            assert_eq!(heard.contains(&"RST_STREAM 1 1".into()), outcome.contains("Error"), "{length} {frames:?}");
        }
    }
    let mut server = Server::new(&lenient(), &[]);
    server.peer.send_head(1, END_STREAM, &[GET, &[("content-length", "5")]].concat());
    assert_eq!(server.accept().1.unwrap_err(), Refused::Malformed, "no body at all");
}

#[test]
fn a_response_with_its_request() {
    let mut client = Client::new(&Http2Options::default(), &[]);
    let (task, mut stream) = (Task::default(), client.request(POST, false));
    stream.send_data(Bytes::from_static(b"hello"));
    stream.send_end(Some(&map(&[("t", "1")])));
    assert_eq!(task.flush(&mut stream), Poll::Ready(true));
    let head = "HEADERS 1 :method=POST :scheme=http :path=/ :authority=a";
    assert_eq!(client.heard(), [head, "DATA 1 5", "HEADERS 1 end t=1"]);
    assert_eq!(client.head(&mut stream), "waits");
    client.peer.send_head(1, 0, &[(":status", "100")]);
    client.peer.send_head(1, 0, &[(":status", "103"), ("a", "b")]);
    client.peer.send_head(1, 0, &[(":status", "200"), ("content-length", "5")]);
    client.peer.send(&data(1, 0, 5));
    client.peer.send_head(1, END_STREAM, &[("grpc-status", "0")]);
    assert_eq!(client.head(&mut stream), "100 None :status=100");
    assert_eq!(client.head(&mut stream), "103 None :status=103 a=b");
    assert_eq!(client.head(&mut stream), "200 Length(5) :status=200 content-length=5");
    assert_eq!(task.read(&mut stream), "5 end grpc-status=0");
    assert_eq!(client.heard(), [""; 0]);
    drop(stream);
    assert_eq!(client.heard(), [""; 0], "it is over");
}

/// What the head of a response says of the body, and what comes then.
#[test]
fn responses_without_a_body_have_none() {
    const HEAD: &[(&str, &str)] = &[(":method", "HEAD"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
    const TUNNEL: &[(&str, &str)] = &[(":method", "CONNECT"), (":authority", "a:1")];
    let length = ("content-length", "5");
    for (request, response, ends, body, outcome) in [
        (GET, &[(":status", "200")][..], true, 0, "200 None"),
        (GET, &[(":status", "200"), length], false, 5, "200 Length(5) 5 end"),
        (GET, &[(":status", "200"), length], false, 4, "200 Length(5) ProtocolError"),
        (GET, &[(":status", "200"), length], true, 0, "ProtocolError"),
        (GET, &[(":status", "200"), ("content-length", "0")], true, 0, "200 None"),
        (GET, &[(":status", "304"), length], true, 0, "304 None"),
        (GET, &[(":status", "304"), length], false, 0, "304 Length(5) end"),
        (GET, &[(":status", "304")], false, 5, "304 UntilClose ProtocolError"),
        (GET, &[(":status", "204")], false, 5, "204 UntilClose ProtocolError"),
        (HEAD, &[(":status", "200"), length], true, 0, "200 None"),
        (HEAD, &[(":status", "200"), length], false, 0, "200 Length(5) end"),
        (HEAD, &[(":status", "200"), length], false, 5, "200 Length(5) ProtocolError"),
        (HEAD, &[(":status", "200")], false, 1, "200 UntilClose ProtocolError"),
        (TUNNEL, &[(":status", "200"), length], false, 9, "200 UntilClose 9 end"),
        (TUNNEL, &[(":status", "403"), length], false, 5, "403 Length(5) 5 end"),
        (TUNNEL, &[(":status", "403"), length], false, 4, "403 Length(5) ProtocolError"),
        (GET, &[(":status", "101")], false, 0, "ProtocolError"),
        (GET, &[(":status", "103")], true, 0, "ProtocolError"),
        (GET, &[(":status", "20")], false, 0, "ProtocolError"),
        (GET, &[(":status", "099")], false, 0, "ProtocolError"),
        (GET, &[("a", "b")], false, 0, "ProtocolError"),
        (GET, &[(":status", "200"), (":status", "200")], false, 0, "ProtocolError"),
        (GET, &[(":status", "200"), (":path", "/")], false, 0, "ProtocolError"),
        (GET, &[(":status", "200"), ("connection", "close")], false, 0, "ProtocolError"),
    ] {
        let mut client = Client::new(&lenient(), &[]);
        let mut stream = client.request(request, request != TUNNEL);
        client.peer.send_head(1, if ends { END_STREAM } else { 0 }, response);
        let first = client.head(&mut stream);
        if !ends && !first.starts_with("Pro") {
            client.peer.send(&data(1, END_STREAM, body));
            client.idle();
        }
        let head: Vec<_> = first.split(' ').take(2).collect();
        let body = Task::default().read(&mut stream);
        let body = if head.len() < 2 || ends { "" } else { body.trim_start_matches("0 ") };
        assert_eq!(format!("{} {body}", head.join(" ")).trim_end(), outcome, "{request:?} {response:?}");
        let heard = client.heard();
        assert_eq!(heard.contains(&"RST_STREAM 1 1".into()), outcome.contains("Error"), "{request:?} {response:?}");
    }
}

#[test]
fn a_response_may_end_before_its_request() {
    let mut client = Client::new(&Http2Options::default(), &[(4, 10)]);
    let (task, mut stream) = (Task::default(), client.request(POST, false));
    stream.send_data(Bytes::from(vec![0; 100]));
    assert!(task.flush(&mut stream).is_pending());
    client.peer.send_head(1, 0, OK);
    client.peer.send(&data(1, END_STREAM, 5));
    client.peer.send(&word(kind::RST_STREAM, 1, 0));
    client.idle();
    assert!(task.woken());
    assert_eq!(task.flush(&mut stream), Poll::Ready(false));
    assert_eq!(client.head(&mut stream), "200 UntilClose :status=200");
    assert_eq!(task.read(&mut stream), "5 end", "what came whole can be read");
    client.heard();
    drop(stream);
    assert_eq!(client.heard(), [""; 0]);
    // One that did not come whole is cut off.
    let mut stream = client.request(POST, true);
    client.peer.send_head(3, 0, OK);
    client.peer.send(&data(3, 0, 5));
    client.peer.send(&word(kind::RST_STREAM, 3, 0));
    assert_eq!(client.head(&mut stream), "200 UntilClose :status=200");
    assert_eq!(task.read(&mut stream), "0 RemoteResetNoError");
    // And one that is given up is cancelled.
    let stream = client.request(POST, true);
    client.heard();
    drop(stream);
    assert_eq!(client.heard(), ["RST_STREAM 5 8"]);
    client.peer.send_head(5, 0, OK);
    client.peer.send(&data(5, END_STREAM, 5));
    assert_eq!(client.heard(), [""; 0]);
    let (window, owed, _) = client.windows();
    assert_eq!(window + i64::from(owed), 8 << 20);
}

#[test]
fn requests_wait_for_a_place_among_the_streams() {
    let mut client = Client::new(&Http2Options::default(), &[(3, 1)]);
    let first = client.request(GET, true);
    let (task, mut second) = (Task::default(), client.opener.open());
    second.send_head(&map(GET));
    second.send_data(Bytes::from_static(b"abc"));
    second.send_end(None);
    assert!(second.buffered() > 3);
    assert!(task.flush(&mut second).is_pending());
    client.heard();
    client.peer.send_head(1, END_STREAM, OK);
    client.idle();
    assert!(task.woken(), "the first is over");
    assert_eq!(task.flush(&mut second), Poll::Ready(true));
    assert_eq!(second.buffered(), 0);
    assert_eq!(client.heard()[1..], ["DATA 3 3 end"]);
    let mut third = client.opener.open();
    third.send_head(&map(GET));
    assert!(task.flush(&mut third).is_pending());
    client.peer.send(&settings(&[(3, 2)]));
    client.idle();
    assert!(task.woken(), "there is more room");
    assert_eq!(task.flush(&mut third), Poll::Ready(true));
    let mut fourth = client.opener.open();
    fourth.send_head(&map(GET));
    assert!(task.flush(&mut fourth).is_pending());
    client.peer.send(&frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 0]));
    client.idle();
    assert!(task.woken(), "there will be no room");
    assert_eq!(task.flush(&mut fourth), Poll::Ready(false));
    assert_eq!(head(&mut fourth), "RemoteRefusedStreamReset");
    drop((first, second, third, fourth));
}

/// A client that ran out of numbers for streams needs another connection.
#[test]
fn the_last_number_of_a_stream_is_the_end_of_a_connection() {
    let mut client = Client::new(&Http2Options::default(), &[]);
    client.connection.pings().0.borrow_mut().next_id = 0x7fff_ffff;
    let mut stream = client.request(GET, true);
    assert!(!client.opener.is_usable());
    let mut refused = client.opener.open();
    refused.send_head(&map(GET));
    assert_eq!(Task::default().flush(&mut refused), Poll::Ready(false));
    client.peer.send_head(0x7fff_ffff, END_STREAM, OK);
    while client.poll().is_pending() {
        assert!(client.peer.woken.take(), "the connection must end");
    }
    assert!(head(&mut stream).starts_with("200"));
}

#[test]
fn upgrades_are_extended_connect() {
    let upgrade = &[GET, &[("upgrade", "websocket"), ("connection", "upgrade"), ("content-length", "0")]].concat();
    let mut client = Client::new(&Http2Options::default(), &[(8, 1)]);
    let mut stream = client.request(upgrade, false);
    assert_eq!(client.heard(), ["HEADERS 1 :method=CONNECT :scheme=http :path=/ :authority=a :protocol=websocket"]);
    client.peer.send_head(1, 0, OK);
    let head = client.head(&mut stream);
    assert_eq!(head, "101 UntilClose :status=101 upgrade=websocket connection=upgrade");
    // An upstream that does not take it.
    let client = Client::new(&Http2Options::default(), &[]);
    let mut stream = client.opener.open();
    stream.send_head(&map(upgrade));
    assert_eq!(Task::default().flush(&mut stream), Poll::Ready(false));
    // And the other way.
    let request = &[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/chat"),
        (":authority", "a"),
    ];
    let options = Http2Options { allow_connect: true, ..lenient() };
    let mut server = Server::new(&options, &[]);
    server.peer.send_head(1, 0, request);
    let (headers, head, mut stream) = server.accept();
    assert!(head.unwrap().upgrade);
    assert_eq!(
        dump(&headers),
        ":method=GET :scheme=http :path=/chat :authority=a upgrade=websocket connection=upgrade"
    );
    stream.send_head(&map(&[(":status", "101"), ("upgrade", "websocket"), ("content-length", "0")]));
    assert_eq!(server.heard(), ["HEADERS 1 :status=200"]);
    let mut server = Server::new(&lenient(), &[]);
    server.peer.send_head(1, 0, request);
    assert_eq!(server.accept().1.unwrap_err(), Refused::Malformed, "it was not offered");
}
