//! `envoy.config.route.v3.HeaderMatcher`.

use crate::{
    InvalidMatcher, Regex, RegexSpec, Side, StringMatchSpec, StringMatcher, StringMatcherSpec, is_inline, parse_integer,
};
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
/// A header that occurs several times matches if any of its values does; inverted, if none of them does. So a rule on it
/// can't be passed by sending a second one, nor can the joined text hide a value (CVE-2020-25017, CVE-2026-26308; Envoy's
/// `match_headers_individually`). Of the headers that Envoy keeps inline ([`is_inline`]) the joined values are compared.
#[derive(Debug, Clone)]
pub struct HeaderMatcher {
    name: HeaderName,
    kind: Kind,
    invert: bool,
    missing_is_empty: bool,
    joins: bool,
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
    /// Compiles for request headers.
    pub fn new(spec: &HeaderMatcherSpec) -> Result<HeaderMatcher, InvalidMatcher> {
        HeaderMatcher::on(Side::Request, spec)
    }

    /// Compiles for the headers of either side; they differ in what Envoy keeps inline.
    pub fn on(side: Side, spec: &HeaderMatcherSpec) -> Result<HeaderMatcher, InvalidMatcher> {
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
        let joins = is_inline(side, name.as_str());
        Ok(HeaderMatcher { name, kind, invert, missing_is_empty, joins })
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
        let mut values = headers.all(&self.name);
        let Some(first) = values.next() else { return self.matches_missing() };
        let matched = match values.next() {
            None => self.matches_value(first),
            Some(_) if self.joins => headers.joined(&self.name).is_some_and(|joined| self.matches_value(&joined)),
            Some(second) => [first, second].into_iter().chain(values).any(|value| self.matches_value(value)),
        };
        matched != self.invert
    }

    fn matches_missing(&self) -> bool {
        if self.missing_is_empty {
            return self.matches_value(b"") != self.invert;
        }
        match self.kind {
            Kind::Present(present) => present == self.invert,
            _ => false,
        }
    }

    #[inline]
    fn matches_value(&self, value: &[u8]) -> bool {
        match &self.kind {
            Kind::Any => true,
            Kind::Range(start, end) => parse_integer(value).is_some_and(|value| (*start..*end).contains(&value)),
            Kind::Present(present) => *present,
            Kind::Text(matcher) => matcher.matches(value),
            Kind::Regex(regex) => regex.matches(value),
        }
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

    /// The outcome for each of these headers; `+` is a match. As measured on Envoy 1.40.
    fn check(name: &str, kind: HeaderMatchSpec, [invert, missing_is_empty]: [bool; 2], expected: &str) {
        let spec = HeaderMatcherSpec {
            name: name.to_owned(),
            kind,
            invert_match: invert,
            treat_missing_header_as_empty: missing_is_empty,
        };
        let matcher = HeaderMatcher::new(&spec).unwrap();
        let inputs: [&[&str]; 9] =
            [&[], &[""], &["abc"], &["5"], &["abc", "x"], &["x", "abc"], &["x,abc"], &["x", "y"], &["x", "5"]];
        let matches = |values: &&[&str]| {
            let entries: Vec<_> = values.iter().map(|value| (name, *value)).collect();
            if matcher.matches(&headers(&entries)) { '+' } else { '-' }
        };
        assert_eq!(inputs.iter().map(matches).collect::<String>(), expected, "{spec:?}");
    }

    #[test]
    fn kinds_by_presence_inversion_and_default() {
        use HeaderMatchSpec::*;
        let s = str::to_owned;
        let exact = |text: &str| StringMatch(StringMatcherSpec::exact(text));
        for (kind, [invert, missing_is_empty], expected) in [
            (Unset, [false, false], "-++++++++"),
            (Unset, [true, false], "+--------"),
            (Present(true), [false, false], "-++++++++"),
            (Present(true), [true, false], "+--------"),
            (Present(false), [false, false], "+--------"),
            (Present(false), [true, false], "-++++++++"),
            (Present(true), [false, true], "+++++++++"),
            (Present(false), [false, true], "---------"),
            (exact("abc"), [false, false], "--+-++---"),
            (exact("abc"), [true, false], "-+-+--+++"),
            (exact("abc"), [true, true], "++-+--+++"),
            (exact(""), [false, false], "-+-------"),
            (exact(""), [false, true], "++-------"),
            (exact("x,abc"), [false, false], "------+--"),
            (Exact(s("abc")), [false, false], "--+-++---"),
            (Exact(s("")), [false, false], "-++++++++"),
            (Prefix(s("a")), [false, false], "--+-++---"),
            (Suffix(s("c")), [false, false], "--+-+++--"),
            (Contains(s(",")), [false, false], "------+--"),
            (SafeRegex("a.c".into()), [false, false], "--+-++---"),
            (Range { start: 1, end: 6 }, [false, false], "---+----+"),
            (Range { start: 1, end: 6 }, [true, false], "-++-++++-"),
            (Range { start: 1, end: 5 }, [true, true], "+++++++++"),
        ] {
            check("x-k", kind, [invert, missing_is_empty], expected);
        }
    }

    #[test]
    fn inline_headers_are_compared_joined() {
        let exact = |text: &str| HeaderMatchSpec::StringMatch(StringMatcherSpec::exact(text));
        check("user-agent", exact("abc"), [false, false], "--+------");
        check("user-agent", exact("abc"), [true, false], "-+-++++++");
        check("user-agent", exact("x,abc"), [false, false], "-----++--");
        check("user-agent", HeaderMatchSpec::Range { start: 1, end: 6 }, [false, false], "---+-----");
        check("cookie", exact("abc"), [false, false], "--+-++---");
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
