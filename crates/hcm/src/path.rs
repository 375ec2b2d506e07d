//! Path normalisation: all layers that look at a path must see the same bytes.

use crate::config::{EscapedSlashes, PathOptions};

/// What normalising did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Normalized {
    /// Nothing had to be changed.
    Same,
    /// The new path, query included.
    Changed(Vec<u8>),
    /// The client shall ask again with this path.
    Redirect(Vec<u8>),
    /// Not a path that can be understood safely: 400. The path as far as it is understood, where that is another one.
    Rejected(Option<Vec<u8>>),
}

/// Normalises `:path`. The query is not touched; a fragment counts as part of the query.
pub(crate) fn normalize(path: &[u8], options: PathOptions) -> Normalized {
    if options == PathOptions::default() {
        return Normalized::Same;
    }
    let split = path.iter().position(|b| matches!(b, b'?' | b'#')).unwrap_or(path.len());
    let (bare, rest) = path.split_at(split);
    let mut redirect = false;
    let mut current = bare.to_vec();
    if options.escaped_slashes != EscapedSlashes::Keep
        && let Some(unescaped) = unescape_slashes(&current)
    {
        match options.escaped_slashes {
            EscapedSlashes::Reject => {
                return Normalized::Rejected(Some([&unescaped, rest].concat()));
            }
            EscapedSlashes::Redirect => redirect = true,
            EscapedSlashes::Unescape | EscapedSlashes::Keep => {}
        }
        current = unescaped;
    }
    if options.normalize {
        match resolve(&current) {
            Some(resolved) => current = resolved,
            None => return Normalized::Rejected(None),
        }
    }
    if options.merge_slashes {
        current = merge_slashes(&current);
    }
    if current == bare {
        return Normalized::Same;
    }
    current.extend_from_slice(rest);
    if redirect { Normalized::Redirect(current) } else { Normalized::Changed(current) }
}

/// `%2F` and `%5C` in any case become `/` and `\`; `None` if there were none.
fn unescape_slashes(path: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut found = false;
    let mut at = 0;
    while at < path.len() {
        match path.get(at..at + 3) {
            Some([b'%', b'2', b'f' | b'F']) => out.push(b'/'),
            Some([b'%', b'5', b'c' | b'C']) => out.push(b'\\'),
            _ => {
                out.push(path[at]);
                at += 1;
                continue;
            }
        }
        found = true;
        at += 3;
    }
    found.then_some(out)
}

/// Resolves `.` and `..`, makes `\` a `/`, decodes escapes of unreserved characters, leaves the others as they are, and
/// escapes what must not stand in a path (as Envoy's canonicaliser does). `None` where the path climbs above its root, or holds `%00`.
fn resolve(path: &[u8]) -> Option<Vec<u8>> {
    if path.first() != Some(&b'/') {
        return None;
    }
    let decoded = decode_unreserved(path)?;
    let mut out: Vec<u8> = Vec::with_capacity(decoded.len());
    let segments: Vec<&[u8]> = decoded[1..].split(|b| *b == b'/').collect();
    let last = segments.len() - 1;
    let mut starts: Vec<usize> = Vec::new();
    for (at, segment) in segments.iter().enumerate() {
        match without_parameters_of_dots(segment) {
            b"." => {
                if at == last {
                    out.push(b'/');
                }
            }
            b".." => {
                if let Some(start) = starts.pop() {
                    out.truncate(start);
                }
                if at == last {
                    out.push(b'/');
                }
            }
            other => {
                starts.push(out.len());
                out.push(b'/');
                out.extend_from_slice(other);
            }
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    Some(out)
}

/// A dot segment with parameters (`..;x`) is one to servers that cut parameters off (CVE-2026-73553, CVE-2026-73511), also
/// where its dots were escaped. Others keep theirs.
fn without_parameters_of_dots(segment: &[u8]) -> &[u8] {
    match segment.iter().position(|byte| *byte == b';') {
        Some(at @ (1 | 2)) if segment[..at].iter().all(|byte| *byte == b'.') => &segment[..at],
        _ => segment,
    }
}

fn decode_unreserved(path: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        let byte = path[at];
        if byte == b'\\' {
            out.push(b'/');
            at += 1;
            continue;
        }
        if byte == b'%'
            && let Some(value) = path.get(at + 1..at + 3).and_then(hex_pair)
        {
            if value == 0 {
                return None;
            }
            if value.is_ascii_alphanumeric() || b"-._~".contains(&value) {
                out.push(value);
            } else {
                out.extend_from_slice(&path[at..at + 3]);
            }
            at += 3;
            continue;
        }
        if byte <= b' ' || byte >= 0x7f || b"\"<>^`{|}".contains(&byte) {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        } else {
            out.push(byte);
        }
        at += 1;
    }
    Some(out)
}

fn hex_pair(digits: &[u8]) -> Option<u8> {
    let high = char::from(*digits.first()?).to_digit(16)?;
    let low = char::from(*digits.get(1)?).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

fn merge_slashes(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for byte in path {
        if *byte == b'/' && out.last() == Some(&b'/') {
            continue;
        }
        out.push(*byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let all = PathOptions { normalize: true, merge_slashes: true, escaped_slashes: EscapedSlashes::Unescape };
        let normalize_only = PathOptions { normalize: true, ..PathOptions::default() };
        let check = |options: PathOptions, input: &str, expected: &str| {
            let got = match normalize(input.as_bytes(), options) {
                Normalized::Same => input.to_owned(),
                Normalized::Changed(path) => String::from_utf8(path).unwrap(),
                Normalized::Redirect(path) => format!("redirect {}", String::from_utf8(path).unwrap()),
                Normalized::Rejected(_) => "rejected".to_owned(),
            };
            assert_eq!(got, expected, "{input} {options:?}");
        };
        for (input, expected) in [
            ("/a/b", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/a/..", "/"),
            ("/..", "/"),
            ("/../../x", "/x"),
            ("/a/.", "/a/"),
            ("/a//b", "/a//b"),
            ("/a%2e%2E/b", "/a../b"),
            ("/x/%2e%2e/b", "/b"),
            ("/a%2fb", "/a%2fb"),
            ("/<>\"{}|^`", "/%3C%3E%22%7B%7D%7C%5E%60"),
            ("/[a;b,c=d+e:f@g!$&'()*]", "/[a;b,c=d+e:f@g!$&'()*]"),
            ("/a%5cb", "/a%5cb"),
            ("/a\\b", "/a/b"),
            ("/a?b=/../c", "/a?b=/../c"),
            ("/a%00", "rejected"),
            ("/%zz", "/%zz"),
            ("*", "rejected"),
            ("/x/.;/admin", "/x/admin"),
            ("/x/..;/admin", "/admin"),
            ("/x/..;a=b", "/"),
            ("/x/.;", "/x/"),
            ("/x/..;y/admin;z", "/admin;z"),
            ("/x/...;/a", "/x/...;/a"),
            ("/x/;/../a", "/x/a"),
            ("/x/..;?q=/..;/", "/?q=/..;/"),
            ("/x/%2e%2e;/admin", "/admin"),
            ("/x//..;/y", "/x/y"),
        ] {
            check(normalize_only, input, expected);
        }
        check(all, "/a%2Fb//c%5c..%2fd", "/a/b/d");
        let redirect = PathOptions { escaped_slashes: EscapedSlashes::Redirect, ..all };
        check(redirect, "/a%2Fb?q", "redirect /a/b?q");
        check(redirect, "/a//b", "/a/b");
        let reject = PathOptions { escaped_slashes: EscapedSlashes::Reject, ..all };
        check(reject, "/a%5Cb", "rejected");
        check(PathOptions::default(), "/a/../b", "/a/../b");
    }
}
