//! `envoy.config.route.v3.HeaderMatcher`.

use crate::{InvalidMatcher, Regex, RegexSpec, StringMatchSpec, StringMatcher, StringMatcherSpec, parse_integer};
use nuncio_headers::{HeaderMap, HeaderName, Known};

/// How a header is compared (`HeaderMatcher.header_match_specifier`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HeaderMatchSpec {
    /// Nothing given: the header must be present, as with `present_match: true`.
    #[default]
    Unset,
    /// `exact_match` (deprecated): the value; an empty text matches any value, as in Envoy.
    Exact(String),
    /// `safe_regex_match` (deprecated): the whole value.
    SafeRegex(RegexSpec),
    /// `range_match`: a decimal integer, `start` included, `end` not. A value that is no integer does not match.
    Range {
        /// Included.
        start: i64,
        /// Not included.
        end: i64,
    },
    /// `present_match`: present (true) or absent (false).
    Present(bool),
    /// `prefix_match` (deprecated).
    Prefix(String),
    /// `suffix_match` (deprecated).
    Suffix(String),
    /// `contains_match` (deprecated).
    Contains(String),
    /// `string_match`.
    StringMatch(StringMatcherSpec),
}

/// `envoy.config.route.v3.HeaderMatcher`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderMatcherSpec {
    /// Name, any case; pseudo-headers too. `host` means `:authority`.
    pub name: String,
    /// How to compare.
    pub kind: HeaderMatchSpec,
    /// Negate the comparison. Default false. An absent header still does not match, except with `present_match`.
    pub invert_match: bool,
    /// Take an absent header for one with an empty value. Default false.
    pub treat_missing_header_as_empty: bool,
}

/// A compiled header matcher.
///
/// A header that occurs several times is compared once, with its values joined by `,` (RFC 9110 §5.3), so that a rule
/// on it can't be passed by sending a second one (CVE-2020-25017).
#[derive(Debug, Clone)]
pub struct HeaderMatcher {
    name: HeaderName,
    kind: Kind,
    invert: bool,
    missing_is_empty: bool,
}

#[derive(Debug, Clone)]
enum Kind {
    Any,
    Range(i64, i64),
    Present(bool),
    Text(StringMatcher),
    Regex(Box<Regex>),
}

impl HeaderMatcher {
    /// Compiles.
    pub fn new(spec: &HeaderMatcherSpec) -> Result<HeaderMatcher, InvalidMatcher> {
        let name = HeaderName::new(&spec.name).map_err(|e| InvalidMatcher::new("name", e.to_string()))?;
        let name = if name.known() == Some(Known::HOST) { HeaderName::from(Known::AUTHORITY) } else { name };
        let text = |field: &str, pattern: StringMatchSpec| {
            StringMatcher::new(&pattern.into()).map(Kind::Text).map_err(|e| InvalidMatcher::new(field, e.message))
        };
        let kind = match &spec.kind {
            HeaderMatchSpec::Unset => Kind::Present(true),
            HeaderMatchSpec::Exact(exact) if exact.is_empty() => Kind::Any,
            HeaderMatchSpec::Exact(exact) => text("exact_match", StringMatchSpec::Exact(exact.clone()))?,
            HeaderMatchSpec::SafeRegex(regex) => {
                Kind::Regex(Box::new(Regex::new(regex).map_err(|e| e.within("safe_regex_match"))?))
            }
            HeaderMatchSpec::Range { start, end } => Kind::Range(*start, *end),
            HeaderMatchSpec::Present(present) => Kind::Present(*present),
            HeaderMatchSpec::Prefix(prefix) => text("prefix_match", StringMatchSpec::Prefix(prefix.clone()))?,
            HeaderMatchSpec::Suffix(suffix) => text("suffix_match", StringMatchSpec::Suffix(suffix.clone()))?,
            HeaderMatchSpec::Contains(part) => text("contains_match", StringMatchSpec::Contains(part.clone()))?,
            HeaderMatchSpec::StringMatch(spec) => {
                Kind::Text(StringMatcher::new(spec).map_err(|e| e.within("string_match"))?)
            }
        };
        let (invert, missing_is_empty) = (spec.invert_match, spec.treat_missing_header_as_empty);
        Ok(HeaderMatcher { name, kind, invert, missing_is_empty })
    }

    /// Compiles a list; every error is reported, each within `field[i]`.
    pub fn list(field: &str, specs: &[HeaderMatcherSpec]) -> Result<Box<[HeaderMatcher]>, Vec<InvalidMatcher>> {
        let mut matchers = Vec::with_capacity(specs.len());
        let mut errors = Vec::new();
        for (at, spec) in specs.iter().enumerate() {
            match HeaderMatcher::new(spec) {
                Ok(matcher) => matchers.push(matcher),
                Err(error) => errors.push(error.within(&format!("{field}[{at}]"))),
            }
        }
        if errors.is_empty() { Ok(matchers.into()) } else { Err(errors) }
    }

    /// Whether the headers match.
    #[inline]
    pub fn matches(&self, headers: &HeaderMap) -> bool {
        let value = headers.joined(&self.name);
        let value: &[u8] = match &value {
            Some(value) => value,
            None if self.missing_is_empty => b"",
            None => {
                return match self.kind {
                    Kind::Present(present) => present == self.invert,
                    _ => false,
                };
            }
        };
        let matched = match &self.kind {
            Kind::Any => true,
            Kind::Range(start, end) => parse_integer(value).is_some_and(|value| (*start..*end).contains(&value)),
            Kind::Present(present) => *present,
            Kind::Text(matcher) => matcher.matches(value),
            Kind::Regex(regex) => regex.matches(value),
        };
        matched != self.invert
    }

    /// The header that it looks at.
    pub fn name(&self) -> &HeaderName {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(entries: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in entries {
            map.append(&HeaderName::new(name).unwrap(), value.as_bytes());
        }
        map
    }

    /// The outcome for: absent, empty, `abc`, `5`, and the two values `abc` and `x`; `+` is a match.
    fn check(kind: HeaderMatchSpec, invert: bool, missing_is_empty: bool, expected: &str) {
        let spec = HeaderMatcherSpec {
            name: "X-K".to_owned(),
            kind,
            invert_match: invert,
            treat_missing_header_as_empty: missing_is_empty,
        };
        let matcher = HeaderMatcher::new(&spec).unwrap();
        let inputs: [&[(&str, &str)]; 5] =
            [&[], &[("x-k", "")], &[("x-k", "abc")], &[("x-k", "5")], &[("x-k", "abc"), ("x-k", "x")]];
        let actual: String = inputs.iter().map(|i| if matcher.matches(&headers(i)) { '+' } else { '-' }).collect();
        assert_eq!(actual, expected, "{spec:?}");
    }

    #[test]
    fn kinds_by_presence_inversion_and_default() {
        use HeaderMatchSpec::*;
        let s = str::to_owned;
        check(Unset, false, false, "-++++");
        check(Unset, true, false, "+----");
        check(Present(true), false, false, "-++++");
        check(Present(true), true, false, "+----");
        check(Present(false), false, false, "+----");
        check(Present(false), true, false, "-++++");
        check(Present(true), false, true, "+++++");
        check(Exact(s("abc")), false, false, "--+--");
        check(Exact(s("abc")), true, false, "-+-++");
        check(Exact(s("")), false, false, "-++++");
        check(Exact(s("abc")), true, true, "++-++");
        check(StringMatch(StringMatcherSpec::exact("")), false, false, "-+---");
        check(StringMatch(StringMatcherSpec::exact("")), false, true, "++---");
        check(StringMatch(StringMatcherSpec::exact("abc,x")), false, false, "----+");
        check(Prefix(s("abc")), false, false, "--+-+");
        check(Suffix(s("c")), false, false, "--+--");
        check(Contains(s("b")), false, false, "--+-+");
        check(SafeRegex("a.c".into()), false, false, "--+--");
        check(SafeRegex("a.c".into()), true, false, "-+-++");
        check(Range { start: 1, end: 6 }, false, false, "---+-");
        check(Range { start: 1, end: 5 }, false, false, "-----");
        check(Range { start: 1, end: 5 }, true, false, "-++++");
    }

    #[test]
    fn host_is_the_authority() {
        let spec = HeaderMatcherSpec {
            name: "host".to_owned(),
            kind: HeaderMatchSpec::StringMatch(StringMatcherSpec::exact("a.b")),
            ..Default::default()
        };
        assert!(HeaderMatcher::new(&spec).unwrap().matches(&headers(&[(":authority", "a.b")])));
    }

    #[test]
    fn errors_carry_the_field() {
        let bad = |kind| HeaderMatcherSpec { name: "a".to_owned(), kind, ..Default::default() };
        let specs = [
            bad(HeaderMatchSpec::Prefix(String::new())),
            bad(HeaderMatchSpec::StringMatch(StringMatcherSpec::regex("("))),
            HeaderMatcherSpec { name: "a b".to_owned(), ..Default::default() },
        ];
        let paths: Vec<_> = HeaderMatcher::list("headers", &specs).unwrap_err().into_iter().map(|e| e.path).collect();
        assert_eq!(paths, ["headers[0].prefix_match", "headers[1].string_match.safe_regex.regex", "headers[2].name"]);
    }
}
