//! Weights that follow from the load reports of hosts.

use crate::{ClientSideWeights, Endpoint, HostSet, PrioritySet};
use std::time::Instant;

/// The weights that one balancer took up, by priority and position.
#[derive(Debug, Default)]
pub(crate) struct ReportedWeights {
    by_priority: Vec<Box<[u32]>>,
    /// When they are taken up again.
    due: Option<Instant>,
}

impl ReportedWeights {
    /// The hosts changed: their weights are taken up with the next choice.
    pub(crate) fn forget(&mut self) {
        self.due = None;
    }

    /// Takes weights up when it is time; whether any changed.
    pub(crate) fn refresh<H: Endpoint>(
        &mut self,
        set: &PrioritySet<H>,
        options: &ClientSideWeights,
        now: Instant,
    ) -> bool {
        if self.due.is_some_and(|due| now < due) {
            return false;
        }
        self.due = now.checked_add(options.weight_update_period);
        let weights: Vec<_> = set.sets().iter().map(|set| weights(set, options, now)).collect();
        let changed = weights != self.by_priority;
        self.by_priority = weights;
        changed
    }

    /// The weights of the hosts of a priority, by position.
    pub(crate) fn of(&self, priority: usize) -> &[u32] {
        self.by_priority.get(priority).map_or(&[], |weights| weights)
    }
}

/// Hosts without a weight get the median of the others, or 1.
fn weights<H: Endpoint>(set: &HostSet<H>, options: &ClientSideWeights, now: Instant) -> Box<[u32]> {
    let reported: Vec<Option<u32>> = set.hosts().iter().map(|host| host.reported_weight(now, options)).collect();
    let mut known: Vec<u32> = reported.iter().flatten().copied().collect();
    let default = if known.len() < reported.len() { median(&mut known) } else { 1 };
    reported.into_iter().map(|weight| weight.unwrap_or(default).max(1)).collect()
}

fn median(weights: &mut [u32]) -> u32 {
    weights.sort_unstable();
    let at = |index: usize| u64::from(weights.get(index).copied().unwrap_or(1));
    let middle = weights.len() / 2;
    let median = match weights.len() {
        0 => 1,
        len if len % 2 == 1 => at(middle),
        _ => (at(middle - 1) + at(middle)) / 2,
    };
    u32::try_from(median).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Balancer, Choice, CommonOptions, Health, HostSetOptions, LocalityHosts, Policy};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    #[derive(Debug, Clone, Default)]
    struct Host(Arc<AtomicU32>);

    impl Endpoint for Host {
        fn health(&self) -> Health {
            Health::Healthy
        }
        fn weight(&self) -> u32 {
            9
        }
        fn reported_weight(&self, _: Instant, _: &ClientSideWeights) -> Option<u32> {
            Some(self.0.load(Relaxed)).filter(|weight| *weight > 0)
        }
    }

    #[test]
    fn medians() {
        assert_eq!([median(&mut []), median(&mut [5]), median(&mut [9, 2, 4]), median(&mut [2, 8])], [1, 5, 4, 5]);
    }

    #[test]
    fn shares_follow_the_reports_with_the_next_update() {
        let hosts: Vec<Host> = (0..3).map(|_| Host::default()).collect();
        let localities = vec![LocalityHosts { weight: 0, hosts: hosts.clone() }];
        let set = Arc::new(HostSet::new(localities, HostSetOptions::default()));
        let policy = Policy::ClientSideWeighted(ClientSideWeights::default());
        let set = Arc::new(PrioritySet::new(vec![set]));
        let mut balancer = Balancer::new(Arc::new(policy), CommonOptions::default(), set);
        let mut rng = fastrand::Rng::with_seed(1);
        let start = Instant::now();
        let mut counts = |now: Instant| {
            let mut counts = [0; 3];
            for _ in 0..600 {
                let host = balancer.choose(&mut Choice::new(now, &mut rng)).unwrap();
                counts[hosts.iter().position(|own| Arc::ptr_eq(&own.0, &host.0)).unwrap()] += 1;
            }
            counts
        };
        assert_eq!(counts(start), [200, 200, 200]);
        hosts[0].0.store(1000, Relaxed);
        hosts[1].0.store(3000, Relaxed);
        assert_eq!(counts(start), [200, 200, 200], "not before the update period is over");
        let shares = counts(start + ClientSideWeights::default().weight_update_period);
        for (share, expected) in shares.iter().zip([100, 300, 200]) {
            assert!((expected - 2..=expected + 2).contains(share), "{shares:?}");
        }
    }
}
