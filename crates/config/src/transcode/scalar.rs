//! Scalars to the wire: numbers, booleans, strings, bytes, enums, and map keys.

use super::number::{self, NotANumber};
use super::{Transcoder, Written, found, null_hint, wire};
use crate::diagnostics::{did_you_mean, quoted};
use crate::tree::{NodeRef, Scalar, Shape};
use nuncio_api::schema::{EnumRef, FieldRef, Kind, MessageRef};

/// A scalar as the wire has it.
#[derive(Debug, Clone, Copy)]
enum Encoded {
    Varint(u64),
    Fixed32(u32),
    Fixed64(u64),
}

impl Encoded {
    fn is_zero(self) -> bool {
        matches!(self, Self::Varint(0) | Self::Fixed32(0) | Self::Fixed64(0))
    }

    fn wire_type(self) -> u32 {
        match self {
            Self::Varint(_) => wire::VARINT,
            Self::Fixed32(_) => wire::FIXED32,
            Self::Fixed64(_) => wire::FIXED64,
        }
    }

    fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Varint(value) => wire::put_varint(out, value),
            Self::Fixed32(value) => out.extend_from_slice(&value.to_le_bytes()),
            Self::Fixed64(value) => out.extend_from_slice(&value.to_le_bytes()),
        }
    }
}

fn zero(kind: Kind) -> Encoded {
    match kind {
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Encoded::Fixed32(0),
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Encoded::Fixed64(0),
        _ => Encoded::Varint(0),
    }
}

/// Writes one element of a list with nothing in it.
pub(super) fn put_default(field: FieldRef, out: &mut Vec<u8>) {
    match field.kind() {
        Kind::Message | Kind::String | Kind::Bytes => wire::put_bytes(out, field.number(), b""),
        kind if field.is_packed() => zero(kind).put(out),
        kind => {
            wire::put_tag(out, field.number(), zero(kind).wire_type());
            zero(kind).put(out);
        }
    }
}

/// What a number type is called, and its range.
fn range(kind: Kind) -> (&'static str, i128, i128) {
    match kind {
        Kind::Uint32 | Kind::Fixed32 => ("a whole number from 0 to 4294967295", 0, i128::from(u32::MAX)),
        Kind::Uint64 | Kind::Fixed64 => ("a whole number from 0 to 18446744073709551615", 0, i128::from(u64::MAX)),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            ("a whole number of 64 bits", i128::from(i64::MIN), i128::from(i64::MAX))
        }
        _ => ("a whole number from -2147483648 to 2147483647", i128::from(i32::MIN), i128::from(i32::MAX)),
    }
}

impl Transcoder<'_> {
    /// Writes a scalar with its tag.
    pub(super) fn scalar(
        &mut self,
        node: NodeRef<'_>,
        field: FieldRef,
        skip_default: bool,
        out: &mut Vec<u8>,
    ) -> Written {
        let bytes = match field.kind() {
            Kind::String => Some(self.string(node)?.into_bytes()),
            Kind::Bytes => Some(self.bytes(node)?),
            _ => None,
        };
        if let Some(bytes) = bytes {
            if !(skip_default && bytes.is_empty()) {
                wire::put_bytes(out, field.number(), &bytes);
            }
            return Ok(());
        }
        if let Some(value) = self.encode(node, field)?
            && !(skip_default && value.is_zero())
        {
            wire::put_tag(out, field.number(), value.wire_type());
            value.put(out);
        }
        Ok(())
    }

    /// Writes one element of a packed list.
    pub(super) fn packed(&mut self, node: NodeRef<'_>, field: FieldRef, out: &mut Vec<u8>) -> Written {
        if let Some(value) = self.encode(node, field)? {
            value.put(out);
        }
        Ok(())
    }

    /// Writes the key of a map entry.
    pub(super) fn map_key(&mut self, key: NodeRef<'_>, field: FieldRef, out: &mut Vec<u8>) -> Written {
        let text = key.spelling();
        if field.kind() == Kind::String {
            wire::put_bytes(out, field.number(), text.as_bytes());
            return Ok(());
        }
        let value = match (field.kind(), text) {
            (Kind::Bool, "true") => Encoded::Varint(1),
            (Kind::Bool, "false") => Encoded::Varint(0),
            (Kind::Bool, _) => {
                return Err(self.report(key, format!("found the key {}, expected true or false", quoted(text))));
            }
            (kind, _) => self.integer(key, kind, text)?,
        };
        wire::put_tag(out, field.number(), value.wire_type());
        value.put(out);
        Ok(())
    }

    fn wrong<T>(&mut self, node: NodeRef<'_>, expected: &str) -> Result<T, super::Reported> {
        let hint = null_hint(node);
        Err(self.report_with(node, format!("found {}, expected {expected}", found(node)), hint))
    }

    /// A number, a boolean or an enum; nothing for an unknown enum value that is allowed to be unknown.
    fn encode(&mut self, node: NodeRef<'_>, field: FieldRef) -> Result<Option<Encoded>, super::Reported> {
        let kind = field.kind();
        match kind {
            Kind::Bool => self.boolean(node).map(|value| Some(Encoded::Varint(u64::from(value)))),
            Kind::Enum => match field.enumeration() {
                Some(values) => self.enumeration(node, values),
                None => Ok(None),
            },
            Kind::Double | Kind::Float => self.float(node, kind).map(Some),
            _ => match node.shape() {
                Shape::Scalar(Scalar::Int(_) | Scalar::Number(_) | Scalar::Text(_)) => {
                    let text = whole(node);
                    self.integer(node, kind, &text).map(Some)
                }
                _ => self.wrong(node, range(kind).0),
            },
        }
    }

    fn integer(&mut self, node: NodeRef<'_>, kind: Kind, text: &str) -> Result<Encoded, super::Reported> {
        let (expected, low, high) = range(kind);
        match number::integer(text, low, high) {
            Ok(value) => Ok(match kind {
                Kind::Fixed32 | Kind::Sfixed32 => Encoded::Fixed32(value as u32),
                Kind::Fixed64 | Kind::Sfixed64 => Encoded::Fixed64(value as u64),
                Kind::Sint32 | Kind::Sint64 => Encoded::Varint((value << 1 ^ value >> 127) as u64),
                _ => Encoded::Varint(value as u64),
            }),
            Err(NotANumber::Malformed) => self.wrong(node, expected),
            Err(NotANumber::Fraction) => {
                Err(self.report(node, format!("found the fraction {}, expected {expected}", quoted(text))))
            }
            Err(NotANumber::OutOfRange) => {
                Err(self.report(node, format!("{} is out of range, expected {expected}", quoted(text))))
            }
        }
    }

    fn float(&mut self, node: NodeRef<'_>, kind: Kind) -> Result<Encoded, super::Reported> {
        let value = match node.shape() {
            Shape::Scalar(Scalar::Int(value)) => value as f64,
            Shape::Scalar(Scalar::Number(text) | Scalar::Text(text)) => match number::float(text) {
                Ok(value) => value,
                Err(_) => return self.wrong(node, "a number"),
            },
            _ => return self.wrong(node, "a number"),
        };
        if kind == Kind::Double {
            return Ok(Encoded::Fixed64(value.to_bits()));
        }
        let single = value as f32;
        if single.is_infinite() && value.is_finite() {
            return Err(self.report(node, format!("{} is out of range for a 32-bit number", quoted(node.spelling()))));
        }
        Ok(Encoded::Fixed32(single.to_bits()))
    }

    fn boolean(&mut self, node: NodeRef<'_>) -> Result<bool, super::Reported> {
        let value = match node.shape() {
            Shape::Scalar(Scalar::Bool(value)) => Some(value),
            Shape::Scalar(Scalar::Text(text)) => match text.to_ascii_lowercase().as_str() {
                "true" | "t" | "yes" | "y" | "1" => Some(true),
                "false" | "f" | "no" | "n" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        };
        value.map_or_else(|| self.wrong(node, "true or false"), Ok)
    }

    /// A string. YAML reads a bare number or `yes` as something else, and Envoy refuses that for a string.
    pub(super) fn string(&mut self, node: NodeRef<'_>) -> Result<String, super::Reported> {
        match node.shape() {
            Shape::Scalar(Scalar::Text(text)) => Ok(text.to_owned()),
            // Envoy hands such numbers on as strings.
            Shape::Scalar(Scalar::Int(value)) if i32::try_from(value).is_err() => Ok(value.to_string()),
            Shape::Scalar(Scalar::Int(_) | Scalar::Number(_) | Scalar::Bool(_)) => {
                let text = format!("found {}, expected a string", found(node));
                Err(self.report_with(node, text, Some(format!("put it in quotes: \"{}\"", node.spelling()))))
            }
            _ => self.wrong(node, "a string"),
        }
    }

    fn bytes(&mut self, node: NodeRef<'_>) -> Result<Vec<u8>, super::Reported> {
        let text = self.string(node)?;
        if node.is_text() {
            return Ok(text.into_bytes());
        }
        match base64(&text) {
            Some(bytes) => Ok(bytes),
            None => {
                let hint =
                    "this field holds bytes; encode them, or use the string form of the field where there is one";
                Err(self.report_with(node, format!("found {}, expected base64", found(node)), Some(hint.to_owned())))
            }
        }
    }

    fn enumeration(&mut self, node: NodeRef<'_>, values: EnumRef) -> Result<Option<Encoded>, super::Reported> {
        let short = values.name().rsplit('.').next().unwrap_or_default();
        let number = match node.shape() {
            Shape::Scalar(Scalar::Int(_) | Scalar::Number(_)) => {
                let text = whole(node);
                return self.integer(node, Kind::Int32, &text).map(Some);
            }
            Shape::Scalar(Scalar::Text(text)) => match values.by_name(text) {
                Some(value) => {
                    if value.is_deprecated() {
                        self.warn(node, format!("the value {} of {short} is deprecated", value.name()), None);
                    }
                    Some(value.number())
                }
                None => text.parse().ok(),
            },
            Shape::Scalar(Scalar::Null) if values.name() == "google.protobuf.NullValue" => Some(0),
            _ => return self.wrong(node, &format!("a value of {short}")),
        };
        if number.is_none() {
            let name = node.spelling();
            let known: Vec<&str> = values.values().map(|value| value.name()).collect();
            let hint = match did_you_mean(name, known.iter().copied()) {
                Some(close) => format!("did you mean {close}?"),
                None => format!("expected one of {}", known.join(", ")),
            };
            self.report_unknown(node, format!("unknown value {} of {short}", quoted(name)), Some(hint));
        }
        Ok(number.map(|number| Encoded::Varint(i64::from(number) as u64)))
    }

    /// Writes a wrapper's one field, from its plain value or from `{value: …}`.
    pub(super) fn wrapper(&mut self, node: NodeRef<'_>, message: MessageRef, out: &mut Vec<u8>) -> Written {
        match (node.shape(), message.field(1)) {
            (Shape::Mapping(_), _) => self.message(node, message, out),
            (_, Some(field)) => self.scalar(node, field, true, out),
            (_, None) => Ok(()),
        }
    }
}

/// The text of a number, a YAML number in decimal.
fn whole(node: NodeRef<'_>) -> String {
    match node.shape() {
        Shape::Scalar(Scalar::Int(value)) => value.to_string(),
        _ => node.spelling().to_owned(),
    }
}

/// Decodes base64 of the standard or the URL alphabet, with or without padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let unpadded = text.trim_end_matches('=');
    let padding = text.len() - unpadded.len();
    if unpadded.len() % 4 == 1 || (padding > 0 && (!text.len().is_multiple_of(4) || padding > 2)) {
        return None;
    }
    let mut out = Vec::with_capacity(unpadded.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for byte in unpadded.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_alphabets_and_padding() {
        let check = |text: &str, expected: Option<&[u8]>| assert_eq!(base64(text).as_deref(), expected, "{text}");
        check("", Some(b""));
        check("aGk=", Some(b"hi"));
        check("aGk", Some(b"hi"));
        check("aGVsbG8h", Some(b"hello!"));
        check("+/8=", Some(b"\xfb\xff"));
        check("-_8", Some(b"\xfb\xff"));
        check("aGk==", None);
        check("a", None);
        check("a b=", None);
        check("=", None);
        check("a===", None);
    }
}
