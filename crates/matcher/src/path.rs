//! Paths: what of `:path` is compared, and `envoy.type.matcher.v3.PathMatcher`.

use crate::{InvalidMatcher, StringMatcher, StringMatcherSpec};
use memchr::memchr2;

/// `:path` without query and fragment.
#[inline]
pub fn path_only(path: &[u8]) -> &[u8] {
    match memchr2(b'?', b'#', path) {
        Some(end) => &path[..end],
        None => path,
    }
}

/// A path whose segments end before their first `;` (`RouteConfiguration.ignore_path_parameters_in_path_matching`).
pub fn without_parameters(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for (at, segment) in path.split(|byte| *byte == b'/').enumerate() {
        if at > 0 {
            out.push(b'/');
        }
        out.extend_from_slice(segment.split(|byte| *byte == b';').next().unwrap_or_default());
    }
    out
}

/// `envoy.type.matcher.v3.PathMatcher`: a string matcher on `:path` without query and fragment.
#[derive(Debug, Clone)]
pub struct PathMatcher(StringMatcher);

impl PathMatcher {
    /// Compiles `PathMatcher.path`.
    pub fn new(path: &StringMatcherSpec) -> Result<PathMatcher, InvalidMatcher> {
        StringMatcher::new(path).map(PathMatcher).map_err(|e| e.within("path"))
    }

    /// Whether a `:path` matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.0.matches(path_only(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_and_fragment_do_not_count() {
        for (path, expected) in
            [("/a", "/a"), ("/a?b", "/a"), ("/a#b?c", "/a"), ("/a?b#c", "/a"), ("", ""), ("?a", ""), ("/a;b?c", "/a;b")]
        {
            assert_eq!(path_only(path.as_bytes()), expected.as_bytes());
        }
        for (path, expected) in
            [("/a;b/c", "/a/c"), ("/a;b;c=d;/e;f", "/a/e"), ("/a/;b", "/a/"), ("/a", "/a"), (";", "")]
        {
            assert_eq!(without_parameters(path.as_bytes()), expected.as_bytes(), "{path}");
        }
        let matcher = PathMatcher::new(&StringMatcherSpec::exact("/admin")).unwrap();
        for (path, expected) in
            [("/admin", true), ("/admin?x", true), ("/admin#x", true), ("/admin/", false), ("/admin%3fx", false)]
        {
            assert_eq!(matcher.matches(path.as_bytes()), expected, "{path}");
        }
    }
}
