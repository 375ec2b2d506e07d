//! The messages of Istio's extensions, which the descriptor set lacks: the same fields as in `src/istio.rs`.
//!
//! Sources: envoyproxy/envoy, `api/contrib/envoy/extensions/filters/http/{alpn,istio_stats,peer_metadata}/v3` and
//! `…/network/metadata_exchange/v3`, which keep the package names that Istio gave them; istio/proxy, `workload.proto`.

use super::field;
use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    MessageOptions, OneofDescriptorProto,
};

/// One file for each package.
pub fn files() -> Vec<FileDescriptorProto> {
    vec![stats(), alpn(), peer_metadata(), metadata_exchange(), workload()]
}

fn stats() -> FileDescriptorProto {
    let duration = |name, number| field(name, number, Type::Message, Some(".google.protobuf.Duration"));
    let dimensions = DescriptorProto {
        options: Some(MessageOptions { map_entry: Some(true), ..MessageOptions::default() }),
        ..message("DimensionsEntry", vec![text("key", 1), text("value", 2)])
    };
    let metric = DescriptorProto {
        nested_type: vec![dimensions],
        ..message(
            "MetricConfig",
            vec![
                repeated(field("dimensions", 1, Type::Message, Some(".stats.MetricConfig.DimensionsEntry"))),
                text("name", 2),
                repeated(text("tags_to_remove", 3)),
                text("match", 4),
                flag("drop", 5),
            ],
        )
    };
    let definition = message(
        "MetricDefinition",
        vec![text("name", 1), text("value", 2), field("type", 3, Type::Enum, Some(".stats.MetricType"))],
    );
    let config = message(
        "PluginConfig",
        vec![
            flag("disable_host_header_fallback", 6),
            duration("tcp_reporting_duration", 7),
            repeated(field("metrics", 8, Type::Message, Some(".stats.MetricConfig"))),
            repeated(field("definitions", 9, Type::Message, Some(".stats.MetricDefinition"))),
            field("reporter", 10, Type::Enum, Some(".stats.Reporter")),
            duration("rotation_interval", 11),
            duration("graceful_deletion_interval", 12),
        ],
    );
    FileDescriptorProto {
        dependency: vec!["google/protobuf/duration.proto".to_owned()],
        enum_type: vec![
            enumeration("MetricType", &["COUNTER", "GAUGE", "HISTOGRAM"]),
            enumeration("Reporter", &["UNSPECIFIED", "SERVER_GATEWAY"]),
        ],
        ..file("stats", vec![metric, definition, config])
    }
}

fn alpn() -> FileDescriptorProto {
    const PROTOCOL: &str = ".istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig.Protocol";
    const OVERRIDE: &str = ".istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig.AlpnOverride";
    let alpn_override = message(
        "AlpnOverride",
        vec![field("upstream_protocol", 1, Type::Enum, Some(PROTOCOL)), repeated(text("alpn_override", 2))],
    );
    let config = DescriptorProto {
        nested_type: vec![alpn_override],
        enum_type: vec![enumeration("Protocol", &["HTTP10", "HTTP11", "HTTP2"])],
        ..message("FilterConfig", vec![repeated(field("alpn_override", 1, Type::Message, Some(OVERRIDE)))])
    };
    file("istio.envoy.config.filter.http.alpn.v2alpha1", vec![config])
}

fn peer_metadata() -> FileDescriptorProto {
    let own = |name: &str| format!(".io.istio.http.peer_metadata.Config.{name}");
    let method = |name: &'static str, number, kind: &str| FieldDescriptorProto {
        oneof_index: Some(0),
        ..field(name, number, Type::Message, Some(&own(kind)))
    };
    let one_of = |name: &str, fields| DescriptorProto {
        oneof_decl: vec![OneofDescriptorProto {
            name: Some("method_specifier".to_owned()),
            ..OneofDescriptorProto::default()
        }],
        ..message(name, fields)
    };
    let discovery = one_of(
        "DiscoveryMethod",
        vec![
            method("baggage", 1, "Baggage"),
            method("workload_discovery", 2, "WorkloadDiscovery"),
            method("istio_headers", 3, "IstioHeaders"),
        ],
    );
    let propagation = one_of("PropagationMethod", vec![method("istio_headers", 1, "IstioHeaders")]);
    let methods = |name, number, kind: &str| repeated(field(name, number, Type::Message, Some(&own(kind))));
    let config = DescriptorProto {
        nested_type: vec![
            message("Baggage", Vec::new()),
            message("WorkloadDiscovery", Vec::new()),
            message("IstioHeaders", vec![flag("skip_external_clusters", 1)]),
            discovery,
            propagation,
        ],
        ..message(
            "Config",
            vec![
                methods("downstream_discovery", 1, "DiscoveryMethod"),
                methods("upstream_discovery", 2, "DiscoveryMethod"),
                methods("downstream_propagation", 3, "PropagationMethod"),
                methods("upstream_propagation", 4, "PropagationMethod"),
                flag("shared_with_upstream", 5),
                repeated(text("additional_labels", 6)),
            ],
        )
    };
    file("io.istio.http.peer_metadata", vec![config])
}

fn metadata_exchange() -> FileDescriptorProto {
    let fields = vec![text("protocol", 1), flag("enable_discovery", 2), repeated(text("additional_labels", 3))];
    file("envoy.tcp.metadataexchange.config", vec![message("MetadataExchange", fields)])
}

fn workload() -> FileDescriptorProto {
    let source = field("config_source", 1, Type::Message, Some(".envoy.config.core.v3.ConfigSource"));
    FileDescriptorProto {
        dependency: vec!["envoy/config/core/v3/config_source.proto".to_owned()],
        ..file("istio.workload", vec![message("BootstrapExtension", vec![source])])
    }
}

fn file(package: &str, messages: Vec<DescriptorProto>) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(format!("nuncio/{}/istio.proto", package.replace('.', "/"))),
        package: Some(package.to_owned()),
        message_type: messages,
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    }
}

fn message(name: &str, fields: Vec<FieldDescriptorProto>) -> DescriptorProto {
    DescriptorProto { name: Some(name.to_owned()), field: fields, ..DescriptorProto::default() }
}

fn enumeration(name: &str, values: &[&str]) -> EnumDescriptorProto {
    let value = |(name, number): (&&str, i32)| EnumValueDescriptorProto {
        name: Some((*name).to_owned()),
        number: Some(number),
        ..EnumValueDescriptorProto::default()
    };
    EnumDescriptorProto {
        name: Some(name.to_owned()),
        value: values.iter().zip(0..).map(value).collect(),
        ..EnumDescriptorProto::default()
    }
}

fn text(name: &str, number: i32) -> FieldDescriptorProto {
    field(name, number, Type::String, None)
}

fn flag(name: &str, number: i32) -> FieldDescriptorProto {
    field(name, number, Type::Bool, None)
}

fn repeated(field: FieldDescriptorProto) -> FieldDescriptorProto {
    FieldDescriptorProto { label: Some(Label::Repeated.into()), ..field }
}
