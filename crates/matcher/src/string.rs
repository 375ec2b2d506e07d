//! `envoy.type.matcher.v3.StringMatcher`.

use crate::{InvalidMatcher, Regex, RegexSpec};
use memchr::memmem;

/// What a string is compared with (`StringMatcher.match_pattern`). `custom` is an extension point that lowering reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StringMatchSpec {
    /// The whole string. May be empty.
    Exact(String),
    /// Its start. Not empty.
    Prefix(String),
    /// Its end. Not empty.
    Suffix(String),
    /// Any part of it. Not empty.
    Contains(String),
    /// An expression that the whole string must match.
    SafeRegex(RegexSpec),
}

/// `envoy.type.matcher.v3.StringMatcher`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StringMatcherSpec {
    /// What to compare with.
    pub pattern: StringMatchSpec,
    /// Compare ASCII letters without case. Default false. Refused with `safe_regex`, as in Envoy: write `(?i)`.
    pub ignore_case: bool,
}

impl StringMatcherSpec {
    /// Exact comparison with case.
    pub fn exact(text: &str) -> Self {
        StringMatchSpec::Exact(text.to_owned()).into()
    }

    /// Comparison of the start, with case.
    pub fn prefix(text: &str) -> Self {
        StringMatchSpec::Prefix(text.to_owned()).into()
    }

    /// Comparison of the whole with an expression.
    pub fn regex(text: &str) -> Self {
        StringMatchSpec::SafeRegex(text.into()).into()
    }
}

impl From<StringMatchSpec> for StringMatcherSpec {
    fn from(pattern: StringMatchSpec) -> Self {
        StringMatcherSpec { pattern, ignore_case: false }
    }
}

/// A compiled string matcher.
#[derive(Debug, Clone)]
pub struct StringMatcher {
    pattern: Pattern,
    /// Then the pattern's text is in lower case.
    ignore_case: bool,
}

#[derive(Debug, Clone)]
enum Pattern {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<[u8]>),
    Regex(Box<Regex>),
}

impl StringMatcher {
    /// Compiles.
    pub fn new(spec: &StringMatcherSpec) -> Result<StringMatcher, InvalidMatcher> {
        let fold = spec.ignore_case;
        let text = |field: &str, text: &str| -> Result<Box<[u8]>, InvalidMatcher> {
            if text.is_empty() {
                return Err(InvalidMatcher::new(field, "must not be empty; it would match everything"));
            }
            Ok(folded(text, fold))
        };
        let pattern = match &spec.pattern {
            StringMatchSpec::Exact(exact) => Pattern::Exact(folded(exact, fold)),
            StringMatchSpec::Prefix(prefix) => Pattern::Prefix(text("prefix", prefix)?),
            StringMatchSpec::Suffix(suffix) => Pattern::Suffix(text("suffix", suffix)?),
            StringMatchSpec::Contains(part) => Pattern::Contains(text("contains", part)?),
            StringMatchSpec::SafeRegex(_) if fold => {
                let message = "ignore_case has no effect for safe_regex; write (?i) at the start of the expression";
                return Err(InvalidMatcher::new("ignore_case", message));
            }
            StringMatchSpec::SafeRegex(regex) => {
                Pattern::Regex(Box::new(Regex::new(regex).map_err(|e| e.within("safe_regex"))?))
            }
        };
        Ok(StringMatcher { pattern, ignore_case: fold })
    }

    /// Whether the value matches.
    #[inline]
    pub fn matches(&self, value: &[u8]) -> bool {
        if self.ignore_case {
            return self.matches_folded(value);
        }
        match &self.pattern {
            Pattern::Exact(exact) => value == &**exact,
            Pattern::Prefix(prefix) => value.starts_with(prefix),
            Pattern::Suffix(suffix) => value.ends_with(suffix),
            Pattern::Contains(part) => memmem::find(value, part).is_some(),
            Pattern::Regex(regex) => regex.matches(value),
        }
    }

    fn matches_folded(&self, value: &[u8]) -> bool {
        match &self.pattern {
            Pattern::Exact(exact) => value.eq_ignore_ascii_case(exact),
            Pattern::Prefix(prefix) => value.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix)),
            Pattern::Suffix(suffix) => value
                .len()
                .checked_sub(suffix.len())
                .and_then(|from| value.get(from..))
                .is_some_and(|tail| tail.eq_ignore_ascii_case(suffix)),
            Pattern::Contains(part) => memmem::find(&value.to_ascii_lowercase(), part).is_some(),
            Pattern::Regex(regex) => regex.matches(value),
        }
    }
}

fn folded(text: &str, fold: bool) -> Box<[u8]> {
    if fold { text.to_ascii_lowercase().into_bytes().into() } else { text.as_bytes().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: StringMatchSpec, ignore_case: bool, yes: &[&str], no: &[&str]) {
        let matcher = StringMatcher::new(&StringMatcherSpec { pattern: pattern.clone(), ignore_case }).unwrap();
        for value in yes {
            assert!(matcher.matches(value.as_bytes()), "{pattern:?} should match {value:?}");
        }
        for value in no {
            assert!(!matcher.matches(value.as_bytes()), "{pattern:?} should not match {value:?}");
        }
    }

    #[test]
    fn kinds() {
        use StringMatchSpec::*;
        let s = str::to_owned;
        check(Exact(s("abc")), false, &["abc"], &["ABC", "abcd", ""]);
        check(Exact(s("aBc")), true, &["abc", "ABC"], &["abcd", ""]);
        check(Exact(s("")), false, &[""], &["a"]);
        check(Prefix(s("ab")), false, &["ab", "abc"], &["a", "Abc", ""]);
        check(Prefix(s("Ab")), true, &["ab", "ABc"], &["a", "xab"]);
        check(Suffix(s("bc")), false, &["bc", "abc"], &["c", "aBC"]);
        check(Suffix(s("bC")), true, &["abc", "aBC"], &["c", "bcd"]);
        check(Contains(s("b")), false, &["abc", "b"], &["aBc", ""]);
        check(Contains(s("B")), true, &["abc", "aBc"], &["ac"]);
        check(SafeRegex("a.c".into()), false, &["abc"], &["abcd", "ABC"]);
        let folded = StringMatcherSpec { pattern: SafeRegex("a".into()), ignore_case: true };
        assert_eq!(StringMatcher::new(&folded).unwrap_err().path, "ignore_case");
    }

    #[test]
    fn empty_parts_are_refused() {
        for (pattern, path) in [
            (StringMatchSpec::Prefix(String::new()), "prefix"),
            (StringMatchSpec::Suffix(String::new()), "suffix"),
            (StringMatchSpec::Contains(String::new()), "contains"),
            (StringMatchSpec::SafeRegex("".into()), "safe_regex.regex"),
        ] {
            assert_eq!(StringMatcher::new(&pattern.into()).unwrap_err().path, path);
        }
    }
}
