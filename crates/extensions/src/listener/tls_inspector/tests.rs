use super::hello::{First, first};

/// A hello of one record, with these extensions.
fn hello(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 4, 0x13, 0x01, 0x0a, 0x0a, 1, 0]);
    let mut all = Vec::new();
    for (kind, data) in extensions {
        all.extend(kind.to_be_bytes());
        all.extend((data.len() as u16).to_be_bytes());
        all.extend(*data);
    }
    body.extend((all.len() as u16).to_be_bytes());
    body.extend(all);
    let mut message = vec![1];
    message.extend(&(body.len() as u32).to_be_bytes()[1..]);
    message.extend(body);
    message
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[22, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat();
    message.chunks(size).flat_map(record).collect()
}

const NAME: &[u8] = b"\0\x0e\0\0\x0bExample.COM";
const PROTOCOLS: &[u8] = b"\0\x0c\x02h2\x08http/1.1";

#[test]
fn names_and_protocols_are_found_however_the_hello_is_cut() {
    let message = hello(&[(0, NAME), (16, PROTOCOLS)]);
    for size in [1, 3, 50, 1000] {
        let bytes = records(&message, size);
        for end in 0..bytes.len() {
            assert_eq!(first(&bytes[..end], 16384), First::Incomplete, "{size} {end}");
        }
        let First::Hello(found) = first(&[&bytes[..], b"what follows"].concat(), 16384) else { panic!("{size}") };
        assert_eq!(found.server_name.as_deref(), Some("example.com"));
        assert_eq!(found.protocols, ["h2".into(), "http/1.1".into()]);
    }
}

#[test]
fn what_is_no_hello_is_not_tls() {
    let twice = hello(&[(0, NAME), (0, NAME)]);
    let lying = hello(&[(0, b"\0\xff\0\0\x0bExample.COM")]);
    let zero = hello(&[(0, b"\0\x06\0\0\x03a\0b")]);
    let empty = hello(&[(16, b"\0\x01\0")]);
    for message in [&twice, &lying, &zero, &empty] {
        assert_eq!(first(&records(message, 1000), 16384), First::NotTls);
    }
    for bytes in [&b"GET / HTTP/1.1"[..], b"\x16\x02\x01\0\x05", b"\x15\x03\x01\0\x02", b"\x16\x03\x01\0\0", b"\x16G"] {
        assert_eq!(first(bytes, 16384), First::NotTls, "{bytes:?}");
    }
    assert_eq!(first(&records(&[2, 0, 0, 1, 0], 9), 16384), First::NotTls);
}

/// An oversized hello costs no more than its limit.
#[test]
fn a_hello_that_says_it_is_too_large_is_refused_at_once() {
    assert_eq!(first(&records(&[1, 0, 0x40, 1], 4), 16384), First::TooLarge);
    assert_eq!(first(&records(&[1, 0xff, 0xff, 0xff], 4), 16384), First::TooLarge);
}

#[test]
fn arbitrary_bytes_do_no_harm() {
    let message = hello(&[(0, NAME), (16, PROTOCOLS), (10, b"\0\x02\0\x1d"), (43, b"\x02\x03\x04"), (11, b"\x01\0")]);
    let whole = records(&message, 1000);
    let mut random = 1u64;
    let mut next = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize
    };
    for _ in 0..50_000 {
        let mut bytes = whole.clone();
        for _ in 0..3 {
            let at = next() % bytes.len();
            bytes[at] = next() as u8;
        }
        bytes.truncate(next() % (bytes.len() + 1));
        if let First::Hello(found) = first(&bytes, 16384) {
            super::fingerprint::ja3(&found);
            super::fingerprint::ja4(&found);
        }
    }
}
