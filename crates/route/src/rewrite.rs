//! Rewriting path and host, as Envoy's router does before it sends a request on or redirects it.

use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_matcher::{Substitution, path_only};
use nuncio_stream_info::{Format, LogContext};

/// Which part of the path a prefix rewrite replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Matched {
    /// This text at its start.
    Start { text: Box<[u8]>, case_sensitive: bool },
    /// All of it, without the query.
    Path,
}

impl Matched {
    /// How many bytes of the path it is. `None` if the path does not start with the text: it matched without its
    /// parameters (`;…`), or was changed since; Envoy does not rewrite it then.
    fn length(&self, path: &[u8]) -> Option<usize> {
        match self {
            Matched::Start { text, case_sensitive } => {
                let start = path.get(..text.len())?;
                let same = if *case_sensitive { *start == **text } else { start.eq_ignore_ascii_case(text) };
                same.then_some(text.len())
            }
            Matched::Path => Some(path_only(path).len()),
        }
    }
}

/// A compiled path rewrite.
#[derive(Debug)]
pub(crate) enum PathRewrite {
    Prefix(Matched, Box<[u8]>),
    Regex(Substitution),
    Template(Substitution),
    Format(Format),
}

/// A compiled host rewrite.
#[derive(Debug)]
pub(crate) enum HostRewrite {
    Literal(Box<[u8]>),
    Auto,
    Header(HeaderName),
    PathRegex(Substitution),
    Format(Format),
}

impl PathRewrite {
    /// The new `:path`; `None` if it stays as it is and is not counted as rewritten.
    pub(crate) fn apply(&self, headers: &HeaderMap, cx: &LogContext<'_>) -> Option<Vec<u8>> {
        let path = headers.get(Known::PATH)?;
        let whole = path_only(path);
        let replace = |length: usize, new: &[u8]| {
            let rest = path.get(length..).unwrap_or_default();
            let mut out = Vec::with_capacity(new.len() + rest.len());
            out.extend_from_slice(new);
            out.extend_from_slice(rest);
            out
        };
        match self {
            PathRewrite::Prefix(matched, new) => Some(replace(matched.length(path)?, new)),
            PathRewrite::Regex(substitution) => Some(replace(whole.len(), &substitution.replace_all(whole))),
            PathRewrite::Template(substitution) => match substitution.regex().matches(whole) {
                true => Some(replace(whole.len(), &substitution.replace_all(whole))),
                false => Some(path.to_vec()),
            },
            PathRewrite::Format(format) => {
                let mut new = Vec::new();
                format.write(&LogContext { request: Some(headers), ..*cx }, &mut new);
                (!new.is_empty()).then(|| replace(whole.len(), &new))
            }
        }
    }
}

impl HostRewrite {
    /// The new host; `None` if it stays, or is only known with the endpoint.
    pub(crate) fn apply(&self, headers: &HeaderMap, cx: &LogContext<'_>) -> Option<Vec<u8>> {
        let host = match self {
            HostRewrite::Literal(host) => host.to_vec(),
            HostRewrite::Auto => return None,
            HostRewrite::Header(name) => headers.get_name(name)?.to_vec(),
            HostRewrite::PathRegex(substitution) => {
                substitution.replace_all(path_only(headers.get(Known::PATH).unwrap_or_default()))
            }
            HostRewrite::Format(format) => {
                let mut host = Vec::new();
                format.write(&LogContext { request: Some(headers), ..*cx }, &mut host);
                host
            }
        };
        (!host.is_empty()).then_some(host)
    }
}

/// Sets `:path`; the one before goes into `x-envoy-original-path` if `keep_original`.
pub(crate) fn set_path(headers: &mut HeaderMap, path: &[u8], keep_original: bool) {
    if keep_original {
        let original = headers.get(Known::PATH).unwrap_or_default().to_vec();
        headers.set_known(Known::X_ENVOY_ORIGINAL_PATH, &original);
    }
    headers.set_known(Known::PATH, path);
}

/// How a host is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostUpdate {
    /// Append the host before to `x-forwarded-host`, unless it is the last value there already.
    pub append_x_forwarded_host: bool,
    /// Put the host before into `x-envoy-original-host`. Envoy does unless `suppress_envoy_headers` is set.
    pub keep_original: bool,
}

/// Sets `:authority`. Also for `auto_host_rewrite`, once the endpoint is chosen.
pub fn set_host(headers: &mut HeaderMap, host: &[u8], update: HostUpdate) {
    let before = headers.get(Known::AUTHORITY).unwrap_or_default().to_vec();
    if update.append_x_forwarded_host && !before.is_empty() {
        append_forwarded_host(headers, &before);
    }
    if update.keep_original {
        headers.set_known(Known::X_ENVOY_ORIGINAL_HOST, &before);
    }
    headers.set_known(Known::AUTHORITY, host);
}

fn append_forwarded_host(headers: &mut HeaderMap, host: &[u8]) {
    let name = HeaderName::from(Known::X_FORWARDED_HOST);
    let mut value = headers.joined(&name).unwrap_or_default().into_owned();
    let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
    if last == host {
        return;
    }
    if !value.is_empty() {
        value.push(b',');
    }
    value.extend_from_slice(host);
    headers.set(&name, &value);
}
