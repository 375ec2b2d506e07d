//! Metadata of the configuration, and dynamic metadata.

use super::{Primitives, charge};
use crate::http::lua::config::NAME;
use crate::http::lua::exchange::Parts;
use crate::http::lua::values;
use mlua::{Error, Lua, LuaString, Value};
use nuncio_stream_info::{Metadata, Struct};
use std::sync::Arc;

pub(super) fn add(primitives: &Primitives<'_>) -> Result<(), Error> {
    primitives.add("metadata", |lua, parts, (kind, key): (LuaString, Option<LuaString>)| {
        with_fields(parts, &kind.as_bytes(), |fields| match key {
            None => values::table(lua, fields.unwrap_or(&Struct::new())).map(Value::Table),
            Some(key) => match fields.and_then(|fields| fields.get(&key.to_string_lossy())) {
                Some(value) => values::to_lua(lua, value),
                None => Ok(Value::Nil),
            },
        })
    })?;
    primitives.add("dynamic_metadata", |lua, parts, (kind, namespace): (LuaString, Option<LuaString>)| {
        // Connections have no dynamic metadata of their own here: no network filter writes any.
        let of_stream = kind.as_bytes() == *b"stream";
        let metadata = if of_stream { parts.info.dynamic_metadata() } else { None };
        match namespace {
            None => values::namespaces(lua, metadata).map(Value::Table),
            Some(namespace) => match metadata.and_then(|all| all.namespace(&namespace.to_string_lossy())) {
                Some(fields) => values::table(lua, fields).map(Value::Table),
                None => Ok(Value::Nil),
            },
        }
    })?;
    primitives.add("set_dynamic_metadata", |_: &Lua, parts, (namespace, key, value): (LuaString, LuaString, Value)| {
        Ok(set(parts, &namespace.to_string_lossy(), &key.to_string_lossy(), value).err())
    })
}

fn set(parts: &mut Parts, namespace: &str, key: &str, value: Value) -> Result<(), String> {
    let (value, size) = values::from_lua(value)?;
    if let Some(refused) = charge(parts, namespace.len() + key.len() + size) {
        return Err(refused);
    }
    parts.info.dynamic_metadata_mut().namespace_mut(namespace).set(key, value);
    Ok(())
}

/// Calls `read` with the fields that a metadata object stands for.
fn with_fields<T>(parts: &mut Parts, kind: &[u8], read: impl FnOnce(Option<&Struct>) -> T) -> T {
    if kind == b"context" {
        return read(parts.side.context.as_deref());
    }
    let names = &parts.state.names;
    let filter = names.get(parts.state.current).cloned().unwrap_or_else(|| Arc::from(NAME));
    let metadata = parts.stream().and_then(|mut stream| match kind {
        b"virtual_host" => stream.virtual_host().and_then(|host| host.info().metadata.clone()),
        _ => stream.route().and_then(|route| route.metadata().cloned()),
    });
    read(metadata.as_ref().and_then(|metadata| of_filter(metadata, &filter)))
}

/// What metadata says under the filter's name in the configuration, or under the extension's.
fn of_filter<'a>(metadata: &'a Metadata, filter: &str) -> Option<&'a Struct> {
    metadata.namespace(filter).or_else(|| metadata.namespace(NAME))
}
