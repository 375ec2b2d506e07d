//! Subject alternative names against what the configuration asks for (`SubjectAltNameMatcher`).
//!
//! *Invariant*: a name that holds NUL or bytes that are not ASCII matches nothing (CVE-2025-66220).

use std::sync::Arc;

use nuncio_matcher::{StringMatchSpec, StringMatcher};

use crate::certificate::{AlternativeName, Certificate};
use crate::der;
use crate::finding::{ContextError, Finding};
use crate::spec::{SanMatcherSpec, SanType};

/// A compiled matcher.
#[derive(Debug, Clone)]
pub(crate) struct SanMatcher {
    san_type: SanType,
    /// DNS names that are compared exactly: a wildcard in the certificate then stands for one label.
    exact_dns: Option<String>,
    matcher: StringMatcher,
}

impl SanMatcher {
    /// `at` is the path of the matcher's field.
    pub(crate) fn new(spec: &SanMatcherSpec, at: &str) -> Result<SanMatcher, ContextError> {
        let matcher = StringMatcher::new(&spec.matcher)
            .map_err(|error| Finding::new(format!("{at}.matcher"), error.to_string(), ""))?;
        if let SanType::OtherName { oid } = &spec.san_type
            && !is_dotted(oid)
        {
            let hint = "a dotted object identifier such as 1.3.6.1.4.1.311.20.2.3";
            return Err(Finding::new(format!("{at}.oid"), format!("{oid:?} is not an object identifier"), hint));
        }
        let exact_dns = match (&spec.san_type, &spec.matcher.pattern) {
            (SanType::Dns, StringMatchSpec::Exact(name)) => Some(name.to_ascii_lowercase()),
            _ => None,
        };
        Ok(SanMatcher { san_type: spec.san_type.clone(), exact_dns, matcher })
    }

    fn matches(&self, name: &AlternativeName<'_>) -> bool {
        match (&self.san_type, name) {
            (SanType::Dns, AlternativeName::Dns(text)) => match &self.exact_dns {
                Some(exact) => is_clean(text) && dns_name_matches(exact, text),
                None => is_clean(text) && self.matcher.matches(text),
            },
            (SanType::Email, AlternativeName::Email(text)) | (SanType::Uri, AlternativeName::Uri(text)) => {
                is_clean(text) && self.matcher.matches(text)
            }
            (SanType::IpAddress, AlternativeName::Ip(address)) => self.matcher.matches(address.to_string().as_bytes()),
            (SanType::OtherName { oid }, AlternativeName::Other(kind, text)) => {
                is_clean(text) && der::dotted(kind) == *oid && self.matcher.matches(text)
            }
            _ => false,
        }
    }
}

fn is_dotted(oid: &str) -> bool {
    oid.split('.').count() >= 2 && oid.split('.').all(|part| part.parse::<u64>().is_ok())
}

/// Whether any name of the certificate is matched by any matcher.
pub(crate) fn any_matches(certificate: &Certificate<'_>, matchers: &[SanMatcher]) -> bool {
    certificate.names().any(|name| matchers.iter().any(|matcher| matcher.matches(&name)))
}

/// Whether the certificate has one of these names as DNS name, URI or IP address.
pub(crate) fn has_name(certificate: &Certificate<'_>, wanted: &[Arc<str>]) -> bool {
    certificate.names().any(|name| {
        wanted.iter().any(|wanted| match &name {
            AlternativeName::Dns(text) => is_clean(text) && dns_name_matches(&wanted.to_ascii_lowercase(), text),
            AlternativeName::Uri(text) => is_clean(text) && *text == wanted.as_bytes(),
            AlternativeName::Ip(address) => wanted.parse() == Ok(*address),
            _ => false,
        })
    })
}

/// Names of a refused certificate that its log line lists.
const MOST_LISTED: usize = 20;

/// All names, as Envoy lists them where none was accepted.
pub(crate) fn listed(certificate: &Certificate<'_>) -> String {
    let text = |name: AlternativeName<'_>| match name {
        AlternativeName::Ip(address) => address.to_string(),
        AlternativeName::Email(text)
        | AlternativeName::Dns(text)
        | AlternativeName::Uri(text)
        | AlternativeName::Other(_, text) => text.escape_ascii().to_string(),
    };
    certificate.names().take(MOST_LISTED).map(text).collect::<Vec<_>>().join(", ")
}

fn is_clean(text: &[u8]) -> bool {
    text.is_ascii() && !text.contains(&0)
}

/// Whether a DNS name of a certificate, which may have a wildcard in its first label, is for `name` (in lower case). RFC 6125
/// §6.4.3: the wildcard may be a part of the label (`w*.example.com`), but not of one in Punycode.
fn dns_name_matches(name: &str, pattern: &[u8]) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    if name.is_empty() {
        return false;
    }
    if pattern == name.as_bytes() {
        return true;
    }
    let Ok(pattern) = std::str::from_utf8(&pattern) else { return false };
    let (Some((label, parent)), Some((first, rest))) = (pattern.split_once('.'), name.split_once('.')) else {
        return false;
    };
    if parent != rest || parent.contains('*') || first.is_empty() {
        return false;
    }
    match label.split_once('*') {
        Some((before, after)) if !after.contains('*') => {
            let is_partial = !before.is_empty() || !after.is_empty();
            let is_punycode = label.starts_with("xn--") || (is_partial && first.starts_with("xn--"));
            first.len() >= label.len() - usize::from(is_partial)
                && first.starts_with(before)
                && first.ends_with(after)
                && !is_punycode
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::dns_name_matches;

    #[test]
    fn dns_names() {
        for (name, pattern, expected) in [
            ("a.example.com", "a.example.com", true),
            ("a.example.com", "A.Example.com", true),
            ("a.example.com", "*.example.com", true),
            ("example.com", "*.example.com", false),
            ("a.b.example.com", "*.example.com", false),
            ("www1.example.com", "www*.example.com", true),
            ("www.example.com", "www*.example.com", true),
            ("xn--a.example.com", "x*.example.com", false),
            ("a.example.com", "a.*.com", false),
            ("a.example.com", "**.example.com", false),
            ("", "", false),
            ("com", "*", false),
        ] {
            assert_eq!(dns_name_matches(name, pattern.as_bytes()), expected, "{name} {pattern}");
        }
    }
}
