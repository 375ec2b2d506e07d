//! RE2's dialect, rewritten for the `regex` crate.
//!
//! Envoy compiles for Latin-1: a byte is a character, in the pattern as in what is matched, so that no byte can keep an
//! expression from matching (CVE-2026-73552). The pattern is taken byte by byte, and the crate matches without Unicode.
//!
//! The two agree on almost everything. Where they do not, the same text would silently mean something else (`\w` with
//! Unicode letters, `&&` in a class) or be refused (`{` as a brace, `\/`, `\Q…\E`, octal), so those are rewritten here.
//! What only the crate knows (`(?x)`, `\<`) is refused, to keep a configuration valid for Envoy.

use regex_syntax::hir::{Class, Hir, HirKind};
use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

/// Largest count in `{n,m}` that RE2 takes.
const MAX_REPEAT: u32 = 1000;

/// Rewrites `pattern`. The error is a sentence about what is not RE2.
pub(super) fn from_re2(pattern: &str) -> Result<String, String> {
    let latin1: String = pattern.bytes().map(char::from).collect();
    let mut scan = Translator { chars: latin1.chars().peekable(), out: String::with_capacity(pattern.len() + 16) };
    while let Some(c) = scan.chars.next() {
        match c {
            '\\' => scan.escape()?,
            '[' => scan.class()?,
            '{' => scan.brace()?,
            '}' | ']' => scan.literal(c),
            '(' => scan.group()?,
            other if other.is_ascii() => scan.out.push(other),
            other => scan.literal(other),
        }
    }
    Ok(scan.out)
}

struct Translator<'a> {
    chars: Peekable<Chars<'a>>,
    out: String,
}

impl Translator<'_> {
    /// A character, which is at most U+00FF.
    fn literal(&mut self, c: char) {
        self.byte(u32::from(c) as u8);
    }

    fn byte(&mut self, byte: u8) {
        let _ = write!(self.out, r"\x{byte:02X}");
    }

    fn rest(&self) -> String {
        self.chars.clone().collect()
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.chars.next();
        }
    }

    /// After `\`, outside of a class.
    fn escape(&mut self) -> Result<(), String> {
        let Some(c) = self.chars.next() else { return Err(r"ends with a lone `\`".to_owned()) };
        match c {
            'd' => self.out.push_str("[0-9]"),
            'D' => self.out.push_str("[^0-9]"),
            'w' => self.out.push_str("[0-9A-Za-z_]"),
            'W' => self.out.push_str("[^0-9A-Za-z_]"),
            's' => self.out.push_str(r"[\t\n\x0C\r ]"),
            'S' => self.out.push_str(r"[^\t\n\x0C\r ]"),
            'b' => self.out.push_str(r"(?-u:\b)"),
            'B' => self.out.push_str(r"(?-u:\B)"),
            'A' => self.out.push_str(r"\A"),
            'z' => self.out.push_str(r"\z"),
            'C' => self.out.push_str("(?s-u:.)"),
            'Q' => self.quoted(),
            'E' => {}
            'p' | 'P' => self.property(c)?,
            other => self.character_escape(other)?,
        }
        Ok(())
    }

    /// `\Q…\E`: everything literal.
    fn quoted(&mut self) {
        while let Some(c) = self.chars.next() {
            if c == '\\' && self.chars.peek() == Some(&'E') {
                self.chars.next();
                return;
            }
            self.literal(c);
        }
    }

    /// `\pN`, `\p{Greek}`, `\p{^Greek}`, outside of a class: those of its characters that Latin-1 has.
    fn property(&mut self, kind: char) -> Result<(), String> {
        self.out.push('[');
        self.property_ranges(kind)?;
        self.out.push(']');
        Ok(())
    }

    fn property_ranges(&mut self, kind: char) -> Result<(), String> {
        let mut negated = kind == 'P';
        let name = match self.chars.next() {
            Some('{') => {
                let mut name: String = self.chars.by_ref().take_while(|c| *c != '}').collect();
                if name.starts_with('^') {
                    name.remove(0);
                    negated = !negated;
                }
                name
            }
            Some(letter) => letter.to_string(),
            None => return Err(format!(r"`\{kind}` needs the name of a character class")),
        };
        let parsed = regex_syntax::parse(&format!(r"\p{{{name}}}"));
        let Ok(HirKind::Class(Class::Unicode(class))) = parsed.map(Hir::into_kind) else {
            return Err(format!(r"`\{kind}{{{name}}}` is no character class"));
        };
        let has = |byte: u8| class.iter().any(|range| (range.start()..=range.end()).contains(&char::from(byte)));
        let mut found = false;
        for byte in (0..=255).filter(|byte| has(*byte) != negated) {
            self.byte(byte);
            found = true;
        }
        if !found {
            // A class without characters.
            self.out.push_str("&&[^\\x00-\\xFF]");
        }
        Ok(())
    }

    /// An escape that stands for one character, in and outside of classes; `c` follows the backslash.
    fn character_escape(&mut self, c: char) -> Result<(), String> {
        let code = match c {
            'a' => 7,
            'f' => 12,
            't' => 9,
            'n' => 10,
            'r' => 13,
            'v' => 11,
            'x' => return self.hexadecimal(),
            '0' => self.octal(0),
            '1'..='7' if matches!(self.chars.peek(), Some('0'..='7')) => self.octal(c.to_digit(8).unwrap_or(0)),
            '1'..='9' => return Err(format!(r"`\{c}`: RE2 has no back-references")),
            other if other.is_ascii_alphanumeric() => return Err(format!(r"`\{other}` is no escape of RE2")),
            other => u32::from(other),
        };
        self.code(code)
    }

    /// A character by its number, which must be in Latin-1.
    fn code(&mut self, code: u32) -> Result<(), String> {
        let byte = u8::try_from(code).map_err(|_| format!(r"`\x{{{code:x}}}`: only bytes are matched, up to \xff"))?;
        self.byte(byte);
        Ok(())
    }

    fn octal(&mut self, first: u32) -> u32 {
        let mut code = first;
        for _ in 0..2 {
            let Some(digit) = self.chars.peek().and_then(|c| c.to_digit(8)) else { break };
            code = code * 8 + digit;
            self.chars.next();
        }
        code
    }

    fn hexadecimal(&mut self) -> Result<(), String> {
        let bad = || r"`\x` needs two hexadecimal digits, or more in braces".to_owned();
        let digits: String = if self.chars.peek() == Some(&'{') {
            self.chars.next();
            self.chars.by_ref().take_while(|c| *c != '}').collect()
        } else {
            self.chars.by_ref().take(2).collect()
        };
        if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        u32::from_str_radix(&digits, 16).map_err(|_| bad()).and_then(|code| self.code(code))
    }

    /// After `{`: a repetition, or else a brace.
    fn brace(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let Some((low, high, length)) = repetition(&rest) else {
            self.literal('{');
            return Ok(());
        };
        if low > MAX_REPEAT || high.is_some_and(|high| high > MAX_REPEAT) {
            return Err(format!("a repetition of more than {MAX_REPEAT}: RE2 takes no more"));
        }
        self.out.push('{');
        for c in self.chars.by_ref().take(length) {
            self.out.push(c);
        }
        Ok(())
    }

    /// After `(`: the flags that RE2 knows are `i`, `m`, `s` and `U`.
    fn group(&mut self) -> Result<(), String> {
        self.out.push('(');
        let rest = self.rest();
        let Some(after) = rest.strip_prefix('?') else { return Ok(()) };
        let flags: String = after.chars().take_while(|c| c.is_ascii_alphabetic() || *c == '-').collect();
        let ended = after.get(flags.len()..).is_some_and(|tail| tail.starts_with([':', ')']));
        if ended && let Some(bad) = flags.chars().find(|c| !"imsU-".contains(*c)) {
            return Err(format!("`(?{flags}`: RE2 has no flag `{bad}`"));
        }
        if after.starts_with(['=', '!']) || after.starts_with("<=") || after.starts_with("<!") {
            return Err("RE2 has no look-around: combine two matchers, or use invert_match".to_owned());
        }
        Ok(())
    }

    /// After `[`, up to and with the closing `]`.
    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.chars.peek() == Some(&'^') {
            self.chars.next();
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let Some(c) = self.chars.next() else { return Err("`[` without `]`".to_owned()) };
            match c {
                ']' if !first => {
                    self.out.push(']');
                    return Ok(());
                }
                '[' if self.chars.peek() == Some(&':') => self.posix()?,
                '\\' if matches!(self.chars.peek(), Some('d' | 'D' | 'w' | 'W' | 's' | 'S' | 'p' | 'P')) => {
                    self.escape()?;
                }
                '\\' if self.chars.peek() == Some(&'Q') => {
                    self.skip(1);
                    self.quoted();
                }
                other => {
                    self.class_character(other)?;
                    self.class_range()?;
                }
            }
            first = false;
        }
    }

    fn class_character(&mut self, c: char) -> Result<(), String> {
        if c != '\\' {
            self.literal(c);
            return Ok(());
        }
        match self.chars.next() {
            Some(escaped) => self.character_escape(escaped),
            None => Err(r"ends with a lone `\`".to_owned()),
        }
    }

    /// `-x` after a character of a class, unless the `-` is the last of the class.
    fn class_range(&mut self) -> Result<(), String> {
        let mut ahead = self.chars.clone();
        if ahead.next() != Some('-') || matches!(ahead.next(), Some(']') | None) {
            return Ok(());
        }
        self.chars.next();
        self.out.push('-');
        match self.chars.next() {
            Some(high) => self.class_character(high),
            None => Ok(()),
        }
    }

    /// `[:name:]`, after its `[`.
    fn posix(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let Some(end) = rest.find(":]") else {
            self.literal('[');
            return Ok(());
        };
        let name = &rest[..end + 2];
        if name.len() > 16 {
            return Err(format!("`[{name}` is no character class"));
        }
        self.out.push('[');
        self.out.push_str(name);
        self.skip(name.chars().count());
        Ok(())
    }
}

/// `n}`, `n,}` or `n,m}` at the start of `text`: the bounds, and how many characters.
fn repetition(text: &str) -> Option<(u32, Option<u32>, usize)> {
    let end = text.bytes().take(16).position(|b| b == b'}')?;
    let body = text.get(..end)?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u32::MAX))
    };
    let (low, high) = match body.split_once(',') {
        None => (number(body)?, None),
        Some((low, "")) => (number(low)?, None),
        Some((low, high)) => (number(low)?, Some(number(high)?)),
    };
    Some((low, high, end + 1))
}
