//! `envoy.config.route.v3.RouteMatch`.

use nuncio_matcher::{
    CidrRange, CookieMatcherSpec, HeaderMatcherSpec, MetadataMatcherSpec, QueryParameterMatcherSpec, RegexSpec,
    RuntimeFractionalPercent, StringMatcherSpec,
};

/// What a path must be (`RouteMatch.path_specifier`). Query and fragment never count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathSpec {
    /// `prefix`: the start; `/` or empty matches every path.
    Prefix(String),
    /// `path`: the whole.
    Exact(String),
    /// `safe_regex`: an expression for the whole.
    SafeRegex(RegexSpec),
    /// `path_separated_prefix`: the whole, or the start up to a `/`. No `?` or `#`, no `/` at its end.
    PathSeparatedPrefix(String),
    /// `connect_matcher`: CONNECT requests, whatever their path.
    Connect,
    /// `path_match_policy` with `envoy.path.match.uri_template`: its `path_template`, such as `/users/{id}/**`.
    UriTemplate(String),
}

/// `envoy.config.route.v3.RouteMatch`: all of it must hold.
#[derive(Debug, Clone)]
pub struct RouteMatchSpec {
    /// `path_specifier`.
    pub path: PathSpec,
    /// `case_sensitive`, for prefixes and whole paths. Default true.
    pub case_sensitive: bool,
    /// `runtime_fraction`.
    pub runtime_fraction: Option<RuntimeFractionalPercent>,
    /// `headers`: all must match.
    pub headers: Vec<HeaderMatcherSpec>,
    /// `query_parameters`: all must match.
    pub query_parameters: Vec<QueryParameterMatcherSpec>,
    /// `cookies`: all must match.
    pub cookies: Vec<CookieMatcherSpec>,
    /// `grpc`: gRPC requests only (content type `application/grpc` or `application/grpc+…`).
    pub grpc: bool,
    /// `tls_context`.
    pub tls_context: Option<TlsContextMatch>,
    /// `dynamic_metadata`: all must match.
    pub dynamic_metadata: Vec<MetadataMatcherSpec>,
    /// `filter_state`: all must match.
    pub filter_state: Vec<FilterStateMatcherSpec>,
}

impl RouteMatchSpec {
    /// A match on the path alone.
    pub fn new(path: PathSpec) -> RouteMatchSpec {
        RouteMatchSpec {
            path,
            case_sensitive: true,
            runtime_fraction: None,
            headers: Vec::new(),
            query_parameters: Vec::new(),
            cookies: Vec::new(),
            grpc: false,
            tls_context: None,
            dynamic_metadata: Vec::new(),
            filter_state: Vec::new(),
        }
    }
}

/// `RouteMatch.TlsContextMatchOptions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TlsContextMatch {
    /// `presented`: the client gave a certificate, or gave none. Unset: either.
    pub presented: Option<bool>,
    /// `validated`: its certificate was verified, or was not. Unset: either.
    pub validated: Option<bool>,
}

/// `envoy.type.matcher.v3.FilterStateMatcher`. An absent object does not match.
#[derive(Debug, Clone)]
pub struct FilterStateMatcherSpec {
    /// `key`: name of the object; not empty.
    pub key: String,
    /// `string_match` or `address_match`.
    pub matcher: FilterStateMatchSpec,
}

/// What an object of the filter state must be.
#[derive(Debug, Clone)]
pub enum FilterStateMatchSpec {
    /// Its text.
    String(StringMatcherSpec),
    /// An IP address in one of the ranges (`AddressMatcher`).
    Address {
        /// `ranges`: at least one.
        ranges: Vec<CidrRange>,
        /// `invert_match`.
        invert: bool,
    },
}
