//! JSON text to a tree: as protobuf's parser reads it, which takes trailing commas, single quotes and bare keys as well.

use super::builder::{Builder, Fatal, Place};
use super::{NodeKind, Scalar, Tree};
use crate::diagnostics::{Diagnostics, quoted};
use std::sync::Arc;

/// The meaning of a literal that [`parse`] let through.
pub(super) fn literal(text: &str) -> Scalar<'_> {
    match text {
        "null" => Scalar::Null,
        "true" => Scalar::Bool(true),
        "false" => Scalar::Bool(false),
        number => Scalar::Number(number),
    }
}

/// The tree of the one value in `text`.
pub(super) fn parse(source: &Arc<str>, text: &str, diagnostics: &mut Diagnostics) -> Result<Tree, Fatal> {
    let builder = Builder::new(source, text.len(), diagnostics);
    let mut lexer = Lexer { rest: text, line: 1, column: 1, builder };
    lexer.document()?;
    Ok(lexer.builder.build())
}

struct Lexer<'t, 'd> {
    rest: &'t str,
    line: u32,
    column: u32,
    builder: Builder<'d>,
}

impl<'t> Lexer<'t, '_> {
    fn place(&self) -> Place {
        Place { line: self.line, column: self.column }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        match c {
            '\n' => (self.line, self.column) = (self.line + 1, 1),
            _ => self.column += 1,
        }
        Some(c)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\r' | '\n')) {
            self.bump();
        }
    }

    fn expected(&self, what: &str) -> Fatal {
        let mut error = match self.peek() {
            Some(c) => {
                self.builder.error(self.place(), format!("JSON: found {}, expected {what}", quoted(&c.to_string())))
            }
            None => self.builder.error(self.place(), format!("JSON: the text ends here, expected {what}")),
        };
        if self.rest.starts_with("//") || self.rest.starts_with("/*") || self.rest.starts_with('#') {
            error.hint = Some("JSON has no comments; a file whose name ends in .yaml may have `#` comments".to_owned());
        }
        error
    }

    /// The value and all in it, without recursion: the builder knows what is open.
    fn document(&mut self) -> Result<(), Fatal> {
        let mut open: Vec<char> = Vec::new();
        self.skip_space();
        if !matches!(self.peek(), Some('{' | '[')) {
            let mut error = self.expected("`{`");
            error.hint = Some("the name of a YAML file must end in .yaml or .yml".to_owned());
            return Err(error);
        }
        loop {
            self.skip_space();
            let closed = match (self.peek(), open.last()) {
                (Some(c @ ('}' | ']')), Some(&expected)) if c == expected => {
                    self.bump();
                    open.pop();
                    self.builder.end()?;
                    true
                }
                (_, Some('}')) => {
                    self.key()?;
                    self.value(&mut open)?
                }
                _ => self.value(&mut open)?,
            };
            if closed && !self.after_value(open.last().copied())? {
                break;
            }
        }
        self.skip_space();
        if !self.rest.is_empty() {
            return Err(self.expected("the end of the text"));
        }
        Ok(())
    }

    /// Reads the comma behind a value, which may be missing before the end of its parent. False at the end of the document.
    fn after_value(&mut self, parent: Option<char>) -> Result<bool, Fatal> {
        let Some(closer) = parent else { return Ok(false) };
        self.skip_space();
        match self.peek() {
            Some(',') => {
                self.bump();
                Ok(true)
            }
            Some(c) if c == closer => Ok(true),
            _ => Err(self.expected(&format!("`,` or `{closer}`"))),
        }
    }

    fn key(&mut self) -> Result<(), Fatal> {
        let place = self.place();
        match self.peek() {
            Some(quote @ ('"' | '\'')) => {
                let text = self.string(quote)?;
                self.builder.scalar(NodeKind::Quoted, &text, place, 0)?;
            }
            Some(c) if c.is_ascii_alphabetic() || c == '_' || c == '$' => {
                let text = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
                self.builder.scalar(NodeKind::Quoted, text, place, 0)?;
            }
            _ => return Err(self.expected("a key in double quotes, or `}`")),
        }
        self.skip_space();
        if self.peek() != Some(':') {
            return Err(self.expected("`:`"));
        }
        self.bump();
        self.skip_space();
        Ok(())
    }

    /// Reads a scalar, or opens a container. Whether the value is complete.
    fn value(&mut self, open: &mut Vec<char>) -> Result<bool, Fatal> {
        let place = self.place();
        match self.peek() {
            Some(c @ ('{' | '[')) => {
                self.bump();
                let kind = if c == '{' { NodeKind::Mapping } else { NodeKind::Sequence };
                self.builder.begin(kind, place, 0)?;
                open.push(if c == '{' { '}' } else { ']' });
                Ok(false)
            }
            Some(quote @ ('"' | '\'')) => {
                let text = self.string(quote)?;
                self.builder.scalar(NodeKind::Quoted, &text, place, 0)?;
                Ok(true)
            }
            Some(c) if c == '-' || c.is_ascii_alphanumeric() => {
                let before = self.builder.error(place, "");
                let text = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_'));
                if !matches!(text, "null" | "true" | "false") && !is_number(text) {
                    let mut error = before;
                    error.message = format!("JSON: found {}, expected a value", quoted(text));
                    error.hint = Some("put a string in double quotes".to_owned());
                    return Err(error);
                }
                self.builder.scalar(NodeKind::Literal, text, place, 0)?;
                Ok(true)
            }
            _ => Err(self.expected("a value")),
        }
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'t str {
        let start = self.rest;
        while self.peek().is_some_and(&wanted) {
            self.bump();
        }
        &start[..start.len() - self.rest.len()]
    }

    /// The content of a string, from its opening to behind its closing quote.
    fn string(&mut self, quote: char) -> Result<String, Fatal> {
        let start = self.place();
        self.bump();
        let mut out = String::new();
        loop {
            let plain = self.take_while(|c| c != quote && c != '\\');
            out.push_str(plain);
            match self.bump() {
                Some('\\') => out.push(self.escape()?),
                Some(_) => return Ok(out),
                None => return Err(self.builder.error(start, "JSON: the string that begins here does not end")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fatal> {
        let place = self.place();
        match self.bump() {
            Some(c @ ('"' | '\'' | '\\' | '/')) => Ok(c),
            Some('b') => Ok('\u{8}'),
            Some('f') => Ok('\u{c}'),
            Some('n') => Ok('\n'),
            Some('r') => Ok('\r'),
            Some('t') => Ok('\t'),
            Some('u') => self.unicode(place),
            _ => Err(self
                .builder
                .error(place, "JSON: found an unknown escape, expected one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u")),
        }
    }

    fn unicode(&mut self, place: Place) -> Result<char, Fatal> {
        let high = self.hex4(place)?;
        let code = match high {
            0xd800..=0xdbff if self.rest.starts_with("\\u") => {
                self.bump();
                self.bump();
                let low = self.hex4(place)?;
                if !(0xdc00..=0xdfff).contains(&low) {
                    return Err(self.builder.error(place, "JSON: found half of a surrogate pair"));
                }
                0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
            }
            _ => high,
        };
        char::from_u32(code).ok_or_else(|| self.builder.error(place, "JSON: found half of a surrogate pair"))
    }

    fn hex4(&mut self, place: Place) -> Result<u32, Fatal> {
        let digits = self.rest.get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let code =
            code.ok_or_else(|| self.builder.error(place, "JSON: expected four hexadecimal digits behind \\u"))?;
        (0..4).for_each(|_| {
            self.bump();
        });
        Ok(code)
    }
}

/// A number of JSON's grammar: no leading zero, no plus, no bare point.
fn is_number(text: &str) -> bool {
    let rest = text.strip_prefix('-').unwrap_or(text);
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest.starts_with('0')) {
        return false;
    }
    let mut rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = digits(fraction);
        if length == 0 {
            return false;
        }
        rest = &fraction[length..];
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}
