//! Which subsets there are. Made once for each host set, used by all workers.

use super::SubsetOptions;
use crate::{Endpoint, HostSet, LocalityHosts, PrioritySet};
use nuncio_stream_info::{Struct, Value};
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Most subsets that one selector puts a host into (`list_as_any` with several lists).
const MOST_COMBINATIONS: usize = 4096;

/// The subsets of a host set.
#[derive(Debug)]
pub struct Subsets<H> {
    default: Option<Arc<PrioritySet<H>>>,
    entries: Vec<Subset<H>>,
    /// The first subset whose labels have this hash.
    first: HashMap<u64, u32>,
    duplicates: u64,
}

/// One subset; it has at least one host.
#[derive(Debug)]
pub(super) struct Subset<H> {
    pub(super) labels: Struct,
    pub(super) hosts: Arc<PrioritySet<H>>,
    /// `single_host_per_subset`.
    pub(super) is_single: bool,
    /// Another subset whose labels have the same hash.
    next: Option<u32>,
}

/// A subset while its hosts are found: their priorities and positions.
struct Draft {
    labels: Struct,
    is_single: bool,
    members: Vec<(u32, u32)>,
}

impl<H: Endpoint + Clone> Subsets<H> {
    /// Groups the hosts of `set`.
    pub fn new(options: &SubsetOptions, set: &PrioritySet<H>) -> Self {
        let mut drafts = Drafts::default();
        for (priority, hosts) in set.sets().iter().enumerate() {
            for (position, host) in hosts.hosts().iter().enumerate() {
                let Some(labels) = host.labels() else { continue };
                for selector in &options.selectors {
                    for labels in combinations(labels, &selector.keys, options.list_as_any) {
                        drafts.add(labels, selector.single_host, (priority as u32, position as u32));
                    }
                }
            }
        }
        let default = || {
            let members = (0u32..).zip(set.sets()).flat_map(|(priority, hosts)| {
                let wanted = |host: &H| has_labels(host.labels(), &options.default_subset, options.list_as_any);
                let found = (0u32..).zip(hosts.hosts()).filter(move |(_, host)| wanted(host));
                found.map(move |(position, _)| (priority, position))
            });
            Arc::new(part_of(set, &members.collect::<Vec<_>>(), options))
        };
        let Drafts { drafts, duplicates, .. } = drafts;
        let mut this = Subsets {
            default: options.uses_default().then(default),
            entries: Vec::with_capacity(drafts.len()),
            first: HashMap::with_capacity(drafts.len()),
            duplicates,
        };
        for draft in drafts {
            let hosts = Arc::new(part_of(set, &draft.members, options));
            let next = this.first.insert(hash(&draft.labels), this.entries.len() as u32);
            this.entries.push(Subset { labels: draft.labels, hosts, is_single: draft.is_single, next });
        }
        this
    }
}

impl<H> Subsets<H> {
    /// The subset with exactly these labels.
    pub(super) fn find(&self, labels: &Struct) -> Option<u32> {
        let mut at = self.first.get(&hash(labels)).copied();
        while let Some(index) = at {
            let subset = self.get(index)?;
            if subset.labels == *labels {
                return Some(index);
            }
            at = subset.next;
        }
        None
    }

    pub(super) fn get(&self, index: u32) -> Option<&Subset<H>> {
        self.entries.get(index as usize)
    }

    /// The hosts of the default subset; none if no fallback leads there.
    pub(super) fn default_hosts(&self) -> Option<&Arc<PrioritySet<H>>> {
        self.default.as_ref()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Hosts that were left out because their subset takes one only (`single_host_per_subset`).
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// How many subsets `other` does not have.
    pub fn beyond(&self, other: &Subsets<H>) -> usize {
        self.entries.iter().filter(|subset| other.find(&subset.labels).is_none()).count()
    }
}

#[derive(Default)]
struct Drafts {
    drafts: Vec<Draft>,
    by_hash: HashMap<u64, Vec<usize>>,
    duplicates: u64,
}

impl Drafts {
    fn add(&mut self, labels: Struct, is_single: bool, member: (u32, u32)) {
        let known = self.by_hash.entry(hash(&labels)).or_default();
        let found = known.iter().find(|index| self.drafts.get(**index).is_some_and(|draft| draft.labels == labels));
        match found.and_then(|index| self.drafts.get_mut(*index)) {
            Some(draft) if draft.is_single => {
                self.duplicates += u64::from(draft.members.iter().any(|(priority, _)| *priority == member.0));
            }
            // Several selectors with the same keys add a host once.
            Some(draft) if draft.members.last() == Some(&member) => {}
            Some(draft) => draft.members.push(member),
            None => {
                known.push(self.drafts.len());
                self.drafts.push(Draft { labels, is_single, members: vec![member] });
            }
        }
    }
}

impl SubsetOptions {
    fn uses_default(&self) -> bool {
        use super::{SelectorFallback, SubsetFallback};
        self.fallback == SubsetFallback::Default
            || self.selectors.iter().any(|selector| selector.fallback == SelectorFallback::Default)
    }
}

/// The labels of these keys, as subsets have them; none if a key is missing.
fn combinations(labels: &Struct, keys: &[Arc<str>], list_as_any: bool) -> Vec<Struct> {
    let mut all = vec![Struct::new()];
    for key in keys {
        let values = match labels.get(key) {
            None => return Vec::new(),
            Some(Value::List(values)) if list_as_any => values.as_slice(),
            Some(value) => std::slice::from_ref(value),
        };
        let with = |labels: &Struct, value: &Value| {
            let mut labels = labels.clone();
            labels.set(key.clone(), value.clone());
            labels
        };
        all = all.iter().flat_map(|labels| values.iter().map(move |value| with(labels, value))).collect();
        all.truncate(MOST_COMBINATIONS);
    }
    all
}

/// Whether a host has all of these labels.
fn has_labels(labels: Option<&Struct>, wanted: &Struct, list_as_any: bool) -> bool {
    wanted.iter().all(|(key, value)| match labels.and_then(|labels| labels.get(key)) {
        Some(Value::List(values)) if list_as_any => values.contains(value),
        found => found == Some(value),
    })
}

/// The hosts at these places (in ascending order), in their localities and priorities.
fn part_of<H: Endpoint + Clone>(
    set: &PrioritySet<H>,
    members: &[(u32, u32)],
    options: &SubsetOptions,
) -> PrioritySet<H> {
    let mut members = members.iter().peekable();
    let sets = (0u32..).zip(set.sets()).map(|(priority, hosts)| {
        let localities = (0..hosts.localities()).map(|locality| {
            let range = hosts.range_of(locality);
            let mut own = Vec::new();
            while let Some((_, position)) = members.next_if(|place| place.0 == priority && place.1 < range.end) {
                own.extend(hosts.hosts().get(*position as usize).cloned());
            }
            let weight = hosts.configured_weight(locality);
            let weight = match options.scale_locality_weight && !range.is_empty() {
                true => (f64::from(weight) * own.len() as f64 / range.len() as f64).round() as u32,
                false => weight,
            };
            LocalityHosts { weight, hosts: own }
        });
        Arc::new(HostSet::new(localities.collect(), hosts.options))
    });
    PrioritySet::new(sets.collect())
}

fn hash(labels: &Struct) -> u64 {
    let mut hasher = DefaultHasher::new();
    hash_struct(labels, &mut hasher);
    hasher.finish()
}

fn hash_struct(labels: &Struct, hasher: &mut DefaultHasher) {
    for (name, value) in labels.iter() {
        name.hash(hasher);
        hash_value(value, hasher);
    }
    labels.len().hash(hasher);
}

fn hash_value(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::Null => 0u8.hash(hasher),
        Value::Bool(on) => on.hash(hasher),
        // Both zeros are equal.
        Value::Number(number) => (number + 0.0).to_bits().hash(hasher),
        Value::String(text) => text.hash(hasher),
        Value::List(values) => values.iter().for_each(|value| hash_value(value, hasher)),
        Value::Struct(fields) => hash_struct(fields, hasher),
    }
}
