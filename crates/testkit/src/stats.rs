//! Counters of a proxy as its admin endpoint prints them, and what moved between two readings.

use std::collections::BTreeMap;

/// Counters or gauges by name.
pub type Values = BTreeMap<String, u64>;

/// Reads the text form of `/stats`: one `name: value` per line. Lines that are no number (histograms, text readouts) are
/// left out.
pub fn parse(text: &str) -> Values {
    let line = |line: &str| {
        let (name, value) = line.rsplit_once(": ")?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// The counters that differ between two readings, with the signed difference. A counter that is new counts from zero.
pub fn moved(before: &Values, after: &Values) -> BTreeMap<String, i128> {
    let names = after.keys().chain(before.keys());
    let delta = |name: &String| {
        let value = |values: &Values| i128::from(values.get(name).copied().unwrap_or(0));
        let delta = value(after) - value(before);
        (delta != 0).then(|| (name.clone(), delta))
    };
    names.filter_map(delta).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_moved_is_reported() {
        let before = parse("a.x: 1\na.y: 2\na.h: P0(nan,1)\n");
        let after = parse("a.x: 1\na.y: 5\na.z: 1\n");
        assert_eq!(moved(&before, &after).into_iter().collect::<Vec<_>>(), [("a.y".into(), 3), ("a.z".into(), 1)]);
    }
}
