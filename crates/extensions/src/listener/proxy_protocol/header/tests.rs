use super::*;

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE_V2.to_vec();
    header.extend([command, family]);
    header.extend((body.len() as u16).to_be_bytes());
    header.extend(body);
    header
}

const IPV4: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 0x04, 0x57, 0x08, 0xae];

fn addresses(data: &[u8]) -> Addresses {
    match parse(data) {
        Parsed::Header { addresses, .. } => addresses,
        other => panic!("{other:?}"),
    }
}

#[test]
fn lines_of_version_1() {
    let some = Some(("1.2.3.4:1111".parse().unwrap(), "5.6.7.8:2222".parse().unwrap()));
    assert_eq!(addresses(b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\r\nGET"), some);
    assert_eq!(addresses(b"PROXY UNKNOWN\r\n"), None);
    assert_eq!(addresses(b"PROXY UNKNOWN ff:: ff:: 1 2\r\n"), None);
    for line in [
        "TCP4 ::1 ::2 1 2",
        "TCP4 1.2.3.4 5.6.7.8 1",
        "TCP4 1.2.3.4 5.6.7.8 1 2 3",
        "TCP4 1.2.3.4 5.6.7.8 65536 2",
        "TCP4  1.2.3.4 5.6.7.8 1 2",
        "TCP4 224.0.0.1 5.6.7.8 1 2",
        "TCP4 0.0.0.0 5.6.7.8 1 2",
        "UDP4 1.2.3.4 5.6.7.8 1 2",
        "TCP4 1.2.3.4 5.6.7.8 +1 2",
        "TCP6 1.2.3.4 5.6.7.8 1 2",
        "",
    ] {
        assert_eq!(parse(format!("PROXY {line}\r\n").as_bytes()), Parsed::Wrong(Version::V1), "{line}");
    }
    assert_eq!(parse(format!("PROXY TCP4 {}", "1".repeat(200)).as_bytes()), Parsed::Missing);
}

#[test]
fn headers_of_version_2() {
    let some = Some(("1.2.3.4:1111".parse().unwrap(), "5.6.7.8:2222".parse().unwrap()));
    assert_eq!(addresses(&v2(0x21, 0x11, &IPV4)), some);
    assert_eq!(addresses(&v2(0x21, 0x12, &IPV4)), some);
    assert_eq!(addresses(&v2(0x20, 0, b"")), None);
    assert_eq!(addresses(&v2(0x20, 0x11, b"anything")), None);
    for (command, family, body) in [
        (0x22, 0x11, &IPV4[..]),
        (0x11, 0x11, &IPV4[..]),
        (0x21, 0x00, b""),
        (0x21, 0x31, &[b'a'; 216]),
        (0x21, 0x11, &IPV4[..11]),
        (0x21, 0x10, &IPV4[..]),
        (0x21, 0x11, &[255; 12]),
    ] {
        assert_eq!(parse(&v2(command, family, body)), Parsed::Wrong(Version::V2), "{command:x} {family:x}");
    }
}

#[test]
fn every_prefix_is_incomplete_and_nothing_else_is_a_header() {
    let tlvs = [&IPV4[..], b"\x02\x00\x03abc", b"\x01\x00\x00"].concat();
    for whole in [v2(0x21, 0x11, &tlvs), b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\r\n".to_vec()] {
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), Parsed::Incomplete, "{end}");
        }
        assert!(matches!(parse(&whole), Parsed::Header { size, .. } if size == whole.len()));
    }
    assert_eq!(parse(b"GET / HTTP/1.1\r\n\r\n"), Parsed::Missing);
    assert_eq!(parse(b"G"), Parsed::Missing);
}

/// The class of CVE-2022-29228 and CVE-2024-23327: lengths inside the header that disagree with it.
#[test]
fn lengths_of_values_that_go_beyond_the_header() {
    for tail in
        [&b"\x02"[..], b"\x02\x00", b"\x02\x00\x01", b"\x02\xff\xffabc", b"\x02\x00\x03abcd", b"\x02\x00\x05abc"]
    {
        let whole = v2(0x21, 0x11, &[&IPV4[..], tail].concat());
        assert_eq!(parse(&whole), Parsed::Wrong(Version::V2), "{tail:?}");
        assert_eq!(parse(&[&whole[..], b"what follows the header"].concat()), Parsed::Wrong(Version::V2), "{tail:?}");
    }
    let mut body = IPV4.to_vec();
    body.extend([3, 0xff, 0xf0 - 3]);
    body.resize(usize::from(u16::MAX), b'x');
    assert_eq!(v2(0x21, 0x11, &body).len(), MAX);
    assert!(!matches!(parse(&v2(0x21, 0x11, &body)), Parsed::Incomplete));
}

/// CVE-2026-47692: values (TLV) of version 2 whose lengths are not true, at every length and place.
#[test]
fn cve_2026_47692_values_of_every_length() {
    let value = |kind: u8, said: usize, bytes: &[u8]| {
        let mut tlv = vec![kind];
        tlv.extend(u16::try_from(said).unwrap().to_be_bytes());
        tlv.extend(bytes);
        tlv
    };
    for before in [0_usize, 1, 7] {
        for there in [0_usize, 1, 2, 3, 255, 256, 4096] {
            for said in [0_usize, 1, 2, 3, 4, 255, 256, 257, 4096, 4097, 0xffff] {
                let mut body = IPV4.to_vec();
                body.extend(value(1, 2, b"h2").repeat(before));
                body.extend(value(0xe0, said, &vec![0; there]));
                // What is left over is read as further values: of kind 0 and no length.
                let rest = there.checked_sub(said);
                let whole = v2(0x21, 0x11, &body);
                let parsed = parse(&whole);
                match rest {
                    Some(rest) if rest % 3 == 0 => {
                        assert!(matches!(parsed, Parsed::Header { .. }), "{said} of {there}")
                    }
                    _ => assert_eq!(parsed, Parsed::Wrong(Version::V2), "{said} of {there}"),
                }
            }
        }
    }
}

/// CVE-2026-47692: arbitrary bytes in the place of addresses and values.
#[test]
fn cve_2026_47692_arbitrary_bytes_do_no_harm() {
    let mut random = 1u64;
    let mut next = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as u8
    };
    for _ in 0..20_000 {
        let mut whole = v2(0x21, 0x11, &[&IPV4[..], b"\x02\x00\x03abc\x01\x00\x02h2"].concat());
        for _ in 0..3 {
            let at = usize::from(next()) % (whole.len() - 12) + 12;
            whole[at] = next();
        }
        whole.truncate(usize::from(next()) + 12);
        let _ = parse(&whole);
    }
}
