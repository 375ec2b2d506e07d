//! Finding the id of a header name: one multiplication, one table look-up, one comparison.
//!
//! Names are told apart by their length and their first, second and last eight bytes: three loads however long the name
//! is. The table is made by the compiler, and has a place of its own for every name.

use crate::Known;
use crate::known::{COUNT, NAMES};

const BITS: u32 = 10;
const EMPTY: u8 = u8::MAX;

/// What a name is told apart by.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ends {
    first: u64,
    second: u64,
    last: u64,
    len: usize,
}

impl Ends {
    #[inline]
    const fn of(name: &[u8]) -> Ends {
        let len = name.len();
        let (first, last) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
            (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            _ => match (name.first_chunk::<4>(), name.last_chunk::<4>()) {
                (Some(first), Some(last)) => (u32::from_le_bytes(*first) as u64, u32::from_le_bytes(*last) as u64),
                _ => match (name.first_chunk::<2>(), name.last()) {
                    (Some(first), Some(last)) => (u16::from_le_bytes(*first) as u64, *last as u64),
                    _ => (0, 0),
                },
            },
        };
        let second = match name.first_chunk::<16>() {
            Some(both) => (u128::from_le_bytes(*both) >> 64) as u64,
            None => 0,
        };
        Ends { first, second, last, len }
    }

    /// Three times eight bytes tell all of a name that is no longer.
    const COVERED: usize = 24;

    /// The only id that such a name can have.
    #[inline]
    fn candidate(self) -> Option<u8> {
        let id = TABLE.ids[self.place(TABLE.factor) & ((1 << BITS) - 1)];
        (*TABLE.ends.get(id as usize)? == self).then_some(id)
    }

    /// With bit 5 set in every byte: lower case for letters, no change for digits, `-` and `:`. No other byte that is not
    /// a control character becomes one of these.
    #[inline]
    fn folded(self) -> Ends {
        const BITS: u64 = 0x2020_2020_2020_2020;
        let Ends { first, second, last, len } = self;
        match len {
            16.. => Ends { first: first | BITS, second: second | BITS, last: last | BITS, len },
            8.. => Ends { first: first | BITS, second, last: last | BITS, len },
            4.. => Ends { first: first | BITS >> 32, second, last: last | BITS >> 32, len },
            2.. => Ends { first: first | BITS >> 48, second, last: last | BITS >> 56, len },
            _ => self,
        }
    }

    /// Writes the name that these are the ends of, if they tell all of it.
    #[inline]
    fn write(self, name: &mut [u8]) {
        let (first, last) = (self.first.to_le_bytes(), self.last.to_le_bytes());
        if let Some(chunk) = name.first_chunk_mut() {
            *chunk = first;
            if let Some(chunk) = name.get_mut(8..).and_then(|rest| rest.first_chunk_mut()) {
                *chunk = self.second.to_le_bytes();
            }
            if let Some(chunk) = name.last_chunk_mut() {
                *chunk = last;
            }
        } else {
            write_short(name, first, last);
        }
    }

    #[inline]
    const fn place(self, factor: u64) -> usize {
        let mixed = self.first ^ self.second.rotate_left(41) ^ self.last.rotate_left(23) ^ (self.len as u64) << 57;
        (mixed.wrapping_mul(factor) >> (64 - BITS)) as usize
    }
}

#[inline]
fn write_short(name: &mut [u8], first: [u8; 8], last: [u8; 8]) {
    if let Some(chunk) = name.first_chunk_mut::<4>() {
        *chunk = [first[0], first[1], first[2], first[3]];
        if let Some(chunk) = name.last_chunk_mut::<4>() {
            *chunk = [last[0], last[1], last[2], last[3]];
        }
    } else {
        name.make_ascii_lowercase();
    }
}

struct Table {
    factor: u64,
    ids: [u8; 1 << BITS],
    ends: [Ends; COUNT],
}

#[allow(long_running_const_eval)]
static TABLE: Table = build();

/// Tries factors until no two names share a place.
const fn build() -> Table {
    let mut ends = [Ends { first: 0, second: 0, last: 0, len: 0 }; COUNT];
    let mut id = 0;
    while id < COUNT {
        ends[id] = Ends::of(NAMES[id].as_bytes());
        id += 1;
    }
    let mut factor = 0x9e37_79b9_7f4a_7c15u64;
    loop {
        let mut ids = [EMPTY; 1 << BITS];
        let mut id = 0;
        while id < COUNT {
            let place = ends[id].place(factor);
            if ids[place] != EMPTY {
                break;
            }
            ids[place] = id as u8;
            id += 1;
        }
        if id == COUNT {
            return Table { factor, ids, ends };
        }
        factor = factor.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(2);
    }
}

/// The id of a name in lower case.
#[inline]
pub(crate) fn find(name: &[u8]) -> Option<Known> {
    let ends = Ends::of(name);
    let id = ends.candidate()?;
    (name.len() <= Ends::COVERED || NAMES[id as usize].as_bytes() == name).then(|| Known::from_id(id))
}

/// Finds the id of `source`, a name in any case without control characters, and makes `name`, a copy of it, lower case.
///
/// All is read from `source`, which lies somewhere else: reading what was written a moment ago in other pieces, as the
/// copy was, makes the processor wait.
#[inline]
pub(crate) fn lower_and_find(source: &[u8], name: &mut [u8]) -> Option<Known> {
    let ends = Ends::of(source).folded();
    match ends.candidate() {
        Some(id) if ends.len <= Ends::COVERED => {
            ends.write(name);
            Some(Known::from_id(id))
        }
        Some(_) => find_long(name),
        None => {
            lower(source, name);
            None
        }
    }
}

#[cold]
#[inline(never)]
fn find_long(name: &mut [u8]) -> Option<Known> {
    name.make_ascii_lowercase();
    find(name)
}

/// Writes `source` to `name` in lower case.
#[inline(never)]
fn lower(source: &[u8], name: &mut [u8]) {
    let mut rest = source;
    let mut to = &mut *name;
    while let (Some((from, behind)), Some((chunk, beyond))) =
        (rest.split_first_chunk::<8>(), to.split_first_chunk_mut())
    {
        *chunk = lower_word(u64::from_le_bytes(*from)).to_le_bytes();
        rest = behind;
        to = beyond;
    }
    // The last eight bytes overlap what was done.
    match (source.last_chunk::<8>(), name.last_chunk_mut()) {
        (Some(from), Some(chunk)) => *chunk = lower_word(u64::from_le_bytes(*from)).to_le_bytes(),
        _ => name.make_ascii_lowercase(),
    }
}

/// Sets bit 5 of every byte from `A` to `Z`.
#[inline]
fn lower_word(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let seven = word & (0x7f * EACH);
    let from_a = seven + (0x80 - b'A' as u64) * EACH;
    let above_z = seven + (0x7f - b'Z' as u64) * EACH;
    let upper = (from_a ^ above_z) & !word & (0x80 * EACH);
    word | upper >> 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_nothing_else() {
        for (id, name) in NAMES.iter().enumerate() {
            assert_eq!(find(name.as_bytes()), Some(Known::from_id(id as u8)), "{name}");
            for other in [format!("{name}x"), format!("x{name}"), name[1..].to_owned(), name.replace('-', "_")] {
                assert_eq!(find(other.as_bytes()).map(Known::as_str), NAMES.iter().find(|n| **n == other).copied());
            }
            // Long names differ in the middle only.
            if name.len() > 24 {
                let mut middle = name.as_bytes().to_vec();
                middle[9] ^= 1;
                assert_eq!(find(&middle), None);
            }
        }
        assert_eq!(find(b""), None);
    }

    #[test]
    fn lowering_is_what_the_standard_library_does() {
        for name in NAMES {
            let mut upper = name.to_ascii_uppercase().into_bytes();
            assert_eq!(lower_and_find(&upper.clone(), &mut upper).map(Known::as_str), Some(name));
            assert_eq!(upper, name.as_bytes());
        }
        let all: Vec<u8> = (32..=255).chain(32..=255).collect();
        for len in 0..40 {
            for start in 0..all.len() - len {
                let (mut fast, mut slow) = (all[start..start + len].to_vec(), all[start..start + len].to_vec());
                lower_and_find(&slow, &mut fast);
                slow.make_ascii_lowercase();
                assert_eq!(fast, slow);
            }
        }
    }
}
