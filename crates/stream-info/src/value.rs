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
        self.write_at(0, out);
    }

    fn write_at(&self, depth: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        for (at, (name, value)) in self.fields.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_json_string(name.as_bytes(), out);
            out.push(b':');
            value.write_at(depth + 1, out);
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
    /// Appends the value as compact JSON. Numbers that JSON can't express, and what lies deeper than 100 levels,
    /// become `null`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        self.write_at(0, out);
    }

    fn write_at(&self, depth: usize, out: &mut Vec<u8>) {
        match self {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Bool(true) => out.extend_from_slice(b"true"),
            Value::Bool(false) => out.extend_from_slice(b"false"),
            Value::Number(number) => write_number(*number, out),
            Value::String(text) => write_json_string(text.as_bytes(), out),
            Value::List(_) | Value::Struct(_) if depth >= MAX_DEPTH => out.extend_from_slice(b"null"),
            Value::List(values) => {
                out.push(b'[');
                for (at, value) in values.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    value.write_at(depth + 1, out);
                }
                out.push(b']');
            }
            Value::Struct(fields) => fields.write_at(depth, out),
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

/// How deep values are written; what lies deeper is written as `null`.
const MAX_DEPTH: usize = 100;

/// Appends a double as `std::to_chars` prints it: the shortest digits that read back the same, in the shorter of
/// fixed and scientific notation. What JSON can't express becomes `null`.
pub(crate) fn write_number(number: f64, out: &mut Vec<u8>) {
    if !number.is_finite() {
        return out.extend_from_slice(b"null");
    }
    // Every whole number below 100000 is shorter in fixed notation.
    if number.fract() == 0.0 && number.abs() < 1e5 && !(number == 0.0 && number.is_sign_negative()) {
        return out.extend_from_slice(itoa::Buffer::new().format(number as i32).as_bytes());
    }
    let shortest = format!("{number:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    let scientific = format!("{digits}e{sign}{:02}", exponent.unsigned_abs());
    let fixed = if number.fract() == 0.0 { format!("{number:.0}") } else { format!("{number}") };
    let text = if fixed.len() <= scientific.len() { fixed } else { scientific };
    out.extend_from_slice(text.as_bytes());
}

/// Appends bytes as a JSON string. Quotes, backslashes and control characters are escaped, so that no value can end
/// its string or its line. Text that is not UTF-8 has each of its high bytes escaped as `\u00XX`, as Envoy does.
pub fn write_json_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.extend_from_slice(text);
    escape_from(out, start);
    out.push(b'"');
}

/// Escapes what was appended to `out` since `start` for use inside a JSON string. Allocates only if something has to
/// be escaped.
pub(crate) fn escape_from(out: &mut Vec<u8>, start: usize) {
    let Some(tail) = out.get(start..) else { return };
    if is_plain_ascii(tail) {
        return;
    }
    let is_plain = |byte: &u8| *byte >= 0x20 && *byte != b'"' && *byte != b'\\';
    let is_utf8 = std::str::from_utf8(tail).is_ok();
    if is_utf8 && tail.iter().all(is_plain) {
        return;
    }
    let raw = out.split_off(start);
    for byte in raw {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0..0x20 => escape_byte(byte, out),
            0x80.. if !is_utf8 => escape_byte(byte, out),
            _ => out.push(byte),
        }
    }
}

/// Whether every byte is ASCII and stands for itself in a JSON string. Looks at eight bytes at a time.
fn is_plain_ascii(text: &[u8]) -> bool {
    const LOW: u64 = u64::MAX / 0xff;
    const HIGH: u64 = LOW * 0x80;
    // The high bit of each byte that is below 0x20, a quote or a backslash, or not ASCII; exact as a whole: bits of
    // bytes above the lowest faulty one may be wrong.
    let faults = |word: u64| {
        let below_space = word.wrapping_sub(LOW * 0x20);
        let is_quote = (word ^ (LOW * 0x22)).wrapping_sub(LOW);
        let is_backslash = (word ^ (LOW * 0x5c)).wrapping_sub(LOW);
        (below_space | is_quote | is_backslash | word) & HIGH
    };
    let (words, rest) = text.as_chunks::<8>();
    let mut last = *b"        ";
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    words.iter().chain([&last]).fold(0, |found, word| found | faults(u64::from_le_bytes(*word))) == 0
}

fn escape_byte(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u00");
    out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}
