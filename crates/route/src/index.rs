//! Finding the first route whose path fits, without looking at all of them.
//!
//! Every route is put under a byte string that the path of each request it matches starts with: the prefix, the whole path,
//! the literal start of a regular expression, or nothing. One walk over the path yields the candidates; they are tried in
//! the order of the configuration. So the cost grows with the number of routes that really compete for a path, not with
//! the number of routes.

use crate::trie::Trie;
use smallvec::SmallVec;

/// How the place in the trie decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Fit {
    /// The path starts with the key.
    Prefix = 0,
    /// The path is the key.
    Exact = 1,
    /// The path is the key, or the key and `/…`.
    Separated = 2,
    /// The path starts with the key, and the route has more to say.
    Maybe = 3,
}

const FIT_BITS: u32 = 2;

/// The routes of one virtual host by path.
#[derive(Debug, Default)]
pub(crate) struct PathIndex {
    trie: Trie,
    /// Routes that do not care about case, under lower-case keys.
    folded: Option<Box<Trie>>,
}

/// Collects routes, in order.
#[derive(Debug, Default)]
pub(crate) struct PathIndexBuilder {
    keys: Vec<(Vec<u8>, u32)>,
    folded: Vec<(Vec<u8>, u32)>,
}

impl PathIndexBuilder {
    /// Adds a route; `route` grows from call to call and stays below 2^30.
    pub(crate) fn add(&mut self, key: &[u8], fit: Fit, case_sensitive: bool, route: u32) {
        let value = route << FIT_BITS | fit as u32;
        if case_sensitive {
            self.keys.push((key.to_vec(), value));
        } else {
            self.folded.push((key.to_ascii_lowercase(), value));
        }
    }

    /// The index; `None` if there are more routes than it can hold.
    pub(crate) fn build(self) -> Option<PathIndex> {
        let folded = match self.folded.is_empty() {
            true => None,
            false => Some(Box::new(Trie::build(self.folded)?)),
        };
        Some(PathIndex { trie: Trie::build(self.keys)?, folded })
    }
}

impl PathIndex {
    /// The first route, in the order of the configuration, whose key fits and for which `test`, given the route and
    /// whether its path is still to be compared, holds.
    #[inline]
    pub(crate) fn first(&self, path: &[u8], mut test: impl FnMut(u32, bool) -> bool) -> Option<u32> {
        let mut lists: SmallVec<[(usize, &[u32]); 8]> = SmallVec::new();
        self.trie.walk::<false>(path, |depth, values| lists.push((depth, values)));
        if let Some(folded) = &self.folded {
            folded.walk::<true>(path, |depth, values| lists.push((depth, values)));
        }
        loop {
            let mut best: Option<(usize, u32)> = None;
            for (at, (depth, values)) in lists.iter_mut().enumerate() {
                while let Some((head, rest)) = values.split_first() {
                    if fits(*head, *depth, path) {
                        if best.is_none_or(|(_, least)| *head < least) {
                            best = Some((at, *head));
                        }
                        break;
                    }
                    *values = rest;
                }
            }
            let (at, value) = best?;
            let route = value >> FIT_BITS;
            if test(route, value & 3 == Fit::Maybe as u32) {
                return Some(route);
            }
            if let Some((_, values)) = lists.get_mut(at) {
                *values = values.get(1..).unwrap_or_default();
            }
        }
    }
}

#[inline]
fn fits(value: u32, depth: usize, path: &[u8]) -> bool {
    match value & 3 {
        1 => depth == path.len(),
        2 => depth == path.len() || path.get(depth) == Some(&b'/'),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_match_whatever_the_kind() {
        let routes: &[(&str, Fit, bool)] = &[
            ("/exact", Fit::Exact, true),
            ("/exact/", Fit::Prefix, true),
            ("/sep", Fit::Separated, true),
            ("/re", Fit::Maybe, true),
            ("/CASE", Fit::Prefix, false),
            ("/casex", Fit::Exact, true),
            ("/", Fit::Prefix, true),
            ("/sep/later", Fit::Exact, true),
        ];
        let mut builder = PathIndexBuilder::default();
        for (at, (key, fit, case)) in routes.iter().enumerate() {
            builder.add(key.as_bytes(), *fit, *case, at as u32);
        }
        let index = builder.build().unwrap();
        for (path, expected) in [
            ("/exact", Some(0)),
            ("/exact/x", Some(1)),
            ("/exac", Some(6)),
            ("/exactly", Some(6)),
            ("/sep", Some(2)),
            ("/sep/", Some(2)),
            ("/sep/later", Some(2)),
            ("/separate", Some(6)),
            ("/re-yes", Some(3)),
            ("/re-no", Some(6)),
            ("/casex", Some(4)),
            ("/CaSe", Some(4)),
            ("", None),
            ("*", None),
        ] {
            let found = index.first(path.as_bytes(), |_, maybe| !maybe || path.ends_with("yes"));
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn failing_tests_go_on_in_order() {
        let mut builder = PathIndexBuilder::default();
        for route in 0..100u32 {
            let key = if route % 2 == 0 { "/a" } else { "/" };
            builder.add(key.as_bytes(), Fit::Prefix, route % 3 != 0, route);
        }
        let index = builder.build().unwrap();
        let mut seen = Vec::new();
        assert_eq!(
            index.first(b"/a/b", |route, _| {
                seen.push(route);
                false
            }),
            None
        );
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
    }
}
