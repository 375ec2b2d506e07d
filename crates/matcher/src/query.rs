//! `envoy.config.route.v3.QueryParameterMatcher`.

use crate::{InvalidMatcher, StringMatcher, StringMatcherSpec};
use memchr::memchr;
use std::borrow::Cow;

/// How a parameter is compared (`query_parameter_match_specifier`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum QueryMatchSpec {
    /// Nothing given: the parameter must be present.
    #[default]
    Unset,
    /// `string_match`, on the value as it stands in the URL (not percent-decoded), as in Envoy.
    StringMatch(StringMatcherSpec),
    /// `present_match`: present (true) or absent (false).
    Present(bool),
}

/// `envoy.config.route.v3.QueryParameterMatcher`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueryParameterMatcherSpec {
    /// Name, compared with case, 1 to 1024 bytes.
    pub name: String,
    /// How to compare.
    pub kind: QueryMatchSpec,
}

/// A compiled query parameter matcher. A parameter that occurs several times counts with its first value.
#[derive(Debug, Clone)]
pub struct QueryParameterMatcher {
    name: Box<[u8]>,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Present(bool),
    Text(StringMatcher),
}

impl QueryParameterMatcher {
    /// Compiles.
    pub fn new(spec: &QueryParameterMatcherSpec) -> Result<QueryParameterMatcher, InvalidMatcher> {
        if spec.name.is_empty() || spec.name.len() > 1024 {
            return Err(InvalidMatcher::new("name", "must have 1 to 1024 bytes"));
        }
        let kind = match &spec.kind {
            QueryMatchSpec::Unset => Kind::Present(true),
            QueryMatchSpec::Present(present) => Kind::Present(*present),
            QueryMatchSpec::StringMatch(spec) => {
                Kind::Text(StringMatcher::new(spec).map_err(|e| e.within("string_match"))?)
            }
        };
        Ok(QueryParameterMatcher { name: spec.name.as_bytes().into(), kind })
    }

    /// Whether the query of `path_and_query` (a `:path`) matches.
    pub fn matches(&self, path_and_query: &[u8]) -> bool {
        let value = query_parameter(path_and_query, &self.name);
        match &self.kind {
            Kind::Present(present) => value.is_some() == *present,
            Kind::Text(matcher) => value.is_some_and(|value| matcher.matches(value)),
        }
    }
}

/// The first value of a parameter in the query of a `:path`; empty if it has no `=`. Nothing is decoded.
pub fn query_parameter<'a>(path_and_query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let start = memchr(b'?', path_and_query)? + 1;
    let query = path_and_query.get(start..)?;
    query.split(|b| *b == b'&').find_map(|pair| {
        let (key, value) = match memchr(b'=', pair) {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &pair[pair.len()..]),
        };
        (key == name).then_some(value)
    })
}

/// `%41` as `A`; a `%` without two hexadecimal digits stays.
pub fn percent_decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr(b'%', text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        let decoded = (*byte == b'%').then(|| hexadecimal(after)).flatten();
        out.push(decoded.unwrap_or(*byte));
        rest = if decoded.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    Cow::Owned(out)
}

/// The byte that two hexadecimal digits stand for.
fn hexadecimal(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for (path, expected) in [
            ("/", None),
            ("/?", None),
            ("/?a", Some("")),
            ("/?a=", Some("")),
            ("/?a=1", Some("1")),
            ("/?b=2&a=1&a=3", Some("1")),
            ("/?a=1=2", Some("1=2")),
            ("/?ab=1", None),
            ("/?A=1", None),
            ("/?&&a=%20", Some("%20")),
            ("/a=1", None),
            ("/?x?a=1", None),
        ] {
            let actual = query_parameter(path.as_bytes(), b"a").map(|v| std::str::from_utf8(v).unwrap());
            assert_eq!(actual, expected, "{path}");
        }
    }

    #[test]
    fn decoding() {
        for (text, expected) in
            [("a", "a"), ("%41%62", "Ab"), ("%", "%"), ("%4", "%4"), ("%zz", "%zz"), ("a+b%2B", "a+b+")]
        {
            assert_eq!(&*percent_decoded(text.as_bytes()), expected.as_bytes(), "{text}");
        }
    }

    #[test]
    fn kinds() {
        let check = |kind: QueryMatchSpec, expected: &str| {
            let matcher =
                QueryParameterMatcher::new(&QueryParameterMatcherSpec { name: "a".to_owned(), kind }).unwrap();
            let actual: String = ["/", "/?a", "/?a=1", "/?a=2&a=1"]
                .iter()
                .map(|path| if matcher.matches(path.as_bytes()) { '+' } else { '-' })
                .collect();
            assert_eq!(actual, expected);
        };
        check(QueryMatchSpec::Unset, "-+++");
        check(QueryMatchSpec::Present(true), "-+++");
        check(QueryMatchSpec::Present(false), "+---");
        check(QueryMatchSpec::StringMatch(StringMatcherSpec::exact("1")), "--+-");
        check(QueryMatchSpec::StringMatch(StringMatcherSpec::exact("")), "-+--");
    }
}
