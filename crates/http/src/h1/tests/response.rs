//! Response heads. Unless a row says otherwise, the expected result is what Envoy 1.40 makes of the same bytes.

use super::*;

fn check(input: &str, expected: &str) {
    check_bytes(input.as_bytes(), expected);
}

fn check_bytes(input: &[u8], expected: &str) {
    assert_eq!(response_with(input, &ResponseOptions::default()), expected, "{}", input.escape_ascii());
}

fn check_fields(fields: &str, expected: &str) {
    check(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n"), expected);
}

const BAD: &str = "http1.codec_error";

#[test]
fn plain_responses() {
    check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: y\r\n\r\nabc", ":status=200|content-length=3|x=y; 3 more");
    check_fields("Transfer-Encoding: chunked", ":status=200; chunked");
    check_fields("X: y", ":status=200|x=y; close final");
    check_fields("Connection: close\r\nContent-Length: 1", ":status=200|connection=close|content-length=1; 1 final");
    check_fields(
        "Proxy-Connection: close\r\nContent-Length: 0",
        ":status=200|proxy-connection=close|content-length=0; 0 final",
    );
    check_fields(
        "Set-Cookie: a\r\nVia: 1\r\nSet-Cookie: b\r\nVia: 2\r\nContent-Length: 0",
        ":status=200|set-cookie=a|via=1,2|set-cookie=b|content-length=0; 0",
    );
    check("HTTP/1.1 200 OK\r\nA: b", "partial");
    check("", "partial");
}

#[test]
fn status_lines() {
    for line in ["HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1 200 Any Thing"] {
        check(&format!("{line}\r\nContent-Length: 0\r\n\r\n"), ":status=200|content-length=0; 0");
    }
    check_bytes(b"HTTP/1.1 200 a\xffb\r\nContent-Length: 0\r\n\r\n", ":status=200|content-length=0; 0");
    check("HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n", ":status=600|content-length=0; 0");
    check("HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n", ":status=999|content-length=0; 0");
    for line in
        ["HTTP/1.1 20 OK", "HTTP/1.1 099 OK", "HTTP/1.1 abc OK", "garbage", "\r\nHTTP/1.1 200 OK", "http/1.1 200 OK"]
    {
        check(&format!("{line}\r\nContent-Length: 0\r\n\r\n"), BAD);
    }
    // Envoy lets these pass.
    for line in ["HTTP/1.1 2000 OK", "HTTP/1.1  200 OK", "HTTP/1.2 200 OK", "HTTP/2.0 200 OK", "HTTP/0.9 200 OK"] {
        check(&format!("{line}\r\nContent-Length: 0\r\n\r\n"), BAD);
    }
    check("HTTP/1.1 200 a\u{1}b\r\nContent-Length: 0\r\n\r\n", "http1.invalid_characters");
    check_bytes(b"\x16\x03\x01", BAD);
}

#[test]
fn versions() {
    check("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", ":status=200|content-length=3; 3 1.0 final");
    check(
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\n",
        ":status=200|connection=keep-alive|content-length=3; 3 1.0",
    );
    check("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ":status=200; chunked 1.0 final");
    check("HTTP/1.0 200 OK\r\n\r\n", ":status=200; close 1.0 final");
}

#[test]
fn lengths_and_encodings() {
    for value in ["+3", "3, 3", "", "3 3", "18446744073709551616"] {
        check_fields(&format!("Content-Length: {value}"), BAD);
    }
    check_fields("Content-Length: 3\r\nContent-Length: 3", BAD);
    check_fields("Content-Length: 3\r\nTransfer-Encoding: chunked", "http1.content_length_and_chunked_not_allowed");
    for value in ["gzip", "identity", "gzip, chunked", "chunked, chunked"] {
        check_fields(&format!("Transfer-Encoding: {value}"), "http1.invalid_transfer_encoding");
    }
    let lenient = ResponseOptions { allow_chunked_length: true, ..ResponseOptions::default() };
    let both = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(response_with(both, &lenient), ":status=200; chunked");
}

#[test]
fn responses_without_a_body() {
    check("HTTP/1.1 204 No Content\r\n\r\n", ":status=204; none");
    check("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", ":status=204; none");
    check("HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n", "http1.content_length_not_allowed");
    check("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "http1.transfer_encoding_not_allowed");
    check("HTTP/1.1 304 Not Modified\r\n\r\n", ":status=304; none");
    check("HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\nabc", ":status=304|content-length=3; none more");
    check("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", ":status=304; none");
    check("HTTP/1.1 205 Reset\r\nContent-Length: 3\r\n\r\n", ":status=205|content-length=3; 3");
    let head = ResponseOptions { head_request: true, ..ResponseOptions::default() };
    for (fields, expected) in [
        ("Content-Length: 3\r\n", ":status=200|content-length=3; none"),
        ("Transfer-Encoding: chunked\r\n", ":status=200; none"),
        ("", ":status=200; none"),
    ] {
        assert_eq!(response_with(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes(), &head), expected);
    }
}

#[test]
fn informational_responses() {
    check("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n", ":status=100; none more");
    check("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", ":status=103|link=x; none");
    check("HTTP/1.1 199 X\r\nContent-Length: 0\r\n\r\n", ":status=199; none");
    check("HTTP/1.1 100 Continue\r\nContent-Length: 3\r\n\r\n", "http1.content_length_not_allowed");
    check("HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n", "http1.transfer_encoding_not_allowed");
}

#[test]
fn tunnels() {
    const SWITCH: &[u8] = b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    // Envoy hands the 101 on and closes.
    check_bytes(SWITCH, BAD);
    let upgrade = ResponseOptions { upgrade_request: true, ..ResponseOptions::default() };
    assert_eq!(response_with(SWITCH, &upgrade), ":status=101|connection=Upgrade|upgrade=websocket; close final tunnel");
    assert_eq!(
        response_with(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", &upgrade),
        ":status=200|content-length=1; 1"
    );
    let connect = ResponseOptions { connect_request: true, ..ResponseOptions::default() };
    for (input, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\nabc", ":status=200; close final tunnel more"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", ":status=200; close final tunnel"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ":status=200; close final tunnel"),
        ("HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\n", ":status=403|content-length=3; 3"),
        ("HTTP/1.1 100 Continue\r\n\r\n", ":status=100; none"),
    ] {
        assert_eq!(response_with(input.as_bytes(), &connect), expected);
    }
}

#[test]
fn bad_fields() {
    for fields in ["A : b", "A: b\r\n c", "A: b\rc", ": b", "Abc", "A: b\nC: d"] {
        check_fields(fields, BAD);
    }
    check_fields("A: b\0", "http1.invalid_characters");
    check("HTTP/1.1 200 OK\nContent-Length: 0\n\n", BAD);
    check("HTTP/1.1 200 OK\n\r\n", BAD);
    check("HTTP/1.1 200 OK\r\n\n", BAD);
    let dropping = ResponseOptions { underscores: Underscores::Drop, ..ResponseOptions::default() };
    assert_eq!(response_with(b"HTTP/1.1 304 X\r\na_b: c\r\n\r\n", &dropping), ":status=304; none dropped");
}

#[test]
fn limits() {
    let fields = |count: usize| format!("Content-Length: 0\r\n{}A: b", "a: b\r\n".repeat(count - 2));
    let input = format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", fields(100));
    assert!(response_with(input.as_bytes(), &ResponseOptions::default()).ends_with("; 0"));
    check_fields(&fields(101), "http1.too_many_headers");
    let small = ResponseOptions { max_head_bytes: 100, ..ResponseOptions::default() };
    let sized = |size: usize| format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(size - 24));
    assert!(response_with(sized(100).as_bytes(), &small).ends_with("; close final"));
    assert_eq!(response_with(sized(101).as_bytes(), &small), "http1.headers_too_large");
    assert_eq!(response_with(&sized(300).as_bytes()[..101], &small), "http1.headers_too_large");
}
