//! The route table: finding the route of a request.

use crate::condition::is_connect;
use crate::host::{HostIndex, without_port};
use crate::index::PathIndex;
use crate::route::{Route, RouteConfig, VirtualHost};
use crate::spec::{RequireTls, RouteInput};
use crate::{BuildError, RouteConfigSpec, VirtualHostDiscovery, build};
use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_matcher::{
    MatchTree, RuntimeLookup, cookie_value, path_only, percent_decoded, query_parameter, without_parameters,
};
use nuncio_stats::Store;
use nuncio_stream_info::{FormatOptions, StreamInfo};
use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A compiled route configuration. Immutable; share it in an `Arc`.
///
/// *Invariant*: finding a route allocates nothing and takes no lock, and its time does not grow with the number of virtual
/// hosts or of routes by prefix, whole path, or regular expression with a literal start, other than those that compete for
/// the same path.
pub struct RouteTable {
    pub(crate) config: Arc<RouteConfig>,
    pub(crate) hosts: HostIndex,
    pub(crate) virtual_hosts: Box<[HostRoutes]>,
    /// Instead of `:authority`.
    pub(crate) vhost_header: Option<HeaderName>,
    pub(crate) ignore_port: bool,
    pub(crate) ignore_path_parameters: bool,
    pub(crate) warnings: Box<[BuildError]>,
    pub(crate) discovery: OnceLock<Arc<VirtualHostDiscovery>>,
}

/// A virtual host with its routes.
pub(crate) struct HostRoutes {
    pub(crate) virtual_host: Arc<VirtualHost>,
    /// Those of all lists.
    pub(crate) routes: Box<[Arc<Route>]>,
    pub(crate) lists: Lists,
}

/// Which routes are tried.
pub(crate) enum Lists {
    /// `routes`.
    One(RouteList),
    /// `matcher`.
    Tree(Box<MatchTree<RouteInput, RouteList>>),
}

/// Routes that are tried in order.
#[derive(Debug)]
pub(crate) struct RouteList {
    pub(crate) index: PathIndex,
    /// Routes with a `connect_matcher`: the only ones for requests without a path.
    pub(crate) connect: Box<[u32]>,
}

/// What is known of a request when its route is looked for.
#[derive(Clone, Copy)]
pub struct RouteQuery<'a> {
    /// The request's headers, `x-forwarded-proto` set as the connection manager does.
    pub headers: &'a HeaderMap,
    /// The stream's random number: the same for every look-up on one stream.
    pub random: u64,
    /// The layered runtime.
    pub runtime: &'a dyn RuntimeLookup,
    /// Dynamic metadata and filter state are looked at through it.
    pub info: Option<&'a StreamInfo>,
    /// The client's certificate.
    pub peer_certificate: PeerCertificate,
}

/// What the client did about a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerCertificate {
    /// It gave one.
    pub presented: bool,
    /// It gave one, and it was verified.
    pub validated: bool,
}

/// The outcome of a look-up.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'t> {
    /// A route; it knows its virtual host. Clone the `Arc` once per stream.
    Route(&'t Arc<Route>),
    /// None; the virtual host, if one was found.
    NoRoute(Option<&'t Arc<VirtualHost>>),
    /// The virtual host requires TLS and the request came without: answer 301 with [`crate::tls_redirect_location`].
    TlsRedirect(&'t Arc<VirtualHost>),
}

impl RouteTable {
    /// Compiles. All errors are reported, each with its place in the configuration.
    pub fn build(spec: RouteConfigSpec) -> Result<RouteTable, Vec<BuildError>> {
        build::build(spec, &FormatOptions::for_header_value())
    }

    /// The same, with what formats of header values need to know (`%HOSTNAME%`, `%ENVIRONMENT(X)%`).
    pub fn build_with(spec: RouteConfigSpec, options: &FormatOptions<'_>) -> Result<RouteTable, Vec<BuildError>> {
        build::build(spec, options)
    }

    /// Makes the statistics of virtual clusters and of routes with a `stat_prefix` (`vhost.<name>.*`).
    pub fn register_stats(&self, store: &Store) {
        for host in &self.virtual_hosts {
            let has_own = |route: &Arc<Route>| route.stat_prefix().is_some();
            if host.virtual_host.virtual_clusters.is_empty() && !host.routes.iter().any(has_own) {
                continue;
            }
            let scope = store.scope(&format!("vhost.{}", nuncio_stats::sanitize(host.virtual_host.name())), &[]);
            host.virtual_host.register_stats(&scope);
            host.routes.iter().for_each(|route| route.register_stats(&scope));
        }
    }

    /// What is accepted but has less effect than it seems to; to be shown to the operator.
    pub fn warnings(&self) -> &[BuildError] {
        &self.warnings
    }

    /// The configuration's own facts.
    pub fn config(&self) -> &RouteConfig {
        &self.config
    }

    /// All routes, in order, for validation and statistics.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.virtual_hosts.iter().flat_map(|host| host.routes.iter())
    }

    /// All virtual hosts, in order.
    pub fn virtual_hosts(&self) -> impl Iterator<Item = &Arc<VirtualHost>> {
        self.virtual_hosts.iter().map(|host| &host.virtual_host)
    }

    /// The route of a request.
    #[inline]
    pub fn find(&self, query: &RouteQuery<'_>) -> Outcome<'_> {
        let Some(host) = self.host(query.headers) else { return Outcome::NoRoute(None) };
        if requires_tls(host.virtual_host.require_tls, query.headers) {
            return Outcome::TlsRedirect(&host.virtual_host);
        }
        match self.route(host, query) {
            Some(route) => Outcome::Route(route),
            None => Outcome::NoRoute(Some(&host.virtual_host)),
        }
    }

    #[inline]
    fn host(&self, headers: &HeaderMap) -> Option<&HostRoutes> {
        let found = if self.hosts.only_any() {
            self.hosts.any()
        } else {
            let host = match &self.vhost_header {
                None => headers.get(Known::AUTHORITY)?,
                Some(name) => headers.get_name(name)?,
            };
            self.hosts.find(if self.ignore_port { without_port(host) } else { host })
        };
        self.virtual_hosts.get(found? as usize)
    }

    #[inline]
    fn route<'t>(&self, host: &'t HostRoutes, query: &RouteQuery<'_>) -> Option<&'t Arc<Route>> {
        let Some(path) = query.headers.get(Known::PATH) else { return host.connect_route(query) };
        let path = path_only(path);
        if self.ignore_path_parameters && memchr::memchr(b';', path).is_some() {
            return host.route(path, &without_parameters(path), query);
        }
        host.route(path, path, query)
    }
}

impl HostRoutes {
    /// The list that the request leads to.
    #[inline]
    fn list(&self, headers: &HeaderMap) -> Option<&RouteList> {
        match &self.lists {
            Lists::One(list) => Some(list),
            Lists::Tree(tree) => tree.evaluate(&|input| value_of(input, headers)),
        }
    }

    /// The first route that matches `path`; `compared` is what is compared of it.
    #[inline]
    fn route(&self, path: &[u8], compared: &[u8], query: &RouteQuery<'_>) -> Option<&Arc<Route>> {
        let found = self.list(query.headers)?.index.first(compared, |at, compare| {
            let Some(route) = self.routes.get(at as usize) else { return false };
            (!compare || route.regex.as_ref().is_none_or(|regex| regex.matches(path, compared)))
                && route.conditions.as_ref().is_none_or(|conditions| conditions.hold(query))
        })?;
        self.routes.get(found as usize)
    }

    /// A request without a path (CONNECT): only routes with a `connect_matcher` count.
    fn connect_route(&self, query: &RouteQuery<'_>) -> Option<&Arc<Route>> {
        if !is_connect(query.headers) {
            return None;
        }
        let list = self.list(query.headers)?;
        list.connect
            .iter()
            .filter_map(|at| self.routes.get(*at as usize))
            .find(|route| route.conditions.as_ref().is_none_or(|conditions| conditions.hold(query)))
    }
}

/// What a request holds for an input.
fn value_of<'h>(input: &RouteInput, headers: &'h HeaderMap) -> Option<Cow<'h, [u8]>> {
    match input {
        RouteInput::Header(name) => headers.joined(name),
        RouteInput::QueryParameter(name) => {
            let value = query_parameter(headers.get(Known::PATH)?, name.as_bytes())?;
            Some(percent_decoded(value))
        }
        RouteInput::Cookie(name) => cookie_value(headers, name.as_bytes()).map(Cow::Borrowed),
    }
}

/// Whether the request must go to https. As in Envoy `x-forwarded-proto` tells how it came.
#[inline]
fn requires_tls(required: RequireTls, headers: &HeaderMap) -> bool {
    let insecure = || headers.get(Known::X_FORWARDED_PROTO) != Some(b"https");
    match required {
        RequireTls::None => false,
        RequireTls::ExternalOnly => insecure() && headers.get(Known::X_ENVOY_INTERNAL) != Some(b"true"),
        RequireTls::All => insecure(),
    }
}

impl fmt::Debug for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteTable")
            .field("name", &self.config.name)
            .field("virtual_hosts", &self.virtual_hosts.len())
            .field("routes", &self.routes().count())
            .finish()
    }
}
