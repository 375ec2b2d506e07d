//! Field blocks to field lines (RFC 7541 §3).

use super::table::Table;
use super::{CompressionError, DEFAULT_TABLE, Field, huffman, predefined};
use nuncio_headers::Known;

/// What is kept of the memory for decoded strings between two blocks, at most. In bytes.
const KEPT: usize = 1024;

/// The decoder of what one peer sends. Its table stays in step with the one of the peer's encoder.
pub(in crate::h2) struct Decoder {
    table: Table,
    /// The greatest size of the table that the peer may choose.
    limit: u32,
    /// What this side announced, until the peer has said that it knows.
    announced: Option<u32>,
    /// The next block must begin with a change of the table's size.
    must_shrink: bool,
    /// Strings that came in Huffman code, during one field.
    scratch: Vec<u8>,
}

impl Decoder {
    /// `limit`: the SETTINGS_HEADER_TABLE_SIZE that this side announced, in bytes. Memory is only what entries take.
    ///
    /// The peer may use up to 4096 bytes in any case until it knows of a smaller limit: see [`Self::acknowledged`].
    pub fn new(limit: u32) -> Decoder {
        Decoder {
            table: Table::new(DEFAULT_TABLE),
            limit: limit.max(DEFAULT_TABLE),
            announced: Some(limit),
            must_shrink: false,
            scratch: Vec::new(),
        }
    }

    /// The peer acknowledged the settings: from here on it must keep to the limit, and say so first if its table was greater
    /// (RFC 7541 §4.2).
    pub fn acknowledged(&mut self) {
        if let Some(limit) = self.announced.take() {
            self.limit = limit;
            self.must_shrink = self.table.max() > limit;
        }
    }

    /// Decodes a whole field block (all fragments joined), calling `field` for each line in order. After an error the
    /// connection is over.
    pub fn decode(&mut self, block: &[u8], mut field: impl FnMut(Field<'_>)) -> Result<(), CompressionError> {
        let mut input = Input { rest: block };
        self.changes_of_size(&mut input)?;
        let mut result = Ok(());
        while let (Ok(()), Some(first)) = (result, input.byte()) {
            result = self.line(first, &mut input, &mut field);
        }
        if self.scratch.capacity() > KEPT {
            self.scratch = Vec::new();
        }
        result
    }

    /// Changes of the table's size (§6.3), which only the beginning of a block may have.
    fn changes_of_size(&mut self, input: &mut Input<'_>) -> Result<(), CompressionError> {
        while let Some(first) = input.byte_if(|byte| byte & 0xe0 == 0x20) {
            let max = input.integer(first, 5)?;
            if max > self.limit {
                return Err(CompressionError);
            }
            self.table.set_max(max);
            self.must_shrink = false;
        }
        if self.must_shrink {
            return Err(CompressionError);
        }
        Ok(())
    }

    /// One field line.
    #[inline]
    fn line(
        &mut self,
        first: u8,
        input: &mut Input<'_>,
        field: &mut impl FnMut(Field<'_>),
    ) -> Result<(), CompressionError> {
        if first & 0x80 != 0 {
            let index = input.integer(first, 7)?;
            field(lookup(&self.table, index).ok_or(CompressionError)?);
            return Ok(());
        }
        match first {
            // With incremental indexing (§6.2.1).
            0x40.. => {
                let index = input.integer(first, 6)?;
                self.literal(index, true, input, field)
            }
            // A change of size after a field.
            0x20.. => Err(CompressionError),
            // Without indexing, or never indexed (§6.2.2, §6.2.3).
            _ => {
                let index = input.integer(first, 4)?;
                self.literal(index, false, input, field)
            }
        }
    }

    /// A literal whose name is the one at `index`, or follows if that is 0. `enters`: it becomes an entry.
    fn literal(
        &mut self,
        index: u32,
        enters: bool,
        input: &mut Input<'_>,
        field: &mut impl FnMut(Field<'_>),
    ) -> Result<(), CompressionError> {
        let Decoder { table, scratch, .. } = self;
        scratch.clear();
        let (known, name) = match index {
            0 => {
                let name = input.string(scratch)?;
                (Known::from_lower(name.unwrap_or(scratch)), name.map_or(Name::Scratch, Name::Elsewhere))
            }
            _ => match predefined::get(index as usize) {
                Some(line) => (line.known, Name::Elsewhere(line.name)),
                None => {
                    let line = lookup(table, index).ok_or(CompressionError)?;
                    // The new entry may evict the one that its name is from (§4.4).
                    if enters {
                        scratch.extend_from_slice(line.name);
                    }
                    (line.known, if enters { Name::Scratch } else { Name::Table })
                }
            },
        };
        let name_len = scratch.len();
        let value = input.string(scratch)?;
        let (scratch_name, scratch_value) = scratch.split_at_checked(name_len).ok_or(CompressionError)?;
        let value = value.unwrap_or(scratch_value);
        let name = match name {
            Name::Scratch => scratch_name,
            Name::Elsewhere(name) => name,
            Name::Table => {
                let line = lookup(table, index).ok_or(CompressionError)?;
                field(Field { value, ..line });
                return Ok(());
            }
        };
        field(Field { known, name, value });
        if enters {
            table.insert(known, name, value);
        }
        Ok(())
    }

    /// What the entries of the table weigh.
    #[cfg(test)]
    pub fn size(&self) -> usize {
        self.table.size()
    }

    /// The bytes of memory that are held.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.table.held() + self.scratch.capacity()
    }

    /// The entries, the newest first.
    #[cfg(test)]
    pub(super) fn table(&self) -> &Table {
        &self.table
    }
}

/// Where the name of a literal is.
enum Name<'a> {
    /// At the beginning of the scratch memory.
    Scratch,
    /// In the block, or the static table.
    Elsewhere(&'a [u8]),
    /// In the dynamic table.
    Table,
}

/// The field of an index (§2.3.3).
#[inline]
fn lookup(table: &Table, index: u32) -> Option<Field<'_>> {
    let index = index as usize;
    predefined::get(index).or_else(|| table.get(index.checked_sub(predefined::COUNT + 1)?))
}

/// The part of a block that is still to be decoded.
struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    #[inline]
    fn byte(&mut self) -> Option<u8> {
        self.byte_if(|_| true)
    }

    #[inline]
    fn byte_if(&mut self, wanted: impl Fn(u8) -> bool) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        if !wanted(*first) {
            return None;
        }
        self.rest = rest;
        Some(*first)
    }

    /// An integer that begins with the last `prefix` bits of `first` (§5.1). Longer than any of 32 bits is an error.
    #[inline]
    fn integer(&mut self, first: u8, prefix: u32) -> Result<u32, CompressionError> {
        let most = (1 << prefix) - 1;
        match u32::from(first) & most {
            value if value < most => Ok(value),
            _ => self.long_integer(most),
        }
    }

    fn long_integer(&mut self, most: u32) -> Result<u32, CompressionError> {
        let mut value = u64::from(most);
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte().ok_or(CompressionError)?;
            value += u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| CompressionError);
            }
        }
        Err(CompressionError)
    }

    /// A string (§5.2). One in Huffman code is decoded to the end of `scratch`, and nothing is returned.
    #[inline]
    fn string(&mut self, scratch: &mut Vec<u8>) -> Result<Option<&'a [u8]>, CompressionError> {
        let first = self.byte().ok_or(CompressionError)?;
        let length = self.integer(first, 7)?;
        let (text, rest) = self.rest.split_at_checked(length as usize).ok_or(CompressionError)?;
        self.rest = rest;
        if first & 0x80 == 0 {
            return Ok(Some(text));
        }
        huffman::decode(text, scratch)?;
        Ok(None)
    }
}
