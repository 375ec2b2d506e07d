//! Route configuration as plain data: what lowering fills from protobuf, and what [`crate::RouteTable::build`] compiles.
//!
//! One struct per message of `envoy.config.route.v3`, one field per field, defaults as in the API. A field is left out
//! only where its doc says that lowering reports it. Types ending in `Spec` are not used at run time.

mod action;
mod header;
mod matching;
mod retry;

pub use action::{
    ActionSpec, BodyFormatSpec, ClusterSpecifierSpec, ClusterWeightSpec, ConnectConfigSpec, CookieAttribute,
    DirectResponseSpec, HashPolicyKindSpec, HashPolicySpec, HostRewriteSpec, InternalRedirectPolicySpec,
    MaxStreamDuration, MirrorPolicySpec, PathRewriteSpec, Priority, RandomValueSpec, RedirectCode, RedirectPathSpec,
    RedirectPredicate, RedirectSpec, RouteActionSpec, SchemeRedirectSpec, UpgradeConfigSpec, WeightedClustersSpec,
};
pub use header::{AppendAction, HeaderMutationsSpec, HeaderValueOptionSpec};
pub use matching::{FilterStateMatchSpec, FilterStateMatcherSpec, PathSpec, RouteMatchSpec, TlsContextMatch};
pub use retry::{
    HostPredicate, RateLimitedBackOffSpec, ResetHeaderFormat, ResetHeaderSpec, RetryBackOffSpec, RetryPolicySpec,
    RetryPriority,
};

use nuncio_headers::HeaderName;
use nuncio_matcher::{FractionalPercent, HeaderMatcherSpec, MatchTree};
use nuncio_stream_info::Metadata;
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A compiled configuration of an extension, whose type only the extension knows.
pub type Opaque = Arc<dyn Any + Send + Sync>;

/// `envoy.config.route.v3.RouteConfiguration`. `vhds`, `validate_clusters` and `max_direct_response_body_size_bytes` are
/// lowering's business; `cluster_specifier_plugins` and `route_specifiers` are reported by it as unsupported.
#[derive(Debug, Clone, Default)]
pub struct RouteConfigSpec {
    /// `name`: what RDS calls it; also in error messages.
    pub name: String,
    /// `virtual_hosts`.
    pub virtual_hosts: Vec<VirtualHostSpec>,
    /// `internal_only_headers`: removed from requests that do not come from inside.
    pub internal_only_headers: Vec<String>,
    /// `request_headers_to_add` and `request_headers_to_remove`.
    pub request_headers: HeaderMutationsSpec,
    /// `response_headers_to_add` and `response_headers_to_remove`.
    pub response_headers: HeaderMutationsSpec,
    /// `most_specific_header_mutations_wins`. Default false: route, virtual host, configuration, in this order, so that the
    /// least specific has the last word.
    pub most_specific_header_mutations_wins: bool,
    /// `request_mirror_policies`, for virtual hosts that have none.
    pub mirror_policies: Vec<MirrorPolicySpec>,
    /// `ignore_port_in_host_matching`: the port in the request's host does not count. Ports in `domains` stay.
    pub ignore_port_in_host_matching: bool,
    /// `vhost_header`: the header to find the virtual host by; empty means `:authority`.
    pub vhost_header: String,
    /// `ignore_path_parameters_in_path_matching`: paths are compared up to their first `;`.
    pub ignore_path_parameters_in_path_matching: bool,
    /// `typed_per_filter_config`.
    pub per_filter: Vec<PerFilterSpec>,
    /// `metadata`.
    pub metadata: Option<Arc<Metadata>>,
}

/// `envoy.config.route.v3.VirtualHost`. `hedge_policy`, `retry_policy_typed_config` and `route_specifiers` are reported by
/// lowering as unsupported.
#[derive(Debug, Clone, Default)]
pub struct VirtualHostSpec {
    /// `name`: not empty; in statistics.
    pub name: String,
    /// `domains`: `a.b`, `*.b`, `a.*` or `*`, with a port or without; at least one.
    pub domains: Vec<String>,
    /// `routes`; not with `matcher`.
    pub routes: Vec<RouteSpec>,
    /// `matcher`: leads to the routes that are then tried in order (an action is a `Route` or a `RouteList`).
    pub matcher: Option<MatchTree<RouteInput, Vec<RouteSpec>>>,
    /// `require_tls`.
    pub require_tls: RequireTls,
    /// `virtual_clusters`: in order; for statistics.
    pub virtual_clusters: Vec<VirtualClusterSpec>,
    /// `rate_limits`, as compiled by the rate limit filter.
    pub rate_limits: Option<Opaque>,
    /// `request_headers_to_add` and `request_headers_to_remove`.
    pub request_headers: HeaderMutationsSpec,
    /// `response_headers_to_add` and `response_headers_to_remove`.
    pub response_headers: HeaderMutationsSpec,
    /// `cors` (deprecated), as compiled by the CORS filter.
    pub cors: Option<Opaque>,
    /// `typed_per_filter_config`.
    pub per_filter: Vec<PerFilterSpec>,
    /// `include_request_attempt_count`: send `x-envoy-attempt-count` upstream.
    pub include_request_attempt_count: bool,
    /// `include_attempt_count_in_response`: send it downstream.
    pub include_attempt_count_in_response: bool,
    /// `retry_policy`, for routes that have none.
    pub retry_policy: Option<RetryPolicySpec>,
    /// `include_is_timeout_retry_header`: send `x-envoy-is-timeout-retry` upstream.
    pub include_is_timeout_retry_header: bool,
    /// `request_body_buffer_limit` in bytes, or the deprecated `per_request_buffer_limit_bytes`: the most that is kept of
    /// a request body for retries and mirrors.
    pub request_body_buffer_limit: Option<u64>,
    /// `request_mirror_policies`, for routes that have none.
    pub mirror_policies: Vec<MirrorPolicySpec>,
    /// `metadata`.
    pub metadata: Option<Arc<Metadata>>,
}

/// What a virtual host's `matcher` can look at. Other inputs are refused by lowering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteInput {
    /// `envoy.type.matcher.v3.HttpRequestHeaderMatchInput`: all values of a request header, joined by commas.
    Header(HeaderName),
    /// `envoy.type.matcher.v3.HttpRequestQueryParamMatchInput`: the first value of a parameter, percent-decoded.
    QueryParameter(String),
    /// `xds.type.matcher.v3.HttpRequestCookieMatchInput` or `envoy.type.matcher.v3.HttpRequestCookieMatchInput`.
    Cookie(String),
}

/// `VirtualHost.TlsRequirementType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequireTls {
    /// None.
    #[default]
    None,
    /// Requests from outside are redirected to https (`x-envoy-internal` is not `true`).
    ExternalOnly,
    /// All requests are redirected to https.
    All,
}

/// `envoy.config.route.v3.VirtualCluster`.
#[derive(Debug, Clone, Default)]
pub struct VirtualClusterSpec {
    /// `name`: not empty.
    pub name: String,
    /// `headers`: all must match; at least one.
    pub headers: Vec<HeaderMatcherSpec>,
}

/// `envoy.config.route.v3.Route`. `route_specifiers` is reported by lowering as unsupported.
#[derive(Debug, Clone)]
pub struct RouteSpec {
    /// `name`; may be empty.
    pub name: String,
    /// `match`.
    pub matching: RouteMatchSpec,
    /// `route`, `redirect`, `direct_response` or `non_forwarding_action`; `filter_action` is refused by lowering.
    pub action: ActionSpec,
    /// `metadata`.
    pub metadata: Option<Arc<Metadata>>,
    /// `decorator`.
    pub decorator: Option<Decorator>,
    /// `typed_per_filter_config`.
    pub per_filter: Vec<PerFilterSpec>,
    /// `request_headers_to_add` and `request_headers_to_remove`.
    pub request_headers: HeaderMutationsSpec,
    /// `response_headers_to_add` and `response_headers_to_remove`.
    pub response_headers: HeaderMutationsSpec,
    /// `tracing`.
    pub tracing: Option<RouteTracing>,
    /// `request_body_buffer_limit` in bytes, or the deprecated `per_request_buffer_limit_bytes`. Default: the virtual
    /// host's.
    pub request_body_buffer_limit: Option<u64>,
    /// `stat_prefix`: statistics of its own under `vhost.<name>.route.<stat_prefix>`; empty means none.
    pub stat_prefix: String,
}

impl RouteSpec {
    /// A route without anything but what it matches and what it does.
    pub fn new(matching: RouteMatchSpec, action: ActionSpec) -> RouteSpec {
        RouteSpec {
            name: String::new(),
            matching,
            action,
            metadata: None,
            decorator: None,
            per_filter: Vec::new(),
            request_headers: HeaderMutationsSpec::default(),
            response_headers: HeaderMutationsSpec::default(),
            tracing: None,
            request_body_buffer_limit: None,
            stat_prefix: String::new(),
        }
    }
}

/// `envoy.config.route.v3.Decorator`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decorator {
    /// `operation`: name of the span.
    pub operation: Arc<str>,
    /// `propagate`: pass it on in `x-envoy-decorator-operation`. Default true.
    pub propagate: bool,
}

/// `envoy.config.route.v3.Tracing`; each sampling's default is 100 %.
#[derive(Debug, Clone)]
pub struct RouteTracing {
    /// `client_sampling`.
    pub client_sampling: FractionalPercent,
    /// `random_sampling`.
    pub random_sampling: FractionalPercent,
    /// `overall_sampling`.
    pub overall_sampling: FractionalPercent,
    /// `custom_tags`, `operation` and `upstream_operation`, as compiled by the tracer.
    pub tags: Option<Opaque>,
}

/// An entry of `typed_per_filter_config`, with `envoy.config.route.v3.FilterConfig` unwrapped.
#[derive(Clone)]
pub struct PerFilterSpec {
    /// The filter's name in the filter chain.
    pub name: Arc<str>,
    /// The configuration, as the filter's extension compiled it; `None` where `FilterConfig` has none.
    pub config: Option<Opaque>,
    /// `FilterConfig.disabled`: the filter is off for this route. An entry that is not disabled turns on a filter that is
    /// disabled in the chain.
    pub disabled: bool,
}

impl fmt::Debug for PerFilterSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerFilterSpec")
            .field("name", &self.name)
            .field("disabled", &self.disabled)
            .finish_non_exhaustive()
    }
}

/// An extension that a policy names and that is not built.
#[derive(Clone)]
pub struct Plugin {
    /// The name given in the configuration.
    pub name: Arc<str>,
    /// Type URL of its configuration without `type.googleapis.com/`; empty if it is named only.
    pub type_name: Arc<str>,
    /// What its extension compiled.
    pub config: Option<Opaque>,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin").field("name", &self.name).field("type_name", &self.type_name).finish_non_exhaustive()
    }
}
