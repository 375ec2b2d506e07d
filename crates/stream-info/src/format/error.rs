//! What is wrong with a format, and where.

use std::fmt;

/// Why a format was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatError {
    /// Where in a JSON template the format stands (`fields.items[2]`); empty for text formats.
    pub path: String,
    /// Bytes before the faulty command.
    pub offset: usize,
    /// Column of the faulty command, in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What may have been meant; empty if there is no guess.
    pub hint: String,
}

impl FormatError {
    pub(super) fn new(format: &str, offset: usize, message: impl Into<String>) -> FormatError {
        let column = format.get(..offset).map_or(offset, |before| before.chars().count()) + 1;
        FormatError { path: String::new(), offset, column, message: message.into(), hint: String::new() }
    }

    pub(super) fn at(mut self, path: &str) -> FormatError {
        self.path = path.to_owned();
        self
    }

    pub(super) fn hinted(mut self, hint: impl Into<String>) -> FormatError {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "column {}: {}", self.column, self.message)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

impl std::error::Error for FormatError {}

/// Why the parameters of a command were refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) hint: String,
}

impl Refusal {
    pub(super) fn new(message: impl Into<String>) -> Refusal {
        Refusal { message: message.into(), hint: String::new() }
    }

    pub(super) fn hinted(message: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal { message: message.into(), hint: hint.into() }
    }
}
