//! Values, and how they compare.

use crate::functions::{write_duration, write_timestamp};
use nuncio_headers::HeaderMap;
use nuncio_stream_info::{
    self as info, ConnectionInfo, FilterState, FilterStateObject, Metadata, Struct, write_json_string,
};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

/// A value of the language.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// `1`
    Int(i64),
    /// `1u`
    Uint(u64),
    /// `1.5`
    Double(f64),
    /// Text: UTF-8 where it comes from literals, any bytes where it comes from messages.
    Text(Cow<'a, [u8]>),
    /// `b"…"`
    Bytes(Cow<'a, [u8]>),
    /// A span of time, in nanoseconds.
    Duration(i64),
    /// A point in time, in nanoseconds since 1970.
    Timestamp(i128),
    /// A list.
    List(Vec<Value<'a>>),
    /// A map with its entries in the order in which they were written.
    Map(Vec<(Value<'a>, Value<'a>)>),
    /// The name of a type.
    Type(&'static str),
    /// Something whose fields are looked up when they are asked for.
    Object(Object<'a>),
}

/// What has fields.
#[derive(Debug, Clone)]
pub enum Object<'a> {
    /// `request`
    Request,
    /// `response`
    Response,
    /// `connection`
    Connection(&'a ConnectionInfo),
    /// `source`
    Source,
    /// `destination`
    Destination,
    /// `upstream`
    Upstream,
    /// `xds`
    Xds,
    /// Headers or trailers.
    Headers(&'a HeaderMap),
    /// `core.v3.Metadata`
    Metadata(Option<&'a Metadata>),
    /// `core.v3.Metadata.filter_metadata`
    Namespaces(Option<&'a Metadata>),
    /// A struct of metadata.
    Struct(&'a Struct),
    /// `filter_state`
    FilterState(&'a FilterState),
    /// An object of the filter state.
    State(Arc<dyn FilterStateObject>),
}

impl<'a> Value<'a> {
    /// Text.
    pub fn text(text: &'a str) -> Value<'a> {
        Value::Text(Cow::Borrowed(text.as_bytes()))
    }

    /// A value of metadata.
    pub(crate) fn plain(value: &'a info::Value) -> Value<'a> {
        match value {
            info::Value::Null => Value::Null,
            info::Value::Bool(bool) => Value::Bool(*bool),
            info::Value::Number(number) => Value::Double(*number),
            info::Value::String(text) => Value::text(text),
            info::Value::List(items) => Value::List(items.iter().map(Value::plain).collect()),
            info::Value::Struct(fields) => Value::Object(Object::Struct(fields)),
        }
    }

    /// The same, of a value that does not last.
    pub(crate) fn owned(value: &info::Value) -> Value<'a> {
        let text = |text: &str| Value::Text(Cow::Owned(text.as_bytes().to_vec()));
        match value {
            info::Value::Null => Value::Null,
            info::Value::Bool(bool) => Value::Bool(*bool),
            info::Value::Number(number) => Value::Double(*number),
            info::Value::String(string) => text(string),
            info::Value::List(items) => Value::List(items.iter().map(Value::owned).collect()),
            info::Value::Struct(fields) => {
                Value::Map(fields.iter().map(|(name, value)| (text(name), Value::owned(value))).collect())
            }
        }
    }

    /// The name of its type.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::Text(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::List(_) => "list",
            Value::Map(_) | Value::Object(_) => "map",
            Value::Type(_) => "type",
        }
    }

    /// The order of two values of one kind, and of numbers.
    pub(crate) fn order(&self, other: &Value<'_>) -> Option<Ordering> {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
            (Value::Uint(a), Value::Uint(b)) => Some(a.cmp(b)),
            (Value::Int(a), Value::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Value::Uint(a), Value::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Value::Int(_) | Value::Uint(_) | Value::Double(_), Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
                self.double()?.partial_cmp(&other.double()?)
            }
            (Value::Text(a), Value::Text(b)) | (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
            (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    fn double(&self) -> Option<f64> {
        match self {
            Value::Int(number) => Some(*number as f64),
            Value::Uint(number) => Some(*number as f64),
            Value::Double(number) => Some(*number),
            _ => None,
        }
    }

    /// `==`; values of different kinds are not equal, but numbers are by what they say.
    pub(crate) fn equals(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Type(a), Value::Type(b)) => a == b,
            (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b)),
            (Value::Map(a), Value::Map(b)) => {
                let has = |key: &Value<'_>, value: &Value<'_>| b.iter().any(|(k, v)| k.equals(key) && v.equals(value));
                a.len() == b.len() && a.iter().all(|(key, value)| has(key, value))
            }
            (Value::Object(Object::Struct(a)), Value::Object(Object::Struct(b))) => a == b,
            _ => self.order(other) == Some(Ordering::Equal),
        }
    }
}

impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.equals(other)
    }
}

impl Value<'_> {
    /// Appends the value as Envoy's `%CEL()%` prints it; false for what has no text.
    pub fn write(&self, out: &mut Vec<u8>) -> bool {
        use std::io::Write;
        // Writing into a Vec can't fail.
        let _ = match self {
            Value::Null => write!(out, "NULL"),
            Value::Bool(bool) => write!(out, "{bool}"),
            Value::Int(number) => write!(out, "{number}"),
            Value::Uint(number) => write!(out, "{number}"),
            Value::Double(number) => write!(out, "{number}"),
            Value::Text(bytes) | Value::Bytes(bytes) => out.write_all(bytes),
            Value::Duration(span) => {
                write_duration(*span, out);
                Ok(())
            }
            Value::Timestamp(at) => {
                write_timestamp(*at, out);
                Ok(())
            }
            Value::List(_) => write!(out, "CelList value"),
            Value::Map(_) | Value::Object(_) => write!(out, "CelMap value"),
            Value::Type(name) => write!(out, "{name}"),
        };
        true
    }

    /// Appends the value as JSON. What has no JSON form becomes its text, as [`Value::write`] has it.
    pub(crate) fn write_json(&self, out: &mut Vec<u8>) {
        let list = |out: &mut Vec<u8>, brackets: [u8; 2], items: &mut dyn FnMut(&mut Vec<u8>)| {
            out.push(brackets[0]);
            items(out);
            if out.last() == Some(&b',') {
                out.pop();
            }
            out.push(brackets[1]);
        };
        match self {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Bool(_) | Value::Int(_) | Value::Uint(_) => {
                self.write(out);
            }
            Value::Double(number) => info::Value::Number(*number).write_json(out),
            Value::List(items) => list(out, *b"[]", &mut |out| {
                for item in items {
                    item.write_json(out);
                    out.push(b',');
                }
            }),
            Value::Map(entries) => list(out, *b"{}", &mut |out| {
                for (key, value) in entries {
                    let mut name = Vec::new();
                    key.write(&mut name);
                    write_json_string(&name, out);
                    out.push(b':');
                    value.write_json(out);
                    out.push(b',');
                }
            }),
            Value::Object(Object::Struct(fields)) => fields.write_json(out),
            Value::Object(Object::Headers(headers)) => list(out, *b"{}", &mut |out| {
                let mut entries: Vec<_> = headers.iter().collect();
                entries.sort_by_key(|(name, _)| *name);
                for (name, value) in entries {
                    write_json_string(name.as_bytes(), out);
                    out.push(b':');
                    write_json_string(value, out);
                    out.push(b',');
                }
            }),
            other => {
                let mut text = Vec::new();
                other.write(&mut text);
                write_json_string(&text, out);
            }
        }
    }
}
