//! The Huffman code for strings (RFC 7541 §5.2, appendix B).
//!
//! The code is canonical: among codes of one length, greater symbols have greater codes, and longer codes follow shorter
//! ones. So the lengths say all of it, and the compiler makes the tables from them.

use super::CompressionError;

/// The symbol that only its first bits are used of, as padding.
const EOS: usize = 256;

/// The longest code, in bits.
const LONGEST: usize = 30;

/// How many bits of the input the decoder looks up at once: most pairs of letters and digits take no more.
const AT_ONCE: usize = 12;

/// The lengths of the codes in bits, by symbol.
#[rustfmt::skip]
const LENGTHS: [u8; EOS + 1] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// A code: its bits, at the low end, and their number.
#[derive(Clone, Copy)]
struct Code {
    bits: u32,
    length: u8,
}

/// The codes of one length: all windows of [`LONGEST`] bits below `end` that are not those of shorter codes.
#[derive(Clone, Copy)]
struct Group {
    /// The first code, followed by zeros.
    first: u32,
    end: u32,
    /// Where the symbols begin in `ordered`.
    ordered: u16,
}

/// The one or two symbols whose codes some bits begin with.
#[derive(Clone, Copy)]
struct Short {
    symbols: [u8; 2],
    count: u8,
    /// Of their codes together.
    length: u8,
}

struct Tables {
    codes: [Code; EOS],
    /// By the next [`AT_ONCE`] bits. No symbols: the code is longer.
    short: [Short; 1 << AT_ONCE],
    /// By the length of the code.
    groups: [Group; LONGEST + 1],
    /// The symbols in the order of their codes. The end of the string, which would be the last, is left out.
    ordered: [u8; EOS],
}

static TABLES: Tables = tables();

const fn tables() -> Tables {
    let mut made = Tables {
        codes: [Code { bits: 0, length: 0 }; EOS],
        short: [Short { symbols: [0; 2], count: 0, length: 0 }; 1 << AT_ONCE],
        groups: [Group { first: 0, end: 0, ordered: 0 }; LONGEST + 1],
        ordered: [0; EOS],
    };
    let (mut code, mut place, mut length) = (0u32, 0usize, 1usize);
    while length <= LONGEST {
        code <<= 1;
        let unused = LONGEST - length;
        made.groups[length] = Group { first: code << unused, end: 0, ordered: place as u16 };
        let mut symbol = 0;
        while symbol <= EOS {
            if LENGTHS[symbol] as usize == length {
                if symbol < EOS {
                    made.codes[symbol] = Code { bits: code, length: length as u8 };
                    made.ordered[place] = symbol as u8;
                }
                let mut window = (code as usize) << AT_ONCE >> length;
                while length <= AT_ONCE && window < (code as usize + 1) << (AT_ONCE - length) {
                    made.short[window] = Short { symbols: [symbol as u8, 0], count: 1, length: length as u8 };
                    window += 1;
                }
                code += 1;
                place += 1;
            }
            symbol += 1;
        }
        made.groups[length].end = code << unused;
        length += 1;
    }
    // Every window is one of a code.
    assert!(code == 1 << LONGEST && place == EOS + 1);
    made.short = pairs(made.short);
    made
}

/// The table with second symbols, where all of their code is in the window.
const fn pairs(single: [Short; 1 << AT_ONCE]) -> [Short; 1 << AT_ONCE] {
    let mut made = single;
    let mut window = 0;
    while window < made.len() {
        let first = single[window];
        let second = single[(window << first.length) % single.len()];
        let length = first.length + second.length;
        if first.count == 1 && second.count == 1 && length as usize <= AT_ONCE {
            made[window] = Short { symbols: [first.symbols[0], second.symbols[0]], count: 2, length };
        }
        window += 1;
    }
    made
}

/// What the upper end of `bits` begins with, if that is short.
#[inline]
fn short(bits: u64) -> Option<Short> {
    TABLES.short.get((bits >> (64 - AT_ONCE)) as usize).copied().filter(|short| short.count != 0)
}

/// The symbol that the upper end of `bits` begins with, whose code is long; nothing if it is the end of the string.
#[cold]
fn long(bits: u64) -> Option<Short> {
    let window = (bits >> (64 - LONGEST)) as u32;
    let (length, group) = TABLES.groups.iter().enumerate().skip(AT_ONCE + 1).find(|(_, group)| window < group.end)?;
    let nth = (window - group.first) >> (LONGEST - length);
    let symbol = TABLES.ordered.get(usize::from(group.ordered) + nth as usize)?;
    Some(Short { symbols: [*symbol, 0], count: 1, length: length as u8 })
}

/// The first symbol of `bits` alone, and the length of its code.
fn single(bits: u64) -> Option<(u8, u32)> {
    let [symbol, _] = short(bits).or_else(|| long(bits))?.symbols;
    Some((symbol, u32::from(code(symbol).length)))
}

/// Appends what `text` is the code of: at most 8/5 of its length. After an error, what was appended means nothing.
pub(super) fn decode(mut text: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let mut end = out.len();
    // No code has fewer than five bits; and one more, as symbols are written in pairs.
    out.resize(end + text.len().saturating_mul(8) / 5 + 1, 0);
    // The bits not yet decoded, at the upper end, and their number.
    let (mut bits, mut held) = (0u64, 0u32);
    while !text.is_empty() {
        if let Some((four, rest)) = text.split_first_chunk::<4>() {
            bits |= u64::from(u32::from_be_bytes(*four)) << (32 - held);
            held += 32;
            text = rest;
        } else {
            for byte in std::mem::take(&mut text) {
                bits |= u64::from(*byte) << (56 - held);
                held += 8;
            }
        }
        while held >= LONGEST as u32 {
            let found = match short(bits) {
                Some(found) => found,
                None => long(bits).ok_or(CompressionError)?,
            };
            let place = out.get_mut(end..).and_then(|places| places.first_chunk_mut::<2>());
            *place.ok_or(CompressionError)? = found.symbols;
            end += usize::from(found.count);
            bits <<= found.length;
            held -= u32::from(found.length);
        }
    }
    // What follows the input are ones, as padding is.
    bits |= u64::MAX >> held;
    while let Some((symbol, length)) = single(bits).filter(|(_, length)| *length <= held) {
        *out.get_mut(end).ok_or(CompressionError)? = symbol;
        end += 1;
        bits = !(!bits << length);
        held -= length;
    }
    out.truncate(end);
    // "A padding strictly longer than 7 bits MUST be treated as a decoding error", as one that is not of ones.
    if held > 7 || bits != u64::MAX {
        return Err(CompressionError);
    }
    Ok(())
}

#[inline]
fn code(byte: u8) -> Code {
    TABLES.codes[usize::from(byte)]
}

/// The length in bytes of the code of `text`.
pub(super) fn encoded_len(text: &[u8]) -> usize {
    text.iter().map(|byte| usize::from(code(*byte).length)).sum::<usize>().div_ceil(8)
}

/// Appends the code of `text`.
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    // Bits not yet written, at the lower end; above them are some that were.
    let (mut bits, mut held) = (0u64, 0u32);
    for byte in text {
        let Code { bits: more, length } = code(*byte);
        bits = bits << length | u64::from(more);
        held += u32::from(length);
        if held >= 32 {
            held -= 32;
            out.extend_from_slice(&((bits >> held) as u32).to_be_bytes());
        }
    }
    let padding = (8 - held % 8) % 8;
    bits = bits << padding | ((1 << padding) - 1);
    held += padding;
    while held > 0 {
        held -= 8;
        out.push((bits >> held) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &[u8]) -> Result<Vec<u8>, CompressionError> {
        let mut out = b"before".to_vec();
        decode(text, &mut out)?;
        assert!(out.starts_with(b"before"));
        Ok(out.split_off(6))
    }

    fn encoded(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(text, &mut out);
        assert_eq!(out.len(), encoded_len(text));
        out
    }

    #[test]
    fn the_codes_are_those_of_the_rfc() {
        // Some of each length, from appendix B.
        let some: [(u8, u32, u8); 14] = [
            (b'0', 0x0, 5),
            (b't', 0x9, 5),
            (b' ', 0x14, 6),
            (b'u', 0x2d, 6),
            (b':', 0x5c, 7),
            (b'z', 0x7b, 7),
            (b'&', 0xf8, 8),
            (b'?', 0x3fc, 10),
            (b'|', 0x7fc, 11),
            (b'\\', 0x7fff0, 19),
            (0, 0x1ff8, 13),
            (10, 0x3fff_fffc, 30),
            (22, 0x3fff_fffe, 30),
            (255, 0x3ff_ffee, 26),
        ];
        for (symbol, bits, length) in some {
            assert_eq!((code(symbol).bits, code(symbol).length), (bits, length), "{symbol}");
        }
    }

    #[test]
    fn every_byte_comes_back() {
        for first in 0..=255u8 {
            assert_eq!(decoded(&encoded(&[first])), Ok(vec![first]));
            for second in 0..=255u8 {
                let text = [first, second, b'a', second, first];
                assert_eq!(decoded(&encoded(&text)), Ok(text.to_vec()));
            }
        }
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        for from in 0..all.len() {
            assert_eq!(decoded(&encoded(&all[from..])), Ok(all[from..].to_vec()));
        }
    }

    #[test]
    fn text_of_short_codes_fills_what_is_there_for_it() {
        for length in 0..200 {
            let text = vec![b'0'; length];
            assert_eq!(decoded(&encoded(&text)), Ok(text));
        }
        assert_eq!(decoded(b""), Ok(vec![]));
    }

    #[test]
    fn wrong_padding_is_refused() {
        // 'a' is 00011.
        assert_eq!(decoded(&[0b0001_1111]), Ok(b"a".to_vec()));
        assert_eq!(decoded(&[0b0001_1000]), Err(CompressionError));
        assert_eq!(decoded(&[0b0001_1110]), Err(CompressionError));
        assert_eq!(decoded(&[0b0001_1011]), Err(CompressionError));
        // More than seven bits.
        assert_eq!(decoded(&[0b0001_1111, 0xff]), Err(CompressionError));
        assert_eq!(decoded(&[0xff]), Err(CompressionError));
        assert_eq!(decoded(&[0xff; 3]), Err(CompressionError));
        // The beginning of a code that is none of the end's.
        assert_eq!(decoded(&[0b1111_1110]), Err(CompressionError));
    }

    #[test]
    fn the_end_of_the_string_is_refused() {
        assert_eq!(decoded(&[0xff; 4]), Err(CompressionError));
        assert_eq!(decoded(&[0xff; 40]), Err(CompressionError));
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xfc | 0b11]), Err(CompressionError));
        // After some that is right.
        let mut text = encoded(b"0000000000000000");
        text.extend([0xff; 4]);
        assert_eq!(decoded(&text), Err(CompressionError));
    }
}
