//! Durations and points in time.

use crate::eval::EvalError;
use crate::value::Value;

const SECOND: i64 = 1_000_000_000;
const DAY: i128 = 86_400 * SECOND as i128;

/// `duration("1h30m")`, `timestamp("2026-01-02T03:04:05Z")`, and the parts of either.
pub(super) fn call<'a>(name: &'static str, value: &Value<'a>) -> Result<Value<'a>, EvalError> {
    let wrong = EvalError::Types(name);
    match (name, value) {
        ("duration", Value::Duration(span)) => Ok(Value::Duration(*span)),
        ("timestamp", Value::Timestamp(at)) => Ok(Value::Timestamp(*at)),
        ("duration", Value::Text(text)) => parse_duration(text).map(Value::Duration).ok_or(EvalError::Range),
        ("timestamp", Value::Text(text)) => parse_timestamp(text).map(Value::Timestamp).ok_or(EvalError::Range),
        ("timestamp", Value::Int(seconds)) => Ok(Value::Timestamp(i128::from(*seconds) * i128::from(SECOND))),
        (_, Value::Timestamp(at)) => part_of_timestamp(name, *at).map(Value::Int).ok_or(wrong),
        (_, Value::Duration(span)) => {
            let part = match name {
                "getHours" => span / (3600 * SECOND),
                "getMinutes" => span / (60 * SECOND),
                "getSeconds" => span / SECOND,
                "getMilliseconds" => span / (SECOND / 1000) % 1000,
                _ => return Err(wrong),
            };
            Ok(Value::Int(part))
        }
        _ => Err(wrong),
    }
}

/// Sums and differences; none if these are no times.
pub(super) fn calculate<'a>(name: &str, a: &Value<'a>, b: &Value<'a>) -> Option<Result<Value<'a>, EvalError>> {
    let span = |span: Option<i64>| span.map(Value::Duration).ok_or(EvalError::Range);
    Some(match (name, a, b) {
        ("_+_", Value::Duration(a), Value::Duration(b)) => span(a.checked_add(*b)),
        ("_-_", Value::Duration(a), Value::Duration(b)) => span(a.checked_sub(*b)),
        ("_+_", Value::Timestamp(at), Value::Duration(span)) | ("_+_", Value::Duration(span), Value::Timestamp(at)) => {
            Ok(Value::Timestamp(at + i128::from(*span)))
        }
        ("_-_", Value::Timestamp(at), Value::Duration(span)) => Ok(Value::Timestamp(at - i128::from(*span))),
        ("_-_", Value::Timestamp(a), Value::Timestamp(b)) => span(i64::try_from(a - b).ok()),
        _ => return None,
    })
}

fn part_of_timestamp(name: &str, at: i128) -> Option<i64> {
    let days = i64::try_from(at.div_euclid(DAY)).ok()?;
    let nanos = at.rem_euclid(DAY) as i64;
    let (year, month, day) = civil(days);
    Some(match name {
        "getFullYear" => year,
        "getMonth" => month - 1,
        "getDate" => day,
        "getDayOfMonth" => day - 1,
        "getDayOfWeek" => (days + 4).rem_euclid(7),
        "getDayOfYear" => days - days_of(year, 1, 1),
        "getHours" => nanos / (3600 * SECOND),
        "getMinutes" => nanos / (60 * SECOND) % 60,
        "getSeconds" => nanos / SECOND % 60,
        "getMilliseconds" => nanos / (SECOND / 1000) % 1000,
        _ => return None,
    })
}

/// Year, month and day of a day since 1970, in the proleptic Gregorian calendar: its cycle is 400 years long, and a year that
/// begins in March has its leap day at the end.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (cycle, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march = (5 * day + 2) / 153;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (cycle * 400 + year + i64::from(month <= 2), month, day - (153 * march + 2) / 5 + 1)
}

fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (cycle, year) = (year.div_euclid(400), year.rem_euclid(400));
    let march = if month > 2 { month - 3 } else { month + 9 };
    cycle * 146_097 + year * 365 + year / 4 - year / 100 + (153 * march + 2) / 5 + day - 1 - 719_468
}

/// Numbers with units: `1h`, `1.5s`, `-1h30m`, `10ms`.
fn parse_duration(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let unit = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let scale = match rest.get(..unit)? {
            "h" => 3.6e12,
            "m" => 6e10,
            "s" => 1e9,
            "ms" => 1e6,
            "us" => 1e3,
            "ns" => 1.0,
            _ => return None,
        };
        rest = rest.get(unit..)?;
        total += number * scale;
    }
    (total < 9.2e18).then_some((sign * total) as i64)
}

/// RFC 3339.
fn parse_timestamp(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
    };
    let bytes = text.as_bytes();
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, byte)| bytes.get(*at) != Some(byte)) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    if !valid {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let kept = fraction.get(..digits.min(9)).filter(|kept| !kept.is_empty())?;
        nanos = kept.parse::<i64>().ok()? * 10_i64.pow(9 - kept.len() as u32);
        rest = fraction.get(digits..)?;
    }
    let offset = match rest.as_bytes() {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] if [h1, h2, m1, m2].iter().all(|d| d.is_ascii_digit()) => {
            let digit = |byte: &u8| i64::from(byte - b'0');
            let minutes = (digit(h1) * 10 + digit(h2)) * 60 + digit(m1) * 10 + digit(m2);
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    let seconds = days_of(year, month, day) * 86_400 + hour * 3600 + (minute - offset) * 60 + second;
    Some(i128::from(seconds) * i128::from(SECOND) + i128::from(nanos))
}

/// Appends `1h2m3.5s`.
pub(crate) fn write_duration(span: i64, out: &mut Vec<u8>) {
    use std::io::Write;
    let (sign, span) = (if span < 0 { "-" } else { "" }, span.unsigned_abs());
    // Writing into a Vec can't fail.
    let _ = match span {
        0 => write!(out, "0"),
        1..1_000 => write!(out, "{sign}{span}ns"),
        1_000..1_000_000 => write!(out, "{sign}{}us", span as f64 / 1e3),
        1_000_000..1_000_000_000 => write!(out, "{sign}{}ms", span as f64 / 1e6),
        _ => {
            let (hours, minutes) = (span / 3_600_000_000_000, span / 60_000_000_000 % 60);
            let seconds = (span % 60_000_000_000) as f64 / 1e9;
            let _ = write!(out, "{sign}");
            if hours > 0 {
                let _ = write!(out, "{hours}h");
            }
            if minutes > 0 {
                let _ = write!(out, "{minutes}m");
            }
            if seconds > 0.0 { write!(out, "{seconds}s") } else { Ok(()) }
        }
    };
}

/// Appends `2026-01-02T03:04:05.006+00:00`.
pub(crate) fn write_timestamp(at: i128, out: &mut Vec<u8>) {
    use std::io::Write;
    let days = i64::try_from(at.div_euclid(DAY)).unwrap_or(0);
    let nanos = at.rem_euclid(DAY) as i64;
    let (year, month, day) = civil(days);
    let seconds = nanos / SECOND;
    let _ =
        write!(out, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = nanos % SECOND;
    if fraction > 0 {
        let digits = format!("{fraction:09}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
    out.extend_from_slice(b"+00:00");
}
