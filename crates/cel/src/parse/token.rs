//! Words, numbers, texts and signs.

use crate::expr::InvalidExpression;
use std::fmt;

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Word(String),
    Int(i64),
    /// A number that is an integer only behind a minus sign.
    Unsigned(u64),
    Uint(u64),
    Double(f64),
    Text(Vec<u8>),
    Bytes(Vec<u8>),
    Sign(&'static str),
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Word(word) => write!(f, "`{word}`"),
            Token::Int(number) => write!(f, "`{number}`"),
            Token::Unsigned(number) | Token::Uint(number) => write!(f, "`{number}`"),
            Token::Double(number) => write!(f, "`{number}`"),
            Token::Text(_) | Token::Bytes(_) => f.write_str("a text"),
            Token::Sign(sign) => write!(f, "`{sign}`"),
        }
    }
}

/// Longer signs first.
const SIGNS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "+", "-", "*", "/", "%", "?", ":", ".", ",", "(", ")", "[", "]",
    "{", "}",
];

type Failed = InvalidExpression;

/// Splits a text.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Failed> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if let Some(comment) = rest.strip_prefix("//") {
            rest = comment.find('\n').and_then(|at| comment.get(at..)).unwrap_or_default();
            continue;
        }
        let Some(first) = rest.chars().next() else { return Ok(found) };
        let (token, after) = match first {
            '0'..='9' => number(rest)?,
            '.' if rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) => number(rest)?,
            '"' | '\'' => literal(rest, false, false)?,
            'a'..='z' | 'A'..='Z' | '_' => word(rest)?,
            _ => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                Some(sign) => (Token::Sign(sign), rest.get(sign.len()..).unwrap_or_default()),
                None => return Err(InvalidExpression(format!("`{first}` is no part of the language"))),
            },
        };
        found.push(token);
        rest = after;
    }
}

/// A word, or a text with a prefix: `b"…"`, `r"…"`.
fn word(text: &str) -> Result<(Token, &str), Failed> {
    let quote = text.find(['"', '\'']).filter(|at| (1..=2).contains(at));
    if let Some(quote) = quote {
        let (prefix, rest) = text.split_at(quote);
        let lower = prefix.to_ascii_lowercase();
        if matches!(&*lower, "b" | "r" | "br" | "rb") {
            return literal(rest, lower.contains('r'), lower.contains('b'));
        }
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    Ok((Token::Word(word.to_owned()), rest))
}

fn number(text: &str) -> Result<(Token, &str), Failed> {
    let bad = |text: &str| InvalidExpression(format!("`{text}` is no number"));
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let end = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
        let (digits, rest) = hex.split_at(end);
        let value = u64::from_str_radix(digits, 16).map_err(|_| bad(digits))?;
        return Ok(integer(value, rest));
    }
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = digits(0);
    let mut is_double = false;
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
        is_double = true;
        end += 1 + digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            is_double = true;
            end += 1 + sign + exponent;
        }
    }
    let (number, rest) = text.split_at(end);
    if is_double {
        return Ok((Token::Double(number.parse().map_err(|_| bad(number))?), rest));
    }
    Ok(integer(number.parse().map_err(|_| bad(number))?, rest))
}

fn integer(value: u64, rest: &str) -> (Token, &str) {
    if let Some(rest) = rest.strip_prefix(['u', 'U']) {
        return (Token::Uint(value), rest);
    }
    (i64::try_from(value).map_or(Token::Unsigned(value), Token::Int), rest)
}

/// A text in one or three quotes.
fn literal(text: &str, raw: bool, bytes: bool) -> Result<(Token, &str), Failed> {
    let unended = || InvalidExpression("a text has no end".to_owned());
    let triple = ["\"\"\"", "'''"].into_iter().find(|quotes| text.starts_with(quotes));
    let quotes = triple.or_else(|| text.get(..1)).ok_or_else(unended)?;
    let mut rest = text.get(quotes.len()..).ok_or_else(unended)?;
    let mut out = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix(quotes) {
            let token = if bytes { Token::Bytes(out) } else { Token::Text(out) };
            return Ok((token, after));
        }
        let c = rest.chars().next().ok_or_else(unended)?;
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        match c {
            '\\' if !raw => rest = escape(rest, bytes, &mut out)?,
            '\n' | '\r' if triple.is_none() => return Err(unended()),
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// What follows a backslash.
fn escape<'t>(text: &'t str, bytes: bool, out: &mut Vec<u8>) -> Result<&'t str, Failed> {
    let bad = || InvalidExpression(r"a text has an unknown escape after `\`".to_owned());
    let c = text.chars().next().ok_or_else(bad)?;
    let (radix, from, length) = match c {
        'x' | 'X' => (16, 1, 2),
        'u' => (16, 1, 4),
        'U' => (16, 1, 8),
        '0'..='3' => (8, 0, 3),
        _ => {
            out.push(match c {
                'a' => 7,
                'b' => 8,
                'f' => 12,
                'n' => b'\n',
                'r' => b'\r',
                't' => b'\t',
                'v' => 11,
                '\\' | '?' | '"' | '\'' | '`' => c as u8,
                _ => return Err(bad()),
            });
            return text.get(1..).ok_or_else(bad);
        }
    };
    let digits = text.get(from..from + length).ok_or_else(bad)?;
    let code = u32::from_str_radix(digits, radix).map_err(|_| bad())?;
    if bytes && length < 4 {
        out.push(u8::try_from(code).map_err(|_| bad())?);
    } else {
        let c = char::from_u32(code).ok_or_else(bad)?;
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    text.get(from + length..).ok_or_else(bad)
}
