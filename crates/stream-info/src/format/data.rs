//! Operators that print metadata and filter state.

use crate::{FieldValue, FilterStateObject, LogContext, Metadata, Struct, Value};
use std::sync::Arc;

/// Whose metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetadataOf {
    Dynamic,
    Cluster,
    UpstreamHost,
    Route,
    VirtualHost,
    Listener,
    FilterChain,
}

impl MetadataOf {
    fn of<'a>(self, cx: &LogContext<'a>) -> Option<&'a Metadata> {
        let info = cx.info;
        let route = info.route.as_deref();
        match self {
            MetadataOf::Dynamic => info.dynamic_metadata(),
            MetadataOf::Cluster => info.upstream.cluster.as_deref()?.metadata.as_deref(),
            MetadataOf::UpstreamHost => info.upstream.host()?.metadata.as_deref(),
            MetadataOf::Route => route?.metadata.as_deref(),
            MetadataOf::VirtualHost => {
                let of_route = route.map(|route| &route.virtual_host);
                of_route.or(info.virtual_host.as_ref())?.metadata.as_deref()
            }
            MetadataOf::Listener => info.connection.as_deref()?.listener_metadata.as_deref(),
            MetadataOf::FilterChain => info.connection.as_deref()?.filter_chain_metadata.as_deref(),
        }
    }
}

/// A namespace, or a value in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MetadataValue {
    pub(super) of: MetadataOf,
    pub(super) namespace: Box<str>,
    pub(super) path: Vec<Box<str>>,
    /// Cuts text; JSON only where it is a string.
    pub(super) max_length: Option<usize>,
}

enum Found<'a> {
    Struct(&'a Struct),
    Value(&'a Value),
}

impl MetadataValue {
    fn find<'a>(&self, cx: &LogContext<'a>) -> Option<Found<'a>> {
        let metadata = self.of.of(cx)?;
        if self.path.is_empty() {
            return metadata.namespace(&self.namespace).map(Found::Struct);
        }
        match metadata.get(&self.namespace, &self.path)? {
            Value::Null => None,
            value => Some(Found::Value(value)),
        }
    }

    pub(super) fn write(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        match self.find(cx) {
            Some(Found::Value(Value::String(text))) => out.extend_from_slice(text.as_bytes()),
            Some(Found::Value(value)) => value.write_json(out),
            Some(Found::Struct(fields)) => fields.write_json(out),
            None => return false,
        }
        cut(out, start, self.max_length);
        true
    }

    pub(super) fn write_json(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        match self.find(cx) {
            Some(Found::Value(Value::String(text))) => {
                let text = text.as_bytes();
                let kept = self.max_length.map_or(text.len(), |max| max.min(text.len()));
                crate::write_json_string(&text[..kept], out);
            }
            Some(Found::Value(value)) => value.write_json(out),
            Some(Found::Struct(fields)) => fields.write_json(out),
            None => return false,
        }
        true
    }
}

/// Cuts what was appended since `start` to so many bytes.
pub(super) fn cut(out: &mut Vec<u8>, start: usize, max_length: Option<usize>) {
    if let Some(max) = max_length {
        out.truncate(start.saturating_add(max));
    }
}

/// How an object of the filter state is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Serialisation {
    /// Its text.
    Plain,
    /// The JSON of its protobuf form.
    Typed,
    /// One of its fields.
    Field(Box<str>),
}

/// An object of the filter state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FilterStateValue {
    pub(super) upstream: bool,
    pub(super) key: Box<str>,
    pub(super) serialisation: Serialisation,
    pub(super) max_length: Option<usize>,
}

impl FilterStateValue {
    pub(super) fn is_typed(&self) -> bool {
        self.serialisation == Serialisation::Typed
    }

    fn object(&self, cx: &LogContext<'_>) -> Option<Arc<dyn FilterStateObject>> {
        let state = if self.upstream { &cx.info.upstream.filter_state } else { &cx.info.filter_state };
        state.get(&self.key)
    }

    pub(super) fn write(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        let Some(object) = self.object(cx) else { return false };
        let start = out.len();
        let is_set = match &self.serialisation {
            Serialisation::Plain => super::texts::put(object.to_plain().as_deref(), out),
            Serialisation::Typed => match object.to_typed() {
                Some(value) => {
                    value.write_json(out);
                    true
                }
                None => false,
            },
            Serialisation::Field(name) => match object.field(name) {
                Some(FieldValue::Text(text)) => super::texts::put(Some(&text), out),
                Some(FieldValue::Number(number)) => super::op::put_integer(number, out),
                None => false,
            },
        };
        cut(out, start, self.max_length);
        is_set
    }

    /// The typed form as JSON; a length does not cut it.
    pub(super) fn write_json(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        match self.object(cx).and_then(|object| object.to_typed()) {
            None | Some(Value::Null) => false,
            Some(value) => {
                value.write_json(out);
                true
            }
        }
    }
}
