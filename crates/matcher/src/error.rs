//! What is wrong with a specification.

use std::fmt;

/// A specification that can't be compiled: where in it, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidMatcher {
    /// Path to the offending field below the specification, in Envoy's field names: `string_match.safe_regex.regex`.
    /// Empty when the specification itself is meant.
    pub path: String,
    /// What was found, what was expected, and what to do.
    pub message: String,
}

impl InvalidMatcher {
    /// An error about the field `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        InvalidMatcher { path: path.into(), message: message.into() }
    }

    /// The same error seen from one level further out.
    pub fn within(mut self, outer: &str) -> Self {
        self.path = match (outer.is_empty(), self.path.is_empty()) {
            (true, _) => self.path,
            (false, true) => outer.to_owned(),
            (false, false) => format!("{outer}.{}", self.path),
        };
        self
    }
}

impl fmt::Display for InvalidMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

impl std::error::Error for InvalidMatcher {}
