//! `validate.FieldRules` in its wire form: the numbers of its fields, and how to read them.

use crate::transcode::wire::{self, WireValue};

pub(super) const FLOAT: u32 = 1;
pub(super) const SFIXED64: u32 = 12;
pub(super) const BOOL: u32 = 13;
pub(super) const STRING: u32 = 14;
pub(super) const BYTES: u32 = 15;
pub(super) const ENUM: u32 = 16;
pub(super) const MESSAGE: u32 = 17;
pub(super) const REPEATED: u32 = 18;
pub(super) const MAP: u32 = 19;
pub(super) const ANY: u32 = 20;
pub(super) const DURATION: u32 = 21;
pub(super) const TIMESTAMP: u32 = 22;

/// The rule that fixes a value has this number in every kind of scalar.
pub(super) const CONST: u32 = 1;

pub(super) const ENUM_DEFINED_ONLY: u32 = 2;
pub(super) const ENUM_IN: u32 = 3;
pub(super) const ENUM_NOT_IN: u32 = 4;

pub(super) const MESSAGE_SKIP: u32 = 1;
pub(super) const MESSAGE_REQUIRED: u32 = 2;

pub(super) const REPEATED_MIN_ITEMS: u32 = 1;
pub(super) const REPEATED_MAX_ITEMS: u32 = 2;
pub(super) const REPEATED_UNIQUE: u32 = 3;
pub(super) const REPEATED_ITEMS: u32 = 4;
pub(super) const REPEATED_IGNORE_EMPTY: u32 = 5;

pub(super) const MAP_MIN_PAIRS: u32 = 1;
pub(super) const MAP_MAX_PAIRS: u32 = 2;
pub(super) const MAP_KEYS: u32 = 4;
pub(super) const MAP_VALUES: u32 = 5;
pub(super) const MAP_IGNORE_EMPTY: u32 = 6;

pub(super) const ANY_REQUIRED: u32 = 1;
pub(super) const ANY_IN: u32 = 2;
pub(super) const ANY_NOT_IN: u32 = 3;

/// One field of a rules message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub number: u32,
    pub value: WireValue<'static>,
}

impl Rule {
    pub fn bits(self) -> u64 {
        self.value.bits()
    }

    pub fn bytes(self) -> &'static [u8] {
        self.value.bytes()
    }

    /// The text of a string rule.
    pub fn text(self) -> &'static str {
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }
}

/// The rules in `bytes`, which come from the schema table.
pub(super) fn read(bytes: &'static [u8]) -> impl Iterator<Item = Rule> {
    wire::fields(bytes).flatten().map(|(number, value)| Rule { number, value })
}

/// The same as [`read`], to be gone through more than once.
pub(super) fn read_all(bytes: &'static [u8]) -> Vec<Rule> {
    read(bytes).collect()
}

/// The rules of one kind.
pub(super) fn inner(bytes: &'static [u8], number: u32) -> &'static [u8] {
    read(bytes).find(|rule| rule.number == number).map(Rule::bytes).unwrap_or_default()
}

/// The numbers of a rule that lists enum values, packed or not.
pub(super) fn varints(rule: Rule) -> Vec<i32> {
    match rule.value {
        WireValue::Bytes(mut packed) => {
            let mut out = Vec::new();
            while let Some(value) = wire::take_varint(&mut packed) {
                out.push(value as i32);
            }
            out
        }
        other => vec![other.bits() as i32],
    }
}
