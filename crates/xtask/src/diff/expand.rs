//! The compact configuration of case files, expanded to what Envoy reads.
//!
//! ```yaml
//! config:
//!   # Keys of the listener `main`; or `listeners: {name: {the same keys}}` for several.
//!   routes: [{prefix: /, cluster: a}]       # or virtual_hosts: [...]; by default everything goes to cluster `a`
//!   route_config: {...}                     # merged into the route configuration
//!   http_filters: [{lua: {...}}]            # before the router
//!   hcm: {...}                              # merged into the connection manager
//!   access_log: "%RESPONSE_CODE%"           # text, or {log_format: ...}, or a list of these; the default is LOG_FORMAT
//!   before: [{local_ratelimit: {...}}]      # network filters before the connection manager
//!   filters: [{tcp_proxy: {...}}]           # network filters instead of it
//!   chains: [{filter_chain_match: {...}, routes: ...}]   # several filter chains; each takes the keys above
//!   default_chain: {...}                    # the same keys
//!   listener_filters: [{original_dst: {}}]
//!   listener: {...}                         # merged into the listener
//!   tls: {...}                              # of a chain or a cluster: its TLS context; `transport_socket: {short: {...}}` for others
//!   clusters: {a: {endpoints: [a, b], ...}} # merged into the default: STATIC, the origin of the same name
//!   bootstrap: {...}                        # merged at the top
//! ```
//!
//! A route without `match` takes `prefix`, `path`, `safe_regex` (text), `headers`, ... into its match (`prefix: /` by default),
//! `cluster: a` as its route action, and `status: 200, body: text` as its direct response. In every text `{{port:main}}`,
//! `{{origin:a}}`, `{{tmp}}`, `{{tls}}` (certificates: see `tls.rs`), `{{big:N}}` (N times `x`) and `{{lines:N}}` (N header lines) are replaced.

use serde_json::{Map, Value, json};

use super::names;

/// The access log of a case, unless it says otherwise.
pub const LOG_FORMAT: &str = "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% \
%RESPONSE_CODE_DETAILS% rx=%BYTES_RECEIVED% tx=%BYTES_SENT% cluster=%UPSTREAM_CLUSTER% route=%ROUTE_NAME% \
host=%UPSTREAM_HOST% attempts=%UPSTREAM_REQUEST_ATTEMPT_COUNT% fail=%UPSTREAM_TRANSPORT_FAILURE_REASON% \
term=%CONNECTION_TERMINATION_DETAILS%\n";

/// The keys of a route that belong to its match.
const MATCH_KEYS: &[&str] = &[
    "prefix",
    "path",
    "safe_regex",
    "path_separated_prefix",
    "connect_matcher",
    "headers",
    "query_parameters",
    "case_sensitive",
    "runtime_fraction",
    "grpc",
    "cookies",
];

/// The configuration and the names of its listeners.
pub struct Expanded {
    /// What the proxy reads, placeholders still in it.
    pub config: Value,
    /// Names of listeners, for which ports are needed.
    pub listeners: Vec<String>,
}

/// Expands `compact`. `origins` are the names of clusters that exist by default.
pub fn expand(compact: &Value, origins: &[String]) -> Result<Expanded, String> {
    let mut keys = object(compact.clone(), "config")?;
    let mut clusters = object(keys.remove("clusters").unwrap_or_default(), "clusters")?;
    let bootstrap = keys.remove("bootstrap").unwrap_or_default();
    let listeners = match keys.remove("listeners") {
        Some(listeners) => object(listeners, "listeners")?,
        None => Map::from_iter([("main".to_owned(), Value::Object(std::mem::take(&mut keys)))]),
    };
    if let Some(key) = keys.keys().next() {
        return Err(format!("'{key}' stands beside 'listeners'"));
    }
    for origin in origins {
        clusters.entry(origin.clone()).or_insert_with(|| json!({}));
    }
    let mut config = json!({
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {
            "listeners": listeners.iter().map(|(name, keys)| listener(name, keys.clone())).collect::<Result<Vec<_>, _>>()?,
            "clusters": clusters.into_iter().map(|(name, keys)| cluster(&name, keys)).collect::<Result<Vec<_>, _>>()?,
        },
    });
    merge(&mut config, bootstrap);
    names::per_route(&mut config);
    Ok(Expanded { config, listeners: listeners.into_iter().map(|(name, _)| name).collect() })
}

/// Lays `over` on `base`: objects are merged, everything else replaced, and null removes.
pub fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    base.remove(&key);
                } else {
                    merge(base.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (_, Value::Null) => {}
        (base, over) => *base = over,
    }
}

fn object(value: Value, what: &str) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(entries) => Ok(entries),
        Value::Null => Ok(Map::new()),
        _ => Err(format!("'{what}' must be a mapping")),
    }
}

fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        None | Some(Value::Null) => Vec::new(),
        Some(item) => vec![item],
    }
}

fn listener(name: &str, keys: Value) -> Result<Value, String> {
    let mut keys = object(keys, name)?;
    let over = keys.remove("listener").unwrap_or_default();
    let mut listener = json!({
        "name": name,
        "stat_prefix": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": format!("{{{{port:{name}}}}}")}},
    });
    if let Some(filters) = keys.remove("listener_filters") {
        listener["listener_filters"] = list(Some(filters)).into_iter().map(names::listener_filter).collect();
    }
    if let Some(default) = keys.remove("default_chain") {
        listener["default_filter_chain"] = chain(name, object(default, "default_chain")?)?;
    }
    let chains = match keys.remove("chains") {
        Some(chains) => list(Some(chains)).into_iter().map(|keys| chain(name, object(keys, "chains")?)).collect(),
        None => chain(name, std::mem::take(&mut keys)).map(|chain| vec![chain]),
    };
    listener["filter_chains"] = Value::Array(chains?);
    if let Some(key) = keys.keys().next() {
        return Err(format!("'{key}' stands beside 'chains' in listener '{name}'"));
    }
    merge(&mut listener, over);
    Ok(listener)
}

fn chain(name: &str, mut keys: Map<String, Value>) -> Result<Value, String> {
    let mut filters: Vec<Value> = list(keys.remove("before"));
    match keys.remove("filters") {
        Some(instead) => filters.extend(list(Some(instead))),
        None => filters.push(json!({"hcm": hcm(name, &mut keys)?})),
    }
    let mut chain = json!({"filters": filters.into_iter().map(names::network_filter).collect::<Vec<_>>()});
    if let Some(context) = keys.remove("tls") {
        chain["transport_socket"] = names::transport_socket(json!({"downstream_tls": context}));
    }
    if let Some(socket) = keys.remove("transport_socket") {
        chain["transport_socket"] = names::transport_socket(socket);
    }
    for key in ["filter_chain_match", "name", "transport_socket_connect_timeout"] {
        if let Some(value) = keys.remove(key) {
            chain[key] = value;
        }
    }
    match keys.keys().next() {
        Some(key) => Err(format!("unknown key '{key}' in listener '{name}'")),
        None => Ok(chain),
    }
}

fn hcm(name: &str, keys: &mut Map<String, Value>) -> Result<Value, String> {
    let hosts = match keys.remove("virtual_hosts") {
        Some(hosts) => list(Some(hosts)).into_iter().map(virtual_host).collect::<Result<Vec<_>, _>>()?,
        None => vec![virtual_host(json!({
            "routes": keys.remove("routes").unwrap_or_else(|| json!([{"prefix": "/", "cluster": "a"}])),
        }))?],
    };
    let mut route_config = json!({"name": "routes", "virtual_hosts": hosts});
    merge(&mut route_config, keys.remove("route_config").unwrap_or_default());
    let mut filters: Vec<Value> = list(keys.remove("http_filters")).into_iter().map(names::http_filter).collect();
    filters.push(names::http_filter(json!({"router": keys.remove("router").unwrap_or_default()})));
    let mut hcm = json!({
        "stat_prefix": name,
        "delayed_close_timeout": "0.05s",
        "route_config": route_config,
        "http_filters": filters,
        "access_log": access_logs(keys.remove("access_log")),
    });
    merge(&mut hcm, keys.remove("hcm").unwrap_or_default());
    Ok(hcm)
}

fn access_logs(logs: Option<Value>) -> Value {
    let logs = if logs.is_none() { vec![json!(LOG_FORMAT)] } else { list(logs) };
    logs.into_iter().map(access_log).collect()
}

/// Text, the fields of a file log with `filter`, or an access log spelled out (it has a `name`).
pub fn access_log(log: Value) -> Value {
    const PATH: &str = "{{tmp}}/access.log";
    match log {
        Value::String(format) => {
            let format = if format.ends_with('\n') { format } else { format + "\n" };
            names::file_log(PATH, json!({"log_format": {"text_format_source": {"inline_string": format}}}))
        }
        Value::Object(entries) if entries.contains_key("name") => Value::Object(entries),
        other => names::file_log(PATH, other),
    }
}

fn virtual_host(host: Value) -> Result<Value, String> {
    let mut keys = object(host, "virtual_hosts")?;
    let mut host = json!({"name": "all", "domains": ["*"]});
    let routes = list(keys.remove("routes")).into_iter().map(route).collect::<Result<Vec<_>, _>>()?;
    host["routes"] = Value::Array(routes);
    merge(&mut host, Value::Object(keys));
    Ok(host)
}

fn route(route: Value) -> Result<Value, String> {
    let mut keys = object(route, "routes")?;
    if keys.contains_key("match") {
        return Ok(Value::Object(keys));
    }
    let mut matching = Map::new();
    for key in MATCH_KEYS {
        if let Some(value) = keys.remove(*key) {
            matching.insert((*key).to_owned(), value);
        }
    }
    if let Some(Value::String(regex)) = matching.get("safe_regex") {
        let regex = json!({"regex": regex});
        matching.insert("safe_regex".into(), regex);
    }
    if !["prefix", "path", "safe_regex", "path_separated_prefix", "connect_matcher"]
        .iter()
        .any(|key| matching.contains_key(*key))
    {
        matching.insert("prefix".into(), json!("/"));
    }
    let mut out = json!({"match": matching});
    if let Some(cluster) = keys.remove("cluster") {
        out["route"] = json!({"cluster": cluster});
    }
    if let Some(status) = keys.remove("status") {
        out["direct_response"] = json!({"status": status});
        if let Some(body) = keys.remove("body") {
            out["direct_response"]["body"] = json!({"inline_string": body});
        }
    }
    merge(&mut out, Value::Object(keys));
    Ok(out)
}

fn cluster(name: &str, keys: Value) -> Result<Value, String> {
    let mut keys = object(keys, name)?;
    let endpoints = keys.remove("endpoints").unwrap_or_else(|| json!([name]));
    let mut cluster = json!({"name": name, "type": "STATIC", "connect_timeout": "1s"});
    let is_discovered = keys.get("type").is_some_and(|kind| kind == "ORIGINAL_DST");
    if !keys.contains_key("load_assignment") && !is_discovered {
        let endpoints: Vec<Value> = list(Some(endpoints)).into_iter().map(endpoint).collect();
        cluster["load_assignment"] = json!({"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]});
    }
    if let Some(context) = keys.remove("tls") {
        cluster["transport_socket"] = names::transport_socket(json!({"upstream_tls": context}));
    }
    if let Some(socket) = keys.remove("transport_socket") {
        cluster["transport_socket"] = names::transport_socket(socket);
    }
    merge(&mut cluster, Value::Object(keys));
    endpoints_in(&mut cluster);
    Ok(cluster)
}

/// Text among the `lb_endpoints` of a spelled-out assignment names an origin.
fn endpoints_in(cluster: &mut Value) {
    let Some(Value::Array(localities)) = cluster.pointer_mut("/load_assignment/endpoints") else { return };
    for locality in localities {
        if let Some(Value::Array(endpoints)) = locality.get_mut("lb_endpoints") {
            endpoints.iter_mut().for_each(|item| *item = endpoint(item.take()));
        }
    }
}

fn endpoint(item: Value) -> Value {
    let Value::String(origin) = item else { return item };
    let port = format!("{{{{origin:{origin}}}}}");
    json!({"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}})
}

/// Replaces placeholders in every text of `value`. A text that becomes a number by it becomes one.
pub fn fill(value: &mut Value, lookup: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
    match value {
        Value::String(text) if text.contains("{{") => {
            let whole = text.starts_with("{{") && text.ends_with("}}");
            *text = fill_text(text, lookup)?;
            if let (true, Ok(number)) = (whole, text.parse::<u16>()) {
                *value = json!(number);
            }
        }
        Value::Array(items) => items.iter_mut().try_for_each(|item| fill(item, lookup))?,
        Value::Object(entries) => entries.values_mut().try_for_each(|item| fill(item, lookup))?,
        _ => {}
    }
    Ok(())
}

/// Replaces placeholders in `text`.
pub fn fill_text(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, behind)) = after.split_once("}}") else { break };
        out += before;
        out += &lookup(name).ok_or_else(|| format!("unknown placeholder '{{{{{name}}}}}'"))?;
        rest = behind;
    }
    Ok(out + rest)
}
