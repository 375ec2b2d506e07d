//! Properties: how the input is cut into pieces changes nothing, and what was written reads back.

use super::*;
use crate::Version;

const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: h\r\n\r\nmore",
    "\r\n\r\nPOST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nX-Foo: bar\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
    "GET http://x/y HTTP/1.1\r\nHost: h\r\nVia: 1\r\nVia: 2\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n",
    "GET / HTTP/1.1\nHost: h\n\n",
    "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n",
    "\r\n\nGET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/2.0\r\n\r\n",
    "GET /\r\n\r\n",
    "hello world\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
];

/// Feeds the input in steps of `step` bytes.
fn request_in_steps(input: &[u8], step: usize) -> String {
    let (mut scan, mut headers) = (HeadScanner::new(), HeaderMap::new());
    let mut have = 0;
    while have < input.len() {
        have = (have + step).min(input.len());
        match parse_request(&input[..have], &mut scan, &RequestOptions::default(), &mut headers) {
            Ok(Parsed::Partial) => {}
            Ok(Parsed::Complete(head, used)) => return format!("{} {head:?} {used}", dump(&headers)),
            Err(_) => return "refused".into(),
        }
    }
    "partial".into()
}

#[test]
fn request_heads_in_pieces() {
    for input in REQUESTS {
        let whole = request_in_steps(input.as_bytes(), input.len());
        assert_ne!(whole, "partial");
        for step in 1..input.len() {
            assert_eq!(request_in_steps(input.as_bytes(), step), whole, "{input:?} in steps of {step}");
        }
    }
}

#[test]
fn a_byte_at_a_time_is_searched_once() {
    let head = format!("GET / HTTP/1.1\r\n{}\r\n", "a: bbbbbbbbbbbbbb\r\n".repeat(90));
    let mut scan = HeadScanner::new();
    let looks = (1..=head.len()).filter(|have| scan.is_worth_parsing(&head.as_bytes()[..*have])).count();
    assert!(looks < 16, "parsed {looks} times");
    assert_eq!(request_in_steps(head.as_bytes(), 1), request_in_steps(head.as_bytes(), head.len()));
}

const BODIES: &[&str] = &[
    "3\r\nabc\r\n0\r\n\r\nmore",
    "3;a=b\r\nabc\r\n10\r\n0123456789abcdef\r\n0;x\r\nA: b\r\nC: d\r\n\r\nmore",
    "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n",
    "3\r\nabcd\r\n0\r\n\r\n",
    "3\r\nabc\r\n0\r\nA : b\r\n\r\n",
    "3\r\nabc\r\n0\r\nA: b\n\r\n",
    "10000000000000000\r\n",
    "3;a\rb\r\nabc",
];

fn body_in_steps(input: &[u8], step: usize) -> String {
    let options = TrailerOptions { deliver: true, ..TrailerOptions::default() };
    let mut decoder = BodyDecoder::new(Framing::Chunked).with_trailers(options);
    let mut trailers = HeaderMap::new();
    let (mut data, mut buffer, mut fed) = (Vec::new(), Vec::new(), 0);
    loop {
        match decoder.decode(&buffer, &mut trailers) {
            Ok(BodyEvent::Need { consumed }) => {
                buffer.drain(..consumed);
                if fed == input.len() {
                    return format!("{} partial", data.escape_ascii());
                }
                let next = (fed + step).min(input.len());
                buffer.extend_from_slice(&input[fed..next]);
                fed = next;
            }
            Ok(BodyEvent::Data { start, end, consumed, .. }) => {
                data.extend_from_slice(&buffer[start..end]);
                buffer.drain(..consumed);
            }
            Ok(BodyEvent::End { consumed, trailers: some }) => {
                let rest = buffer.len() - consumed + input.len() - fed;
                return format!("{} {some} {} {rest}", data.escape_ascii(), dump(&trailers));
            }
            Err(_) => return "refused".into(),
        }
    }
}

#[test]
fn bodies_in_pieces() {
    for input in BODIES {
        let whole = body_in_steps(input.as_bytes(), input.len());
        for step in 1..input.len() {
            assert_eq!(body_in_steps(input.as_bytes(), step), whole, "{input:?} in steps of {step}");
        }
    }
}

#[test]
fn what_was_written_reads_back() {
    for input in REQUESTS {
        let mut headers = HeaderMap::new();
        let options = RequestOptions::default();
        let parsed = parse_request(input.as_bytes(), &mut HeadScanner::new(), &options, &mut headers);
        let Ok(Parsed::Complete(head, _)) = parsed else { continue };
        let mut written = Vec::new();
        write_request_head(&mut written, &headers, head.framing, Spelling::Lower, TargetForm::Absolute);
        let mut again = HeaderMap::new();
        let Ok(Parsed::Complete(reread, used)) = parse_request(&written, &mut HeadScanner::new(), &options, &mut again)
        else {
            panic!("{input:?} became {}", written.escape_ascii())
        };
        assert_eq!(used, written.len());
        assert_eq!(reread.framing, head.framing);
        let fields = |map: &HeaderMap| dump(map).replace("|:scheme=http", "");
        assert_eq!(fields(&again), fields(&headers));
    }
}

#[test]
fn responses_read_back() {
    for input in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n",
        "HTTP/1.1 404 Gone\r\nTransfer-Encoding: chunked\r\nX:y\r\n\r\n",
        "HTTP/1.1 204 None\r\n\r\n",
        "HTTP/1.1 599 X\r\nContent-Length: 0\r\n\r\n",
    ] {
        let mut headers = HeaderMap::new();
        let options = ResponseOptions::default();
        let Ok(Parsed::Complete(head, _)) =
            parse_response(input.as_bytes(), &mut HeadScanner::new(), &options, &mut headers)
        else {
            panic!("{input:?}")
        };
        let mut written = Vec::new();
        let how = ResponseWrite {
            version: Version::Http11,
            framing: head.framing,
            reason: None,
            close: false,
            spelling: Spelling::Lower,
        };
        write_response_head(&mut written, &headers, &how);
        let mut again = HeaderMap::new();
        let reread = parse_response(&written, &mut HeadScanner::new(), &options, &mut again);
        let Ok(Parsed::Complete(reread, _)) = reread else { panic!("{}", written.escape_ascii()) };
        assert_eq!((reread.status, reread.framing, dump(&again)), (head.status, head.framing, dump(&headers)));
    }
}
