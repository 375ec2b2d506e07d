//! What the codec is told to accept.

use std::sync::Arc;

/// What to do with a header whose name holds `_` (Envoy's `headers_with_underscores_action`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Underscores {
    /// Treat it like any other.
    #[default]
    Allow,
    /// Refuse the request with 400.
    Reject,
    /// Take it out and count it.
    Drop,
}

/// Which values of `upgrade` are ignored: the configured matchers, compiled into one test.
#[derive(Clone)]
pub struct IgnoreUpgrade(Arc<UpgradeTest>);

type UpgradeTest = dyn Fn(&[u8]) -> bool + Send + Sync;

impl IgnoreUpgrade {
    /// Ignores the values for which `test` holds.
    pub fn new(test: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Self {
        IgnoreUpgrade(Arc::new(test))
    }

    /// Whether the value is ignored.
    pub fn matches(&self, protocol: &[u8]) -> bool {
        (self.0)(protocol)
    }
}

impl std::fmt::Debug for IgnoreUpgrade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IgnoreUpgrade")
    }
}

/// How requests are read (Envoy's `Http1ProtocolOptions` and the limits of the HTTP connection manager).
#[derive(Debug, Clone)]
pub struct RequestOptions {
    /// Limit of the request line and all headers, in bytes. Default 60 KiB (`max_request_headers_kb`).
    pub max_head_bytes: u32,
    /// Limit of the number of headers. Default 100 (`common_http_protocol_options.max_headers_count`).
    pub max_headers: u16,
    /// Whether HTTP/1.0 requests are read; otherwise they are answered 426. Default no (`accept_http_10`).
    pub accept_http_10: bool,
    /// The host of an HTTP/1.0 request that names none (`default_host_for_http_10`).
    pub default_host_for_http_10: Option<Arc<str>>,
    /// Whether `GET http://host/path` is split into host and path. Default yes (`allow_absolute_url`).
    pub allow_absolute_url: bool,
    /// Whether `content-length` beside `transfer-encoding: chunked` is dropped instead of refused. Default no
    /// (`allow_chunked_length`).
    pub allow_chunked_length: bool,
    /// What to do with `_` in names.
    pub underscores: Underscores,
    /// Whether the spelling of names is kept for [`Spelling::Preserve`](super::Spelling::Preserve). Default no.
    pub keep_spelling: bool,
    /// Whether methods that Envoy does not list are served. Default no (`allow_custom_methods`).
    pub allow_custom_methods: bool,
    /// Upgrades that are not seen as such; the request is served without (`ignore_http_11_upgrade`).
    pub ignore_upgrade: Option<IgnoreUpgrade>,
}

impl Default for RequestOptions {
    fn default() -> Self {
        RequestOptions {
            max_head_bytes: 60 * 1024,
            max_headers: 100,
            accept_http_10: false,
            default_host_for_http_10: None,
            allow_absolute_url: true,
            allow_chunked_length: false,
            underscores: Underscores::Allow,
            keep_spelling: false,
            allow_custom_methods: false,
            ignore_upgrade: None,
        }
    }
}

/// How responses are read. The first three say which request is being answered.
#[derive(Debug, Clone)]
pub struct ResponseOptions {
    /// The request was HEAD: the response has no body, whatever its headers say.
    pub head_request: bool,
    /// The request was CONNECT: a 2xx turns the connection into a tunnel.
    pub connect_request: bool,
    /// The request asked for an upgrade: only then is a 101 accepted as one.
    pub upgrade_request: bool,
    /// Limit of the status line and all headers, in bytes. Default 60 KiB (`max_response_headers_kb`).
    pub max_head_bytes: u32,
    /// Limit of the number of headers. Default 100.
    pub max_headers: u16,
    /// Whether `content-length` beside `transfer-encoding: chunked` is dropped instead of refused. Default no.
    pub allow_chunked_length: bool,
    /// What to do with `_` in names.
    pub underscores: Underscores,
    /// Whether the spelling of names is kept. Default no.
    pub keep_spelling: bool,
}

impl Default for ResponseOptions {
    fn default() -> Self {
        ResponseOptions {
            head_request: false,
            connect_request: false,
            upgrade_request: false,
            max_head_bytes: 60 * 1024,
            max_headers: 100,
            allow_chunked_length: false,
            underscores: Underscores::Allow,
            keep_spelling: false,
        }
    }
}
