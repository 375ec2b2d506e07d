//! Paths, suggestions, order and rendering.

use super::{Diagnostic, Diagnostics, FieldPath, Location, did_you_mean, quoted};

fn at(line: u32, column: u32) -> Option<Location> {
    Some(Location { source: "a.yaml".into(), line, column })
}

#[test]
fn paths_read_back_as_written() {
    for text in [
        "",
        "admin",
        "static_resources.listeners[2].filter_chains[0].filters[0].typed_config",
        "metadata.filter_metadata[\"envoy.lb\"].a",
        "a[0][1]",
        "typed_per_filter_config[\"a.b[c]\"].x",
    ] {
        assert_eq!(FieldPath::parse(text).to_string(), text);
    }
    for text in ["[", "]", "[\"", "a[", "a..b", ".", "é[x]", "[99999999999999999999]"] {
        let _ = FieldPath::parse(text).to_string();
    }
    let path = FieldPath::root().field("listeners").index(2).key("x");
    assert_eq!((path.to_string().as_str(), path.len()), ("listeners[2][\"x\"]", 3));
}

#[test]
fn suggestions() {
    let names = ["cluster", "cluster_header", "weighted_clusters", "stat_prefix", "max_connect_attempts"];
    let check = |found: &str, expected: Option<&str>| assert_eq!(did_you_mean(found, names), expected, "{found}");
    check("clusters", Some("cluster"));
    check("clutser", Some("cluster"));
    check("statPrefix", Some("stat_prefix"));
    check("stat-prefix", Some("stat_prefix"));
    check("max_conect_atempts", Some("max_connect_attempts"));
    check("foo", None);
    check("", None);
    check(&"x".repeat(10_000), None);
}

#[test]
fn quoting_escapes_and_cuts() {
    assert_eq!(quoted("a\nb`c"), "`a\\nb'c`");
    assert_eq!(quoted(&"x".repeat(500)).chars().count(), 83);
}

#[test]
fn findings_are_sorted_and_not_repeated() {
    let mut diagnostics = Diagnostics::new();
    diagnostics.push(Diagnostic::error("b", "second").at(at(2, 1)));
    diagnostics.push(Diagnostic::warning("a", "first").at(at(1, 9)).hint("do it"));
    diagnostics.push(Diagnostic::error("b", "second").at(at(2, 1)));
    diagnostics.push(Diagnostic::error("", "nowhere"));
    let text = "a.yaml:1:9: warning: a: first\n  hint: do it\na.yaml:2:1: error: b: second\nerror: nowhere\n";
    assert_eq!(diagnostics.to_string(), text);
    let json = "{\"diagnostics\":[\n {\"severity\":\"warning\",\"source\":\"a.yaml\",\"line\":1,\"column\":9,\"path\":\"a\",\
        \"message\":\"first\",\"hint\":\"do it\"},\n {\"severity\":\"error\",\"source\":\"a.yaml\",\"line\":2,\"column\":1,\
        \"path\":\"b\",\"message\":\"second\"},\n {\"severity\":\"error\",\"path\":\"\",\"message\":\"nowhere\"}\n],\"dropped\":0}";
    assert_eq!(diagnostics.to_json(), json);
    assert!(diagnostics.has_errors());
}

#[test]
fn a_flood_of_findings_is_counted() {
    let mut diagnostics = Diagnostics::new();
    for line in 0..5000 {
        diagnostics.push(Diagnostic::warning("", "w").at(at(line, 1)));
    }
    diagnostics.push(Diagnostic::error("", "the error").at(at(9999, 1)));
    assert_eq!((diagnostics.iter().count(), diagnostics.dropped()), (1001, 4000));
    assert!(diagnostics.has_errors() && diagnostics.to_string().contains("the error"));
}
