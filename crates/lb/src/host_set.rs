//! The hosts of a cluster at one moment. Owns their partition by health and locality.

use crate::hash::HashTable;
use crate::{Endpoint, Health, SubsetOptions, Subsets};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// The hosts of one locality.
#[derive(Debug, Clone)]
pub struct LocalityHosts<H> {
    /// `LocalityLbEndpoints.load_balancing_weight`; 0 if it has none.
    pub weight: u32,
    /// Its hosts.
    pub hosts: Vec<H>,
}

/// `ClusterLoadAssignment.Policy`, the part about priorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostSetOptions {
    /// `overprovisioning_factor`, in percent. Default 140: a priority takes all of its load until less than 71.4 % of its
    /// hosts are healthy.
    pub overprovisioning_factor: u32,
    /// `weighted_priority_health`: hosts count by their weight when the health of a priority is worked out.
    pub weighted_priority_health: bool,
    /// Whether the first locality is the one that this proxy is in.
    pub has_local_locality: bool,
}

impl Default for HostSetOptions {
    fn default() -> Self {
        HostSetOptions { overprovisioning_factor: 140, weighted_priority_health: false, has_local_locality: false }
    }
}

/// The hosts of one priority. Their health is read once, here.
#[derive(Debug)]
pub struct HostSet<H> {
    /// Grouped by locality.
    hosts: Box<[H]>,
    localities: Box<[Locality]>,
    /// Positions of the healthy hosts; `None` if all are.
    healthy: Option<Box<[u32]>>,
    degraded: Box<[u32]>,
    counts: Counts,
    /// One period of the weighted schedule over all hosts. Made by the first worker that needs it, used by all.
    cycle: OnceLock<Option<Box<[u32]>>>,
    pub(crate) options: HostSetOptions,
}

#[derive(Debug, Default)]
struct Locality {
    weight: u32,
    hosts: Range<u32>,
    /// Within `HostSet::healthy` (or `hosts`, if all are healthy).
    healthy: Range<u32>,
    /// Within `HostSet::degraded`.
    degraded: Range<u32>,
    excluded: u32,
}

/// Hosts that count, by number or by weight.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) healthy: u64,
    pub(crate) degraded: u64,
    /// All but the excluded ones.
    pub(crate) eligible: u64,
    pub(crate) weighted_healthy: u64,
    pub(crate) weighted_degraded: u64,
    pub(crate) weighted_eligible: u64,
}

/// Which hosts of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    All,
    Healthy,
    Degraded,
}

/// Some hosts of a set, by position.
#[derive(Debug, Clone)]
pub(crate) enum Candidates<'a> {
    Range(Range<u32>),
    List(&'a [u32]),
}

impl Candidates<'_> {
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        match self {
            Candidates::Range(range) => range.end - range.start,
            Candidates::List(list) => list.len() as u32,
        }
    }

    /// The position in the set of the `index`th candidate; `index` is below [`Candidates::len`].
    #[inline]
    pub(crate) fn at(&self, index: u32) -> u32 {
        match self {
            Candidates::Range(range) => range.start + index,
            Candidates::List(list) => list.get(index as usize).copied().unwrap_or(0),
        }
    }
}

impl<H: Endpoint> HostSet<H> {
    /// Partitions the hosts by their present health.
    pub fn new(localities: Vec<LocalityHosts<H>>, options: HostSetOptions) -> Self {
        let total = localities.iter().map(|locality| locality.hosts.len()).sum();
        let mut hosts = Vec::with_capacity(total);
        let (mut healthy, mut degraded) = (Vec::new(), Vec::new());
        let mut counts = Counts::default();
        let mut spans = Vec::with_capacity(localities.len());
        for locality in localities {
            let starts = (hosts.len() as u32, healthy.len() as u32, degraded.len() as u32);
            let mut excluded = 0;
            for host in locality.hosts {
                let position = hosts.len() as u32;
                match counts.add(&host) {
                    Health::Healthy => healthy.push(position),
                    Health::Degraded => degraded.push(position),
                    Health::Unhealthy => {}
                    Health::Excluded => excluded += 1,
                }
                hosts.push(host);
            }
            spans.push(Locality {
                weight: locality.weight,
                hosts: starts.0..hosts.len() as u32,
                healthy: starts.1..healthy.len() as u32,
                degraded: starts.2..degraded.len() as u32,
                excluded,
            });
        }
        let healthy = (healthy.len() < hosts.len()).then(|| healthy.into_boxed_slice());
        HostSet {
            hosts: hosts.into_boxed_slice(),
            localities: spans.into_boxed_slice(),
            healthy,
            degraded: degraded.into_boxed_slice(),
            counts,
            cycle: OnceLock::new(),
            options,
        }
    }

    /// One period of the weighted schedule over all hosts; `None` if it is too long to be written out.
    #[inline]
    pub(crate) fn cycle(&self) -> Option<&[u32]> {
        let make = || crate::schedule::cycle(self, &self.candidates(Kind::All));
        self.cycle.get_or_init(make).as_deref()
    }
}

impl Counts {
    fn add(&mut self, host: &impl Endpoint) -> Health {
        let (health, weight) = (host.health(), u64::from(host.weight()));
        if health != Health::Excluded {
            self.eligible += 1;
            self.weighted_eligible += weight;
        }
        match health {
            Health::Healthy => {
                self.healthy += 1;
                self.weighted_healthy += weight;
            }
            Health::Degraded => {
                self.degraded += 1;
                self.weighted_degraded += weight;
            }
            Health::Unhealthy | Health::Excluded => {}
        }
        health
    }
}

impl<H: Endpoint + Clone> HostSet<H> {
    /// The same hosts, their health read again.
    pub fn refreshed(&self) -> Self {
        HostSet::new(self.grouped(), self.options)
    }

    /// What the set was made from.
    pub fn grouped(&self) -> Vec<LocalityHosts<H>> {
        let hosts = |range: &Range<u32>| self.hosts.get(range.start as usize..range.end as usize);
        let localities = self.localities.iter().map(|locality| LocalityHosts {
            weight: locality.weight,
            hosts: hosts(&locality.hosts).unwrap_or_default().to_vec(),
        });
        localities.collect()
    }
}

impl<H> HostSet<H> {
    /// All hosts, grouped by locality.
    pub fn hosts(&self) -> &[H] {
        &self.hosts
    }

    /// How many are healthy.
    pub fn healthy_count(&self) -> usize {
        self.counts.healthy as usize
    }

    /// How many are degraded.
    pub fn degraded_count(&self) -> usize {
        self.counts.degraded as usize
    }

    /// How many are excluded.
    pub fn excluded_count(&self) -> usize {
        self.hosts.len() - self.counts.eligible as usize
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(crate) fn localities(&self) -> usize {
        self.localities.len()
    }

    /// Whether the first locality is the one that this proxy is in.
    pub(crate) fn has_local_locality(&self) -> bool {
        self.options.has_local_locality && self.localities.first().is_some_and(|first| !first.hosts.is_empty())
    }

    /// The positions of the hosts of a locality.
    pub(crate) fn range_of(&self, locality: usize) -> Range<u32> {
        self.localities.get(locality).map_or(0..0, |locality| locality.hosts.clone())
    }

    /// Any host of a locality.
    pub(crate) fn first_of(&self, locality: usize) -> Option<&H> {
        let range = &self.localities.get(locality)?.hosts;
        if range.is_empty() { None } else { self.hosts.get(range.start as usize) }
    }

    /// `LocalityLbEndpoints.load_balancing_weight`, whatever the health of the hosts.
    pub(crate) fn configured_weight(&self, locality: usize) -> u32 {
        self.localities.get(locality).map_or(0, |locality| locality.weight)
    }

    #[inline]
    pub(crate) fn candidates(&self, kind: Kind) -> Candidates<'_> {
        match (kind, &self.healthy) {
            (Kind::All, _) | (Kind::Healthy, None) => Candidates::Range(0..self.hosts.len() as u32),
            (Kind::Healthy, Some(list)) => Candidates::List(list),
            (Kind::Degraded, _) => Candidates::List(&self.degraded),
        }
    }

    pub(crate) fn candidates_in(&self, kind: Kind, locality: usize) -> Candidates<'_> {
        let Some(locality) = self.localities.get(locality) else { return Candidates::Range(0..0) };
        let slice = |list: &'_ [u32], range: &Range<u32>| -> Option<Range<usize>> {
            let range = range.start as usize..range.end as usize;
            list.get(range.clone()).is_some().then_some(range)
        };
        match (kind, &self.healthy) {
            (Kind::All, _) => Candidates::Range(locality.hosts.clone()),
            (Kind::Healthy, None) => Candidates::Range(locality.healthy.clone()),
            (Kind::Healthy, Some(list)) => Candidates::List(&list[slice(list, &locality.healthy).unwrap_or(0..0)]),
            (Kind::Degraded, _) => {
                Candidates::List(&self.degraded[slice(&self.degraded, &locality.degraded).unwrap_or(0..0)])
            }
        }
    }

    /// What a locality takes of the load: its weight, less where many of its hosts are not available.
    pub(crate) fn locality_weight(&self, kind: Kind, locality: usize) -> f64 {
        let Some(locality) = self.localities.get(locality) else { return 0.0 };
        let available = match kind {
            Kind::Degraded => &locality.degraded,
            Kind::Healthy | Kind::All => &locality.healthy,
        };
        let eligible = (locality.hosts.len() as u32).saturating_sub(locality.excluded);
        if eligible == 0 {
            return 0.0;
        }
        let ratio = available.len() as f64 / f64::from(eligible);
        let factor = f64::from(self.options.overprovisioning_factor) / 100.0;
        f64::from(locality.weight) * (ratio * factor).min(1.0)
    }
}

/// Priorities and positions of hosts by address.
type Addresses = HashMap<Box<str>, (u32, u32)>;

/// The hosts of a cluster at one moment, by priority. Shared by all workers.
#[derive(Debug)]
pub struct PrioritySet<H> {
    sets: Box<[Arc<HostSet<H>>]>,
    /// Made by the first worker that needs it, used by all.
    pub(crate) table: OnceLock<HashTable>,
    /// Priorities and positions of the hosts by address. Made when a request first names a host.
    addresses: OnceLock<Box<Addresses>>,
    /// Made by the first thread that needs them, used by all.
    subsets: OnceLock<Box<Subsets<H>>>,
}

impl<H: Endpoint + Clone> PrioritySet<H> {
    /// The hosts by their labels. A set belongs to one cluster, so the options are always the same.
    pub fn subsets(&self, options: &SubsetOptions) -> &Subsets<H> {
        self.subsets.get_or_init(|| Box::new(Subsets::new(options, self)))
    }
}

impl<H: Endpoint> PrioritySet<H> {
    /// The host at this address.
    pub fn find(&self, address: &str) -> Option<&H> {
        let addresses = self.addresses.get_or_init(|| {
            let mut addresses = HashMap::new();
            for (priority, set) in self.sets.iter().enumerate() {
                for (position, host) in set.hosts().iter().enumerate() {
                    let place = (priority as u32, position as u32);
                    addresses.entry(host.address_text().into_boxed_str()).or_insert(place);
                }
            }
            Box::new(addresses)
        });
        let (priority, position) = *addresses.get(address)?;
        self.sets.get(priority as usize)?.hosts().get(position as usize)
    }
}

impl<H> PrioritySet<H> {
    /// Priority 0 first. A cluster has at least one priority, if an empty one.
    pub fn new(sets: Vec<Arc<HostSet<H>>>) -> Self {
        PrioritySet {
            sets: sets.into_boxed_slice(),
            table: OnceLock::new(),
            addresses: OnceLock::new(),
            subsets: OnceLock::new(),
        }
    }

    /// The sets, priority 0 first.
    pub fn sets(&self) -> &[Arc<HostSet<H>>] {
        &self.sets
    }

    /// All hosts of all priorities.
    pub fn hosts(&self) -> impl Iterator<Item = &H> {
        self.sets.iter().flat_map(|set| set.hosts())
    }
}

impl<H> Default for PrioritySet<H> {
    fn default() -> Self {
        PrioritySet::new(Vec::new())
    }
}
