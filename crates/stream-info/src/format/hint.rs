//! Guesses at what was meant.

use super::operators;

/// For a `%` that starts no valid command.
pub(super) fn unterminated(format: &str, at: usize) -> String {
    let rest = &format[at + 1..];
    if let Some(name) = misspelt_case(rest) {
        return format!("did you mean %{name}%? Commands are upper case");
    }
    if let Some(pattern) = time_pattern(&format[at..]) {
        return format!("did you mean %START_TIME({pattern})%? A literal percent sign is written %%");
    }
    let name_len = rest.bytes().take_while(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_').count();
    let (name, after) = rest.split_at(name_len);
    if name.is_empty() {
        return "a literal percent sign is written %%".to_owned();
    }
    if after.starts_with('(') {
        return if after.contains(')') {
            format!("after {name}(…) comes % or :LENGTH%, where LENGTH is a number of bytes")
        } else {
            format!("the parameters of {name} lack their closing bracket")
        };
    }
    if operators::is_known(name) {
        return format!("write %{name}% with a percent sign at its end");
    }
    "a command ends with %; a literal percent sign is written %%".to_owned()
}

/// A known name in other than upper case, with its closing percent sign.
fn misspelt_case(rest: &str) -> Option<String> {
    let len = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    let upper = rest[..len].to_ascii_uppercase();
    let ends = matches!(rest.as_bytes().get(len), Some(b'%' | b'(' | b':'));
    (ends && upper != rest[..len] && operators::is_known(&upper)).then_some(upper)
}

/// The strftime pattern that a text starting with `%` looks like: up to the bracket or quote that ends it, or to its
/// last conversion.
fn time_pattern(text: &str) -> Option<&str> {
    let looks_like = |conversion: u8| b"YymdHMSTFDjeabBpsf".contains(&conversion);
    let bytes = text.as_bytes();
    if !bytes.get(1).copied().is_some_and(looks_like) {
        return None;
    }
    // A word of several upper-case letters is rather a command.
    let is_word = |b: &u8| b.is_ascii_uppercase() || *b == b'_';
    if bytes.iter().skip(1).take_while(|b| is_word(b)).count() > 1 {
        return None;
    }
    let closed = text.find([']', '"', '\'', '\n', ')']).unwrap_or(text.len());
    let pattern = &text[..closed];
    let mut end = 0;
    let mut at = 0;
    while let Some(found) = pattern[at..].find('%') {
        let conversion = at + found + 1;
        match pattern.as_bytes().get(conversion).copied() {
            Some(b) if looks_like(b) => end = conversion + 1,
            _ => break,
        }
        // The next character may be the start of a command: then the pattern ended before.
        at = conversion + 1;
        if pattern[at..].starts_with("] ") {
            break;
        }
    }
    let suffix = pattern[end..].chars().next().filter(|c| *c == 'Z').map_or(0, char::len_utf8);
    Some(&pattern[..end + suffix])
}

/// For a command name that does not exist.
pub(super) fn unknown(name: &str) -> String {
    match name {
        "FILE_CONTENT" | "SECRET" | "DYNAMIC_MODULE" => {
            format!("{name} exists only with a formatter extension that is not built")
        }
        "REQ_WITHOUT_QUERY" => "list envoy.formatter.req_without_query under `formatters` to use it".to_owned(),
        "REQUEST_TRAILER" => "trailers of requests are not logged; use %TRAILER(X)% for those of responses".to_owned(),
        _ => match nearest(name, operators::names()) {
            Some(known) => format!("did you mean %{known}%?"),
            None => String::new(),
        },
    }
}

/// The name with the fewest edits, if these are few for its length.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > 64 {
        return None;
    }
    let allowed = (name.len() / 3).clamp(1, 6);
    known
        .map(|candidate| (edits(name.as_bytes(), candidate.as_bytes()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn edits(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
