//! `Struct`, `Value`, `ListValue` and `FieldMask`.

use super::{Transcoder, Written, found, null_hint, number, wire};
use crate::tree::{NodeRef, Scalar, Shape};
use nuncio_api::schema::MessageRef;

const STRUCT_FIELDS: u32 = 1;
const LIST_VALUES: u32 = 1;
const ENTRY_KEY: u32 = 1;
const ENTRY_VALUE: u32 = 2;
const VALUE_NULL: u32 = 1;
const VALUE_NUMBER: u32 = 2;
const VALUE_STRING: u32 = 3;
const VALUE_BOOL: u32 = 4;
const VALUE_STRUCT: u32 = 5;
const VALUE_LIST: u32 = 6;

impl Transcoder<'_> {
    /// Writes the entries of a `Struct`.
    pub(super) fn structure(&mut self, node: NodeRef<'_>, out: &mut Vec<u8>) -> Written {
        let Shape::Mapping(entries) = node.shape() else {
            return Err(self.report_with(node, format!("found {}, expected a mapping", found(node)), null_hint(node)));
        };
        for (key, value) in entries {
            self.path.push_key(key.spelling());
            let start = out.len();
            wire::put_tag(out, STRUCT_FIELDS, wire::LENGTH);
            let written = wire::put_nested(out, |out| {
                wire::put_bytes(out, ENTRY_KEY, key.spelling().as_bytes());
                wire::put_tag(out, ENTRY_VALUE, wire::LENGTH);
                wire::put_nested(out, |out| self.nested_value(value, 3, out))
            });
            if written.is_err() {
                out.truncate(start);
            }
            self.path.pop();
        }
        Ok(())
    }

    /// A value inside a `Struct` or a list: deeper by the value, the container, and in a `Struct` by the entry.
    fn nested_value(&mut self, node: NodeRef<'_>, levels: usize, out: &mut Vec<u8>) -> Written {
        if self.depth + levels > super::MAX_WIRE_DEPTH {
            let limit = super::MAX_WIRE_DEPTH;
            return Err(self.report(node, format!("messages are nested deeper than {limit} levels")));
        }
        self.depth += levels;
        let written = self.value(node, out);
        self.depth -= levels;
        written
    }

    /// Writes the field of a `Value`.
    pub(super) fn value(&mut self, node: NodeRef<'_>, out: &mut Vec<u8>) -> Written {
        let number = |out: &mut Vec<u8>, value: f64| {
            wire::put_tag(out, VALUE_NUMBER, wire::FIXED64);
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        };
        match node.shape() {
            Shape::Scalar(Scalar::Null) => {
                wire::put_tag(out, VALUE_NULL, wire::VARINT);
                out.push(0);
            }
            Shape::Scalar(Scalar::Bool(value)) => {
                wire::put_tag(out, VALUE_BOOL, wire::VARINT);
                out.push(u8::from(value));
            }
            // Envoy keeps whole numbers of 32 bits as numbers, and hands larger ones on as strings.
            Shape::Scalar(Scalar::Int(value)) => match i32::try_from(value) {
                Ok(value) => number(out, f64::from(value)),
                Err(_) => wire::put_bytes(out, VALUE_STRING, value.to_string().as_bytes()),
            },
            Shape::Scalar(Scalar::Number(text)) => match number::float(text) {
                Ok(value) if value.is_finite() => number(out, value),
                _ => return Err(self.report(node, format!("found {}, expected a finite number", found(node)))),
            },
            Shape::Scalar(Scalar::Text(text)) => wire::put_bytes(out, VALUE_STRING, text.as_bytes()),
            Shape::Mapping(_) => {
                wire::put_tag(out, VALUE_STRUCT, wire::LENGTH);
                return wire::put_nested(out, |out| self.structure(node, out));
            }
            Shape::Sequence(_) => {
                wire::put_tag(out, VALUE_LIST, wire::LENGTH);
                return wire::put_nested(out, |out| self.list_value(node, out));
            }
        }
        Ok(())
    }

    /// Writes the values of a `ListValue`.
    pub(super) fn list_value(&mut self, node: NodeRef<'_>, out: &mut Vec<u8>) -> Written {
        let Shape::Sequence(items) = node.shape() else {
            return Err(self.report_with(node, format!("found {}, expected a list", found(node)), null_hint(node)));
        };
        for (index, item) in items.enumerate() {
            self.path.push_index(index);
            let start = out.len();
            wire::put_tag(out, LIST_VALUES, wire::LENGTH);
            if wire::put_nested(out, |out| self.nested_value(item, 2, out)).is_err() {
                out.truncate(start);
            }
            self.path.pop();
        }
        Ok(())
    }

    /// Writes the paths of a `FieldMask`: lowerCamel paths joined with commas.
    pub(super) fn field_mask(&mut self, node: NodeRef<'_>, message: MessageRef, out: &mut Vec<u8>) -> Written {
        if matches!(node.shape(), Shape::Mapping(_)) {
            return self.message(node, message, out);
        }
        let text = self.string(node)?;
        for path in text.split(',').filter(|path| !path.is_empty()) {
            let mut snake = String::with_capacity(path.len() + 8);
            for c in path.chars() {
                if c.is_ascii_uppercase() {
                    snake.push('_');
                }
                snake.push(c.to_ascii_lowercase());
            }
            wire::put_bytes(out, 1, snake.as_bytes());
        }
        Ok(())
    }
}
