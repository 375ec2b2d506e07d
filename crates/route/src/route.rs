//! The compiled route, and the virtual host and configuration that it belongs to.

use crate::RequestStats;
use crate::condition::Conditions;
use crate::forward::{ClusterSpecifier, Forward, LegacyFilters, WeightedCluster};
use crate::mutate::HeaderMutations;
use crate::per_filter::{PerFilter, PerFilterLevels};
use crate::redirect::{Redirect, direct_response_location};
use crate::rewrite::{HostUpdate, set_host, set_path};
use crate::spec::{BodyFormatSpec, Decorator, RequireTls, RouteTracing};
use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_matcher::{HeaderMatcher, Regex, Side};
use nuncio_stats::Scope;
use nuncio_stream_info::{LogContext, Metadata, RouteInfo, VirtualHostInfo};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A route: what to do with the requests that it matches. Immutable; holds on to its virtual host.
pub struct Route {
    pub(crate) info: Arc<RouteInfo>,
    pub(crate) virtual_host: Arc<VirtualHost>,
    pub(crate) action: Action,
    /// Of the path, beyond what the index compares.
    pub(crate) regex: Option<Box<PathRegex>>,
    pub(crate) conditions: Option<Box<Conditions>>,
    pub(crate) request: HeaderMutations,
    pub(crate) response: HeaderMutations,
    pub(crate) per_filter: PerFilter,
    pub(crate) extras: Option<Box<Extras>>,
}

/// An expression for the whole path.
#[derive(Debug)]
pub(crate) struct PathRegex {
    pub(crate) regex: Regex,
    /// Compares the path with its parameters, even if the configuration ignores them: path templates do in Envoy.
    pub(crate) with_parameters: bool,
}

impl PathRegex {
    /// Whether the path matches; `compared` is the path without parameters, if they are ignored.
    pub(crate) fn matches(&self, path: &[u8], compared: &[u8]) -> bool {
        self.regex.matches(if self.with_parameters { path } else { compared })
    }
}

/// What few routes have.
#[derive(Default)]
pub(crate) struct Extras {
    pub(crate) decorator: Option<Decorator>,
    pub(crate) tracing: Option<RouteTracing>,
    pub(crate) stat_prefix: Arc<str>,
    pub(crate) stats: OnceLock<Arc<RequestStats>>,
    pub(crate) request_body_buffer_limit: Option<u64>,
}

/// What a route does.
#[derive(Debug)]
pub enum Action {
    /// Send the request to a cluster.
    Forward(Box<Forward>),
    /// Redirect the client.
    Redirect(Box<Redirect>),
    /// Answer.
    DirectResponse(Box<DirectResponse>),
    /// Nothing: for gRPC servers that use xDS. The proxy answers 404 as if no route had matched.
    NonForwarding,
}

/// A compiled `DirectResponseAction`.
#[derive(Debug, Clone)]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: u16,
    /// The body; empty: none.
    pub body: Arc<[u8]>,
    /// Makes the body that is sent, `body` being its `%LOCAL_REPLY_BODY%`.
    pub body_format: Option<BodyFormatSpec>,
}

impl DirectResponse {
    /// Appends the body to `out`, and gives its content type where the format sets one; otherwise it is `text/plain`.
    pub fn write_body<'a>(&'a self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> Option<&'a str> {
        match &self.body_format {
            None => {
                out.extend_from_slice(&self.body);
                None
            }
            Some(format) => {
                let cx = LogContext { local_reply_body: &self.body, ..*cx };
                format.format.write(&cx, out);
                Some(&format.content_type)
            }
        }
    }

    /// The `location` that Envoy adds for status 201 and 3xx: the request's own URL.
    pub fn location(&self, headers: &HeaderMap) -> Option<Vec<u8>> {
        direct_response_location(self.status, headers)
    }
}

/// A virtual host without its routes.
pub struct VirtualHost {
    pub(crate) info: Arc<VirtualHostInfo>,
    pub(crate) config: Arc<RouteConfig>,
    pub(crate) require_tls: RequireTls,
    pub(crate) request: HeaderMutations,
    pub(crate) response: HeaderMutations,
    pub(crate) per_filter: PerFilter,
    pub(crate) virtual_clusters: Box<[VirtualCluster]>,
    pub(crate) request_body_buffer_limit: Option<u64>,
    /// Send `x-envoy-attempt-count` upstream.
    pub include_request_attempt_count: bool,
    /// Send `x-envoy-attempt-count` downstream.
    pub include_attempt_count_in_response: bool,
    /// Send `x-envoy-is-timeout-retry` upstream.
    pub include_is_timeout_retry_header: bool,
    /// What other filters compiled from fields of the virtual host.
    pub legacy: Option<Box<LegacyFilters>>,
}

/// A group of requests that statistics are kept for (`VirtualCluster`).
pub struct VirtualCluster {
    pub(crate) name: Arc<str>,
    pub(crate) headers: Box<[HeaderMatcher]>,
    pub(crate) stats: OnceLock<Arc<RequestStats>>,
}

impl VirtualCluster {
    /// Envoy's catch-all, which takes what no other takes.
    pub(crate) const OTHER: &'static str = "other";

    pub(crate) fn new(name: &str, headers: Box<[HeaderMatcher]>) -> VirtualCluster {
        VirtualCluster { name: name.into(), headers, stats: OnceLock::new() }
    }

    /// The name; `None` for the catch-all.
    pub fn name(&self) -> Option<&Arc<str>> {
        (!self.headers.is_empty()).then_some(&self.name)
    }

    /// The statistics, once they were registered.
    pub fn stats(&self) -> Option<&Arc<RequestStats>> {
        self.stats.get()
    }
}

/// A route configuration without its virtual hosts.
pub struct RouteConfig {
    pub(crate) name: Arc<str>,
    pub(crate) metadata: Option<Arc<Metadata>>,
    pub(crate) request: HeaderMutations,
    pub(crate) response: HeaderMutations,
    pub(crate) per_filter: PerFilter,
    pub(crate) internal_only_headers: Box<[HeaderName]>,
    pub(crate) least_specific_first: bool,
}

impl RouteConfig {
    /// Name of the configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Metadata of the configuration.
    pub fn metadata(&self) -> Option<&Arc<Metadata>> {
        self.metadata.as_ref()
    }

    /// Headers to remove from requests that come from outside (`internal_only_headers`).
    pub fn internal_only_headers(&self) -> &[HeaderName] {
        &self.internal_only_headers
    }
}

impl VirtualHost {
    /// Name of the virtual host.
    pub fn name(&self) -> &Arc<str> {
        &self.info.name
    }

    /// Name and metadata as streams refer to them.
    pub fn info(&self) -> &Arc<VirtualHostInfo> {
        &self.info
    }

    /// The route configuration.
    pub fn config(&self) -> &RouteConfig {
        &self.config
    }

    /// Into which virtual cluster a request falls. `None` if the virtual host has none.
    #[inline]
    pub fn virtual_cluster(&self, headers: &HeaderMap) -> Option<&VirtualCluster> {
        let matches = |cluster: &&VirtualCluster| cluster.headers.iter().all(|matcher| matcher.matches(headers));
        self.virtual_clusters.iter().find(matches)
    }

    /// Makes the statistics of the virtual clusters, below `vhost.<name>`.
    pub(crate) fn register_stats(&self, vhost: &Scope) {
        for cluster in &self.virtual_clusters {
            let scope = vhost.child(&format!("vcluster.{}", nuncio_stats::sanitize(&cluster.name)));
            cluster.stats.get_or_init(|| Arc::new(RequestStats::register(&scope)));
        }
    }

    /// What the virtual host and the configuration say to filters, for requests without a route.
    pub fn per_filter(&self) -> PerFilterLevels<'_> {
        PerFilterLevels::new([None, None, Some(&self.per_filter), Some(&self.config.per_filter)])
    }

    fn mutations(&self, side: Side) -> [&HeaderMutations; 2] {
        match side {
            Side::Request => [&self.request, &self.config.request],
            Side::Response => [&self.response, &self.config.response],
        }
    }
}

impl Route {
    /// Name of the route; empty if it has none.
    pub fn name(&self) -> &Arc<str> {
        &self.info.name
    }

    /// Name, metadata and virtual host as streams refer to them.
    #[inline]
    pub fn info(&self) -> &Arc<RouteInfo> {
        &self.info
    }

    /// The virtual host.
    #[inline]
    pub fn virtual_host(&self) -> &Arc<VirtualHost> {
        &self.virtual_host
    }

    /// What the route does.
    #[inline]
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// The action, if it is to send the request to a cluster.
    #[inline]
    pub fn forward(&self) -> Option<&Forward> {
        match &self.action {
            Action::Forward(forward) => Some(forward),
            _ => None,
        }
    }

    /// Metadata of the route.
    pub fn metadata(&self) -> Option<&Arc<Metadata>> {
        self.info.metadata.as_ref()
    }

    /// `decorator`.
    pub fn decorator(&self) -> Option<&Decorator> {
        self.extras.as_ref()?.decorator.as_ref()
    }

    /// `tracing`.
    pub fn tracing(&self) -> Option<&RouteTracing> {
        self.extras.as_ref()?.tracing.as_ref()
    }

    /// `stat_prefix`, if the route has statistics of its own.
    pub fn stat_prefix(&self) -> Option<&Arc<str>> {
        self.extras.as_ref().map(|extras| &extras.stat_prefix).filter(|prefix| !prefix.is_empty())
    }

    /// The route's own statistics, once they were registered.
    #[inline]
    pub fn stats(&self) -> Option<&Arc<RequestStats>> {
        self.extras.as_ref()?.stats.get()
    }

    /// Makes the route's own statistics, if it has a `stat_prefix`.
    pub(crate) fn register_stats(&self, vhost: &Scope) {
        let (Some(prefix), Some(extras)) = (self.stat_prefix(), &self.extras) else { return };
        let scope = vhost.child(&format!("route.{}", nuncio_stats::sanitize(prefix)));
        extras.stats.get_or_init(|| Arc::new(RequestStats::register(&scope)));
    }

    /// The most bytes of a request body to keep for retries and mirrors; `None`: only the connection's limit counts.
    pub fn request_body_buffer_limit(&self) -> Option<u64> {
        let own = self.extras.as_ref().and_then(|extras| extras.request_body_buffer_limit);
        own.or(self.virtual_host.request_body_buffer_limit)
    }

    /// What all levels say to filters. `entry`: of the cluster choice, once it was made.
    #[inline]
    pub fn per_filter(&self, entry: Option<u32>) -> PerFilterLevels<'_> {
        let cluster = self.weighted(entry).map(|weighted| &weighted.per_filter);
        let host = &self.virtual_host;
        PerFilterLevels::new([cluster, Some(&self.per_filter), Some(&host.per_filter), Some(&host.config.per_filter)])
    }

    /// Applies `request_headers_to_add` and `…_to_remove` of all levels, in Envoy's order: weighted cluster, route, virtual
    /// host, configuration; with `most_specific_header_mutations_wins`: weighted cluster, configuration, virtual host,
    /// route. Also sets the weighted cluster's host. `cx.request` does not count: `headers` stands for it.
    pub fn mutate_request(&self, entry: Option<u32>, headers: &mut HeaderMap, cx: &LogContext<'_>) {
        if let Some(weighted) = self.weighted(entry) {
            weighted.request.apply(Side::Request, headers, cx);
            if !weighted.host_rewrite_literal.is_empty() {
                headers.set_known(Known::AUTHORITY, &weighted.host_rewrite_literal);
            }
        }
        self.mutate(Side::Request, headers, cx);
    }

    /// The same for `response_headers_to_add` and `…_to_remove`; `headers` stands for `cx.response`.
    pub fn mutate_response(&self, entry: Option<u32>, headers: &mut HeaderMap, cx: &LogContext<'_>) {
        if let Some(weighted) = self.weighted(entry) {
            weighted.response.apply(Side::Response, headers, cx);
        }
        self.mutate(Side::Response, headers, cx);
    }

    fn mutate(&self, side: Side, headers: &mut HeaderMap, cx: &LogContext<'_>) {
        let own = match side {
            Side::Request => &self.request,
            Side::Response => &self.response,
        };
        let [host, config] = self.virtual_host.mutations(side);
        let order =
            if self.virtual_host.config.least_specific_first { [config, host, own] } else { [own, host, config] };
        for level in order {
            level.apply(side, headers, cx);
        }
    }

    /// Rewrites host and path of a request that is forwarded; after [`Route::mutate_request`]. `keep_original`: leave what
    /// was there in `x-envoy-original-path` and `x-envoy-original-host`, as Envoy does unless `suppress_envoy_headers` is
    /// set.
    pub fn rewrite(&self, headers: &mut HeaderMap, cx: &LogContext<'_>, keep_original: bool) {
        let Some(forward) = self.forward() else { return };
        if let Some(host) = forward.host_rewrite.as_ref().and_then(|rewrite| rewrite.apply(headers, cx)) {
            let update = HostUpdate { append_x_forwarded_host: forward.append_x_forwarded_host, keep_original };
            set_host(headers, &host, update);
        }
        if let Some(path) = forward.path_rewrite.as_ref().and_then(|rewrite| rewrite.apply(headers, cx)) {
            set_path(headers, &path, keep_original);
        }
    }

    /// For a route that redirects: its status and `location`. Rewrites `:path` of the request on the way, and keeps it in
    /// `x-envoy-original-path` if `keep_original`, so that logs show what Envoy's show.
    pub fn redirect(
        &self,
        headers: &mut HeaderMap,
        cx: &LogContext<'_>,
        keep_original: bool,
    ) -> Option<(u16, Vec<u8>)> {
        let Action::Redirect(redirect) = &self.action else { return None };
        redirect.rewrite(headers, cx, keep_original);
        Some((redirect.status(), redirect.location(headers)))
    }

    fn weighted(&self, entry: Option<u32>) -> Option<&WeightedCluster> {
        let at = entry?;
        self.forward()?.entry(Some(at))
    }

    /// Whether clusters are chosen by weight; then filters and mutations may depend on the choice.
    pub fn is_weighted(&self) -> bool {
        self.forward().is_some_and(|forward| matches!(forward.cluster, ClusterSpecifier::Weighted(_)))
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("name", &self.info.name)
            .field("virtual_host", &self.virtual_host.info.name)
            .field("action", &self.action)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for VirtualHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualHost").field("name", &self.info.name).finish_non_exhaustive()
    }
}
