//! Numbers: integers in header values, and `envoy.type.matcher.v3.DoubleMatcher`.

/// Reads a decimal integer as Envoy does (`absl::SimpleAtoi`): blanks around it and a sign are allowed, nothing else.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let text = text.trim_ascii();
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `envoy.type.matcher.v3.DoubleMatcher`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DoubleMatcher {
    /// Equal to this.
    Exact(f64),
    /// At least `start`, less than `end`.
    Range {
        /// Included.
        start: f64,
        /// Not included.
        end: f64,
    },
}

impl DoubleMatcher {
    /// Whether the number matches.
    pub fn matches(self, value: f64) -> bool {
        match self {
            DoubleMatcher::Exact(exact) => value == exact,
            DoubleMatcher::Range { start, end } => start <= value && value < end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        for (text, expected) in [
            ("0", Some(0)),
            (" 12 ", Some(12)),
            ("-7", Some(-7)),
            ("+7", Some(7)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("1.0", None),
            ("0x1", None),
            ("1 2", None),
            ("+-1", None),
        ] {
            assert_eq!(parse_integer(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn doubles() {
        assert!(DoubleMatcher::Exact(1.5).matches(1.5));
        let range = DoubleMatcher::Range { start: 1.0, end: 2.0 };
        assert!(range.matches(1.0) && !range.matches(2.0) && !range.matches(f64::NAN));
    }
}
