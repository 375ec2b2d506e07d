//! The two pattern languages of tag rules: segments with wildcards, and the regular expressions of the
//! configuration, which Envoy reads as ECMAScript.

use std::ops::Range;

use super::{BACKTRACK_LIMIT, Found, Rule};

/// A pattern of segments, like `cluster.$.**`.
#[derive(Debug)]
pub(super) struct Segments {
    pattern: &'static str,
    tokens: Box<[Token]>,
}

#[derive(Clone, Copy, Debug)]
enum Token {
    /// `*`: any one segment.
    Any,
    /// `**`: any number of segments; at the end of a pattern at least one.
    Many,
    /// `$`: the segment that is the value.
    Value,
    Literal(&'static str),
}

impl Segments {
    pub(super) fn new(pattern: &'static str) -> Self {
        let token = |segment| match segment {
            "*" => Token::Any,
            "**" => Token::Many,
            "$" => Token::Value,
            literal => Token::Literal(literal),
        };
        Self { pattern, tokens: pattern.split('.').map(token).collect() }
    }

    pub(super) fn as_str(&self) -> &'static str {
        self.pattern
    }

    /// Matches a whole name, given where its segments are. With the value goes the dot behind it, or the one before if
    /// it is the last.
    pub(super) fn find(&self, name: &str, segments: &[Range<usize>]) -> Option<Found> {
        let value = matches(&self.tokens, name, segments, 0..0)?;
        let cut = match value.end < name.len() {
            true => value.start..value.end + 1,
            false => value.start.saturating_sub(1)..value.end,
        };
        Some(Found { cut, value })
    }
}

/// The value, if the tokens match these segments of the name.
fn matches(
    mut tokens: &[Token],
    name: &str,
    mut segments: &[Range<usize>],
    mut value: Range<usize>,
) -> Option<Range<usize>> {
    while let Some((&token, rest)) = tokens.split_first() {
        if let Token::Many = token {
            if rest.is_empty() {
                return (!segments.is_empty()).then_some(value);
            }
            return (0..=segments.len()).find_map(|skip| matches(rest, name, segments.get(skip..)?, value.clone()));
        }
        let (segment, left) = segments.split_first()?;
        match token {
            Token::Literal(literal) if name.get(segment.clone()) != Some(literal) => return None,
            Token::Value => value = segment.clone(),
            _ => {}
        }
        (tokens, segments) = (rest, left);
    }
    segments.is_empty().then_some(value)
}

/// Where the segments of a name are.
pub(super) fn segments_of(name: &str) -> Vec<Range<usize>> {
    let mut segments = Vec::with_capacity(8);
    let mut start = 0;
    for (at, byte) in name.bytes().enumerate() {
        if byte == b'.' {
            segments.push(start..at);
            start = at + 1;
        }
    }
    segments.push(start..name.len());
    segments
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
