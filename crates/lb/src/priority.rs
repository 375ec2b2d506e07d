//! How much of the load each priority takes, and which are in panic.

use crate::{CommonOptions, HostSet, PrioritySet};

#[cfg(test)]
mod tests;

/// Which of a priority's hosts the load is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// The healthy ones.
    Healthy,
    /// The degraded ones.
    Degraded,
}

/// The share of each priority, in percent. All shares together are 100.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PriorityLoad {
    /// For the healthy hosts of each priority.
    pub healthy: Vec<u32>,
    /// For the degraded hosts of each priority.
    pub degraded: Vec<u32>,
}

impl PriorityLoad {
    /// Shares of the priorities that `may_take` allows, by what each can take; `None` if none of them can take any.
    pub fn among(priorities: &Priorities, may_take: impl Fn(usize) -> bool) -> Option<PriorityLoad> {
        let keep = |availability: &[u32]| -> Vec<u32> {
            let kept = |(priority, available): (usize, &u32)| if may_take(priority) { *available } else { 0 };
            availability.iter().enumerate().map(kept).collect()
        };
        let (health, degraded) = (keep(&priorities.health), keep(&priorities.degraded));
        (normalized_total(&health, &degraded) > 0).then(|| distribute(&health, &degraded))
    }

    /// The priority that a random number falls to.
    pub fn choose(&self, random: u64) -> (usize, Availability) {
        let mut left = (random % 100) as u32;
        for (loads, availability) in [(&self.healthy, Availability::Healthy), (&self.degraded, Availability::Degraded)]
        {
            for (priority, load) in loads.iter().enumerate() {
                if left < *load {
                    return (priority, availability);
                }
                left -= load;
            }
        }
        (0, Availability::Healthy)
    }

    /// The only priority that takes load, if there is just one.
    pub(crate) fn only(&self) -> Option<(usize, Availability)> {
        let all = |loads: &[u32]| loads.iter().position(|load| *load == 100);
        let healthy = all(&self.healthy).map(|priority| (priority, Availability::Healthy));
        healthy.or_else(|| all(&self.degraded).map(|priority| (priority, Availability::Degraded)))
    }
}

/// Health, load and panic of every priority of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Priorities {
    /// How much load each priority could take with its healthy hosts, in percent.
    pub health: Vec<u32>,
    /// The same with its degraded hosts.
    pub degraded: Vec<u32>,
    /// The share of each priority.
    pub load: PriorityLoad,
    /// Whether a priority is in panic: its hosts are used whatever their health.
    pub panic: Vec<bool>,
}

impl Priorities {
    /// Works everything out for the present hosts.
    pub fn new<H>(set: &PrioritySet<H>, options: &CommonOptions) -> Self {
        let sets = set.sets();
        let (health, degraded): (Vec<u32>, Vec<u32>) = sets.iter().map(|set| availability(set)).unzip();
        let load = distribute(&health, &degraded);
        let mut this = Priorities { panic: vec![false; sets.len()], health, degraded, load };
        this.find_panic(sets, options);
        this
    }

    fn find_panic<H>(&mut self, sets: &[std::sync::Arc<HostSet<H>>], options: &CommonOptions) {
        let total = normalized_total(&self.health, &self.degraded);
        let threshold = options.healthy_panic_threshold.clamp(0.0, 100.0);
        if threshold == 0.0 && total == 0 {
            // The shares must add up to 100; no host will be found in priority 0.
            if let Some(first) = self.load.healthy.first_mut() {
                *first = 100;
            }
            return;
        }
        for (panic, set) in self.panic.iter_mut().zip(sets) {
            // As long as the priorities together can take all of the load none of them panics.
            *panic = total != 100 && in_panic(set, threshold);
        }
        if self.panic.iter().all(|panic| *panic) {
            self.load = total_panic(sets);
        }
    }
}

/// What a priority can take, in percent, with its healthy and with its degraded hosts.
fn availability<H>(set: &HostSet<H>) -> (u32, u32) {
    let counts = set.counts();
    let (healthy, degraded, eligible) = if set.options.weighted_priority_health {
        (counts.weighted_healthy, counts.weighted_degraded, counts.weighted_eligible)
    } else {
        (counts.healthy, counts.degraded, counts.eligible)
    };
    let factor = u64::from(set.options.overprovisioning_factor);
    let part = |of: u64| (factor * of).checked_div(eligible).unwrap_or(0).min(100) as u32;
    (part(healthy), part(degraded))
}

fn normalized_total(health: &[u32], degraded: &[u32]) -> u32 {
    health.iter().chain(degraded).sum::<u32>().min(100)
}

/// Gives each priority as much as it can take, the first ones first; rounding is left to the first available one.
fn distribute(health: &[u32], degraded: &[u32]) -> PriorityLoad {
    let total = normalized_total(health, degraded);
    let mut left = 100;
    let mut load = PriorityLoad { healthy: vec![0; health.len()], degraded: vec![0; degraded.len()] };
    if total == 0 {
        return load;
    }
    for (loads, availability) in [(&mut load.healthy, health), (&mut load.degraded, degraded)] {
        for (load, available) in loads.iter_mut().zip(availability) {
            *load = (available * 100 / total).min(left);
            left -= *load;
        }
    }
    let first = |availability: &[u32]| availability.iter().position(|available| *available > 0);
    let rest = match (first(health), first(degraded)) {
        (Some(first), _) => load.healthy.get_mut(first),
        (None, Some(first)) => load.degraded.get_mut(first),
        (None, None) => None,
    };
    if let Some(rest) = rest {
        *rest += left;
    }
    load
}

pub(crate) fn in_panic<H>(set: &HostSet<H>, threshold: f64) -> bool {
    let counts = set.counts();
    let part = match counts.eligible {
        0 => 0.0,
        eligible => 100.0 * (counts.healthy + counts.degraded) as f64 / eligible as f64,
    };
    part < threshold
}

/// When every priority is in panic each takes load by the number of its hosts.
fn total_panic<H>(sets: &[std::sync::Arc<HostSet<H>>]) -> PriorityLoad {
    let total: usize = sets.iter().map(|set| set.hosts().len()).sum();
    let share = |set: &std::sync::Arc<HostSet<H>>| (100 * set.hosts().len()).checked_div(total).unwrap_or(0) as u32;
    let mut healthy: Vec<u32> = sets.iter().map(share).collect();
    let rest = 100 - healthy.iter().sum::<u32>();
    let first = sets.iter().position(|set| !set.hosts().is_empty()).unwrap_or(0);
    if let Some(first) = healthy.get_mut(first) {
        *first += rest;
    }
    PriorityLoad { degraded: vec![0; healthy.len()], healthy }
}
