//! A histogram of latencies: constant time to record, values right to 1.6 %.

/// Bits of a value that are kept.
const BITS: u32 = 6;

/// Counts by nanoseconds, in steps that grow with the value.
#[derive(Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// Adds a value.
    pub fn record(&mut self, nanoseconds: u64) {
        let index = index(nanoseconds);
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] += 1;
        self.total += 1;
    }

    /// The value that the part `quantile` (0 to 1) of all values does not exceed, in nanoseconds; 0 when there are none.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let wanted = (quantile * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return value(index);
            }
        }
        0
    }
}

/// Values below 2^(BITS+1) have a place each; above, every doubling has 2^BITS places.
fn index(value: u64) -> usize {
    let shift = (63 - value.max(1).leading_zeros()).saturating_sub(BITS);
    ((shift as usize) << BITS) + (value >> shift) as usize
}

/// The smallest value of a place.
fn value(index: usize) -> u64 {
    let shift = (index >> BITS).saturating_sub(1);
    ((index - (shift << BITS)) as u64) << shift
}

#[cfg(test)]
mod tests {
    use super::{Histogram, index, value};

    #[test]
    fn places_are_in_order_and_precise() {
        for number in [0, 1, 63, 64, 127, 128, 129, 1_000, 65_535, 65_536, 1_000_000_007, u64::MAX] {
            let low = value(index(number));
            assert!(low <= number, "{number} is at {low}");
            assert!((number - low) as f64 <= number as f64 / 64.0, "{number} is at {low}");
            assert_eq!(index(low), index(number));
        }
        assert!((0..100_000).all(|number| index(number) <= index(number + 1)));
    }

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        (1..=100).for_each(|number| histogram.record(number));
        let check = |quantile, expected| assert_eq!(histogram.quantile(quantile), expected);
        check(0.0, 1);
        check(0.5, 50);
        check(0.99, 99);
        check(1.0, 100);
    }
}
