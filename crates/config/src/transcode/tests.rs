//! What Envoy's loader accepts becomes the same message, and what it refuses is refused, as tried out with Envoy 1.40.

use super::{Options, transcode};
use crate::diagnostics::Diagnostics;
use crate::json::{JsonOptions, to_json};
use crate::source::{Format, Source};
use crate::tree::Tree;
use nuncio_api::schema::Schema;

const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";
const NODE: &str = "envoy.config.core.v3.Node";
const FILTER: &str = "envoy.config.listener.v3.Filter";

fn run(message: &str, yaml: &str, options: Options) -> (String, Diagnostics) {
    let message = Schema::message(message).expect(message);
    let mut diagnostics = Diagnostics::new();
    let Some(tree) = Tree::parse(&Source::new("t", yaml, Format::Yaml), &mut diagnostics) else {
        return (String::new(), diagnostics);
    };
    let part = transcode(&tree, message, options, &mut diagnostics);
    (to_json(&part.wire, message, JsonOptions { compact: true, ..JsonOptions::default() }), diagnostics)
}

fn accepts(message: &str, yaml: &str, expected: &str) {
    let (json, diagnostics) = run(message, yaml, Options::default());
    assert!(!diagnostics.has_errors(), "{yaml}: {diagnostics}");
    assert_eq!(json, expected, "{yaml}");
}

/// All findings, without their hints.
fn refuses(message: &str, yaml: &str, expected: &[&str]) {
    let (_, diagnostics) = run(message, yaml, Options::default());
    let found: Vec<String> =
        diagnostics.to_string().lines().filter(|it| !it.starts_with("  hint")).map(str::to_owned).collect();
    assert_eq!(found, expected, "{yaml}");
    assert!(diagnostics.has_errors());
}

fn hints(message: &str, yaml: &str, expected: &str) {
    let (_, diagnostics) = run(message, yaml, Options::default());
    let found: Vec<_> = diagnostics.iter().filter_map(|it| it.hint.as_deref()).collect();
    assert_eq!(found, [expected], "{yaml}: {diagnostics}");
}

#[test]
fn keys_in_either_spelling() {
    accepts(CLUSTER, "{name: c, connectTimeout: 1s, lb_policy: RANDOM}", {
        r#"{"name":"c","connect_timeout":"1s","lb_policy":"RANDOM"}"#
    });
    refuses(
        CLUSTER,
        "{name: c, altStatName: a, alt_stat_name: b}",
        &["t:1:27: error: alt_stat_name: the field is given twice, first as `altStatName` at t:1:11"],
    );
}

#[test]
fn booleans() {
    for text in ["true", "yes", "on", "tRUE", "\"yes\"", "'1'", "T"] {
        accepts(CLUSTER, &format!("respect_dns_ttl: {text}"), r#"{"respect_dns_ttl":true}"#);
    }
    for text in ["false", "~", "", "\"0\""] {
        accepts(CLUSTER, &format!("respect_dns_ttl: {text}"), "{}");
    }
    for (text, found) in
        [("1", "the number `1`"), ("x", "the string `x`"), ("{}", "an empty mapping"), ("[]", "a list")]
    {
        let expected = format!("t:1:32: error: ignore_health_on_host_removal: found {found}, expected true or false");
        refuses(CLUSTER, &format!("ignore_health_on_host_removal: {text}"), &[&expected]);
    }
}

#[test]
fn whole_numbers() {
    let field = "per_connection_buffer_limit_bytes";
    for (text, expected) in [
        ("5", "5"),
        ("0x10", "16"),
        ("010", "8"),
        ("08", "8"),
        ("1e3", "1000"),
        ("1.0", "1"),
        ("\"5\"", "5"),
        ("\"0x10\"", "16"),
        ("+5", "5"),
        ("4294967295", "4294967295"),
        ("{value: 7}", "7"),
        ("0", "0"),
    ] {
        accepts(CLUSTER, &format!("{field}: {text}"), &format!("{{\"{field}\":{expected}}}"));
    }
    let expected = "expected a whole number from 0 to 4294967295";
    for (text, found) in [
        ("1.5", "found the fraction `1.5`,"),
        ("-1", "`-1` is out of range,"),
        ("4294967296", "`4294967296` is out of range,"),
        ("1_000", "found the string `1_000`,"),
        ("\"5 \"", "found the string `5 `,"),
        ("\"\"", "found the string ``,"),
        ("true", "found the boolean `true`,"),
        ("[5]", "found a list,"),
    ] {
        refuses(CLUSTER, &format!("{field}: {text}"), &[&format!("t:1:36: error: {field}: {found} {expected}")]);
    }
    accepts("google.protobuf.Duration", "{seconds: \"9223372036854775807\"}", "\"9223372036854775807s\"");
}

#[test]
fn floats() {
    let message = "envoy.type.v3.Percent";
    for (text, expected) in [
        ("5", "5"),
        ("5.5", "5.5"),
        ("\"5.5\"", "5.5"),
        ("1e2", "100"),
        ("NaN", "\"NaN\""),
        ("-inf", "\"-Infinity\""),
        ("1e400", "\"Infinity\""),
    ] {
        accepts(message, &format!("value: {text}"), &format!("{{\"value\":{expected}}}"));
    }
    for text in [".inf", ".nan", "abc", "1_0.5"] {
        refuses(
            message,
            &format!("value: {text}"),
            &[&format!("t:1:8: error: value: found the string `{text}`, expected a number")],
        );
    }
}

#[test]
fn strings() {
    accepts(CLUSTER, "alt_stat_name: 1.5", r#"{"alt_stat_name":"1.5"}"#);
    accepts(CLUSTER, "alt_stat_name: 4294967296", r#"{"alt_stat_name":"4294967296"}"#);
    accepts(CLUSTER, "alt_stat_name: 2001-01-01", r#"{"alt_stat_name":"2001-01-01"}"#);
    accepts(CLUSTER, "alt_stat_name: ''", "{}");
    refuses(CLUSTER, "alt_stat_name: 5", &["t:1:16: error: alt_stat_name: found the number `5`, expected a string"]);
    hints(CLUSTER, "alt_stat_name: yes", "put it in quotes: \"yes\"");
    accepts(CLUSTER, "eds_cluster_config: {service_name: ''}", r#"{"eds_cluster_config":{}}"#);
    accepts("envoy.config.core.v3.DataSource", "inline_string: ''", r#"{"inline_string":""}"#);
    accepts("envoy.config.core.v3.DataSource", "inline_bytes: aGk", r#"{"inline_bytes":"aGk="}"#);
    refuses(
        "envoy.config.core.v3.DataSource",
        "inline_bytes: a b",
        &["t:1:15: error: inline_bytes: found the string `a b`, expected base64"],
    );
}

#[test]
fn enums() {
    for text in ["STRICT_DNS", "Strict_Dns", "strict_dns", "1", "\"1\"", "0x1"] {
        accepts(CLUSTER, &format!("type: {text}"), r#"{"type":"STRICT_DNS"}"#);
    }
    accepts(CLUSTER, "type: 99", r#"{"type":99}"#);
    refuses(CLUSTER, "type: STATC", &["t:1:7: error: type: unknown value `STATC` of DiscoveryType"]);
    hints(CLUSTER, "type: strict-dns", "did you mean STRICT_DNS?");
    refuses(CLUSTER, "type: 1.0", &["t:1:7: error: type: unknown value `1.0` of DiscoveryType"]);
    refuses(
        CLUSTER,
        "type: true",
        &["t:1:7: error: type: found the boolean `true`, expected a value of DiscoveryType"],
    );
}

#[test]
fn durations() {
    for (text, expected) in
        [("1.5s", "1.500s"), ("01s", "1s"), ("{seconds: 1, nanos: 5}", "1.000000005s"), ("-1s", "-1s"), ("{}", "0s")]
    {
        accepts(CLUSTER, &format!("connect_timeout: {text}"), &format!("{{\"connect_timeout\":\"{expected}\"}}"));
    }
    for text in ["1", "1ms", "1S", ".5s", "1.s", "+1s", "1e3s", "1.1234567890s"] {
        let (_, diagnostics) = run(CLUSTER, &format!("connect_timeout: {text}"), Options::default());
        assert!(diagnostics.to_string().contains("expected a duration such as `1.5s`"), "{text}: {diagnostics}");
    }
    hints(CLUSTER, "connect_timeout: 250ms", "write it in seconds: `0.25s`");
    refuses(
        CLUSTER,
        "connect_timeout: 315576000001s",
        &["t:1:18: error: connect_timeout: `315576000001s` is longer than a duration can be"],
    );
}

#[test]
fn lists() {
    for text in ["a", "[a]", "[[a]]", "[a,]"] {
        accepts(NODE, &format!("client_features: {text}"), r#"{"client_features":["a"]}"#);
    }
    accepts(NODE, "client_features: [[a, b], c]", r#"{"client_features":["a","b","c"]}"#);
    accepts(NODE, "client_features: [a, ~]", r#"{"client_features":["a",""]}"#);
    accepts(NODE, "client_features: []", "{}");
    accepts(NODE, "client_features: ~", "{}");
    let resources = "envoy.config.bootstrap.v3.Bootstrap.StaticResources";
    for text in ["{name: c}", "[{name: c}]", "[[{name: c}]]"] {
        accepts(resources, &format!("clusters: {text}"), r#"{"clusters":[{"name":"c"}]}"#);
    }
    refuses(
        resources,
        "clusters: [5, {nam: x}, {name: z, foo: 1}]",
        &[
            "t:1:12: error: clusters[0]: found the number `5`, expected a mapping of the fields of Cluster",
            "t:1:16: error: clusters[1].nam: unknown field `nam` of Cluster",
            "t:1:35: error: clusters[2].foo: unknown field `foo` of Cluster",
        ],
    );
    let settings = "envoy.config.metrics.v3.HistogramBucketSettings";
    accepts(settings, "buckets: [1, 2.5, '3']", r#"{"buckets":[1,2.5,3]}"#);
    accepts(settings, "buckets: []", "{}");
    let retry = "envoy.config.route.v3.RetryPolicy";
    accepts(retry, "retriable_status_codes: [503, 429]", r#"{"retriable_status_codes":[503,429]}"#);
}

#[test]
fn oneofs() {
    accepts("envoy.config.route.v3.RouteMatch", "{prefix: /, path: ~}", r#"{"prefix":"/"}"#);
    refuses(
        "envoy.config.route.v3.RouteMatch",
        "{prefix: /, path: /a}",
        &[
            "t:1:13: error: path: `path` can't be set beside `prefix` at t:1:2: only one field of `path_specifier` may be",
        ],
    );
}

#[test]
fn maps_and_structs() {
    accepts(
        "envoy.config.core.v3.Metadata",
        "filter_metadata: {a: {b: 1}, c: ~}",
        r#"{"filter_metadata":{"a":{"b":1},"c":{}}}"#,
    );
    accepts(NODE, "metadata: {a: [1, 1.5, true, ~, x, {b: {}}], 5: yes, ~: 4294967296}", {
        r#"{"metadata":{"a":[1,"1.5",true,null,"x",{"b":{}}],"5":true,"~":"4294967296"}}"#
    });
    refuses(NODE, "metadata: []", &["t:1:11: error: metadata: found a list, expected a mapping"]);
    let deep = format!("metadata: {{a: {}1{}}}", "{b: ".repeat(60), "}".repeat(60));
    assert!(run(NODE, &deep, Options::default()).1.to_string().contains("messages are nested deeper than"));
}

#[test]
fn anys() {
    let echo = "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo";
    let tcp = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    let check = |yaml: &str, expected: &str| {
        accepts(
            FILTER,
            &format!("{{name: x, typed_config: {yaml}}}"),
            &format!("{{\"name\":\"x\",\"typed_config\":{expected}}}"),
        );
    };
    check(&format!("{{\"@type\": {echo}}}"), &format!("{{\"@type\":\"{echo}\"}}"));
    check(
        &format!("{{stat_prefix: a, \"@type\": {tcp}, cluster: c}}"),
        &format!("{{\"@type\":\"{tcp}\",\"stat_prefix\":\"a\",\"cluster\":\"c\"}}"),
    );
    check(&format!("{{\"@type\": host/{}}}", &echo[20..]), &format!("{{\"@type\":\"{echo}\"}}"));
    check("{}", "{}");
    for package in ["udpa.type.v1", "xds.type.v3"] {
        let typed = format!("\"@type\": type.googleapis.com/{package}.TypedStruct");
        let expected = format!("{{\"@type\":\"{tcp}\",\"stat_prefix\":\"a\",\"cluster\":\"c\"}}");
        check(&format!("{{{typed}, type_url: {tcp}, value: {{stat_prefix: a, cluster: c}}}}"), &expected);
        check(&format!("{{{typed}, typeUrl: {echo}}}"), &format!("{{\"@type\":\"{echo}\"}}"));
        let inner = format!("type_url: {tcp}, value: {{stat_prefix: a, cluster: c}}");
        check(
            &format!("{{{typed}, type_url: type.googleapis.com/{package}.TypedStruct, value: {{{inner}}}}}"),
            &expected,
        );
    }
    let prefix = "type.googleapis.com/google.protobuf.";
    check(
        &format!("{{\"@type\": {prefix}Struct, value: {{a: b}}}}"),
        &format!("{{\"@type\":\"{prefix}Struct\",\"value\":{{\"a\":\"b\"}}}}"),
    );
    check(
        &format!("{{\"@type\": {prefix}Int64Value, value: \"5\"}}"),
        &format!("{{\"@type\":\"{prefix}Int64Value\",\"value\":\"5\"}}"),
    );
    check(&format!("{{\"@type\": {prefix}Empty}}"), &format!("{{\"@type\":\"{prefix}Empty\"}}"));
}

#[test]
fn wrong_anys() {
    let check = |yaml: &str, expected: &str, hint: &str| {
        let yaml = format!("typed_config: {yaml}");
        refuses(FILTER, &yaml, &[expected]);
        hints(FILTER, &yaml, hint);
    };
    check("{type_url: x}", "t:1:15: error: typed_config: the `@type` is missing", {
        "add `\"@type\": type.googleapis.com/…`, the type of the fields that follow"
    });
    check(
        "{\"@type\": envoy.extensions.filters.network.echo.v3.Echo}",
        "t:1:25: error: typed_config: `envoy.extensions.filters.network.echo.v3.Echo` is not a type URL",
        "write type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo",
    );
    check(
        "{\"@type\": type.googleapis.com/envoy.config.filter.network.tcp_proxy.v2.TcpProxy}",
        "t:1:25: error: typed_config: unknown type `type.googleapis.com/envoy.config.filter.network.tcp_proxy.v2.TcpProxy`",
        "did you mean type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy?",
    );
    check(
        "{\"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpPorxy}",
        "t:1:25: error: typed_config: unknown type `type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpPorxy`",
        "did you mean type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy?",
    );
    refuses(
        FILTER,
        "typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo, value: {}}",
        &["t:1:92: error: typed_config.value: unknown field `value` of Echo"],
    );
    refuses(
        FILTER,
        "typed_config: 5",
        &["t:1:15: error: typed_config: found the number `5`, expected a mapping with an `@type`"],
    );
}

#[test]
fn extensions_by_name_alone() {
    let http = "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    for name in ["envoy.filters.http.router", "envoy.router"] {
        let expected = format!("{{\"name\":\"{name}\",\"typed_config\":{{\"@type\":\"{router}\"}}}}");
        accepts(http, &format!("name: {name}"), &expected);
        accepts(http, &format!("{{name: {name}, typed_config: ~}}"), &expected);
        hints(http, &format!("name: {name}"), &format!("add `typed_config: {{\"@type\": {router}}}`"));
    }
    accepts(http, "{name: something, is_optional: true}", r#"{"name":"something","is_optional":true}"#);
    refuses(
        http,
        "name: envoy.filters.http.ruoter",
        &["t:1:7: error: `envoy.filters.http.ruoter` has no `typed_config`, and no extension of this name is known"],
    );
    hints(http, "name: envoy.filters.http.ruoter", "did you mean envoy.filters.http.router?");
    hints(http, "name: mine", "add a `typed_config` with an `@type`");
    hints(http, "name: envoy.tcp_proxy", "add a `typed_config` with an `@type`");
    accepts(http, "{name: envoy.filters.http.router, config_discovery: {}}", {
        r#"{"name":"envoy.filters.http.router","config_discovery":{}}"#
    });
}

#[test]
fn unknown_fields_are_errors_unless_allowed() {
    let (json, diagnostics) = run(CLUSTER, "{name: c, foo: 1, type: STATC}", Options { allow_unknown: true });
    assert_eq!(json, r#"{"name":"c"}"#);
    let text = "t:1:11: warning: foo: unknown field `foo` of Cluster; it is ignored\n\
        t:1:25: warning: type: unknown value `STATC` of DiscoveryType; it is ignored\n  hint: did you mean STATIC?\n";
    assert_eq!(diagnostics.to_string(), text);
}

#[test]
fn hints_for_wrong_keys() {
    hints("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "clusters: x", {
        "did you mean `cluster`, or a cluster under `static_resources.clusters`?"
    });
    hints(CLUSTER, "conect_timeout: 1s", "did you mean `connect_timeout`?");
    hints(CLUSTER, "hosts: []", "use `load_assignment` with `endpoints`");
    hints(FILTER, "config: {}", "use `typed_config` with an `@type`");
    hints(NODE, "<<: {}", "YAML merge keys are not supported; repeat the fields, or use an alias for a whole value");
    hints("envoy.config.core.v3.Pipe", "xyz: 1", "Pipe has the fields mode, path");
}

#[test]
fn deprecated_fields_work_with_a_warning() {
    let matcher = "envoy.config.route.v3.HeaderMatcher";
    accepts(matcher, "{name: a, exact_match: b}", r#"{"name":"a","exact_match":"b"}"#);
    let (_, diagnostics) = run(matcher, "{name: a, exact_match: b}", Options::default());
    let text =
        "t:1:11: warning: exact_match: the field `exact_match` is deprecated\n  hint: use `string_match: {exact: …}`\n";
    assert_eq!(diagnostics.to_string(), text);
}

#[test]
fn structs_that_came_over_the_wire_are_unwrapped() {
    let filter = Schema::message(FILTER).unwrap();
    let tcp = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    // A TypedStruct is kept as it is in the text format, where an Any says what it holds.
    let text = format!(
        "name: 'x' typed_config {{ [type.googleapis.com/xds.type.v3.TypedStruct] {{ type_url: '{tcp}' value {{ \
         fields {{ key: 'stat_prefix' value {{ string_value: 'a' }} }} fields {{ key: 'max_connect_attempts' value {{ number_value: 3 }} }} \
         }} }} }}"
    );
    let mut diagnostics = Diagnostics::new();
    let tree = Tree::parse(&Source::new("t", text, Format::Text), &mut diagnostics).unwrap();
    let part = transcode(&tree, filter, Options::default(), &mut diagnostics);
    let unwrapped = super::unwrap_typed_structs(&part.wire, filter, Options::default(), &mut diagnostics);
    let json = to_json(&unwrapped, filter, JsonOptions { compact: true, ..JsonOptions::default() });
    assert!(diagnostics.is_empty(), "{diagnostics}");
    assert_eq!(
        json,
        format!(
            "{{\"name\":\"x\",\"typed_config\":{{\"@type\":\"{tcp}\",\"stat_prefix\":\"a\",\"max_connect_attempts\":3}}}}"
        )
    );
}
