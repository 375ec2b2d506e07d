//! `envoy.config.endpoint.v3.ClusterLoadAssignment`.

use nuncio_stream_info::{Address, Locality, Metadata};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The hosts that configuration names.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadAssignment {
    /// `endpoints`: localities, each with its priority.
    pub localities: Vec<LocalityEndpoints>,
    /// `policy.overprovisioning_factor`, in percent. Default 140.
    pub overprovisioning_factor: u32,
    /// `policy.weighted_priority_health`. Default false.
    pub weighted_priority_health: bool,
    /// `policy.drop_overloads`: how many requests are answered 503 at once, in millionths. Default 0.
    pub drop_overload: u32,
    /// `policy.endpoint_stale_after`: without another assignment in this time the endpoints are gone. Default none.
    pub stale_after: Option<Duration>,
}

impl Default for LoadAssignment {
    fn default() -> Self {
        LoadAssignment {
            localities: Vec::new(),
            overprovisioning_factor: 140,
            weighted_priority_health: false,
            drop_overload: 0,
            stale_after: None,
        }
    }
}

/// `LocalityLbEndpoints`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LocalityEndpoints {
    /// `locality`.
    pub locality: Locality,
    /// `priority`, 0 to 128. 0 is the highest.
    pub priority: u32,
    /// `load_balancing_weight`; 0 if not set.
    pub weight: u32,
    /// `metadata`, of which `transport_socket_matches` make use.
    pub metadata: Option<Arc<Metadata>>,
    /// `lb_endpoints`.
    pub endpoints: Vec<Endpoint>,
}

/// `LbEndpoint`.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// `endpoint.address`.
    pub address: EndpointAddress,
    /// `endpoint.additional_addresses`, tried when a connection to the first one is slow.
    pub additional_addresses: Vec<EndpointAddress>,
    /// `endpoint.hostname`: takes the place of the authority with `auto_host_rewrite`.
    pub hostname: Option<Arc<str>>,
    /// `health_status`.
    pub health_status: HealthStatus,
    /// `load_balancing_weight`, at least 1. Default 1.
    pub weight: u32,
    /// `metadata`.
    pub metadata: Option<Arc<Metadata>>,
    /// `endpoint.health_check_config`.
    pub health_check: Option<Box<EndpointHealthCheck>>,
}

impl Endpoint {
    /// An endpoint with Envoy's defaults.
    pub fn new(address: impl Into<EndpointAddress>) -> Self {
        Endpoint {
            address: address.into(),
            additional_addresses: Vec::new(),
            hostname: None,
            health_status: HealthStatus::Unknown,
            weight: 1,
            metadata: None,
            health_check: None,
        }
    }
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// An address.
    Resolved(Address),
    /// A name that DNS resolves, and a port.
    Name {
        /// `socket_address.address`.
        host: Arc<str>,
        /// `socket_address.port_value`.
        port: u16,
    },
}

impl From<SocketAddr> for EndpointAddress {
    fn from(address: SocketAddr) -> Self {
        EndpointAddress::Resolved(Address::Ip(address))
    }
}

impl From<Address> for EndpointAddress {
    fn from(address: Address) -> Self {
        EndpointAddress::Resolved(address)
    }
}

/// `Endpoint.HealthCheckConfig`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EndpointHealthCheck {
    /// `port_value`: checked in place of the endpoint's port.
    pub port: Option<u16>,
    /// `hostname`: the `host` header of HTTP checks.
    pub hostname: Option<Arc<str>>,
    /// `address`: checked in place of the endpoint's address.
    pub address: Option<Address>,
    /// `disable_active_health_check`.
    pub disabled: bool,
}

/// `core.v3.HealthStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HealthStatus {
    /// Not known: taken as healthy.
    #[default]
    Unknown,
    /// Healthy.
    Healthy,
    /// Takes no load.
    Unhealthy,
    /// Takes no new load.
    Draining,
    /// Takes no load: its checks time out.
    Timeout,
    /// Takes what healthy hosts can't.
    Degraded,
}

impl HealthStatus {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            HealthStatus::Unknown => "UNKNOWN",
            HealthStatus::Healthy => "HEALTHY",
            HealthStatus::Unhealthy => "UNHEALTHY",
            HealthStatus::Draining => "DRAINING",
            HealthStatus::Timeout => "TIMEOUT",
            HealthStatus::Degraded => "DEGRADED",
        }
    }
}
