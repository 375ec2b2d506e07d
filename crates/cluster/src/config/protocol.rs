//! Connections to hosts: HTTP protocol options, source addresses, keepalive.

use nuncio_headers::HeaderName;
use nuncio_http::h1::{Spelling, Underscores};
use nuncio_http::h2::Http2Options;
use std::net::SocketAddr;
use std::time::Duration;

/// `envoy.extensions.upstreams.http.v3.HttpProtocolOptions`.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpProtocolOptions {
    /// `common_http_protocol_options.idle_timeout` of a pooled connection. Default 1 h; `None` never.
    pub idle_timeout: Option<Duration>,
    /// `common_http_protocol_options.max_connection_duration`. Default no limit.
    pub max_connection_duration: Option<Duration>,
    /// `common_http_protocol_options.max_requests_per_connection`, or the cluster's. Default no limit.
    pub max_requests_per_connection: Option<u32>,
    /// `common_http_protocol_options.max_headers_count` of a response. Default 100.
    pub max_headers_count: u32,
    /// `common_http_protocol_options.max_response_headers_kb`. Default 80 KiB, Envoy's for HTTP/1.
    pub max_response_headers_kb: u32,
    /// `common_http_protocol_options.max_stream_duration` of a request. Default no limit.
    pub max_stream_duration: Option<Duration>,
    /// `common_http_protocol_options.headers_with_underscores_action`, for responses. Default allow.
    pub headers_with_underscores_action: Underscores,
    /// `http_protocol_options`.
    pub http1: Http1Options,
    /// Which version is spoken.
    pub protocol: UpstreamProtocol,
    /// `http2_protocol_options`.
    pub http2: Http2Options,
    /// `upstream_http_protocol_options`, if a request decides what its connection asks for and checks.
    pub auto_sni: Option<AutoSni>,
    /// `hash_policy`, in place of the routes'.
    pub hash_policy: Option<std::sync::Arc<super::HashPolicies>>,
}

/// `UpstreamHttpProtocolOptions`: TLS by the name that a request is for.
#[derive(Debug, Clone, PartialEq)]
pub struct AutoSni {
    /// `auto_sni`: the request's host is the server name that is asked for.
    pub server_name: bool,
    /// `auto_san_validation`: the certificate must have the request's host among its names.
    pub validate: bool,
    /// `override_auto_sni_header`: a header that names the host in place of `:authority`, if the request has it.
    pub header: Option<HeaderName>,
}

/// `upstream_protocol_options`: which version of HTTP is spoken to hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpstreamProtocol {
    /// HTTP/1 (`explicit_http_config.http_protocol_options`).
    #[default]
    Http1,
    /// HTTP/2 (`explicit_http_config.http2_protocol_options`).
    Http2,
    /// What the host chooses in the TLS handshake (`auto_config`); HTTP/1 if it chooses nothing.
    Auto,
    /// What the request came with (`use_downstream_protocol_config`).
    Downstream,
}

impl Default for HttpProtocolOptions {
    fn default() -> Self {
        HttpProtocolOptions {
            idle_timeout: Some(Duration::from_secs(3600)),
            max_connection_duration: None,
            max_requests_per_connection: None,
            max_headers_count: 100,
            max_response_headers_kb: 80,
            max_stream_duration: None,
            headers_with_underscores_action: Underscores::Allow,
            http1: Http1Options::default(),
            protocol: UpstreamProtocol::Http1,
            http2: Http2Options::default(),
            auto_sni: None,
            hash_policy: None,
        }
    }
}

/// `Http1ProtocolOptions`, upstream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Http1Options {
    /// `header_key_format`: how names are written. Default lower case.
    pub spelling: Spelling,
    /// `enable_trailers`: trailers of responses are passed on. Default false.
    pub enable_trailers: bool,
    /// `allow_chunked_length`. Default false.
    pub allow_chunked_length: bool,
    /// `send_fully_qualified_url`. Default false.
    pub send_fully_qualified_url: bool,
    /// `override_stream_error_on_invalid_http_message`. Default false.
    pub override_stream_error_on_invalid_http_message: bool,
}

/// `core.v3.BindConfig`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BindConfig {
    /// `source_address`, then `extra_source_addresses`: the first one of the host's family is bound.
    pub sources: Vec<SourceAddress>,
    /// `freebind` (`IP_FREEBIND`): the address need not be on an interface.
    pub freebind: bool,
    /// `socket_options`.
    pub socket_options: Vec<SocketOption>,
}

/// One source address.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceAddress {
    /// The address; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// Socket options in place of [`BindConfig::socket_options`].
    pub socket_options: Option<Vec<SocketOption>>,
}

/// `core.v3.SocketOption`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketOption {
    /// `level`.
    pub level: i32,
    /// `name`.
    pub name: i32,
    /// `int_value` as the kernel wants it, or `buf_value`.
    pub value: Vec<u8>,
    /// `state`.
    pub state: SocketOptionState,
}

/// `core.v3.SocketOption.SocketState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SocketOptionState {
    /// Before bind.
    #[default]
    Prebind,
    /// After bind.
    Bound,
    /// After listen; never for connections to hosts.
    Listening,
}

/// `core.v3.TcpKeepalive`. `None` leaves the kernel's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpKeepalive {
    /// `keepalive_probes`.
    pub probes: Option<u32>,
    /// `keepalive_time`, in seconds.
    pub time: Option<u32>,
    /// `keepalive_interval`, in seconds.
    pub interval: Option<u32>,
}

/// `UpstreamConnectionOptions.HappyEyeballsConfig`: in which order several addresses of an endpoint are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HappyEyeballs {
    /// `first_address_family_version`: whether IPv6 comes first; by default the family of the first address.
    pub first_is_v6: Option<bool>,
    /// `first_address_family_count`: how many addresses of that family come before the first of the other. Default 1.
    pub first_count: u32,
}

impl Default for HappyEyeballs {
    fn default() -> Self {
        HappyEyeballs { first_is_v6: None, first_count: 1 }
    }
}
