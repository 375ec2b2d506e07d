//! Port ranges (`envoy.type.v3.Int32Range` on ports).

/// Ports from `start`, included, to `end`, not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// Included.
    pub start: u32,
    /// Not included.
    pub end: u32,
}

impl PortRange {
    /// One port.
    pub fn one(port: u16) -> Self {
        PortRange { start: port.into(), end: u32::from(port) + 1 }
    }

    /// Whether the port is in the range.
    #[inline]
    pub fn contains(self, port: u16) -> bool {
        (self.start..self.end).contains(&u32::from(port))
    }
}

/// A set of ports: sorted, disjoint ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortSet(Box<[PortRange]>);

impl PortSet {
    /// The union; empty ranges count for nothing.
    pub fn new(ranges: &[PortRange]) -> Self {
        let mut sorted: Vec<PortRange> = ranges.iter().copied().filter(|r| r.start < r.end).collect();
        sorted.sort_by_key(|r| r.start);
        let mut merged: Vec<PortRange> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        PortSet(merged.into())
    }

    /// Whether the port is in the set.
    pub fn contains(&self, port: u16) -> bool {
        let after = self.0.partition_point(|range| range.start <= u32::from(port));
        after.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|range| range.contains(port))
    }

    /// Whether no port is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let set = PortSet::new(&[
            PortRange { start: 10, end: 20 },
            PortRange { start: 15, end: 30 },
            PortRange::one(80),
            PortRange { start: 5, end: 5 },
            PortRange { start: 65535, end: 65536 },
        ]);
        for (port, expected) in
            [(9, false), (10, true), (29, true), (30, false), (80, true), (81, false), (65535, true), (5, false)]
        {
            assert_eq!(set.contains(port), expected, "{port}");
        }
        assert!(PortSet::new(&[]).is_empty());
    }
}
