//! HPACK (RFC 7541): field lines of HTTP/2 to bytes and back.
//!
//! Owns: the [`Decoder`] and the [`Encoder`] of a connection with their tables, and the Huffman code. Does not own: which
//! fields are wanted, and how many: the caller counts what it is told of, and bounds the blocks that it hands in.
//!
//! *Invariant*: the memory of a table follows what its entries hold, and never passes a small multiple of its limit.

mod decode;
mod encode;
mod huffman;
mod predefined;
mod table;
#[cfg(test)]
mod tests;

pub(in crate::h2) use decode::Decoder;
pub(in crate::h2) use encode::Encoder;

use nuncio_headers::Known;

/// The size in bytes of a dynamic table before either side said anything (RFC 9113 §6.5.2).
const DEFAULT_TABLE: u32 = 4096;

/// One field line, as decoded. What the bytes are is not checked: names may be empty or in upper case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::h2) struct Field<'a> {
    /// The id of the name, if it has one.
    pub known: Option<Known>,
    pub name: &'a [u8],
    pub value: &'a [u8],
}

/// Why a block can't be decoded: the connection ends with COMPRESSION_ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::h2) struct CompressionError;
