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
    flaw: Option<Flaw>,
}

/// A replacement that does not do what it was written for. Envoy takes it, so it is no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    /// Refers to a group that is not there: nothing is ever replaced.
    NoGroup(usize),
    /// A backslash before something else: the replacement ends there.
    Escape,
}

#[derive(Debug, Clone)]
enum Part {
    Text(Box<[u8]>),
    Group(usize),
}

impl Substitution {
    /// Compiles.
    pub fn new(spec: &SubstitutionSpec) -> Result<Substitution, InvalidMatcher> {
        let regex = Regex::for_substitution(&spec.pattern).map_err(|e| e.within("pattern"))?;
        let (parts, flaw) = parse(&spec.substitution, regex.groups());
        Ok(Substitution { regex, parts, flaw })
    }

    /// What is wrong with the replacement, if Envoy takes it but does not do what it seems to say.
    pub fn warning(&self) -> Option<String> {
        Some(match self.flaw? {
            Flaw::NoGroup(at) => format!(
                r"\{at} refers to a group that the pattern does not have ({} groups): nothing is ever replaced",
                self.regex.groups()
            ),
            Flaw::Escape => {
                let rule = r"a backslash must be followed by a digit (`\1` is a group) or a backslash";
                format!("{rule}: the replacement ends before it")
            }
        })
    }

    /// The pattern.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }

    /// Replaces every non-overlapping match, from left to right.
    pub fn replace_all(&self, input: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(input.len());
        let mut end = 0;
        let inert = matches!(self.flaw, Some(Flaw::NoGroup(_)));
        if let Some(regex) = self.regex.anywhere.as_ref().filter(|_| !inert) {
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

fn parse(text: &str, groups: usize) -> (Box<[Part]>, Option<Flaw>) {
    let mut parts = Vec::new();
    let mut literal = Vec::new();
    let mut flaw = None;
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
                    flaw.get_or_insert(Flaw::NoGroup(at));
                }
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal).into()));
                }
                parts.push(Part::Group(at));
            }
            _ => {
                flaw.get_or_insert(Flaw::Escape);
                break;
            }
        }
    }
    if !literal.is_empty() {
        parts.push(Part::Text(literal.into()));
    }
    (parts.into(), flaw)
}
