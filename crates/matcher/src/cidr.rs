//! Address ranges (`envoy.config.core.v3.CidrRange`), with the longest prefix winning.

use crate::InvalidMatcher;
use std::collections::HashMap;
use std::net::IpAddr;

/// `envoy.config.core.v3.CidrRange`: an address and how many of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CidrRange {
    bits: u128,
    length: u8,
    v6: bool,
}

impl CidrRange {
    /// A range; bits beyond `prefix_len` are ignored, as in Envoy. At most 32 (IPv4) or 128 (IPv6).
    pub fn new(address: IpAddr, prefix_len: u32) -> Result<CidrRange, InvalidMatcher> {
        let (bits, width, v6) = split(address);
        let Some(length) = u8::try_from(prefix_len).ok().filter(|length| *length <= width) else {
            return Err(InvalidMatcher::new(
                "prefix_len",
                format!("{prefix_len} is more than the {width} bits of {address}"),
            ));
        };
        Ok(CidrRange { bits: masked(bits, length), length, v6 })
    }

    /// Reads `address_prefix` and `prefix_len`.
    pub fn parse(address_prefix: &str, prefix_len: u32) -> Result<CidrRange, InvalidMatcher> {
        match address_prefix.parse() {
            Ok(address) => CidrRange::new(address, prefix_len),
            Err(_) => Err(InvalidMatcher::new(
                "address_prefix",
                format!("{address_prefix:?} is not an IPv4 or IPv6 address; the length goes into prefix_len"),
            )),
        }
    }

    /// Whether the address is in the range. An IPv4 range has no IPv6 addresses, mapped ones neither.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (bits, _, v6) = split(address);
        v6 == self.v6 && masked(bits, self.length) == self.bits
    }

    /// Number of bits that count.
    pub fn prefix_len(&self) -> u8 {
        self.length
    }
}

/// The bits at the top of a `u128`, their number, and whether it is IPv6.
fn split(address: IpAddr) -> (u128, u8, bool) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32, false),
        IpAddr::V6(v6) => (v6.to_bits(), 128, true),
    }
}

fn masked(bits: u128, length: u8) -> u128 {
    match length {
        0 => 0,
        length => bits & (u128::MAX << (128 - u32::from(length.min(128)))),
    }
}

/// Values by address range; the longest range that has an address decides.
#[derive(Debug, Clone)]
pub struct CidrMap<T> {
    ranges: HashMap<CidrRange, T>,
    /// The lengths that occur, longest first, for IPv4 and IPv6.
    lengths: [Vec<u8>; 2],
}

impl<T> Default for CidrMap<T> {
    fn default() -> Self {
        CidrMap { ranges: HashMap::new(), lengths: [Vec::new(), Vec::new()] }
    }
}

impl<T> CidrMap<T> {
    /// Adds a range; gives back the value that it had.
    pub fn insert(&mut self, range: CidrRange, value: T) -> Option<T> {
        let lengths = &mut self.lengths[usize::from(range.v6)];
        if let Err(at) = lengths.binary_search_by(|length| range.length.cmp(length)) {
            lengths.insert(at, range.length);
        }
        self.ranges.insert(range, value)
    }

    /// The value of a range, as it was inserted.
    pub fn get_mut(&mut self, range: &CidrRange) -> Option<&mut T> {
        self.ranges.get_mut(range)
    }

    /// The value of the longest range that has the address.
    pub fn longest(&self, address: IpAddr) -> Option<&T> {
        self.matching(address).next()
    }

    /// The values of all ranges that have the address, longest range first.
    pub fn matching(&self, address: IpAddr) -> impl Iterator<Item = &T> {
        let (bits, _, v6) = split(address);
        self.lengths[usize::from(v6)]
            .iter()
            .filter_map(move |length| self.ranges.get(&CidrRange { bits: masked(bits, *length), length: *length, v6 }))
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.ranges.values()
    }

    /// The same ranges with other values.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> CidrMap<U> {
        let ranges = self.ranges.into_iter().map(|(range, value)| (range, change(value))).collect();
        CidrMap { ranges, lengths: self.lengths }
    }

    /// Whether there is no range.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

/// A set of address ranges.
#[derive(Debug, Clone, Default)]
pub struct CidrSet(CidrMap<()>);

impl CidrSet {
    /// The union of the ranges.
    pub fn new(ranges: impl IntoIterator<Item = CidrRange>) -> Self {
        ranges.into_iter().collect()
    }

    /// Whether any range has the address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.longest(address).is_some()
    }

    /// Whether there is no range.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<CidrRange> for CidrSet {
    fn from_iter<I: IntoIterator<Item = CidrRange>>(ranges: I) -> Self {
        let mut map = CidrMap::default();
        for range in ranges {
            map.insert(range, ());
        }
        CidrSet(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> CidrRange {
        let (address, length) = text.split_once('/').unwrap();
        CidrRange::parse(address, length.parse().unwrap()).unwrap()
    }

    #[test]
    fn the_longest_wins() {
        let mut map = CidrMap::default();
        for text in ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "::/0", "fd00::/8", "10.1.9.9/24"] {
            map.insert(range(text), text);
        }
        for (address, expected) in [
            ("1.2.3.4", "0.0.0.0/0"),
            ("10.9.9.9", "10.0.0.0/8"),
            ("10.1.3.3", "10.1.0.0/16"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("10.1.9.1", "10.1.9.9/24"),
            ("::1", "::/0"),
            ("fd12::1", "fd00::/8"),
        ] {
            assert_eq!(map.longest(address.parse().unwrap()), Some(&expected), "{address}");
        }
        assert_eq!(map.matching("10.1.2.3".parse().unwrap()).count(), 4);
    }

    #[test]
    fn families_are_apart() {
        let set = CidrSet::new([range("127.0.0.0/8")]);
        assert!(set.contains("127.0.0.1".parse().unwrap()));
        assert!(!set.contains("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!set.contains("128.0.0.1".parse().unwrap()));
        assert!(!range("0.0.0.0/0").contains("::".parse().unwrap()));
    }

    #[test]
    fn bad_ranges() {
        assert_eq!(CidrRange::parse("10.0.0.0", 33).unwrap_err().path, "prefix_len");
        assert_eq!(CidrRange::parse("10.0.0.0/8", 8).unwrap_err().path, "address_prefix");
    }
}
