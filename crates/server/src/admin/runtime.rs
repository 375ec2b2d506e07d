//! `/runtime` and `/runtime_modify`.

use super::endpoint::Call;
use super::json::Json;
use super::request::Parameters;
use super::response::{Response, TEXT};
use nuncio_filter::Runtime;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Name of the layer that `/runtime_modify` writes to.
const ADMIN_LAYER: &str = "admin";
/// Keys that may be set here; each costs every worker memory.
const MOST_KEYS: usize = 10_000;

/// `/runtime`
pub(super) fn runtime(call: &Call<'_>) -> Response {
    Response::json(to_json(&call.admin.server.runtime.borrow()).document())
}

fn to_json(runtime: &Runtime) -> Json {
    let layers = runtime.layers();
    let keys: BTreeSet<&String> = layers.iter().flat_map(|(_, values)| values.keys()).collect();
    let entry = |key: &String| {
        let of_layer = |values: &std::collections::BTreeMap<String, String>| {
            Json::text(values.get(key).map(String::as_str).unwrap_or_default())
        };
        Json::object([
            ("final_value", Json::text(runtime.get(key).unwrap_or_default())),
            ("layer_values", Json::List(layers.iter().map(|(_, values)| of_layer(values)).collect())),
        ])
    };
    let entries = keys.into_iter().map(|key| (key.clone(), entry(key))).collect();
    let names = layers.iter().map(|(name, _)| Json::text(name.as_str())).collect();
    Json::object([("layers", Json::List(names)), ("entries", Json::Object(entries))])
}

/// `/runtime_modify`
pub(super) fn modify(call: &Call<'_>) -> Response {
    let chosen = if call.parameters.is_empty() { call.form } else { call.parameters };
    if chosen.is_empty() {
        return Response::bad_request(
            "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n       \
             or send the parameters as form values\n\
             use an empty value to remove a previously added override",
        );
    }
    let server = &call.admin.server;
    let next = match modified(&server.runtime.borrow(), chosen) {
        Ok(next) => next,
        Err(error) => return Response::new(503, TEXT, error),
    };
    server.set_runtime(Arc::new(next));
    Response::ok()
}

fn modified(runtime: &Runtime, changes: &Parameters) -> Result<Runtime, &'static str> {
    let admin = runtime.layers().iter().find(|(name, _)| name == ADMIN_LAYER);
    let Some((_, values)) = admin else {
        return Err("No admin layer specified");
    };
    if values.len() + changes.len() > MOST_KEYS {
        return Err("too many runtime values were set here");
    }
    let changes: Vec<(String, String)> =
        changes.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    Ok(runtime.with_admin(&changes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, values: &[(&str, &str)]) -> (String, std::collections::BTreeMap<String, String>) {
        (name.to_owned(), values.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
    }

    #[test]
    fn layers_and_changes() {
        let runtime = Runtime::new(vec![layer("static", &[("a", "1"), ("b", "2")]), layer("admin", &[])]);
        let runtime = modified(&runtime, &Parameters::parse("b=3&c=%20")).unwrap();
        let json: String = to_json(&runtime).document().split('\n').map(str::trim).collect();
        let entry = |name: &str, last: &str, values: &str| {
            format!(r#""{name}": {{"final_value": "{last}","layer_values": [{values}]}}"#)
        };
        let entries =
            [entry("a", "1", r#""1","""#), entry("b", "3", r#""2","3""#), entry("c", " ", r#""""," ""#)].join(",");
        assert_eq!(json, format!(r#"{{"layers": ["static","admin"],"entries": {{{entries}}}}}"#));
        let removed = modified(&runtime, &Parameters::parse("b=&c")).unwrap();
        assert_eq!((removed.get("b"), removed.get("c")), (Some("2"), None));
    }

    #[test]
    fn without_an_admin_layer() {
        let runtime = Runtime::new(vec![layer("static", &[])]);
        assert_eq!(modified(&runtime, &Parameters::parse("a=1")), Err("No admin layer specified"));
    }
}
