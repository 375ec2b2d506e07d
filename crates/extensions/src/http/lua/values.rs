//! Plain values to Lua values and back.

use mlua::{Error, IntoLua, Lua, Table, Value as LuaValue};
use nuncio_stream_info::{Metadata, Struct, Value};

/// How deep a value of a script may be.
const MAX_DEPTH: usize = 64;

/// How many values a value of a script may hold, itself included.
const MAX_VALUES: usize = 10_000;

/// A plain value as a Lua value.
pub(super) fn to_lua(lua: &Lua, value: &Value) -> Result<LuaValue, Error> {
    match value {
        Value::Null => Ok(LuaValue::Nil),
        Value::Bool(value) => Ok(LuaValue::Boolean(*value)),
        Value::Number(number) => Ok(LuaValue::Number(*number)),
        Value::String(text) => (&**text).into_lua(lua),
        Value::List(values) => {
            let table = lua.create_table_with_capacity(values.len(), 0)?;
            for (at, value) in values.iter().enumerate() {
                table.raw_set(at + 1, to_lua(lua, value)?)?;
            }
            Ok(LuaValue::Table(table))
        }
        Value::Struct(fields) => table(lua, fields).map(LuaValue::Table),
    }
}

/// A struct as a table.
pub(super) fn table(lua: &Lua, fields: &Struct) -> Result<Table, Error> {
    let table = lua.create_table_with_capacity(0, fields.len())?;
    for (name, value) in fields.iter() {
        table.raw_set(name, to_lua(lua, value)?)?;
    }
    Ok(table)
}

/// Metadata as a table of tables.
pub(super) fn namespaces(lua: &Lua, metadata: Option<&Metadata>) -> Result<Table, Error> {
    let all = lua.create_table()?;
    for (name, fields) in metadata.iter().flat_map(|metadata| metadata.iter()) {
        all.raw_set(name, table(lua, fields)?)?;
    }
    Ok(all)
}

/// How large a value became.
#[derive(Default)]
struct Size {
    values: usize,
    bytes: usize,
}

/// What a value costs beside its text, bytes.
const VALUE: usize = 48;

/// A Lua value as a plain value with about how many bytes it holds, or what is wrong with it.
pub(super) fn from_lua(value: LuaValue) -> Result<(Value, usize), String> {
    let mut size = Size::default();
    let value = convert(value, 0, &mut size)?;
    Ok((value, size.bytes + size.values * VALUE))
}

fn convert(value: LuaValue, depth: usize, size: &mut Size) -> Result<Value, String> {
    size.values += 1;
    if size.values > MAX_VALUES {
        return Err("too many values for dynamicMetadata".to_owned());
    }
    if depth > MAX_DEPTH {
        return Err("a table is nested too deeply for dynamicMetadata".to_owned());
    }
    match value {
        LuaValue::Nil => Ok(Value::Null),
        LuaValue::Boolean(value) => Ok(Value::Bool(value)),
        LuaValue::Integer(number) => Ok(Value::Number(number as f64)),
        LuaValue::Number(number) => Ok(Value::Number(number)),
        LuaValue::String(text) => {
            size.bytes += text.as_bytes().len();
            Ok(Value::String(text.to_string_lossy().into()))
        }
        LuaValue::Table(table) => match list_length(&table)? {
            Some(length) => list(&table, length, depth, size),
            None => fields(&table, depth, size),
        },
        other => Err(format!("unexpected type '{}' in dynamicMetadata", other.type_name())),
    }
}

/// The highest index, if all keys are indexes.
fn list_length(table: &Table) -> Result<Option<usize>, String> {
    let mut highest = 0;
    for pair in table.pairs::<LuaValue, LuaValue>() {
        let (key, _) = pair.map_err(|error| error.to_string())?;
        match key {
            LuaValue::Integer(index) if index > 0 && index as u64 <= MAX_VALUES as u64 => {
                highest = highest.max(index as usize);
            }
            LuaValue::Number(index) if index >= 1.0 && index <= MAX_VALUES as f64 && index.fract() == 0.0 => {
                highest = highest.max(index as usize);
            }
            _ => return Ok(None),
        }
    }
    Ok((highest > 0).then_some(highest))
}

fn list(table: &Table, length: usize, depth: usize, size: &mut Size) -> Result<Value, String> {
    let mut values = Vec::new();
    for index in 1..=length {
        let value: LuaValue = table.raw_get(index).map_err(|error| error.to_string())?;
        values.push(convert(value, depth + 1, size)?);
    }
    Ok(Value::List(values))
}

fn fields(table: &Table, depth: usize, size: &mut Size) -> Result<Value, String> {
    let mut fields = Struct::new();
    for pair in table.pairs::<LuaValue, LuaValue>() {
        let (key, value) = pair.map_err(|error| error.to_string())?;
        let LuaValue::String(name) = key else {
            let kind = match key {
                LuaValue::Integer(_) => "number",
                other => other.type_name(),
            };
            return Err(format!("unexpected type {kind} in table key (only string keys are supported)"));
        };
        size.bytes += name.as_bytes().len();
        fields.set(name.to_string_lossy(), convert(value, depth + 1, size)?);
    }
    Ok(Value::Struct(fields))
}
