//! Strings and bytes in JSON.

use std::fmt::Write as _;

/// Appends `text` in double quotes. Escaped is what JSON demands, what is invisible, and `<` and `>`, as protobuf does.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut plain = 0;
    for (at, c) in text.char_indices() {
        if !is_escaped(c) {
            continue;
        }
        out.push_str(&text[plain..at]);
        plain = at + c.len_utf8();
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

fn is_escaped(c: char) -> bool {
    match c {
        '"' | '\\' | '<' | '>' => true,
        ' '..='~' => false,
        c => matches!(u32::from(c),
            0..=0x1f | 0x7f..=0x9f | 0xad | 0x600..=0x603 | 0x6dd | 0x70f | 0x17b4 | 0x17b5
            | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x2064 | 0x206a..=0x206f
            | 0xfeff | 0xfff9..=0xfffb | 0x1d173..=0x1d17a | 0xe0001 | 0xe0020..=0xe007f),
    }
}

/// Appends bytes in base64, padded, in double quotes.
pub(super) fn write_base64(out: &mut String, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push('"');
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * at) & 0x3f) as usize];
            out.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out.push('"');
}
