//! Evaluation.

use crate::expr::{Node, Program};
use crate::value::{Object, Value};
use nuncio_stream_info::LogContext;
use std::fmt;

/// What an expression sees: the stream, and the process around it.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The stream and its messages.
    pub context: &'a LogContext<'a>,
}

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvalError {
    /// A name that is not known.
    UnknownName(String),
    /// A field or key that is not there, or an index beyond the list.
    Missing(String),
    /// No such operation on these values.
    Types(&'static str),
    /// A number grew too large, or was divided by zero.
    Range,
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EvalError::UnknownName(name) => write!(f, "there is no {name}"),
            EvalError::Missing(key) => write!(f, "{key} is not there"),
            EvalError::Types(what) => write!(f, "{what} is not for values of these types"),
            EvalError::Range => f.write_str("a number is out of range"),
        }
    }
}

impl std::error::Error for EvalError {}

impl Program {
    /// The value.
    pub fn evaluate<'a>(&'a self, scope: Scope<'a>) -> Result<Value<'a>, EvalError> {
        self.0.evaluate(scope)
    }

    /// Whether it is true. What has no value, or another one, is not.
    pub fn holds(&self, context: &LogContext<'_>) -> bool {
        matches!(self.evaluate(Scope { context }), Ok(Value::Bool(true)))
    }

    /// Appends its value as text, as `%CEL()%` prints it; nothing if there is none.
    pub fn write(&self, context: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        match self.evaluate(Scope { context }) {
            Ok(value) => value.write(out),
            Err(_) => false,
        }
    }
}

impl Program {
    /// The same as JSON, as `%TYPED_CEL()%` prints it.
    pub fn write_json(&self, context: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        match self.evaluate(Scope { context }) {
            Ok(value) => {
                value.write_json(out);
                true
            }
            Err(_) => false,
        }
    }
}

impl Node {
    fn evaluate<'a>(&'a self, scope: Scope<'a>) -> Result<Value<'a>, EvalError> {
        match self {
            Node::Constant(value) => Ok(borrowed(value)),
            Node::Root(name) => scope.attribute(name).ok_or_else(|| EvalError::UnknownName((**name).to_owned())),
            Node::Select(operand, field) => {
                let operand = operand.evaluate(scope)?;
                scope.field(&operand, field.as_bytes())?.ok_or_else(|| EvalError::Missing((**field).to_owned()))
            }
            Node::Has(operand, field) => {
                let operand = operand.evaluate(scope)?;
                Ok(Value::Bool(scope.field(&operand, field.as_bytes())?.is_some()))
            }
            // One side decides, though the other has no value.
            Node::And(a, b) => decide(a.evaluate(scope), || b.evaluate(scope), false),
            Node::Or(a, b) => decide(a.evaluate(scope), || b.evaluate(scope), true),
            Node::Choose(parts) => {
                let [condition, yes, no] = &**parts;
                match condition.evaluate(scope)? {
                    Value::Bool(true) => yes.evaluate(scope),
                    Value::Bool(false) => no.evaluate(scope),
                    _ => Err(EvalError::Types("?:")),
                }
            }
            Node::Matches(text, regex) => match text.evaluate(scope)? {
                Value::Text(text) => Ok(Value::Bool(regex.occurs_in(&text))),
                _ => Err(EvalError::Types("matches")),
            },
            Node::Call(function, arguments) => {
                let mut values = Vec::with_capacity(arguments.len());
                for argument in arguments {
                    values.push(argument.evaluate(scope)?);
                }
                function.call(values, scope)
            }
            Node::List(items) => {
                items.iter().map(|item| item.evaluate(scope)).collect::<Result<_, _>>().map(Value::List)
            }
            Node::Map(entries) => {
                let entry = |(key, value): &'a (Node, Node)| Ok((key.evaluate(scope)?, value.evaluate(scope)?));
                entries.iter().map(entry).collect::<Result<_, _>>().map(Value::Map)
            }
        }
    }
}

/// `&&` if `decisive` is false, `||` if it is true.
fn decide<'a>(
    first: Result<Value<'a>, EvalError>,
    second: impl FnOnce() -> Result<Value<'a>, EvalError>,
    decisive: bool,
) -> Result<Value<'a>, EvalError> {
    let settled = |value: &Result<Value<'a>, EvalError>| matches!(value, Ok(Value::Bool(bool)) if *bool == decisive);
    if settled(&first) {
        return first;
    }
    let second = second();
    if settled(&second) {
        return second;
    }
    match (first?, second?) {
        (Value::Bool(_), Value::Bool(last)) => Ok(Value::Bool(last)),
        _ => Err(EvalError::Types(if decisive { "||" } else { "&&" })),
    }
}

/// A literal without a copy of its text.
fn borrowed<'a>(value: &'a Value<'static>) -> Value<'a> {
    match value {
        Value::Text(text) => Value::Text(std::borrow::Cow::Borrowed(text)),
        Value::Bytes(bytes) => Value::Bytes(std::borrow::Cow::Borrowed(bytes)),
        other => other.clone(),
    }
}

impl<'a> Scope<'a> {
    /// The field of a value; none if it is not there.
    pub(crate) fn field(self, value: &Value<'a>, name: &[u8]) -> Result<Option<Value<'a>>, EvalError> {
        match value {
            Value::Object(object) => Ok(self.object_field(object, name)),
            Value::Map(entries) => {
                let found = entries.iter().find(|(key, _)| matches!(key, Value::Text(key) if **key == *name));
                Ok(found.map(|(_, value)| value.clone()))
            }
            _ => Err(EvalError::Types(".")),
        }
    }

    /// `value[key]`
    pub(crate) fn at(self, value: &Value<'a>, key: &Value<'a>) -> Result<Value<'a>, EvalError> {
        let missing = || EvalError::Missing(String::from("the key"));
        match (value, key) {
            (Value::List(items), Value::Int(_) | Value::Uint(_)) => {
                let at = match key {
                    Value::Int(at) => usize::try_from(*at).ok(),
                    Value::Uint(at) => usize::try_from(*at).ok(),
                    _ => None,
                };
                at.and_then(|at| items.get(at)).cloned().ok_or_else(missing)
            }
            (Value::Map(entries), key) => {
                entries.iter().find(|(known, _)| known.equals(key)).map(|(_, value)| value.clone()).ok_or_else(missing)
            }
            (Value::Object(_), Value::Text(name)) => self.field(value, name)?.ok_or_else(missing),
            _ => Err(EvalError::Types("[]")),
        }
    }

    /// `key in value`
    pub(crate) fn has(self, key: &Value<'a>, value: &Value<'a>) -> Result<bool, EvalError> {
        match (value, key) {
            (Value::List(items), key) => Ok(items.iter().any(|item| item.equals(key))),
            (Value::Map(entries), key) => Ok(entries.iter().any(|(known, _)| known.equals(key))),
            (Value::Object(object), Value::Text(name)) => Ok(self.object_field(object, name).is_some()),
            (Value::Object(Object::Struct(_) | Object::Headers(_)), _) => Ok(false),
            _ => Err(EvalError::Types("in")),
        }
    }
}
