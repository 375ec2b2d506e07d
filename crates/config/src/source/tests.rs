//! Files, merging, and the way back from a path to a place.

use super::{Format, LoadOptions, Loaded, MAX_BYTES, Source, load};
use crate::diagnostics::FieldPath;
use crate::json::{JsonOptions, to_json};
use nuncio_api::schema::Schema;
use std::path::Path;

const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";

fn loaded(sources: &[Source]) -> Loaded {
    load(sources, BOOTSTRAP, &LoadOptions { skip_validation: true, ..LoadOptions::default() })
}

fn json(loaded: &Loaded) -> String {
    let options = JsonOptions { compact: true, ..JsonOptions::default() };
    to_json(&loaded.wire, Schema::message(BOOTSTRAP).unwrap(), options)
}

#[test]
fn formats_by_extension() {
    let check = |path: &str, expected: Format| assert_eq!(Format::of_path(Path::new(path)), expected, "{path}");
    check("a.yaml", Format::Yaml);
    check("a.YML", Format::Yaml);
    check("a.json", Format::Json);
    check("a.pb", Format::Binary);
    check("a.pb_text", Format::Text);
    check("a.conf", Format::Json);
    check("a", Format::Json);
}

#[test]
fn files_that_can_not_be_read() {
    let check = |path: &Path, expected: &str| {
        let error = Source::read(path).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    let directory = std::env::temp_dir().join(format!("nuncio-config-source-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    check(&directory.join("none.yaml"), "none.yaml: no such file");
    check(&directory, "is a directory, expected a file");
    let large = directory.join("large.yaml");
    std::fs::File::create(&large).unwrap().set_len(100 << 20).unwrap();
    check(&large, "is 104857600 bytes long, more than the 67108864 that are read");
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_text_in_memory_that_is_too_large() {
    let text = loaded(&[Source::new("--config-yaml", vec![b' '; MAX_BYTES as usize + 1], Format::Yaml)])
        .diagnostics
        .to_string();
    assert!(text.contains("more than the 67108864 that are read"), "{text}");
}

#[test]
fn sources_are_merged() {
    let base = "node: {id: a, cluster: b, metadata: {x: 1, y: {z: 1}}}\nstatic_resources: {clusters: [{name: c1}]}\nflags_path: f";
    let over = "node: {id: o, metadata: {x: 2, w: 3}}\nstatic_resources: {clusters: {name: c2}}\nflags_path: ''";
    let merged = loaded(&[Source::new("base", base, Format::Yaml), Source::new("--config-yaml", over, Format::Yaml)]);
    assert!(!merged.diagnostics.has_errors(), "{}", merged.diagnostics);
    let expected = r#"{"node":{"id":"o","cluster":"b","metadata":{"y":{"z":1},"x":2,"w":3}},"static_resources":{"clusters":[{"name":"c1"},{"name":"c2"}]},"flags_path":"f"}"#;
    assert_eq!(json(&merged), expected);
}

#[test]
fn findings_name_their_source() {
    let base = Source::new("base.yaml", "node: {id: 5}", Format::Yaml);
    let over = Source::new("--config-yaml", "\n\nnode: {foo: 1}", Format::Yaml);
    let text = loaded(&[base, over]).diagnostics.to_string();
    assert!(text.starts_with("base.yaml:1:12: error: node.id: found the number `5`, expected a string\n"), "{text}");
    assert!(text.contains("--config-yaml:3:8: error: node.foo: unknown field `foo` of Node"), "{text}");
}

#[test]
fn what_is_no_configuration() {
    let check = |text: &str, expected: &str| {
        let found = loaded(&[Source::new("t", text, Format::Yaml)]).diagnostics.to_string();
        assert!(found.starts_with(expected), "{found}");
    };
    check("", "error: t: found nothing, expected a mapping");
    check("# only a comment\n", "error: t: found nothing, expected a mapping");
    check("~", "t:1:1: error: found nothing, expected a mapping");
    check("[]", "t:1:1: error: found a list, expected a mapping");
    check("abc", "t:1:1: error: found the string `abc`, expected a mapping");
}

#[test]
fn serialised_messages() {
    let text = loaded(&[Source::new("t", "node: {id: a}", Format::Yaml)]);
    let binary = loaded(&[Source::new("t.pb", text.wire.clone(), Format::Binary)]);
    assert!(binary.diagnostics.is_empty(), "{}", binary.diagnostics);
    assert_eq!(binary.wire, text.wire);
    assert_eq!(binary.positions.locate(&FieldPath::parse("node")), None);
    let check = |bytes: &[u8], expected: &str| {
        let found = loaded(&[Source::new("t.pb", bytes, Format::Binary)]).diagnostics.to_string();
        assert_eq!(found, expected);
    };
    check(b"\x0a\xff", "error: t.pb: is not a serialised envoy.config.bootstrap.v3.Bootstrap\n");
    check(
        b"\x0a\x02\x0a\xff",
        "error: t.pb: is not a serialised envoy.config.bootstrap.v3.Bootstrap: node can't be read\n",
    );
    check(
        b"\x0a\x03\x0a\x01\xff",
        "error: t.pb: is not a serialised envoy.config.bootstrap.v3.Bootstrap: node.id can't be read\n",
    );
}

#[test]
fn places_of_paths() {
    let base = "\
node:
  id: x
  metadata: {a: {b: 1}}
staticResources:
  listeners:
  - name: l0
  - name: l1
    filterChains:
    - filters:
      - name: f
        typed_config:
          \"@type\": type.googleapis.com/xds.type.v3.TypedStruct
          type_url: type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          value:
            stat_prefix: p
  clusters:
    name: c0
";
    let over = "static_resources:\n  clusters: [{name: c1}, {name: c2}]\nnode: {id: q}\n";
    let sources = [Source::new("base", base, Format::Yaml), Source::new("over", over, Format::Yaml)];
    let loaded = loaded(&sources);
    assert!(!loaded.diagnostics.has_errors(), "{}", loaded.diagnostics);
    let check = |path: &str, expected: &str| {
        let found = loaded.positions.locate(&FieldPath::parse(path)).map(|it| it.to_string());
        assert_eq!(found.as_deref(), Some(expected), "{path}");
    };
    check("node.id", "over:3:12");
    check("node.metadata", "base:3:3");
    check("node.metadata[\"a\"]", "base:3:14");
    check("node.metadata[\"a\"][\"b\"]", "base:3:21");
    check("static_resources.listeners[0]", "base:6:5");
    check("static_resources.listeners[1].filter_chains", "base:8:5");
    check("static_resources.listeners[1].filter_chains[0].filters[0].name", "base:10:15");
    check("static_resources.listeners[1].filter_chains[0].filters[0].typed_config", "base:11:9");
    check("static_resources.listeners[1].filter_chains[0].filters[0].typed_config.stat_prefix", "base:15:26");
    check("static_resources.clusters[0].name", "base:17:11");
    check("static_resources.clusters[1].name", "over:2:21");
    check("static_resources.clusters[2].name", "over:2:33");
    // What is not there is placed where it would belong.
    check("static_resources.clusters[2].load_assignment.endpoints[0]", "over:2:26");
    check("static_resources.listeners[1].address", "base:7:5");
}

#[test]
fn places_in_the_text_format() {
    let text = "static_resources {\n  clusters { name: 'a' }\n  clusters { name: 'b' metadata { filter_metadata { key: 'k' } } }\n}\n";
    let loaded = loaded(&[Source::new("t", text, Format::Text)]);
    assert!(!loaded.diagnostics.has_errors(), "{}", loaded.diagnostics);
    let place = loaded.positions.locate(&FieldPath::parse("static_resources.clusters[1].name"));
    assert_eq!(place.map(|it| it.to_string()).as_deref(), Some("t:3:20"));
    let expected =
        r#"{"static_resources":{"clusters":[{"name":"a"},{"name":"b","metadata":{"filter_metadata":{"k":{}}}}]}}"#;
    assert_eq!(json(&loaded), expected);
}
