//! Wire bytes to JSON, as Envoy prints messages in `/config_dump`: fields under their proto names in the order of their numbers,
//! one blank of indentation, payloads of `Any` in place.
//!
//! Nothing is decoded into typed messages: the schema table says what the bytes mean. What the table does not know is left
//! out, and bytes that are no message show as an empty one.

mod number;
mod string;
mod well_known;

#[cfg(test)]
mod tests;

pub use string::write_string;

use crate::transcode::grouped::{self, Grouped, Number};
use crate::transcode::wire::{self, WireValue};
use nuncio_api::schema::{FieldRef, Kind, MessageRef, Schema, WellKnown};
use std::fmt::Write as _;

/// How deep messages may be nested; what is deeper shows as an empty message.
const MAX_DEPTH: usize = 200;
const REDACTED: &str = "[redacted]";
/// [`REDACTED`] in base64.
const REDACTED_BYTES: &str = "W3JlZGFjdGVkXQ==";

/// How messages are printed.
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonOptions {
    /// On one line, without blanks.
    pub compact: bool,
    /// Fields marked as sensitive in the API show as `[redacted]`, and numbers in them not at all.
    pub redact: bool,
    /// How many levels the message is indented already.
    pub indentation: usize,
}

/// `bytes`, a `message`, as JSON.
pub fn to_json(bytes: &[u8], message: MessageRef, options: JsonOptions) -> String {
    let mut out = String::new();
    write_message(&mut out, bytes, message, options);
    out
}

/// Appends `bytes`, a `message`, as JSON.
pub fn write_message(out: &mut String, bytes: &[u8], message: MessageRef, options: JsonOptions) {
    let mut writer = Writer { out, options, indentation: options.indentation, depth: 0 };
    writer.message(bytes, message, false);
}

struct Writer<'o> {
    out: &'o mut String,
    options: JsonOptions,
    indentation: usize,
    depth: usize,
}

impl Writer<'_> {
    fn line(&mut self) {
        if !self.options.compact {
            self.out.push('\n');
            (0..self.indentation).for_each(|_| self.out.push(' '));
        }
    }

    /// Writes what stands between `open` and `close`; `members` says for each whether it is the first.
    fn container(&mut self, open: char, close: char, members: impl FnOnce(&mut Self, &mut bool)) {
        self.out.push(open);
        self.indentation += 1;
        let mut first = true;
        members(self, &mut first);
        self.indentation -= 1;
        if !first {
            self.line();
        }
        self.out.push(close);
    }

    fn next(&mut self, first: &mut bool) {
        if !std::mem::take(first) {
            self.out.push(',');
        }
        self.line();
    }

    fn key(&mut self, first: &mut bool, name: &str) {
        self.next(first);
        write_string(self.out, name);
        self.out.push_str(if self.options.compact { ":" } else { ": " });
    }

    /// A message in the form that JSON has for it.
    fn message(&mut self, bytes: &[u8], message: MessageRef, sensitive: bool) {
        if self.depth >= MAX_DEPTH {
            self.out.push_str("{}");
            return;
        }
        self.depth += 1;
        match message.well_known() {
            None | Some(WellKnown::Empty | WellKnown::TypedStruct) => {
                self.container('{', '}', |writer, first| writer.fields(bytes, message, sensitive, first));
            }
            Some(WellKnown::Any) => self.any(bytes, sensitive),
            Some(form) => self.well_known(bytes, message, form, sensitive),
        }
        self.depth -= 1;
    }

    fn fields(&mut self, bytes: &[u8], message: MessageRef, sensitive: bool, first: &mut bool) {
        let Ok(values) = Grouped::read(bytes, message) else { return };
        for (field, occurrences) in values.groups() {
            let sensitive = sensitive || (self.options.redact && field.is_sensitive());
            self.field(field, occurrences, sensitive, first);
        }
    }

    fn field(&mut self, field: FieldRef, occurrences: &[(FieldRef, WireValue<'_>)], sensitive: bool, first: &mut bool) {
        let is_text = matches!(field.kind(), Kind::String | Kind::Bytes | Kind::Message);
        if sensitive && !is_text {
            return;
        }
        if field.is_map() {
            self.key(first, field.name());
            self.map(field, occurrences, sensitive);
        } else if field.is_list() {
            let elements = grouped::elements(field, occurrences).unwrap_or_default();
            if elements.is_empty() {
                return;
            }
            self.key(first, field.name());
            self.container('[', ']', |writer, first| {
                for element in elements {
                    writer.next(first);
                    writer.value(field, element, sensitive);
                }
            });
        } else if let (Kind::Message, Some(message)) = (field.kind(), field.message()) {
            self.key(first, field.name());
            self.message(&grouped::merged(occurrences), message, sensitive);
        } else if let Some((_, value)) = occurrences.last() {
            let is_default = value.bits() == 0 && value.bytes().is_empty();
            if field.has_presence() || !is_default {
                self.key(first, field.name());
                self.value(field, *value, sensitive);
            }
        }
    }

    fn map(&mut self, field: FieldRef, entries: &[(FieldRef, WireValue<'_>)], sensitive: bool) {
        let Some((key_field, value_field)) = field.map_entry() else { return };
        let mut pairs: Vec<(String, WireValue<'_>)> = Vec::with_capacity(entries.len());
        for (_, entry) in entries {
            let (mut key, mut value) = (WireValue::Bytes(b""), default_of(value_field));
            for (number, part) in wire::fields(entry.bytes()).flatten() {
                match number {
                    1 => key = part,
                    2 => value = part,
                    _ => {}
                }
            }
            pairs.push((map_key(key_field, key), value));
        }
        self.pairs(pairs, |writer, value| match (sensitive, value_field.kind()) {
            (true, kind) if !matches!(kind, Kind::String | Kind::Bytes | Kind::Message) => writer.out.push_str("null"),
            _ => writer.value(value_field, *value, sensitive),
        });
    }

    /// Writes the members of a map; of two with one key the last counts.
    fn pairs<V>(&mut self, pairs: Vec<(String, V)>, write: impl Fn(&mut Self, &V)) {
        let last: std::collections::HashMap<&str, usize> =
            pairs.iter().enumerate().map(|(at, (key, _))| (key.as_str(), at)).collect();
        self.container('{', '}', |writer, first| {
            for (at, (key, value)) in pairs.iter().enumerate() {
                if last.get(key.as_str()) == Some(&at) {
                    writer.key(first, key);
                    write(writer, value);
                }
            }
        });
    }

    /// One scalar or message.
    fn value(&mut self, field: FieldRef, value: WireValue<'_>, sensitive: bool) {
        match field.kind() {
            Kind::Message => match field.message() {
                Some(message) => self.message(value.bytes(), message, sensitive),
                None => self.out.push_str("{}"),
            },
            Kind::Enum => self.enumeration(field, value),
            kind => self.scalar(kind, value, sensitive),
        }
    }

    fn scalar(&mut self, kind: Kind, value: WireValue<'_>, sensitive: bool) {
        match kind {
            Kind::String if sensitive => write_string(self.out, REDACTED),
            Kind::Bytes if sensitive => write_string(self.out, REDACTED_BYTES),
            Kind::String => write_string(self.out, &String::from_utf8_lossy(value.bytes())),
            Kind::Bytes => string::write_base64(self.out, value.bytes()),
            Kind::Bool => self.out.push_str(if value.bits() != 0 { "true" } else { "false" }),
            Kind::Float => number::write_float(self.out, f32::from_bits(value.bits() as u32)),
            _ => match grouped::number(kind, value) {
                Number::Real(value) => number::write_double(self.out, value),
                Number::Whole(value) => {
                    let quote = match kind {
                        Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Fixed64 | Kind::Sfixed64 => "\"",
                        _ => "",
                    };
                    let _ = write!(self.out, "{quote}{value}{quote}");
                }
            },
        }
    }

    fn enumeration(&mut self, field: FieldRef, value: WireValue<'_>) {
        let number = value.bits() as i32;
        let Some(values) = field.enumeration() else { return };
        match values.by_number(number) {
            _ if values.name() == "google.protobuf.NullValue" => self.out.push_str("null"),
            Some(value) => write_string(self.out, value.name()),
            None => {
                let _ = write!(self.out, "{number}");
            }
        }
    }

    /// `{"@type": …}` and the fields of the payload, or its JSON form under `value`.
    fn any(&mut self, bytes: &[u8], sensitive: bool) {
        let (mut url, mut payload): (&[u8], &[u8]) = (b"", b"");
        for (number, value) in wire::fields(bytes).flatten() {
            match number {
                1 => url = value.bytes(),
                2 => payload = value.bytes(),
                _ => {}
            }
        }
        let url = String::from_utf8_lossy(url);
        self.container('{', '}', |writer, first| {
            if url.is_empty() {
                return;
            }
            writer.key(first, "@type");
            write_string(writer.out, &url);
            let Some(message) = Schema::message_of_url(&url) else {
                writer.key(first, "value");
                writer.scalar(Kind::Bytes, WireValue::Bytes(payload), sensitive);
                return;
            };
            match message.well_known() {
                None | Some(WellKnown::Empty | WellKnown::TypedStruct) => {
                    writer.fields(payload, message, sensitive, first)
                }
                Some(_) => {
                    writer.key(first, "value");
                    writer.message(payload, message, sensitive);
                }
            }
        });
    }
}

fn default_of(field: FieldRef) -> WireValue<'static> {
    match field.kind() {
        Kind::String | Kind::Bytes | Kind::Message => WireValue::Bytes(b""),
        _ => WireValue::Varint(0),
    }
}

fn map_key(field: FieldRef, value: WireValue<'_>) -> String {
    match (field.kind(), value) {
        (Kind::String, value) => String::from_utf8_lossy(value.bytes()).into_owned(),
        (Kind::Bool, value) => (value.bits() != 0).to_string(),
        (kind, value) => match grouped::number(kind, value) {
            Number::Whole(value) => value.to_string(),
            Number::Real(value) => value.to_string(),
        },
    }
}
