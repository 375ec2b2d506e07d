//! The text form of gRPC-Web: base64, piece by piece.

use super::super::grpc::Frames;
use crate::base64;

/// Decodes a request body. It holds at most three bytes back.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    held: Vec<u8>,
}

/// Why a body can't be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Undecodable {
    /// It ends within a group of four.
    Size,
    /// It holds something else than base64.
    Data,
}

impl Decoder {
    /// Decodes as many groups of four as there are. Padding may stand at the end of any group: clients that send several
    /// messages pad each.
    pub(super) fn decode(&mut self, bytes: &[u8], last: bool) -> Result<Vec<u8>, Undecodable> {
        self.held.extend_from_slice(bytes);
        let whole = self.held.len() / 4 * 4;
        if last && whole < self.held.len() {
            return Err(Undecodable::Size);
        }
        let mut decoded = Vec::with_capacity(whole / 4 * 3);
        let mut from = 0;
        // Up to each padding, base64 is one text.
        while from < whole {
            let padded = self.held[from..whole].iter().position(|byte| *byte == b'=');
            let to = padded.map_or(whole, |at| whole.min((from + at) / 4 * 4 + 4));
            let part = base64::decode(&self.held[from..to]).ok_or(Undecodable::Data)?;
            decoded.extend_from_slice(&part);
            from = to;
        }
        self.held.drain(..whole);
        Ok(decoded)
    }
}

/// Encodes a response body: each frame is padded, so that the client can decode it as soon as it is there. It holds at most
/// two bytes back.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    frames: Frames,
    held: Vec<u8>,
}

impl Encoder {
    /// Encodes what can be of a piece; all of it if it is the last.
    pub(super) fn encode(&mut self, mut bytes: &[u8], last: bool) -> Vec<u8> {
        let mut encoded = Vec::with_capacity((self.held.len() + bytes.len()).div_ceil(3) * 4);
        while !bytes.is_empty() {
            let advance = self.frames.advance(bytes);
            let (part, rest) = bytes.split_at(advance.taken.min(bytes.len()));
            self.held.extend_from_slice(part);
            let ready = if advance.complete { self.held.len() } else { self.held.len() / 3 * 3 };
            encoded.extend(base64::encode(&self.held[..ready]));
            self.held.drain(..ready);
            bytes = rest;
        }
        if last {
            encoded.extend(base64::encode(&self.held));
            self.held.clear();
        }
        encoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_decoded_however_they_are_cut() {
        let text = b"AAAAAAFYAAAAAAA=AAAAAAFYAA==Zm9v";
        let expected: Vec<u8> = [&b"\0\0\0\0\x01X\0\0\0\0\0"[..], b"\0\0\0\0\x01X\0", b"foo"].concat();
        for size in 1..=text.len() {
            let mut decoder = Decoder::default();
            let mut decoded = Vec::new();
            for chunk in text.chunks(size) {
                decoded.extend(decoder.decode(chunk, false).unwrap());
                assert!(decoder.held.len() < 4);
            }
            decoded.extend(decoder.decode(b"", true).unwrap());
            assert_eq!(decoded, expected, "in pieces of {size}");
        }
        for (wrong, why) in [
            ("AAA", Undecodable::Size),
            ("AA-A", Undecodable::Data),
            ("A===", Undecodable::Data),
            ("=AAA", Undecodable::Data),
        ] {
            assert_eq!(Decoder::default().decode(wrong.as_bytes(), true), Err(why), "{wrong}");
        }
    }

    #[test]
    fn frames_are_encoded_each_for_itself() {
        let body = b"\0\0\0\0\x01X\0\0\0\0\x02YZ\0\0\0\0\0";
        let expected = [&b"AAAAAAFY"[..], b"AAAAAAJZWg==", b"AAAAAAA="].concat();
        for size in 1..=body.len() {
            let mut encoder = Encoder::default();
            let mut encoded = Vec::new();
            for chunk in body.chunks(size) {
                encoded.extend(encoder.encode(chunk, false));
                assert!(encoder.held.len() < 3);
            }
            encoded.extend(encoder.encode(b"", true));
            assert_eq!(encoded, expected, "in pieces of {size}");
        }
    }
}
