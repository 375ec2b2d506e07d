use super::*;
use crate::{Choice, CommonOptions, Endpoint, Health, HostSet, HostSetOptions, LocalityHosts, Policy, PrioritySet};
use nuncio_stream_info::Value;
use std::collections::BTreeSet;
use std::time::Instant;

#[derive(Debug, Clone)]
struct Host {
    name: &'static str,
    labels: Struct,
    health: Health,
}

impl Endpoint for Host {
    fn health(&self) -> Health {
        self.health
    }
    fn labels(&self) -> Option<&Struct> {
        Some(&self.labels)
    }
}

fn labels(text: &str) -> Struct {
    let value = |value: &str| match value.split_once('+') {
        None => Value::from(value),
        Some(_) => Value::List(value.split('+').map(Value::from).collect()),
    };
    text.split_whitespace().filter_map(|pair| pair.split_once('=')).map(|(name, text)| (name, value(text))).collect()
}

fn host(name: &'static str, text: &str) -> Host {
    Host { name, labels: labels(text), health: Health::Healthy }
}

fn set(hosts: Vec<Host>) -> Arc<PrioritySet<Host>> {
    let localities = vec![LocalityHosts { weight: 1, hosts }];
    Arc::new(PrioritySet::new(vec![Arc::new(HostSet::new(localities, HostSetOptions::default()))]))
}

fn selector(keys: &[&str], fallback: SelectorFallback) -> SubsetSelector {
    SubsetSelector { keys: keys.iter().map(|key| Arc::from(*key)).collect(), fallback, single_host: false }
}

struct Picker {
    balancer: SubsetBalancer<Host>,
    rng: fastrand::Rng,
    counts: SubsetCounts,
}

impl Picker {
    fn new(options: SubsetOptions, hosts: Vec<Host>) -> Self {
        let balancer =
            SubsetBalancer::new(Arc::new(options), Arc::new(Policy::default()), CommonOptions::default(), set(hosts));
        Picker { balancer, rng: fastrand::Rng::with_seed(5), counts: SubsetCounts::default() }
    }

    /// All hosts that requests with these labels come to.
    fn reach(&mut self, wanted: Option<&Struct>) -> String {
        let mut names = BTreeSet::new();
        for _ in 0..50 {
            let mut choice = Choice::new(Instant::now(), &mut self.rng);
            names.extend(self.balancer.choose(wanted, &mut choice, &mut self.counts).map(|host| host.name));
        }
        names.into_iter().collect::<Vec<_>>().join(" ")
    }

    fn check(&mut self, wanted: &str, expected: &str) {
        assert_eq!(self.reach(Some(&labels(wanted))), expected, "for {wanted}");
    }
}

fn hosts() -> Vec<Host> {
    vec![
        host("a", "stage=prod version=1"),
        host("b", "stage=prod version=2"),
        host("c", "stage=dev version=2"),
        host("d", "version=3"),
    ]
}

fn selectors() -> Vec<SubsetSelector> {
    vec![
        selector(&["version"], SelectorFallback::NotDefined),
        selector(&["stage", "version"], SelectorFallback::Keys(vec!["version".into()])),
        selector(&["stage"], SelectorFallback::None),
    ]
}

#[test]
fn labels_find_their_hosts() {
    let mut picker = Picker::new(SubsetOptions { selectors: selectors(), ..SubsetOptions::default() }, hosts());
    picker.check("version=1", "a");
    picker.check("version=2", "b c");
    picker.check("stage=prod", "a b");
    picker.check("stage=prod version=2", "b");
    assert_eq!(picker.counts, SubsetCounts { selected: 200, ..SubsetCounts::default() });
    picker.check("version=9", "");
    picker.check("other=1", "");
    assert_eq!(picker.reach(None), "");
}

#[test]
fn fallbacks_of_cluster_and_selector() {
    let options = SubsetOptions {
        selectors: selectors(),
        fallback: SubsetFallback::Default,
        default_subset: labels("stage=dev"),
        ..SubsetOptions::default()
    };
    let mut picker = Picker::new(options.clone(), hosts());
    picker.check("version=9", "c");
    picker.check("stage=none", "");
    picker.check("stage=none version=3", "d");
    assert_eq!(picker.reach(None), "c");
    assert_eq!(picker.counts.fallback, 100);
    let options = SubsetOptions { default_subset: labels("stage=gone"), panic_mode_any: true, ..options };
    let mut picker = Picker::new(options, hosts());
    picker.check("version=9", "a b c d");
    assert_eq!((picker.counts.fallback, picker.counts.fallback_panic), (0, 50));
}

#[test]
fn lists_and_redundant_labels() {
    let options = SubsetOptions {
        selectors: vec![selector(&["version"], SelectorFallback::NotDefined)],
        list_as_any: true,
        allow_redundant_keys: true,
        ..SubsetOptions::default()
    };
    let mut picker = Picker::new(options, vec![host("a", "version=1+2"), host("b", "version=2+3")]);
    picker.check("version=1", "a");
    picker.check("version=2", "a b");
    picker.check("version=3 more=yes", "b");
    picker.check("more=yes", "");
}

#[test]
fn a_request_says_what_to_try_in_order() {
    let options = SubsetOptions { selectors: selectors(), fallback_list: true, ..SubsetOptions::default() };
    let mut picker = Picker::new(options, hosts());
    let list = ["version=9", "version=1", "version=2"].map(|text| Value::Struct(labels(text)));
    let wanted: Struct = [("fallback_list", Value::List(list.to_vec()))].into_iter().collect();
    assert_eq!(picker.reach(Some(&wanted)), "a");
}

#[test]
fn a_subset_of_one_host_has_it_whatever_its_health() {
    let single = SubsetSelector { single_host: true, ..selector(&["id"], SelectorFallback::NotDefined) };
    let mut ill = host("a", "id=1");
    ill.health = Health::Unhealthy;
    let options = SubsetOptions { selectors: vec![single], ..SubsetOptions::default() };
    let hosts = vec![ill, host("b", "id=2"), host("c", "id=2")];
    assert_eq!(set(hosts.clone()).subsets(&options).duplicates(), 1);
    let mut picker = Picker::new(options, hosts);
    picker.check("id=1", "a");
    picker.check("id=2", "b");
}

#[test]
fn hosts_that_come_and_go_change_their_subsets() {
    let options = SubsetOptions { selectors: selectors(), ..SubsetOptions::default() };
    let mut picker = Picker::new(options.clone(), hosts());
    picker.check("version=2", "b c");
    let (before, after) = (set(hosts()), set(vec![host("e", "version=2"), host("f", "version=4")]));
    assert_eq!(after.subsets(&options).beyond(before.subsets(&options)), 1);
    assert_eq!(before.subsets(&options).beyond(after.subsets(&options)), 7);
    picker.balancer.update(after);
    picker.check("version=2", "e");
    picker.check("version=4", "f");
    picker.check("version=1", "");
}

#[test]
fn an_unhealthy_subset_panics_by_itself() {
    let mut hosts = hosts();
    hosts[0].health = Health::Unhealthy;
    let options = SubsetOptions { selectors: selectors(), ..SubsetOptions::default() };
    let mut picker = Picker::new(options, hosts);
    picker.check("version=1", "a");
    picker.check("stage=prod", "b");
}
