//! Numbers as protobuf's JSON parser reads them: whole numbers may be written with an exponent or a zero fraction, and any
//! number may stand in quotes.

/// Why a text is not the number that was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotANumber {
    Malformed,
    Fraction,
    OutOfRange,
}

/// A whole number between `low` and `high`.
pub(super) fn integer(text: &str, low: i128, high: i128) -> Result<i128, NotANumber> {
    let in_range = |value: i128| if (low..=high).contains(&value) { Ok(value) } else { Err(NotANumber::OutOfRange) };
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.is_empty() && digits.len() < 38 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return in_range(text.parse().map_err(|_| NotANumber::Malformed)?);
    }
    let value = float(text)?;
    if !value.is_finite() {
        return Err(if text.contains(|c: char| c.is_ascii_digit()) {
            NotANumber::OutOfRange
        } else {
            NotANumber::Malformed
        });
    }
    if value.fract() != 0.0 {
        return Err(NotANumber::Fraction);
    }
    // Every double that is whole and this small is exact as an i128.
    if value.abs() > 1e30 { Err(NotANumber::OutOfRange) } else { in_range(value as i128) }
}

/// Any number, `NaN` and `Infinity` among them; too large a number is infinite.
pub(super) fn float(text: &str) -> Result<f64, NotANumber> {
    let (negative, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if let Some(digits) = magnitude.strip_prefix("0x").or_else(|| magnitude.strip_prefix("0X")) {
        let value = u64::from_str_radix(digits, 16).map_err(|_| NotANumber::Malformed)? as f64;
        return Ok(if negative { -value } else { value });
    }
    if magnitude.starts_with(['-', '+']) {
        return Err(NotANumber::Malformed);
    }
    text.parse().map_err(|_| NotANumber::Malformed)
}

#[cfg(test)]
mod tests {
    use super::{NotANumber, float, integer};

    #[test]
    fn whole_numbers() {
        let check = |text: &str, expected: Result<i128, NotANumber>| {
            assert_eq!(integer(text, -(1 << 31), (1 << 31) - 1), expected, "{text}");
        };
        check("5", Ok(5));
        check("+5", Ok(5));
        check("-2147483648", Ok(-2_147_483_648));
        check("2147483648", Err(NotANumber::OutOfRange));
        check("1e3", Ok(1000));
        check("1.0", Ok(1));
        check("5.", Ok(5));
        check(".5e1", Ok(5));
        check("08", Ok(8));
        check("0x10", Ok(16));
        check("1.5", Err(NotANumber::Fraction));
        check("1e400", Err(NotANumber::OutOfRange));
        check("99999999999999999999999999999999999999999", Err(NotANumber::OutOfRange));
        for text in ["", " 5", "5 ", "1_000", "0b11", "0o17", ".inf", "abc", "--5", "-+5", "inf", "nan"] {
            check(text, Err(NotANumber::Malformed));
        }
    }

    #[test]
    fn floats() {
        let check = |text: &str, expected: Option<f64>| assert_eq!(float(text).ok(), expected, "{text}");
        check("1.5", Some(1.5));
        check("+1.5", Some(1.5));
        check("-Infinity", Some(f64::NEG_INFINITY));
        check("inf", Some(f64::INFINITY));
        check("1e400", Some(f64::INFINITY));
        check("0x10", Some(16.0));
        check(".inf", None);
        check("1_0.5", None);
        assert!(float("NaN").is_ok_and(f64::is_nan));
    }
}
