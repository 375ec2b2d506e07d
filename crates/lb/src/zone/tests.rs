use super::*;
use crate::{Balancer, Choice, Health, HostSetOptions, LocalityHosts, Policy};
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug, Clone)]
struct Host {
    zone: &'static str,
    weight: u32,
}

impl Endpoint for Host {
    fn health(&self) -> Health {
        Health::Healthy
    }
    fn weight(&self) -> u32 {
        self.weight
    }
    fn shares_locality(&self, other: &Self) -> bool {
        self.zone == other.zone
    }
}

/// Hosts by zone; the first zone is the local one.
fn hosts(zones: &[(&'static str, usize)]) -> Arc<PrioritySet<Host>> {
    let locality = |(zone, count): &(&'static str, usize)| LocalityHosts {
        weight: 0,
        hosts: vec![Host { zone, weight: 1 }; *count],
    };
    let options = HostSetOptions { has_local_locality: true, ..HostSetOptions::default() };
    let set = HostSet::new(zones.iter().map(locality).collect(), options);
    Arc::new(PrioritySet::new(vec![Arc::new(set)]))
}

/// How often each zone is chosen, and what zone-aware routing said of the last choice.
fn counts(
    upstream: &[(&'static str, usize)],
    local: &[(&'static str, usize)],
    options: CommonOptions,
) -> (Vec<u32>, Option<ZoneFinding>) {
    let mut balancer = Balancer::new(Arc::new(Policy::Random), options, hosts(upstream));
    balancer.set_local(hosts(local));
    let mut rng = fastrand::Rng::with_seed(3);
    let mut counts = vec![0; upstream.len()];
    for _ in 0..10_000 {
        let mut choice = Choice::new(Instant::now(), &mut rng);
        let zone = balancer.choose(&mut choice).unwrap().zone;
        counts[upstream.iter().position(|(name, _)| *name == zone).unwrap()] += 1;
    }
    (counts, balancer.take_zone_finding())
}

#[test]
fn all_stays_local_where_there_are_enough_hosts() {
    let (counts, _) = counts(&[("a", 4), ("b", 4)], &[("a", 1), ("b", 1)], CommonOptions::default());
    assert_eq!(counts, [10_000, 0]);
}

#[test]
fn what_is_too_much_goes_to_zones_with_room() {
    // 40 % of the proxies and 25 % of the hosts are here: 62.5 % of the load stays; c has a third of the room of b.
    let (counts, _) =
        counts(&[("a", 10), ("b", 22), ("c", 8)], &[("a", 20), ("b", 20), ("c", 10)], CommonOptions::default());
    assert!((6_100..6_400).contains(&counts[0]), "{counts:?}");
    assert!((3_600..3_900).contains(&counts[1]), "{counts:?}");
    assert_eq!(counts[2], 0, "b alone has more hosts than proxies");
}

#[test]
fn few_hosts_and_zones_share_all_load() {
    let (few, finding) = counts(&[("a", 2), ("b", 2)], &[("a", 1), ("b", 1)], CommonOptions::default());
    assert!(few.iter().all(|count| (4_800..5_200).contains(count)), "{few:?}");
    assert_eq!(finding, Some(ZoneFinding::ClusterTooSmall));
    let (_, finding) = counts(&[("a", 9)], &[("a", 1), ("b", 1)], CommonOptions::default());
    assert_eq!(finding, Some(ZoneFinding::Nothing));
    let (_, finding) = counts(&[("a", 5), ("b", 5)], &[("a", 0), ("b", 1)], CommonOptions::default());
    assert_eq!(finding, Some(ZoneFinding::LocalClusterNotOk));
}

#[test]
fn the_local_zone_can_be_forced() {
    let zone = ZoneAware { force_local: Some(1), ..ZoneAware::default() };
    let options = CommonOptions { zone, ..CommonOptions::default() };
    let (counts, _) = counts(&[("a", 1), ("b", 9)], &[("a", 9), ("b", 1)], options);
    assert_eq!(counts, [10_000, 0]);
}

#[test]
fn routing_can_be_on_for_some_requests_only() {
    let zone = ZoneAware { routing_enabled: 0, ..ZoneAware::default() };
    let options = CommonOptions { zone, ..CommonOptions::default() };
    let (counts, _) = counts(&[("a", 5), ("b", 5)], &[("a", 1), ("b", 1)], options);
    assert!(counts[1] > 4_800, "{counts:?}");
}
