//! `envoy.config.route.v3.CookieMatcher`.

use crate::{InvalidMatcher, StringMatcher, StringMatcherSpec};
use nuncio_headers::{HeaderMap, HeaderName, Known};

/// `envoy.config.route.v3.CookieMatcher`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieMatcherSpec {
    /// Name, compared with case, 1 to 1024 bytes.
    pub name: String,
    /// Compared with the cookie's value.
    pub string_match: StringMatcherSpec,
    /// Negate; an absent cookie then matches. Default false.
    pub invert_match: bool,
}

/// A compiled cookie matcher. A cookie that occurs several times counts with its first value.
#[derive(Debug, Clone)]
pub struct CookieMatcher {
    name: Box<[u8]>,
    value: StringMatcher,
    invert: bool,
}

impl CookieMatcher {
    /// Compiles.
    pub fn new(spec: &CookieMatcherSpec) -> Result<CookieMatcher, InvalidMatcher> {
        if spec.name.is_empty() || spec.name.len() > 1024 {
            return Err(InvalidMatcher::new("name", "must have 1 to 1024 bytes"));
        }
        let value = StringMatcher::new(&spec.string_match).map_err(|e| e.within("string_match"))?;
        Ok(CookieMatcher { name: spec.name.as_bytes().into(), value, invert: spec.invert_match })
    }

    /// Whether the `cookie` headers match.
    pub fn matches(&self, headers: &HeaderMap) -> bool {
        cookie_value(headers, &self.name).is_some_and(|value| self.value.matches(value)) != self.invert
    }
}

/// The first value of a cookie, without the quotes that may surround it.
pub fn cookie_value<'a>(headers: &'a HeaderMap, name: &[u8]) -> Option<&'a [u8]> {
    let header = HeaderName::from(Known::COOKIE);
    headers.all(&header).flat_map(|value| value.split(|b| *b == b';')).find_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"=")?;
        Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_inversion() {
        let mut headers = HeaderMap::new();
        headers.append_known(Known::COOKIE, b"a =7; a=1; b=\"two\";c");
        headers.append_known(Known::COOKIE, b"d=4; a=9");
        let get = |name: &str| cookie_value(&headers, name.as_bytes()).map(|v| String::from_utf8_lossy(v).into_owned());
        assert_eq!(get("a").as_deref(), Some("1"));
        assert_eq!(get("b").as_deref(), Some("two"));
        assert_eq!(get("d").as_deref(), Some("4"));
        assert_eq!(get("c"), None);
        for (name, value, invert, expected) in
            [("a", "1", false, true), ("a", "1", true, false), ("x", "1", false, false), ("x", "1", true, true)]
        {
            let spec = CookieMatcherSpec {
                name: name.to_owned(),
                string_match: StringMatcherSpec::exact(value),
                invert_match: invert,
            };
            assert_eq!(CookieMatcher::new(&spec).unwrap().matches(&headers), expected, "{spec:?}");
        }
    }
}
