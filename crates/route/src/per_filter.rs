//! `typed_per_filter_config` of the levels of a route.

use crate::spec::{Opaque, PerFilterSpec};
use std::sync::Arc;

/// What one level says to filters. Owns no memory when it says nothing.
#[derive(Debug, Clone, Default)]
pub struct PerFilter(Box<[PerFilterSpec]>);

impl PerFilter {
    /// The entries, one per filter name.
    pub(crate) fn new(entries: Vec<PerFilterSpec>) -> PerFilter {
        PerFilter(entries.into())
    }

    /// Whether nothing is said.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is said to a filter.
    #[inline]
    pub fn get(&self, filter: &str) -> Option<&PerFilterSpec> {
        self.0.iter().find(|entry| *entry.name == *filter)
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = &PerFilterSpec> {
        self.0.iter()
    }
}

/// What all levels of a route say to filters: weighted cluster, route, virtual host, route configuration.
#[derive(Debug, Clone, Copy)]
pub struct PerFilterLevels<'a> {
    /// Most specific first.
    levels: [Option<&'a PerFilter>; 4],
}

impl<'a> PerFilterLevels<'a> {
    /// `levels`: most specific first.
    pub(crate) fn new(levels: [Option<&'a PerFilter>; 4]) -> Self {
        PerFilterLevels { levels }
    }

    fn levels(&self) -> impl DoubleEndedIterator<Item = &'a PerFilter> + use<'a> {
        self.levels.into_iter().flatten()
    }

    /// Whether no level says anything: then nothing need be asked.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.levels().all(|level| level.is_empty())
    }

    /// The configuration of the most specific level that has one.
    #[inline]
    pub fn most_specific(&self, filter: &str) -> Option<&'a Opaque> {
        self.levels().find_map(|level| level.get(filter)?.config.as_ref())
    }

    /// The configurations of all levels that have one, least specific first, for filters that merge them.
    pub fn least_to_most_specific(&self, filter: &str) -> impl Iterator<Item = &'a Opaque> {
        self.levels().rev().filter_map(move |level| level.get(filter)?.config.as_ref())
    }

    /// Whether the filter is off (`Some(true)`) or on (`Some(false)`) for the route; `None`: as the filter chain says. The
    /// most specific level with an entry decides.
    #[inline]
    pub fn disabled(&self, filter: &str) -> Option<bool> {
        self.levels().find_map(|level| level.get(filter).map(|entry| entry.disabled))
    }

    /// The most specific configuration, if it is a `T`.
    pub fn most_specific_as<T: std::any::Any + Send + Sync>(&self, filter: &str) -> Option<Arc<T>> {
        self.most_specific(filter).and_then(|config| config.clone().downcast::<T>().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(entries: &[(&str, Option<u32>, bool)]) -> PerFilter {
        let entry = |(name, config, disabled): &(&str, Option<u32>, bool)| PerFilterSpec {
            name: (*name).into(),
            config: config.map(|n| Arc::new(n) as Opaque),
            disabled: *disabled,
        };
        PerFilter::new(entries.iter().map(entry).collect())
    }

    #[test]
    fn levels() {
        let none = PerFilter::default();
        let route = level(&[("a", Some(1), false), ("b", None, true)]);
        let host = level(&[("a", Some(2), false), ("b", Some(3), false), ("c", None, true)]);
        let config = level(&[("c", Some(4), false)]);
        let levels = PerFilterLevels::new([None, Some(&route), Some(&host), Some(&config)]);
        let number = |config: &Opaque| *config.downcast_ref::<u32>().unwrap();
        for (filter, most, all, disabled) in [
            ("a", Some(1), vec![2, 1], Some(false)),
            ("b", Some(3), vec![3], Some(true)),
            ("c", Some(4), vec![4], Some(true)),
            ("d", None, vec![], None),
        ] {
            assert_eq!(levels.most_specific(filter).map(number), most, "{filter}");
            assert_eq!(levels.least_to_most_specific(filter).map(number).collect::<Vec<_>>(), all, "{filter}");
            assert_eq!(levels.disabled(filter), disabled, "{filter}");
        }
        assert_eq!(levels.most_specific_as::<u32>("a").as_deref(), Some(&1));
        assert!(levels.most_specific_as::<u8>("a").is_none());
        assert!(!levels.is_empty());
        assert!(PerFilterLevels::new([None, Some(&none), None, None]).is_empty());
    }
}
