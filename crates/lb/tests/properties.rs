//! What the policies promise, over many random clusters: shares by weight, little disruption when hosts change, and memory that
//! lets a proxy have ten thousand clusters.

use nuncio_lb::{
    Balancer, Choice, ClientSideWeights, CommonOptions, Endpoint, Health, HostSet, HostSetOptions, LeastRequest,
    LocalityHosts, Maglev, Policy, PrioritySet, RingHash, RoundRobin,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug, Clone)]
struct Host {
    name: String,
    weight: u32,
}

impl Endpoint for Host {
    fn weight(&self) -> u32 {
        self.weight
    }
    fn health(&self) -> Health {
        Health::Healthy
    }
    fn hash_key(&self) -> &str {
        &self.name
    }
    fn reported_weight(&self, _: Instant, _: &ClientSideWeights) -> Option<u32> {
        Some(self.weight)
    }
}

fn host(index: usize, weight: u32) -> Host {
    Host { name: format!("10.0.{}.{}:80", index / 250, index % 250), weight }
}

fn set(hosts: Vec<Host>) -> Arc<PrioritySet<Host>> {
    let localities = vec![LocalityHosts { weight: 0, hosts }];
    Arc::new(PrioritySet::new(vec![Arc::new(HostSet::new(localities, HostSetOptions::default()))]))
}

fn balancer(policy: Policy, hosts: Vec<Host>) -> Balancer<Host> {
    Balancer::new(Arc::new(policy), CommonOptions::default(), set(hosts))
}

/// Where each of many hashes leads to.
fn places(policy: &Policy, hosts: Vec<Host>) -> Vec<String> {
    let mut balancer = balancer(policy.clone(), hosts);
    let (mut rng, mut keys) = (fastrand::Rng::with_seed(1), fastrand::Rng::with_seed(2));
    let place = |_| {
        let mut choice = Choice::new(Instant::now(), &mut rng);
        choice.hash = Some(keys.u64(..));
        balancer.choose(&mut choice).map(|host| host.name.clone()).unwrap_or_default()
    };
    (0..20_000).map(place).collect()
}

fn hashing() -> [Policy; 2] {
    let ring = RingHash { minimum_ring_size: 16_384, ..RingHash::default() };
    [Policy::RingHash(ring), Policy::Maglev(Maglev::default())]
}

#[test]
fn shares_follow_weights() {
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..20 {
        let hosts: Vec<Host> = (0..random.usize(2..30)).map(|index| host(index, random.u32(1..10))).collect();
        let total: u32 = hosts.iter().map(|host| host.weight).sum();
        for policy in [
            Policy::RoundRobin(RoundRobin::default()),
            Policy::LeastRequest(LeastRequest::default()),
            Policy::ClientSideWeighted(ClientSideWeights::default()),
        ] {
            let name = format!("{policy:?}");
            let is_even = hosts.iter().all(|host| host.weight == hosts[0].weight);
            if is_even && matches!(policy, Policy::LeastRequest(_)) {
                continue;
            }
            let mut balancer = balancer(policy, hosts.clone());
            let mut counts: HashMap<String, u32> = HashMap::new();
            let now = Instant::now();
            for _ in 0..total * 20 {
                let mut choice = Choice::new(now, &mut random);
                *counts.entry(balancer.choose(&mut choice).unwrap().name.clone()).or_default() += 1;
            }
            for host in &hosts {
                let count = counts.get(&host.name).copied().unwrap_or(0);
                assert!(count.abs_diff(host.weight * 20) <= 2, "{name}: {host:?} got {count} of {}", total * 20);
            }
        }
    }
}

#[test]
fn hashes_spread_by_weight() {
    for policy in hashing() {
        let hosts: Vec<Host> = (0..20).map(|index| host(index, 1 + index as u32 % 3)).collect();
        let total: u32 = hosts.iter().map(|host| host.weight).sum();
        let places = places(&policy, hosts.clone());
        for host in hosts {
            let share = places.iter().filter(|place| **place == host.name).count() as f64 / places.len() as f64;
            let expected = f64::from(host.weight) / f64::from(total);
            assert!((share / expected - 1.0).abs() < 0.2, "{policy:?}: {} has {share} of {expected}", host.name);
        }
    }
}

#[test]
fn few_keys_move_when_a_host_leaves_or_comes() {
    for (policy, most) in hashing().into_iter().zip([0.05, 0.05]) {
        let all: Vec<Host> = (0..25).map(|index| host(index, 1)).collect();
        let whole = places(&policy, all.clone());
        for gone in [0, 7, 24] {
            let mut fewer = all.clone();
            let removed = fewer.remove(gone);
            let left = places(&policy, fewer);
            let moved =
                whole.iter().zip(&left).filter(|(before, after)| **before != removed.name && before != after).count();
            let kept = whole.iter().filter(|place| **place != removed.name).count();
            let share = moved as f64 / kept as f64;
            assert!(share < most, "{policy:?}: {share} of the keys moved that had no need to");
        }
    }
}

#[test]
fn the_order_of_hosts_does_not_matter_to_hashes() {
    for policy in hashing() {
        let mut hosts: Vec<Host> = (0..25).map(|index| host(index, 1)).collect();
        let before = places(&policy, hosts.clone());
        hosts.reverse();
        assert_eq!(before, places(&policy, hosts));
    }
}

#[test]
fn a_cluster_of_one_host_costs_little() {
    // The hosts of a cluster as workers share them: the set, its only priority, its locality.
    let shared = size_of::<PrioritySet<Arc<Host>>>() + size_of::<HostSet<Arc<Host>>>();
    assert!(shared <= 320, "{shared} bytes");
    let worker = size_of::<Balancer<Arc<Host>>>();
    assert!(worker <= 400, "{worker} bytes");
}
