//! `google.protobuf.Struct` and `core.v3.Metadata` to plain values.

use crate::compile::Compile;
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::wkt;
use nuncio_matcher::{ValueKind, ValueRef};
use nuncio_stream_info::{Metadata, Struct, Value};
use std::sync::Arc;
use wkt::value::Kind;

/// A `Value`. Decoding bounds how deep it is.
pub fn value(value: &wkt::Value) -> Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(bool)) => Value::Bool(*bool),
        Some(Kind::NumberValue(number)) => Value::Number(*number),
        Some(Kind::StringValue(text)) => Value::String(text.as_str().into()),
        Some(Kind::ListValue(list)) => Value::List(list.values.iter().map(self::value).collect()),
        Some(Kind::StructValue(fields)) => Value::Struct(structure(fields)),
    }
}

/// A `Struct`.
pub fn structure(fields: &wkt::Struct) -> Struct {
    let mut entries: Vec<_> = fields.fields.iter().collect();
    entries.sort_unstable_by_key(|(name, _)| name.as_str());
    entries.into_iter().map(|(name, field)| (name.as_str(), value(field))).collect()
}

/// `Metadata` in `field`; none if there is none. `typed_filter_metadata` is for extensions only, and is reported.
pub fn metadata(metadata: &Option<core::Metadata>, field: &'static str, cx: &mut Compile<'_>) -> Option<Arc<Metadata>> {
    let core::Metadata { filter_metadata, typed_filter_metadata } = metadata.as_ref()?;
    if !typed_filter_metadata.is_empty() {
        cx.field(field).unsupported("typed_filter_metadata");
    }
    let mut lowered = Metadata::new();
    let mut namespaces: Vec<_> = filter_metadata.iter().collect();
    namespaces.sort_unstable_by_key(|(name, _)| name.as_str());
    for (name, fields) in namespaces {
        *lowered.namespace_mut(name) = structure(fields);
    }
    (!lowered.is_empty()).then(|| Arc::new(lowered))
}

/// A value as matchers look at it.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a>(pub(super) &'a Value);

impl<'a> ValueRef<'a> for Shown<'a> {
    fn kind(self) -> ValueKind<'a> {
        match self.0 {
            Value::Null => ValueKind::Null,
            Value::Bool(bool) => ValueKind::Bool(*bool),
            Value::Number(number) => ValueKind::Number(*number),
            Value::String(text) => ValueKind::String(text.as_bytes()),
            Value::List(_) => ValueKind::List,
            Value::Struct(_) => ValueKind::Struct,
        }
    }

    fn field(self, key: &str) -> Option<Self> {
        match self.0 {
            Value::Struct(fields) => fields.get(key).map(Shown),
            _ => None,
        }
    }

    fn any_item(self, test: &mut dyn FnMut(Self) -> bool) -> bool {
        match self.0 {
            Value::List(items) => items.iter().any(|item| test(Shown(item))),
            _ => false,
        }
    }
}
