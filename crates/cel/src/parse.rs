//! The text form of expressions.

use crate::expr::{Expr, InvalidExpression, MAX_DEPTH};
use crate::value::Value;
use std::borrow::Cow;

mod token;

use token::{Token, tokens};

type Parsed = Result<Expr, InvalidExpression>;

/// Longest expression, in bytes.
const MAX_LENGTH: usize = 64 * 1024;

/// Parses an expression.
pub(crate) fn parse(text: &str) -> Parsed {
    if text.len() > MAX_LENGTH {
        return Err(InvalidExpression(format!("is longer than {MAX_LENGTH} bytes")));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: MAX_DEPTH };
    let expr = parser.expression()?;
    match parser.peek() {
        None => Ok(expr),
        Some(_) => Err(parser.unexpected()),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    /// How much deeper it may go.
    depth: usize,
}

/// Binary operators by how tightly they bind, loosest first.
const LEVELS: &[&[(&str, &str)]] = &[
    &[("||", "_||_")],
    &[("&&", "_&&_")],
    &[("==", "_==_"), ("!=", "_!=_"), ("<=", "_<=_"), (">=", "_>=_"), ("<", "_<_"), (">", "_>_"), ("in", "@in")],
    &[("+", "_+_"), ("-", "_-_")],
    &[("*", "_*_"), ("/", "_/_"), ("%", "_%_")],
];

fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    Expr::Call(name.into(), arguments)
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn unexpected(&self) -> InvalidExpression {
        InvalidExpression(match self.peek() {
            Some(token) => format!("found {token}, expected something else"),
            None => "ends too early".to_owned(),
        })
    }

    /// Takes this sign or word, if it is next.
    fn take(&mut self, sign: &str) -> bool {
        let found = match self.peek() {
            Some(Token::Sign(found)) => *found == sign,
            Some(Token::Word(word)) => sign == "in" && word == "in",
            _ => false,
        };
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), InvalidExpression> {
        if self.take(sign) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn deeper<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, InvalidExpression>,
    ) -> Result<T, InvalidExpression> {
        let Some(depth) = self.depth.checked_sub(1) else {
            return Err(InvalidExpression(format!("more than {MAX_DEPTH} expressions inside one another")));
        };
        self.depth = depth;
        let parsed = parse(self);
        self.depth += 1;
        parsed
    }

    fn expression(&mut self) -> Parsed {
        self.deeper(|parser| {
            let condition = parser.binary(0)?;
            if !parser.take("?") {
                return Ok(condition);
            }
            let yes = parser.binary(0)?;
            parser.expect(":")?;
            let no = parser.expression()?;
            Ok(call("_?_:_", vec![condition, yes, no]))
        })
    }

    fn binary(&mut self, level: usize) -> Parsed {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        let mut length = 0;
        while let Some((_, name)) = operators.iter().find(|(sign, _)| self.take(sign)) {
            // A chain of operators is as deep as it is long.
            length += 1;
            if length > self.depth {
                return Err(InvalidExpression(format!("more than {MAX_DEPTH} operators in a row")));
            }
            let right = self.binary(level + 1)?;
            left = call(name, vec![left, right]);
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed {
        if self.take("!") {
            return self.deeper(|parser| Ok(call("!_", vec![parser.unary()?])));
        }
        if self.take("-") {
            // The smallest number has no positive counterpart.
            if let Some(Token::Unsigned(number)) = self.peek()
                && *number == 1 << 63
            {
                self.at += 1;
                return Ok(Expr::Constant(Value::Int(i64::MIN)));
            }
            return self.deeper(|parser| {
                Ok(match parser.unary()? {
                    Expr::Constant(Value::Int(number)) => Expr::Constant(Value::Int(-number)),
                    Expr::Constant(Value::Double(number)) => Expr::Constant(Value::Double(-number)),
                    other => call("-_", vec![other]),
                })
            });
        }
        self.member()
    }

    fn member(&mut self) -> Parsed {
        let mut expr = self.primary()?;
        let mut length = 0;
        loop {
            length += 1;
            if length > self.depth {
                return Err(InvalidExpression(format!("more than {MAX_DEPTH} fields in a row")));
            }
            if self.take(".") {
                let Some(Token::Word(name)) = self.peek().cloned() else { return Err(self.unexpected()) };
                self.at += 1;
                expr = if self.take("(") {
                    let mut arguments = vec![expr];
                    arguments.extend(self.list(")")?);
                    method(&name, arguments)?
                } else {
                    Expr::Select(Box::new(expr), name.into())
                };
            } else if self.take("[") {
                let key = self.expression()?;
                self.expect("]")?;
                expr = call("_[_]", vec![expr, key]);
            } else {
                return Ok(expr);
            }
        }
    }

    /// Expressions up to the closing sign, which is taken.
    fn list(&mut self, end: &str) -> Result<Vec<Expr>, InvalidExpression> {
        let mut items = Vec::new();
        while !self.take(end) {
            items.push(self.expression()?);
            if !self.take(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(items)
    }

    fn primary(&mut self) -> Parsed {
        let Some(token) = self.peek().cloned() else { return Err(self.unexpected()) };
        self.at += 1;
        match token {
            Token::Int(number) => Ok(Expr::Constant(Value::Int(number))),
            Token::Uint(number) => Ok(Expr::Constant(Value::Uint(number))),
            Token::Double(number) => Ok(Expr::Constant(Value::Double(number))),
            Token::Text(text) => Ok(Expr::Constant(Value::Text(Cow::Owned(text)))),
            Token::Bytes(bytes) => Ok(Expr::Constant(Value::Bytes(Cow::Owned(bytes)))),
            Token::Word(word) => self.word(word),
            Token::Sign("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign("[") => self.list("]").map(Expr::List),
            Token::Sign("{") => self.map(),
            Token::Sign(".") => match self.peek().cloned() {
                Some(Token::Word(word)) => {
                    self.at += 1;
                    self.word(word)
                }
                _ => Err(self.unexpected()),
            },
            Token::Sign(_) | Token::Unsigned(_) => {
                self.at -= 1;
                Err(self.unexpected())
            }
        }
    }

    fn word(&mut self, word: String) -> Parsed {
        match &*word {
            "true" => return Ok(Expr::Constant(Value::Bool(true))),
            "false" => return Ok(Expr::Constant(Value::Bool(false))),
            "null" => return Ok(Expr::Constant(Value::Null)),
            _ => {}
        }
        if !self.take("(") {
            return Ok(Expr::Ident(word.into()));
        }
        let arguments = self.list(")")?;
        if word != "has" {
            return Ok(call(&word, arguments));
        }
        match <[Expr; 1]>::try_from(arguments) {
            Ok([Expr::Select(operand, field)]) => Ok(Expr::Has(operand, field)),
            _ => Err(InvalidExpression("has() takes a field: has(request.referer)".to_owned())),
        }
    }

    fn map(&mut self) -> Parsed {
        let mut entries = Vec::new();
        while !self.take("}") {
            let key = self.expression()?;
            self.expect(":")?;
            entries.push((key, self.expression()?));
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(Expr::Map(entries))
    }
}

fn method(name: &str, arguments: Vec<Expr>) -> Parsed {
    if matches!(name, "all" | "exists" | "exists_one" | "map" | "filter") {
        return Err(InvalidExpression(format!("{name}() is a comprehension, which is not allowed, as in Envoy")));
    }
    Ok(call(name, arguments))
}
