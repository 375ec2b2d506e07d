//! Text → constants and operators.

use super::error::FormatError;
use super::op::Op;
use super::{FormatOptions, hint, operators};

/// A command as it stands between its percent signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Command<'a> {
    pub(super) name: &'a str,
    /// Empty if there are none, or none between the brackets.
    pub(super) parameters: &'a str,
    /// The length after the colon, in bytes.
    pub(super) max_length: Option<usize>,
}

/// Splits a format into operators, each with the constant before it, and the constant at the end. `%%` is a percent
/// sign.
pub(super) fn parse(
    format: &str,
    options: &FormatOptions<'_>,
    mut found: impl FnMut(&str, Op),
) -> Result<Box<str>, FormatError> {
    let mut literal = String::new();
    let mut at = 0;
    while let Some(rest) = format.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(before) = rest.find('%') else {
            literal.push_str(rest);
            break;
        };
        literal.push_str(&rest[..before]);
        at += before;
        if format[at + 1..].starts_with('%') {
            literal.push('%');
            at += 2;
            continue;
        }
        let Some((command, length)) = scan_command(&format[at..]) else {
            let message = "no valid command starts at this %";
            return Err(FormatError::new(format, at, message).hinted(hint::unterminated(format, at)));
        };
        let op = operators::build(&command, options)
            .map_err(|refusal| FormatError::new(format, at, refusal.message).hinted(refusal.hint))?;
        found(&literal, op);
        literal.clear();
        at += length;
    }
    Ok(literal.into())
}

/// Reads `%NAME%`, `%NAME(parameters)%`, either with `:length` before the last percent sign; gives the command and
/// its length in bytes. Parameters end at the first `)` that the rest of the grammar can follow, and hold no newline.
pub(super) fn scan_command(text: &str) -> Option<(Command<'_>, usize)> {
    let body = text.strip_prefix('%')?;
    let name_len = body.bytes().take_while(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_').count();
    if name_len == 0 {
        return None;
    }
    let (name, rest) = body.split_at(name_len);
    let Some(inside) = rest.strip_prefix('(') else {
        let (digits, tail_len) = scan_tail(rest)?;
        let max_length = read_length(digits)?;
        return Some((Command { name, parameters: "", max_length }, 1 + name_len + tail_len));
    };
    for (close, _) in inside.match_indices(')') {
        let parameters = &inside[..close];
        if parameters.contains('\n') {
            return None;
        }
        if let Some((digits, tail_len)) = scan_tail(&inside[close + 1..]) {
            let max_length = read_length(digits)?;
            return Some((Command { name, parameters, max_length }, 1 + name_len + 1 + close + 1 + tail_len));
        }
    }
    None
}

/// Reads `%` or `:digits%`; gives the digits and the length in bytes.
fn scan_tail(rest: &str) -> Option<(&str, usize)> {
    if rest.starts_with('%') {
        return Some(("", 1));
    }
    let after = rest.strip_prefix(':')?;
    let count = after.bytes().take_while(u8::is_ascii_digit).count();
    (count > 0 && after[count..].starts_with('%')).then(|| (&after[..count], count + 2))
}

/// No digits are no length; more than 64 bits are an error.
fn read_length(digits: &str) -> Option<Option<usize>> {
    if digits.is_empty() {
        return Some(None);
    }
    let length: u64 = digits.parse().ok()?;
    Some(Some(usize::try_from(length).unwrap_or(usize::MAX)))
}
