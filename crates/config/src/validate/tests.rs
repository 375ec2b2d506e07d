//! Rules of real Envoy messages, with the answers of Envoy 1.40; and the numbers of the rules themselves.

use crate::source::{Format, LoadOptions, Source, load};
use nuncio_api::schema::Schema;

const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";
const ROUTE: &str = "envoy.config.route.v3.Route";

fn check(message: &str, yaml: &str, expected: &[&str]) {
    let loaded = load(&[Source::new("t", yaml, Format::Yaml)], message, &LoadOptions::default());
    let errors: Vec<String> = loaded
        .diagnostics
        .sorted()
        .into_iter()
        .filter(|it| it.severity == crate::Severity::Error)
        .map(|it| it.to_string().lines().next().unwrap_or_default().replace(": error", ""))
        .collect();
    assert_eq!(errors, expected, "{yaml}");
}

#[test]
fn strings() {
    check(ROUTE, "{match: {prefix: ''}, redirect: {}}", &[]);
    check(ROUTE, "{match: {prefix: /}, route: {cluster: ''}}", &["t:1:39: route.cluster: must not be empty"]);
    check(
        ROUTE,
        "{match: {prefix: /}, redirect: {host_redirect: \"a\\nb\"}}",
        &["t:1:48: redirect.host_redirect: found `a\\nb`, expected no line break and no NUL"],
    );
    check(ROUTE, "{match: {prefix: /, headers: [{name: a b}]}, redirect: {}}", &[]);
    check(
        ROUTE,
        "{match: {prefix: /, headers: [{name: ''}]}, redirect: {}}",
        &["t:1:38: match.headers[0].name: must not be empty"],
    );
    check(
        ROUTE,
        "{match: {path_separated_prefix: a}, redirect: {}}",
        &["t:1:33: match.path_separated_prefix: found `a`, expected a match of the pattern `^[^?#]+[^?#/]$`"],
    );
}

#[test]
fn numbers() {
    check(
        ROUTE,
        "{match: {prefix: /}, direct_response: {status: 99}}",
        &["t:1:48: direct_response.status: found 99, expected at least 200 and less than 600"],
    );
    check(
        BOOTSTRAP,
        "admin: {address: {socket_address: {address: a, port_value: 70000}}}",
        &["t:1:60: admin.address.socket_address.port_value: found 70000, expected at most 65535"],
    );
    check(
        BOOTSTRAP,
        "admin: {address: {pipe: {path: '', mode: 512}}}",
        &[
            "t:1:32: admin.address.pipe.path: must not be empty",
            "t:1:42: admin.address.pipe.mode: found 512, expected at most 511",
        ],
    );
    let tcp = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    check(
        tcp,
        "{stat_prefix: a, cluster: x, max_connect_attempts: 0}",
        &["t:1:52: max_connect_attempts: found 0, expected at least 1"],
    );
    check("envoy.type.v3.Percent", "value: 100.5", &["t:1:8: value: found 100.5, expected at least 0 and at most 100"]);
    check("envoy.type.v3.Percent", "value: NaN", &[]);
    check("envoy.type.v3.Percent", "value: inf", &["t:1:8: value: found inf, expected at least 0 and at most 100"]);
}

#[test]
fn enums() {
    check(
        "envoy.config.cluster.v3.Cluster",
        "{name: c, type: 99}",
        &[
            "t:1:17: type: found 99, expected one of STATIC (0), STRICT_DNS (1), LOGICAL_DNS (2), EDS (3), ORIGINAL_DST (4)",
        ],
    );
    check(
        "envoy.config.cluster.v3.Cluster",
        "{name: c, lb_policy: 4}",
        &[
            "t:1:22: lb_policy: found 4, expected one of ROUND_ROBIN (0), LEAST_REQUEST (1), RING_HASH (2), RANDOM (3), MAGLEV (5), \
         CLUSTER_PROVIDED (6), LOAD_BALANCING_POLICY_CONFIG (7)",
        ],
    );
}

#[test]
fn durations() {
    let check_interval = |text: &str, found: Option<&str>| {
        let expected = found.map(|found| {
            format!("t:1:23: stats_flush_interval: found {found}, expected at least 0.001s and less than 300s")
        });
        check(
            BOOTSTRAP,
            &format!("stats_flush_interval: {text}"),
            &expected.iter().map(String::as_str).collect::<Vec<_>>(),
        );
    };
    check_interval("299.999s", None);
    check_interval("300s", Some("300s"));
    check_interval("0.0001s", Some("0.0001s"));
    check_interval("-1.5s", Some("-1.5s"));
}

#[test]
fn required() {
    check(
        ROUTE,
        "{match: {prefix: /}}",
        &[
            "t:1:1: one of these fields of Route must be set: route, redirect, direct_response, filter_action, non_forwarding_action",
        ],
    );
    check(ROUTE, "{redirect: {}}", &["t:1:1: match: must be set, to a mapping of the fields of RouteMatch"]);
    check(
        BOOTSTRAP,
        "default_config_source: {}",
        &[
            "t:1:1: default_config_source: one of these fields of ConfigSource must be set: api_config_source, ads, self, \
         path_config_source",
        ],
    );
    check(
        "envoy.config.core.v3.TypedExtensionConfig",
        "{name: x}",
        &["t:1:1: typed_config: must be set, to a mapping with an `@type`"],
    );
    // What is required in a message field of a oneof is so only where that field is set.
    check("envoy.config.route.v3.RouteMatch", "{prefix: /}", &[]);
}

#[test]
fn lists_and_maps() {
    let host = "envoy.config.route.v3.VirtualHost";
    check(host, "{name: v, domains: []}", &["t:1:11: domains: must have at least one element"]);
    check(host, "{name: v, domains: [~]}", &[]);
    check(
        host,
        "{name: v, domains: [a], request_headers_to_remove: [b, '']}",
        &["t:1:56: request_headers_to_remove[1]: must not be empty"],
    );
    let settings = "envoy.config.metrics.v3.HistogramBucketSettings";
    check(
        settings,
        "{match: {exact: a}, buckets: [1, 2, 1]}",
        &["t:1:37: buckets[2]: `1` is given before, expected unique values"],
    );
    check(settings, "{match: {exact: a}, buckets: [0]}", &["t:1:31: buckets[0]: found 0, expected more than 0"]);
    check(settings, "{match: {exact: a}, buckets: []}", &[]);
    check(
        BOOTSTRAP,
        "certificate_provider_instances: {a: {name: ''}}",
        &[
            "t:1:34: certificate_provider_instances[\"a\"].typed_config: must be set, to a mapping with an `@type`",
            "t:1:44: certificate_provider_instances[\"a\"].name: must not be empty",
        ],
    );
}

#[test]
fn payloads_are_checked() {
    let filter = "envoy.config.listener.v3.Filter";
    let tcp = "\"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    check(
        filter,
        &format!("name: x\ntyped_config:\n  {tcp}\n  stat_prefix: ''\n"),
        &[
            "t:2:1: typed_config: one of these fields of TcpProxy must be set: cluster, weighted_clusters",
            "t:4:16: typed_config.stat_prefix: must not be empty",
        ],
    );
}

#[test]
fn nothing_is_said_twice() {
    let tcp = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    check(tcp, "{stat_prefix: a, clusters: x}", &["t:1:18: clusters: unknown field `clusters` of TcpProxy"]);
    check(
        tcp,
        "{stat_prefix: 5, cluster: {}}",
        &[
            "t:1:15: stat_prefix: found the number `5`, expected a string",
            "t:1:27: cluster: found an empty mapping, expected a string",
        ],
    );
    let resources = "envoy.config.bootstrap.v3.Bootstrap.StaticResources";
    check(
        resources,
        "clusters: [x, {}]",
        &[
            "t:1:12: clusters[0]: found the string `x`, expected a mapping of the fields of Cluster",
            "t:1:15: clusters[1].name: must not be empty",
        ],
    );
}

#[test]
fn the_numbers_of_the_rules_are_those_of_the_schema() {
    use super::rules::*;
    for (message, rules) in [
        (
            "FieldRules",
            &[
                (FLOAT, "float"),
                (SFIXED64, "sfixed64"),
                (BOOL, "bool"),
                (STRING, "string"),
                (BYTES, "bytes"),
                (ENUM, "enum"),
                (MESSAGE, "message"),
                (REPEATED, "repeated"),
                (MAP, "map"),
                (ANY, "any"),
                (DURATION, "duration"),
                (TIMESTAMP, "timestamp"),
            ][..],
        ),
        (
            "EnumRules",
            &[(CONST, "const"), (ENUM_DEFINED_ONLY, "defined_only"), (ENUM_IN, "in"), (ENUM_NOT_IN, "not_in")],
        ),
        ("MessageRules", &[(MESSAGE_SKIP, "skip"), (MESSAGE_REQUIRED, "required")]),
        (
            "RepeatedRules",
            &[
                (REPEATED_MIN_ITEMS, "min_items"),
                (REPEATED_MAX_ITEMS, "max_items"),
                (REPEATED_UNIQUE, "unique"),
                (REPEATED_ITEMS, "items"),
                (REPEATED_IGNORE_EMPTY, "ignore_empty"),
            ],
        ),
        (
            "MapRules",
            &[
                (MAP_MIN_PAIRS, "min_pairs"),
                (MAP_MAX_PAIRS, "max_pairs"),
                (MAP_KEYS, "keys"),
                (MAP_VALUES, "values"),
                (MAP_IGNORE_EMPTY, "ignore_empty"),
            ],
        ),
        ("AnyRules", &[(ANY_REQUIRED, "required"), (ANY_IN, "in"), (ANY_NOT_IN, "not_in")]),
    ] {
        let message = Schema::message(&format!("validate.{message}")).unwrap();
        for (number, name) in rules {
            assert_eq!(message.field(*number).map(|field| field.name()), Some(*name), "{}", message.full_name());
        }
    }
}
