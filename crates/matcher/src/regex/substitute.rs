//! `envoy.type.matcher.v3.RegexMatchAndSubstitute`: replacement text with RE2's `\0` to `\9`.

use super::{Regex, RegexSpec};
use crate::InvalidMatcher;

/// `envoy.type.matcher.v3.RegexMatchAndSubstitute`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubstitutionSpec {
    /// What to look for; need not match the whole input.
    pub pattern: RegexSpec,
    /// What to put in its place: `\1`…`\9` are groups, `\0` is the match, `\\` a backslash. Default empty.
    pub substitution: String,
}

/// A compiled pattern with its replacement.
#[derive(Debug, Clone)]
pub struct Substitution {
    regex: Regex,
    parts: Box<[Part]>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(Box<[u8]>),
    Group(usize),
}

impl Substitution {
    /// Compiles; a reference to a group that the pattern lacks is an error, as in Envoy.
    pub fn new(spec: &SubstitutionSpec) -> Result<Substitution, InvalidMatcher> {
        let regex = Regex::for_substitution(&spec.pattern).map_err(|e| e.within("pattern"))?;
        let parts = parse(&spec.substitution, regex.groups()).map_err(|e| InvalidMatcher::new("substitution", e))?;
        Ok(Substitution { regex, parts })
    }

    /// The pattern.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }

    /// Replaces every non-overlapping match, from left to right.
    pub fn replace_all(&self, input: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(input.len());
        let mut end = 0;
        if let Some(regex) = &self.regex.anywhere {
            for found in regex.captures_iter(input) {
                let Some(whole) = found.get(0) else { continue };
                out.extend_from_slice(input.get(end..whole.start()).unwrap_or_default());
                end = whole.end();
                for part in &self.parts {
                    match part {
                        Part::Text(text) => out.extend_from_slice(text),
                        Part::Group(at) => out.extend_from_slice(found.get(*at).map_or(&[], |group| group.as_bytes())),
                    }
                }
            }
        }
        out.extend_from_slice(input.get(end..).unwrap_or_default());
        out
    }
}

fn parse(text: &str, groups: usize) -> Result<Box<[Part]>, String> {
    let mut parts = Vec::new();
    let mut literal = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            literal.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'\\') => literal.push(b'\\'),
            Some(digit @ b'0'..=b'9') => {
                let at = usize::from(digit - b'0');
                if at > groups {
                    return Err(format!(r"\{at} refers to a group that the pattern does not have; it has {groups}"));
                }
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal).into()));
                }
                parts.push(Part::Group(at));
            }
            _ => return Err(format!(r"{text:?}: write `\\` for a backslash, `\0` to `\9` for a group")),
        }
    }
    if !literal.is_empty() {
        parts.push(Part::Text(literal.into()));
    }
    Ok(parts.into())
}
