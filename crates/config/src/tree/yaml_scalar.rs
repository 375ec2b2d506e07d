//! What a plain YAML scalar means to Envoy: yaml-cpp's null, its booleans, its whole numbers, and a string otherwise.
//! A number with a fraction stays a string until a field of a number type reads it.

use super::Scalar;

/// The meaning of a plain scalar.
pub(super) fn resolve(text: &str) -> Scalar<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        _ => match boolean(text) {
            Some(value) => Scalar::Bool(value),
            None => integer(text).map_or(Scalar::Text(text), Scalar::Int),
        },
    }
}

/// YAML 1.1's words, in lower case, upper case, or with a capital.
fn boolean(text: &str) -> Option<bool> {
    if text.len() > 5 || !is_flexible_case(text) {
        return None;
    }
    let is = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    match () {
        () if is(&["true", "yes", "on", "y"]) => Some(true),
        () if is(&["false", "no", "off", "n"]) => Some(false),
        () => None,
    }
}

fn is_flexible_case(text: &str) -> bool {
    let rest = text.get(1..).unwrap_or_default();
    let lower = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase());
    let upper = |text: &str| text.bytes().all(|byte| byte.is_ascii_uppercase());
    lower(text) || upper(text) || (text.as_bytes().first().is_some_and(u8::is_ascii_uppercase) && lower(rest))
}

/// A whole number as C++ streams read it: decimal, `0x` hexadecimal, or octal behind a leading zero.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if !digits.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    let (digits, radix) = match digits.get(..2) {
        Some("0x" | "0X") => (&digits[2..], 16),
        _ if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        _ => (digits, 10),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| (byte as char).is_digit(radix)) {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, radix).ok()?;
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}
