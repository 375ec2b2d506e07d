//! What is written. Order and spelling are Envoy 1.40's.

use super::*;
use crate::Version;
use nuncio_headers::{HeaderName, Known};

fn map(entries: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in entries {
        map.append(&HeaderName::new(name).unwrap(), value.as_bytes());
    }
    map
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

fn request(headers: &HeaderMap, framing: Framing) -> String {
    text(|out| write_request_head(out, headers, framing, Spelling::Lower, TargetForm::Origin))
}

const GET: &[(&str, &str)] = &[(":method", "GET"), (":path", "/p?q"), (":authority", "h:80"), (":scheme", "http")];

fn with<'a>(entries: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> HeaderMap {
    map(&[entries, more].concat())
}

#[test]
fn request_heads() {
    let get = with(GET, &[("x-foo", "a"), ("te", "trailers")]);
    assert_eq!(request(&get, Framing::None), "GET /p?q HTTP/1.1\r\nhost: h:80\r\nx-foo: a\r\nte: trailers\r\n\r\n");
    assert_eq!(
        request(&get, Framing::Chunked),
        "GET /p?q HTTP/1.1\r\nhost: h:80\r\nx-foo: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let connect = map(&[(":method", "CONNECT"), (":authority", "h:80")]);
    assert_eq!(request(&connect, Framing::UntilClose), "CONNECT h:80 HTTP/1.1\r\nhost: h:80\r\n\r\n");
    let absolute = |headers: &HeaderMap| {
        text(|out| write_request_head(out, headers, Framing::None, Spelling::Lower, TargetForm::Absolute))
    };
    assert_eq!(absolute(&with(GET, &[])), "GET http://h:80/p?q HTTP/1.1\r\nhost: h:80\r\n\r\n");
    assert_eq!(absolute(&connect), "CONNECT h:80 HTTP/1.1\r\nhost: h:80\r\n\r\n");
    assert_eq!(request(&HeaderMap::new(), Framing::None), "GET / HTTP/1.1\r\n\r\n");
    assert_eq!(request(&map(&[("host", "h")]), Framing::None), "GET / HTTP/1.1\r\nhost: h\r\n\r\n");
}

#[test]
fn lengths_come_from_the_framing() {
    let check = |more: &[(&str, &str)], framing, expected: &str| {
        let expected = format!("GET /p?q HTTP/1.1\r\nhost: h:80\r\n{expected}\r\n");
        assert_eq!(request(&with(GET, more), framing), expected);
    };
    let length = [("content-length", "3"), ("x", "y")];
    check(&length, Framing::Length(3), "content-length: 3\r\nx: y\r\n");
    check(&length, Framing::Length(4), "x: y\r\ncontent-length: 4\r\n");
    check(&length, Framing::Chunked, "x: y\r\ntransfer-encoding: chunked\r\n");
    check(&length, Framing::None, "x: y\r\n");
    check(&length, Framing::UntilClose, "x: y\r\n");
    check(&[("content-length", "03")], Framing::Length(3), "content-length: 3\r\n");
    check(&[("content-length", "0")], Framing::Length(0), "content-length: 0\r\n");
    check(&[("content-length", "12345")], Framing::Length(12345), "content-length: 12345\r\n");
    check(&[("transfer-encoding", "gzip")], Framing::None, "");
    check(&[("content-length", "3"), ("content-length", "3")], Framing::Length(3), "content-length: 3\r\n");
}

#[test]
fn a_request_stays_one_request() {
    let hostile = map(&[
        (":method", "GET / HTTP/1.1\r\nx: y\r\n\r\nGET"),
        (":path", "/a b\r\nx: y\u{7f}ä"),
        (":authority", "h\r\nx: y"),
        ("x", "a\r\nb\0c"),
    ]);
    assert_eq!(
        request(&hostile, Framing::None),
        "GETHTTP1.1xyGET /a%20b%20%20x:%20y%7F%C3%A4 HTTP/1.1\r\nhost: h  x: y\r\nx: a  b c\r\n\r\n"
    );
}

fn response(headers: &HeaderMap, framing: Framing, version: Version, close: bool) -> String {
    let how = ResponseWrite { version, framing, reason: None, close, spelling: Spelling::Lower };
    text(|out| write_response_head(out, headers, &how))
}

#[test]
fn response_heads() {
    let ok = map(&[(":status", "200"), ("content-length", "2"), ("x", "y"), ("server", "envoy")]);
    let check = |framing, version, close, expected: &str| {
        assert_eq!(response(&ok, framing, version, close), format!("{expected}\r\n"));
    };
    let (new, old) = (Version::Http11, Version::Http10);
    let plain = "200 OK\r\ncontent-length: 2\r\nx: y\r\nserver: envoy\r\n";
    check(Framing::Length(2), new, false, &format!("HTTP/1.1 {plain}"));
    check(Framing::Length(2), new, true, &format!("HTTP/1.1 {plain}connection: close\r\n"));
    check(Framing::Length(2), old, true, &format!("HTTP/1.0 {plain}connection: close\r\n"));
    check(Framing::Length(2), old, false, &format!("HTTP/1.0 {plain}connection: keep-alive\r\n"));
    let bare = "200 OK\r\nx: y\r\nserver: envoy\r\n";
    check(Framing::Chunked, new, false, &format!("HTTP/1.1 {bare}transfer-encoding: chunked\r\n"));
    check(Framing::Chunked, new, true, &format!("HTTP/1.1 {bare}connection: close\r\ntransfer-encoding: chunked\r\n"));
    check(Framing::Length(0), new, true, &format!("HTTP/1.1 {bare}connection: close\r\ncontent-length: 0\r\n"));
    check(Framing::UntilClose, old, false, &format!("HTTP/1.0 {bare}connection: close\r\n"));
    check(Framing::UntilClose, new, false, &format!("HTTP/1.1 {bare}"));
    check(Framing::None, new, false, &format!("HTTP/1.1 {bare}"));
}

#[test]
fn status_lines() {
    for (status, reason, expected) in [
        ("404", None, "HTTP/1.1 404 Not Found\r\n\r\n"),
        ("418", None, "HTTP/1.1 418 Unknown\r\n\r\n"),
        ("999", None, "HTTP/1.1 999 Unknown\r\n\r\n"),
        ("200", Some("Fine"), "HTTP/1.1 200 Fine\r\n\r\n"),
        ("200", Some("a\r\nb"), "HTTP/1.1 200 a  b\r\n\r\n"),
        ("099", None, "HTTP/1.1 500 Internal Server Error\r\n\r\n"),
        ("2xx", None, "HTTP/1.1 500 Internal Server Error\r\n\r\n"),
        ("", None, "HTTP/1.1 500 Internal Server Error\r\n\r\n"),
    ] {
        let how = ResponseWrite {
            version: Version::Http11,
            framing: Framing::None,
            reason,
            close: false,
            spelling: Spelling::Lower,
        };
        let headers = map(&[(":status", status)]);
        assert_eq!(text(|out| write_response_head(out, &headers, &how)), expected);
    }
}

#[test]
fn connection_of_informational_responses() {
    let switch = map(&[(":status", "101"), ("connection", "Upgrade"), ("upgrade", "websocket")]);
    assert_eq!(
        response(&switch, Framing::UntilClose, Version::Http11, true),
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
    );
    let go_on = map(&[(":status", "100")]);
    assert_eq!(response(&go_on, Framing::None, Version::Http10, true), "HTTP/1.0 100 Continue\r\n\r\n");
    let mixed = map(&[(":status", "200"), ("connection", "x"), ("a", "b")]);
    assert_eq!(
        response(&mixed, Framing::None, Version::Http11, true),
        "HTTP/1.1 200 OK\r\na: b\r\nconnection: close\r\n\r\n"
    );
}

#[test]
fn spellings() {
    let head = b"GET / HTTP/1.1\r\nHOST: h\r\nX-fOO: 1\r\ncontent-Type: a\r\n\r\n";
    let check = |spelling, expected: &str| {
        let mut headers = HeaderMap::new();
        let options = RequestOptions { keep_spelling: true, ..RequestOptions::default() };
        parse_request(head, &mut HeadScanner::new(), &options, &mut headers).unwrap();
        headers.append(&HeaderName::new("x-new-1st$b").unwrap(), b"2");
        headers.set_known(Known::CONTENT_TYPE, b"b");
        let written = text(|out| write_request_head(out, &headers, Framing::Length(3), spelling, TargetForm::Origin));
        assert_eq!(written, format!("GET / HTTP/1.1\r\n{expected}\r\n"));
    };
    check(Spelling::Lower, "host: h\r\nx-foo: 1\r\ncontent-type: b\r\nx-new-1st$b: 2\r\ncontent-length: 3\r\n");
    check(Spelling::ProperCase, "Host: h\r\nX-Foo: 1\r\nContent-Type: b\r\nX-New-1st$B: 2\r\nContent-Length: 3\r\n");
    check(Spelling::Preserve, "HOST: h\r\nX-fOO: 1\r\ncontent-Type: b\r\nx-new-1st$b: 2\r\ncontent-length: 3\r\n");
    let how = ResponseWrite {
        version: Version::Http11,
        framing: Framing::Chunked,
        reason: None,
        close: true,
        spelling: Spelling::ProperCase,
    };
    assert_eq!(
        text(|out| write_response_head(out, &map(&[(":status", "200"), ("x-a", "b")]), &how)),
        "HTTP/1.1 200 OK\r\nX-A: b\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
}

#[test]
fn chunks_and_trailers() {
    for (length, expected) in [(0, ""), (1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (0xabcdef, "abcdef\r\n")] {
        assert_eq!(text(|out| write_chunk_head(out, length)), expected);
    }
    assert_eq!(text(|out| write_chunk_head(out, usize::MAX)), format!("{:x}\r\n", usize::MAX));
    assert_eq!(text(write_chunk_end), "\r\n");
    assert_eq!(text(|out| write_last_chunk(out, None)), "0\r\n\r\n");
    let trailers = map(&[("grpc-status", "0"), ("content-length", "3"), ("transfer-encoding", "x"), ("x", "y")]);
    assert_eq!(text(|out| write_last_chunk(out, Some(&trailers))), "0\r\ngrpc-status: 0\r\nx: y\r\n\r\n");
}

#[test]
fn framing_of_requests() {
    for (method, length, end, expected) in [
        ("GET", None, true, Framing::None),
        ("DELETE", None, true, Framing::None),
        ("HEAD", None, true, Framing::None),
        ("TRACE", None, true, Framing::None),
        ("POST", None, true, Framing::Length(0)),
        ("OPTIONS", None, true, Framing::Length(0)),
        ("PROPFIND", None, true, Framing::Length(0)),
        ("GET", None, false, Framing::Chunked),
        ("POST", None, false, Framing::Chunked),
        ("POST", Some("5"), false, Framing::Length(5)),
        ("GET", Some("0"), true, Framing::Length(0)),
        ("POST", Some("+5"), false, Framing::Chunked),
        ("CONNECT", None, false, Framing::UntilClose),
    ] {
        let mut headers = map(&[(":method", method)]);
        if let Some(length) = length {
            headers.append_known(Known::CONTENT_LENGTH, length.as_bytes());
        }
        assert_eq!(request_framing(&headers, end), expected, "{method} {length:?} {end}");
    }
}

#[test]
fn framing_of_responses() {
    let (new, old) = (Version::Http11, Version::Http10);
    for (status, length, version, head, end, expected) in [
        (200, None, new, false, false, Framing::Chunked),
        (200, None, old, false, false, Framing::UntilClose),
        (200, None, new, false, true, Framing::Length(0)),
        (200, Some("5"), new, false, false, Framing::Length(5)),
        (200, Some("5"), new, true, true, Framing::Length(5)),
        (200, None, new, true, true, Framing::Chunked),
        (200, None, old, true, true, Framing::None),
        (204, None, new, false, true, Framing::None),
        (204, Some("5"), new, false, true, Framing::None),
        (304, None, new, false, true, Framing::None),
        (304, Some("5"), new, false, true, Framing::Length(5)),
        (100, None, new, false, false, Framing::None),
    ] {
        let mut headers = HeaderMap::new();
        if let Some(length) = length {
            headers.append_known(Known::CONTENT_LENGTH, length.as_bytes());
        }
        assert_eq!(
            response_framing(&headers, status, version, head, end),
            expected,
            "{status} {length:?} {head} {end}"
        );
    }
}
