//! Bodies. Unless a row says otherwise, the expected result is what Envoy 1.40 makes of the same bytes.

use super::*;

/// Reads a body from the start of `input`: the data, ` +name=value` for trailers, ` >n` for bytes left over; or
/// ` partial`; or the details of the refusal, after the data that came before.
fn decode(mut decoder: BodyDecoder, input: &[u8]) -> String {
    let mut data = Vec::new();
    let mut trailers = HeaderMap::new();
    let mut at = 0;
    let end = loop {
        match decoder.decode(&input[at..], &mut trailers) {
            Ok(BodyEvent::Need { consumed }) => {
                assert!(at + consumed <= input.len() && !decoder.is_done());
                break " partial".into();
            }
            Ok(BodyEvent::Data { start, end, consumed, last }) => {
                assert!(start < end && end <= consumed);
                data.extend_from_slice(&input[at + start..at + end]);
                at += consumed;
                assert_eq!(last, decoder.is_done());
            }
            Ok(BodyEvent::End { consumed, trailers: some }) => {
                at += consumed;
                assert!(decoder.is_done());
                assert_eq!(decoder.decode(b"x", &mut trailers), Ok(BodyEvent::End { consumed: 0, trailers: false }));
                let trailers = if some { format!(" +{}", dump(&trailers)) } else { String::new() };
                let rest = input.len() - at;
                break if rest > 0 { format!("{trailers} >{rest}") } else { trailers };
            }
            Err(error) => break format!(" {} {}", error.status, error.details),
        }
    };
    format!("{}{end}", String::from_utf8_lossy(&data))
}

fn check(input: &str, expected: &str) {
    check_bytes(input.as_bytes(), expected);
}

fn check_bytes(input: &[u8], expected: &str) {
    let decoder = BodyDecoder::new(Framing::Chunked);
    assert_eq!(decode(decoder, input), expected, "{}", input.escape_ascii());
}

const BAD: &str = " 400 http1.codec_error";

#[test]
fn framings() {
    let check = |framing, input: &[u8], expected: &str| assert_eq!(decode(BodyDecoder::new(framing), input), expected);
    check(Framing::None, b"abc", " >3");
    check(Framing::Length(0), b"abc", " >3");
    check(Framing::Length(3), b"abc", "abc");
    check(Framing::Length(3), b"abcde", "abc >2");
    check(Framing::Length(3), b"ab", "ab partial");
    check(Framing::Length(u64::MAX), b"ab", "ab partial");
    check(Framing::UntilClose, b"abc", "abc partial");
}

#[test]
fn ends_of_connections() {
    for (framing, input, fine) in [
        (Framing::None, &b""[..], true),
        (Framing::UntilClose, b"a", true),
        (Framing::Length(1), b"", false),
        (Framing::Length(1), b"a", true),
        (Framing::Chunked, b"1\r\na\r\n", false),
        (Framing::Chunked, b"1\r\na\r\n0\r\n", false),
        (Framing::Chunked, b"1\r\na\r\n0\r\n\r\n", true),
    ] {
        let mut decoder = BodyDecoder::new(framing);
        let mut at = 0;
        while let Ok(BodyEvent::Data { consumed, .. }) = decoder.decode(&input[at..], &mut HeaderMap::new()) {
            at += consumed;
        }
        assert_eq!(decoder.finish().is_ok(), fine, "{framing:?} {}", input.escape_ascii());
    }
}

#[test]
fn chunks() {
    check("3\r\nabc\r\n0\r\n\r\nrest", "abc >4");
    check("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "abcde");
    check("03\r\nabc\r\n00\r\n\r\n", "abc");
    check("000000000000000000003\r\nabc\r\n0\r\n\r\n", "abc");
    check("a\r\n0123456789\r\n0\r\n\r\n", "0123456789");
    check("A\r\n0123456789\r\n0\r\n\r\n", "0123456789");
    check("ffffffffffffffff\r\nabc", "abc partial");
    check("10000000000000000\r\nabc", BAD);
    for size in ["0x3", "+3", "-3", " 3", "\r\n3", "", ";a", "g", "3g", "3\r"] {
        check(&format!("{size}\r\nabc\r\n0\r\n\r\n"), BAD);
    }
    check("3\nabc\r\n0\r\n\r\n", BAD);
    check("3\rabc\r\n0\r\n\r\n", BAD);
    for (input, partial) in [
        ("3", ""),
        ("3\r", ""),
        ("3\r\n", ""),
        ("3\r\nab", "ab"),
        ("3\r\nabc\r", "abc"),
        ("3\r\nabc\r\n0\r\n", "abc"),
        ("3\r\nabc\r\n0\r\n\r", "abc"),
    ] {
        check(input, &format!("{partial} partial"));
    }
}

#[test]
fn ends_of_chunks() {
    check("3\r\nabc0\r\n\r\n", &format!("abc{BAD}"));
    check("3\r\nabc\r0\r\n\r\n", &format!("abc{BAD}"));
    check("3\r\nabc\r\n0\n\r\n", &format!("abc{BAD}"));
    check("3\r\nabc\r\n0\n\n", &format!("abc{BAD}"));
    // Envoy skips everything up to the next LF here, and takes LF alone for the last line's end.
    check("3\r\nabcd\r\n0\r\n\r\n", &format!("abc{BAD}"));
    check("3\r\nabc\n0\r\n\r\n", &format!("abc{BAD}"));
    check("3\r\nabcX\n0\r\n\r\n", &format!("abc{BAD}"));
    check("3\r\nabc\r\n0\r\n\n", &format!("abc{BAD}"));
}

#[test]
fn extensions() {
    for extension in [";a=b", " ;a", "\t; a = \"b c\"", " ", "\t", ";a=\"x", ";ä", ";"] {
        check(&format!("3{extension}\r\nabc\r\n0{extension}\r\n\r\n"), "abc");
    }
    check("3;a\nabc\r\n0\r\n\r\n", BAD);
    check("3;a\rb\r\nabc\r\n0\r\n\r\n", BAD);
    // Envoy lets these three pass, and extensions of any length.
    check("3;a\0b\r\nabc\r\n0\r\n\r\n", BAD);
    check("3;a\x7fb\r\nabc\r\n0\r\n\r\n", BAD);
    check("3 a\r\nabc\r\n0\r\n\r\n", BAD);
    check(&format!("3;{}\r\nabc\r\n0\r\n\r\n", "a".repeat(4000)), "abc");
    check(&format!("3;{}\r\nabc\r\n0\r\n\r\n", "a".repeat(5000)), BAD);
    check(&format!("3;{}", "a".repeat(5000)), BAD);
    check(&format!("3{}", " ".repeat(5000)), BAD);
    check(&"0".repeat(5000), BAD);
    check(&format!("1;{}\r\na\r\n", "a".repeat(4000)).repeat(5), &format!("aaaa{BAD}"));
}

fn with_trailers(trailers: TrailerOptions, input: &str) -> String {
    decode(BodyDecoder::new(Framing::Chunked).with_trailers(trailers), format!("1\r\nx\r\n0\r\n{input}").as_bytes())
}

#[test]
fn trailers() {
    let wanted = TrailerOptions { deliver: true, ..TrailerOptions::default() };
    for (input, expected) in [
        ("A: b\r\n\r\n", "x +a=b"),
        ("A: b\r\nC: d\r\n\r\nmore", "x +a=b|c=d >4"),
        ("Grpc-Status: 0\r\nGrpc-Message: ok\r\n\r\n", "x +grpc-status=0|grpc-message=ok"),
        ("Authorization: x\r\n\r\n", "x +authorization=x"),
        ("A: b\r\n", "x partial"),
        ("A: b\r\n\r", "x partial"),
        ("A", "x partial"),
        // Envoy hands these on.
        ("Content-Length: 3\r\nA: b\r\nTransfer-Encoding: chunked\r\nHost: x\r\nTE: x\r\n\r\n", "x +a=b"),
        ("Connection: x\r\nTrailer: x\r\nUpgrade: x\r\nKeep-Alive: x\r\n\r\n", "x"),
        ("A : b\r\n\r\n", "x 400 http1.codec_error"),
        (" A: b\r\n\r\n", "x 400 http1.codec_error"),
        ("A\r\n\r\n", "x 400 http1.codec_error"),
        (": b\r\n\r\n", "x 400 http1.codec_error"),
        (":path: /x\r\n\r\n", "x 400 http1.codec_error"),
        ("A: b\0\r\n\r\n", "x 400 http1.invalid_characters"),
        // Envoy takes LF for a line end, unfolds, and removes CR.
        ("A: b\n\r\n", "x 400 http1.codec_error"),
        ("A: b\r\n\n", "x 400 http1.codec_error"),
        ("A: b\r\n c\r\n\r\n", "x 400 http1.codec_error"),
        ("A: b\rc\r\n\r\n", "x 400 http1.codec_error"),
    ] {
        assert_eq!(with_trailers(wanted, input), expected, "{input:?}");
        let unwanted = match expected.split_once(" +") {
            Some((data, trailers)) => format!("{data}{}", trailers.find(" >").map_or("", |at| &trailers[at..])),
            None => expected.to_owned(),
        };
        assert_eq!(with_trailers(TrailerOptions::default(), input), unwanted, "{input:?}");
    }
}

#[test]
fn underscores_in_trailers() {
    for (deliver, underscores, expected) in [
        (true, Underscores::Allow, "x +a_b=c"),
        (true, Underscores::Drop, "x"),
        (true, Underscores::Reject, "x 400 http1.unexpected_underscore"),
        (false, Underscores::Reject, "x"),
    ] {
        let options = TrailerOptions { deliver, underscores, ..TrailerOptions::default() };
        assert_eq!(with_trailers(options, "a_b: c\r\n\r\n"), expected);
    }
}

#[test]
fn limits_of_trailers() {
    let wanted = TrailerOptions { deliver: true, max_bytes: 1024, ..TrailerOptions::default() };
    let count = |count: usize| with_trailers(wanted, &format!("{}\r\n", "a: b\r\n".repeat(count)));
    assert!(count(100).starts_with("x +a=b|a=b"));
    assert_eq!(count(101), "x 431 http1.too_many_headers");
    let size = |size: usize| with_trailers(wanted, &format!("a: {}\r\n\r\n", "b".repeat(size - 7)));
    assert!(size(1024).starts_with("x +a=bbb"));
    assert_eq!(size(1025), "x 431 http1.headers_too_large");
    assert_eq!(with_trailers(wanted, &"a".repeat(1025)), "x 431 http1.headers_too_large");
    assert_eq!(with_trailers(wanted, &"a".repeat(1024)), "x partial");
}
