//! Protobuf's `Struct` and `Value` as plain data, and their JSON.

use std::sync::Arc;

/// A `google.protobuf.Value`.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// `null`.
    #[default]
    Null,
    /// A boolean.
    Bool(bool),
    /// A number; protobuf knows doubles only.
    Number(f64),
    /// Text.
    String(Arc<str>),
    /// A list.
    List(Vec<Value>),
    /// An object.
    Struct(Struct),
}

/// A `google.protobuf.Struct`: fields by name, in the order of their names.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Struct {
    fields: Vec<(Arc<str>, Value)>,
}

impl Struct {
    /// A struct without fields; owns no memory.
    pub const fn new() -> Struct {
        Struct { fields: Vec::new() }
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let at = self.find(name).ok()?;
        self.fields.get(at).map(|(_, value)| value)
    }

    /// The value of a field, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        let at = self.find(name).ok()?;
        self.fields.get_mut(at).map(|(_, value)| value)
    }

    /// Sets a field; gives back the value it had.
    pub fn set(&mut self, name: impl Into<Arc<str>>, value: impl Into<Value>) -> Option<Value> {
        let name = name.into();
        match self.find(&name) {
            Ok(at) => Some(std::mem::replace(&mut self.fields[at].1, value.into())),
            Err(at) => {
                self.fields.insert(at, (name, value.into()));
                None
            }
        }
    }

    /// Removes a field; gives back the value it had.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let at = self.find(name).ok()?;
        Some(self.fields.remove(at).1)
    }

    /// Fields in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.fields.iter().map(|(name, value)| (&**name, value))
    }

    /// Appends the struct as compact JSON.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (at, (name, value)) in self.fields.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_json_string(name.as_bytes(), out);
            out.push(b':');
            value.write_json(out);
        }
        out.push(b'}');
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.fields.binary_search_by(|(known, _)| (**known).cmp(name))
    }
}

impl IntoIterator for Struct {
    type Item = (Arc<str>, Value);
    type IntoIter = std::vec::IntoIter<(Arc<str>, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.fields.into_iter()
    }
}

impl<N: Into<Arc<str>>, V: Into<Value>> FromIterator<(N, V)> for Struct {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Struct {
        let mut all = Struct::new();
        for (name, value) in fields {
            all.set(name, value);
        }
        all
    }
}

impl Value {
    /// Appends the value as compact JSON. Numbers that JSON can't express become `null`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Bool(true) => out.extend_from_slice(b"true"),
            Value::Bool(false) => out.extend_from_slice(b"false"),
            Value::Number(number) => write_number(*number, out),
            Value::String(text) => write_json_string(text.as_bytes(), out),
            Value::List(values) => {
                out.push(b'[');
                for (at, value) in values.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    value.write_json(out);
                }
                out.push(b']');
            }
            Value::Struct(fields) => fields.write_json(out),
        }
    }

    /// The text, if it is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::String(text.into())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::Number(number)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<Vec<Value>> for Value {
    fn from(values: Vec<Value>) -> Value {
        Value::List(values)
    }
}

impl From<Struct> for Value {
    fn from(fields: Struct) -> Value {
        Value::Struct(fields)
    }
}

/// Largest magnitude up to which every integer is a double of its own: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Appends a double as the shortest JSON that reads back the same; whole numbers without a fraction.
pub(crate) fn write_number(number: f64, out: &mut Vec<u8>) {
    use std::io::Write;
    if !number.is_finite() {
        return out.extend_from_slice(b"null");
    }
    if number.fract() == 0.0 && number.abs() <= EXACT {
        return out.extend_from_slice(itoa::Buffer::new().format(number as i64).as_bytes());
    }
    // Writing into a Vec can't fail.
    let _ = if (1e-5..1e17).contains(&number.abs()) { write!(out, "{number}") } else { write!(out, "{number:e}") };
}

/// Appends bytes as a JSON string. Quotes, backslashes and control characters are escaped and invalid UTF-8 becomes
/// U+FFFD, so that no value can end its string or its line.
pub fn write_json_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    write_json_escaped(text, out);
    out.push(b'"');
}

/// [`write_json_string`] without the quotes around.
pub(crate) fn write_json_escaped(text: &[u8], out: &mut Vec<u8>) {
    if text.iter().all(|byte| (0x20..0x7f).contains(byte) && *byte != b'"' && *byte != b'\\') {
        return out.extend_from_slice(text);
    }
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            write_escaped_char(character, out);
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn write_escaped_char(character: char, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\u{8}' => out.extend_from_slice(b"\\b"),
        '\u{c}' => out.extend_from_slice(b"\\f"),
        '\0'..='\u{1f}' | '\u{7f}' => {
            let code = character as usize;
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[code >> 4 & 15], HEX[code & 15]]);
        }
        other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}
