//! The fields of one message on the wire, brought together: what a decoder would make of repeated occurrences.

use super::wire::{self, Malformed, WireValue};
use nuncio_api::schema::{FieldRef, Kind, MessageRef};
use std::borrow::Cow;

/// The values of a message by field.
#[derive(Debug)]
pub struct Grouped<'a> {
    /// Sorted by field number, in wire order within a field. Unknown fields are left out.
    values: Vec<(FieldRef, WireValue<'a>)>,
}

impl<'a> Grouped<'a> {
    /// Reads `bytes` as a `message`.
    pub fn read(bytes: &'a [u8], message: MessageRef) -> Result<Self, Malformed> {
        let mut values: Vec<(FieldRef, WireValue<'a>)> = Vec::new();
        let mut sorted = true;
        for field in wire::fields(bytes) {
            let (number, value) = field?;
            let last = values.last().map(|(field, _)| *field);
            let field = match last {
                Some(field) if field.number() == number => Some(field),
                _ => message.field(number),
            };
            let Some(field) = field else { continue };
            sorted &= last.is_none_or(|last| last.number() <= number);
            values.push((field, value));
        }
        if !sorted {
            values.sort_by_key(|(field, _)| field.number());
        }
        Ok(Self { values })
    }

    /// The fields that are present, with their values.
    pub fn groups(&self) -> impl Iterator<Item = (FieldRef, &[(FieldRef, WireValue<'a>)])> {
        self.values.chunk_by(|a, b| a.0 == b.0).filter_map(|group| Some((group.first()?.0, group)))
    }

    /// The values of one field.
    pub fn of(&self, field: FieldRef) -> &[(FieldRef, WireValue<'a>)] {
        let number = field.number();
        let start = self.values.partition_point(|(field, _)| field.number() < number);
        let length = self.values[start..].iter().take_while(|(it, _)| *it == field).count();
        &self.values[start..start + length]
    }

    /// Whether a field of this oneof is present.
    pub fn has_oneof(&self, oneof: usize) -> bool {
        self.values.iter().any(|(field, _)| field.oneof() == Some(oneof))
    }
}

/// The bytes of a message field that may stand more than once: its occurrences merged.
pub fn merged<'a>(values: &[(FieldRef, WireValue<'a>)]) -> Cow<'a, [u8]> {
    match values {
        [] => Cow::Borrowed(&[]),
        [(_, only)] => Cow::Borrowed(only.bytes()),
        several => Cow::Owned(several.iter().flat_map(|(_, value)| value.bytes()).copied().collect()),
    }
}

/// The elements of a list, packed or not.
pub fn elements<'a>(field: FieldRef, values: &[(FieldRef, WireValue<'a>)]) -> Result<Vec<WireValue<'a>>, Malformed> {
    let width = match field.kind() {
        Kind::String | Kind::Bytes | Kind::Message => return Ok(values.iter().map(|(_, value)| *value).collect()),
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => 8,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => 4,
        _ => 0,
    };
    let mut out = Vec::with_capacity(values.len());
    for (_, value) in values {
        let WireValue::Bytes(mut packed) = *value else {
            out.push(*value);
            continue;
        };
        while !packed.is_empty() {
            let element = match width {
                0 => wire::take_varint(&mut packed).map(WireValue::Varint),
                _ => wire::take_fixed(&mut packed, width).map(WireValue::Fixed64),
            };
            out.push(element.ok_or(Malformed)?);
        }
    }
    Ok(out)
}

/// A number as its field's type has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A whole number of any width.
    Whole(i128),
    /// A float or a double.
    Real(f64),
}

/// What a scalar on the wire means for a type.
pub fn number(kind: Kind, value: WireValue<'_>) -> Number {
    let bits = value.bits();
    let zigzag = |bits: u64| (bits >> 1) as i64 ^ -((bits & 1) as i64);
    Number::Whole(match kind {
        Kind::Double => return Number::Real(f64::from_bits(bits)),
        Kind::Float => return Number::Real(f64::from(f32::from_bits(bits as u32))),
        Kind::Int32 | Kind::Enum | Kind::Sfixed32 => i128::from(bits as i32),
        Kind::Int64 | Kind::Sfixed64 => i128::from(bits as i64),
        Kind::Sint32 => i128::from(zigzag(bits) as i32),
        Kind::Sint64 => i128::from(zigzag(bits)),
        Kind::Uint32 | Kind::Fixed32 => i128::from(bits as u32),
        Kind::Bool => i128::from(bits != 0),
        _ => i128::from(bits),
    })
}
