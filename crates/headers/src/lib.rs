//! The header multi-map that every part of the data plane reads and writes.
//!
//! Owns: the ordered map ([`HeaderMap`]), compiled names ([`HeaderName`]) and the table of well-known names
//! ([`Known`]). Does not own: parsing or serialising of any HTTP version, nor any policy about headers. The one
//! exception is [`HeaderMap::write_lines`], which is fast because it knows how the map lies in memory.
//!
//! A map keeps all names and values in one growing byte arena; an entry is a pair of offsets. Filling a map from a
//! parsed head is one copy, an entry costs no allocation, and clearing keeps the memory for the next message.
//!
//! *Invariant*: names in a map are lower case, and no value holds CR, LF or NUL. What a parser hands over was checked
//! by the parser; what a filter sets is sanitised here. Serialising a map can therefore never split a message.

mod known;
mod lookup;
mod map;
mod name;
mod wire;

pub use known::{Known, KnownSet};
pub use map::{HeaderMap, HeadersTooLarge, Iter};
pub use name::{HeaderName, InvalidHeaderName};
pub use wire::{Line, LineWriter};

#[cfg(test)]
mod tests;
