//! The descriptors of every message, field and enum, read in place from a table that the build script wrote.
//!
//! Nothing is built at start: a reference is a number, a look-up is a binary search over the table, and a name is a slice of
//! it. `build/table.rs` holds the layout. A reference can only come from the table, so every accessor is total; where the
//! table itself would be at fault they answer with zero or an empty name.

mod well_known;

#[cfg(test)]
mod tests;

pub use well_known::WellKnown;

use std::cmp::Ordering;

static TABLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/schema.bin"));

const MESSAGES: usize = 0;
const FIELDS: usize = 1;
const ORDER: usize = 2;
const ONEOFS: usize = 3;
const ENUMS: usize = 4;
const VALUES: usize = 5;
const BLOB: usize = 6;

const MESSAGE_WORDS: usize = 5;
const FIELD_WORDS: usize = 6;
const ONEOF_WORDS: usize = 2;
const ENUM_WORDS: usize = 4;
const VALUE_WORDS: usize = 3;

fn word(at: usize) -> u32 {
    match TABLE.get(at..at + 4) {
        Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
        _ => 0,
    }
}

fn section(which: usize) -> (usize, usize) {
    let at = 4 + which * 8;
    (word(at) as usize, word(at + 4) as usize)
}

fn blob(offset: u32, length: usize) -> &'static [u8] {
    let start = section(BLOB).1 + offset as usize;
    TABLE.get(start..start + length).unwrap_or_default()
}

fn text(offset: u32, length: usize) -> &'static str {
    std::str::from_utf8(blob(offset, length)).unwrap_or_default()
}

/// Binary search over `count` sorted things; `compare` says how the thing at an index stands to what is sought.
fn search(count: usize, compare: impl Fn(usize) -> Ordering) -> Option<usize> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        match compare(middle) {
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
            Ordering::Equal => return Some(middle),
        }
    }
    None
}

/// The table of all descriptors.
#[derive(Debug, Clone, Copy)]
pub struct Schema;

impl Schema {
    /// The message of this full name, e.g. `envoy.config.bootstrap.v3.Bootstrap`.
    pub fn message(full_name: &str) -> Option<MessageRef> {
        let sought = full_name.as_bytes();
        let found = search(section(MESSAGES).0, |at| MessageRef(at as u32).name_bytes().cmp(sought))?;
        Some(MessageRef(found as u32))
    }

    /// The message that a type URL names: what stands after its last slash.
    pub fn message_of_url(type_url: &str) -> Option<MessageRef> {
        Self::message(type_url.rsplit('/').next()?)
    }

    /// The enum of this full name.
    pub fn enumeration(full_name: &str) -> Option<EnumRef> {
        let sought = full_name.as_bytes();
        let found = search(section(ENUMS).0, |at| EnumRef(at as u32).name().as_bytes().cmp(sought))?;
        Some(EnumRef(found as u32))
    }

    /// Every message, sorted by full name.
    pub fn messages() -> impl Iterator<Item = MessageRef> {
        (0..section(MESSAGES).0 as u32).map(MessageRef)
    }

    /// The size of the table in bytes.
    pub fn size() -> usize {
        TABLE.len()
    }
}

/// A message descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageRef(u32);

impl MessageRef {
    fn word(self, which: usize) -> u32 {
        word(section(MESSAGES).1 + (self.0 as usize * MESSAGE_WORDS + which) * 4)
    }

    fn name_bytes(self) -> &'static [u8] {
        blob(self.word(0), (self.word(1) & 0xffff) as usize)
    }

    fn flag(self, bit: u32) -> bool {
        self.word(1) >> (16 + bit) & 1 == 1
    }

    /// The full name, e.g. `envoy.config.cluster.v3.Cluster`.
    pub fn full_name(self) -> &'static str {
        std::str::from_utf8(self.name_bytes()).unwrap_or_default()
    }

    /// The part of the full name after the last dot.
    pub fn short_name(self) -> &'static str {
        self.full_name().rsplit('.').next().unwrap_or_default()
    }

    /// Whether the message is one entry of a map field: field 1 is the key, field 2 the value.
    pub fn is_map_entry(self) -> bool {
        self.flag(0)
    }

    /// Whether the whole message is deprecated.
    pub fn is_deprecated(self) -> bool {
        self.flag(1)
    }

    /// Whether the message opts out of validation.
    pub fn is_unchecked(self) -> bool {
        self.flag(2)
    }

    /// Whether a validation rule can apply to the message or to anything inside it.
    pub fn has_rules_inside(self) -> bool {
        self.flag(3)
    }

    fn first_field(self) -> usize {
        self.word(2) as usize
    }

    fn field_count(self) -> usize {
        (self.word(3) & 0xffff) as usize
    }

    /// The fields, sorted by number.
    pub fn fields(self) -> impl ExactSizeIterator<Item = FieldRef> {
        let first = self.first_field();
        (0..self.field_count()).map(move |at| FieldRef((first + at) as u32))
    }

    /// The field of this number.
    pub fn field(self, number: u32) -> Option<FieldRef> {
        let first = self.first_field();
        let found = search(self.field_count(), |at| FieldRef((first + at) as u32).number().cmp(&number))?;
        Some(FieldRef((first + found) as u32))
    }

    /// The field of this proto name, e.g. `connect_timeout`.
    pub fn field_by_name(self, name: &str) -> Option<FieldRef> {
        let (first, order) = (self.first_field(), section(ORDER).1);
        let nth = |at: usize| {
            let offset = order + (first + at) * 2;
            let pair = TABLE.get(offset..offset + 2).unwrap_or(&[0, 0]);
            FieldRef((first + usize::from(u16::from_le_bytes([pair[0], pair[1]]))) as u32)
        };
        search(self.field_count(), |at| nth(at).name_bytes().cmp(name.as_bytes())).map(nth)
    }

    /// The field that a configuration key names: by proto name or by JSON name.
    pub fn field_by_key(self, key: &str) -> Option<FieldRef> {
        if let Some(field) = self.field_by_name(key) {
            return Some(field);
        }
        if !key.bytes().any(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()) {
            return None;
        }
        self.fields().find(|field| field.is_json_name(key))
    }

    /// The oneofs in the order of their declaration.
    pub fn oneofs(self) -> impl ExactSizeIterator<Item = OneofRef> {
        let first = self.word(4);
        (0..self.word(3) >> 16).map(move |at| OneofRef(first + at))
    }

    /// The oneof that [`FieldRef::oneof`] numbers.
    pub fn oneof(self, index: usize) -> Option<OneofRef> {
        self.oneofs().nth(index)
    }
}

/// The protobuf type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Double,
    Float,
    Int64,
    Uint64,
    Int32,
    Fixed64,
    Fixed32,
    Bool,
    String,
    Message,
    Bytes,
    Uint32,
    Enum,
    Sfixed32,
    Sfixed64,
    Sint32,
    Sint64,
}

/// A field descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FieldRef(u32);

impl FieldRef {
    fn word(self, which: usize) -> u32 {
        word(section(FIELDS).1 + (self.0 as usize * FIELD_WORDS + which) * 4)
    }

    fn flag(self, bit: u32) -> bool {
        self.word(3) >> bit & 1 == 1
    }

    /// The field number.
    pub fn number(self) -> u32 {
        self.word(0)
    }

    fn name_bytes(self) -> &'static [u8] {
        blob(self.word(1), (self.word(2) & 0xff) as usize)
    }

    /// The proto name, in snake case.
    pub fn name(self) -> &'static str {
        std::str::from_utf8(self.name_bytes()).unwrap_or_default()
    }

    /// Whether `key` is the lowerCamel form of the name.
    pub fn is_json_name(self, key: &str) -> bool {
        let (mut rest, mut upper) = (key.bytes(), false);
        for &byte in self.name_bytes() {
            if byte == b'_' {
                upper = true;
                continue;
            }
            let expected = if upper { byte.to_ascii_uppercase() } else { byte };
            upper = false;
            if rest.next() != Some(expected) {
                return false;
            }
        }
        rest.next().is_none()
    }

    /// The protobuf type. A list's is that of its elements, a map's is [`Kind::Message`].
    pub fn kind(self) -> Kind {
        match self.word(2) >> 8 & 0xff {
            1 => Kind::Double,
            2 => Kind::Float,
            3 => Kind::Int64,
            4 => Kind::Uint64,
            5 => Kind::Int32,
            6 => Kind::Fixed64,
            7 => Kind::Fixed32,
            8 => Kind::Bool,
            9 => Kind::String,
            12 => Kind::Bytes,
            13 => Kind::Uint32,
            14 => Kind::Enum,
            15 => Kind::Sfixed32,
            16 => Kind::Sfixed64,
            17 => Kind::Sint32,
            18 => Kind::Sint64,
            _ => Kind::Message,
        }
    }

    /// Whether the field is a repeated field that is not a map.
    pub fn is_list(self) -> bool {
        self.flag(0)
    }

    /// Whether the field is a map; [`FieldRef::message`] is its entry.
    pub fn is_map(self) -> bool {
        self.flag(1)
    }

    /// Whether an unset field differs from one that is set to its default.
    pub fn has_presence(self) -> bool {
        self.flag(2)
    }

    /// Whether a list is written packed.
    pub fn is_packed(self) -> bool {
        self.flag(3)
    }

    /// Whether the field is deprecated.
    pub fn is_deprecated(self) -> bool {
        self.flag(4)
    }

    /// Whether Envoy refuses the field unless a runtime flag allows it.
    pub fn is_disallowed(self) -> bool {
        self.flag(5)
    }

    /// Whether the value is a secret that must not be shown.
    pub fn is_sensitive(self) -> bool {
        self.flag(6)
    }

    /// Which oneof of its message the field belongs to.
    pub fn oneof(self) -> Option<usize> {
        match self.word(2) >> 16 & 0xff {
            0xff => None,
            index => Some(index as usize),
        }
    }

    /// The message type of a message field or the entry type of a map.
    pub fn message(self) -> Option<MessageRef> {
        let index = self.word(4);
        (self.kind() == Kind::Message && index != u32::MAX).then_some(MessageRef(index))
    }

    /// The enum type of an enum field.
    pub fn enumeration(self) -> Option<EnumRef> {
        let index = self.word(4);
        (self.kind() == Kind::Enum && index != u32::MAX).then_some(EnumRef(index))
    }

    /// The key and the value field of a map.
    pub fn map_entry(self) -> Option<(FieldRef, FieldRef)> {
        let entry = self.message().filter(|_| self.is_map())?;
        Some((entry.field(1)?, entry.field(2)?))
    }

    /// The `validate.FieldRules` of the field in their wire form.
    pub fn rules(self) -> Option<&'static [u8]> {
        let offset = self.word(5);
        let length = blob(offset, 2);
        (offset != 0).then(|| blob(offset + 2, usize::from(u16::from_le_bytes([length[0], length[1]]))))
    }
}

/// A oneof descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OneofRef(u32);

impl OneofRef {
    fn word(self, which: usize) -> u32 {
        word(section(ONEOFS).1 + (self.0 as usize * ONEOF_WORDS + which) * 4)
    }

    /// The name, in snake case.
    pub fn name(self) -> &'static str {
        text(self.word(0), (self.word(1) & 0xffff) as usize)
    }

    /// Whether one of its fields must be set.
    pub fn is_required(self) -> bool {
        self.word(1) >> 16 & 1 == 1
    }
}

/// An enum descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnumRef(u32);

impl EnumRef {
    fn word(self, which: usize) -> u32 {
        word(section(ENUMS).1 + (self.0 as usize * ENUM_WORDS + which) * 4)
    }

    /// The full name.
    pub fn name(self) -> &'static str {
        text(self.word(0), self.word(1) as usize)
    }

    /// The values, sorted by number.
    pub fn values(self) -> impl ExactSizeIterator<Item = EnumValueRef> {
        let first = self.word(2);
        (0..self.word(3)).map(move |at| EnumValueRef(first + at))
    }

    /// The value of this name, in any case.
    pub fn by_name(self, name: &str) -> Option<EnumValueRef> {
        self.values().find(|value| value.name().eq_ignore_ascii_case(name))
    }

    /// The first value of this number.
    pub fn by_number(self, number: i32) -> Option<EnumValueRef> {
        self.values().find(|value| value.number() == number)
    }
}

/// One value of an enum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnumValueRef(u32);

impl EnumValueRef {
    fn word(self, which: usize) -> u32 {
        word(section(VALUES).1 + (self.0 as usize * VALUE_WORDS + which) * 4)
    }

    /// The number.
    pub fn number(self) -> i32 {
        self.word(0) as i32
    }

    /// The name, usually in upper case.
    pub fn name(self) -> &'static str {
        text(self.word(1), (self.word(2) & 0xffff) as usize)
    }

    /// Whether the value is deprecated.
    pub fn is_deprecated(self) -> bool {
        self.word(2) >> 16 & 1 == 1
    }
}
