//! Finding the virtual host of a request.
//!
//! Envoy's order: the whole host; the longest `*…` that fits; the longest `…*` that fits; `*`. Hosts compare without case.

use crate::trie::Trie;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use smallvec::SmallVec;

/// Domains of all virtual hosts; the values are positions of virtual hosts.
#[derive(Debug, Default)]
pub(crate) struct HostIndex {
    exact: HashMap<Box<[u8]>, u32>,
    /// What follows the `*`, backwards.
    suffixes: Option<Trie>,
    prefixes: Option<Trie>,
    any: Option<u32>,
}

/// Collects domains.
#[derive(Debug, Default)]
pub(crate) struct HostIndexBuilder {
    exact: HashMap<Box<[u8]>, u32>,
    suffixes: HashMap<Box<[u8]>, u32>,
    prefixes: HashMap<Box<[u8]>, u32>,
    any: Option<u32>,
}

/// The domain belongs to another virtual host already, or to the same.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Which.
    pub(crate) by: u32,
}

impl HostIndexBuilder {
    /// Adds a domain.
    pub(crate) fn add(&mut self, domain: &str, virtual_host: u32) -> Result<(), Taken> {
        let domain = domain.to_ascii_lowercase();
        if domain == "*" {
            return match self.any {
                Some(by) => Err(Taken { by }),
                None => {
                    self.any = Some(virtual_host);
                    Ok(())
                }
            };
        }
        let (map, key) = if let Some(suffix) = domain.strip_prefix('*') {
            (&mut self.suffixes, suffix.bytes().rev().collect())
        } else if let Some(prefix) = domain.strip_suffix('*') {
            (&mut self.prefixes, prefix.as_bytes().into())
        } else {
            (&mut self.exact, domain.into_bytes().into())
        };
        match map.entry(key) {
            Entry::Occupied(entry) => Err(Taken { by: *entry.get() }),
            Entry::Vacant(entry) => {
                entry.insert(virtual_host);
                Ok(())
            }
        }
    }

    /// The index; `None` if there are more domains than it can hold.
    pub(crate) fn build(self) -> Option<HostIndex> {
        let trie = |keys: HashMap<Box<[u8]>, u32>| match keys.is_empty() {
            true => Some(None),
            false => Trie::build(keys.into_iter().map(|(key, value)| (key.into_vec(), value)).collect()).map(Some),
        };
        let mut exact = self.exact;
        exact.shrink_to_fit();
        Some(HostIndex { exact, suffixes: trie(self.suffixes)?, prefixes: trie(self.prefixes)?, any: self.any })
    }
}

impl HostIndex {
    /// Whether there is nothing to look up: at most one virtual host, for `*`. A request needs no host then.
    #[inline]
    pub(crate) fn only_any(&self) -> bool {
        self.exact.is_empty() && self.suffixes.is_none() && self.prefixes.is_none()
    }

    /// The virtual host for `*`.
    #[inline]
    pub(crate) fn any(&self) -> Option<u32> {
        self.any
    }

    /// The virtual host of a host in any case.
    #[inline]
    pub(crate) fn find(&self, host: &[u8]) -> Option<u32> {
        if host.iter().any(u8::is_ascii_uppercase) {
            let mut lower: SmallVec<[u8; 256]> = SmallVec::from_slice(host);
            lower.make_ascii_lowercase();
            return self.find_lower(&lower);
        }
        self.find_lower(host)
    }

    #[inline]
    fn find_lower(&self, host: &[u8]) -> Option<u32> {
        if let Some(found) = self.exact.get(host) {
            return Some(*found);
        }
        self.find_wildcard(host).or(self.any)
    }

    fn find_wildcard(&self, host: &[u8]) -> Option<u32> {
        let longest = |trie: &Option<Trie>, text: &[u8]| {
            let mut found = None;
            if let Some(trie) = trie {
                // `*.a.b` does not match `.a.b`: the star stands for one byte at least.
                trie.walk::<false>(text, |length, values| {
                    if length < text.len() {
                        found = values.first().copied();
                    }
                });
            }
            found
        };
        if self.suffixes.is_some() {
            let mut backwards: SmallVec<[u8; 256]> = SmallVec::from_slice(host);
            backwards.reverse();
            if let Some(found) = longest(&self.suffixes, &backwards) {
                return Some(found);
            }
        }
        longest(&self.prefixes, host)
    }
}

/// The host without its port, as Envoy finds it: after the last colon, unless that is inside of `[…]`.
#[inline]
pub(crate) fn without_port(host: &[u8]) -> &[u8] {
    let Some(colon) = memchr::memrchr(b':', host) else { return host };
    match memchr::memrchr(b']', host) {
        Some(bracket) if bracket > colon => host,
        _ => host.get(..colon).unwrap_or(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(domains: &[&str]) -> HostIndex {
        let mut builder = HostIndexBuilder::default();
        for (at, domain) in domains.iter().enumerate() {
            builder.add(domain, at as u32).unwrap();
        }
        builder.build().unwrap()
    }

    #[test]
    fn the_order_of_envoy() {
        let domains = [
            "*",
            "a.com",
            "*.com",
            "*.a.com",
            "*-b.a.com",
            "www.*",
            "www.a*",
            "[::1]",
            "[::1]:80",
            "a.com:80",
            "WWW.Big.org",
        ];
        let index = index(&domains);
        for (host, expected) in [
            ("a.com", "a.com"),
            ("A.Com", "a.com"),
            ("b.com", "*.com"),
            (".com", "*"),
            ("x.a.com", "*.a.com"),
            ("x-b.a.com", "*-b.a.com"),
            ("-b.a.com", "*.a.com"),
            ("www.c.com", "*.com"),
            ("www.x", "www.*"),
            ("www.ax", "www.a*"),
            ("www.a", "www.*"),
            ("www.", "*"),
            ("[::1]", "[::1]"),
            ("[::1]:80", "[::1]:80"),
            ("[::1]:81", "*"),
            ("a.com:80", "a.com:80"),
            ("a.com:81", "*"),
            ("www.big.org", "WWW.Big.org"),
            ("", "*"),
        ] {
            let found = index.find(host.as_bytes()).map(|at| domains[at as usize]);
            assert_eq!(found, Some(expected), "{host}");
        }
    }

    #[test]
    fn duplicates() {
        let mut builder = HostIndexBuilder::default();
        for domain in ["*", "a.b", "*.b", "a.*"] {
            assert_eq!(builder.add(domain, 3), Ok(()));
            assert_eq!(builder.add(&domain.to_uppercase(), 4), Err(Taken { by: 3 }), "{domain}");
        }
    }

    #[test]
    fn none() {
        assert_eq!(index(&["a.b"]).find(b"c"), None);
        assert!(index(&["*"]).only_any());
    }

    #[test]
    fn ports() {
        for (host, expected) in
            [("a:80", "a"), ("a", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("a:", "a"), (":80", ""), ("", "")]
        {
            assert_eq!(without_port(host.as_bytes()), expected.as_bytes(), "{host}");
        }
    }
}
