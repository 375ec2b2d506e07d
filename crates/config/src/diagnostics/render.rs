//! Findings as text for people, and as JSON for machines.

use super::{Diagnostic, Diagnostics, Location};
use crate::json::write_string;
use std::fmt::{self, Write as _};

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.source, self.line, self.column)
    }
}

/// `file:line:column: error: path: message`, and the hint on a line of its own.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        write!(f, "{}: ", self.severity.as_str())?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// All findings, sorted by place, each on lines of its own.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in self.sorted() {
            writeln!(f, "{diagnostic}")?;
        }
        match self.dropped() {
            0 => Ok(()),
            more => writeln!(f, "… and {more} more"),
        }
    }
}

impl Diagnostics {
    /// `{"diagnostics":[{"severity":…,"source":…,"line":…,"column":…,"path":…,"message":…,"hint":…}],"dropped":0}`.
    pub fn to_json(&self) -> String {
        let mut out = String::from("{\"diagnostics\":[");
        for (at, diagnostic) in self.sorted().into_iter().enumerate() {
            out.push_str(if at == 0 { "\n " } else { ",\n " });
            diagnostic.write_json(&mut out);
        }
        let _ = write!(out, "\n],\"dropped\":{}}}", self.dropped());
        out
    }
}

impl Diagnostic {
    fn write_json(&self, out: &mut String) {
        let _ = write!(out, "{{\"severity\":\"{}\"", self.severity.as_str());
        if let Some(location) = &self.location {
            out.push_str(",\"source\":");
            write_string(out, &location.source);
            let _ = write!(out, ",\"line\":{},\"column\":{}", location.line, location.column);
        }
        out.push_str(",\"path\":");
        write_string(out, &self.path);
        out.push_str(",\"message\":");
        write_string(out, &self.message);
        if let Some(hint) = &self.hint {
            out.push_str(",\"hint\":");
            write_string(out, hint);
        }
        out.push('}');
    }
}
