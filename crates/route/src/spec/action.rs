//! What a route does: `RouteAction`, `RedirectAction`, `DirectResponseAction`.

use super::{HeaderMutationsSpec, Opaque, PerFilterSpec, RetryPolicySpec};
use nuncio_matcher::{RuntimeFractionalPercent, SubstitutionSpec};
use nuncio_stream_info::{Format, Metadata};
use std::sync::Arc;
use std::time::Duration;

/// `Route.action`.
#[derive(Debug, Clone)]
pub enum ActionSpec {
    /// `route`: send it to a cluster.
    Route(Box<RouteActionSpec>),
    /// `redirect`.
    Redirect(RedirectSpec),
    /// `direct_response`.
    DirectResponse(DirectResponseSpec),
    /// `non_forwarding_action`: for gRPC servers that use xDS; such a route answers nothing.
    NonForwarding,
}

/// `envoy.config.route.v3.RouteAction`. `cluster_specifier_plugin`, `inline_cluster_specifier_plugin`, `hedge_policy`,
/// `early_data_policy` and `retry_policy_typed_config` are reported by lowering as unsupported; `internal_redirect_action`
/// and `max_internal_redirects` become `internal_redirect_policy`.
#[derive(Debug, Clone)]
pub struct RouteActionSpec {
    /// `cluster_specifier`.
    pub cluster: ClusterSpecifierSpec,
    /// `cluster_not_found_response_code`: 503 (default), 404 or 500.
    pub cluster_not_found_response_code: u16,
    /// `metadata_match`: endpoints are chosen by its namespace `envoy.lb`.
    pub metadata_match: Option<Arc<Metadata>>,
    /// `prefix_rewrite`, `regex_rewrite`, `path_rewrite_policy` or `path_rewrite`; one at most.
    pub path_rewrite: Option<PathRewriteSpec>,
    /// `host_rewrite_specifier`.
    pub host_rewrite: Option<HostRewriteSpec>,
    /// `append_x_forwarded_host`: tell the host before the rewrite.
    pub append_x_forwarded_host: bool,
    /// `timeout` for the whole response. Default 15 s; 0 means none.
    pub timeout: Option<Duration>,
    /// `idle_timeout` of the stream. Default: the connection manager's; 0 means none.
    pub idle_timeout: Option<Duration>,
    /// `flush_timeout`: how long a finished response may take to be read. Default: the idle timeout.
    pub flush_timeout: Option<Duration>,
    /// `retry_policy`. Default: the virtual host's.
    pub retry_policy: Option<RetryPolicySpec>,
    /// `request_mirror_policies`. Default: the virtual host's.
    pub mirror_policies: Vec<MirrorPolicySpec>,
    /// `priority`.
    pub priority: Priority,
    /// `rate_limits`, as compiled by the rate limit filter.
    pub rate_limits: Option<Opaque>,
    /// `include_vh_rate_limits` (deprecated). Default false.
    pub include_vh_rate_limits: bool,
    /// `hash_policy`, in order.
    pub hash_policy: Vec<HashPolicySpec>,
    /// `cors` (deprecated), as compiled by the CORS filter.
    pub cors: Option<Opaque>,
    /// `max_grpc_timeout` (deprecated): largest `grpc-timeout` that counts; 0 means any. Unset: it does not count.
    pub max_grpc_timeout: Option<Duration>,
    /// `grpc_timeout_offset` (deprecated): taken off `grpc-timeout`.
    pub grpc_timeout_offset: Option<Duration>,
    /// `upgrade_configs`: which upgrades are allowed, over the connection manager's.
    pub upgrade_configs: Vec<UpgradeConfigSpec>,
    /// `internal_redirect_policy`. Unset: redirects go downstream.
    pub internal_redirect_policy: Option<InternalRedirectPolicySpec>,
    /// `max_stream_duration`.
    pub max_stream_duration: Option<MaxStreamDuration>,
}

impl RouteActionSpec {
    /// An action with every default.
    pub fn new(cluster: ClusterSpecifierSpec) -> RouteActionSpec {
        RouteActionSpec {
            cluster,
            cluster_not_found_response_code: 503,
            metadata_match: None,
            path_rewrite: None,
            host_rewrite: None,
            append_x_forwarded_host: false,
            timeout: None,
            idle_timeout: None,
            flush_timeout: None,
            retry_policy: None,
            mirror_policies: Vec::new(),
            priority: Priority::Default,
            rate_limits: None,
            include_vh_rate_limits: false,
            hash_policy: Vec::new(),
            cors: None,
            max_grpc_timeout: None,
            grpc_timeout_offset: None,
            upgrade_configs: Vec::new(),
            internal_redirect_policy: None,
            max_stream_duration: None,
        }
    }

    /// An action with every default, to one cluster.
    pub fn to_cluster(name: &str) -> RouteActionSpec {
        RouteActionSpec::new(ClusterSpecifierSpec::Cluster(name.to_owned()))
    }
}

/// `RouteAction.cluster_specifier`.
#[derive(Debug, Clone)]
pub enum ClusterSpecifierSpec {
    /// `cluster`: not empty.
    Cluster(String),
    /// `cluster_header`: the request header that names it (first value; absent: no cluster, answered 503).
    ClusterHeader(String),
    /// `weighted_clusters`.
    Weighted(WeightedClustersSpec),
}

/// `envoy.config.route.v3.WeightedCluster`.
#[derive(Debug, Clone, Default)]
pub struct WeightedClustersSpec {
    /// `clusters`: at least one.
    pub clusters: Vec<ClusterWeightSpec>,
    /// `total_weight` (deprecated): what the weights must add up to. Default: their sum; not 0.
    pub total_weight: Option<u32>,
    /// `runtime_key_prefix`: weights may come from runtime keys `<prefix>.<cluster name>`. Empty: none.
    pub runtime_key_prefix: String,
    /// `random_value_specifier`.
    pub random_value: RandomValueSpec,
}

/// What decides among weighted clusters (`WeightedCluster.random_value_specifier`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RandomValueSpec {
    /// The stream's random number.
    #[default]
    Stream,
    /// `header_name`: the decimal number in this request header; the stream's random number if there is none.
    Header(String),
    /// `use_hash_policy: true`: the hash that the route's `hash_policy` makes.
    HashPolicy,
}

/// `WeightedCluster.ClusterWeight`.
#[derive(Debug, Clone, Default)]
pub struct ClusterWeightSpec {
    /// `name`; this or `cluster_header`.
    pub name: String,
    /// `cluster_header`: the request header that names the cluster.
    pub cluster_header: String,
    /// `weight`. Default 0: never chosen.
    pub weight: Option<u32>,
    /// `metadata_match`, merged over the route's.
    pub metadata_match: Option<Arc<Metadata>>,
    /// `request_headers_to_add` and `request_headers_to_remove`.
    pub request_headers: HeaderMutationsSpec,
    /// `response_headers_to_add` and `response_headers_to_remove`.
    pub response_headers: HeaderMutationsSpec,
    /// `typed_per_filter_config`.
    pub per_filter: Vec<PerFilterSpec>,
    /// `host_rewrite_literal`. Empty: none.
    pub host_rewrite_literal: String,
}

/// How the path is rewritten.
#[derive(Debug, Clone)]
pub enum PathRewriteSpec {
    /// `prefix_rewrite`: takes the place of what matched (of the whole path, for whole-path and regex matches).
    Prefix(String),
    /// `regex_rewrite`, on the path without query.
    Regex(SubstitutionSpec),
    /// `path_rewrite_policy` with `envoy.path.rewrite.uri_template`: its `path_template_rewrite`; needs
    /// [`super::PathSpec::UriTemplate`].
    UriTemplate(String),
    /// `path_rewrite`: a substitution format for the path without query. An empty outcome changes nothing.
    Format(String),
}

/// `RouteAction.host_rewrite_specifier`.
#[derive(Debug, Clone)]
pub enum HostRewriteSpec {
    /// `host_rewrite_literal`.
    Literal(String),
    /// `auto_host_rewrite`: the hostname of the chosen endpoint.
    Auto,
    /// `host_rewrite_header`: the first value of this request header, if there is one.
    Header(String),
    /// `host_rewrite_path_regex`: a substitution on the path without query.
    PathRegex(SubstitutionSpec),
    /// `host_rewrite`: a substitution format. An empty outcome changes nothing.
    Format(String),
}

/// `RouteAction.RequestMirrorPolicy`.
#[derive(Debug, Clone, Default)]
pub struct MirrorPolicySpec {
    /// `cluster`; this or `cluster_header`.
    pub cluster: String,
    /// `cluster_header`: the request header that names it.
    pub cluster_header: String,
    /// `runtime_fraction`. Default: all requests.
    pub runtime_fraction: Option<RuntimeFractionalPercent>,
    /// `trace_sampled`. Default: as the request itself.
    pub trace_sampled: Option<bool>,
    /// `disable_shadow_host_suffix_append`: do not add `-shadow` to the host.
    pub disable_shadow_host_suffix_append: bool,
    /// `host_rewrite_literal`. Empty: none.
    pub host_rewrite_literal: String,
}

/// `envoy.config.core.v3.RoutingPriority`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Priority {
    /// `DEFAULT`.
    #[default]
    Default,
    /// `HIGH`.
    High,
}

/// `RouteAction.HashPolicy`.
#[derive(Debug, Clone)]
pub struct HashPolicySpec {
    /// `policy_specifier`.
    pub kind: HashPolicyKindSpec,
    /// `terminal`: later policies count only if none so far made a hash.
    pub terminal: bool,
}

/// `RouteAction.HashPolicy.policy_specifier`.
#[derive(Debug, Clone)]
pub enum HashPolicyKindSpec {
    /// `header`.
    Header {
        /// `header_name`.
        name: String,
        /// `regex_rewrite` of the value before hashing.
        rewrite: Option<SubstitutionSpec>,
    },
    /// `cookie`.
    Cookie {
        /// `name`.
        name: String,
        /// `ttl`: an absent cookie is made with this life time; 0 means a session cookie; unset: not made.
        ttl: Option<Duration>,
        /// `path` of the cookie that is made.
        path: String,
        /// `attributes` of the cookie that is made.
        attributes: Vec<CookieAttribute>,
    },
    /// `connection_properties.source_ip`.
    SourceIp,
    /// `query_parameter.name`.
    QueryParameter(String),
    /// `filter_state.key`.
    FilterState(String),
}

/// `RouteAction.HashPolicy.CookieAttribute`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieAttribute {
    /// `name`.
    pub name: String,
    /// `value`; may be empty.
    pub value: String,
}

/// `RouteAction.UpgradeConfig`.
#[derive(Debug, Clone)]
pub struct UpgradeConfigSpec {
    /// `upgrade_type`: any case; `CONNECT` too.
    pub upgrade_type: String,
    /// `enabled`. Default true.
    pub enabled: bool,
    /// `connect_config`; for CONNECT only.
    pub connect_config: Option<ConnectConfigSpec>,
}

/// `UpgradeConfig.ConnectConfig`.
#[derive(Debug, Clone, Default)]
pub struct ConnectConfigSpec {
    /// `proxy_protocol_config`, as compiled by its owner.
    pub proxy_protocol: Option<Opaque>,
    /// `allow_post`: POST requests are tunnelled too.
    pub allow_post: bool,
}

/// `envoy.config.route.v3.InternalRedirectPolicy`.
#[derive(Debug, Clone, Default)]
pub struct InternalRedirectPolicySpec {
    /// `max_internal_redirects`. Default 1.
    pub max_internal_redirects: Option<u32>,
    /// `redirect_response_codes`: of 301, 302, 303, 307, 308; others are ignored. Default 302.
    pub redirect_response_codes: Vec<u32>,
    /// `predicates`.
    pub predicates: Vec<RedirectPredicate>,
    /// `allow_cross_scheme_redirect`. Default false.
    pub allow_cross_scheme_redirect: bool,
    /// `response_headers_to_copy` into the new request; no pseudo-header, not `host`.
    pub response_headers_to_copy: Vec<String>,
}

/// `InternalRedirectPolicy.predicates`: which target routes are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedirectPredicate {
    /// `envoy.internal_redirect_predicates.previous_routes`: one that the request was not redirected to before.
    PreviousRoutes,
    /// `envoy.internal_redirect_predicates.allow_listed_routes`: one of these names.
    AllowListedRoutes(Vec<String>),
    /// `envoy.internal_redirect_predicates.safe_cross_scheme`: http to https is not accepted.
    SafeCrossScheme,
}

/// `RouteAction.MaxStreamDuration`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MaxStreamDuration {
    /// `max_stream_duration`; 0 means none. Default: the connection manager's.
    pub max_stream_duration: Option<Duration>,
    /// `grpc_timeout_header_max`: largest `grpc-timeout` that counts; 0 means any. Unset: it does not count.
    pub grpc_timeout_header_max: Option<Duration>,
    /// `grpc_timeout_header_offset`: taken off `grpc-timeout`.
    pub grpc_timeout_header_offset: Option<Duration>,
}

/// `envoy.config.route.v3.RedirectAction`.
#[derive(Debug, Clone, Default)]
pub struct RedirectSpec {
    /// `scheme_rewrite_specifier`. Unset: the request's scheme.
    pub scheme: Option<SchemeRedirectSpec>,
    /// `host_redirect`. Empty: the request's host.
    pub host_redirect: String,
    /// `port_redirect`. 0: none.
    pub port_redirect: u32,
    /// `path_rewrite_specifier`. Unset: the request's path.
    pub path: Option<RedirectPathSpec>,
    /// `response_code`.
    pub response_code: RedirectCode,
    /// `strip_query`: drop the request's query. Default false.
    pub strip_query: bool,
}

/// `RedirectAction.scheme_rewrite_specifier`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemeRedirectSpec {
    /// `https_redirect: true`.
    Https,
    /// `scheme_redirect`.
    Scheme(String),
}

/// `RedirectAction.path_rewrite_specifier`.
#[derive(Debug, Clone)]
pub enum RedirectPathSpec {
    /// `path_redirect`: the whole path. With a `?` in it the request's query is dropped.
    Path(String),
    /// `prefix_rewrite`: takes the place of what matched.
    Prefix(String),
    /// `regex_rewrite`, on the path without query.
    Regex(SubstitutionSpec),
    /// `path_rewrite`: a substitution format for the path without query. An empty outcome changes nothing.
    Format(String),
}

/// `RedirectAction.RedirectResponseCode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RedirectCode {
    /// 301; the default.
    #[default]
    MovedPermanently,
    /// 302
    Found,
    /// 303
    SeeOther,
    /// 307
    TemporaryRedirect,
    /// 308
    PermanentRedirect,
}

impl RedirectCode {
    /// The status code.
    pub fn status(self) -> u16 {
        match self {
            RedirectCode::MovedPermanently => 301,
            RedirectCode::Found => 302,
            RedirectCode::SeeOther => 303,
            RedirectCode::TemporaryRedirect => 307,
            RedirectCode::PermanentRedirect => 308,
        }
    }
}

/// `envoy.config.route.v3.DirectResponseAction`.
#[derive(Debug, Clone)]
pub struct DirectResponseSpec {
    /// `status`: 200 to 599.
    pub status: u16,
    /// `body`: read by lowering, its size checked there. Empty: none.
    pub body: Arc<[u8]>,
    /// `body_format`: then `body` is what `%LOCAL_REPLY_BODY%` stands for.
    pub body_format: Option<BodyFormatSpec>,
}

/// `envoy.config.core.v3.SubstitutionFormatString` of a body, compiled.
#[derive(Debug, Clone)]
pub struct BodyFormatSpec {
    /// The format.
    pub format: Arc<Format>,
    /// `content_type`. Default `text/plain` for text, `application/json` for JSON.
    pub content_type: Arc<str>,
}
