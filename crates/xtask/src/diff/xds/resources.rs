//! Short forms of resources.
//!
//! ```yaml
//! {cluster: c}                              # EDS from the source of the mode
//! {cluster: c, to: [a]}                     # STATIC, the origins of these names
//! {cluster: c, tls: s}                      # with an upstream TLS context whose validation context is the secret `s`
//! {endpoints: c, to: [a, b]}                # a ClusterLoadAssignment
//! {listener: l, rds: r}                     # an HTTP listener on a port of its own
//! {listener: l, reply: text}                # with a route configuration that answers everything with a text
//! {listener: l, hcm: {...}, http_filters: [{lua: {...}}], tls: s, ...}
//! {route: r, reply: text}                   # a RouteConfiguration; or cluster: c; or virtual_hosts, vhds
//! {virtual_host: r/name, domains: [x], reply: text}
//! {scope: s, rds: r, key: [x]}              # a ScopedRouteConfiguration
//! {secret: s, certificate: server}          # a certificate of tls.rs; or authority: ca; or generic: text
//! {extension: e, filter: {lua: {...}}}      # a TypedExtensionConfig of an HTTP filter
//! {runtime: r, layer: {a: 1}}
//! {"@type": ..., ...}                       # any message
//! {hex: "0a01", type: cds, name: c}         # bytes
//! ```
//!
//! Other keys are merged into the message. Keys that begin with `_` are about the resource in the response: `_name`, `_version`,
//! `_ttl` (seconds), `_aliases`, `_wrapped`, `_heartbeat` (no message), `_append` (bytes behind the message, hexadecimal).

use std::time::Duration;

use nuncio_testkit::xds::{Resource, any_of, type_url};
use serde_json::{Map, Value, json};

use super::super::{expand, names, tls};
use super::bootstrap::{fill_sources, source};
use super::scenario::Mode;

type Keys = Map<String, Value>;
const ANY: &str = "type.googleapis.com/envoy.extensions.";

/// The resource that `spec` is; `version` is that of the response.
pub fn resource(
    spec: &Value,
    version: &str,
    mode: Mode,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Resource, String> {
    let mut keys = spec.as_object().cloned().ok_or("a resource must be a mapping")?;
    let about: Keys = keys
        .keys()
        .filter(|key| key.starts_with('_'))
        .cloned()
        .collect::<Vec<_>>()
        .into_iter()
        .filter_map(|key| keys.remove_entry(&key))
        .collect();
    let text = |key: &str| about.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut resource = Resource {
        version: text("_version").unwrap_or_else(|| version.to_owned()),
        ttl: about.get("_ttl").and_then(Value::as_f64).map(Duration::from_secs_f64),
        wrapped: about.contains_key("_wrapped"),
        ..Resource::default()
    };
    if let Some(Value::Array(aliases)) = about.get("_aliases") {
        resource.aliases = aliases.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    }
    let (url, name, mut any) = if let Some(hex) = take_text(&mut keys, "hex") {
        let url = type_url(&take_text(&mut keys, "type").unwrap_or_default());
        let value = bytes(&hex)?;
        (url.clone(), take_text(&mut keys, "name"), nuncio_api::wkt::Any { type_url: url, value })
    } else {
        let (url, name, mut message) = message(keys, mode)?;
        fill_sources(&mut message, mode);
        expand::fill(&mut message, lookup)?;
        let any = any_of(&url, &message).map_err(|error| format!("{url}: {error}"))?;
        (url, name, any)
    };
    if let Some(more) = text("_append") {
        any.value.extend(bytes(&more)?);
    }
    any.type_url = url;
    resource.any = (!about.contains_key("_heartbeat")).then_some(any);
    resource.name = text("_name").or(name).unwrap_or_default();
    Ok(resource)
}

/// Reads hexadecimal digits.
pub fn bytes(hex: &str) -> Result<Vec<u8>, String> {
    let digits: String = hex.split_whitespace().collect();
    let byte = |at: usize| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..digits.len()).step_by(2).map(|at| byte(at).ok_or_else(|| format!("'{hex}' is not hexadecimal"))).collect()
}

fn take_text(keys: &mut Keys, key: &str) -> Option<String> {
    keys.remove(key)?.as_str().map(str::to_owned)
}

fn take_list(keys: &mut Keys, key: &str) -> Vec<Value> {
    match keys.remove(key) {
        Some(Value::Array(items)) => items,
        Some(Value::Null) | None => Vec::new(),
        Some(item) => vec![item],
    }
}

/// Type URL, name and message.
fn message(mut keys: Keys, mode: Mode) -> Result<(String, Option<String>, Value), String> {
    type Build = fn(&str, &mut Keys, Mode) -> Result<Value, String>;
    const FORMS: &[(&str, &str, Build)] = &[
        ("cluster", "cds", cluster),
        ("endpoints", "eds", endpoints),
        ("listener", "lds", listener),
        ("route", "rds", route),
        ("virtual_host", "vhds", virtual_host),
        ("scope", "srds", scope),
        ("secret", "sds", secret),
        ("extension", "ecds", extension),
        ("runtime", "rtds", runtime),
    ];
    if let Some(url) = take_text(&mut keys, "@type") {
        let name = keys.get("name").or_else(|| keys.get("cluster_name")).and_then(Value::as_str).map(str::to_owned);
        return Ok((url, name, Value::Object(keys)));
    }
    for (key, short, build) in FORMS {
        if keys.get(*key).is_some_and(Value::is_string) {
            let name = take_text(&mut keys, key).unwrap_or_default();
            let mut message = build(&name, &mut keys, mode)?;
            expand::merge(&mut message, Value::Object(keys));
            return Ok((type_url(short), Some(name), message));
        }
    }
    Err(format!("no such form of a resource: {}", Value::Object(keys)))
}

fn origins(to: Vec<Value>) -> Value {
    let endpoint = |origin: Value| {
        let port = format!("{{{{origin:{}}}}}", origin.as_str().unwrap_or_default());
        json!({"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}})
    };
    Value::Array(to.into_iter().map(endpoint).collect())
}

fn cluster(name: &str, keys: &mut Keys, mode: Mode) -> Result<Value, String> {
    let mut cluster = json!({"name": name, "connect_timeout": "1s"});
    if keys.contains_key("to") {
        let endpoints = origins(take_list(keys, "to"));
        cluster["type"] = json!("STATIC");
        cluster["load_assignment"] = json!({"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]});
    } else if !keys.contains_key("type") {
        cluster["type"] = json!("EDS");
        cluster["eds_cluster_config"] = json!({"eds_config": source(mode, "eds")});
    }
    if let Some(secret) = take_text(keys, "tls") {
        let context = json!({"common_tls_context": {"validation_context_sds_secret_config":
            {"name": secret, "sds_config": source(mode, "sds")}}});
        cluster["transport_socket"] = names::transport_socket(json!({"upstream_tls": context}));
    }
    Ok(cluster)
}

fn endpoints(name: &str, keys: &mut Keys, _: Mode) -> Result<Value, String> {
    let to = take_list(keys, "to");
    let mut localities = Vec::new();
    if !to.is_empty() {
        localities.push(json!({"lb_endpoints": origins(to)}));
    }
    Ok(json!({"cluster_name": name, "endpoints": localities}))
}

fn listener(name: &str, keys: &mut Keys, mode: Mode) -> Result<Value, String> {
    let mut hcm = json!({"@type": format!("{ANY}filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name});
    if let Some(route) = take_text(keys, "rds") {
        hcm["rds"] = json!({"route_config_name": route, "config_source": source(mode, "rds")});
    } else if keys.contains_key("reply") || keys.contains_key("to") {
        hcm["route_config"] = route("inline", keys, mode)?;
    }
    let mut filters: Vec<Value> = take_list(keys, "http_filters").into_iter().map(names::http_filter).collect();
    filters.push(names::http_filter(json!({"router": {}})));
    hcm["http_filters"] = Value::Array(filters);
    expand::merge(&mut hcm, keys.remove("hcm").unwrap_or(Value::Null));
    let mut chain =
        json!({"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": hcm}]});
    if let Some(secret) = take_text(keys, "tls") {
        let context = json!({"common_tls_context": {"tls_certificate_sds_secret_configs":
            [{"name": secret, "sds_config": source(mode, "sds")}]}});
        chain["transport_socket"] = names::transport_socket(json!({"downstream_tls": context}));
    }
    expand::merge(&mut chain, keys.remove("chain").unwrap_or(Value::Null));
    let port = format!("{{{{port:{}}}}}", take_text(keys, "port").unwrap_or_else(|| name.to_owned()));
    Ok(json!({
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [chain],
    }))
}

/// What answers everything: `reply: text`, or `to: cluster`.
fn action(keys: &mut Keys) -> Value {
    match (take_text(keys, "reply"), take_text(keys, "to")) {
        (Some(text), _) => json!({"match": {"prefix": "/"},
            "direct_response": {"status": 200, "body": {"inline_string": text}}}),
        (None, Some(cluster)) => json!({"match": {"prefix": "/"}, "route": {"cluster": cluster}}),
        (None, None) => Value::Null,
    }
}

fn route(name: &str, keys: &mut Keys, mode: Mode) -> Result<Value, String> {
    let mut config = json!({"name": name});
    let route = action(keys);
    if !route.is_null() {
        config["virtual_hosts"] = json!([{"name": "all", "domains": ["*"], "routes": [route]}]);
    }
    if keys.remove("vhds").is_some() {
        config["vhds"] = json!({"config_source": source(mode, "vhds")});
    }
    Ok(config)
}

fn virtual_host(name: &str, keys: &mut Keys, _: Mode) -> Result<Value, String> {
    let mut host = json!({"name": name, "domains": [name.rsplit('/').next().unwrap_or(name)]});
    let route = action(keys);
    if !route.is_null() {
        host["routes"] = json!([route]);
    }
    Ok(host)
}

fn scope(name: &str, keys: &mut Keys, _: Mode) -> Result<Value, String> {
    let fragments: Vec<Value> = take_list(keys, "key").into_iter().map(|key| json!({"string_key": key})).collect();
    let route = take_text(keys, "rds").ok_or("a scope needs 'rds'")?;
    Ok(json!({"name": name, "route_configuration_name": route, "key": {"fragments": fragments}}))
}

fn secret(name: &str, keys: &mut Keys, _: Mode) -> Result<Value, String> {
    let read = |file: String| {
        let path = std::path::Path::new(&tls::directory()?).join(&file);
        std::fs::read_to_string(path).map_err(|error| format!("{file}: {error}"))
    };
    let mut secret = json!({"name": name});
    if let Some(stem) = take_text(keys, "certificate") {
        secret["tls_certificate"] = json!({
            "certificate_chain": {"inline_string": read(format!("{stem}.crt"))?},
            "private_key": {"inline_string": read(format!("{stem}.key"))?},
        });
    }
    if let Some(stem) = take_text(keys, "authority") {
        secret["validation_context"] = json!({"trusted_ca": {"inline_string": read(format!("{stem}.crt"))?}});
    }
    if let Some(text) = take_text(keys, "generic") {
        secret["generic_secret"] = json!({"secret": {"inline_string": text}});
    }
    Ok(secret)
}

fn extension(name: &str, keys: &mut Keys, _: Mode) -> Result<Value, String> {
    let filter = keys.remove("filter").map(names::http_filter).unwrap_or_default();
    let config = if filter.is_null() { Value::Null } else { filter["typed_config"].clone() };
    let mut extension = json!({"name": name});
    if !config.is_null() {
        extension["typed_config"] = config;
    }
    Ok(extension)
}

fn runtime(name: &str, _: &mut Keys, _: Mode) -> Result<Value, String> {
    Ok(json!({"name": name}))
}
