//! Rules of numbers: constants, ranges, lists.

use super::Validator;
use super::rules::{self, CONST, Rule};
use crate::transcode::grouped::{self, Number};
use crate::transcode::wire::{self, WireValue};
use nuncio_api::schema::Kind;
use std::cmp::Ordering;

const LT: u32 = 2;
const LTE: u32 = 3;
const GT: u32 = 4;
const GTE: u32 = 5;
const IN: u32 = 6;
const NOT_IN: u32 = 7;
const IGNORE_EMPTY: u32 = 8;

/// A bound of a range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound<T> {
    pub value: T,
    pub inclusive: bool,
}

/// A lower and an upper bound. Where the lower one is not below the upper, only what lies between is refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range<T> {
    pub low: Option<Bound<T>>,
    pub high: Option<Bound<T>>,
}

impl<T: Copy + PartialOrd> Range<T> {
    pub fn contains(self, value: T) -> bool {
        let compare = |bound: Bound<T>| value.partial_cmp(&bound.value);
        // What can't be compared, a NaN, breaks no bound.
        let above = self.low.is_none_or(|low| match compare(low) {
            Some(Ordering::Less) => false,
            Some(Ordering::Equal) => low.inclusive,
            _ => true,
        });
        let below = self.high.is_none_or(|high| match compare(high) {
            Some(Ordering::Greater) => false,
            Some(Ordering::Equal) => high.inclusive,
            _ => true,
        });
        match (self.low, self.high) {
            (Some(low), Some(high)) if low.value >= high.value => above || below,
            _ => above && below,
        }
    }

    /// The range in words.
    pub fn describe(self, show: impl Fn(T) -> String) -> String {
        let low = |bound: Bound<T>| match bound.inclusive {
            true => format!("at least {}", show(bound.value)),
            false => format!("more than {}", show(bound.value)),
        };
        let high = |bound: Bound<T>| match bound.inclusive {
            true => format!("at most {}", show(bound.value)),
            false => format!("less than {}", show(bound.value)),
        };
        match (self.low, self.high) {
            (Some(a), Some(b)) if a.value >= b.value => format!("{} or {}", low(a), high(b)),
            (Some(a), Some(b)) => format!("{} and {}", low(a), high(b)),
            (Some(a), None) => low(a),
            (None, Some(b)) => high(b),
            (None, None) => "any".to_owned(),
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (*self, *other) {
            (Number::Whole(a), Number::Whole(b)) => Some(a.cmp(&b)),
            (Number::Real(a), Number::Real(b)) => a.partial_cmp(&b),
            (Number::Whole(a), Number::Real(b)) => (a as f64).partial_cmp(&b),
            (Number::Real(a), Number::Whole(b)) => a.partial_cmp(&(b as f64)),
        }
    }
}

fn show(number: Number) -> String {
    match number {
        Number::Whole(value) => value.to_string(),
        Number::Real(value) => value.to_string(),
    }
}

/// The type that the rules of this number are written for.
fn kind_of(rule: u32) -> Kind {
    match rule {
        1 => Kind::Float,
        2 => Kind::Double,
        3 => Kind::Int32,
        4 => Kind::Int64,
        5 => Kind::Uint32,
        6 => Kind::Uint64,
        7 => Kind::Sint32,
        8 => Kind::Sint64,
        9 => Kind::Fixed32,
        10 => Kind::Fixed64,
        11 => Kind::Sfixed32,
        _ => Kind::Sfixed64,
    }
}

/// The numbers of a rule that lists them, packed or not.
fn listed(kind: Kind, rule: Rule) -> Vec<Number> {
    let WireValue::Bytes(mut packed) = rule.value else { return vec![grouped::number(kind, rule.value)] };
    let mut out = Vec::new();
    loop {
        let value = match kind {
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => wire::take_fixed(&mut packed, 8).map(WireValue::Fixed64),
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => wire::take_fixed(&mut packed, 4).map(WireValue::Fixed64),
            _ => wire::take_varint(&mut packed).map(WireValue::Varint),
        };
        match value {
            Some(value) => out.push(grouped::number(kind, value)),
            None => return out,
        }
    }
}

impl Validator<'_> {
    pub(super) fn number(&mut self, kind: Kind, value: WireValue<'_>, rule: Rule) {
        let found = grouped::number(kind, value);
        let kind = kind_of(rule.number);
        let mut range = Range { low: None, high: None };
        let (mut allowed, mut refused) = (Vec::new(), Vec::new());
        for rule in rules::read(rule.bytes()) {
            let bound = |inclusive| Some(Bound { value: grouped::number(kind, rule.value), inclusive });
            match rule.number {
                CONST => allowed.push(grouped::number(kind, rule.value)),
                LT => range.high = bound(false),
                LTE => range.high = bound(true),
                GT => range.low = bound(false),
                GTE => range.low = bound(true),
                IN => allowed.extend(listed(kind, rule)),
                NOT_IN => refused.extend(listed(kind, rule)),
                IGNORE_EMPTY if rule.bits() != 0 && value.bits() == 0 => return,
                _ => {}
            }
        }
        if !range.contains(found) {
            self.report(format!("found {}, expected {}", show(found), range.describe(show)));
        }
        if !allowed.is_empty() && !allowed.contains(&found) {
            let allowed: Vec<String> = allowed.into_iter().map(show).collect();
            self.report(format!("found {}, expected {}", show(found), allowed.join(" or ")));
        }
        if refused.contains(&found) {
            self.report(format!("{} is not allowed here", show(found)));
        }
    }
}
