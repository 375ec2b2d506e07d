//! Floating-point numbers as protobuf prints them: the fewest digits that read back as the same number, with an exponent where
//! C's `%g` has one.

use std::fmt::Write as _;

/// Appends a double.
pub(super) fn write_double(out: &mut String, value: f64) {
    write(out, value, &format!("{value:e}"), (15, 17));
}

/// Appends a float.
pub(super) fn write_float(out: &mut String, value: f32) {
    write(out, f64::from(value), &format!("{value:e}"), (6, 9));
}

/// `scientific` is the shortest form with an exponent; `precision` how many digits `%g` is first tried with, and then.
fn write(out: &mut String, value: f64, scientific: &str, precision: (usize, usize)) {
    if !value.is_finite() {
        let name = if value.is_nan() { "NaN" } else { ["Infinity", "-Infinity"][usize::from(value < 0.0)] };
        let _ = write!(out, "\"{name}\"");
        return;
    }
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let limit = if digits.len() <= precision.0 { precision.0 } else { precision.1 } as i32;
    out.push_str(sign);
    if exponent < -4 || exponent >= limit {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let mark = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{first}{point}{rest}e{mark}{:02}", exponent.unsigned_abs());
    } else if exponent < 0 {
        let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
        let _ = write!(out, "0.{zeros}{digits}");
    } else {
        let whole = exponent as usize + 1;
        if digits.len() <= whole {
            let _ = write!(out, "{digits}{}", "0".repeat(whole - digits.len()));
        } else {
            let _ = write!(out, "{}.{}", &digits[..whole], &digits[whole..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{write_double, write_float};

    #[test]
    fn doubles() {
        let check = |value: f64, expected: &str| {
            let mut out = String::new();
            write_double(&mut out, value);
            assert_eq!(out, expected);
        };
        check(0.0, "0");
        check(5.0, "5");
        check(-7.0, "-7");
        check(33.3, "33.3");
        check(0.25, "0.25");
        check(1234.5, "1234.5");
        check(1e14, "100000000000000");
        check(1e15, "1e+15");
        check(1e20, "1e+20");
        check(0.0001, "0.0001");
        check(0.00001, "1e-05");
        check(1.5e-7, "1.5e-07");
        check(0.1 + 0.2, "0.30000000000000004");
        check(f64::NAN, "\"NaN\"");
        check(f64::NEG_INFINITY, "\"-Infinity\"");
    }

    #[test]
    fn floats() {
        let check = |value: f32, expected: &str| {
            let mut out = String::new();
            write_float(&mut out, value);
            assert_eq!(out, expected);
        };
        check(0.1, "0.1");
        check(1_000_000.0, "1e+06");
        check(1_234_567.0, "1234567");
    }
}
