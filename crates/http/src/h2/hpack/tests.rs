//! Tests of the encoder and the decoder together, and of what a hostile peer sends.

mod examples;
mod hostile;
mod limits;
mod random;

use super::{CompressionError, Decoder, Encoder};
use nuncio_headers::Known;

type Line = (Vec<u8>, Vec<u8>);

/// The fields of a block. Their ids are those of their names.
fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Line>, CompressionError> {
    let mut lines = Vec::new();
    decoder.decode(block, |field| {
        assert_eq!(field.known, Known::from_lower(field.name));
        lines.push((field.name.to_vec(), field.value.to_vec()));
    })?;
    Ok(lines)
}

fn encode<'a>(encoder: &mut Encoder, lines: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut block = Vec::new();
    encoder.begin(&mut block);
    for (name, value) in lines {
        encoder.field(Known::from_lower(name), name, value, &mut block);
    }
    block
}

fn lines(text: &[(&str, &str)]) -> Vec<Line> {
    text.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Numbers from a fixed seed.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit.max(1)
    }
}
