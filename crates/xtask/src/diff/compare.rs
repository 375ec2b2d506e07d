//! Two records of one case, side by side.

use std::collections::BTreeMap;

use super::record::Record;

/// A value that differs; one side may lack it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The name of the value.
    pub field: String,
    /// What Envoy did.
    pub envoy: String,
    /// What Nuncio did.
    pub nuncio: String,
}

/// All differences, in the order of Envoy's record.
pub fn compare(envoy: &Record, nuncio: &Record) -> Vec<Difference> {
    const NONE: &str = "(nothing)";
    let other: BTreeMap<&str, &str> =
        nuncio.values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut differences = Vec::new();
    for (field, value) in &envoy.values {
        let there = other.get(field.as_str()).copied().unwrap_or(NONE);
        if there != value {
            differences.push(Difference { field: field.clone(), envoy: value.clone(), nuncio: there.to_owned() });
        }
    }
    for (field, value) in &nuncio.values {
        if !envoy.values.iter().any(|(name, _)| name == field) {
            differences.push(Difference { field: field.clone(), envoy: NONE.into(), nuncio: value.clone() });
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_side_lacks_is_a_difference() {
        let record = |values: &[(&str, &str)]| Record {
            values: values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..Record::default()
        };
        let found = compare(&record(&[("a", "1"), ("b", "2")]), &record(&[("a", "1"), ("c", "3")]));
        let found: Vec<_> = found.iter().map(|d| (d.field.as_str(), d.envoy.as_str(), d.nuncio.as_str())).collect();
        assert_eq!(found, [("b", "2", "(nothing)"), ("c", "(nothing)", "3")]);
    }
}
