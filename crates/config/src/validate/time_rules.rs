//! Rules of durations and timestamps.

use super::Validator;
use super::number_rules::{Bound, Range};
use super::rules;
use crate::transcode::wire;

const REQUIRED: u32 = 1;
const CONST: u32 = 2;
const LT: u32 = 3;
const LTE: u32 = 4;
const GT: u32 = 5;
const GTE: u32 = 6;
const IN: u32 = 7;
const NOT_IN: u32 = 8;

/// Nanoseconds of a `Duration`, or since 1970 of a `Timestamp`.
fn nanos(bytes: &[u8]) -> i128 {
    let mut total = 0;
    for (number, value) in wire::fields(bytes).flatten() {
        match number {
            1 => total += i128::from(value.bits() as i64) * 1_000_000_000,
            2 => total += i128::from(value.bits() as i32),
            _ => {}
        }
    }
    total
}

/// `1.5s`.
fn show(nanos: i128) -> String {
    let (sign, magnitude) = if nanos < 0 { ("-", -nanos) } else { ("", nanos) };
    let (seconds, fraction) = (magnitude / 1_000_000_000, magnitude % 1_000_000_000);
    if fraction == 0 {
        return format!("{sign}{seconds}s");
    }
    let digits = format!("{fraction:09}");
    format!("{sign}{seconds}.{}s", digits.trim_end_matches('0'))
}

impl Validator<'_> {
    pub(super) fn duration(&mut self, bytes: Option<&[u8]>, rules: &'static [u8]) {
        self.time(bytes, rules, "a duration such as `1s`");
    }

    /// The rules that compare with the present need a clock, and no Envoy message has one.
    pub(super) fn timestamp(&mut self, bytes: Option<&[u8]>, rules: &'static [u8]) {
        self.time(bytes, rules, "a time such as `2026-01-31T12:00:00Z`");
    }

    fn time(&mut self, bytes: Option<&[u8]>, rules: &'static [u8], what: &str) {
        let Some(bytes) = bytes else {
            if rules::read(rules).any(|rule| rule.number == REQUIRED && rule.bits() != 0) {
                self.report(format!("must be set, to {what}"));
            }
            return;
        };
        let found = nanos(bytes);
        let mut range = Range { low: None, high: None };
        let (mut allowed, mut refused) = (Vec::new(), Vec::new());
        for rule in rules::read(rules) {
            let value = nanos(rule.bytes());
            match rule.number {
                CONST | IN => allowed.push(value),
                LT => range.high = Some(Bound { value, inclusive: false }),
                LTE => range.high = Some(Bound { value, inclusive: true }),
                GT => range.low = Some(Bound { value, inclusive: false }),
                GTE => range.low = Some(Bound { value, inclusive: true }),
                NOT_IN => refused.push(value),
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
