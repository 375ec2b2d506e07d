//! Requests that two implementations might read differently: answered 400, closed, and never seen by an origin.

use nuncio_testkit::PATIENCE;
use nuncio_testkit::message::{End, text};

use crate::support::*;

/// Requests that must be refused, with what is wrong with them.
const REFUSED: &[(&str, &str)] = &[
    (
        "content-length and transfer-encoding",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "transfer-encoding and content-length",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    ),
    ("two content-lengths", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef"),
    ("a list of content-lengths", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 6\r\n\r\nabcdef"),
    ("a plus sign", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nabcde"),
    ("a minus sign", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n"),
    ("a hexadecimal length", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x5\r\n\r\nabcde"),
    ("an empty length", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: \r\n\r\n"),
    ("a length that overflows", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551621\r\n\r\nabcde"),
    ("a space before the colon", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length : 5\r\n\r\nabcde"),
    ("a tab before the colon", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding\t: chunked\r\n\r\n0\r\n\r\n"),
    ("a bare line feed in the head", "GET / HTTP/1.1\nhost: a\n\n"),
    ("a bare line feed after a field", "GET / HTTP/1.1\r\nhost: a\nx: b\r\n\r\n"),
    ("a bare carriage return in a field", "GET / HTTP/1.1\r\nhost: a\r\nx: b\rc\r\n\r\n"),
    ("a folded line", "GET / HTTP/1.1\r\nhost: a\r\nx: b\r\n c\r\n\r\n"),
    ("a folded line by a tab", "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\r\n\tchunked\r\n\r\n"),
    ("a space before the first field", "GET / HTTP/1.1\r\n host: a\r\n\r\n"),
    ("a NUL in a value", "GET / HTTP/1.1\r\nhost: a\r\nx: b\0c\r\n\r\n"),
    ("a NUL in a name", "GET / HTTP/1.1\r\nhost: a\r\nx\0y: b\r\n\r\n"),
    ("a NUL in the target", "GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a field without a colon", "GET / HTTP/1.1\r\nhost: a\r\nx\r\n\r\n"),
    ("a field without a name", "GET / HTTP/1.1\r\nhost: a\r\n: b\r\n\r\n"),
    ("another transfer coding", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n"),
    (
        "chunked twice",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("chunked not last", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    ("a vertical tab in a coding", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
    ("no host", "GET / HTTP/1.1\r\n\r\n"),
    ("a space in the target", "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("no version", "GET /\r\nhost: a\r\n\r\n"),
    ("another version", "GET / HTTP/3.7\r\nhost: a\r\n\r\n"),
    ("a method with a separator", "G{T / HTTP/1.1\r\nhost: a\r\n\r\n"),
];

#[test]
fn heads_that_are_ambiguous() {
    let origin = origin(vec![]);
    let running = in_front_of(&origin);
    let mut wrong = Vec::new();
    for (what, request) in REFUSED {
        let mut client = running.client();
        // A second request that must never be read as one.
        let smuggled = format!("{request}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n");
        let response = ask(&mut client, &smuggled);
        let end = client.rest();
        // Envoy answers 501 to codings and 426 to versions that it does not know.
        let is_refused = match response.status() {
            501 => what.contains("cod") || what.contains("chunked"),
            426 => what.contains("version"),
            status => status == 400,
        };
        if !is_refused || end.end == End::TimedOut || !end.data.is_empty() {
            wrong.push(format!("{what}: {}, then {:?} {:?}", response.status(), text(&end.data), end.end));
        }
    }
    assert!(wrong.is_empty(), "not refused:\n{}", wrong.join("\n"));
    assert_eq!(origin.seen(), [], "the origin saw some of it");
    assert_eq!(running.get("/").status(), 200);
}

/// Bodies whose framing is wrong. The head is fine, so that the origin may have seen it, but never a second request.
const BODIES: &[(&str, &str)] = &[
    ("a chunk size with a plus sign", "+5\r\nabcde\r\n0\r\n\r\n"),
    ("a chunk size with 0x", "0x5\r\nabcde\r\n0\r\n\r\n"),
    ("an empty chunk size", "\r\nabcde\r\n0\r\n\r\n"),
    ("a chunk size that overflows", "10000000000000005\r\nabcde\r\n0\r\n\r\n"),
    ("a bare line feed after the size", "5\nabcde\r\n0\r\n\r\n"),
    ("a bare line feed in an extension", "5;\nabcde\r\n0\r\n\r\n"),
    ("a bare carriage return in an extension", "5;a\rb\r\nabcde\r\n0\r\n\r\n"),
    ("a NUL in an extension", "5;a\0b\r\nabcde\r\n0\r\n\r\n"),
    ("no line end after the chunk", "5\r\nabcdeX0\r\n\r\n"),
    ("a bare line feed after the chunk", "5\r\nabcde\n0\r\n\r\n"),
    ("a longer chunk than its size", "3\r\nabcde\r\n0\r\n\r\n"),
    ("a space before the size", " 5\r\nabcde\r\n0\r\n\r\n"),
    ("a folded trailer", "5\r\nabcde\r\n0\r\nx: a\r\n b\r\n\r\n"),
    ("a NUL in a trailer", "5\r\nabcde\r\n0\r\nx: a\0\r\n\r\n"),
];

#[test]
fn bodies_that_are_ambiguous() {
    let origin = origin(vec![]);
    let running = in_front_of(&origin);
    let mut wrong = Vec::new();
    let mut check = |what: &str, body: &str| {
        let mut client = running.client();
        let request = format!(
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
        );
        let response = ask(&mut client, &request);
        let end = client.rest();
        if response.status() != 400 || end.end == End::TimedOut || !end.data.is_empty() {
            wrong.push(format!("{what}: {}, then {:?} {:?}", response.status(), text(&end.data), end.end));
        }
    };
    for (what, body) in BODIES {
        check(what, body);
    }
    // An extension that never ends must not be read for ever (CVE-2023-39326, CVE-2024-22019).
    check("an endless extension", &format!("5;{}\r\nabcde\r\n0\r\n\r\n", "a".repeat(1 << 20)));
    assert!(wrong.is_empty(), "not refused:\n{}", wrong.join("\n"));
    assert!(origin.await_open(running.stat("cluster.a.upstream_cx_active") as usize, PATIENCE));
    for seen in origin.seen() {
        assert_ne!(seen.head.word(1), "/smuggled");
        assert_ne!(seen.body.end, End::Complete, "a broken body was passed on as a whole one: {seen:?}");
    }
}

/// What looks odd and is right.
#[test]
fn heads_that_are_not_ambiguous() {
    let origin = origin(vec![]);
    let running = in_front_of(&origin);
    let check = |request: &str, body: &str| {
        let mut client = running.client();
        let response = ask(&mut client, request);
        assert_eq!(response.status(), 200, "{request:?}");
        assert_eq!(get(&mut client, "/next").status(), 200, "after {request:?}");
        let seen = origin.seen();
        assert_eq!(text(&seen[seen.len() - 2].body.data), body, "{request:?}");
    };
    check("\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", "");
    check("POST / HTTP/1.1\r\nhost:a\r\ncontent-length:5\r\n\r\nabcde", "abcde");
    check("POST / HTTP/1.1\r\nhost: a\r\ncontent-length:\t 5 \t\r\n\r\nabcde", "abcde");
    check(
        "POST / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n5;name=value\r\nabcde\r\n0\r\n\r\n",
        "abcde",
    );
    check(
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0005\r\nabcde\r\n000\r\nx: y\r\n\r\n",
        "abcde",
    );
    check("GET / HTTP/1.1\r\nhost: a\r\nx:\r\ny: a:b\r\n\r\n", "");
}
