//! The examples of RFC 7541, appendix C.

use super::*;

fn check(decoder: &mut Decoder, block: &str, fields: &[(&str, &str)], size: usize) {
    assert_eq!(decode(decoder, &hex(block)).unwrap(), lines(fields), "{block}");
    assert_eq!(decoder.size(), size, "{block}");
}

#[test]
fn literals() {
    let custom = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
    check(&mut Decoder::new(4096), custom, &[("custom-key", "custom-header")], 55);
    let path = "040c 2f73 616d 706c 652f 7061 7468";
    check(&mut Decoder::new(4096), path, &[(":path", "/sample/path")], 0);
    let secret = "1008 7061 7373 776f 7264 0673 6563 7265 74";
    check(&mut Decoder::new(4096), secret, &[("password", "secret")], 0);
    check(&mut Decoder::new(4096), "82", &[(":method", "GET")], 0);
}

const REQUESTS: [&[(&str, &str)]; 3] = [
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
        ("cache-control", "no-cache"),
    ],
    &[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ],
];

fn requests(blocks: [&str; 3], huffman: bool) {
    let mut decoder = Decoder::new(4096);
    let mut encoder = Encoder::new();
    encoder.set_huffman(huffman);
    for ((block, fields), size) in blocks.iter().zip(REQUESTS).zip([57, 110, 164]) {
        check(&mut decoder, block, fields, size);
        // The choices of the examples are ours.
        let text = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        assert_eq!(encode(&mut encoder, text), hex(block));
    }
    let newest = decoder.table().get(0).unwrap();
    assert_eq!((newest.name, newest.value), (&b"custom-key"[..], &b"custom-value"[..]));
    let oldest = decoder.table().get(2).unwrap();
    assert_eq!((oldest.known, oldest.value), (Some(Known::AUTHORITY), &b"www.example.com"[..]));
    assert!(decoder.table().get(3).is_none());
}

#[test]
fn requests_without_huffman_code() {
    let blocks = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    requests(blocks, false);
}

#[test]
fn requests_with_huffman_code() {
    let blocks = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    requests(blocks, true);
}

/// Responses that evict, as the table has only 256 bytes.
fn responses(blocks: [&str; 3]) {
    let date = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
    let location = ("location", "https://www.example.com");
    let private = ("cache-control", "private");
    let mut decoder = Decoder::new(256);
    assert_eq!(decode(&mut decoder, &hex("3f e1 01")), Ok(vec![]));
    check(&mut decoder, blocks[0], &[(":status", "302"), private, date, location], 222);
    check(&mut decoder, blocks[1], &[(":status", "307"), private, date, location], 222);
    let last = [
        (":status", "200"),
        private,
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        location,
        ("content-encoding", "gzip"),
        ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
    ];
    check(&mut decoder, blocks[2], &last, 215);
    let names: Vec<_> = (0..3).map(|age| decoder.table().get(age).unwrap().known.unwrap()).collect();
    assert_eq!(names, [Known::SET_COOKIE, Known::CONTENT_ENCODING, Known::DATE]);
    assert!(decoder.table().get(3).is_none());
}

#[test]
fn responses_without_huffman_code() {
    responses([
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d
         546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f
         6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b
         2076 6572 7369 6f6e 3d31",
    ]);
}

#[test]
fn responses_with_huffman_code() {
    responses([
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7
         8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335
         dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ]);
}

#[test]
fn integers() {
    // C.1: 10 in five bits, 1337 in five bits; here as sizes of the table.
    let mut decoder = Decoder::new(4096);
    decode(&mut decoder, &[0x20 | 10]).unwrap();
    assert_eq!(decoder.table().max(), 10);
    decode(&mut decoder, &[0x3f, 0x9a, 0x0a]).unwrap();
    assert_eq!(decoder.table().max(), 1337);
    let mut encoder = Encoder::new();
    encoder.set_limit(1337);
    assert_eq!(encode(&mut encoder, []), [0x3f, 0x9a, 0x0a]);
}
