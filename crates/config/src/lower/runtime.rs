//! `layered_runtime`.

use super::{config_source, value};
use crate::compile::Compile;
use crate::sources::Source;
use nuncio_api::pb::envoy::config::bootstrap::v3 as pb;
use nuncio_api::wkt;
use nuncio_filter::Runtime;
use std::collections::{BTreeMap, HashSet};
use wkt::value::Kind;

/// The layers, and which of them the admin endpoint changes.
#[derive(Default)]
pub(super) struct Layered {
    pub(super) values: Runtime,
    pub(super) admin_layer: Option<String>,
    /// Layers of discovery: name of the resource, place of the layer, source.
    pub(super) discovered: Vec<(String, usize, Source)>,
}

/// `LayeredRuntime`. Without one there are no values, and the admin endpoint can't set any, as in Envoy.
pub(super) fn layered(runtime: Option<&pb::LayeredRuntime>, cx: &mut Compile<'_>) -> Layered {
    use pb::runtime_layer::LayerSpecifier;
    let mut layers = Vec::new();
    let mut admin_layer = None;
    let mut discovered = Vec::new();
    let mut names = HashSet::new();
    for (index, layer) in runtime.iter().flat_map(|runtime| &runtime.layers).enumerate() {
        let mut cx = cx.element("layers", index);
        let pb::RuntimeLayer { name, layer_specifier } = layer;
        if !names.insert(name) {
            cx.field("name").error(format!("Duplicate layer name: {name}"));
        }
        let mut values = BTreeMap::new();
        match layer_specifier {
            None => {
                cx.error_hint("has no values", "set static_layer or admin_layer");
            }
            Some(LayerSpecifier::StaticLayer(fields)) => {
                flatten_fields(fields, String::new(), &mut values, &mut cx.field("static_layer"));
            }
            Some(LayerSpecifier::AdminLayer(_)) if admin_layer.is_some() => {
                let text = "Too many admin layers specified in LayeredRuntime, at most one may be specified";
                cx.field("admin_layer").error(text);
            }
            Some(LayerSpecifier::AdminLayer(_)) => admin_layer = Some(name.clone()),
            Some(LayerSpecifier::DiskLayer(_)) => cx.unsupported("disk_layer"),
            Some(LayerSpecifier::RtdsLayer(rtds)) => {
                let mut cx = cx.field("rtds_layer");
                match &rtds.rtds_config {
                    Some(source) => {
                        let source = config_source(source, &mut cx.field("rtds_config"));
                        discovered.extend(source.ok().map(|source| (rtds.name.clone(), index, source)));
                    }
                    None => {
                        cx.field("rtds_config").error("is required");
                    }
                }
            }
        }
        layers.push((name.clone(), values));
    }
    Layered { values: Runtime::new(layers), admin_layer, discovered }
}

/// A layer of RTDS.
pub(super) fn discovered_layer(
    runtime: &nuncio_api::pb::envoy::service::runtime::v3::Runtime,
    cx: &mut Compile<'_>,
) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    if let Some(fields) = &runtime.layer {
        flatten_fields(fields, String::new(), &mut values, &mut cx.field("layer"));
    }
    values
}

/// Nested structs become dotted keys; one that has a `numerator` or a `denominator` is a fraction.
fn flatten_fields(fields: &wkt::Struct, prefix: String, out: &mut BTreeMap<String, String>, cx: &mut Compile<'_>) {
    for (name, value) in &fields.fields {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        flatten(value, key, out, &mut cx.entry_below(name));
    }
}

fn flatten(found: &wkt::Value, key: String, out: &mut BTreeMap<String, String>, cx: &mut Compile<'_>) {
    let text = match &found.kind {
        Some(Kind::BoolValue(bool)) => bool.to_string(),
        Some(Kind::NumberValue(number)) => number.to_string(),
        Some(Kind::StringValue(text)) => text.clone(),
        Some(Kind::StructValue(fields)) => {
            let is_fraction = ["numerator", "denominator"].iter().any(|name| fields.fields.contains_key(*name));
            if !is_fraction && !fields.fields.is_empty() {
                return flatten_fields(fields, key, out, cx);
            }
            let mut json = Vec::new();
            value::structure(fields).write_json(&mut json);
            String::from_utf8_lossy(&json).into_owned()
        }
        None | Some(Kind::NullValue(_) | Kind::ListValue(_)) => {
            let text =
                format!("Invalid runtime entry value for {key}: expected a number, a switch, a text or a fraction");
            cx.error(text);
            return;
        }
    };
    out.insert(key, text);
}
