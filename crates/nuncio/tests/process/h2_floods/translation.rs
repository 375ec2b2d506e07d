//! What HTTP/2 can say and HTTP/1 would read as something else.

use super::*;

#[test]
fn cve_2023_27491_fields_that_http1_would_read_otherwise() {
    let target = Target::new(vec![]);
    let fields: &[(&[u8], &[u8])] = &[
        (b"x", b"a\r\nevil: 1"),
        (b"x", b"a\nevil: 1"),
        (b"x", b"a\revil: 1"),
        (b"x", b"a\0b"),
        (b"x\r\nevil", b"1"),
        (b"x\nevil", b"1"),
        (b"x: y\r\nevil", b"1"),
        (b"x\0", b"1"),
        (b"evil ", b"1"),
        (b" evil", b"1"),
        (b"evil:", b"1"),
        (b"Evil", b"1"),
        (b"", b"evil"),
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"evil"),
        (b"keep-alive", b"evil"),
        (b"proxy-connection", b"evil"),
        (b"upgrade", b"evil"),
        (b"te", b"evil"),
        (b":evil", b"1"),
        (b":status", b"200"),
        (b":path", b"/evil"),
        (b":method", b"EVIL"),
        (b":authority", b"evil"),
    ];
    for (name, value) in fields {
        let client = target.connect();
        let mut block = hpack::request("GET", "/", &[]);
        hpack::literal(&mut block, name, value);
        client.send(&frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block)).unwrap();
        let answered = client.await_that(|account| account.closed || account.ended > 0 || !account.resets.is_empty());
        assert!(answered, "{:?}: {:?}", String::from_utf8_lossy(name), client.account());
        let account = client.account();
        assert_ne!(
            account.status(1),
            Some(200),
            "{:?}: {:?}",
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(value)
        );
    }
    for (pseudo, value) in [
        (":path", "/ HTTP/1.1\r\nevil: 1"),
        (":path", "/a b"),
        (":path", "evil"),
        (":path", ""),
        (":path", "/\0"),
        (":method", "GET / HTTP/1.1\r\nevil: 1"),
        (":method", "GE T"),
        (":method", ""),
        (":authority", "h.test\r\nevil: 1"),
        (":authority", "h.test evil"),
        (":authority", "evil@h.test"),
        (":scheme", "http://evil"),
        (":scheme", "ht\r\ntp"),
    ] {
        let client = target.connect();
        let mut fields = vec![(":method", "GET"), (":scheme", "http"), (":authority", "h.test"), (":path", "/")];
        for field in &mut fields {
            if field.0 == pseudo {
                field.1 = value;
            }
        }
        let flags = flag::END_HEADERS | flag::END_STREAM;
        client.send(&frame(kind::HEADERS, flags, 1, &hpack::block(&fields))).unwrap();
        let answered = client.await_that(|account| account.closed || account.ended > 0 || !account.resets.is_empty());
        assert!(answered, "{pseudo} {value:?}: {:?}", client.account());
        assert_ne!(client.account().status(1), Some(200), "{pseudo} {value:?}");
    }
    assert_eq!(target.origin.seen(), [], "the origin saw");
}

#[test]
fn cve_2026_48743_lengths_that_are_not_true() {
    let target = Target::new(vec![]);
    let end = flag::END_STREAM;
    let data = |flags: u8, bytes: &[u8]| frame(kind::DATA, flags, 1, bytes);
    let headers = |flags: u8, length: &[(&str, &str)]| {
        frame(kind::HEADERS, flag::END_HEADERS | flags, 1, &hpack::request("POST", "/", length))
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("headers alone", headers(end, &[("content-length", "5")])),
        ("less than said", [headers(0, &[("content-length", "5")]), data(end, b"abc")].concat()),
        ("nothing of it", [headers(0, &[("content-length", "5")]), data(end, b"")].concat()),
        ("more than said", [headers(0, &[("content-length", "5")]), data(end, b"abcdefgh")].concat()),
        ("more in pieces", [headers(0, &[("content-length", "5")]), data(0, b"abc"), data(end, b"defgh")].concat()),
        (
            "two lengths",
            [headers(0, &[("content-length", "5"), ("content-length", "3")]), data(end, b"abcde")].concat(),
        ),
        ("no number", [headers(0, &[("content-length", "5x")]), data(end, b"abcde")].concat()),
        ("a sign", [headers(0, &[("content-length", "+5")]), data(end, b"abcde")].concat()),
    ];
    for (what, bytes) in cases {
        let client = target.connect();
        client.send(&bytes).unwrap();
        let answered = client.await_that(|account| account.closed || account.ended > 0 || !account.resets.is_empty());
        assert!(answered, "{what}: {:?}", client.account());
        assert_ne!(client.account().status(1), Some(200), "{what}");
    }
    for seen in target.origin.seen() {
        assert_ne!(seen.body.end, nuncio_testkit::message::End::Complete, "the origin saw {seen:?} to its end");
    }
}

/// CVE-2023-35944: schemes in other letters, which a check that compares them as they are would miss.
#[test]
fn cve_2023_35944_schemes_in_other_letters() {
    let origin = origin(vec![]);
    let manager = Http {
        manager: &["codec_type: AUTO", "use_remote_address: true"],
        clusters: vec![cluster("a", &[origin.address()])],
        ..Http::default()
    };
    let plain = Setup::new(&manager.text()).start();
    let strict = Setup::new(&manager.text().replace("name: all, ", "name: all, require_tls: ALL, ")).start();
    let ask = |running: &Running, scheme: &str, forwarded: Option<&str>| {
        let client = RawH2::connect(running.setup.address("front")).unwrap();
        let mut fields = vec![(":method", "GET"), (":scheme", scheme), (":authority", "h.test"), (":path", "/")];
        fields.extend(forwarded.map(|proto| ("x-forwarded-proto", proto)));
        client.send(&frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &hpack::block(&fields))).unwrap();
        let ended = |account: &mut nuncio_testkit::h2_raw::Account| {
            account.closed || account.ended > 0 || !account.resets.is_empty()
        };
        assert!(client.await_that(ended), "{scheme}: {:?}", client.account());
        client.account().status(1)
    };
    for scheme in ["http", "HTTP", "Http", "https", "HTTPS", "hTTps"] {
        for forwarded in [None, Some("https"), Some("HTTPS"), Some("hTTpS")] {
            let status = ask(&strict, scheme, forwarded);
            assert_ne!(status, Some(200), "{scheme} {forwarded:?}: this is no TLS");
            ask(&plain, scheme, forwarded);
        }
    }
    let seen = origin.seen();
    assert!(!seen.is_empty());
    for seen in seen {
        assert_eq!(seen.head.get("x-forwarded-proto"), Some("http"), "{seen:?}");
    }
}
