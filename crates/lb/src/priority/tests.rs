use super::*;
use crate::{Endpoint, Health, HostSetOptions, LocalityHosts};
use std::sync::Arc;

struct Host(Health);

impl Endpoint for Host {
    fn health(&self) -> Health {
        self.0
    }
}

/// A priority of `all` hosts, the first of them healthy, the next ones degraded.
fn group(healthy: usize, degraded: usize, all: usize) -> Arc<HostSet<Host>> {
    let health = |index| match index {
        _ if index < healthy => Health::Healthy,
        _ if index < healthy + degraded => Health::Degraded,
        _ => Health::Unhealthy,
    };
    let hosts = (0..all).map(|index| Host(health(index))).collect();
    Arc::new(HostSet::new(vec![LocalityHosts { weight: 0, hosts }], HostSetOptions::default()))
}

fn priorities(groups: &[(usize, usize)], threshold: f64) -> Priorities {
    let sets = groups.iter().map(|(healthy, degraded)| group(*healthy, *degraded, 100)).collect();
    let options = CommonOptions { healthy_panic_threshold: threshold, ..CommonOptions::default() };
    Priorities::new(&PrioritySet::new(sets), &options)
}

#[test]
fn load_follows_health_as_documented() {
    // Percent of healthy hosts, and Envoy's documented shares; panic is off.
    let check = |healthy: &[usize], expected: &[u32]| {
        let groups: Vec<_> = healthy.iter().map(|healthy| (*healthy, 0)).collect();
        assert_eq!(priorities(&groups, 0.0).load.healthy, expected, "{healthy:?}");
    };
    check(&[100], &[100]);
    check(&[1], &[100]);
    check(&[0], &[100]);
    check(&[100, 100], &[100, 0]);
    check(&[72, 72], &[100, 0]);
    check(&[71, 71], &[99, 1]);
    check(&[50, 50], &[70, 30]);
    check(&[25, 100], &[35, 65]);
    check(&[25, 25], &[50, 50]);
    check(&[5, 0], &[100, 0]);
    check(&[0, 5], &[0, 100]);
    check(&[100, 100, 100], &[100, 0, 0]);
    check(&[71, 71, 100], &[99, 1, 0]);
    check(&[25, 25, 100], &[35, 35, 30]);
    check(&[25, 25, 20], &[37, 35, 28]);
}

#[test]
fn degraded_hosts_take_what_healthy_ones_cannot() {
    let check = |groups: &[(usize, usize)], healthy: &[u32], degraded: &[u32]| {
        let load = priorities(groups, 0.0).load;
        assert_eq!((load.healthy.as_slice(), load.degraded.as_slice()), (healthy, degraded), "{groups:?}");
    };
    check(&[(100, 0)], &[100], &[0]);
    check(&[(50, 50)], &[70], &[30]);
    check(&[(0, 100)], &[0], &[100]);
    check(&[(0, 50), (50, 0)], &[0, 70], &[30, 0]);
}

#[test]
fn panic_by_priority() {
    let check = |healthy: &[usize], threshold: f64, panic: &[bool], load: &[u32]| {
        let groups: Vec<_> = healthy.iter().map(|healthy| (*healthy, 0)).collect();
        let found = priorities(&groups, threshold);
        assert_eq!((found.panic.as_slice(), found.load.healthy.as_slice()), (panic, load), "{healthy:?}");
    };
    check(&[100], 50.0, &[false], &[100]);
    check(&[49], 50.0, &[true], &[100]);
    check(&[50], 50.0, &[false], &[100]);
    // 60 and 80 percent can take everything together: neither panics.
    check(&[10, 100], 50.0, &[false, false], &[14, 86]);
    check(&[10, 49], 50.0, &[true, true], &[50, 50]);
    check(&[10, 51], 50.0, &[true, false], &[17, 83]);
    check(&[0, 0], 50.0, &[true, true], &[50, 50]);
    check(&[0, 0], 0.0, &[false, false], &[100, 0]);
}

#[test]
fn total_panic_counts_hosts() {
    let sets = vec![group(0, 0, 30), group(0, 0, 60)];
    let found = Priorities::new(&PrioritySet::new(sets), &CommonOptions::default());
    assert_eq!(found.load.healthy, [34, 66]);
    let empty = Priorities::new(&PrioritySet::new(vec![group(0, 0, 0)]), &CommonOptions::default());
    assert_eq!(empty.load.healthy, [100]);
}

#[test]
fn a_random_number_falls_to_its_share() {
    let load = PriorityLoad { healthy: vec![70, 10], degraded: vec![20, 0] };
    let check = |random, expected| assert_eq!(load.choose(random), expected, "{random}");
    check(0, (0, Availability::Healthy));
    check(69, (0, Availability::Healthy));
    check(70, (1, Availability::Healthy));
    check(80, (0, Availability::Degraded));
    check(199, (0, Availability::Degraded));
}

#[test]
fn load_among_some() {
    let priorities = Priorities { health: vec![100, 60, 100], degraded: vec![0, 20, 0], ..Priorities::default() };
    let check = |excluded: &[usize], expected: Option<(&[u32], &[u32])>| {
        let load = PriorityLoad::among(&priorities, |priority| !excluded.contains(&priority));
        let expected = expected.map(|(healthy, degraded)| (healthy.to_vec(), degraded.to_vec()));
        assert_eq!(load.map(|load| (load.healthy, load.degraded)), expected, "{excluded:?}");
    };
    check(&[], Some((&[100, 0, 0], &[0, 0, 0])));
    check(&[0], Some((&[0, 60, 40], &[0, 0, 0])));
    check(&[0, 2], Some((&[0, 75, 0], &[0, 25, 0])));
    check(&[0, 1, 2], None);
}
