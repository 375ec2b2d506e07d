//! A cluster's configuration as plain data. Owns the defaults; lowering from protobuf is the `config` crate's job.

mod balancing;
mod breakers;
mod discovery;
mod endpoints;
mod filters;
mod health_check;
mod outlier;
mod protocol;
mod transport;

pub use balancing::{CommonLb, HashPolicies, MetadataPath, OverrideHost, OverrideSource};
pub use breakers::{CircuitBreakers, RetryBudget, Thresholds};
pub use discovery::{BackOff, Discovery, DnsLookupFamily, DnsOptions, Eds, OriginalDst, ResolverOptions};
pub use endpoints::{Endpoint, EndpointAddress, EndpointHealthCheck, HealthStatus, LoadAssignment, LocalityEndpoints};
pub use filters::{UpstreamFilterFactory, UpstreamFilters, UpstreamOpened};
pub use health_check::{
    GrpcHealthCheck, HealthCheck, HealthChecker, HttpHealthCheck, Payload, ReceiveMatcher, RequestHeader,
    ServiceNameMatcher, TcpHealthCheck,
};
pub use outlier::OutlierDetection;
pub use protocol::{
    AutoSni, BindConfig, HappyEyeballs, Http1Options, HttpProtocolOptions, SocketOption, SocketOptionState,
    SourceAddress, TcpKeepalive, UpstreamProtocol,
};
pub use transport::{ProxyHeader, ProxyVersion, Transport, TransportMatch, Transports, UpstreamTls};

use nuncio_lb::Policy;
use nuncio_stream_info::Metadata;
use std::sync::Arc;
use std::time::Duration;

/// `envoy.config.cluster.v3.Cluster`.
///
/// Equal configurations make no update. Only what differs from the defaults is boxed or shared, so that 10,000 plain
/// clusters stay small.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterConfig {
    /// `name`.
    pub name: Arc<str>,
    /// `alt_stat_name`: what stats and logs call the cluster, if not by its name.
    pub alt_stat_name: Option<Arc<str>>,
    /// `type` or `cluster_type`: where its hosts come from.
    pub discovery: Discovery,
    /// `connect_timeout`. Default 5 s.
    pub connect_timeout: Duration,
    /// `per_connection_buffer_limit_bytes`: soft limit of what is buffered for one connection. Default 1 MiB.
    pub per_connection_buffer_limit_bytes: u32,
    /// `lb_policy` with its options, or the first known entry of `load_balancing_policy`. Default round robin.
    pub lb_policy: Arc<Policy>,
    /// `common_lb_config`.
    pub common_lb: CommonLb,
    /// `load_assignment`.
    pub load_assignment: LoadAssignment,
    /// `circuit_breakers`.
    pub circuit_breakers: CircuitBreakers,
    /// `outlier_detection`; `None` turns it off.
    pub outlier_detection: Option<Box<OutlierDetection>>,
    /// `health_checks`: like Envoy at most one.
    pub health_check: Option<Box<HealthCheck>>,
    /// `typed_extension_protocol_options`, or the old `common_http_protocol_options` and `http_protocol_options`.
    pub http: Arc<HttpProtocolOptions>,
    /// `upstream_bind_config`, or the bootstrap's.
    pub upstream_bind: Option<Box<BindConfig>>,
    /// `upstream_connection_options.tcp_keepalive`.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// `upstream_connection_options.happy_eyeballs_config`.
    pub happy_eyeballs: HappyEyeballs,
    /// `transport_socket` and `transport_socket_matches`; `None`: bare sockets.
    pub transports: Option<Arc<Transports>>,
    /// `filters`; none if there are none.
    pub filters: Option<Arc<UpstreamFilters>>,
    /// `metadata`.
    pub metadata: Option<Arc<Metadata>>,
    /// `cleanup_interval`: how long an `ORIGINAL_DST` host may be unused. Default 5 s.
    pub cleanup_interval: Duration,
    /// `wait_for_warm_on_init`: the cluster is ready only after its first DNS answer and health checks. Default true.
    pub wait_for_warm_on_init: bool,
    /// `close_connections_on_host_health_failure`: an unhealthy host loses its connections at once. Default false.
    pub close_connections_on_host_health_failure: bool,
    /// `ignore_health_on_host_removal`: a host that discovery drops is removed although health checks pass. Default
    /// false: it stays until it fails one.
    pub ignore_health_on_host_removal: bool,
}

impl ClusterConfig {
    /// A cluster with Envoy's defaults.
    pub fn new(name: impl Into<Arc<str>>, discovery: Discovery) -> Self {
        ClusterConfig {
            name: name.into(),
            alt_stat_name: None,
            discovery,
            connect_timeout: Duration::from_secs(5),
            per_connection_buffer_limit_bytes: 1024 * 1024,
            lb_policy: Arc::default(),
            common_lb: CommonLb::default(),
            load_assignment: LoadAssignment::default(),
            circuit_breakers: CircuitBreakers::default(),
            outlier_detection: None,
            health_check: None,
            http: Arc::default(),
            upstream_bind: None,
            tcp_keepalive: None,
            happy_eyeballs: HappyEyeballs::default(),
            transports: None,
            filters: None,
            metadata: None,
            cleanup_interval: Duration::from_secs(5),
            wait_for_warm_on_init: true,
            close_connections_on_host_health_failure: false,
            ignore_health_on_host_removal: false,
        }
    }

    /// What stats and logs call the cluster: `alt_stat_name`, or the name.
    pub fn observability_name(&self) -> &Arc<str> {
        self.alt_stat_name.as_ref().unwrap_or(&self.name)
    }
}
