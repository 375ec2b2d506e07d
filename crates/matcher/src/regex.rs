//! Regular expressions with Envoy's meaning (`envoy.type.matcher.v3.RegexMatcher`, RE2) on the `regex` crate.
//!
//! A match is a match of the whole input. Patterns are written in RE2's dialect and translated, so that `\d`, `\w`, `\s`
//! and `\b` are ASCII, `[a&&b]` is a set of characters, and `{` that starts no repetition is a brace. Input is bytes, and
//! `.` matches one of them: Envoy has RE2 match Latin-1.

mod substitute;
#[cfg(test)]
mod tests;
mod translate;

pub use substitute::{Substitution, SubstitutionSpec};

use crate::InvalidMatcher;
use regex_syntax::hir::literal::Extractor;
use std::fmt;

/// Largest compiled form of one expression, in bytes. RE2's default is the same 8 MiB.
pub const MAX_PROGRAM_BYTES: usize = 8 << 20;

/// `envoy.type.matcher.v3.RegexMatcher`. `google_re2.max_program_size` is not represented: RE2's measure has no meaning
/// here, and lowering reports it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RegexSpec {
    /// The expression, in RE2 syntax. Not empty.
    pub regex: String,
}

impl From<&str> for RegexSpec {
    fn from(text: &str) -> Self {
        RegexSpec { regex: text.to_owned() }
    }
}

/// A compiled expression. Linear time in the input, whatever the pattern.
#[derive(Clone)]
pub struct Regex {
    /// Anchored at both ends, for [`Regex::matches`].
    whole: regex::bytes::Regex,
    /// Not anchored, for substitution; compiled only when asked for.
    anywhere: Option<regex::bytes::Regex>,
    /// Every match of the whole starts with these bytes.
    prefix: Box<[u8]>,
    source: Box<str>,
}

impl Regex {
    /// Compiles for matching the whole input.
    pub fn new(spec: &RegexSpec) -> Result<Regex, InvalidMatcher> {
        Regex::compile(spec, false)
    }

    /// Compiles for matching and for [`Regex::replace_all`].
    pub fn for_substitution(spec: &RegexSpec) -> Result<Regex, InvalidMatcher> {
        Regex::compile(spec, true)
    }

    fn compile(spec: &RegexSpec, substitutes: bool) -> Result<Regex, InvalidMatcher> {
        if spec.regex.is_empty() {
            return Err(InvalidMatcher::new("regex", "must not be empty; `.*` matches everything"));
        }
        let rust = translate::from_re2(&spec.regex).map_err(|e| InvalidMatcher::new("regex", e))?;
        // Alone first: `a)(b` must not become valid by being wrapped.
        let anywhere = build(&rust, &spec.regex)?;
        let anchored = format!(r"\A(?:{rust})\z");
        let whole = build(&anchored, &spec.regex)?;
        Ok(Regex {
            whole,
            anywhere: substitutes.then_some(anywhere),
            prefix: literal_prefix(&rust),
            source: spec.regex.as_str().into(),
        })
    }

    /// Whether the whole input matches.
    #[inline]
    pub fn matches(&self, input: &[u8]) -> bool {
        self.whole.is_match(input)
    }

    /// Whether it matches a part of the input. Of an expression made by [`Regex::for_substitution`]; of another, the whole.
    pub fn occurs_in(&self, input: &[u8]) -> bool {
        self.anywhere.as_ref().unwrap_or(&self.whole).is_match(input)
    }

    /// Bytes with which every matching input starts; empty when nothing can be said.
    pub fn literal_prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// The expression as configured.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Number of capture groups, the whole match not counted.
    pub fn groups(&self) -> usize {
        self.whole.captures_len().saturating_sub(1)
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Regex({:?})", self.source)
    }
}

fn build(rust: &str, source: &str) -> Result<regex::bytes::Regex, InvalidMatcher> {
    regex::bytes::RegexBuilder::new(rust)
        .unicode(false)
        .size_limit(MAX_PROGRAM_BYTES)
        .nest_limit(200)
        .build()
        .map_err(|error| InvalidMatcher::new("regex", explain(&error, source)))
}

fn explain(error: &regex::Error, source: &str) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => format!(
            "{source:?} needs more than {limit} bytes when compiled: use smaller counted repetitions, or ASCII classes \
             in place of Unicode ones"
        ),
        other => {
            // The crate's message draws the pattern over several lines; its last line says what is wrong.
            let text = other.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let hint = if reason.contains("look-around") || reason.contains("backreferences") {
                "; as in Envoy (RE2) expressions have no look-around and no back-references: combine two matchers, or \
                 use invert_match"
            } else {
                ""
            };
            format!("{source:?} is not a regular expression: {reason}{hint}")
        }
    }
}

/// The literal that every match must start with, read off the expression.
fn literal_prefix(rust: &str) -> Box<[u8]> {
    let parsed = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(rust);
    let Ok(hir) = parsed else { return Box::default() };
    let literals = Extractor::new().extract(&hir);
    literals.longest_common_prefix().unwrap_or_default().into()
}
