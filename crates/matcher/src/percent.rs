//! `envoy.type.v3.FractionalPercent` and its runtime form, with Envoy's arithmetic.

/// Of how many (`FractionalPercent.denominator`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Denominator {
    /// 100; the default.
    #[default]
    Hundred,
    /// 10,000.
    TenThousand,
    /// 1,000,000.
    Million,
}

impl Denominator {
    /// The number.
    #[inline]
    pub fn get(self) -> u64 {
        match self {
            Denominator::Hundred => 100,
            Denominator::TenThousand => 10_000,
            Denominator::Million => 1_000_000,
        }
    }
}

/// `envoy.type.v3.FractionalPercent`. A numerator above the denominator means always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FractionalPercent {
    /// How many.
    pub numerator: u32,
    /// Of how many.
    pub denominator: Denominator,
}

impl FractionalPercent {
    /// Always.
    pub const ALL: FractionalPercent = FractionalPercent { numerator: 100, denominator: Denominator::Hundred };

    /// So many of a hundred.
    pub const fn percent(numerator: u32) -> Self {
        FractionalPercent { numerator, denominator: Denominator::Hundred }
    }

    /// Whether a random number is among the chosen: its remainder by the denominator is below the numerator. The same
    /// number gives the same answer, so one number per stream keeps all decisions on it consistent.
    #[inline]
    pub fn selects(self, random: u64) -> bool {
        random % self.denominator.get() < u64::from(self.numerator)
    }

    /// Reads a runtime value: a number of percent, or the YAML or JSON text of a `FractionalPercent`
    /// (`{numerator: 5, denominator: TEN_THOUSAND}`, on one line or several).
    pub fn parse(text: &str) -> Option<FractionalPercent> {
        let text = text.trim();
        if let Ok(whole) = text.parse::<u64>() {
            return Some(FractionalPercent::percent(u32::try_from(whole).unwrap_or(u32::MAX)));
        }
        let body = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
        let mut result = FractionalPercent::default();
        let mut found = false;
        for field in body.split([',', '\n']).map(str::trim).filter(|field| !field.is_empty()) {
            let (key, value) = field.split_once(':')?;
            let bare = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
            let value = bare(value);
            match bare(key).as_str() {
                "numerator" => result.numerator = value.parse().ok()?,
                "denominator" => result.denominator = denominator(&value)?,
                _ => return None,
            }
            found = true;
        }
        found.then_some(result)
    }
}

fn denominator(text: &str) -> Option<Denominator> {
    match text {
        "HUNDRED" | "0" => Some(Denominator::Hundred),
        "TEN_THOUSAND" | "1" => Some(Denominator::TenThousand),
        "MILLION" | "2" => Some(Denominator::Million),
        _ => None,
    }
}

/// Where matchers read runtime values: the layered runtime of the server.
pub trait RuntimeLookup {
    /// The text of a key, if any layer sets it.
    fn text(&self, key: &str) -> Option<&str>;

    /// The key as a whole number, or `default` if it is not set or is none.
    fn integer(&self, key: &str, default: u64) -> u64 {
        self.text(key).and_then(|text| text.trim().parse().ok()).unwrap_or(default)
    }

    /// The key as a fraction, or `default` if it is not set or is none.
    fn fraction(&self, key: &str, default: FractionalPercent) -> FractionalPercent {
        self.text(key).and_then(FractionalPercent::parse).unwrap_or(default)
    }
}

/// A runtime without any values.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRuntime;

impl RuntimeLookup for NoRuntime {
    fn text(&self, _key: &str) -> Option<&str> {
        None
    }
}

/// `envoy.config.core.v3.RuntimeFractionalPercent`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuntimeFractionalPercent {
    /// Used when the runtime has no value.
    pub default_value: FractionalPercent,
    /// Runtime key; empty means none.
    pub runtime_key: Box<str>,
}

impl RuntimeFractionalPercent {
    /// Whether the feature is on for this random number.
    #[inline]
    pub fn enabled(&self, runtime: &dyn RuntimeLookup, random: u64) -> bool {
        if self.runtime_key.is_empty() {
            return self.default_value.selects(random);
        }
        runtime.fraction(&self.runtime_key, self.default_value).selects(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selection_is_the_remainder() {
        for (numerator, denominator, random, expected) in [
            (0, Denominator::Hundred, 0, false),
            (1, Denominator::Hundred, 100, true),
            (50, Denominator::Hundred, 149, true),
            (50, Denominator::Hundred, 150, false),
            (100, Denominator::Hundred, u64::MAX, true),
            (250, Denominator::Hundred, 99, true),
            (1, Denominator::Million, 999_999, false),
            (1, Denominator::TenThousand, 20_000, true),
        ] {
            assert_eq!(FractionalPercent { numerator, denominator }.selects(random), expected);
        }
    }

    #[test]
    fn runtime_values() {
        for (text, expected) in [
            ("5", Some((5, Denominator::Hundred))),
            ("{numerator: 5, denominator: TEN_THOUSAND}", Some((5, Denominator::TenThousand))),
            ("numerator: 7\ndenominator: MILLION\n", Some((7, Denominator::Million))),
            (r#"{"numerator":1,"denominator":"HUNDRED"}"#, Some((1, Denominator::Hundred))),
            ("99999999999", Some((u32::MAX, Denominator::Hundred))),
            ("true", None),
            ("", None),
            ("-1", None),
            ("{numerator: x}", None),
            ("{other: 1}", None),
        ] {
            let actual = FractionalPercent::parse(text).map(|p| (p.numerator, p.denominator));
            assert_eq!(actual, expected, "{text}");
        }
    }

    #[test]
    fn the_runtime_overrides_the_default() {
        struct One;
        impl RuntimeLookup for One {
            fn text(&self, key: &str) -> Option<&str> {
                (key == "k").then_some("100")
            }
        }
        let percent = |key: &str| RuntimeFractionalPercent { runtime_key: key.into(), ..Default::default() };
        assert!(percent("k").enabled(&One, 99));
        assert!(!percent("other").enabled(&One, 0));
        assert!(!percent("").enabled(&One, 0));
        assert!(!percent("k").enabled(&NoRuntime, 0));
    }
}
