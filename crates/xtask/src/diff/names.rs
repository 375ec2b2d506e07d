//! Short names of extensions, so that cases stay short.

use serde_json::{Map, Value, json};

/// Short name, well-known name, message of the configuration, message of the per-route configuration.
const HTTP: &[(&str, &str, &str)] = &[
    ("router", "router.v3.Router", ""),
    ("lua", "lua.v3.Lua", "lua.v3.LuaPerRoute"),
    ("local_ratelimit", "local_ratelimit.v3.LocalRateLimit", "local_ratelimit.v3.LocalRateLimit"),
    ("header_mutation", "header_mutation.v3.HeaderMutation", "header_mutation.v3.HeaderMutationPerRoute"),
    ("buffer", "buffer.v3.Buffer", "buffer.v3.BufferPerRoute"),
    ("grpc_stats", "grpc_stats.v3.FilterConfig", ""),
    ("grpc_web", "grpc_web.v3.GrpcWeb", ""),
    ("grpc_http1_bridge", "grpc_http1_bridge.v3.Config", ""),
    ("fault", "fault.v3.HTTPFault", "fault.v3.HTTPFault"),
    ("cors", "cors.v3.Cors", "cors.v3.CorsPolicy"),
    ("csrf", "csrf.v3.CsrfPolicy", "csrf.v3.CsrfPolicy"),
    ("health_check", "health_check.v3.HealthCheck", ""),
    ("rbac", "rbac.v3.RBAC", "rbac.v3.RBACPerRoute"),
    ("set_filter_state", "set_filter_state.v3.Config", "set_filter_state.v3.Config"),
];

const NETWORK: &[(&str, &str)] = &[
    ("hcm", "http_connection_manager.v3.HttpConnectionManager"),
    ("tcp_proxy", "tcp_proxy.v3.TcpProxy"),
    ("local_ratelimit", "local_ratelimit.v3.LocalRateLimit"),
    ("direct_response", "direct_response.v3.Config"),
    ("echo", "echo.v3.Echo"),
    ("rbac", "rbac.v3.RBAC"),
    ("set_filter_state", "set_filter_state.v3.Config"),
];

const LISTENER: &[(&str, &str)] = &[
    ("original_dst", "original_dst.v3.OriginalDst"),
    ("http_inspector", "http_inspector.v3.HttpInspector"),
    ("tls_inspector", "tls_inspector.v3.TlsInspector"),
    ("proxy_protocol", "proxy_protocol.v3.ProxyProtocol"),
];

const TRANSPORT: &[(&str, &str, &str)] = &[
    ("downstream_tls", "tls", "tls.v3.DownstreamTlsContext"),
    ("upstream_tls", "tls", "tls.v3.UpstreamTlsContext"),
    ("raw_buffer", "raw_buffer", "raw_buffer.v3.RawBuffer"),
    ("proxy_protocol", "upstream_proxy_protocol", "proxy_protocol.v3.ProxyProtocolUpstreamTransport"),
];

const ANY: &str = "type.googleapis.com/envoy.extensions.";

/// Fills in the well-known name that Envoy knows an HCM by.
fn full_name(family: &str, short: &str) -> String {
    let long = if short == "hcm" { "http_connection_manager" } else { short };
    format!("envoy.{family}.{long}")
}

fn typed(family: &str, short: &str, message: &str, config: Value) -> Value {
    let mut typed = Map::from_iter([("@type".to_owned(), json!(format!("{ANY}{family}.{message}")))]);
    if let Value::Object(config) = config {
        typed.extend(config);
    }
    json!({"name": full_name(family, short), "typed_config": typed})
}

/// `{upstream_tls: {...}}` as a transport socket; anything else stays as it is. What stands inside it is treated alike.
pub fn transport_socket(item: Value) -> Value {
    let found = single(&item).and_then(|(short, config)| {
        let (_, name, message) = TRANSPORT.iter().find(|(known, ..)| *known == short)?;
        let mut config = config.clone();
        if let Some(inner) = config.get_mut("transport_socket") {
            *inner = transport_socket(inner.take());
        }
        let mut socket = typed("transport_sockets", short, message, config);
        socket["name"] = json!(format!("envoy.transport_sockets.{name}"));
        Some(socket)
    });
    found.unwrap_or(item)
}

/// The single entry of `{short: config}`.
fn single(item: &Value) -> Option<(&str, &Value)> {
    let object = item.as_object()?;
    let (name, config) = object.iter().next()?;
    (object.len() == 1).then_some((name.as_str(), config))
}

/// `{lua: {...}}` as an HTTP filter; anything else stays as it is.
pub fn http_filter(item: Value) -> Value {
    let found = single(&item).and_then(|(short, config)| {
        let (_, message, _) = HTTP.iter().find(|(name, ..)| *name == short)?;
        Some(typed("filters.http", short, message, config.clone()))
    });
    found.unwrap_or(item)
}

/// `{tcp_proxy: {...}}` as a network filter.
pub fn network_filter(item: Value) -> Value {
    from_table("filters.network", NETWORK, item)
}

/// `{original_dst: {}}` as a listener filter.
pub fn listener_filter(item: Value) -> Value {
    from_table("filters.listener", LISTENER, item)
}

fn from_table(family: &str, table: &[(&str, &str)], item: Value) -> Value {
    let found = single(&item).and_then(|(short, config)| {
        let (_, message) = table.iter().find(|(name, _)| *name == short)?;
        Some(typed(family, short, message, config.clone()))
    });
    found.unwrap_or(item)
}

/// `{lua: {...}}` of a `typed_per_filter_config`, wherever it stands in `value`.
pub fn per_route(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(per_route),
        Value::Object(entries) => {
            if let Some(Value::Object(configs)) = entries.get_mut("typed_per_filter_config") {
                *configs =
                    std::mem::take(configs).into_iter().map(|(key, value)| per_route_entry(&key, value)).collect();
            }
            entries.values_mut().for_each(per_route);
        }
        _ => {}
    }
}

fn per_route_entry(key: &str, mut value: Value) -> (String, Value) {
    let Some((_, _, message)) = HTTP.iter().find(|(name, ..)| *name == key) else { return (key.to_owned(), value) };
    if let Value::Object(entries) = &mut value
        && !entries.contains_key("@type")
    {
        entries.insert("@type".into(), json!(format!("{ANY}filters.http.{message}")));
    }
    (full_name("filters.http", key), value)
}

/// A file access log at `path`, with `config` on top.
pub fn file_log(path: &str, mut config: Value) -> Value {
    let mut filter = Value::Null;
    let mut typed = json!({"@type": format!("{ANY}access_loggers.file.v3.FileAccessLog"), "path": path});
    if let Value::Object(entries) = &mut config {
        filter = entries.remove("filter").unwrap_or(Value::Null);
        super::expand::merge(&mut typed, config);
    }
    let mut log = json!({"name": "envoy.access_loggers.file", "typed_config": typed});
    if !filter.is_null() {
        log["filter"] = filter;
    }
    log
}
