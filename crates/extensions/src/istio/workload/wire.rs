//! `google.protobuf.Struct` in bytes, with fields in the order of their names, so that equal structs are equal bytes.

use nuncio_api::wkt;
use nuncio_config::lower;
use nuncio_stream_info::{Struct, Value};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

/// The bytes of a struct.
pub(crate) fn encode(fields: &Struct) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields.iter() {
        let mut entry = Vec::new();
        put(1, name.as_bytes(), &mut entry);
        put(2, &encode_value(value), &mut entry);
        put(1, &entry, &mut out);
    }
    out
}

/// `google.protobuf.Value`.
fn encode_value(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Value::String(text) => put(3, text.as_bytes(), &mut out),
        Value::Struct(fields) => put(5, &encode(fields), &mut out),
        Value::List(values) => {
            let mut list = Vec::new();
            values.iter().for_each(|value| put(1, &encode_value(value), &mut list));
            put(6, &list, &mut out);
        }
        Value::Null => number(1, 0, &mut out),
        Value::Bool(bool) => number(4, u64::from(*bool), &mut out),
        Value::Number(double) => {
            encode_key(2, WireType::SixtyFourBit, &mut out);
            out.extend(double.to_le_bytes());
        }
    }
    out
}

fn number(tag: u32, value: u64, out: &mut Vec<u8>) {
    encode_key(tag, WireType::Varint, out);
    encode_varint(value, out);
}

fn put(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// A struct of bytes; none if they are none.
pub(crate) fn decode(bytes: &[u8]) -> Option<Struct> {
    wkt::Struct::decode(bytes).ok().as_ref().map(lower::structure)
}
