//! The table against what the Envoy API says.

use super::{Kind, Schema, WellKnown};

fn field(message: &str, key: &str) -> super::FieldRef {
    Schema::message(message).unwrap().field_by_key(key).unwrap_or_else(|| panic!("{message}.{key}"))
}

#[test]
fn every_message_and_field_is_found_again() {
    assert!(Schema::messages().count() > 1500);
    for message in Schema::messages() {
        assert_eq!(Schema::message(message.full_name()), Some(message));
        for field in message.fields() {
            assert_eq!(message.field(field.number()), Some(field));
            assert_eq!(message.field_by_name(field.name()), Some(field));
            assert!(field.kind() != Kind::Message || field.message().is_some(), "{}", message.full_name());
            assert!(field.kind() != Kind::Enum || field.enumeration().is_some(), "{}", message.full_name());
        }
    }
    assert!(Schema::size() < 640 * 1024, "the schema table has grown to {} bytes", Schema::size());
}

#[test]
fn names() {
    let cluster = "envoy.config.cluster.v3.Cluster";
    let check = |key: &str, expected: Option<(&str, u32)>| {
        let found = Schema::message(cluster).unwrap().field_by_key(key);
        assert_eq!(found.map(|field| (field.name(), field.number())), expected, "{key}");
    };
    check("connect_timeout", Some(("connect_timeout", 4)));
    check("connectTimeout", Some(("connect_timeout", 4)));
    check("http2ProtocolOptions", Some(("http2_protocol_options", 14)));
    check("connect_Timeout", None);
    check("ConnectTimeout", None);
    check("connecttimeout", None);
    check("", None);
    assert_eq!(Schema::message("envoy.config.cluster.v3.Clusters"), None);
    assert_eq!(Schema::message_of_url("type.googleapis.com/envoy.config.cluster.v3.Cluster"), Schema::message(cluster));
}

#[test]
fn shapes() {
    let clusters = field("envoy.config.bootstrap.v3.Bootstrap.StaticResources", "clusters");
    assert!(clusters.is_list() && !clusters.is_map());
    assert_eq!(clusters.message().unwrap().full_name(), "envoy.config.cluster.v3.Cluster");

    let metadata = field("envoy.config.core.v3.Metadata", "filter_metadata");
    let (key, value) = metadata.map_entry().unwrap();
    assert!(metadata.is_map() && !metadata.is_list());
    assert_eq!((key.kind(), value.message().unwrap().well_known()), (Kind::String, Some(WellKnown::Struct)));

    let timeout = field("envoy.config.cluster.v3.Cluster", "connect_timeout");
    assert_eq!(timeout.message().unwrap().well_known(), Some(WellKnown::Duration));
    assert!(timeout.rules().is_some_and(|rules| !rules.is_empty()));

    let kind = field("envoy.config.cluster.v3.Cluster", "type");
    let oneof = Schema::message("envoy.config.cluster.v3.Cluster").unwrap().oneof(kind.oneof().unwrap()).unwrap();
    assert_eq!((oneof.name(), oneof.is_required()), ("cluster_discovery_type", false));
    let values = kind.enumeration().unwrap();
    assert_eq!(values.by_name("Strict_Dns").map(|value| value.number()), Some(1));
    assert_eq!(values.by_number(4).map(|value| value.name()), Some("ORIGINAL_DST"));

    let specifier = Schema::message("envoy.config.route.v3.RouteMatch").unwrap().oneofs().next().unwrap();
    assert_eq!((specifier.name(), specifier.is_required()), ("path_specifier", true));
}

#[test]
fn annotations() {
    assert!(field("envoy.config.bootstrap.v3.Admin", "access_log_path").is_deprecated());
    assert!(field("envoy.config.route.v3.HeaderMatcher", "exact_match").is_deprecated());
    assert!(!field("envoy.config.cluster.v3.Cluster", "name").is_deprecated());
    assert!(field("envoy.extensions.transport_sockets.tls.v3.TlsCertificate", "private_key").is_sensitive());
}
