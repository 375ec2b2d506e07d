use super::resources::{Kind, Source};
use super::*;
use nuncio_config::{Format, LoadOptions, Source as Text, load};

const CONFIG: &str = r#"
node: {id: "n", cluster: c}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 1}}}
static_resources:
  listeners:
  - name: l1
    address: {socket_address: {address: 127.0.0.1, port_value: 2}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: x
          route_config: {name: r1, virtual_hosts: [{name: v, domains: ["*"]}]}
    default_filter_chain:
      filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: "y"
          route_config: {name: r2}
  - address: {pipe: {path: /x}}
  clusters:
  - {name: c1, connect_timeout: 1s}
  - {name: c2}
  secrets:
  - {name: s1, generic_secret: {secret: {inline_string: hidden}}}
"#;

fn source() -> Source {
    let text = Text::new("test", CONFIG.as_bytes().to_vec(), Format::Yaml);
    let loaded = load(&[text], "envoy.config.bootstrap.v3.Bootstrap", &LoadOptions::default());
    assert!(!loaded.diagnostics.has_errors(), "{}", loaded.diagnostics);
    Source::of_bootstrap(&loaded.wire)
}

fn plan(names: &str, mask: &str) -> Plan {
    let names = Some(names).filter(|names| !names.is_empty()).map(|names| compile(names).unwrap());
    let mask = Some(mask).filter(|mask| !mask.is_empty()).map(Mask::parse);
    Plan { source: source(), names, mask, steps: Vec::new() }
}

fn written(mut plan: Plan) -> String {
    plan.steps.reverse();
    let updated = timestamp(UNIX_EPOCH);
    let mut dump = Dump { source: plan.source, mask: plan.mask, updated, steps: plan.steps };
    let mut out = Vec::new();
    while dump.fill(&mut out) {}
    String::from_utf8(out).unwrap()
}

#[test]
fn names_of_resources() {
    let source = source();
    let check = |kind, expected: &[&str]| {
        let resources = source.resources(kind);
        let names: Vec<String> = resources.iter().map(|resource| source.name(kind, resource)).collect();
        assert_eq!(names, expected, "{kind:?}");
    };
    check(Kind::Cluster, &["c1", "c2"]);
    check(Kind::Listener, &["l1", ""]);
    check(Kind::Route, &["r1", "r2"]);
    check(Kind::Secret, &["s1"]);
    check(Kind::Endpoint, &[]);
}

#[test]
fn one_list() {
    let check = |resource: &str, names: &str, mask: &str, expected: Result<&str, (u16, &str)>| {
        let mut plan = plan(names, mask);
        let done = plan.one_list(&sections(&source()), resource);
        match expected {
            Ok(expected) => {
                assert_eq!(done, Ok(()));
                assert_eq!(written(plan), expected);
            }
            Err((status, text)) => assert_eq!(done, Err((status, text.to_owned()))),
        }
    };
    let cluster = "{\n \"configs\": [\n  {\n   \
        \"@type\": \"type.googleapis.com/envoy.admin.v3.ClustersConfigDump.StaticCluster\",\n   \
        \"cluster\": {\n    \"@type\": \"type.googleapis.com/envoy.config.cluster.v3.Cluster\",\n    \"name\": \"c1\"\n   }\n  }\n ]\n}\n";
    check("static_clusters", "c1", "cluster.name", Ok(cluster));
    check("static_clusters", ".1", "cluster.name", Ok(cluster));
    check("static_clusters", "c", "", Ok("{}\n"));
    check("dynamic_active_clusters", "", "", Ok("{}\n"));
    check("static_clusters", "", "name", Err((400, "FieldMask name could not be successfully used.")));
    check(
        "static_route_configs",
        "",
        "route_config.virtual_hosts.name",
        Err((400, "FieldMask route_config.virtual_hosts.name could not be successfully used.")),
    );
    check("nope", "", "", Err((404, "nope not found in config dump")));
    check("static_endpoint_configs", "", "", Err((404, "static_endpoint_configs not found in config dump")));
    let single = "bootstrap is not a repeated field. Use ?mask=bootstrap to get only this field";
    check("bootstrap", "", "", Err((400, single)));
    let mut secrets = plan("", "");
    secrets.one_list(&sections(&source()), "static_secrets").unwrap();
    let secrets = written(secrets);
    assert!(secrets.contains("[redacted]") && !secrets.contains("hidden"), "{secrets}");
}

#[test]
fn sections_and_masks() {
    let check = |mask: &str, expected: &[&str]| {
        let mask = Mask::parse(mask);
        let fitting = sections(&source()).into_iter().filter(|(message, _)| mask.check(*message).is_ok());
        let names: Vec<&str> = fitting.map(|(message, _)| message.short_name()).collect();
        assert_eq!(names, expected, "{mask}");
    };
    check("bootstrap.node.id", &["BootstrapConfigDump"]);
    check("bootstrap.static_resources.clusters", &["BootstrapConfigDump"]);
    check("bootstrap.static_resources.clusters.name", &[]);
    check("version_info", &["ClustersConfigDump", "ListenersConfigDump"]);
    check("static_clusters", &["ClustersConfigDump"]);
    check("static_clusters.cluster.name,bootstrap.node.cluster", &[]);
    check("nope", &[]);
}

#[test]
fn trimmed_messages() {
    let source = source();
    let message = Schema::message("envoy.config.bootstrap.v3.Bootstrap").unwrap();
    let check = |mask: &str, expected: &str| {
        let trimmed = Mask::parse(mask).trim(&source.bootstrap, message);
        let mut out = String::new();
        let options = JsonOptions { compact: true, ..JsonOptions::default() };
        write_message(&mut out, &trimmed, message, options);
        assert_eq!(out, expected, "{mask}");
    };
    check("node.id", r#"{"node":{"id":"n"}}"#);
    check("node", r#"{"node":{"id":"n","cluster":"c"}}"#);
    check("node.id,node.cluster", r#"{"node":{"id":"n","cluster":"c"}}"#);
    check("node.locality.zone", r#"{"node":{}}"#);
    check(
        "static_resources.clusters",
        r#"{"static_resources":{"clusters":[{"name":"c1","connect_timeout":"1s"},{"name":"c2"}]}}"#,
    );
    check("stats_sinks", "{}");
}

#[test]
fn the_node_is_replaced() {
    let message = Schema::message("envoy.config.bootstrap.v3.Bootstrap").unwrap();
    let mut node = Vec::new();
    put_bytes(&mut node, 1, b"other");
    let bytes = Mask::parse("node").trim(&with_node(&source().bootstrap, &node), message);
    let mut out = String::new();
    write_message(&mut out, &bytes, message, JsonOptions { compact: true, ..JsonOptions::default() });
    assert_eq!(out, r#"{"node":{"id":"other"}}"#);
}

#[test]
fn patterns_match_whole_names() {
    let check = |pattern: &str, name: &str, expected: bool| {
        assert_eq!(compile(pattern).unwrap().is_match(name), expected, "{pattern} {name}");
    };
    check("l", "l2", false);
    check("l.", "l2", true);
    check("a|b", "ab", false);
    assert_eq!(compile("(").unwrap_err().0, 400);
    assert_eq!(compile(")(").unwrap_err().0, 400);
}
