//! Clusters: what is made of them, and what is wrong with those that Envoy 1.40 refuses, too.

use super::{lower_cluster, lower_yaml};
use nuncio_cluster::ClusterConfig;
use nuncio_cluster::config::{Discovery, EndpointAddress, HealthChecker, HealthStatus};
use nuncio_http::h1::{Spelling, Underscores};
use nuncio_lb::{HashFunction, Policy, SelectionMethod};
use std::sync::Arc;
use std::time::Duration;

fn cluster(fields: &str) -> Arc<ClusterConfig> {
    lower_cluster(fields).snapshot().clusters.remove(0)
}

const ENDPOINT: &str = "load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: [{endpoint: {address: \
                        {socket_address: {address: 127.0.0.1, port_value: 80}}}}]}]}";

#[test]
fn a_plain_cluster_has_the_defaults() {
    let lowered = cluster("type: STATIC");
    assert_eq!(*lowered, ClusterConfig::new("c", Discovery::Static));
}

#[test]
fn errors() {
    let check = |fields: &str, expected: &str| {
        let outcome = lower_cluster(fields);
        assert!(outcome.snapshot.is_none(), "{fields}");
        let errors = outcome.errors();
        let below = format!("static_resources.clusters[0]{expected}");
        assert!(errors.contains(&below), "{fields}\n  found {errors}  expected {below}");
    };
    check(
        "type: EDS, eds_cluster_config: {eds_config: {ads: {}}}",
        ".eds_cluster_config.eds_config.ads: there is no ADS",
    );
    check("type: EDS", ".eds_cluster_config: is required for EDS");
    check("type: STATIC, eds_cluster_config: {service_name: x}", ".eds_cluster_config: cannot be set in a cluster");
    check("type: ORIGINAL_DST", ".lb_policy: a cluster of type ORIGINAL_DST needs the policy CLUSTER_PROVIDED");
    check("lb_policy: CLUSTER_PROVIDED", ".lb_policy: CLUSTER_PROVIDED is for clusters of type ORIGINAL_DST");
    check(
        "type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, load_assignment: {cluster_name: c}",
        ".load_assignment: ORIGINAL_DST clusters must have no load assignment configured",
    );
    check("type: LOGICAL_DNS", ": LOGICAL_DNS clusters must have a single locality_lb_endpoint");
    check(
        "load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: \
         {address: foo.bar, port_value: 1}}}}]}]}",
        ".load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: malformed IP address: foo.bar",
    );
    check("lb_policy: LOAD_BALANCING_POLICY_CONFIG", ".load_balancing_policy: has no load balancing policy");
    check(
        "lb_policy: RING_HASH, ring_hash_lb_config: {minimum_ring_size: 100, maximum_ring_size: 10}",
        ".ring_hash_lb_config: minimum_ring_size (100) > maximum_ring_size (10)",
    );
    check("lb_policy: MAGLEV, maglev_lb_config: {table_size: 10}", ".maglev_lb_config.table_size: found 10");
    check(
        "outlier_detection: {max_ejection_time: 1s}",
        ".outlier_detection.max_ejection_time: cannot be smaller than base_ejection_time",
    );
    check(
        "circuit_breakers: {per_host_thresholds: [{max_requests: 3}]}",
        ".circuit_breakers.per_host_thresholds[0].max_requests: can't be set",
    );
    check(
        "http2_protocol_options: {custom_settings_parameters: [{identifier: 4, value: 1}]}",
        ".http2_protocol_options.custom_settings_parameters[0].identifier: the setting 4 has a field of its own",
    );
    check(
        "http2_protocol_options: {connection_keepalive: {interval: 1s}}",
        ".http2_protocol_options.connection_keepalive",
    );
    check(
        "health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, tcp_health_check: \
         {send: {text: zz}}}]",
        ".health_checks[0].tcp_health_check.send.text: invalid hex string 'zz'",
    );
    check(
        "lb_subset_config: {subset_selectors: [{keys: [a], fallback_policy: KEYS_SUBSET, fallback_keys_subset: [a]}]}",
        ".lb_subset_config.subset_selectors[0].fallback_keys_subset: fallback_keys_subset cannot be equal to keys",
    );
    check(
        "cluster_type: {name: envoy.clusters.aggregate, typed_config: {'@type': type.googleapis.com/\
         envoy.extensions.clusters.aggregate.v3.ClusterConfig, clusters: [a]}}",
        ".cluster_type: the cluster type envoy.extensions.clusters.aggregate.v3.ClusterConfig is not built",
    );
    check(
        "transport_socket: {name: tls, typed_config: {'@type': type.googleapis.com/\
         envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, allow_renegotiation: true}}",
        ".transport_socket.typed_config.allow_renegotiation: renegotiation is not built, for it is not safe",
    );
    check(
        "upstream_bind_config: {source_address: {address: 10.0.0.1, port_value: 0}, extra_source_addresses: \
         [{address: {address: 10.0.0.2, port_value: 0}}]}",
        ".upstream_bind_config: two source addresses of one family",
    );
}

#[test]
fn two_clusters_of_one_name() {
    let outcome = lower_yaml("static_resources: {clusters: [{name: c}, {name: d}, {name: c}]}");
    let expected = "static_resources.clusters[2].name: duplicate cluster c: clusters[0] has this name already\n";
    assert!(outcome.errors().ends_with(expected), "{}", outcome.findings);
}

#[test]
fn endpoints() {
    let lowered = cluster(
        "type: STRICT_DNS, load_assignment: {cluster_name: x, policy: {overprovisioning_factor: 120}, endpoints: [\
         {priority: 1, load_balancing_weight: 7, locality: {region: r, zone: z}, lb_endpoints: [\
         {health_status: DRAINING, load_balancing_weight: 3, metadata: {filter_metadata: {envoy.lb: {a: [1, b]}}}, \
         endpoint: {hostname: h, address: {socket_address: {address: foo.bar, port_value: 80}}, \
         health_check_config: {port_value: 81, hostname: hc}}}, {endpoint: {address: {pipe: {path: /run/x}}}}]}]}",
    );
    let assignment = &lowered.load_assignment;
    assert_eq!(assignment.overprovisioning_factor, 120);
    let [group] = &assignment.localities[..] else { panic!("{assignment:?}") };
    assert_eq!((group.priority, group.weight, &*group.locality.region, &*group.locality.zone), (1, 7, "r", "z"));
    let [first, second] = &group.endpoints[..] else { panic!("{group:?}") };
    assert_eq!(first.address, EndpointAddress::Name { host: "foo.bar".into(), port: 80 });
    assert_eq!((first.health_status, first.weight, first.hostname.as_deref()), (HealthStatus::Draining, 3, Some("h")));
    assert_eq!(first.health_check.as_ref().map(|check| check.port), Some(Some(81)));
    assert!(first.metadata.as_ref().is_some_and(|metadata| metadata.get("envoy.lb", &["a"]).is_some()));
    assert_eq!(format!("{:?}", second.address), r#"Resolved(Pipe("/run/x"))"#);
}

#[test]
fn policies() {
    let policy = |fields: &str| (*cluster(fields).lb_policy).clone();
    let typed = |name: &str, fields: &str| {
        policy(&format!(
            "load_balancing_policy: {{policies: [{{typed_extension_config: {{name: x, typed_config: {{'@type': \
             type.googleapis.com/envoy.extensions.load_balancing_policies.{name}, {fields}}}}}}}]}}"
        ))
    };
    assert_eq!(policy("lb_policy: RANDOM"), Policy::Random);
    assert_eq!(policy("type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED"), Policy::ClusterProvided);
    let Policy::LeastRequest(least) = policy("lb_policy: LEAST_REQUEST, least_request_lb_config: {choice_count: 5}")
    else {
        panic!()
    };
    assert_eq!((least.choice_count, least.active_request_bias), (5, 1.0));
    let Policy::LeastRequest(least) = typed(
        "least_request.v3.LeastRequest",
        "selection_method: FULL_SCAN, slow_start_config: {slow_start_window: 60s}",
    ) else {
        panic!()
    };
    assert_eq!(least.selection_method, SelectionMethod::FullScan);
    assert_eq!(
        least.slow_start.map(|slow| (slow.window, slow.min_weight_percent)),
        Some((Duration::from_secs(60), 10.0))
    );
    let Policy::RingHash(ring) = typed("ring_hash.v3.RingHash", "hash_function: MURMUR_HASH_2, minimum_ring_size: 7")
    else {
        panic!()
    };
    assert_eq!((ring.hash_function, ring.minimum_ring_size), (HashFunction::MurmurHash2, 7));
    assert!(matches!(typed("maglev.v3.Maglev", "table_size: 11"), Policy::Maglev(maglev) if maglev.table_size == 11));
}

#[test]
fn the_first_policy_that_is_known_is_taken() {
    let outcome = lower_cluster(
        "load_balancing_policy: {policies: [{typed_extension_config: {name: first, typed_config: {'@type': \
         type.googleapis.com/envoy.extensions.load_balancing_policies.pick_first.v3.PickFirst}}}, \
         {typed_extension_config: {name: second, typed_config: {'@type': \
         type.googleapis.com/envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality, \
         endpoint_picking_policy: {policies: [{typed_extension_config: {name: third, typed_config: {'@type': \
         type.googleapis.com/envoy.extensions.load_balancing_policies.random.v3.Random}}}]}}}}]}",
    );
    assert!(outcome.warnings().contains("the load balancing policy first is not built: the next one is tried"));
    let cluster = outcome.snapshot().clusters.remove(0);
    assert_eq!(*cluster.lb_policy, Policy::Random);
    assert!(cluster.common_lb.options.locality_weighted);
}

#[test]
fn policies_around_policies() {
    let cluster = cluster(&format!(
        "{ENDPOINT}, load_balancing_policy: {{policies: [{{typed_extension_config: {{name: o, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost, \
         override_host_sources: [{{header: x-host}}, {{metadata: {{key: ns, path: [{{key: k}}]}}}}], fallback_policy: \
         {{policies: [{{typed_extension_config: {{name: s, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.load_balancing_policies.subset.v3.Subset, fallback_policy: ANY_ENDPOINT, \
         subset_selectors: [{{keys: [z, a]}}], subset_lb_policy: {{policies: [{{typed_extension_config: {{name: r, \
         typed_config: {{'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.random.v3.Random, \
         locality_lb_config: {{zone_aware_lb_config: {{min_cluster_size: 3, force_local_zone: {{min_size: 2}}}}}}\
         }}}}}}]}}}}}}}}]}}}}}}}}]}}"
    ));
    assert_eq!(*cluster.lb_policy, Policy::Random);
    let common = &cluster.common_lb;
    assert_eq!(common.override_host.as_ref().unwrap().sources.len(), 2);
    let subset = common.subset.as_ref().unwrap();
    assert_eq!(subset.fallback, nuncio_lb::SubsetFallback::Any);
    assert_eq!(subset.selectors[0].keys.iter().map(|key| &**key).collect::<Vec<_>>(), ["a", "z"]);
    assert_eq!((common.options.zone.min_cluster_size, common.options.zone.force_local), (3, Some(2)));
}

#[test]
fn discovery() {
    let dns = |fields: &str| match &cluster(&format!("{fields}, {ENDPOINT}")).discovery {
        Discovery::StrictDns(options) => ("strict", (**options).clone()),
        Discovery::LogicalDns(options) => ("logical", (**options).clone()),
        other => panic!("{other:?}"),
    };
    let (kind, options) = dns("type: STRICT_DNS, dns_refresh_rate: 3s, dns_failure_refresh_rate: {base_interval: 1s}");
    assert_eq!((kind, options.refresh_rate), ("strict", Duration::from_secs(3)));
    assert_eq!(options.failure_refresh_rate.map(|rate| rate.max_interval), Some(Duration::from_secs(10)));
    assert!(options.resolver.is_none());
    let (kind, options) = dns("cluster_type: {name: envoy.cluster.dns, typed_config: {'@type': \
         type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster, all_addresses_in_single_endpoint: true, \
         typed_dns_resolver_config: {name: envoy.network.dns_resolver.cares, typed_config: {'@type': \
         type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig, resolvers: \
         [{socket_address: {address: 10.0.0.1, port_value: 0}}], query_tries: 2}}}}");
    let resolver = options.resolver.unwrap();
    assert_eq!(kind, "logical");
    assert_eq!((resolver.servers.clone(), resolver.query_tries), (vec!["10.0.0.1:53".parse().unwrap()], Some(2)));
    let original = cluster(
        "type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, original_dst_lb_config: {use_http_header: true, \
         http_header_name: x-to, upstream_port_override: 9}",
    );
    let Discovery::OriginalDst(options) = &original.discovery else { panic!() };
    assert!(options.use_http_header);
    assert_eq!(options.upstream_port_override, Some(9));
}

#[test]
fn http_options() {
    let typed = cluster(
        "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': \
         type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, common_http_protocol_options: \
         {idle_timeout: 0s, max_requests_per_connection: 3, headers_with_underscores_action: DROP_HEADER}, \
         explicit_http_config: {http_protocol_options: {header_key_format: {proper_case_words: {}}}}}}",
    );
    let http = &typed.http;
    assert_eq!((http.idle_timeout, http.max_requests_per_connection), (None, Some(3)));
    assert_eq!(http.headers_with_underscores_action, Underscores::Drop);
    assert_eq!(http.http1.spelling, Spelling::ProperCase);
    let old =
        cluster("common_http_protocol_options: {idle_timeout: 5s}, http_protocol_options: {enable_trailers: true}");
    assert_eq!((old.http.idle_timeout, old.http.http1.enable_trailers), (Some(Duration::from_secs(5)), true));
}

#[test]
fn health_checks() {
    let lowered = cluster(
        "health_checks: [{timeout: 1s, interval: 2s, unhealthy_threshold: 3, healthy_threshold: 4, event_log_path: /e, \
         http_health_check: {path: /ok, host: h, expected_statuses: [{start: 200, end: 300}], method: HEAD, \
         request_headers_to_add: [{header: {key: a, value: '100%%'}}], receive: [{text: '4142'}]}}]",
    );
    let check = lowered.health_check.as_deref().unwrap();
    assert_eq!((check.unhealthy_threshold, check.healthy_threshold, check.event_logs.len()), (3, 4, 1));
    let HealthChecker::Http(http) = &check.checker else { panic!() };
    assert_eq!((&*http.path, http.host.as_deref(), &*http.method), ("/ok", Some("h"), "HEAD"));
    assert_eq!(http.expected_statuses, vec![200..300]);
    assert_eq!(&*http.request_headers_to_add[0].value, b"100%");
    assert_eq!(&*http.receive[0], b"AB");
}

#[test]
fn what_has_no_effect_is_reported() {
    let outcome = lower_cluster("lb_policy: RANDOM, maglev_lb_config: {table_size: 11}, preconnect_policy: {}");
    let warnings = outcome.warnings();
    for expected in [
        "static_resources.clusters[0].maglev_lb_config: has no effect with the lb_policy RANDOM",
        "static_resources.clusters[0].preconnect_policy: is not supported yet",
    ] {
        assert!(warnings.contains(expected), "{warnings}");
    }
    let snapshot = outcome.snapshot();
    assert_eq!(snapshot.dump.unsupported, ["static_resources.clusters[0].preconnect_policy"]);
}
