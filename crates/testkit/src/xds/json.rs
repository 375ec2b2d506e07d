//! Resources as JSON, by the schema table of the API.

use nuncio_api::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use nuncio_api::schema::{MessageRef, Schema};
use nuncio_api::wkt::Any;
use nuncio_config::json::{JsonOptions, to_json};
use nuncio_config::transcode::{Options, transcode};
use nuncio_config::tree::Tree;
use nuncio_config::{Diagnostics, Format, Source};
use prost::Message;
use serde_json::Value;

use super::message::{Message as Said, type_url};

/// The resource that `json` is, by its `@type`: a type URL.
pub fn any(json: &Value) -> Result<Any, String> {
    let mut json = json.clone();
    let url = json.as_object_mut().and_then(|object| object.remove("@type"));
    let url = url.as_ref().and_then(Value::as_str).ok_or("a resource needs its @type")?;
    any_of(url, &json)
}

/// The resource of type `wanted` (a type URL or a short name: `cds`, ...) that `json` is. Fields that are unknown are errors.
pub fn any_of(wanted: &str, json: &Value) -> Result<Any, String> {
    let url = type_url(wanted);
    let message = Schema::message_of_url(&url).ok_or_else(|| format!("unknown type {url}"))?;
    Ok(Any { value: wire(json, message)?, type_url: url })
}

fn wire(json: &Value, message: MessageRef) -> Result<Vec<u8>, String> {
    let mut diagnostics = Diagnostics::new();
    let source = Source::new("resource", json.to_string(), Format::Json);
    let tree = Tree::parse(&source, &mut diagnostics);
    let wire = tree.map(|tree| transcode(&tree, message, Options::default(), &mut diagnostics).wire);
    match wire {
        Some(wire) if !diagnostics.has_errors() => Ok(wire),
        _ => {
            Err(diagnostics.iter().map(|diagnostic| format!("{}: {}; ", diagnostic.path, diagnostic.message)).collect())
        }
    }
}

/// `bytes`, a message of the type `url` names, as JSON; `Null` for an unknown type.
pub fn json_of(url: &str, bytes: &[u8]) -> Value {
    let text = Schema::message_of_url(url).map(|message| to_json(bytes, message, JsonOptions::default()));
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

const DISCOVERY: &str = "envoy.service.discovery.v3.";

/// The body of a REST response.
pub(super) fn response(response: &DiscoveryResponse) -> String {
    let message = Schema::message(&format!("{DISCOVERY}DiscoveryResponse"));
    message.map(|message| to_json(&response.encode_to_vec(), message, JsonOptions::default())).unwrap_or_default()
}

/// Reads the body of a REST request.
pub(super) fn request(body: &[u8]) -> Said {
    let read = || {
        let message = Schema::message(&format!("{DISCOVERY}DiscoveryRequest"))?;
        let wire = wire(&serde_json::from_slice(body).ok()?, message).ok()?;
        Some(Said::Sotw(Box::new(DiscoveryRequest::decode(&wire[..]).ok()?)))
    };
    read().unwrap_or_else(|| Said::Raw(body.to_vec()))
}
