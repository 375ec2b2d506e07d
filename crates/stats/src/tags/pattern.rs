//! The two pattern languages of tag rules: segments with wildcards, and the regular expressions of the
//! configuration, which Envoy reads as ECMAScript.

use std::ops::Range;

use super::{BACKTRACK_LIMIT, Found, Rule};

/// Matches a whole name against segments: `*` is any one, `**` any number (at the end of a pattern at least one), `$`
/// the one that is the value. With the value goes the dot behind it, or the one before if it is the last.
pub(super) fn match_segments(pattern: &str, name: &str) -> Option<Found> {
    let value = match_from(pattern, name, 0, None)??;
    let cut =
        if value.end < name.len() { value.start..value.end + 1 } else { value.start.saturating_sub(1)..value.end };
    Some(Found { cut, value })
}

/// Matches the rest of a pattern against the name from `at`, which is past its end when nothing is left.
fn match_from(pattern: &str, name: &str, at: usize, value: Option<Range<usize>>) -> Option<Option<Range<usize>>> {
    if pattern.is_empty() {
        return (at > name.len()).then_some(value);
    }
    let (segment, rest) = pattern.split_once('.').unwrap_or((pattern, ""));
    if segment == "**" && rest.is_empty() {
        return (at <= name.len()).then_some(value);
    }
    let end = || name.get(at..).map(|tail| at + tail.find('.').unwrap_or(tail.len()));
    if segment == "**" {
        return match_from(rest, name, at, value.clone()).or_else(|| match_from(pattern, name, end()? + 1, value));
    }
    let end = end()?;
    let value = match segment {
        "$" => Some(at..end),
        "*" => value,
        literal if name.get(at..end) == Some(literal) => value,
        _ => return None,
    };
    match_from(rest, name, end + 1, value)
}

/// Compiles a `regex` of `stats_tags`. Look-around and back-references are for the backtracking engine, all else
/// for the linear one.
pub(super) fn compile(pattern: &str) -> Result<Rule, String> {
    let translated = translate(pattern);
    let groups;
    let rule = match regex::Regex::new(&translated) {
        Ok(regex) => {
            groups = regex.captures_len();
            Rule::Regex(regex)
        }
        Err(linear) => {
            let regex = fancy_regex::RegexBuilder::new(&translated)
                .backtrack_limit(BACKTRACK_LIMIT)
                .build()
                .map_err(|_| format!("regex {pattern:?} is not valid: {linear}"))?;
            groups = regex.captures_len();
            Rule::Backtracking(regex)
        }
    };
    if groups < 2 {
        return Err(format!("regex {pattern:?} has no capture group; the first one is what is cut from the name"));
    }
    Ok(rule)
}

/// From ECMAScript to the syntax of the regex crate: inside a class, `[` and doubled operators are plain
/// characters there.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(char) = rest.chars().next() {
        let mut taken = char.len_utf8();
        match char {
            '\\' => taken += rest.chars().nth(1).map_or(0, char::len_utf8),
            '[' if !in_class => {
                in_class = true;
                // A bracket right behind the opening one is a member, as is one behind `[^`.
                taken += usize::from(rest.starts_with("[^"));
            }
            '[' => match posix_class(rest) {
                Some(length) => taken = length,
                None => out.push('\\'),
            },
            ']' if in_class => in_class = false,
            '&' | '~' if in_class && rest.starts_with([char, char].iter().collect::<String>().as_str()) => {
                out.push('\\');
            }
            _ => {}
        }
        let (head, tail) = rest.split_at_checked(taken).unwrap_or((rest, ""));
        out.push_str(head);
        rest = tail;
    }
    out
}

/// The length of `[:name:]` at the start.
fn posix_class(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("[:")?;
    let end = inner.find(":]")?;
    let is_name = inner.get(..end)?.bytes().all(|byte| byte.is_ascii_lowercase());
    is_name.then_some(end + 4)
}

/// The literal first segment that a regex asks for: `cluster` for `^cluster\.…` and `^cluster(?=\.)…`.
///
/// Envoy sorts rules by it, which decides the order of tags in its output.
pub(super) fn first_segment(regex: &str) -> Option<&str> {
    let body = regex.strip_prefix('^')?;
    let word = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let end = body.find(|char| !word(char))?;
    let (segment, rest) = body.split_at(end);
    let dot = rest.starts_with("\\.") || rest.starts_with("(?=\\.)") || rest == "$";
    (!segment.is_empty() && dot).then_some(segment)
}
