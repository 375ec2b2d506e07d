//! The bootstrap of a scenario: the cluster of the management server, and where CDS and LDS come from.

use serde_json::{Value, json};

use super::super::expand::merge;
use super::scenario::{Mode, Scenario, Transport};

/// The cluster of the management server.
const SERVER: &str = "xds";
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The whole bootstrap, placeholders kept.
pub fn bootstrap(scenario: &Scenario, mode: Mode) -> Value {
    let mut config = json!({
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "node": {"id": "node-1", "cluster": "fleet"},
        "dynamic_resources": {"cds_config": source(mode, "cds"), "lds_config": source(mode, "lds")},
        "static_resources": {"clusters": [server_cluster(mode, scenario.transport)]},
    });
    if matches!(mode, Mode::SotwAds | Mode::DeltaAds) {
        config["dynamic_resources"]["ads_config"] = api(mode);
    }
    let mut over = scenario.config.clone();
    // What a scenario adds to the static clusters stands beside that of the server.
    if let Some(Value::Array(clusters)) = over.pointer_mut("/static_resources/clusters") {
        clusters.insert(0, server_cluster(mode, scenario.transport));
    }
    merge(&mut config, over);
    fill_sources(&mut config, mode);
    config
}

fn server_cluster(mode: Mode, transport: Transport) -> Value {
    let address = match transport {
        Transport::Unix => json!({"pipe": {"path": "{{tmp}}/xds.sock"}}),
        _ => json!({"socket_address": {"address": "127.0.0.1", "port_value": "{{xds}}"}}),
    };
    let mut cluster = json!({
        "name": SERVER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": SERVER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    });
    if mode != Mode::Rest {
        let http2 = json!({
            "@type": format!("type.googleapis.com/{HTTP_OPTIONS}"),
            "explicit_http_config": {"http2_protocol_options": {}},
        });
        cluster["typed_extension_protocol_options"] = json!({HTTP_OPTIONS: http2});
    }
    if transport == Transport::Tls {
        cluster["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": "server.test",
                "common_tls_context": {
                    "alpn_protocols": ["h2"],
                    "validation_context": {"trusted_ca": {"filename": "{{tls}}/ca.crt"}},
                },
            },
        });
    }
    cluster
}

/// An `ApiConfigSource` that asks the management server.
fn api(mode: Mode) -> Value {
    let kind = match mode {
        Mode::SotwAds | Mode::Sotw => "GRPC",
        Mode::DeltaAds | Mode::Delta => "DELTA_GRPC",
        Mode::Rest => "REST",
        Mode::Files => "",
    };
    if mode == Mode::Rest {
        return json!({
            "api_type": kind,
            "transport_api_version": "V3",
            "cluster_names": [SERVER],
            // Scenarios that are about further polls set less.
            "refresh_delay": "100s",
            "request_timeout": "5s",
        });
    }
    json!({
        "api_type": kind,
        "transport_api_version": "V3",
        "set_node_on_first_message_only": true,
        "grpc_services": [{"envoy_grpc": {
            "cluster_name": SERVER,
            "retry_policy": {"retry_back_off": {"base_interval": "0.05s", "max_interval": "0.2s"}},
        }}],
    })
}

/// The `ConfigSource` of a type.
pub fn source(mode: Mode, kind: &str) -> Value {
    match mode {
        Mode::SotwAds | Mode::DeltaAds => json!({"ads": {}, "resource_api_version": "V3"}),
        Mode::Sotw | Mode::Delta | Mode::Rest => {
            json!({"api_config_source": api(mode), "resource_api_version": "V3"})
        }
        Mode::Files => json!({
            "path_config_source": {"path": format!("{{{{tmp}}}}/{kind}.json")},
            "resource_api_version": "V3",
        }),
    }
}

/// Replaces each text `@source:TYPE`, and each object `{"@source": TYPE, ...}`, by the source of the type.
pub fn fill_sources(value: &mut Value, mode: Mode) {
    match value {
        Value::String(text) => {
            if let Some(kind) = text.strip_prefix("@source:") {
                *value = source(mode, kind);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill_sources(item, mode)),
        Value::Object(entries) => {
            let kind = entries.remove("@source").and_then(|kind| kind.as_str().map(str::to_owned));
            entries.values_mut().for_each(|item| fill_sources(item, mode));
            if let Some(kind) = kind {
                let mut filled = source(mode, &kind);
                merge(&mut filled, value.take());
                *value = filled;
            }
        }
        _ => {}
    }
}
