//! Header names as configuration compiles them.

use crate::Known;
use std::sync::Arc;

/// A lower-case header name, compiled once: a well-known id, or the text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HeaderName(Repr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    Known(Known),
    Other(Arc<str>),
}

/// The text is empty, or holds a byte that no header name may hold (RFC 9110 §5.1 `token`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidHeaderName(pub String);

impl std::fmt::Display for InvalidHeaderName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} is not a header name: use letters, digits and !#$%&'*+-.^_`|~", self.0)
    }
}

impl std::error::Error for InvalidHeaderName {}

impl HeaderName {
    /// Compiles a name; upper case is lowered. Pseudo-headers (`:path`) are names too.
    pub fn new(text: &str) -> Result<HeaderName, InvalidHeaderName> {
        let lower = text.to_ascii_lowercase();
        if let Some(known) = Known::from_lower(lower.as_bytes()) {
            return Ok(HeaderName(Repr::Known(known)));
        }
        if lower.is_empty() || !lower.bytes().all(is_token) {
            return Err(InvalidHeaderName(text.to_owned()));
        }
        Ok(HeaderName(Repr::Other(lower.into())))
    }

    /// The name in lower case.
    #[inline]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Known(known) => known.as_str(),
            Repr::Other(text) => text,
        }
    }

    /// The id, if the name is well known.
    #[inline]
    pub fn known(&self) -> Option<Known> {
        match &self.0 {
            Repr::Known(known) => Some(*known),
            Repr::Other(_) => None,
        }
    }

    /// Whether the name stands for a part of the request or status line (`:method`, `:path`, …).
    #[inline]
    pub fn is_pseudo(&self) -> bool {
        self.as_str().starts_with(':')
    }
}

impl From<Known> for HeaderName {
    fn from(known: Known) -> Self {
        HeaderName(Repr::Known(known))
    }
}

impl std::fmt::Debug for HeaderName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `tchar` of RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
