use super::*;
use crate::{Balancer, Choice, CommonOptions, Health, HostSetOptions, LocalityHosts, PrioritySet};
use std::time::Instant;

#[test]
fn xx_hash_has_the_published_values() {
    let check =
        |text: &str, seed: u64, expected: u64| assert_eq!(hash_bytes(text.as_bytes(), seed), expected, "{text}");
    check("", 0, 0xef46_db37_51d8_e999);
    check("a", 0, 0xd24e_c4f1_a98c_6e5b);
    check("abc", 0, 0x44bc_2cf5_ad77_0999);
    check("Nobody inspects the spammish repetition", 0, 0xfbce_a83c_8a37_8bf1);
}

#[test]
fn murmur_hash_is_std_hash() {
    let check =
        |text: &str, expected: u64| assert_eq!(murmur_hash2(text.as_bytes(), STD_HASH_SEED), expected, "{text}");
    // Values of libstdc++'s std::hash<std::string>.
    check("foo", 9_631_199_822_919_835_226);
    check("bar", 11_474_628_671_133_349_555);
}

#[derive(Debug)]
struct Host(String, u32);

impl Endpoint for Host {
    fn weight(&self) -> u32 {
        self.1
    }
    fn health(&self) -> Health {
        Health::Healthy
    }
    fn hash_key(&self) -> &str {
        &self.0
    }
}

fn shares(policy: Policy, weights: &[u32]) -> Vec<f64> {
    let hosts = weights.iter().enumerate().map(|(index, weight)| Host(format!("127.0.0.1:{}", 90 + index), *weight));
    let locality = LocalityHosts { weight: 0, hosts: hosts.collect() };
    let set = PrioritySet::new(vec![Arc::new(HostSet::new(vec![locality], HostSetOptions::default()))]);
    let mut balancer = Balancer::new(Arc::new(policy), CommonOptions::default(), Arc::new(set));
    let mut rng = fastrand::Rng::with_seed(1);
    let mut counts = vec![0u32; weights.len()];
    for _ in 0..20_000 {
        let mut choice = Choice::new(Instant::now(), &mut rng);
        let host = balancer.choose(&mut choice).expect("a host");
        let index: usize = host.0.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        counts[index - 90] += 1;
    }
    counts.iter().map(|count| f64::from(*count) / 20_000.0).collect()
}

#[test]
fn shares_follow_weights() {
    let check = |policy: Policy, weights: &[u32], tolerance: f64| {
        let total: u32 = weights.iter().sum();
        for (share, weight) in shares(policy, weights).iter().zip(weights) {
            let expected = f64::from(*weight) / f64::from(total);
            assert!((share - expected).abs() < tolerance, "{share} is not about {expected}");
        }
    };
    check(Policy::Maglev(Maglev::default()), &[1, 1, 1], 0.02);
    check(Policy::Maglev(Maglev::default()), &[1, 2, 5], 0.02);
    check(Policy::RingHash(RingHash { minimum_ring_size: 65536, ..RingHash::default() }), &[1, 1, 1], 0.03);
    check(Policy::RingHash(RingHash { minimum_ring_size: 65536, ..RingHash::default() }), &[1, 2, 5], 0.03);
    check(Policy::Maglev(Maglev { table_size: 16 }), &[1, 1], 0.05);
}

#[test]
fn the_same_hash_finds_the_same_host_and_another_on_retry() {
    let host = |index: u32| Host(format!("10.0.0.{index}:80"), 1);
    let locality = LocalityHosts { weight: 0, hosts: (0..5).map(host).collect() };
    let set = Arc::new(PrioritySet::new(vec![Arc::new(HostSet::new(vec![locality], HostSetOptions::default()))]));
    for policy in [Policy::RingHash(RingHash::default()), Policy::Maglev(Maglev::default())] {
        let mut balancer = Balancer::new(Arc::new(policy), CommonOptions::default(), set.clone());
        let mut rng = fastrand::Rng::with_seed(1);
        let mut choose = |hash, avoid: &str| {
            let mut skip = |host: &Host| host.0 == avoid;
            let choice = Choice::new(Instant::now(), &mut rng);
            let mut choice = Choice { hash: Some(hash), should_skip: Some(&mut skip), retries: 10, ..choice };
            balancer.choose(&mut choice).map(|host| host.0.clone()).expect("a host")
        };
        let first = choose(42, "");
        assert_eq!(choose(42, ""), first);
        assert_ne!(choose(42, &first), first);
    }
}
