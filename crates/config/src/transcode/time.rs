//! `Duration` and `Timestamp` in their text forms.

use super::{Transcoder, Written, found, wire};
use crate::diagnostics::quoted;
use crate::tree::{NodeRef, Scalar, Shape};
use nuncio_api::schema::MessageRef;

/// The most seconds of a `Duration`, about 10,000 years.
const MAX_DURATION: i64 = 315_576_000_000;

impl Transcoder<'_> {
    /// Writes a `Duration`: `1.5s`, or its fields.
    pub(super) fn duration(&mut self, node: NodeRef<'_>, message: MessageRef, out: &mut Vec<u8>) -> Written {
        let parsed = match node.shape() {
            Shape::Mapping(_) => return self.message(node, message, out),
            Shape::Scalar(Scalar::Text(text)) => parse_duration(text),
            _ => None,
        };
        let Some((seconds, nanos)) = parsed else {
            let text = format!("found {}, expected a duration such as `1.5s`", found(node));
            return Err(self.report_with(node, text, duration_hint(node)));
        };
        if seconds.abs() > MAX_DURATION {
            return Err(self.report(node, format!("{} is longer than a duration can be", quoted(node.spelling()))));
        }
        put_seconds(seconds, nanos, out);
        Ok(())
    }

    /// Writes a `Timestamp`: RFC 3339, or its fields.
    pub(super) fn timestamp(&mut self, node: NodeRef<'_>, message: MessageRef, out: &mut Vec<u8>) -> Written {
        let parsed = match node.shape() {
            Shape::Mapping(_) => return self.message(node, message, out),
            Shape::Scalar(Scalar::Text(text)) => parse_timestamp(text),
            _ => None,
        };
        let Some((seconds, nanos)) = parsed else {
            let text = format!("found {}, expected a time such as `2026-01-31T12:00:00Z`", found(node));
            return Err(self.report(node, text));
        };
        put_seconds(seconds, nanos, out);
        Ok(())
    }
}

fn put_seconds(seconds: i64, nanos: i32, out: &mut Vec<u8>) {
    for (number, value) in [(1, seconds), (2, i64::from(nanos))] {
        if value != 0 {
            wire::put_tag(out, number, wire::VARINT);
            wire::put_varint(out, value as u64);
        }
    }
}

/// What the duration would be in seconds, for the units that people try.
fn duration_hint(node: NodeRef<'_>) -> Option<String> {
    let text = node.spelling().trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let value: f64 = digits.parse().ok()?;
    let seconds = match &text[digits.len()..] {
        "" | "S" | "sec" | "secs" => value,
        "ms" => value / 1e3,
        "us" => value / 1e6,
        "m" | "min" => value * 60.0,
        "h" => value * 3600.0,
        "d" => value * 86_400.0,
        _ => return None,
    };
    seconds.is_finite().then(|| format!("write it in seconds: `{seconds}s`"))
}

/// Seconds and nanoseconds of `-1.5s`, both with the sign.
fn parse_duration(text: &str) -> Option<(i64, i32)> {
    let number = text.strip_suffix('s')?;
    let (sign, magnitude) = match number.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, number),
    };
    let (whole, fraction) = match magnitude.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (magnitude, None),
    };
    if whole.is_empty() || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = whole.parse::<i64>().unwrap_or(i64::MAX);
    let nanos = fraction.map_or(Some(0), parse_nanos)?;
    Some((sign * seconds, sign as i32 * nanos))
}

/// The digits behind the point, at most nine, as nanoseconds.
fn parse_nanos(digits: &str) -> Option<i32> {
    if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: i32 = digits.parse().ok()?;
    Some(value * 10i32.pow(9 - digits.len() as u32))
}

/// Seconds since 1970 and nanoseconds of an RFC 3339 time.
fn parse_timestamp(text: &str) -> Option<(i64, i32)> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let is = |at: usize, expected: &[u8]| text.as_bytes().get(at).is_some_and(|byte| expected.contains(byte));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let in_range = (1..=9999).contains(&year) && (1..=12).contains(&month) && hour < 24 && minute < 60 && second < 60;
    if !in_range || day < 1 || day > days_in(year, month) || text[..19].contains('+') {
        return None;
    }
    let rest = text.get(19..)?;
    let (nanos, zone) = match rest.strip_prefix('.') {
        Some(fraction) => {
            let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
            (parse_nanos(&fraction[..length])?, &fraction[length..])
        }
        None => (0, rest),
    };
    let seconds = days_from_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((seconds - parse_zone(zone)?, nanos))
}

/// Seconds that a zone is ahead of UTC: `Z`, `+01:00`.
fn parse_zone(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = match zone.as_bytes().first()? {
        b'+' => (1, &zone[1..]),
        b'-' => (-1, &zone[1..]),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let digits = |text: &str| (text.len() == 2).then(|| text.parse::<u8>().ok()).flatten();
    let (hours, minutes) = (i64::from(digits(hours)?), i64::from(digits(minutes)?));
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01, in the Gregorian calendar.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let leaps = before / 4 - before / 100 + before / 400;
    let in_year: i64 = (1..month).map(|month| days_in(year, month)).sum();
    before * 365 + leaps + in_year + day - 1 - 719_162
}

#[cfg(test)]
mod tests {
    use super::{parse_duration, parse_timestamp};

    #[test]
    fn durations() {
        let check = |text: &str, expected: Option<(i64, i32)>| assert_eq!(parse_duration(text), expected, "{text}");
        check("1s", Some((1, 0)));
        check("01s", Some((1, 0)));
        check("1.5s", Some((1, 500_000_000)));
        check("0.000000001s", Some((0, 1)));
        check("-1.5s", Some((-1, -500_000_000)));
        for text in ["", "1", "1ms", "1S", ".5s", "1.s", "1.1234567890s", "1e3s", "+1s", "--1s", "s", " 1s", "1 s"] {
            check(text, None);
        }
    }

    #[test]
    fn timestamps() {
        let check = |text: &str, expected: Option<(i64, i32)>| assert_eq!(parse_timestamp(text), expected, "{text}");
        check("1970-01-01T00:00:00Z", Some((0, 0)));
        check("2000-02-29T12:30:15.5Z", Some((951_827_415, 500_000_000)));
        check("2026-01-31T12:00:00+01:00", Some((1_769_857_200, 0)));
        check("0001-01-01T00:00:00Z", Some((-62_135_596_800, 0)));
        for text in
            ["", "2026", "2026-02-30T00:00:00Z", "2026-01-31T24:00:00Z", "2026-01-31T12:00:00", "2026-01-31 12:00:00Z"]
        {
            check(text, None);
        }
    }
}
