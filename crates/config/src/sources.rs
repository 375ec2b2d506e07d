//! Where resources come from that do not stand in the configuration itself (`ConfigSource`), as plain values.
//!
//! Lowering notes what a resource depends on ([`DynamicUse`]); who serves the configuration subscribes to it.

use crate::compile::Facts;
use nuncio_filter::grpc::GrpcService;
use nuncio_filter::{LiveHttpFilter, LiveListenerFilter, LiveNetworkFilter, LiveTerminalFilter};
use nuncio_route::{LiveRoutes, LiveScopes, OnDemand};
use nuncio_stats::Scope;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// `initial_fetch_timeout`, where none is given.
pub const INITIAL_FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// A source, and how long its first answer is waited for.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Where.
    pub from: From,
    /// `initial_fetch_timeout`: after that, start goes on without the resource. None waits for ever. Default 15 s.
    pub initial_fetch_timeout: Option<Duration>,
    /// A number that equal sources share.
    pub digest: u64,
}

/// `ConfigSource.config_source_specifier`.
#[derive(Debug, Clone, PartialEq)]
pub enum From {
    /// `ads`: the one aggregated stream of `dynamic_resources.ads_config`.
    Ads,
    /// `api_config_source`: a stream, or polling, of its own.
    Api(Arc<ApiSource>),
    /// `path_config_source`.
    File(FileSource),
}

/// `PathConfigSource`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSource {
    /// `path`: a file that holds a `DiscoveryResponse`.
    pub path: PathBuf,
    /// `watched_directory`: a directory whose replaced entries mean that the file changed.
    pub watched_directory: Option<PathBuf>,
}

/// `ApiConfigSource`.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiSource {
    /// `api_type`.
    pub kind: ApiKind,
    /// `grpc_services`, of which the first is used.
    pub service: Option<GrpcService>,
    /// `retry_back_off` of that service: base and longest wait between streams. Default 500 ms and 30 s.
    pub back_off: (Duration, Duration),
    /// `cluster_names`, for REST.
    pub clusters: Vec<Arc<str>>,
    /// `refresh_delay`, for REST.
    pub refresh_delay: Duration,
    /// `request_timeout`, for REST. Default 1 s.
    pub request_timeout: Duration,
    /// `set_node_on_first_message_only`.
    pub node_on_first_only: bool,
    /// `rate_limit_settings`: `max_tokens` (default 100) and `fill_rate` (default 10 a second).
    pub rate_limit: Option<(u32, f64)>,
}

/// `ApiConfigSource.ApiType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiKind {
    /// `REST`: polling.
    Rest,
    /// `GRPC` and `AGGREGATED_GRPC`: state of the world.
    Grpc,
    /// `DELTA_GRPC` and `AGGREGATED_DELTA_GRPC`: incremental.
    DeltaGrpc,
}

/// A resource that another one depends on.
#[derive(Debug, Clone)]
pub enum DynamicUse {
    /// The endpoints of an EDS cluster.
    Endpoints(EndpointsUse),
    /// The routes of a connection manager.
    Routes(Arc<RoutesUse>),
    /// A secret of a TLS context.
    Secret(SecretUse),
    /// The configuration of a filter.
    Extension(Arc<ExtensionUse>),
    /// The scopes of a connection manager.
    Scopes(Arc<ScopesUse>),
    /// More virtual hosts of a route configuration.
    VirtualHosts(VirtualHostsUse),
    /// Clusters that are subscribed to when requests need them.
    OnDemandClusters(Arc<OnDemandClustersUse>),
}

/// `ExtensionConfigSource` of a filter.
#[derive(Debug)]
pub struct ExtensionUse {
    /// The name of the filter, and of the resource.
    pub name: Arc<str>,
    /// `config_source`.
    pub source: Source,
    /// `type_urls`, as full names of messages: what a configuration may be.
    pub type_urls: Vec<String>,
    /// Whether a listener waits for it: not with `apply_default_config_without_warming`.
    pub is_awaited: bool,
    /// Where it is put.
    pub target: LiveExtension,
    pub(crate) facts: Facts,
    pub(crate) scope: Scope,
}

/// The place of a filter that discovery configures.
#[derive(Debug, Clone)]
pub enum LiveExtension {
    /// In the chain of a connection manager.
    Http(Arc<LiveHttpFilter>),
    /// In a filter chain.
    Network(Arc<LiveNetworkFilter>),
    /// Last in a filter chain.
    Terminal(Arc<LiveTerminalFilter>),
    /// Before filter chains.
    Listener(Arc<LiveListenerFilter>),
}

impl LiveExtension {
    /// Puts the default in force, or nothing if there is none.
    pub fn fall_back(&self) {
        match self {
            LiveExtension::Http(live) => live.fall_back(),
            LiveExtension::Network(live) => live.fall_back(),
            LiveExtension::Terminal(live) => live.fall_back(),
            LiveExtension::Listener(live) => live.fall_back(),
        }
    }

    /// The type in the names of statistics.
    pub fn kind(&self) -> &'static str {
        match self {
            LiveExtension::Http(_) => "http_filter",
            LiveExtension::Network(_) | LiveExtension::Terminal(_) => "network_filter",
            LiveExtension::Listener(_) => "listener_filter",
        }
    }
}

/// `Cluster.eds_cluster_config`.
#[derive(Debug, Clone)]
pub struct EndpointsUse {
    /// The cluster.
    pub cluster: Arc<str>,
    /// `service_name`, or the cluster's name.
    pub name: Arc<str>,
    /// `eds_config`.
    pub source: Source,
}

/// `HttpConnectionManager.rds`.
#[derive(Debug)]
pub struct RoutesUse {
    /// `route_config_name`.
    pub name: Arc<str>,
    /// `config_source`.
    pub source: Source,
    /// Where the table is put.
    pub routes: Arc<LiveRoutes>,
    /// `http.<prefix>.rds.<name>`.
    pub scope: Scope,
    /// `http.<prefix>.rds.vhds.<name>`.
    pub virtual_hosts_scope: Scope,
}

impl RoutesUse {
    /// The routes `name`; `manager` is `http.<prefix>`.
    pub fn new((name, source): (Arc<str>, Source), routes: Arc<LiveRoutes>, manager: &Scope) -> RoutesUse {
        let text = nuncio_stats::sanitize(&name);
        RoutesUse {
            source,
            routes,
            scope: manager.child(&format!("rds.{text}")),
            virtual_hosts_scope: manager.child(&format!("rds.vhds.{text}")),
            name,
        }
    }
}

/// `ScopedRoutes.scoped_rds`.
#[derive(Debug)]
pub struct ScopesUse {
    /// `name`.
    pub name: Arc<str>,
    /// `scoped_rds_config_source`.
    pub source: Source,
    /// `rds_config_source`: where the routes of scopes come from. Default the source of the scopes.
    pub routes_source: Source,
    /// Where the scopes are put.
    pub scopes: Arc<LiveScopes>,
    /// `http.<prefix>.scoped_rds.<name>`.
    pub scope: Scope,
    /// `http.<prefix>`.
    pub manager: Scope,
}

/// `RouteConfiguration.vhds`.
#[derive(Debug, Clone)]
pub struct VirtualHostsUse {
    /// `config_source`.
    pub source: Source,
}

/// `OnDemandCds` of the on-demand filter.
#[derive(Debug)]
pub struct OnDemandClustersUse {
    /// `source`.
    pub source: Source,
    /// How requests ask for clusters, by name.
    pub on_demand: Arc<OnDemand>,
}

/// `SdsSecretConfig`.
#[derive(Debug, Clone)]
pub struct SecretUse {
    /// `name`.
    pub name: Arc<str>,
    /// `sds_config`.
    pub source: Source,
    /// The cluster whose transport socket needs it; none if a listener's does.
    pub cluster: Option<Arc<str>>,
}
