//! Expressions, and the check that one must pass before it is evaluated.

use crate::functions::Function;
use crate::parse;
use crate::value::Value;
use nuncio_matcher::{Regex, RegexSpec};
use std::fmt;

/// Expressions inside expressions beyond this are refused.
pub const MAX_DEPTH: usize = 100;

/// `envoy.config.core.v3.CelExpressionConfig`: what is allowed though its cost depends on input. All off by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// `enable_string_conversion`: `string(x)`.
    pub string_conversion: bool,
    /// `enable_string_concat`: `"a" + "b"`.
    pub string_concat: bool,
    /// `enable_string_functions`: `replace`, `split`, `lowerAscii`, `upperAscii`.
    pub string_functions: bool,
}

/// An expression as it was written.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// A literal.
    Constant(Value<'static>),
    /// A name.
    Ident(Box<str>),
    /// `operand.field`
    Select(Box<Expr>, Box<str>),
    /// `has(operand.field)`
    Has(Box<Expr>, Box<str>),
    /// `function(arguments)`; of `target.function(…)` the target is the first argument. Operators have the names of the
    /// protobuf form: `_&&_`, `_[_]`.
    Call(Box<str>, Vec<Expr>),
    /// `[…]`
    List(Vec<Expr>),
    /// `{key: value}`
    Map(Vec<(Expr, Expr)>),
}

/// Why an expression is not usable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidExpression(pub String);

impl fmt::Display for InvalidExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidExpression {}

/// A checked expression.
#[derive(Debug)]
pub struct Program(pub(crate) Node);

/// What [`Expr`] becomes.
#[derive(Debug)]
pub(crate) enum Node {
    Constant(Value<'static>),
    Root(Box<str>),
    Select(Box<Node>, Box<str>),
    Has(Box<Node>, Box<str>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Choose(Box<[Node; 3]>),
    /// `matches` with an expression known beforehand.
    Matches(Box<Node>, Box<Regex>),
    Call(Function, Box<[Node]>),
    List(Box<[Node]>),
    Map(Box<[(Node, Node)]>),
}

impl Program {
    /// Checks an expression.
    pub fn new(expr: &Expr, options: Options) -> Result<Program, InvalidExpression> {
        compile(expr, options, MAX_DEPTH).map(Program)
    }

    /// Parses and checks.
    pub fn parse(text: &str, options: Options) -> Result<Program, InvalidExpression> {
        Program::new(&parse::parse(text)?, options)
    }
}

fn compile(expr: &Expr, options: Options, depth: usize) -> Result<Node, InvalidExpression> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(InvalidExpression(format!("more than {MAX_DEPTH} expressions inside one another")));
    };
    let below = |expr: &Expr| compile(expr, options, depth);
    let boxed = |expr: &Expr| below(expr).map(Box::new);
    Ok(match expr {
        Expr::Constant(value) => Node::Constant(value.clone()),
        Expr::Ident(name) => root(name)?,
        Expr::Select(operand, field) => Node::Select(boxed(operand)?, field.clone()),
        Expr::Has(operand, field) => Node::Has(boxed(operand)?, field.clone()),
        Expr::List(items) => Node::List(items.iter().map(below).collect::<Result<_, _>>()?),
        Expr::Map(entries) => {
            Node::Map(entries.iter().map(|(key, value)| Ok((below(key)?, below(value)?))).collect::<Result<_, _>>()?)
        }
        Expr::Call(name, arguments) => match (&**name, &arguments[..]) {
            ("_&&_", [a, b]) => Node::And(boxed(a)?, boxed(b)?),
            ("_||_", [a, b]) => Node::Or(boxed(a)?, boxed(b)?),
            ("_?_:_", [condition, yes, no]) => Node::Choose(Box::new([below(condition)?, below(yes)?, below(no)?])),
            ("matches", [text, pattern]) => matches(boxed(text)?, pattern)?,
            (name, arguments) => {
                let function = Function::find(name, arguments.len(), options).map_err(InvalidExpression)?;
                Node::Call(function, arguments.iter().map(below).collect::<Result<_, _>>()?)
            }
        },
    })
}

/// A name; one with points in it, as type checkers write them, is a chain of fields.
fn root(name: &str) -> Result<Node, InvalidExpression> {
    let mut parts = name.split('.').filter(|part| !part.is_empty());
    let Some(first) = parts.next() else { return Err(InvalidExpression("a name is empty".to_owned())) };
    if parts.clone().count() > MAX_DEPTH {
        return Err(InvalidExpression("a name has too many parts".to_owned()));
    }
    Ok(parts.fold(Node::Root(first.into()), |operand, field| Node::Select(Box::new(operand), field.into())))
}

fn matches(text: Box<Node>, pattern: &Expr) -> Result<Node, InvalidExpression> {
    let Expr::Constant(Value::Text(pattern)) = pattern else {
        let why = "the expression of matches() must be a literal: it is compiled once";
        return Err(InvalidExpression(why.to_owned()));
    };
    let regex = String::from_utf8_lossy(pattern).into_owned();
    let regex = Regex::for_substitution(&RegexSpec { regex });
    Ok(Node::Matches(text, Box::new(regex.map_err(|error| InvalidExpression(error.to_string()))?)))
}
