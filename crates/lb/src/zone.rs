//! Zone-aware routing: how much of the load of priority 0 stays in the locality that this proxy is in.
//!
//! The proxies themselves are hosts of the local cluster (`cluster_manager.local_cluster_name`). A locality that has a share of
//! the upstream hosts that is not below its share of the proxies takes all of the load of its proxies; else the rest goes to
//! localities with capacity left.

use crate::host_set::Kind;
use crate::{CommonOptions, Endpoint, HostSet, PrioritySet};

#[cfg(test)]
mod tests;

/// Shares are counted in parts of this.
const WHOLE: u64 = 10_000;

/// `ZoneAwareLbConfig`.
#[derive(Debug, Clone, PartialEq)]
pub struct ZoneAware {
    /// `routing_enabled`: share of the requests that are routed by zone, in percent. Default 100.
    pub routing_enabled: u32,
    /// `min_cluster_size`: least number of healthy hosts. Default 6.
    pub min_cluster_size: u64,
    /// `force_local_zone.min_size`, or 1 with `force_locality_direct_routing`: all load stays local if so many hosts of the local
    /// locality are healthy.
    pub force_local: Option<u32>,
    /// `locality_basis: HEALTHY_HOSTS_WEIGHT`: shares are of weights. Default: of numbers of hosts.
    pub by_weight: bool,
}

impl Default for ZoneAware {
    fn default() -> Self {
        ZoneAware { routing_enabled: 100, min_cluster_size: 6, force_local: None, by_weight: false }
    }
}

/// What zone-aware routing did with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZoneRouted {
    /// All of the load stays local (`lb_zone_routing_all_directly`).
    Direct,
    /// It fell into the part that stays local (`lb_zone_routing_sampled`).
    Sampled,
    /// It goes to another zone (`lb_zone_routing_cross_zone`).
    CrossZone,
    /// It goes to another zone, and none has capacity left (`lb_zone_no_capacity_left` as well).
    NoCapacityLeft,
    /// The local cluster is in panic (`lb_local_cluster_not_ok`).
    LocalClusterNotOk,
}

/// Why there is no zone-aware routing, as far as statistics tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZoneFinding {
    /// There is some, or there are too few localities for it.
    Nothing,
    /// The local cluster has no host in the local locality (`lb_local_cluster_not_ok`).
    LocalClusterNotOk,
    /// There are fewer than `min_cluster_size` healthy hosts (`lb_zone_cluster_too_small`).
    ClusterTooSmall,
}

/// Where the load of priority 0 goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ZoneRouting {
    plan: Plan,
    local_in_panic: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Direct,
    /// The part that stays local, and what other localities can take: sums over all localities so far.
    Residual {
        local: u64,
        capacity: Box<[u64]>,
    },
}

impl ZoneRouting {
    /// Works out the routing of `upstream` for the proxies in `local`.
    pub(crate) fn new<H: Endpoint>(
        upstream: &PrioritySet<H>,
        local: &PrioritySet<H>,
        options: &CommonOptions,
    ) -> Result<Self, ZoneFinding> {
        let (Some(set), Some(local)) = (upstream.sets().first(), local.sets().first()) else {
            return Err(ZoneFinding::Nothing);
        };
        if set.localities() < 2 || local.localities() < 2 {
            return Err(ZoneFinding::Nothing);
        }
        if !local.has_local_locality() {
            return Err(ZoneFinding::LocalClusterNotOk);
        }
        if (set.healthy_count() as u64) < options.zone.min_cluster_size {
            return Err(ZoneFinding::ClusterTooSmall);
        }
        let plan = plan(set, &shares(set, local, options.zone.by_weight), &options.zone);
        let local_in_panic = crate::priority::in_panic(local, options.healthy_panic_threshold.clamp(0.0, 100.0));
        Ok(ZoneRouting { plan, local_in_panic })
    }

    /// The locality of the next request; none if all localities share it.
    pub(crate) fn choose(&self, localities: usize, rng: &mut fastrand::Rng) -> (Option<usize>, ZoneRouted) {
        if self.local_in_panic {
            return (None, ZoneRouted::LocalClusterNotOk);
        }
        let Plan::Residual { local, capacity } = &self.plan else { return (Some(0), ZoneRouted::Direct) };
        if rng.u64(..) % WHOLE < *local {
            return (Some(0), ZoneRouted::Sampled);
        }
        match capacity.last().copied().unwrap_or(0) {
            0 => (Some(rng.usize(..localities.max(1))), ZoneRouted::NoCapacityLeft),
            all => {
                let at = rng.u64(..all);
                (Some(capacity.partition_point(|sum| *sum <= at)), ZoneRouted::CrossZone)
            }
        }
    }
}

fn plan<H>(set: &HostSet<H>, shares: &[(u64, u64)], options: &ZoneAware) -> Plan {
    let has_local = set.has_local_locality();
    let (local, upstream) = shares.first().copied().unwrap_or_default();
    if has_local {
        let healthy = set.candidates_in(Kind::Healthy, 0).len();
        if (upstream > 0 && upstream >= local) || options.force_local.is_some_and(|least| healthy >= least) {
            return Plan::Direct;
        }
    }
    let stays = if has_local && local > 0 { upstream * WHOLE / local } else { 0 };
    let mut sum = 0;
    let capacity = shares.iter().enumerate().map(|(at, (local, upstream))| {
        if at > 0 || !has_local {
            sum += upstream.saturating_sub(*local);
        }
        sum
    });
    Plan::Residual { capacity: capacity.collect(), local: stays }
}

/// For each locality of `set`: its part of the proxies, and its part of the hosts.
fn shares<H: Endpoint>(set: &HostSet<H>, local: &HostSet<H>, by_weight: bool) -> Vec<(u64, u64)> {
    let size = |set: &HostSet<H>, locality: usize| -> u64 {
        let candidates = set.candidates_in(Kind::Healthy, locality);
        let host = |index| set.hosts().get(candidates.at(index) as usize);
        match by_weight {
            false => u64::from(candidates.len()),
            true => (0..candidates.len()).filter_map(host).map(|host| u64::from(host.weight())).sum(),
        }
    };
    let total = |set: &HostSet<H>| (0..set.localities()).map(|locality| size(set, locality)).sum::<u64>();
    let (all_local, all_upstream) = (total(local), total(set));
    let same = |locality: usize| {
        let host = set.first_of(locality)?;
        (0..local.localities()).find(|other| local.first_of(*other).is_some_and(|other| host.shares_locality(other)))
    };
    let share = |locality: usize| {
        let upstream = size(set, locality);
        if upstream == 0 {
            return (0, 0);
        }
        let proxies = same(locality).map_or(0, |other| size(local, other));
        let part = |of: u64, all: u64| (WHOLE * of).checked_div(all).unwrap_or(0);
        (part(proxies, all_local), part(upstream, all_upstream))
    };
    (0..set.localities()).map(share).collect()
}
