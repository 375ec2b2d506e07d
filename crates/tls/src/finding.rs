//! What is wrong with a specification, in words for whoever wrote the configuration.

use std::fmt;

/// One finding: which field, what was found there, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Path of the field below the TLS context, in Envoy's names: `tls_certificates[0].private_key`.
    pub field: String,
    /// What was found.
    pub found: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

/// The specification works, but not wholly as written.
pub type Warning = Finding;

/// The specification can't be used.
pub type ContextError = Finding;

impl Finding {
    /// A finding.
    pub fn new(field: impl Into<String>, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Finding { field: field.into(), found: found.into(), hint: hint.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.found)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Finding {}
