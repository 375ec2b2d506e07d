//! Operators and functions.

use crate::eval::{EvalError, Scope};
use crate::expr::Options;
use crate::value::{Object, Value};
use std::borrow::Cow;
use std::cmp::Ordering;

mod time;

pub(crate) use time::{write_duration, write_timestamp};

/// A function or operator, with the number of arguments it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Function {
    name: &'static str,
    concat: bool,
}

/// Names and numbers of arguments.
const FUNCTIONS: &[(&str, usize)] = &[
    ("!_", 1),
    ("-_", 1),
    ("_==_", 2),
    ("_!=_", 2),
    ("_<_", 2),
    ("_<=_", 2),
    ("_>_", 2),
    ("_>=_", 2),
    ("_+_", 2),
    ("_-_", 2),
    ("_*_", 2),
    ("_/_", 2),
    ("_%_", 2),
    ("_[_]", 2),
    ("@in", 2),
    ("size", 1),
    ("contains", 2),
    ("startsWith", 2),
    ("endsWith", 2),
    ("int", 1),
    ("uint", 1),
    ("double", 1),
    ("bytes", 1),
    ("bool", 1),
    ("duration", 1),
    ("timestamp", 1),
    ("type", 1),
    ("dyn", 1),
    ("getFullYear", 1),
    ("getMonth", 1),
    ("getDate", 1),
    ("getDayOfMonth", 1),
    ("getDayOfWeek", 1),
    ("getDayOfYear", 1),
    ("getHours", 1),
    ("getMinutes", 1),
    ("getSeconds", 1),
    ("getMilliseconds", 1),
];

/// The same, where `string_functions` are allowed.
const TEXT_FUNCTIONS: &[(&str, usize)] = &[("lowerAscii", 1), ("upperAscii", 1), ("replace", 3), ("split", 2)];

type Outcome<'a> = Result<Value<'a>, EvalError>;

impl Function {
    /// The function of a name, or why there is none.
    pub(crate) fn find(name: &str, arguments: usize, options: Options) -> Result<Function, String> {
        // Older spellings of the protobuf form.
        let name = if matches!(name, "_in_" | "in") { "@in" } else { name };
        let allowed = |known: &'static [(&'static str, usize)], on: bool| known.iter().filter(move |_| on);
        let string: &[(&str, usize)] = &[("string", 1)];
        let mut all = allowed(FUNCTIONS, true)
            .chain(allowed(TEXT_FUNCTIONS, options.string_functions))
            .chain(allowed(string, options.string_conversion));
        match all.find(|(known, count)| *known == name && *count == arguments) {
            Some((name, _)) => Ok(Function { name, concat: options.string_concat }),
            None if name == "string" => {
                Err("string() must be allowed by cel_config.enable_string_conversion".to_owned())
            }
            None if TEXT_FUNCTIONS.iter().any(|(known, _)| *known == name) => {
                Err(format!("{name}() must be allowed by cel_config.enable_string_functions"))
            }
            None => Err(format!("there is no function {name} of {arguments} arguments")),
        }
    }

    /// Calls it.
    pub(crate) fn call<'a>(self, arguments: Vec<Value<'a>>, scope: Scope<'a>) -> Outcome<'a> {
        let mut arguments = arguments.into_iter();
        match (arguments.next(), arguments.next(), arguments.next()) {
            (Some(one), None, None) => self.one(one, scope),
            (Some(a), Some(b), None) => self.two(a, b, scope),
            (Some(Value::Text(text)), Some(Value::Text(from)), Some(Value::Text(to))) => {
                Ok(Value::Text(Cow::Owned(replace(&text, &from, &to))))
            }
            _ => Err(EvalError::Types(self.name)),
        }
    }

    fn one<'a>(self, value: Value<'a>, scope: Scope<'a>) -> Outcome<'a> {
        let wrong = || EvalError::Types(self.name);
        match (self.name, value) {
            ("!_", Value::Bool(bool)) => Ok(Value::Bool(!bool)),
            ("-_", Value::Int(number)) => number.checked_neg().map(Value::Int).ok_or(EvalError::Range),
            ("-_", Value::Double(number)) => Ok(Value::Double(-number)),
            ("-_", Value::Duration(span)) => span.checked_neg().map(Value::Duration).ok_or(EvalError::Range),
            ("size", value) => size(&value).map(|size| Value::Int(size as i64)).ok_or_else(wrong),
            ("dyn", value) => Ok(value),
            ("type", value) => Ok(Value::Type(value.kind())),
            ("bytes", Value::Text(bytes) | Value::Bytes(bytes)) => Ok(Value::Bytes(bytes)),
            ("lowerAscii", Value::Text(text)) => Ok(Value::Text(text.to_ascii_lowercase().into())),
            ("upperAscii", Value::Text(text)) => Ok(Value::Text(text.to_ascii_uppercase().into())),
            ("string", value) => string(value, scope).ok_or_else(wrong),
            ("int" | "uint" | "double" | "bool", value) => self.convert(value),
            (_, value) => time::call(self.name, &value),
        }
    }

    fn convert<'a>(self, value: Value<'a>) -> Outcome<'a> {
        let number = match &value {
            Value::Int(number) => Some(*number as f64),
            Value::Uint(number) => Some(*number as f64),
            Value::Double(number) => Some(*number),
            _ => None,
        };
        let text = match &value {
            Value::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        };
        fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, EvalError> {
            text.parse().map_err(|_| EvalError::Range)
        }
        match (self.name, &value, text, number) {
            ("int", Value::Int(number), ..) => Ok(Value::Int(*number)),
            ("int", Value::Uint(number), ..) => i64::try_from(*number).map(Value::Int).map_err(|_| EvalError::Range),
            ("int", Value::Timestamp(at), ..) => {
                i64::try_from(at.div_euclid(1_000_000_000)).map(Value::Int).map_err(|_| EvalError::Range)
            }
            ("int", _, _, Some(number)) if number.abs() < 9.2e18 => Ok(Value::Int(number as i64)),
            ("int", _, Some(text), _) => parsed(text).map(Value::Int),
            ("uint", Value::Uint(number), ..) => Ok(Value::Uint(*number)),
            ("uint", Value::Int(number), ..) => u64::try_from(*number).map(Value::Uint).map_err(|_| EvalError::Range),
            ("uint", _, _, Some(number)) if (0.0..1.8e19).contains(&number) => Ok(Value::Uint(number as u64)),
            ("uint", _, Some(text), _) => parsed(text).map(Value::Uint),
            ("double", _, _, Some(number)) => Ok(Value::Double(number)),
            ("double", _, Some(text), _) => parsed(text).map(Value::Double),
            ("bool", Value::Bool(bool), ..) => Ok(Value::Bool(*bool)),
            ("bool", _, Some("true"), _) => Ok(Value::Bool(true)),
            ("bool", _, Some("false"), _) => Ok(Value::Bool(false)),
            (_, _, None, Some(_)) => Err(EvalError::Range),
            _ => Err(EvalError::Types(self.name)),
        }
    }

    fn two<'a>(self, a: Value<'a>, b: Value<'a>, scope: Scope<'a>) -> Outcome<'a> {
        let ordered = |test: fn(Ordering) -> bool| match a.order(&b) {
            Some(order) => Ok(Value::Bool(test(order))),
            None if a.kind() == "double" || b.kind() == "double" => Ok(Value::Bool(false)),
            None => Err(EvalError::Types(self.name)),
        };
        match self.name {
            "_==_" => Ok(Value::Bool(a.equals(&b))),
            "_!=_" => Ok(Value::Bool(!a.equals(&b))),
            "_<_" => ordered(Ordering::is_lt),
            "_<=_" => ordered(Ordering::is_le),
            "_>_" => ordered(Ordering::is_gt),
            "_>=_" => ordered(Ordering::is_ge),
            "_[_]" => scope.at(&a, &b),
            "@in" => scope.has(&a, &b).map(Value::Bool),
            "contains" | "startsWith" | "endsWith" => match (&a, &b) {
                (Value::Text(text), Value::Text(part)) => Ok(Value::Bool(self.tests(text, part))),
                _ => Err(EvalError::Types(self.name)),
            },
            "split" => match (&a, &b) {
                (Value::Text(text), Value::Text(by)) => Ok(Value::List(split(text, by))),
                _ => Err(EvalError::Types(self.name)),
            },
            _ => self.calculate(a, b),
        }
    }

    fn tests(self, text: &[u8], part: &[u8]) -> bool {
        match self.name {
            "contains" => part.is_empty() || find(text, part).is_some(),
            "startsWith" => text.starts_with(part),
            _ => text.ends_with(part),
        }
    }

    fn calculate<'a>(self, a: Value<'a>, b: Value<'a>) -> Outcome<'a> {
        let range = EvalError::Range;
        match (self.name, a, b) {
            ("_+_", Value::Text(a), Value::Text(b)) if self.concat => Ok(Value::Text([a, b].concat().into())),
            ("_+_", Value::Bytes(a), Value::Bytes(b)) if self.concat => Ok(Value::Bytes([a, b].concat().into())),
            (name, Value::Int(a), Value::Int(b)) => {
                let result = match name {
                    "_+_" => a.checked_add(b),
                    "_-_" => a.checked_sub(b),
                    "_*_" => a.checked_mul(b),
                    "_/_" => a.checked_div(b),
                    _ => a.checked_rem(b),
                };
                result.map(Value::Int).ok_or(range)
            }
            (name, Value::Uint(a), Value::Uint(b)) => {
                let result = match name {
                    "_+_" => a.checked_add(b),
                    "_-_" => a.checked_sub(b),
                    "_*_" => a.checked_mul(b),
                    "_/_" => a.checked_div(b),
                    _ => a.checked_rem(b),
                };
                result.map(Value::Uint).ok_or(range)
            }
            ("_+_", Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
            ("_-_", Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
            ("_*_", Value::Double(a), Value::Double(b)) => Ok(Value::Double(a * b)),
            ("_/_", Value::Double(a), Value::Double(b)) => Ok(Value::Double(a / b)),
            (name, a, b) => time::calculate(name, &a, &b).unwrap_or(Err(EvalError::Types(self.name))),
        }
    }
}

fn size(value: &Value<'_>) -> Option<usize> {
    match value {
        // Characters: bytes that don't continue one.
        Value::Text(text) => Some(text.iter().filter(|byte| **byte & 0xc0 != 0x80).count()),
        Value::Bytes(bytes) => Some(bytes.len()),
        Value::List(items) => Some(items.len()),
        Value::Map(entries) => Some(entries.len()),
        Value::Object(Object::Struct(fields)) => Some(fields.len()),
        Value::Object(Object::Headers(headers)) => Some(headers.len()),
        _ => None,
    }
}

fn string<'a>(value: Value<'a>, _scope: Scope<'a>) -> Option<Value<'a>> {
    match value {
        Value::Text(text) | Value::Bytes(text) => Some(Value::Text(text)),
        Value::List(_) | Value::Map(_) | Value::Object(_) | Value::Null | Value::Type(_) => None,
        other => {
            let mut out = Vec::new();
            other.write(&mut out).then(|| Value::Text(out.into()))
        }
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len().max(1)).position(|window| window == part)
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while !from.is_empty()
        && let Some(at) = find(rest, from)
    {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

fn split<'a>(text: &[u8], by: &[u8]) -> Vec<Value<'a>> {
    let part = |part: &[u8]| Value::Text(Cow::Owned(part.to_vec()));
    if by.is_empty() {
        return text.iter().map(|byte| part(&[*byte])).collect();
    }
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = find(rest, by) {
        parts.push(part(&rest[..at]));
        rest = &rest[at + by.len()..];
    }
    parts.push(part(rest));
    parts
}
