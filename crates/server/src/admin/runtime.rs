//! `/runtime` and `/runtime_modify`.

use super::endpoint::Call;
use super::json::Json;
use super::request::Parameters;
use super::response::{Response, TEXT};
use nuncio_filter::Runtime;
use std::collections::BTreeSet;
use std::sync::Arc;

const USAGE: &str = "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n       \
                     or send the parameters as form values\n\
                     use an empty value to remove a previously added override";
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
    let changes = if call.parameters.is_empty() { call.form } else { call.parameters };
    if changes.is_empty() {
        return Response::bad_request(USAGE);
    }
    let server = &call.admin.server;
    let layer = server.snapshot.borrow().admin_runtime_layer.clone();
    let next = modified(&server.runtime.borrow(), layer.as_deref(), changes);
    match next {
        Ok(next) => {
            server.set_runtime(Arc::new(next));
            Response::ok()
        }
        Err(error) => Response::new(503, TEXT, error),
    }
}

/// The runtime with changes in this layer; an empty value removes a key from it.
fn modified(runtime: &Runtime, layer: Option<&str>, changes: &Parameters) -> Result<Runtime, &'static str> {
    let mut layers = runtime.layers().to_vec();
    let Some((_, values)) = layers.iter_mut().find(|(name, _)| Some(name.as_str()) == layer) else {
        return Err("No admin layer specified");
    };
    if values.len() + changes.len() > MOST_KEYS {
        return Err("too many runtime values were set here");
    }
    for (key, value) in changes.iter() {
        match value {
            "" => values.remove(key),
            value => values.insert(key.to_owned(), value.to_owned()),
        };
    }
    Ok(Runtime::new(layers))
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
        let runtime = modified(&runtime, Some("admin"), &Parameters::parse("b=3&c=%20")).unwrap();
        let json: String = to_json(&runtime).document().split('\n').map(str::trim).collect();
        let entry = |name: &str, last: &str, values: &str| {
            format!(r#""{name}": {{"final_value": "{last}","layer_values": [{values}]}}"#)
        };
        let entries =
            [entry("a", "1", r#""1","""#), entry("b", "3", r#""2","3""#), entry("c", " ", r#"""," ""#)].join(",");
        assert_eq!(json, format!(r#"{{"layers": ["static","admin"],"entries": {{{entries}}}}}"#));
        let removed = modified(&runtime, Some("admin"), &Parameters::parse("b=&c")).unwrap();
        assert_eq!((removed.get("b"), removed.get("c")), (Some("2"), None));
    }

    #[test]
    fn without_an_admin_layer() {
        let runtime = Runtime::new(vec![layer("static", &[])]);
        assert_eq!(modified(&runtime, None, &Parameters::parse("a=1")), Err("No admin layer specified"));
    }
}
