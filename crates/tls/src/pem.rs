//! PEM (RFC 7468) and Base64 (RFC 4648).

/// A block of a PEM text.
pub(crate) struct Block {
    /// What stands after `BEGIN`.
    pub(crate) label: String,
    pub(crate) der: Vec<u8>,
    /// Whether headers stand before the data: the old way of encrypting keys.
    pub(crate) has_headers: bool,
}

/// The blocks of a text; what stands between them is ignored. `Err` names what is wrong.
pub(crate) fn blocks(text: &[u8]) -> Result<Vec<Block>, &'static str> {
    let mut found = Vec::new();
    let mut open: Option<(String, String, bool)> = None;
    for line in text.split(|byte| *byte == b'\n' || *byte == b'\r') {
        let line = line.trim_ascii();
        if let Some(label) = marker(line, b"-----BEGIN ") {
            if open.is_some() {
                return Err("a PEM block begins within another");
            }
            open = Some((label, String::new(), false));
        } else if let Some(label) = marker(line, b"-----END ") {
            let Some((begun, data, has_headers)) = open.take() else {
                return Err("a PEM block ends that did not begin");
            };
            if begun != label {
                return Err("a PEM block ends with another label than it began with");
            }
            let der = base64(data.as_bytes()).ok_or("a PEM block is not Base64")?;
            found.push(Block { label, der, has_headers });
        } else if let Some((_, data, has_headers)) = &mut open {
            if line.contains(&b':') {
                *has_headers = true;
            } else {
                data.push_str(std::str::from_utf8(line).map_err(|_| "a PEM block is not Base64")?);
            }
        }
    }
    if open.is_some() { Err("a PEM block does not end") } else { Ok(found) }
}

fn marker(line: &[u8], begin: &[u8]) -> Option<String> {
    let label = line.strip_prefix(begin)?.strip_suffix(b"-----")?;
    std::str::from_utf8(label).ok().map(str::to_owned)
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Decodes Base64 with padding.
pub(crate) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    if padding > 2 {
        return None;
    }
    let value = |byte: u8| {
        Some(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        })
    };
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let data = &text[..text.len() - padding];
    for group in data.chunks(4) {
        let mut bits: u32 = 0;
        for at in 0..4 {
            bits = bits << 6 | u32::from(group.get(at).map_or(Some(0), |byte| value(*byte))?);
        }
        out.extend(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(out)
}

/// Encodes one block.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
            for at in 0..4 {
                let is_data = at <= group.len();
                let digit = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
                out.push(if is_data { char::from(digit) } else { '=' });
            }
        }
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for length in 0..100u8 {
            let bytes: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(37)).collect();
            let text = encode("X", &bytes);
            let found = blocks(text.as_bytes()).unwrap();
            assert_eq!((found.len(), found[0].label.as_str(), &found[0].der), (1, "X", &bytes));
        }
    }

    #[test]
    fn malformed() {
        for text in [
            "-----BEGIN A-----\nAAAA\n",
            "-----END A-----",
            "-----BEGIN A-----\nA\n-----END A-----",
            "-----BEGIN A-----\n-----END B-----",
        ] {
            assert!(blocks(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(base64(b"AA=="), Some(vec![0]));
        assert_eq!(base64(b"===="), None);
    }
}
