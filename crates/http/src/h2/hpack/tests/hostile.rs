//! What no encoder sends, and what only a hostile one does.

use super::*;

fn refused(block: &str) {
    assert_eq!(decode(&mut Decoder::new(4096), &hex(block)), Err(CompressionError), "{block}");
}

#[test]
fn indices_that_are_not_there_are_refused() {
    for block in ["80", "be", "ff 00", "ff ff ff ff ff 0f", "7e 01 61", "0f 2f 01 61", "1f 2f 01 61"] {
        refused(block);
    }
}

#[test]
fn what_is_cut_off_is_refused() {
    let whole = hex("40 88 25a8 49e9 5ba9 7d7f 89 25a8 49e9 5bb8 e8b4 bf");
    assert_eq!(decode(&mut Decoder::new(4096), &whole), Ok(lines(&[("custom-key", "custom-value")])));
    for length in 1..whole.len() {
        assert!(decode(&mut Decoder::new(4096), &whole[..length]).is_err(), "{length}");
    }
    for block in ["ff", "ff 80", "3f", "3f 80", "7f", "0f", "1f 80", "00 7f", "00 ff", "41", "04 05 61"] {
        refused(block);
    }
    assert_eq!(decode(&mut Decoder::new(4096), b""), Ok(vec![]));
}

#[test]
fn integers_that_are_too_long_are_refused() {
    // 62 in five bytes is right though longer than needed; the sixth is too much.
    let mut decoder = Decoder::new(4096);
    decode(&mut decoder, &hex("40 01 61 01 62")).unwrap();
    assert!(decode(&mut decoder, &hex("3f 80 80 80 80 00")).is_ok());
    refused("3f 80 80 80 80 80 00");
    refused("3f ff ff ff ff ff ff ff ff ff ff ff 7f");
    refused("00 ff ff ff ff ff ff ff ff ff ff 7f 61");
    refused("00 7f ff ff ff ff 0f 61");
    refused("00 7f ff ff ff ff 7f 61");
}

#[test]
fn strings_of_wrong_huffman_code_are_refused() {
    // As value and as name: no ones at the end, more than seven, the end of the string.
    for text in ["81 18", "82 1f ff", "84 ff ff ff ff", "81 ff"] {
        refused(&format!("04 {text}"));
        refused(&format!("00 {text} 01 61"));
        refused(&format!("44 {text}"));
    }
    assert!(decode(&mut Decoder::new(4096), &hex("04 80 00 80 80")).is_ok());
}

/// After each block, the memory is a small multiple of the table's size.
fn bounded(limit: u32, mut block: impl FnMut(usize) -> Vec<u8>) {
    let mut decoder = Decoder::new(limit);
    decoder.acknowledged();
    let mut size = vec![0x3f];
    let mut rest = limit - 31;
    while rest >= 128 {
        size.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    size.push(rest as u8);
    decode(&mut decoder, &size).unwrap();
    for round in 0..2000 {
        decode(&mut decoder, &block(round)).unwrap();
        assert!(decoder.size() <= limit as usize);
        assert!(decoder.held() <= limit as usize * 3 + 2048, "{} in round {round}", decoder.held());
    }
}

fn literal(name: usize, value: usize) -> Vec<u8> {
    let string = |length: usize, byte: u8| {
        let mut out = vec![0x7f, 0x80 | ((length - 127) % 128) as u8, ((length - 127) / 128) as u8];
        out.extend(vec![byte; length]);
        out
    };
    [vec![0x40], string(name + 127, b'n'), string(value + 127, b'v')].concat()
}

#[test]
fn memory_is_bounded_whatever_enters_and_goes() {
    for limit in [100, 512, 4096, 16_384] {
        // Entries without text, the most that fit.
        bounded(limit, |_| hex("40 00 00").repeat(200));
        // One byte each.
        bounded(limit, |_| hex("40 01 61 00 40 00 01 62").repeat(50));
        // Great ones, with small ones between.
        bounded(limit, |round| match round % 3 {
            0 => literal(limit as usize / 4, limit as usize / 2),
            1 => hex("40 01 61 01 62").repeat(round % 200),
            _ => literal(round % 50, 0),
        });
        // Names from the table, with ever other values.
        bounded(limit, |round| {
            let mut block = hex("40 02 61 62 00");
            (0..round % 100).for_each(|more| block.extend([0x7e, 2, more as u8, round as u8]));
            block
        });
        let mut random = Random::new(u64::from(limit));
        bounded(limit, |_| literal(random.below(300), random.below(limit as usize)));
    }
}

#[test]
fn memory_is_given_back() {
    let mut decoder = Decoder::new(1 << 20);
    decoder.acknowledged();
    decode(&mut decoder, &hex("3f e1 ff 3f")).unwrap();
    (0..200).for_each(|_| drop(decode(&mut decoder, &literal(100, 9000)).unwrap()));
    (0..9).for_each(|_| drop(decode(&mut decoder, &hex("40 00 00").repeat(1000)).unwrap()));
    assert!(decoder.held() > 900_000);
    // Only the last ten stay: 32 bytes each.
    decode(&mut decoder, &hex("3f a1 02")).unwrap();
    assert_eq!(decoder.size(), 320);
    assert!(decoder.held() < 2048, "{}", decoder.held());
}
