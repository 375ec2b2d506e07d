use super::*;
use crate::{Health, HostSet, HostSetOptions, LeastRequest, LocalityHosts, RoundRobin, SelectionMethod, SlowStart};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

#[derive(Debug, Clone)]
struct Host {
    name: &'static str,
    weight: u32,
    health: Health,
    active: Arc<AtomicU32>,
    since: Option<Instant>,
}

impl Endpoint for Host {
    fn weight(&self) -> u32 {
        self.weight
    }
    fn health(&self) -> Health {
        self.health
    }
    fn active_requests(&self) -> u32 {
        self.active.load(Relaxed)
    }
    fn ready_since(&self) -> Option<Instant> {
        self.since
    }
}

fn host(name: &'static str, weight: u32, health: Health) -> Host {
    Host { name, weight, health, active: Arc::default(), since: None }
}

fn healthy(names: &[(&'static str, u32)]) -> Vec<Host> {
    names.iter().map(|(name, weight)| host(name, *weight, Health::Healthy)).collect()
}

fn set(priorities: Vec<Vec<(u32, Vec<Host>)>>) -> Arc<PrioritySet<Host>> {
    let locality = |(weight, hosts)| LocalityHosts { weight, hosts };
    let host_set = |localities: Vec<(u32, Vec<Host>)>| {
        Arc::new(HostSet::new(localities.into_iter().map(locality).collect(), HostSetOptions::default()))
    };
    Arc::new(PrioritySet::new(priorities.into_iter().map(host_set).collect()))
}

fn one(hosts: Vec<Host>) -> Arc<PrioritySet<Host>> {
    set(vec![vec![(0, hosts)]])
}

struct Picker {
    balancer: Balancer<Host>,
    rng: fastrand::Rng,
    now: Instant,
    panics: u32,
}

impl Picker {
    fn new(policy: Policy, options: CommonOptions, set: Arc<PrioritySet<Host>>) -> Self {
        let balancer = Balancer::new(Arc::new(policy), options, set);
        Picker { balancer, rng: fastrand::Rng::with_seed(7), now: Instant::now(), panics: 0 }
    }

    fn pick(&mut self) -> Option<&'static str> {
        let mut choice = Choice::new(self.now, &mut self.rng);
        let name = self.balancer.choose(&mut choice).map(|host| host.name);
        self.panics += u32::from(choice.panic);
        name
    }

    fn counts(&mut self, picks: u32) -> BTreeMap<&'static str, u32> {
        let mut counts = BTreeMap::new();
        for _ in 0..picks {
            *counts.entry(self.pick().unwrap_or("none")).or_default() += 1;
        }
        counts
    }
}

fn round_robin() -> Policy {
    Policy::RoundRobin(RoundRobin::default())
}

#[test]
fn round_robin_takes_turns_by_weight() {
    let check = |weights: &[(&'static str, u32)], picks: u32, expected: &[(&str, u32)]| {
        let mut picker = Picker::new(round_robin(), CommonOptions::default(), one(healthy(weights)));
        let counts: Vec<_> = picker.counts(picks).into_iter().collect();
        assert_eq!(counts, expected);
    };
    check(&[("a", 1), ("b", 1), ("c", 1)], 300, &[("a", 100), ("b", 100), ("c", 100)]);
    check(&[("a", 5), ("b", 5)], 100, &[("a", 50), ("b", 50)]);
    check(&[("a", 1), ("b", 2), ("c", 7)], 100, &[("a", 10), ("b", 20), ("c", 70)]);
    check(&[("a", 10), ("b", 20)], 30, &[("a", 10), ("b", 20)]);
    check(&[], 3, &[("none", 3)]);
}

#[test]
fn weights_with_a_long_period_are_kept_too() {
    let mut picker =
        Picker::new(round_robin(), CommonOptions::default(), one(healthy(&[("a", 100_003), ("b", 50_001)])));
    let counts = picker.counts(30_000);
    assert!((counts["a"] as i64 - 20_000).abs() < 10, "{counts:?}");
}

#[test]
fn a_weighted_schedule_interleaves() {
    let mut picker = Picker::new(round_robin(), CommonOptions::default(), one(healthy(&[("a", 3), ("b", 1)])));
    let picks: Vec<_> = (0..8).filter_map(|_| picker.pick()).collect();
    let longest = picks.chunk_by(|a, b| a == b).map(<[_]>::len).max();
    assert!(longest <= Some(4) && picks.iter().filter(|name| **name == "b").count() == 2, "{picks:?}");
}

#[test]
fn round_robin_goes_on_after_an_update() {
    let hosts = healthy(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
    let mut picker = Picker::new(round_robin(), CommonOptions::default(), one(hosts.clone()));
    let first = picker.pick();
    let order = ["a", "b", "c", "d", "a"];
    let at = order.iter().position(|name| Some(*name) == first).unwrap();
    picker.balancer.update(one(hosts));
    assert_eq!(picker.pick(), Some(order[at + 1]));
}

#[test]
fn least_request_prefers_idle_hosts() {
    let hosts = healthy(&[("a", 1), ("b", 1)]);
    hosts[0].active.store(10, Relaxed);
    let mut picker = Picker::new(Policy::LeastRequest(LeastRequest::default()), CommonOptions::default(), one(hosts));
    let counts = picker.counts(1000);
    // Only when both looks fall on the busy host is it taken: one time in four.
    assert!((200..300).contains(&counts["a"]), "{counts:?}");
}

#[test]
fn full_scan_finds_the_idlest() {
    let hosts = healthy(&[("a", 1), ("b", 1), ("c", 1)]);
    hosts[0].active.store(2, Relaxed);
    hosts[2].active.store(1, Relaxed);
    let policy = LeastRequest { selection_method: SelectionMethod::FullScan, ..LeastRequest::default() };
    let mut picker = Picker::new(Policy::LeastRequest(policy), CommonOptions::default(), one(hosts));
    assert_eq!(picker.counts(100), BTreeMap::from([("b", 100)]));
}

#[test]
fn least_request_with_weights_is_biased_by_requests() {
    let check = |bias: f64, active: u32, expected: f64| {
        let hosts = healthy(&[("a", 2), ("b", 1)]);
        hosts[0].active.store(active, Relaxed);
        let policy = LeastRequest { active_request_bias: bias, ..LeastRequest::default() };
        let mut picker = Picker::new(Policy::LeastRequest(policy), CommonOptions::default(), one(hosts));
        let share = f64::from(picker.counts(3000)["a"]) / 3000.0;
        assert!((share - expected).abs() < 0.02, "bias {bias}, active {active}: {share}, not {expected}");
    };
    check(1.0, 0, 2.0 / 3.0);
    check(1.0, 3, (2.0 / 4.0) / (2.0 / 4.0 + 1.0));
    check(0.0, 3, 2.0 / 3.0);
    check(2.0, 1, (2.0 / 4.0) / (2.0 / 4.0 + 1.0));
}

#[test]
fn random_takes_all() {
    let mut picker = Picker::new(Policy::Random, CommonOptions::default(), one(healthy(&[("a", 1), ("b", 1)])));
    let counts = picker.counts(1000);
    assert!((430..570).contains(&counts["a"]), "{counts:?}");
}

#[test]
fn unhealthy_hosts_are_left_out_until_panic() {
    let hosts = |unhealthy: usize| {
        let health = |index| if index < unhealthy { Health::Unhealthy } else { Health::Healthy };
        let names = ["a", "b", "c", "d"];
        names.iter().enumerate().map(|(index, name)| host(name, 1, health(index))).collect::<Vec<_>>()
    };
    let check = |unhealthy: usize, threshold: f64, fail: bool, expected: &[&str], panics: u32| {
        let options = CommonOptions {
            healthy_panic_threshold: threshold,
            fail_traffic_on_panic: fail,
            ..CommonOptions::default()
        };
        let mut picker = Picker::new(round_robin(), options, one(hosts(unhealthy)));
        let names: Vec<_> = picker.counts(40).into_keys().collect();
        assert_eq!((names.as_slice(), picker.panics), (expected, panics), "{unhealthy} unhealthy, {threshold} %");
    };
    check(0, 50.0, false, &["a", "b", "c", "d"], 0);
    check(1, 50.0, false, &["b", "c", "d"], 0);
    check(2, 50.0, false, &["c", "d"], 0);
    check(3, 50.0, false, &["a", "b", "c", "d"], 40);
    check(3, 0.0, false, &["d"], 0);
    check(3, 50.0, true, &["none"], 40);
    check(4, 0.0, false, &["none"], 0);
    check(4, 50.0, false, &["a", "b", "c", "d"], 40);
}

#[test]
fn skipped_hosts_are_avoided_within_the_attempts() {
    let mut picker = Picker::new(round_robin(), CommonOptions::default(), one(healthy(&[("a", 1), ("b", 1)])));
    for _ in 0..10 {
        let mut skip = |host: &Host| host.name == "a";
        let choice = Choice::new(picker.now, &mut picker.rng);
        let mut choice = Choice { should_skip: Some(&mut skip), retries: 2, ..choice };
        assert_eq!(picker.balancer.choose(&mut choice).map(|host| host.name), Some("b"));
    }
    let mut calls = 0;
    let mut skip = |_: &Host| {
        calls += 1;
        true
    };
    let choice = Choice::new(picker.now, &mut picker.rng);
    let mut choice = Choice { should_skip: Some(&mut skip), retries: 3, ..choice };
    assert!(picker.balancer.choose(&mut choice).is_some(), "the last one is used all the same");
    assert_eq!(calls, 3);
}

#[test]
fn localities_share_by_weight_and_health() {
    let options = CommonOptions { locality_weighted: true, ..CommonOptions::default() };
    let check = |a: (u32, usize), b: (u32, usize), expected: f64| {
        let hosts = |name, bad: usize| {
            let health = |index| if index < bad { Health::Unhealthy } else { Health::Healthy };
            (0..10).map(|index| host(name, 1, health(index))).collect::<Vec<_>>()
        };
        let localities = vec![(a.0, hosts("a", a.1)), (b.0, hosts("b", b.1))];
        let mut picker = Picker::new(round_robin(), options.clone(), set(vec![localities]));
        let share = f64::from(*picker.counts(2000).get("a").unwrap_or(&0)) / 2000.0;
        assert!((share - expected).abs() < 0.01, "{a:?} {b:?}: {share}, not {expected}");
    };
    check((1, 0), (1, 0), 0.5);
    check((1, 0), (3, 0), 0.25);
    // 80 % healthy, times 1.4, is still all of its weight.
    check((1, 2), (1, 0), 0.5);
    // 50 % healthy, times 1.4, is 70 %.
    check((1, 5), (1, 0), 0.7 / 1.7);
    check((0, 0), (1, 0), 0.0);
    check((1, 10), (1, 0), 0.0);
}

#[test]
fn slow_start_grows_the_share_of_a_new_host() {
    let now = Instant::now();
    let check = |age: u64, aggression: f64, expected: f64| {
        let mut hosts = healthy(&[("old", 1), ("new", 1)]);
        hosts[1].since = Some(now);
        let slow = SlowStart { window: Duration::from_secs(60), aggression, min_weight_percent: 10.0 };
        let mut picker = Picker::new(
            Policy::RoundRobin(RoundRobin { slow_start: Some(slow) }),
            CommonOptions::default(),
            one(hosts),
        );
        picker.now = now + Duration::from_secs(age);
        let share = f64::from(picker.counts(3000)["new"]) / 3000.0;
        assert!((share - expected).abs() < 0.02, "after {age} s: {share}, not {expected}");
    };
    check(0, 1.0, 0.1 / 1.1);
    check(30, 1.0, 0.5 / 1.5);
    check(15, 2.0, 0.5 / 1.5);
    check(60, 1.0, 0.5);
    check(600, 1.0, 0.5);
}

#[test]
fn a_host_in_slow_start_reaches_its_full_share_without_an_update() {
    let now = Instant::now();
    let mut hosts = healthy(&[("old", 1), ("new", 1)]);
    hosts[1].since = Some(now);
    let slow = SlowStart { window: Duration::from_secs(60), aggression: 1.0, min_weight_percent: 10.0 };
    let policy = LeastRequest { slow_start: Some(slow), ..LeastRequest::default() };
    let mut picker = Picker::new(Policy::LeastRequest(policy), CommonOptions::default(), one(hosts));
    picker.now = now;
    assert!(picker.counts(1100)["new"] < 120);
    picker.now = now + Duration::from_secs(61);
    assert!(picker.counts(1000)["new"] > 400);
}

#[test]
fn priorities_take_load_by_health() {
    let group = |name, good: usize, all: usize| {
        let health = |index| if index < good { Health::Healthy } else { Health::Unhealthy };
        vec![(0, (0..all).map(|index| host(name, 1, health(index))).collect::<Vec<_>>())]
    };
    let priorities = vec![group("p0", 5, 10), group("p1", 10, 10)];
    let mut picker = Picker::new(round_robin(), CommonOptions::default(), set(priorities));
    let counts = picker.counts(10_000);
    assert!((6_800..7_200).contains(&counts["p0"]), "{counts:?}");
}

#[test]
fn a_priority_load_can_be_overridden() {
    let priorities = vec![vec![(0, healthy(&[("p0", 1)]))], vec![(0, healthy(&[("p1", 1)]))]];
    let mut picker = Picker::new(round_robin(), CommonOptions::default(), set(priorities));
    let load = PriorityLoad { healthy: vec![0, 100], degraded: vec![0, 0] };
    let choice = Choice::new(picker.now, &mut picker.rng);
    let mut choice = Choice { priority_load: Some(&load), ..choice };
    assert_eq!(picker.balancer.choose(&mut choice).map(|host| host.name), Some("p1"));
    assert_eq!(picker.pick(), Some("p0"));
}
