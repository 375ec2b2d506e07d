//! Small changes to the inputs of a corpus, from a fixed generator: what a fuzzer does, in the time of a unit test.

/// The change of a corpus that belongs to `seed`; `pieces` are what the format is made of.
pub fn mutate(seed: u64, corpus: &[Vec<u8>], pieces: &[&[u8]]) -> Vec<u8> {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut below = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize % limit.max(1)
    };
    let mut bytes = corpus[below(corpus.len())].clone();
    for _ in 0..=below(4) {
        let at = below(bytes.len() + 1);
        let end = at + below((bytes.len() - at).min(64) + 1);
        match below(7) {
            0 => drop(bytes.splice(at..end, [])),
            1 => {
                let part = bytes[at..end].to_vec();
                let to = below(bytes.len() + 1);
                drop(bytes.splice(to..to, part));
            }
            2 => {
                let other = &corpus[below(corpus.len())];
                let from = below(other.len() + 1);
                let part = other[from..(from + below(200)).min(other.len())].to_vec();
                drop(bytes.splice(at..end, part));
            }
            3 => bytes.truncate(at.max(bytes.len() / 4)),
            4 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << below(8);
                }
            }
            _ => {
                let piece = pieces[below(pieces.len())];
                drop(bytes.splice(at..at, piece.iter().copied()));
            }
        }
    }
    bytes
}
