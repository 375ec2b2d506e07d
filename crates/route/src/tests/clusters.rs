//! The choice of the cluster, and what is inherited.

use super::*;
use crate::spec::{
    ClusterSpecifierSpec, ClusterWeightSpec, MirrorPolicySpec, PerFilterSpec, RandomValueSpec, RetryPolicySpec,
    WeightedClustersSpec,
};
use nuncio_matcher::RuntimeLookup;
use nuncio_stream_info::{Metadata, Value};
use std::time::Duration;

struct Weights(&'static [(&'static str, &'static str)]);

impl RuntimeLookup for Weights {
    fn text(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == key).map(|(_, text)| *text)
    }
}

fn weights(list: &[(&str, u32)]) -> WeightedClustersSpec {
    let cluster = |(name, weight): &(&str, u32)| {
        let (name, cluster_header) = match name.strip_prefix('@') {
            Some(header) => (String::new(), header.to_owned()),
            None => ((*name).to_owned(), String::new()),
        };
        ClusterWeightSpec { name, cluster_header, weight: Some(*weight), ..Default::default() }
    };
    WeightedClustersSpec { clusters: list.iter().map(cluster).collect(), ..Default::default() }
}

fn to(cluster: ClusterSpecifierSpec) -> RouteTable {
    one_host(vec![forward(prefix("/"), |action| action.cluster = cluster)])
}

fn chosen(table: &RouteTable, headers: &HeaderMap, random: u64, runtime: &dyn RuntimeLookup) -> String {
    let query = RouteQuery { random, runtime, ..query(headers) };
    let choice = route(table, headers).forward().unwrap().choose_cluster(&query, None);
    choice.map_or_else(|| "none".to_owned(), |choice| choice.name.to_string())
}

#[test]
fn by_weight() {
    let table = to(ClusterSpecifierSpec::Weighted(weights(&[("a", 1), ("z", 0), ("b", 9)])));
    let headers = request("h", "/", &[]);
    let mut count = 0;
    for random in 0..1000 {
        count += u32::from(chosen(&table, &headers, random, &NoRuntime) == "a");
    }
    assert_eq!(count, 100);
    for (random, expected) in [(0, "a"), (1, "b"), (9, "b"), (10, "a"), (u64::MAX, "b")] {
        assert_eq!(chosen(&table, &headers, random, &NoRuntime), expected, "{random}");
    }
}

#[test]
fn by_a_number_in_a_header() {
    let random_value = RandomValueSpec::Header("x-rand".to_owned());
    let spec = WeightedClustersSpec { random_value, ..weights(&[("a", 1), ("b", 9)]) };
    let table = to(ClusterSpecifierSpec::Weighted(spec));
    for (lines, expected) in [
        (&["x-rand: 10"][..], "a"),
        (&["x-rand: 11"], "b"),
        (&["x-rand: no"], "b"),
        (&["x-rand: 0", "x-rand: 0"], "b"),
        (&[], "b"),
    ] {
        assert_eq!(chosen(&table, &request("h", "/", lines), 5, &NoRuntime), expected, "{lines:?}");
    }
}

#[test]
fn by_runtime_and_by_hash() {
    let spec = WeightedClustersSpec { runtime_key_prefix: "w".to_owned(), ..weights(&[("a", 50), ("b", 50)]) };
    let table = to(ClusterSpecifierSpec::Weighted(spec));
    let headers = request("h", "/", &[]);
    assert_eq!(chosen(&table, &headers, 0, &NoRuntime), "a");
    assert_eq!(chosen(&table, &headers, 0, &Weights(&[("w.a", "0")])), "b");
    assert_eq!(chosen(&table, &headers, 0, &Weights(&[("w.a", "0"), ("w.b", "0")])), "none");
    assert_eq!(chosen(&table, &headers, 7, &Weights(&[("w.a", "99999999999999"), ("w.b", "1")])), "a");
    let spec = WeightedClustersSpec { random_value: RandomValueSpec::HashPolicy, ..weights(&[("a", 50), ("b", 50)]) };
    let table = to(ClusterSpecifierSpec::Weighted(spec));
    let forward = route(&table, &headers).forward().unwrap();
    assert!(forward.needs_hash());
    assert_eq!(&*forward.choose_cluster(&query(&headers), Some(70)).unwrap().name, "b");
}

#[test]
fn by_header() {
    for cluster in [
        ClusterSpecifierSpec::ClusterHeader("x-cl".to_owned()),
        ClusterSpecifierSpec::Weighted(weights(&[("@x-cl", 1)])),
    ] {
        let table = to(cluster);
        for (lines, expected) in [(&["x-cl: d", "x-cl: e"][..], "d"), (&[], "")] {
            assert_eq!(chosen(&table, &request("h", "/", lines), 0, &NoRuntime), expected);
        }
        assert_eq!(table.routes().flat_map(|route| route.forward()).flat_map(|f| f.cluster_names()).count(), 0);
    }
}

#[test]
fn a_weighted_cluster_has_its_own_host_metadata_and_filters() {
    let metadata = |key: &str, value: &str| {
        let mut metadata = Metadata::new();
        metadata.namespace_mut("envoy.lb").set(key, value);
        Some(Arc::new(metadata))
    };
    let filter = |value: u32| vec![PerFilterSpec { name: "f".into(), config: Some(Arc::new(value)), disabled: false }];
    let mut spec = weights(&[("a", 1), ("b", 1)]);
    spec.clusters[0].host_rewrite_literal = "wc.host".to_owned();
    spec.clusters[0].metadata_match = metadata("own", "1");
    spec.clusters[0].per_filter = filter(1);
    let mut route_spec = forward(prefix("/"), |action| {
        action.cluster = ClusterSpecifierSpec::Weighted(spec);
        action.metadata_match = metadata("outer", "2");
    });
    route_spec.per_filter = filter(2);
    let table = one_host(vec![route_spec]);
    let mut headers = request("h", "/", &[]);
    let route = route(&table, &headers).clone();
    let fields = |entry| {
        let fields = route.forward().unwrap().metadata_match(entry).unwrap();
        fields.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap())).collect::<Vec<_>>().join(",")
    };
    assert_eq!(fields(Some(0)), "outer=2,own=1");
    assert_eq!(fields(Some(1)), "outer=2");
    assert_eq!(fields(None), "outer=2");
    let config = |entry| route.per_filter(entry).most_specific_as::<u32>("f").map(|config| *config);
    assert_eq!([config(Some(0)), config(Some(1)), config(None)], [Some(1), Some(2), Some(2)]);
    with_context(|cx| route.mutate_request(Some(0), &mut headers, cx));
    assert_eq!(dump(&headers), ":path: /|:authority: wc.host");
    assert_eq!(Value::from("1").as_str(), Some("1"));
}

#[test]
fn routes_inherit_from_their_virtual_host() {
    let retry = |retry_on: &str| Some(RetryPolicySpec { retry_on: retry_on.to_owned(), ..Default::default() });
    let mirror = |cluster: &str| vec![MirrorPolicySpec { cluster: cluster.to_owned(), ..Default::default() }];
    let mut vhost = host(
        "v",
        &["*"],
        vec![
            forward(exact("/own"), |action| {
                action.retry_policy = retry("reset");
                action.mirror_policies = mirror("own");
                action.timeout = Some(Duration::ZERO);
            }),
            forward(prefix("/"), |_| {}),
        ],
    );
    vhost.retry_policy = retry("5xx");
    vhost.request_body_buffer_limit = Some(7);
    let table = table(RouteConfigSpec { mirror_policies: mirror("outer"), ..config(vec![vhost]) });
    for (path, on, mirror, timeout) in
        [("/own", "{\"reset\"}", "own", None), ("/", "{\"5xx\"}", "outer", Some(Duration::from_secs(15)))]
    {
        let route = route(&table, &request("h", path, &[]));
        let forward = route.forward().unwrap();
        assert_eq!(format!("{:?}", forward.retry_policy.as_ref().unwrap().on), on);
        assert!(format!("{:?}", forward.mirrors[0].cluster).contains(mirror));
        assert_eq!(forward.timeout, timeout);
        assert_eq!(route.request_body_buffer_limit(), Some(7));
    }
}
