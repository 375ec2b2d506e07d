//! `typed_per_filter_config`: what a level of a route says to HTTP filters.

use crate::compile::{Compile, Invalid, message_of};
use crate::lower::extension;
use nuncio_api::pb::envoy::config::route::v3::FilterConfig;
use nuncio_api::wkt::Any;
use nuncio_route::spec::{Opaque, PerFilterSpec};
use prost::Name;
use std::collections::HashMap;

const FIELD: &str = "typed_per_filter_config";

/// The entries that can be lowered, in the order of their names.
pub(super) fn lower(entries: &HashMap<String, Any>, cx: &mut Compile<'_>) -> Vec<PerFilterSpec> {
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_unstable_by_key(|(name, _)| name.as_str());
    let mut lowered = Vec::with_capacity(entries.len());
    for (name, any) in entries {
        lowered.extend(entry(name, any, &mut cx.entry(FIELD, name)).ok());
    }
    lowered
}

fn entry(name: &str, any: &Any, cx: &mut Compile<'_>) -> Result<PerFilterSpec, Invalid> {
    let spec = |config, disabled| PerFilterSpec { name: name.into(), config, disabled };
    if any.type_url.is_empty() {
        return Err(empty(name, cx));
    }
    if message_of(any) != FilterConfig::full_name() {
        return Ok(spec(config(name, any, false, cx)?, false));
    }
    let FilterConfig { config, is_optional, disabled } = cx.decode(any)?;
    match config {
        // What a filter that is off would be told is not looked at, as in Envoy.
        _ if disabled => Ok(spec(None, true)),
        // A configuration that says nothing turns the filter on.
        Some(config) if config.type_url.is_empty() => Ok(spec(None, false)),
        None => Err(empty(name, cx)),
        Some(config) => Ok(spec(self::config(name, &config, is_optional, &mut cx.field("config"))?, false)),
    }
}

fn empty(name: &str, cx: &mut Compile<'_>) -> Invalid {
    let text = format!("Empty route/virtual host per filter configuration for {name} filter");
    cx.error_hint(text, "add the @type of the filter's configuration for routes, or a FilterConfig with disabled: true")
}

/// The configuration as its filter compiles it; none if it is optional and no filter knows it.
fn config(name: &str, any: &Any, is_optional: bool, cx: &mut Compile<'_>) -> Result<Option<Opaque>, Invalid> {
    let message = message_of(any);
    let registry = cx.registry;
    match registry.http.iter().find(|entry| entry.per_route == message) {
        Some(entry) => (entry.compile_route)(any, cx).map(Some),
        None if is_optional => {
            cx.warn(format!("the HTTP filter {name} ({message}) is not built: its configuration is left out"));
            Ok(None)
        }
        None => {
            let known = registry.http.iter().map(|entry| entry.per_route.as_str());
            Err(extension::unknown_here(name, message, known, "HTTP filter", cx))
        }
    }
}
