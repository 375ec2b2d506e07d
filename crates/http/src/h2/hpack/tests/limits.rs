//! Sizes of tables, and what enters them.

use super::*;

fn new_name(seed: usize) -> Vec<u8> {
    format!("x-name-{seed}").into_bytes()
}

#[test]
fn the_encoder_says_the_smallest_and_the_last_size() {
    let mut encoder = Encoder::new();
    // No change of what both sides begin with.
    encoder.set_limit(4096);
    assert_eq!(encode(&mut encoder, []), b"");
    // More is not used.
    encoder.set_limit(1 << 20);
    assert_eq!(encode(&mut encoder, []), b"");
    encoder.set_limit(100);
    encoder.set_limit(0);
    encoder.set_limit(20);
    assert_eq!(encode(&mut encoder, []), [0x20, 0x20 | 20]);
    assert_eq!(encode(&mut encoder, []), b"");
    encoder.set_limit(10);
    encoder.set_limit(u32::MAX);
    assert_eq!(encode(&mut encoder, []), hex("2a 3f e1 1f"));
    encoder.set_limit(30);
    assert_eq!(encode(&mut encoder, []), [0x20 | 30]);
    // Up and down between two blocks is no change.
    encoder.set_limit(4096);
    encoder.set_limit(30);
    assert_eq!(encode(&mut encoder, []), b"");
}

#[test]
fn a_table_of_nothing_works() {
    let mut encoder = Encoder::new();
    let mut decoder = Decoder::new(0);
    decoder.acknowledged();
    encoder.set_limit(0);
    for _ in 0..3 {
        let fields = [(&b":method"[..], &b"GET"[..]), (b"x-other", b"1"), (b"user-agent", b"test")];
        let block = encode(&mut encoder, fields);
        let text = [(":method", "GET"), ("x-other", "1"), ("user-agent", "test")];
        assert_eq!(decode(&mut decoder, &block), Ok(lines(&text)));
        assert_eq!((decoder.size(), encoder.table().len()), (0, 0));
    }
}

#[test]
fn the_decoder_takes_sizes_up_to_the_limit_at_the_beginning() {
    let limited = |limit: u32| {
        let mut decoder = Decoder::new(limit);
        decoder.acknowledged();
        decoder
    };
    // 4096, 4097.
    assert!(decode(&mut limited(4096), &hex("3f e1 1f")).is_ok());
    assert!(decode(&mut limited(4096), &hex("3f e2 1f")).is_err());
    assert!(decode(&mut limited(4097), &hex("3f e2 1f")).is_ok());
    assert!(decode(&mut limited(4096), &hex("20 3f e1 1f 82")).is_ok());
    // After a field.
    assert!(decode(&mut limited(4096), &hex("82 20")).is_err());
    assert!(decode(&mut limited(4096), &hex("20 82 3f e1 1f")).is_err());
    // 2^32 - 1 and one more.
    assert!(decode(&mut limited(u32::MAX), &hex("3f e0 ff ff ff 0f")).is_ok());
    assert!(decode(&mut limited(u32::MAX), &hex("3f e1 ff ff ff 0f")).is_err());
}

#[test]
fn a_smaller_limit_holds_once_the_peer_knows_of_it() {
    let mut decoder = Decoder::new(100);
    // The peer does not know of the limit yet.
    assert!(decode(&mut decoder, &hex("3f e1 1f 40 01 61 01 62")).is_ok());
    assert_eq!(decoder.size(), 34);
    decoder.acknowledged();
    // The next block must say a size that fits.
    let mut silent = Decoder::new(100);
    silent.acknowledged();
    assert!(decode(&mut silent, &[0x82]).is_err());
    // 101, 100.
    assert!(decode(&mut decoder, &hex("3f 46 82")).is_err());
    let mut decoder = Decoder::new(100);
    decoder.acknowledged();
    assert!(decode(&mut decoder, &hex("3f 45 82")).is_ok());
    assert!(decode(&mut decoder, &[0x82]).is_ok());
    // A greater limit is no duty to use it.
    let mut decoder = Decoder::new(8192);
    decoder.acknowledged();
    assert!(decode(&mut decoder, &[0x82]).is_ok());
    assert_eq!(decoder.table().max(), 4096);
}

#[test]
fn entries_are_evicted_in_order() {
    let mut decoder = Decoder::new(4096);
    decode(&mut decoder, &[0x3f, 100 - 31]).unwrap();
    // Three entries of 34 bytes; the third evicts the first.
    decode(&mut decoder, &hex("40 01 61 01 31 40 01 62 01 32")).unwrap();
    assert_eq!(decoder.size(), 68);
    decode(&mut decoder, &hex("40 01 63 01 33")).unwrap();
    assert_eq!(decoder.size(), 68);
    assert_eq!(decode(&mut decoder, &hex("be bf")), Ok(lines(&[("c", "3"), ("b", "2")])));
    assert!(decode(&mut decoder, &[0xc0]).is_err());
}

#[test]
fn a_name_may_come_from_the_entry_that_goes() {
    let mut decoder = Decoder::new(4096);
    decode(&mut decoder, &[0x20 | 30]).unwrap();
    decode(&mut decoder, &[0x3f, 40 - 31]).unwrap();
    decode(&mut decoder, &hex("40 03 61 62 63 01 31")).unwrap();
    // The name of the only entry, which makes room for the new one; in plain text and in Huffman code ('a').
    assert_eq!(decode(&mut decoder, &hex("7e 02 34 35 be")), Ok(lines(&[("abc", "45"), ("abc", "45")])));
    assert_eq!(decode(&mut decoder, &hex("7e 81 1f be")), Ok(lines(&[("abc", "a"), ("abc", "a")])));
    assert_eq!(decode(&mut decoder, &hex("0f 2f 01 35 be")), Ok(lines(&[("abc", "5"), ("abc", "a")])));
    // One that does not fit empties the table, and is a field nevertheless.
    assert_eq!(decode(&mut decoder, &hex("7e 06 31 32 33 34 35 36")), Ok(lines(&[("abc", "123456")])));
    assert_eq!(decoder.size(), 0);
}

#[test]
fn what_changes_or_is_secret_does_not_enter_the_table() {
    let mut encoder = Encoder::new();
    let first_byte =
        |encoder: &mut Encoder, name: &str, value: &str| encode(encoder, [(name.as_bytes(), value.as_bytes())])[0];
    for name in [":path", "content-length", "age", "date", "etag", "x-request-id", "traceparent", "if-range", "range"] {
        assert_eq!(first_byte(&mut encoder, name, "123") & 0xf0, 0x00, "{name}");
    }
    let authorizations = ["authorization", "proxy-authorization", "set-cookie", "cookie"];
    for name in authorizations {
        assert_eq!(first_byte(&mut encoder, name, "a=123") & 0xf0, 0x10, "{name}");
    }
    assert_eq!(first_byte(&mut encoder, "x-long", &"1".repeat(129)), 0x00);
    assert_eq!(first_byte(&mut encoder, "user-agent", &"1".repeat(3100)) & 0xf0, 0x00);
    assert_eq!(encoder.table().len(), 0);
    assert_eq!(encoder.held(), 0);
    for (name, value) in [("x-short", "1".repeat(128)), ("cookie", "1".repeat(1000)), ("user-agent", "test".into())] {
        assert_eq!(first_byte(&mut encoder, name, &value) & 0xc0, 0x40, "{name}");
        assert_eq!(first_byte(&mut encoder, name, &value), 0x80 | 62, "{name}");
    }
    // A name alone is found as well: the third newest, whose index needs a second byte.
    assert_eq!(encode(&mut encoder, [(&b"x-short"[..], &b"2"[..])])[..2], [0x7f, 1]);
}

#[test]
fn an_idle_connection_holds_little_more_than_its_text() {
    let mut encoder = Encoder::new();
    let mut decoder = Decoder::new(4096);
    assert_eq!((encoder.held(), decoder.held()), (0, 0));
    let names: Vec<_> = (0..20).map(new_name).collect();
    let value = b"some value of usual length";
    let block = encode(&mut encoder, names.iter().map(|name| (&name[..], &value[..])));
    decode(&mut decoder, &block).unwrap();
    let text: usize = names.iter().map(|name| name.len() + value.len()).sum();
    assert!(decoder.held() <= text * 3 / 2 + 32 * 16 + 64, "{} for {text}", decoder.held());
    assert!(encoder.held() <= text * 3 / 2 + 32 * 24, "{} for {text}", encoder.held());
}

#[test]
fn memory_for_strings_is_not_kept() {
    let mut decoder = Decoder::new(4096);
    let value = [b'0'; 50_000];
    let block = encode(&mut Encoder::new(), [(&b":path"[..], &value[..])]);
    assert!(block.len() < 40_000);
    assert_eq!(decode(&mut decoder, &block).unwrap()[0].1, value);
    assert_eq!(decoder.held(), 0);
}
