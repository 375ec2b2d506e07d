//! The well-known types in their JSON forms.

use super::{REDACTED, Writer, default_of, string::write_string};
use crate::transcode::wire::{self, WireValue};
use nuncio_api::schema::{Kind, MessageRef, WellKnown};
use std::fmt::Write as _;

const VALUE_NUMBER: u32 = 2;
const VALUE_STRING: u32 = 3;
const VALUE_BOOL: u32 = 4;
const VALUE_STRUCT: u32 = 5;
const VALUE_LIST: u32 = 6;

/// The last value of each of two fields.
fn pair(bytes: &[u8]) -> (WireValue<'_>, WireValue<'_>) {
    let mut pair = (WireValue::Varint(0), WireValue::Varint(0));
    for (number, value) in wire::fields(bytes).flatten() {
        match number {
            1 => pair.0 = value,
            2 => pair.1 = value,
            _ => {}
        }
    }
    pair
}

impl Writer<'_> {
    pub(super) fn well_known(&mut self, bytes: &[u8], message: MessageRef, form: WellKnown, sensitive: bool) {
        match form {
            WellKnown::Wrapper(kind) => self.wrapper(bytes, message, kind, sensitive),
            WellKnown::Duration if sensitive => self.out.push_str("\"0s\""),
            WellKnown::Duration => self.duration(bytes),
            WellKnown::Timestamp => self.timestamp(if sensitive { b"" } else { bytes }),
            WellKnown::FieldMask => self.field_mask(bytes),
            WellKnown::Struct => self.structure(bytes, sensitive),
            WellKnown::ListValue => self.list_value(bytes, sensitive),
            WellKnown::Value => self.struct_value(bytes, sensitive),
            WellKnown::Any | WellKnown::Empty | WellKnown::TypedStruct => self.out.push_str("{}"),
        }
    }

    fn wrapper(&mut self, bytes: &[u8], message: MessageRef, kind: Kind, sensitive: bool) {
        let Some(field) = message.field(1) else { return };
        let found = wire::fields(bytes).flatten().filter(|(number, _)| *number == 1).last();
        let is_text = matches!(kind, Kind::String | Kind::Bytes);
        let value =
            found.map(|(_, value)| value).filter(|_| !sensitive || is_text).unwrap_or_else(|| default_of(field));
        self.scalar(kind, value, sensitive);
    }

    fn duration(&mut self, bytes: &[u8]) {
        let (seconds, nanos) = pair(bytes);
        let (seconds, nanos) = (seconds.bits() as i64, nanos.bits() as i32);
        let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
        let _ = write!(self.out, "\"{sign}{}", seconds.unsigned_abs());
        self.fraction(nanos.unsigned_abs());
        self.out.push_str("s\"");
    }

    /// Three, six or nine digits behind a point, or nothing.
    fn fraction(&mut self, nanos: u32) {
        let _ = match nanos {
            0 => Ok(()),
            nanos if nanos % 1_000_000 == 0 => write!(self.out, ".{:03}", nanos / 1_000_000),
            nanos if nanos % 1000 == 0 => write!(self.out, ".{:06}", nanos / 1000),
            nanos => write!(self.out, ".{nanos:09}"),
        };
    }

    fn timestamp(&mut self, bytes: &[u8]) {
        let (seconds, nanos) = pair(bytes);
        let (seconds, nanos) = (seconds.bits() as i64, nanos.bits() as u32);
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        let _ = write!(self.out, "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        self.fraction(nanos.min(999_999_999));
        self.out.push_str("Z\"");
    }

    fn field_mask(&mut self, bytes: &[u8]) {
        let mut joined = String::new();
        for (_, path) in wire::fields(bytes).flatten().filter(|(number, _)| *number == 1) {
            if !joined.is_empty() {
                joined.push(',');
            }
            let mut upper = false;
            for c in String::from_utf8_lossy(path.bytes()).chars() {
                match c {
                    '_' => upper = true,
                    c if std::mem::take(&mut upper) => joined.push(c.to_ascii_uppercase()),
                    c => joined.push(c),
                }
            }
        }
        write_string(self.out, &joined);
    }

    fn structure(&mut self, bytes: &[u8], sensitive: bool) {
        let mut pairs: Vec<(String, &[u8])> = Vec::new();
        for (_, entry) in wire::fields(bytes).flatten().filter(|(number, _)| *number == 1) {
            let (key, value) = pair(entry.bytes());
            pairs.push((String::from_utf8_lossy(key.bytes()).into_owned(), value.bytes()));
        }
        self.pairs(pairs, |writer, value| writer.nested_value(value, sensitive));
    }

    fn list_value(&mut self, bytes: &[u8], sensitive: bool) {
        self.container('[', ']', |writer, first| {
            for (_, value) in wire::fields(bytes).flatten().filter(|(number, _)| *number == 1) {
                writer.next(first);
                writer.nested_value(value.bytes(), sensitive);
            }
        });
    }

    fn nested_value(&mut self, bytes: &[u8], sensitive: bool) {
        if self.depth >= super::MAX_DEPTH {
            self.out.push_str("null");
            return;
        }
        self.depth += 1;
        self.struct_value(bytes, sensitive);
        self.depth -= 1;
    }

    fn struct_value(&mut self, bytes: &[u8], sensitive: bool) {
        let last = wire::fields(bytes).flatten().last();
        match last {
            Some((VALUE_STRUCT, value)) => self.structure(value.bytes(), sensitive),
            Some((VALUE_LIST, value)) => self.list_value(value.bytes(), sensitive),
            Some((VALUE_STRING, _)) if sensitive => write_string(self.out, REDACTED),
            Some((VALUE_STRING, value)) => self.scalar(Kind::String, value, false),
            Some((VALUE_NUMBER, value)) if !sensitive => self.scalar(Kind::Double, value, false),
            Some((VALUE_BOOL, value)) if !sensitive => self.scalar(Kind::Bool, value, false),
            _ => self.out.push_str("null"),
        }
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Counted from 0000-03-01, leap days come last in their year, and 400 years are a whole number of days.
    let days = days.clamp(-1_000_000_000, 1_000_000_000) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}
