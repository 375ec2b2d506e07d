//! What holds for every input of the HTTP/1 codec, however hostile. The fuzz targets and the tests share it. Each function
//! tells whether the input was accepted.

use nuncio_headers::{HeaderMap, Known};
use nuncio_http::h1::{
    BodyDecoder, BodyEvent, HeadScanner, Parsed, RequestHead, RequestOptions, ResponseHead, ResponseOptions,
    ResponseWrite, Spelling, TargetForm, TrailerOptions, parse_request, parse_response, write_chunk_end,
    write_chunk_head, write_last_chunk, write_request_head, write_response_head,
};
use nuncio_http::{Framing, Version};

/// What came out of a parser.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome<T> {
    Partial,
    Refused,
    Complete(T, usize, String),
}

fn text(headers: &HeaderMap) -> String {
    format!("{headers:?}")
}

/// Feeds `input` in steps of `step` bytes.
fn in_steps<T>(
    input: &[u8],
    step: usize,
    mut parse: impl FnMut(&[u8], &mut HeadScanner, &mut HeaderMap) -> Option<Parsed<T>>,
) -> (Outcome<T>, HeaderMap) {
    let (mut scan, mut headers) = (HeadScanner::new(), HeaderMap::new());
    let mut have = 0;
    while have < input.len() {
        have = (have + step).min(input.len());
        match parse(&input[..have], &mut scan, &mut headers) {
            None => return (Outcome::Refused, headers),
            Some(Parsed::Partial) => {}
            Some(Parsed::Complete(head, used)) => {
                assert!(used <= have);
                return (Outcome::Complete(head, used, text(&headers)), headers);
            }
        }
    }
    (Outcome::Partial, headers)
}

/// However the bytes arrive, the same head comes out. Only a refusal may come later, or not before the head is whole.
fn check_steps<T: Clone + PartialEq + std::fmt::Debug>(
    input: &[u8],
    parse: impl Fn(&[u8], &mut HeadScanner, &mut HeaderMap) -> Option<Parsed<T>>,
) -> Option<(T, usize, HeaderMap)> {
    let (whole, headers) = in_steps(input, input.len().max(1), &parse);
    for step in [1, 7, 64] {
        let (stepped, _) = in_steps(input, step, &parse);
        match &whole {
            Outcome::Refused => assert!(!matches!(stepped, Outcome::Complete(..)), "{}", input.escape_ascii()),
            _ => assert_eq!(stepped, whole, "{} in steps of {step}", input.escape_ascii()),
        }
    }
    let Outcome::Complete(head, used, _) = whole else { return None };
    check_fields(&headers);
    Some((head, used, headers))
}

/// Nothing in a map can end a line or begin another.
fn check_fields(headers: &HeaderMap) {
    for (name, value) in headers {
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        let token = name.strip_prefix(':').unwrap_or(name);
        assert!(
            !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase() && b != b':')
        );
    }
    assert!(!headers.has(Known::TRANSFER_ENCODING));
}

fn request_options() -> RequestOptions {
    RequestOptions {
        accept_http_10: true,
        allow_custom_methods: true,
        default_host_for_http_10: Some("default".into()),
        ..RequestOptions::default()
    }
}

fn read_request(options: &RequestOptions, input: &[u8]) -> Option<(RequestHead, usize, HeaderMap)> {
    check_steps(input, |buf, scan, headers| parse_request(buf, scan, options, headers).ok())
}

/// A request that is accepted goes out as one request with the same framing, target and host.
pub fn request(input: &[u8]) -> bool {
    let options = request_options();
    let Some((head, _, headers)) = read_request(&options, input) else { return false };
    let path = headers.get(Known::PATH).unwrap_or(b"/");
    let routable = path.starts_with(b"/") || path == b"*";
    if !routable || headers.len() > 90 || headers.byte_size() > 50_000 {
        return true;
    }
    for spelling in [Spelling::Lower, Spelling::ProperCase, Spelling::Preserve] {
        let mut written = Vec::new();
        write_request_head(&mut written, &headers, head.framing, spelling, TargetForm::Origin);
        let Some((again, used, reread)) = read_request(&options, &written) else {
            panic!("{} became {}", input.escape_ascii(), written.escape_ascii())
        };
        assert_eq!(used, written.len(), "{}", written.escape_ascii());
        assert_eq!(again.framing, head.framing, "{}", written.escape_ascii());
        for name in [Known::METHOD, Known::PATH, Known::AUTHORITY] {
            assert_eq!(reread.get(name), headers.get(name), "{}", written.escape_ascii());
        }
    }
    true
}

fn read_response(options: &ResponseOptions, input: &[u8]) -> Option<(ResponseHead, usize, HeaderMap)> {
    check_steps(input, |buf, scan, headers| parse_response(buf, scan, options, headers).ok())
}

/// A response that is accepted goes out as one response with the same framing. Bits of the first byte choose what was
/// asked.
pub fn response(input: &[u8]) -> bool {
    let Some((flags, input)) = input.split_first() else { return false };
    let options = ResponseOptions {
        head_request: flags & 1 != 0,
        connect_request: flags & 2 != 0,
        upgrade_request: flags & 4 != 0,
        allow_chunked_length: flags & 8 != 0,
        ..ResponseOptions::default()
    };
    let Some((head, _, headers)) = read_response(&options, input) else { return false };
    if headers.len() > 90 || headers.byte_size() > 50_000 {
        return true;
    }
    // A length that only describes (HEAD, 304) is told by the map.
    let framing =
        match headers.get(Known::CONTENT_LENGTH).and_then(|value| std::str::from_utf8(value).ok()?.parse().ok()) {
            Some(length) if head.framing == Framing::None => Framing::Length(length),
            _ => head.framing,
        };
    for close in [false, true] {
        let mut written = Vec::new();
        let how = ResponseWrite { version: Version::Http11, framing, reason: None, close, spelling: Spelling::Lower };
        write_response_head(&mut written, &headers, &how);
        let Some((again, used, _)) = read_response(&options, &written) else {
            panic!("{} became {}", input.escape_ascii(), written.escape_ascii())
        };
        assert_eq!(used, written.len(), "{}", written.escape_ascii());
        assert_eq!((again.status, again.framing), (head.status, head.framing), "{}", written.escape_ascii());
    }
    true
}

/// Data, trailers and bytes used of a chunked body; `None` if it was refused or is not complete.
fn decode(input: &[u8], step: usize) -> Option<(Vec<u8>, String, usize)> {
    let options = TrailerOptions { deliver: true, ..TrailerOptions::default() };
    let mut decoder = BodyDecoder::new(Framing::Chunked).with_trailers(options);
    let mut trailers = HeaderMap::new();
    let (mut data, mut from, mut have) = (Vec::new(), 0, 0);
    loop {
        match decoder.decode(&input[from..have], &mut trailers).ok()? {
            BodyEvent::Need { consumed } => {
                from += consumed;
                if have == input.len() {
                    assert!(!decoder.is_done() && decoder.finish().is_err());
                    return None;
                }
                have = (have + step).min(input.len());
            }
            BodyEvent::Data { start, end, consumed, last } => {
                assert!(start < end && end <= consumed && from + consumed <= have && last == decoder.is_done());
                data.extend_from_slice(&input[from + start..from + end]);
                from += consumed;
            }
            BodyEvent::End { consumed, trailers: some } => {
                from += consumed;
                check_fields(&trailers);
                assert!(some != trailers.is_empty() && !trailers.has(Known::CONTENT_LENGTH));
                return Some((data, text(&trailers), from));
            }
        }
    }
}

/// However the bytes arrive, the same body comes out, and goes out as the same body.
pub fn body(input: &[u8]) -> bool {
    let whole = decode(input, input.len().max(1));
    for step in [1, 3, 16] {
        assert_eq!(decode(input, step), whole, "{} in steps of {step}", input.escape_ascii());
    }
    let Some((data, _, _)) = whole else { return false };
    let mut written = Vec::new();
    for chunk in data.chunks(5) {
        write_chunk_head(&mut written, chunk.len());
        written.extend_from_slice(chunk);
        write_chunk_end(&mut written);
    }
    write_last_chunk(&mut written, None);
    assert_eq!(decode(&written, 2), Some((data, text(&HeaderMap::new()), written.len())));
    true
}
