//! Floating-point numbers as Envoy's formatters write them. Each takes the shortest digits that read back as the same
//! number, or a fixed count of significant ones, and differs in when it changes to an exponent.

/// The decimal digits of a finite, positive number and the power of ten of the first one.
struct Decimal {
    digits: String,
    exponent: i32,
}

impl Decimal {
    /// From Rust's `d.ddde-7`, without trailing zeros.
    fn parse(scientific: &str) -> Self {
        let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
        let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
        let significant = digits.trim_end_matches('0');
        Self {
            digits: if significant.is_empty() { "0".to_owned() } else { significant.to_owned() },
            exponent: exponent.parse().unwrap_or(0),
        }
    }

    fn fixed(&self) -> String {
        let Self { digits, exponent } = self;
        if *exponent < 0 {
            return format!("0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1));
        }
        let whole = *exponent as usize + 1;
        match digits.split_at_checked(whole) {
            Some((whole, "")) => whole.to_owned(),
            Some((whole, fraction)) => format!("{whole}.{fraction}"),
            None => format!("{digits}{}", "0".repeat(whole - digits.len())),
        }
    }

    fn scientific(&self) -> String {
        let Self { digits, exponent } = self;
        let (first, rest) = digits.split_at_checked(1).unwrap_or((digits, ""));
        let point = if rest.is_empty() { "" } else { "." };
        let sign = if *exponent < 0 { '-' } else { '+' };
        format!("{first}{point}{rest}e{sign}{:02}", exponent.unsigned_abs())
    }

    fn fixed_within(&self, limit: i32) -> String {
        if (-4..limit).contains(&self.exponent) { self.fixed() } else { self.scientific() }
    }
}

fn special(value: f64) -> Option<String> {
    match value {
        _ if value.is_nan() => Some("nan".to_owned()),
        _ if value.is_infinite() => Some(if value > 0.0 { "inf" } else { "-inf" }.to_owned()),
        0.0 => Some("0".to_owned()),
        _ => None,
    }
}

/// Six significant digits (`%g`).
pub(super) fn six_digits(value: f64) -> String {
    special(value).unwrap_or_else(|| Decimal::parse(&format!("{value:.5e}")).fixed_within(6))
}

/// Thirty-two significant digits (`%.32g`): for Prometheus.
pub(super) fn exact(value: f64) -> String {
    special(value).unwrap_or_else(|| Decimal::parse(&format!("{value:.31e}")).fixed_within(32))
}

/// The shortest digits, with an exponent from 10^16 on: quantiles in text.
pub(super) fn shortest(value: f64) -> String {
    special(value).unwrap_or_else(|| Decimal::parse(&format!("{value:e}")).fixed_within(16))
}

/// The shortest digits, with an exponent where that is shorter; `null` for what JSON can't say.
pub(super) fn json(value: f64) -> String {
    if !value.is_finite() {
        return "null".to_owned();
    }
    special(value).unwrap_or_else(|| {
        let decimal = Decimal::parse(&format!("{value:e}"));
        let (fixed, scientific) = (decimal.fixed(), decimal.scientific());
        if scientific.len() < fixed.len() { scientific } else { fixed }
    })
}
