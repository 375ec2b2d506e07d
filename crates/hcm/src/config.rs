//! The connection manager's configuration, compiled.

use crate::detection::IpDetection;
use crate::local_reply::LocalReplyConfig;
use crate::proxy_status::ProxyStatusConfig;
use nuncio_filter::{AccessLogs, FilterSlot, StreamState};
use nuncio_headers::HeaderName;
use nuncio_http::h1::{RequestOptions, Spelling, TrailerOptions};
use nuncio_http::h2::Http2Options;
use nuncio_matcher::{CidrSet, MatchTree};
use nuncio_route::{LiveRoutes, LiveScopes, RouteTable};
use nuncio_stats::names::{HttpConnectionManagerStats, ListenerHttpStats, RouterStats, TracingStats};
use nuncio_stats::{CodeCounters, Scope};
use std::sync::Arc;
use std::time::Duration;

/// Which protocol connections speak (`codec_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CodecType {
    /// What ALPN says, or the first bytes of the connection.
    #[default]
    Auto,
    /// HTTP/1.
    Http1,
    /// HTTP/2, from its first byte.
    Http2,
}

/// What happens to the `server` header of responses (`server_header_transformation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerHeader {
    /// Replaced by the configured name.
    #[default]
    Overwrite,
    /// Set where the upstream set none.
    AppendIfAbsent,
    /// Left alone.
    PassThrough,
}

/// What happens to paths with `%2F`, `%5C` (`path_with_escaped_slashes_action`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EscapedSlashes {
    /// Nothing (also `IMPLEMENTATION_SPECIFIC_DEFAULT`).
    #[default]
    Keep,
    /// 400.
    Reject,
    /// Unescaped, and the client redirected to the result with 307.
    Redirect,
    /// Unescaped.
    Unescape,
}

/// What happens to the port in `:authority` (`strip_matching_host_port`, `strip_any_host_port`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StripPort {
    /// Kept.
    #[default]
    Keep,
    /// Removed where it is the listener's.
    Matching,
    /// Removed.
    Any,
}

/// What happens to `x-forwarded-client-cert` (`forward_client_cert_details`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardClientCert {
    /// Removed.
    #[default]
    Sanitize,
    /// Kept on connections with a verified client certificate.
    ForwardOnly,
    /// Kept and extended on connections with a verified client certificate.
    AppendForward,
    /// Replaced on connections with a verified client certificate.
    SanitizeSet,
    /// Kept.
    AlwaysForwardOnly,
}

/// What of a client certificate is forwarded (`set_current_client_cert_details`); its digest is always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClientCertDetails {
    /// `cert`: the certificate, URL-encoded PEM.
    pub cert: bool,
    /// `chain`: the same of all certificates that the client showed.
    pub chain: bool,
    /// `subject`.
    pub subject: bool,
    /// `issuer`.
    pub issuer: bool,
    /// `uri`: URI names.
    pub uri: bool,
    /// `dns`: DNS names.
    pub dns: bool,
    /// `format` is JSON.
    pub json: bool,
}

/// Path normalisation (`normalize_path`, `merge_slashes`, `path_with_escaped_slashes_action`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathOptions {
    /// Dot segments are resolved and unreserved escapes decoded (RFC 3986 §6). Default no.
    pub normalize: bool,
    /// `//` becomes `/`. Default no.
    pub merge_slashes: bool,
    /// Escaped slashes.
    pub escaped_slashes: EscapedSlashes,
}

/// How the client's address and the request's origin are found out.
#[derive(Debug, Clone)]
pub struct TrustOptions {
    /// The peer is the client; `x-forwarded-for` is appended (`use_remote_address`). Default no.
    pub use_remote_address: bool,
    /// Trusted proxies in front (`xff_num_trusted_hops`). Default 0.
    pub trusted_hops: u32,
    /// `x-forwarded-for` is left alone (`skip_xff_append`). Default no.
    pub skip_xff_append: bool,
    /// `x-forwarded-port` is set (`append_x_forwarded_port`). Default no.
    pub append_port: bool,
    /// Addresses that count as internal (`internal_address_config`); none means that no request is internal.
    pub internal: CidrSet,
    /// Whether unix socket peers count as internal (`internal_address_config.unix_sockets`). Default no.
    pub internal_unix: bool,
    /// `represent_ipv4_remote_address_as_ipv4_mapped_ipv6`. Default no.
    pub ipv4_as_mapped_ipv6: bool,
    /// Who says what the client's address is (`original_ip_detection_extensions`), where the peer is not the client.
    pub detection: Vec<IpDetection>,
    /// `scheme_header_transformation.scheme_to_overwrite`.
    pub overwrite_scheme: Option<Arc<str>>,
    /// `scheme_header_transformation.match_upstream`.
    pub match_upstream_scheme: bool,
}

/// `x-request-id` handling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestIdOptions {
    /// `generate_request_id`. Default yes.
    pub generate: bool,
    /// `preserve_external_request_id`. Default no.
    pub preserve_external: bool,
    /// `always_set_request_id_in_response`. Default no.
    pub in_response: bool,
    /// `UuidRequestIdConfig.pack_trace_reason`. Default yes.
    pub pack_trace_reason: bool,
}

impl Default for RequestIdOptions {
    fn default() -> Self {
        RequestIdOptions { generate: true, preserve_external: false, in_response: false, pack_trace_reason: true }
    }
}

/// The timers of a connection and its streams; `None` is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// A connection without requests is closed (`common_http_protocol_options.idle_timeout`). Default 1 h.
    pub idle: Option<Duration>,
    /// A connection is drained (`common_http_protocol_options.max_connection_duration`). Default none.
    pub max_connection_duration: Option<Duration>,
    /// A stream without progress is ended (`stream_idle_timeout`). Default 5 min.
    pub stream_idle: Option<Duration>,
    /// A request must have been received completely (`request_timeout`). Default none.
    pub request: Option<Duration>,
    /// A request's head must have been received completely (`request_headers_timeout`). Default none.
    pub request_headers: Option<Duration>,
    /// Between the notice and the close of a draining connection (`drain_timeout`). Default 5 s.
    pub drain: Duration,
    /// How long the client may take to close after the last response (`delayed_close_timeout`). Default 1 s.
    pub delayed_close: Option<Duration>,
    /// A stream must be over (`common_http_protocol_options.max_stream_duration`). Default none.
    pub max_stream_duration: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            idle: Some(Duration::from_secs(3600)),
            max_connection_duration: None,
            stream_idle: Some(Duration::from_secs(300)),
            request: None,
            request_headers: None,
            drain: Duration::from_secs(5),
            delayed_close: Some(Duration::from_secs(1)),
            max_stream_duration: None,
        }
    }
}

/// One entry of `upgrade_configs`.
#[derive(Debug, Clone)]
pub struct UpgradeConfig {
    /// The upgrade's name in lower case (`websocket`).
    pub name: Arc<str>,
    /// Whether it is allowed where a route does not say otherwise. Default yes.
    pub enabled: bool,
    /// The chain for such requests; none is the connection manager's.
    pub filters: Option<Arc<[FilterSlot]>>,
}

/// The terminal router's configuration (`envoy.extensions.filters.http.router.v3.Router`).
#[derive(Clone, Default)]
pub struct RouterOptions {
    /// Statistics with names that depend on the traffic. Default yes in Envoy; here `Some(false)` turns them off.
    pub dynamic_stats_off: bool,
    /// No `x-envoy-*` header is added to requests or responses.
    pub suppress_envoy_headers: bool,
    /// `x-envoy-expected-rq-timeout-ms` of the client decides the timeout.
    pub respect_expected_rq_timeout: bool,
    /// Headers whose malformed value is answered 400 (`strict_check_headers`).
    pub strict_check: Arc<[nuncio_headers::Known]>,
    /// Logs of each upstream attempt.
    pub upstream_logs: Option<AccessLogs>,
}

/// When access log records are written besides the end of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AccessLogOptions {
    /// One at the start of each request (`flush_access_log_on_new_request`).
    pub on_new_request: bool,
    /// One at this interval while the stream lasts (`access_log_flush_interval`, at least 1 ms).
    pub interval: Option<Duration>,
}

/// The statistics of a connection manager.
pub struct HcmStats {
    /// `http.<prefix>.*`
    pub manager: HttpConnectionManagerStats,
    /// `http.<prefix>.*` of the router.
    pub router: RouterStats,
    /// `http.<prefix>.tracing.*`
    pub tracing: TracingStats,
    /// `listener.<address>.http.<prefix>.*`
    pub listener: ListenerHttpStats,
    /// The scope `http.<prefix>`, for filters that add to it.
    pub scope: Scope,
    /// The root scope, for `http1.*`.
    pub root: Scope,
}

/// `route_specifier`.
#[derive(Clone)]
pub enum RouteSource {
    /// `route_config`.
    Fixed(Arc<RouteTable>),
    /// `rds`: what discovery says.
    Live(Arc<LiveRoutes>),
    /// `scoped_routes`: chosen by headers.
    Scoped(Arc<LiveScopes>),
}

impl RouteSource {
    /// Gives a stream the table that its routes come from; it keeps it to its end. None as long as discovery said nothing.
    #[inline]
    pub fn begin(&self, state: &mut StreamState) {
        match self {
            RouteSource::Fixed(table) => state.routes = Some(Arc::clone(table)),
            RouteSource::Live(routes) => state.routes = routes.get(),
            RouteSource::Scoped(scopes) => state.scopes = Some(Arc::clone(scopes)),
        }
    }
}

/// An HTTP connection manager, as one filter chain has it. Shared by all workers.
pub struct HcmConfig {
    /// Its statistics.
    pub stats: HcmStats,
    /// How requests are read.
    pub request_options: Arc<RequestOptions>,
    /// What connections speak.
    pub codec: CodecType,
    /// How HTTP/2 is spoken.
    pub http2: Http2Options,
    /// Trailers of requests.
    pub trailers: TrailerOptions,
    /// How header names are written in responses.
    pub spelling: Spelling,
    /// The filters before the router, in order.
    pub filters: Arc<[FilterSlot]>,
    /// The router.
    pub router: RouterOptions,
    /// Where routes are looked up.
    pub routes: RouteSource,
    /// Upgrades.
    pub upgrades: Vec<UpgradeConfig>,
    /// Value of `server`; Envoy's default is `envoy`, and clients of dashboards look for it.
    pub server_name: Arc<str>,
    /// What happens to `server`.
    pub server_header: ServerHeader,
    /// Appended to `via`; empty adds nothing.
    pub via: Arc<str>,
    /// Origin and client address.
    pub trust: TrustOptions,
    /// `x-request-id`.
    pub request_id: RequestIdOptions,
    /// Paths.
    pub path: PathOptions,
    /// Ports in hosts.
    pub strip_port: StripPort,
    /// `strip_trailing_host_dot`.
    pub strip_trailing_host_dot: bool,
    /// Client certificates.
    pub forward_client_cert: ForwardClientCert,
    /// What is forwarded of them.
    pub client_cert_details: ClientCertDetails,
    /// `forward_client_cert_matcher`: leads requests to other settings than the two above.
    pub forward_client_cert_matcher: Option<Box<MatchTree<HeaderName, (ForwardClientCert, ClientCertDetails)>>>,
    /// `add_user_agent`: the service cluster's name, if user agents are added.
    pub add_user_agent: Option<Arc<str>>,
    /// Timers.
    pub timeouts: Timeouts,
    /// A connection is drained after so many requests (`max_requests_per_connection`); 0 is without limit.
    pub max_requests_per_connection: u32,
    /// Whether `expect: 100-continue` goes to the upstream (`proxy_100_continue`). Default no.
    pub proxy_100_continue: bool,
    /// Whether a malformed request is answered and the connection kept (`stream_error_on_invalid_http_message`).
    pub stream_error_on_invalid_message: bool,
    /// Access logs.
    pub access_logs: AccessLogs,
    /// When records are written.
    pub access_log_options: AccessLogOptions,
    /// Changes to local replies.
    pub local_reply: LocalReplyConfig,
    /// The `proxy-status` header (`proxy_status_config`).
    pub proxy_status: Option<ProxyStatusConfig>,
    /// Headers changed before anything else looks at the request (`early_header_mutation_extensions`).
    pub early_header_mutations: Vec<nuncio_route::HeaderEdits>,
}

/// Codes of responses, counted under a cluster's or connection manager's name.
pub type Codes = CodeCounters;
