//! Protobuf's wire format, written and read without knowing any message.

/// Wire type 0.
pub const VARINT: u32 = 0;
/// Wire type 1.
pub const FIXED64: u32 = 1;
/// Wire type 2.
pub const LENGTH: u32 = 2;
/// Wire type 5.
pub const FIXED32: u32 = 5;

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the tag of a field.
pub fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: u32) {
    put_varint(out, u64::from(number << 3 | wire_type));
}

/// Appends a field of bytes.
pub fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, LENGTH);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a length and what `write` writes.
pub fn put_nested<T>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let start = out.len();
    out.push(0);
    let result = write(out);
    let length = out.len() - start - 1;
    let extra = varint_length(length as u64) - 1;
    if extra > 0 {
        let end = out.len();
        out.resize(end + extra, 0);
        out.copy_within(start + 1..end, start + 1 + extra);
    }
    let mut value = length as u64;
    for at in start..=start + extra {
        if let Some(byte) = out.get_mut(at) {
            *byte = value as u8 & 0x7f | if at == start + extra { 0 } else { 0x80 };
        }
        value >>= 7;
    }
    result
}

fn varint_length(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// The value of one field as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireValue<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 5.
    Fixed32(u32),
    /// Wire type 2.
    Bytes(&'a [u8]),
}

impl<'a> WireValue<'a> {
    /// The number on the wire, whatever its width.
    pub fn bits(self) -> u64 {
        match self {
            Self::Varint(value) | Self::Fixed64(value) => value,
            Self::Fixed32(value) => u64::from(value),
            Self::Bytes(_) => 0,
        }
    }

    /// The bytes of a length-delimited value.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            _ => &[],
        }
    }
}

/// The bytes are not a protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// The fields of a message in the order of the wire. Ends behind the first that can't be read, with an error.
#[derive(Debug, Clone)]
pub struct Fields<'a>(&'a [u8]);

/// The fields of `message`.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields(message)
}

/// Takes a varint off the front of `bytes`.
pub fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (at, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at).min(63);
        if byte < 0x80 {
            *bytes = &bytes[at + 1..];
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let taken = bytes.get(..length)?;
    *bytes = &bytes[length..];
    Some(taken)
}

/// Takes a little-endian number of `width` bytes, at most 8, off the front of `bytes`.
pub fn take_fixed(bytes: &mut &[u8], width: usize) -> Option<u64> {
    let mut value = [0u8; 8];
    value.get_mut(..width)?.copy_from_slice(take(bytes, width)?);
    Some(u64::from_le_bytes(value))
}

impl<'a> Fields<'a> {
    fn take_field(&mut self) -> Option<(u32, WireValue<'a>)> {
        let tag = u32::try_from(take_varint(&mut self.0)?).ok()?;
        let value = match tag & 7 {
            VARINT => WireValue::Varint(take_varint(&mut self.0)?),
            FIXED64 => WireValue::Fixed64(take_fixed(&mut self.0, 8)?),
            LENGTH => {
                let length = usize::try_from(take_varint(&mut self.0)?).ok()?;
                WireValue::Bytes(take(&mut self.0, length)?)
            }
            FIXED32 => WireValue::Fixed32(take_fixed(&mut self.0, 4)? as u32),
            _ => return None,
        };
        (tag >> 3 != 0).then_some((tag >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, WireValue<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.take_field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or(Malformed))
    }
}
