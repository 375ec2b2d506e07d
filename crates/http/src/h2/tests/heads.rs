//! Heads: what is malformed, what is refused, what becomes of the rest; and heads of many frames.

use super::*;
use crate::h1::Underscores;
use crate::h2::headers::{Reader, Rules, Section};
use crate::h2::hpack::Field;

fn rules() -> Rules {
    let options = Http2Options { allow_connect: true, max_headers: 6, ..Http2Options::default() };
    Rules::new(&options, Underscores::Allow)
}

/// What a section comes to: its map, or why it is refused.
fn read(section: Section, rules: Rules, lines: &[(&[u8], &[u8])]) -> String {
    let mut into = HeaderMap::new();
    let mut reader = Reader::new(section, rules, &mut into);
    for (name, value) in lines {
        reader.line(Field { known: Known::from_lower(name), name, value });
    }
    match reader.finish() {
        Ok(taken) => {
            let mut text = dump(&into);
            for (set, what) in [
                (taken.connect, "; connect"),
                (taken.upgrade, "; upgrade"),
                (taken.expect_continue, "; expect"),
                (taken.dropped_underscores > 0, "; dropped"),
            ] {
                text += if set { what } else { "" };
            }
            text
        }
        Err(refused) => format!("{refused:?}"),
    }
}

type Lines<'a> = &'a [(&'a [u8], &'a [u8])];

#[test]
fn pseudo_headers_of_requests() {
    const M: (&[u8], &[u8]) = (b":method", b"GET");
    const S: (&[u8], &[u8]) = (b":scheme", b"http");
    const P: (&[u8], &[u8]) = (b":path", b"/");
    const A: (&[u8], &[u8]) = (b":authority", b"a");
    const C: (&[u8], &[u8]) = (b":method", b"CONNECT");
    let all = ":method=GET :scheme=http :path=/ :authority=a";
    let table: &[(Lines<'_>, &str)] = &[
        (&[M, S, P, A], all),
        (&[A, P, S, M], ":authority=a :path=/ :scheme=http :method=GET"),
        (&[M, S, P], ":method=GET :scheme=http :path=/"),
        (&[M, S, P, (b"host", b"b")], ":method=GET :scheme=http :path=/ :authority=b"),
        (&[M, S, P, A, (b"host", b"b")], all),
        (&[M, S, P, (b"host", b"b"), (b"host", b"c")], "Malformed"),
        (&[M, S, P, A, (b"host", b"b"), (b"host", b"b")], "Malformed"),
        (&[M, S, P, (b"host", b"")], "Malformed"),
        (&[M, S, P, (b":authority", b"")], "Malformed"),
        (&[M, S, (b":path", b"*")], "Malformed"),
        (&[M, S, (b":path", b"a")], "Malformed"),
        (&[M, S, (b":path", b"http://a/")], "Malformed"),
        (&[(b":method", b"OPTIONS"), S, (b":path", b"*")], ":method=OPTIONS :scheme=http :path=*"),
        (&[(b":method", b"OPTIONS"), S, (b":path", b"*a")], "Malformed"),
        (&[M, S, P, (b"host", b"b@c")], "Malformed"),
        (&[M, S, P, (b":authority", b"u@a")], "Malformed"),
        (&[M, S, P, (b":authority", b"a b")], "Malformed"),
        (&[S, P, A], "Malformed"),
        (&[M, P, A], "Malformed"),
        (&[M, S, A], "Malformed"),
        (&[M, M, S, P, A], "Malformed"),
        (&[M, S, P, P], "Malformed"),
        (&[M, S, P, A, A], "Malformed"),
        (&[M, S, P, A, (b":status", b"200")], "Malformed"),
        (&[M, S, P, A, (b":nothing", b"1")], "Malformed"),
        (&[M, S, P, A, (b":", b"1")], "Malformed"),
        (&[M, S, (b"a", b"b"), P, A], "Malformed"),
        (&[M, S, P, (b"host", b"a"), A], "Malformed"),
        (&[M, S, (b":path", b""), A], "Malformed"),
        (&[M, S, (b":path", b"/a b"), A], "Malformed"),
        (&[M, S, (b":path", b"/\x7f"), A], "Malformed"),
        (&[(b":method", b"G T"), S, P, A], "Malformed"),
        (&[(b":method", b""), S, P, A], "Malformed"),
        (&[M, (b":scheme", b"1x"), P, A], "Malformed"),
        (&[M, (b":scheme", b"h ttp"), P, A], "Malformed"),
        (&[C, A], ":method=CONNECT :authority=a; connect"),
        (&[C, A, P], "Malformed"),
        (&[C, A, S], "Malformed"),
        (&[C, A, S, P], "Malformed"),
        (&[M, S, P, A, (b":protocol", b"websocket")], "Malformed"),
        (&[C, A, (b":protocol", b"websocket")], "Malformed"),
        (&[C, S, P, A, (b":protocol", b"")], "Malformed"),
        (&[C, S, P, A, (b":protocol", b"a b")], "Malformed"),
        (
            &[C, S, P, A, (b":protocol", b"connect-udp")],
            ":method=GET :scheme=http :path=/ :authority=a upgrade=connect-udp connection=upgrade; upgrade",
        ),
        (&[], "Malformed"),
    ];
    for (lines, outcome) in table {
        assert_eq!(read(Section::Request, rules(), lines), *outcome, "{lines:?}");
    }
    let without = Rules { extended_connect: false, ..rules() };
    assert_eq!(read(Section::Request, without, &[C, S, P, A, (b":protocol", b"websocket")]), "Malformed");
}

#[test]
fn fields_of_messages() {
    let many: Vec<_> = (0..7).map(|_| (&b"a"[..], &b"b"[..])).collect();
    let crumbs: Vec<_> = (0..50).map(|_| (&b"cookie"[..], &b"a=b"[..])).collect();
    let long = vec![b'v'; 61 << 10];
    let table: &[(Lines<'_>, &str)] = &[
        (&[(b"a", b"b"), (b"a", b"")], "a=b a="),
        (&[(b"A", b"b")], "Malformed"),
        (&[(b"a b", b"b")], "Malformed"),
        (&[(b"a:", b"b")], "Malformed"),
        (&[(b"", b"b")], "Malformed"),
        (&[(b"\xc3\xa4", b"b")], "Malformed"),
        (&[(b"a", b"b\tc d")], "a=b\tc d"),
        (&[(b"a", b"b\0c")], "Malformed"),
        (&[(b"a", b"b\rc")], "Malformed"),
        (&[(b"a", b"b\nc")], "Malformed"),
        (&[(b"a", b"\x7f")], "Malformed"),
        (&[(b"a", "ä".as_bytes())], "a=ä"),
        (&[(b"connection", b"close")], "Malformed"),
        (&[(b"keep-alive", b"1")], "Malformed"),
        (&[(b"proxy-connection", b"close")], "Malformed"),
        (&[(b"transfer-encoding", b"chunked")], "Malformed"),
        (&[(b"upgrade", b"websocket")], "Malformed"),
        (&[(b"te", b"trailers")], "te=trailers"),
        (&[(b"te", b"trailers, gzip")], "Malformed"),
        (&[(b"content-length", b"5")], "content-length=5"),
        (&[(b"content-length", b"5"), (b"content-length", b"5")], "Malformed"),
        (&[(b"content-length", b"+5")], "Malformed"),
        (&[(b"content-length", b"5, 5")], "Malformed"),
        (&[(b"content-length", b" 5")], "Malformed"),
        (&[(b"content-length", b"")], "Malformed"),
        (&[(b"content-length", b"18446744073709551616")], "Malformed"),
        (&[(b"expect", b"100-Continue")], "expect=100-Continue; expect"),
        (&[(b"cookie", b"a=b"), (b"cookie", b"c=d")], "cookie=a=b; c=d"),
        (&[(b"cookie", b"a=b"), (b"x", b"y"), (b"cookie", b"c=d")], "cookie=a=b; c=d x=y"),
        (&many, "TooMany"),
        (&crumbs, &format!("cookie={}", vec!["a=b"; 50].join("; "))),
        (&[(b"a", &long)], "TooLarge"),
        (&[(b"under_score", b"1")], "under_score=1"),
        (&[(b"a", b"b"), (b"A", b"b"), (b"a", &long)], "Malformed"),
    ];
    let begin: Lines<'_> = &[(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/")];
    for (lines, outcome) in table {
        let text = read(Section::Request, rules(), &[begin, lines].concat());
        assert_eq!(text.trim_start_matches(":method=GET :scheme=http :path=/ "), *outcome, "{lines:?}");
    }
    for (underscores, outcome) in [(Underscores::Drop, "x=1; dropped"), (Underscores::Reject, "Underscore")] {
        let text = read(Section::Trailers, Rules { underscores, ..rules() }, &[(b"under_score", b"1"), (b"x", b"1")]);
        assert_eq!(text, outcome);
    }
    let strict = Rules { disallow_obs_text: true, longest: 10, ..rules() };
    assert_eq!(read(Section::Trailers, strict, &[(b"a", b"\x80")]), "Malformed");
    assert_eq!(read(Section::Trailers, strict, &[(b"a", b"123456789")]), "a=123456789");
    assert_eq!(read(Section::Trailers, strict, &[(b"a", b"1234567890")]), "TooLarge");
    let light = Rules { heaviest: 100, ..rules() };
    assert_eq!(read(Section::Trailers, light, &[(b"a", b"1"), (b"b", b"2")]), "a=1 b=2");
    assert_eq!(read(Section::Trailers, light, &[(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]), "TooLarge");
}

#[test]
fn sections_of_responses_and_trailers() {
    let table: &[(Section, Lines<'_>, &str)] = &[
        (Section::Response, &[(b":status", b"200"), (b"a", b"b")], ":status=200 a=b"),
        (Section::Response, &[(b":status", b"200"), (b":method", b"GET")], "Malformed"),
        (Section::Response, &[(b"a", b"b"), (b":status", b"200")], "Malformed"),
        (Section::Response, &[(b":status", b"200"), (b"host", b"a")], ":status=200 host=a"),
        (Section::Trailers, &[(b"a", b"b"), (b"content-length", b"3"), (b"te", b"trailers")], "a=b"),
        (Section::Trailers, &[(b"a", b"b"), (b"trailer", b"x"), (b"host", b"h")], "a=b"),
        (Section::Trailers, &[(b"a", b"b"), (b"upgrade", b"x")], "Malformed"),
        (Section::Trailers, &[(b"a", b"b"), (b":path", b"/")], "Malformed"),
        (Section::Trailers, &[], ""),
    ];
    for (section, lines, outcome) in table {
        assert_eq!(read(*section, rules(), lines), *outcome, "{lines:?}");
    }
}

/// Large heads leave in several frames, of no more than what the peer takes, with nothing between them.
#[test]
fn large_heads_leave_in_frames_that_the_peer_takes() {
    let mut client = Client::new(&Http2Options::default(), &[]);
    let long = "l".repeat(50_000);
    let _stream = client.request(&[GET, &[("x", &long), ("y", "z")]].concat(), true);
    client.idle();
    let output = client.peer.socket.0.borrow().output.clone();
    let mut kinds = Vec::new();
    let mut rest = &output[..];
    while let Some(head) = FrameHead::parse(rest) {
        assert!(head.length <= 16_384);
        kinds.push((head.kind, head.flags));
        rest = &rest[HEAD + head.length..];
    }
    assert_eq!(kinds.first(), Some(&(kind::HEADERS, END_STREAM)));
    assert_eq!(kinds.last(), Some(&(kind::CONTINUATION, END_HEADERS)));
    assert!(kinds[1..kinds.len() - 1].iter().all(|kind| *kind == (kind::CONTINUATION, 0)));
    let head = ":method=GET :scheme=http :path=/ :authority=a x=(50000) y=z";
    assert_eq!(client.peer.heard(), [format!("HEADERS 1 end {head}")]);
}

/// In frames of every size, with padding and priority, however the bytes come.
#[test]
fn heads_come_in_any_number_of_frames() {
    for size in [1, 2, 7, 1000] {
        for most in [1, 3, usize::MAX] {
            let mut server = Server::new(&Http2Options { max_consecutive_empty_frames: 5, ..Default::default() }, &[]);
            server.peer.socket.0.borrow_mut().most = most;
            let block = server.peer.block(&[GET, &[("a", "b"), ("cookie", "c"), ("cookie", "d")]].concat());
            let mut pieces = block.chunks(size);
            let first = [&[2, 0, 0, 0, 0, 9][..], pieces.next().unwrap(), &[0, 0]].concat();
            let mut bytes = frame(kind::HEADERS, END_STREAM | PADDED | flag::PRIORITY, 1, &first);
            for piece in pieces {
                bytes.extend(frame(kind::CONTINUATION, 0, 1, piece));
            }
            bytes.extend(frame(kind::CONTINUATION, 0, 1, &[]));
            bytes.extend(frame(kind::CONTINUATION, END_HEADERS, 1, &[]));
            server.peer.send(&bytes);
            let (headers, head, stream) = loop {
                match server.poll() {
                    Poll::Ready(Some(Ok(incoming))) => {
                        let mut headers = HeaderMap::new();
                        let (head, stream) = incoming.open(&mut headers);
                        break (headers, head, stream);
                    }
                    Poll::Pending => assert!(server.peer.woken.take()),
                    Poll::Ready(_) => panic!(),
                }
            };
            head.unwrap();
            assert_eq!(dump(&headers), ":method=GET :scheme=http :path=/ :authority=a a=b cookie=c; d");
            drop(stream);
        }
    }
}

#[test]
fn frames_of_a_head_stand_together() {
    let mut block = Peer::new().block(GET);
    block.truncate(3);
    for between in [
        frame(kind::PING, 0, 0, &[0; 8]),
        data(1, 0, 1),
        frame(kind::CONTINUATION, END_HEADERS, 3, &[]),
        frame(kind::HEADERS, END_HEADERS, 1, &[]),
        frame(77, 0, 1, &[]),
    ] {
        let mut server = Server::new(&Http2Options::default(), &[]);
        server.peer.send(&[frame(kind::HEADERS, END_STREAM, 1, &block), between].concat());
        assert_eq!(server.fails().1, ["GOAWAY 0 1"]);
    }
    for (wrong, code) in [
        (frame(kind::CONTINUATION, END_HEADERS, 1, &[]), 1),
        (frame(kind::HEADERS, END_HEADERS | PADDED, 1, &[9, 0]), 1),
        (frame(kind::HEADERS, END_HEADERS | PADDED, 1, &[]), 6),
        (frame(kind::HEADERS, END_HEADERS | flag::PRIORITY, 1, &[0, 0, 0, 1]), 6),
        (frame(kind::HEADERS, END_HEADERS | flag::PRIORITY, 1, &[0, 0, 0, 1, 0]), 1),
        (frame(kind::HEADERS, END_HEADERS, 0, &[]), 1),
        (frame(kind::HEADERS, END_HEADERS, 2, &[]), 1),
        (frame(kind::HEADERS, END_HEADERS, 1, &[0xff]), 9),
        (frame(kind::DATA, PADDED, 1, &[]), 6),
        (data(0, 0, 1), 1),
        (data(1, 0, 1), 1),
        (word(kind::WINDOW_UPDATE, 1, 1), 1),
        (word(kind::RST_STREAM, 1, 1), 1),
        (word(kind::RST_STREAM, 0, 1), 1),
        (frame(kind::RST_STREAM, 0, 1, &[0; 3]), 6),
        (frame(kind::PING, 0, 0, &[0; 7]), 6),
        (frame(kind::PING, 0, 1, &[0; 8]), 1),
        (frame(kind::GOAWAY, 0, 0, &[0; 7]), 6),
        (frame(kind::GOAWAY, 0, 1, &[0; 8]), 1),
        (frame(kind::SETTINGS, 0, 1, &[]), 1),
        (frame(kind::SETTINGS, 0, 0, &[0; 5]), 6),
        (frame(kind::SETTINGS, flag::ACK, 0, &[0; 6]), 6),
        (settings(&[(2, 2)]), 1),
        (settings(&[(5, 16_383)]), 1),
        (settings(&[(5, 1 << 24)]), 1),
        (settings(&[(8, 2)]), 1),
        (frame(kind::PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]), 1),
        (frame(kind::PRIORITY, 0, 0, &[0; 5]), 1),
        (vec![0, 64, 1, 0, 0, 0, 0, 0, 1], 6),
    ] {
        let mut server = Server::new(&Http2Options::default(), &[]);
        server.peer.send(&wrong);
        let heard = server.fails().1;
        assert_eq!(heard.last().unwrap().rsplit(' ').next(), Some(&*code.to_string()), "{wrong:?}");
    }
}

/// A section that is refused leaves the table as the peer has it.
#[test]
fn the_next_head_is_read_after_one_that_was_refused() {
    let long = "l".repeat(70_000);
    let too_many: Vec<(&str, &str)> = (0..200).map(|_| ("a", "b")).collect();
    for (lines, refused) in [
        (vec![("x", &*long), ("seen", "before")], Refused::TooLarge),
        ([&too_many[..], &[("seen", "before")]].concat(), Refused::TooMany),
        (vec![("UPPER", "1"), ("seen", "before")], Refused::Malformed),
    ] {
        let options = Http2Options { stream_error_on_invalid_message: true, ..Http2Options::default() };
        let mut server = Server::new(&options, &[]);
        let block = server.peer.block(&[GET, &lines].concat());
        let mut pieces = block.chunks(16_000).peekable();
        let mut kind = kind::HEADERS;
        while let Some(piece) = pieces.next() {
            let flags = if pieces.peek().is_none() { END_HEADERS } else { 0 };
            let end = if kind == kind::HEADERS { END_STREAM } else { 0 };
            server.peer.send(&frame(kind, flags | end, 1, piece));
            kind = kind::CONTINUATION;
        }
        assert_eq!(server.accept().1.unwrap_err(), refused);
        server.peer.send_head(3, END_STREAM, &[GET, &[("seen", "before")]].concat());
        let (headers, head, _stream) = server.accept();
        head.unwrap();
        assert!(dump(&headers).ends_with("seen=before"));
    }
    let mut server = Server::new(&Http2Options::default(), &[]);
    server.peer.send(&frame(kind::HEADERS, 0, 1, &[0; 16_000]));
    for _ in 0..100 {
        server.peer.send(&frame(kind::CONTINUATION, 0, 1, &[0; 16_000]));
    }
    assert_eq!(server.fails().1, ["GOAWAY 0 11"], "far too long");
}
