//! What is refused, where, and in which words.

use super::*;
use crate::spec::{
    ClusterSpecifierSpec, ClusterWeightSpec, ConnectConfigSpec, HeaderMutationsSpec, HeaderValueOptionSpec,
    InternalRedirectPolicySpec, MirrorPolicySpec, PathRewriteSpec, RateLimitedBackOffSpec, RetryBackOffSpec,
    RetryPolicySpec, UpgradeConfigSpec, VirtualClusterSpec, WeightedClustersSpec,
};
use nuncio_matcher::{HeaderMatchSpec, HeaderMatcherSpec, SubstitutionSpec};
use std::time::Duration;

/// The one error that a route has, below `virtual_hosts[0].routes[0]`.
#[track_caller]
fn check(spec: RouteSpec, path: &str, message: &str) {
    let errors = errors(config(vec![host("v", &["*"], vec![spec])]));
    let [error] = &errors[..] else { panic!("{errors:?}") };
    assert_eq!(error.path, format!("virtual_hosts[0].routes[0].{path}"));
    assert!(error.message.contains(message), "{error}");
}

#[track_caller]
fn check_action(change: impl FnOnce(&mut RouteActionSpec), path: &str, message: &str) {
    check(forward(prefix("/"), change), path, message);
}

fn add(name: &str, value: &str) -> HeaderMutationsSpec {
    let option = HeaderValueOptionSpec { name: name.to_owned(), value: value.to_owned(), ..Default::default() };
    HeaderMutationsSpec { add: vec![option], remove: Vec::new() }
}

#[test]
fn matches() {
    check(forward(regex("a("), |_| {}), "match.safe_regex.regex", "unclosed group");
    let separated = PathSpec::PathSeparatedPrefix("/a/".to_owned());
    check(forward(separated, |_| {}), "match.path_separated_prefix", "not end with `/`");
    let template = PathSpec::UriTemplate("a".to_owned());
    check(forward(template, |_| {}), "match.path_match_policy.typed_config.path_template", "start with `/`");
    let mut spec = forward(prefix("/"), |_| {});
    let kind = HeaderMatchSpec::Prefix(String::new());
    spec.matching.headers = vec![HeaderMatcherSpec { name: "a".to_owned(), kind, ..Default::default() }];
    check(spec, "match.headers[0].prefix_match", "must not be empty");
}

#[test]
fn header_mutations() {
    for name in [":path", "Host", ":status"] {
        let mut spec = forward(prefix("/"), |_| {});
        spec.request_headers = add(name, "a");
        check(spec, "request_headers_to_add[0].header.key", ":-prefixed or host headers may not be modified");
        let mut spec = forward(prefix("/"), |_| {});
        spec.response_headers.remove = vec![name.to_owned()];
        check(spec, "response_headers_to_remove[0]", ":-prefixed or host headers may not be removed");
    }
    for (value, message) in [("%FOO%", "FOO"), ("%", "column 1"), ("a\nb", "0x0a")] {
        let mut spec = forward(prefix("/"), |_| {});
        spec.request_headers = add("a", value);
        check(spec, "request_headers_to_add[0].header.value", message);
    }
    let mut spec = forward(prefix("/"), |_| {});
    spec.request_headers = add("a b", "c");
    check(spec, "request_headers_to_add[0].header.key", "not a header name");
}

#[test]
fn clusters() {
    check_action(|a| a.cluster = ClusterSpecifierSpec::Cluster(String::new()), "route.cluster", "must not be empty");
    let weighted = |list: &[(&str, &str, u32)]| {
        let cluster = |(name, header, weight): &(&str, &str, u32)| ClusterWeightSpec {
            name: (*name).to_owned(),
            cluster_header: (*header).to_owned(),
            weight: Some(*weight),
            ..Default::default()
        };
        let clusters = list.iter().map(cluster).collect();
        ClusterSpecifierSpec::Weighted(WeightedClustersSpec { clusters, ..Default::default() })
    };
    let at = "route.weighted_clusters";
    check_action(|a| a.cluster = weighted(&[("c", "", 0)]), at, "must be greater than 0.");
    check_action(|a| a.cluster = weighted(&[("c", "", u32::MAX), ("d", "", 1)]), at, "exceeds 4294967295");
    let first = "route.weighted_clusters.clusters[0]";
    check_action(|a| a.cluster = weighted(&[("", "", 1)]), first, "At least one of name or cluster_header");
    check_action(|a| a.cluster = weighted(&[("a", "b", 1)]), first, "Only one of name or cluster_header");
}

#[test]
fn policies() {
    let upgrade = |kind: &str, connect: bool| UpgradeConfigSpec {
        upgrade_type: kind.to_owned(),
        enabled: true,
        connect_config: connect.then(ConnectConfigSpec::default),
    };
    check_action(
        |a| a.upgrade_configs = vec![upgrade("a", false), upgrade("A", false)],
        "route.upgrade_configs[1]",
        "Duplicate upgrade A",
    );
    check_action(
        |a| a.upgrade_configs = vec![upgrade("websocket", true)],
        "route.upgrade_configs[0]",
        "Non-CONNECT upgrade type websocket has ConnectConfig",
    );
    let mirror = |cluster: &str, header: &str| MirrorPolicySpec {
        cluster: cluster.to_owned(),
        cluster_header: header.to_owned(),
        ..Default::default()
    };
    let at = "route.request_mirror_policies[0]";
    check_action(|a| a.mirror_policies = vec![mirror("", "")], at, "Exactly one of cluster or cluster_header");
    check_action(|a| a.mirror_policies = vec![mirror("a", "b")], at, "Only one of cluster 'a' or cluster_header 'b'");
    let policy = InternalRedirectPolicySpec { response_headers_to_copy: vec!["host".to_owned()], ..Default::default() };
    check_action(
        |a| a.internal_redirect_policy = Some(policy),
        "route.internal_redirect_policy.response_headers_to_copy[0]",
        ":-prefixed headers or Hosts may not be specified here.",
    );
    check_action(|a| a.cluster_not_found_response_code = 501, "route.cluster_not_found_response_code", "404");
}

#[test]
fn retries() {
    let back_off = |base: u64, max: u64| RetryPolicySpec {
        retry_back_off: Some(RetryBackOffSpec {
            base_interval: Duration::from_millis(base),
            max_interval: Some(Duration::from_millis(max)),
        }),
        ..Default::default()
    };
    check_action(
        |a| a.retry_policy = Some(back_off(1000, 500)),
        "route.retry_policy.retry_back_off.max_interval",
        "must greater than or equal to the base_interval",
    );
    check_action(
        |a| a.retry_policy = Some(back_off(0, 5)),
        "route.retry_policy.retry_back_off.base_interval",
        "greater",
    );
    let limited = RateLimitedBackOffSpec { reset_headers: Vec::new(), max_interval: None };
    check_action(
        |a| a.retry_policy = Some(RetryPolicySpec { rate_limited_retry_back_off: Some(limited), ..Default::default() }),
        "route.retry_policy.rate_limited_retry_back_off.reset_headers",
        "at least one",
    );
}

#[test]
fn rewrites() {
    check_action(
        |a| a.path_rewrite = Some(PathRewriteSpec::UriTemplate("/{a}".to_owned())),
        "route.path_rewrite_policy.typed_config.path_template_rewrite",
        "needs a path_match_policy",
    );
    let spec = forward(PathSpec::UriTemplate("/{a}".to_owned()), |a| {
        a.path_rewrite = Some(PathRewriteSpec::Prefix("/b".to_owned()));
    });
    check(spec, "route.prefix_rewrite", "Cannot use prefix_rewrite with matcher extension");
    let substitution = SubstitutionSpec { pattern: "(".into(), substitution: String::new() };
    check_action(
        |a| a.path_rewrite = Some(PathRewriteSpec::Regex(substitution)),
        "route.regex_rewrite.pattern.regex",
        "unclosed group",
    );
}

#[test]
fn virtual_hosts() {
    let check = |hosts: Vec<VirtualHostSpec>, expected: &[(&str, &str)]| {
        let actual: Vec<_> = errors(config(hosts)).into_iter().map(|e| (e.path, e.message)).collect();
        let expected: Vec<_> = expected.iter().map(|(p, m)| ((*p).to_owned(), (*m).to_owned())).collect();
        assert_eq!(actual, expected);
    };
    check(
        vec![host("v", &["*", "*"], vec![])],
        &[(
            "virtual_hosts[0].domains[1]",
            "Only a single wildcard domain is permitted in route rc; it is in this virtual host already",
        )],
    );
    check(
        vec![host("v", &["a.b"], vec![]), host("w", &["c", "A.b"], vec![])],
        &[(
            "virtual_hosts[1].domains[1]",
            "Only unique values for domains are permitted. Duplicate entry of domain a.b in route rc; virtual_hosts[0] has it \
             already",
        )],
    );
    check(vec![host("", &["x"], vec![])], &[("virtual_hosts[0].name", "must not be empty")]);
    let mut spec = host("v", &["x"], vec![]);
    spec.virtual_clusters = vec![VirtualClusterSpec { name: "a".to_owned(), headers: Vec::new() }];
    check(vec![spec], &[("virtual_hosts[0].virtual_clusters[0]", "virtual clusters must define 'headers'")]);
}

#[test]
fn all_errors_are_found_at_once() {
    let bad = || forward(regex("("), |a| a.cluster = ClusterSpecifierSpec::Cluster(String::new()));
    let mut vhost = host("", &["*", "*"], vec![bad(), bad()]);
    vhost.request_headers = add(":path", "%");
    let paths: Vec<_> = errors(config(vec![vhost])).into_iter().map(|e| e.path).collect();
    assert_eq!(
        paths,
        [
            "virtual_hosts[0].domains[1]",
            "virtual_hosts[0].name",
            "virtual_hosts[0].request_headers_to_add[0].header.key",
            "virtual_hosts[0].request_headers_to_add[0].header.value",
            "virtual_hosts[0].routes[0].match.safe_regex.regex",
            "virtual_hosts[0].routes[0].route.cluster",
            "virtual_hosts[0].routes[1].match.safe_regex.regex",
            "virtual_hosts[0].routes[1].route.cluster",
        ]
    );
}

#[test]
fn warnings() {
    let retry = RetryPolicySpec {
        retry_on: "5xx,foo".to_owned(),
        retriable_status_codes: vec![503, 1000],
        ..Default::default()
    };
    let cluster = ClusterWeightSpec { name: "c".to_owned(), weight: Some(5), ..Default::default() };
    let weighted = WeightedClustersSpec { clusters: vec![cluster], total_weight: Some(6), ..Default::default() };
    let substitution = SubstitutionSpec { pattern: "a".into(), substitution: r"\1".to_owned() };
    let table = one_host(vec![forward(prefix("/a?b"), |a| {
        a.retry_policy = Some(retry);
        a.cluster = ClusterSpecifierSpec::Weighted(weighted);
        a.path_rewrite = Some(PathRewriteSpec::Regex(substitution));
    })]);
    let paths: Vec<_> =
        table.warnings().iter().map(|w| w.path.trim_start_matches("virtual_hosts[0].routes[0].")).collect();
    assert_eq!(
        paths,
        [
            "match.prefix",
            "route.weighted_clusters.total_weight",
            "route.regex_rewrite.substitution",
            "route.retry_policy.retry_on",
            "route.retry_policy.retriable_status_codes[1]",
        ]
    );
}
