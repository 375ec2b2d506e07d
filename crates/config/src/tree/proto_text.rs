//! Protobuf's text format to a tree. A repeated field may be a list or a key given several times; map entries are mappings of
//! `key` and `value`, and well-known types have no form of their own: the transcoder knows that from [`super::Tree::is_text`].

use super::builder::{Builder, Fatal, Place};
use super::{NodeKind, Tree};
use crate::diagnostics::{Diagnostics, quoted};
use std::sync::Arc;

/// The tree of the message in `text`.
pub(super) fn parse(source: &Arc<str>, text: &str, diagnostics: &mut Diagnostics) -> Result<Tree, Fatal> {
    let builder = Builder::new(source, text.len(), diagnostics).text_format();
    let mut reader = Reader { rest: text, line: 1, column: 1, builder };
    reader.builder.begin(NodeKind::Mapping, Place { line: 1, column: 1 }, 0)?;
    reader.document()?;
    reader.builder.end()?;
    Ok(reader.builder.build())
}

/// What is open, and with what it closes.
#[derive(Clone, Copy, PartialEq)]
enum Open {
    Message(char),
    List,
}

struct Reader<'t, 'd> {
    rest: &'t str,
    line: u32,
    column: u32,
    builder: Builder<'d>,
}

impl<'t> Reader<'t, '_> {
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

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'t str {
        let start = self.rest;
        while self.peek().is_some_and(&wanted) {
            self.bump();
        }
        &start[..start.len() - self.rest.len()]
    }

    /// Goes to the next character that is neither blank nor in a comment.
    fn skip(&mut self) -> Option<char> {
        loop {
            self.take_while(char::is_whitespace);
            if self.peek() != Some('#') {
                return self.peek();
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn expected(&self, what: &str) -> Fatal {
        let found = match self.peek() {
            Some(c) => format!("found {}", quoted(&c.to_string())),
            None => "the text ends here".to_owned(),
        };
        self.builder.error(self.place(), format!("text format: {found}, expected {what}"))
    }

    fn document(&mut self) -> Result<(), Fatal> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            match (self.skip(), open.last().copied()) {
                (None, None) => return Ok(()),
                (Some(c), Some(Open::Message(closer))) if c == closer => self.close(&mut open)?,
                (Some(']'), Some(Open::List)) => self.close(&mut open)?,
                (Some(',' | ';'), _) => {
                    self.bump();
                }
                (Some(_), Some(Open::List)) => self.value(&mut open)?,
                (_, _) => {
                    self.key()?;
                    self.field_value(&mut open)?;
                }
            }
        }
    }

    fn close(&mut self, open: &mut Vec<Open>) -> Result<(), Fatal> {
        self.bump();
        open.pop();
        self.builder.end()
    }

    /// A field name, or a type URL in brackets.
    fn key(&mut self) -> Result<(), Fatal> {
        let place = self.place();
        let name = match self.peek() {
            Some('[') => {
                self.bump();
                let url = self.take_while(|c| c != ']' && c != '\n');
                self.bump();
                format!("[{}]", url.trim())
            }
            _ => self.take_while(|c| c.is_ascii_alphanumeric() || c == '_').to_owned(),
        };
        if name.is_empty() {
            return Err(self.expected("a field name"));
        }
        self.builder.scalar(NodeKind::Quoted, &name, place, 0)
    }

    fn field_value(&mut self, open: &mut Vec<Open>) -> Result<(), Fatal> {
        match self.skip() {
            Some(':') => {
                self.bump();
                self.skip();
                self.value(open)
            }
            Some('{' | '<') => self.value(open),
            _ => Err(self.expected("`:` or `{`")),
        }
    }

    fn value(&mut self, open: &mut Vec<Open>) -> Result<(), Fatal> {
        let place = self.place();
        match self.peek() {
            Some(c @ ('{' | '<')) => {
                self.bump();
                open.push(Open::Message(if c == '{' { '}' } else { '>' }));
                self.builder.begin(NodeKind::Mapping, place, 0)
            }
            Some('[') if open.last() != Some(&Open::List) => {
                self.bump();
                open.push(Open::List);
                self.builder.begin(NodeKind::Sequence, place, 0)
            }
            Some('"' | '\'') => {
                let text = self.strings()?;
                self.builder.scalar(NodeKind::Quoted, &text, place, 0)
            }
            _ => self.word(place),
        }
    }

    /// A number, `true`, `false`, or the name of an enum value.
    fn word(&mut self, place: Place) -> Result<(), Fatal> {
        let negative = self.peek() == Some('-');
        if negative {
            self.bump();
            self.skip();
        }
        let is_exponent =
            |text: &str| text.ends_with(['e', 'E']) && text.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        let mut word = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.')).to_owned();
        if is_exponent(&word) && matches!(self.peek(), Some('+' | '-')) {
            word.extend(self.bump());
            word.push_str(self.take_while(|c| c.is_ascii_digit()));
        }
        if word.is_empty() {
            return Err(self.expected("a value"));
        }
        let sign = if negative { "-" } else { "" };
        match word.as_str() {
            "true" | "false" => self.builder.scalar(NodeKind::Literal, &word, place, 0),
            "inf" | "infinity" | "nan" => self.builder.scalar(NodeKind::Literal, &format!("{sign}{word}"), place, 0),
            text if text.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
                self.builder.scalar(NodeKind::Literal, &format!("{sign}{}", decimal(text)), place, 0)
            }
            _ if negative => {
                Err(self.builder.error(place, format!("text format: found {} behind a minus", quoted(&word))))
            }
            _ => self.builder.scalar(NodeKind::Quoted, &word, place, 0),
        }
    }

    /// One string, or several that stand side by side and are one.
    fn strings(&mut self) -> Result<String, Fatal> {
        let place = self.place();
        let mut bytes = Vec::new();
        while let Some(quote @ ('"' | '\'')) = self.skip() {
            self.bump();
            loop {
                let plain = self.take_while(|c| c != quote && c != '\\' && c != '\n');
                bytes.extend_from_slice(plain.as_bytes());
                match self.bump() {
                    Some('\\') => self.escape(&mut bytes)?,
                    Some(c) if c == quote => break,
                    _ => {
                        return Err(self.builder.error(place, "text format: the string that begins here does not end"));
                    }
                }
            }
        }
        let message = "text format: the escapes of this string give bytes that are not UTF-8, which are not supported";
        String::from_utf8(bytes).map_err(|_| self.builder.error(place, message))
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), Fatal> {
        let place = self.place();
        let digits = |reader: &mut Self, radix: u32, most: usize| {
            let length = reader.rest.chars().take(most).take_while(|c| c.is_digit(radix)).count();
            let value = u32::from_str_radix(&reader.rest[..length], radix).ok();
            (0..length).for_each(|_| {
                reader.bump();
            });
            value
        };
        let c = match self.peek() {
            Some('0'..='7') => {
                out.extend(digits(self, 8, 3).map(|value| value as u8));
                return Ok(());
            }
            _ => self.bump(),
        };
        let unicode = match c {
            Some('x' | 'X') => {
                let value = digits(self, 16, 2);
                out.extend(value.map(|value| value as u8));
                return value
                    .map(|_| ())
                    .ok_or_else(|| self.builder.error(place, "text format: found `\\x` without digits"));
            }
            Some('u') => digits(self, 16, 4).and_then(char::from_u32),
            Some('U') => digits(self, 16, 8).and_then(char::from_u32),
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('t') => Some('\t'),
            Some('a') => Some('\u{7}'),
            Some('b') => Some('\u{8}'),
            Some('v') => Some('\u{b}'),
            Some('f') => Some('\u{c}'),
            Some(c @ ('\\' | '\'' | '"' | '?')) => Some(c),
            _ => None,
        };
        let c = unicode.ok_or_else(|| self.builder.error(place, "text format: found an unknown escape"))?;
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }
}

/// A number without what only the text format knows: the `f` of floats, and octal.
fn decimal(text: &str) -> String {
    let is_hex = text.starts_with("0x") || text.starts_with("0X");
    if !is_hex && text.len() > 1 && text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return u64::from_str_radix(text, 8).map_or_else(|_| text.to_owned(), |value| value.to_string());
    }
    match text.strip_suffix(['f', 'F']) {
        Some(number) if !is_hex => number.to_owned(),
        _ => text.to_owned(),
    }
}
