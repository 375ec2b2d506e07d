//! Messages as Envoy 1.40 prints them in `/config_dump`.

use super::{JsonOptions, to_json};
use crate::source::{Format, LoadOptions, Source, load};
use nuncio_api::schema::Schema;

fn dump(message: &str, yaml: &str, options: JsonOptions) -> String {
    let loaded = load(&[Source::new("t", yaml, Format::Yaml)], message, &LoadOptions::default());
    assert!(!loaded.diagnostics.has_errors(), "{}", loaded.diagnostics);
    to_json(&loaded.wire, Schema::message(message).unwrap(), options)
}

#[test]
fn layout() {
    let yaml = "{name: c, connect_timeout: 0.25s, metadata: {filter_metadata: {a: {l: [1, x], e: [], m: {}}}}, \
        lb_policy: RANDOM, load_assignment: {cluster_name: c, endpoints: [{load_balancing_weight: 3}]}}";
    let expected = "{\n \"name\": \"c\",\n \"connect_timeout\": \"0.250s\",\n \"lb_policy\": \"RANDOM\",\n \"metadata\": {\n  \
        \"filter_metadata\": {\n   \"a\": {\n    \"l\": [\n     1,\n     \"x\"\n    ],\n    \"e\": [],\n    \"m\": {}\n   }\n  }\n },\n \
        \"load_assignment\": {\n  \"cluster_name\": \"c\",\n  \"endpoints\": [\n   {\n    \"load_balancing_weight\": 3\n   }\n  ]\n }\n}";
    assert_eq!(dump("envoy.config.cluster.v3.Cluster", yaml, JsonOptions::default()), expected);
}

#[test]
fn strings_are_escaped_as_protobuf_does() {
    let check = |text: &str, expected: &str| {
        let mut out = String::new();
        super::write_string(&mut out, text);
        assert_eq!(out, expected);
    };
    check("a\"\\/\n\r\t\u{8}\u{c}", r#""a\"\\/\n\r\t\b\f""#);
    check("<a>&'", r#""\u003ca\u003e&'""#);
    check("\u{0}\u{7f}\u{85}\u{ad}\u{200b}\u{2028}\u{feff}", r#""\u0000\u007f\u0085\u00ad\u200b\u2028\ufeff""#);
    check("é😀", "\"é😀\"");
    check("\u{e0001}", r#""\udb40\udc01""#);
}

#[test]
fn secrets_are_redacted() {
    let secret = "envoy.extensions.transport_sockets.tls.v3.Secret";
    let check = |yaml: &str, expected: &str| {
        let options = JsonOptions { compact: true, redact: true, ..JsonOptions::default() };
        assert_eq!(dump(secret, yaml, options), expected, "{yaml}");
    };
    check(
        "tls_certificate: {private_key: {inline_string: abc}, certificate_chain: {inline_string: x}, password: {inline_bytes: aGk=}}",
        {
            r#"{"tls_certificate":{"certificate_chain":{"inline_string":"x"},"private_key":{"inline_string":"[redacted]"},"password":{"inline_bytes":"W3JlZGFjdGVkXQ=="}}}"#
        },
    );
    check("session_ticket_keys: {keys: [{inline_bytes: aGk=}, {filename: /x}]}", {
        r#"{"session_ticket_keys":{"keys":[{"inline_bytes":"W3JlZGFjdGVkXQ=="},{"filename":"[redacted]"}]}}"#
    });
    check(
        "generic_secret: {secret: {inline_string: abc}}",
        r#"{"generic_secret":{"secret":{"inline_string":"[redacted]"}}}"#,
    );
}

#[test]
fn times() {
    let check = |message: &str, wire: &[u8], expected: &str| {
        let message = Schema::message(message).unwrap();
        assert_eq!(to_json(wire, message, JsonOptions::default()), format!("\"{expected}\""));
    };
    let (duration, timestamp) = ("google.protobuf.Duration", "google.protobuf.Timestamp");
    check(duration, b"", "0s");
    check(duration, b"\x08\x01\x10\x80\x8c\x8d\x9e\x02", "1.600s");
    check(duration, b"\x10\x01", "0.000000001s");
    check(duration, b"\x10\xe8\x07", "0.000001s");
    check(timestamp, b"", "1970-01-01T00:00:00Z");
    check(timestamp, b"\x08\x80\xe7\x84\x0f", "1971-01-01T00:00:00Z");
    check(timestamp, b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "1969-12-31T23:59:59Z");
}

#[test]
fn bytes_that_are_no_message() {
    let cluster = Schema::message("envoy.config.cluster.v3.Cluster").unwrap();
    for wire in [&b"\xff"[..], b"\x0a\xff", b"\x0a", b"\x00\x00", b"\x22\x03\x08"] {
        let _ = to_json(wire, cluster, JsonOptions::default());
    }
    let any = Schema::message("google.protobuf.Any").unwrap();
    assert_eq!(to_json(b"\x0a\x03a/b\x12\x02hi", any, JsonOptions { compact: true, ..JsonOptions::default() }), {
        r#"{"@type":"a/b","value":"aGk="}"#
    });
    // An Any in an Any in an Any …, without end.
    let mut wire = Vec::new();
    for _ in 0..1000 {
        let mut outer = Vec::new();
        crate::transcode::wire::put_bytes(&mut outer, 1, b"type.googleapis.com/google.protobuf.Any");
        crate::transcode::wire::put_bytes(&mut outer, 2, &wire);
        wire = outer;
    }
    let _ = to_json(&wire, any, JsonOptions::default());
}
