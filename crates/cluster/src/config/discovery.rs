//! Where the hosts of a cluster come from.

use nuncio_headers::HeaderName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// `Cluster.type`.
#[derive(Debug, Clone, PartialEq)]
pub enum Discovery {
    /// `STATIC`: the addresses of `load_assignment`.
    Static,
    /// `STRICT_DNS`: every address that the names of `load_assignment` resolve to.
    StrictDns(Box<DnsOptions>),
    /// `LOGICAL_DNS`: one host, whose address is the first one that the name resolves to.
    LogicalDns(Box<DnsOptions>),
    /// `EDS`: what discovery says.
    Eds(Box<Eds>),
    /// `ORIGINAL_DST`: the address that the client wanted to reach.
    OriginalDst(Box<OriginalDst>),
}

impl Discovery {
    /// The name in `/config_dump` and diagnostics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Discovery::Static => "STATIC",
            Discovery::StrictDns(_) => "STRICT_DNS",
            Discovery::LogicalDns(_) => "LOGICAL_DNS",
            Discovery::Eds(_) => "EDS",
            Discovery::OriginalDst(_) => "ORIGINAL_DST",
        }
    }
}

/// `Cluster.EdsClusterConfig`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eds {
    /// `service_name`, or the cluster's name.
    pub service_name: Arc<str>,
    /// A number that equal sources share.
    pub source: u64,
}

/// The DNS fields of a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct DnsOptions {
    /// `dns_lookup_family`. Default AUTO.
    pub lookup_family: DnsLookupFamily,
    /// `dns_refresh_rate`: time between queries, above 1 ms. Default 5 s.
    pub refresh_rate: Duration,
    /// `dns_jitter`: at most so much is added to each interval. Default 0.
    pub jitter: Duration,
    /// `respect_dns_ttl`: the shortest TTL of the answer takes the place of the refresh rate. Default false.
    pub respect_ttl: bool,
    /// `dns_failure_refresh_rate`: used in place of the refresh rate while queries fail.
    pub failure_refresh_rate: Option<BackOff>,
    /// `typed_dns_resolver_config`, or the old `dns_resolvers`; `None` takes the proxy's resolver.
    pub resolver: Option<Arc<ResolverOptions>>,
}

impl Default for DnsOptions {
    fn default() -> Self {
        DnsOptions {
            lookup_family: DnsLookupFamily::Auto,
            refresh_rate: Duration::from_secs(5),
            jitter: Duration::ZERO,
            respect_ttl: false,
            failure_refresh_rate: None,
            resolver: None,
        }
    }
}

/// `Cluster.DnsLookupFamily`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DnsLookupFamily {
    /// IPv6, or IPv4 if there is none.
    #[default]
    Auto,
    /// IPv4.
    V4Only,
    /// IPv6.
    V6Only,
    /// IPv4, or IPv6 if there is none.
    V4Preferred,
    /// Both.
    All,
}

/// `Cluster.RefreshRate`: exponential, with jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    /// `base_interval`, at least 1 ms.
    pub base_interval: Duration,
    /// `max_interval`; default ten times the base.
    pub max_interval: Duration,
}

/// Which name servers are asked, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolverOptions {
    /// Addresses of name servers; empty takes those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// Whether the servers of `/etc/resolv.conf` are asked too (`use_resolvers_as_fallback`).
    pub system_fallback: bool,
    /// `dns_resolver_options.use_tcp_for_dns_lookups`.
    pub use_tcp: bool,
    /// `dns_resolver_options.no_default_search_domain`: names are not completed with the search list.
    pub no_default_search_domain: bool,
    /// `query_timeout_seconds` of one try. Default 5 s.
    pub query_timeout: Option<Duration>,
    /// `query_tries`. Default 4.
    pub query_tries: Option<u32>,
}

/// `Cluster.OriginalDstLbConfig`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OriginalDst {
    /// `use_http_header`: a request header may name the address.
    pub use_http_header: bool,
    /// `http_header_name`; default `x-envoy-original-dst-host`.
    pub http_header_name: Option<HeaderName>,
    /// `upstream_port_override`: takes the place of the port.
    pub upstream_port_override: Option<u16>,
    /// `metadata_key`: dynamic metadata that may name the address: namespace, then path.
    pub metadata_key: Option<(Arc<str>, Vec<Arc<str>>)>,
}
