//! Redirects: `envoy.config.route.v3.RedirectAction`, the https redirect of `require_tls`, and the `location` that Envoy
//! gives to direct responses with status 201 or 3xx.

use crate::rewrite::{PathRewrite, set_path};
use crate::spec::{RedirectCode, SchemeRedirectSpec};
use nuncio_headers::{HeaderMap, Known};
use nuncio_stream_info::LogContext;

/// A compiled redirect.
#[derive(Debug, Default)]
pub struct Redirect {
    pub(crate) scheme: Option<SchemeRedirectSpec>,
    /// Empty: the request's.
    pub(crate) host: Box<[u8]>,
    /// With its colon; empty: none.
    pub(crate) port: Box<[u8]>,
    /// Empty: the request's.
    pub(crate) path: Box<[u8]>,
    pub(crate) rewrite: Option<Box<PathRewrite>>,
    pub(crate) code: RedirectCode,
    pub(crate) strip_query: bool,
}

impl Redirect {
    /// The status code: 301, 302, 303, 307 or 308.
    pub fn status(&self) -> u16 {
        self.code.status()
    }

    /// Rewrites `:path` as the redirect says, so that logs see what Envoy's see.
    pub(crate) fn rewrite(&self, headers: &mut HeaderMap, cx: &LogContext<'_>, keep_original: bool) {
        if let Some(path) = self.rewrite.as_ref().and_then(|rewrite| rewrite.apply(headers, cx)) {
            set_path(headers, &path, keep_original);
        }
    }

    /// The value of `location`, from headers whose path was rewritten.
    pub(crate) fn location(&self, headers: &HeaderMap) -> Vec<u8> {
        let scheme: &[u8] = match &self.scheme {
            Some(SchemeRedirectSpec::Https) => b"https",
            Some(SchemeRedirectSpec::Scheme(scheme)) if !scheme.is_empty() => scheme.as_bytes(),
            _ => headers.get(Known::SCHEME).unwrap_or_default(),
        };
        let host = if self.host.is_empty() { request_host(headers, scheme, !self.port.is_empty()) } else { &self.host };
        let path = headers.get(Known::PATH).unwrap_or_default();
        let query = memchr::memchr(b'?', path).map_or(path.len(), |at| at);
        let (path, query) = path.split_at(query);
        let own_query = self.path.contains(&b'?');
        let path = if self.path.is_empty() { path } else { &self.path };
        let query = if own_query || self.strip_query { &[][..] } else { query };
        let mut out = Vec::with_capacity(scheme.len() + host.len() + path.len() + query.len() + 16);
        out.extend_from_slice(scheme);
        out.extend_from_slice(b"://");
        out.extend_from_slice(host);
        out.extend_from_slice(&self.port);
        if !path.starts_with(b"/") {
            out.push(b'/');
        }
        out.extend_from_slice(path);
        out.extend_from_slice(query);
        out
    }
}

/// The request's host, without its port if another is given, or if the scheme changes and the port was the old scheme's.
fn request_host<'a>(headers: &'a HeaderMap, scheme: &[u8], other_port: bool) -> &'a [u8] {
    let host = headers.get(Known::AUTHORITY).unwrap_or_default();
    let colon = if host.starts_with(b"[") {
        host.windows(2).rposition(|pair| pair == b"]:").map(|at| at + 1)
    } else {
        memchr::memrchr(b':', host)
    };
    let Some((name, port)) = colon.and_then(|at| host.split_at_checked(at)) else { return host };
    let proto = headers.get(Known::X_FORWARDED_PROTO).unwrap_or_default();
    let default = (proto == b"https" && port == b":443") || (proto == b"http" && port == b":80");
    if other_port || (scheme != proto && default) { name } else { host }
}

/// Where a request goes that came without TLS to a virtual host that requires it: the same host and path with https.
pub fn tls_redirect_location(headers: &HeaderMap) -> Vec<u8> {
    let host = headers.get(Known::AUTHORITY).unwrap_or_default();
    [b"https://", host, headers.get(Known::PATH).unwrap_or_default()].concat()
}

/// The `location` that Envoy adds to a direct response: the request's own URL, for status 201 and 3xx.
pub fn direct_response_location(status: u16, headers: &HeaderMap) -> Option<Vec<u8>> {
    let adds = (status == 201 || (300..400).contains(&status)) && headers.has(Known::PATH);
    adds.then(|| Redirect::default().location(headers))
}
