//! What is wrong with a configuration: every finding with its place, its field path, and what to do about it.
//!
//! Findings are collected, never thrown: a compiler pass reports what it saw and goes on with what it could read.

mod path;
mod render;
mod suggest;

#[cfg(test)]
mod tests;

pub use path::{FieldPath, Segment};
pub use suggest::{did_you_mean, quoted};

use std::collections::HashSet;
use std::sync::Arc;

/// Findings beyond this many are counted, not kept: hostile input must not cost memory.
const KEPT: usize = 1000;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The configuration can't be used.
    Error,
    /// The configuration works, and the user should know something about it.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A place in a source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The name of the source: a path as the user gave it, or `--config-yaml`.
    pub source: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is, if it came from text.
    pub location: Option<Location>,
    /// The field, e.g. `static_resources.listeners[2].name`; empty for the document as a whole.
    pub path: String,
    /// What was found and what was expected.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A finding without a place.
    pub fn new(severity: Severity, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity, location: None, path: path.into(), message: message.into(), hint: None }
    }

    /// An error at `path`.
    pub fn error(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, path, message)
    }

    /// A warning at `path`.
    pub fn warning(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, path, message)
    }

    /// The same finding at `location`.
    pub fn at(mut self, location: Option<Location>) -> Self {
        self.location = location;
        self
    }

    /// The same finding with a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The findings of all passes over one configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    seen: HashSet<Diagnostic>,
    errors: usize,
    dropped: usize,
}

impl Diagnostics {
    /// No findings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a finding, unless the same one is there.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.seen.contains(&diagnostic) {
            return;
        }
        let is_error = diagnostic.severity == Severity::Error;
        self.errors += usize::from(is_error);
        if self.list.len() >= KEPT && !(is_error && self.errors <= KEPT) {
            self.dropped += 1;
            return;
        }
        self.seen.insert(diagnostic.clone());
        self.list.push(diagnostic);
    }

    /// Adds every finding of `other`.
    pub fn extend(&mut self, other: Diagnostics) {
        self.dropped += other.dropped;
        other.list.into_iter().for_each(|diagnostic| self.push(diagnostic));
    }

    /// Whether any finding is an error.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether there are no findings.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many findings were counted and not kept.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// The findings in the order of their places; those without a place come last.
    pub fn sorted(&self) -> Vec<&Diagnostic> {
        let mut sorted: Vec<&Diagnostic> = self.list.iter().collect();
        let position = |it: &Diagnostic| it.location.as_ref().map(|at| (at.line, at.column));
        let mut sources: Vec<&str> = Vec::new();
        for diagnostic in &self.list {
            let source = diagnostic.location.as_ref().map_or("", |at| &at.source);
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
        let source = |it: &Diagnostic| {
            it.location
                .as_ref()
                .map_or(usize::MAX, |at| sources.iter().position(|name| **name == *at.source).unwrap_or(0))
        };
        sorted.sort_by(|a, b| {
            (source(a), position(a), a.severity, &a.path).cmp(&(source(b), position(b), b.severity, &b.path))
        });
        sorted
    }

    /// The findings in the order in which they were made.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
