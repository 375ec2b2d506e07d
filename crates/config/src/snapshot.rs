//! What a configuration compiles to: plain, immutable, shared by all threads.
//!
//! *Invariant*: nothing here names a protobuf message or does I/O. Applying a snapshot is handing it out.

use crate::lower::ResourceContext;
use crate::overload::{OverloadConfig, Watchdogs};
use crate::sources::{ApiSource, DynamicUse, Source};
use crate::tls::{DownstreamTls, TlsUse};
use nuncio_cluster::ClusterConfig;
use nuncio_filter::{AccessLogs, ListenerFilterFactory, NetworkFilterFactory, Runtime, TerminalFilterFactory};
use nuncio_io::Address;
use nuncio_io::listen::ListenSpec;
use nuncio_matcher::FilterChainMatcher;
use nuncio_route::RouteTable;
use nuncio_stream_info::Metadata;
use std::sync::Arc;
use std::time::Duration;

/// A compiled bootstrap.
pub struct Snapshot {
    /// `node`, with what the command line set.
    pub node: Node,
    /// `admin`.
    pub admin: Option<AdminConfig>,
    /// `static_resources.listeners`.
    pub listeners: Vec<Arc<ListenerConfig>>,
    /// `static_resources.clusters`.
    pub clusters: Vec<Arc<ClusterConfig>>,
    /// Static route configurations by name, for `/config_dump`; connection managers hold their own handle.
    pub routes: Vec<Arc<RouteTable>>,
    /// The TLS contexts, to be made again when their files change.
    pub tls: Vec<Arc<TlsUse>>,
    /// What static resources depend on that comes from elsewhere.
    pub uses: Vec<DynamicUse>,
    /// `dynamic_resources`.
    pub dynamic: DynamicConfig,
    /// What dynamic resources are lowered with.
    pub resources: ResourceContext,
    /// `layered_runtime`.
    pub runtime: Arc<Runtime>,
    /// The name of the layer of `runtime` that `/runtime_modify` changes; none if the configuration has no `admin_layer`.
    pub admin_runtime_layer: Option<String>,
    /// `stats_flush_interval`. Default 5 s.
    pub stats_flush_interval: Duration,
    /// `cluster_manager.outlier_detection.event_log_path`.
    pub outlier_event_log: Option<Arc<str>>,
    /// `cluster_manager.local_cluster_name`: the cluster of the proxies themselves.
    pub local_cluster: Option<Arc<str>>,
    /// `overload_manager`.
    pub overload: Option<Arc<OverloadConfig>>,
    /// `watchdogs`.
    pub watchdogs: Watchdogs,
    /// `application_log_config.log_format`.
    pub log_format: Option<LogFormat>,
    /// The resources as received, for `/config_dump`.
    pub dump: ConfigDump,
}

/// `dynamic_resources`.
#[derive(Debug, Clone, Default)]
pub struct DynamicConfig {
    /// `ads_config`.
    pub ads: Option<Arc<ApiSource>>,
    /// `cds_config`.
    pub cds: Option<Source>,
    /// `lds_config`.
    pub lds: Option<Source>,
    /// Runtime layers that come from elsewhere: the name of the resource, the place of the layer, and its source.
    pub rtds: Vec<(String, usize, Source)>,
    /// `cluster_manager.load_stats_config`: who is told of the load of clusters.
    pub load_stats: Option<Arc<ApiSource>>,
}

/// `node`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// `id` or `--service-node`.
    pub id: String,
    /// `cluster` or `--service-cluster`.
    pub cluster: String,
    /// `locality.region`.
    pub region: String,
    /// `locality.zone` or `--service-zone`.
    pub zone: String,
    /// `locality.sub_zone`.
    pub sub_zone: String,
    /// `metadata`, as wire bytes of a `google.protobuf.Struct`.
    pub metadata: Option<Vec<u8>>,
}

/// `admin`.
pub struct AdminConfig {
    /// `address`.
    pub address: ListenSpec,
    /// `access_log` and the deprecated `access_log_path`.
    pub access_logs: AccessLogs,
}

/// The format of the program's own log (`application_log_config.log_format`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogFormat {
    /// `text_format`, in spdlog's pattern language.
    Text(String),
    /// `json_format`: a JSON object whose values are patterns.
    Json(String),
}

/// The resources of `/config_dump`, as wire bytes: message trees would cost many times the memory.
#[derive(Debug, Clone, Default)]
pub struct ConfigDump {
    /// `envoy.config.bootstrap.v3.Bootstrap`.
    pub bootstrap: Arc<[u8]>,
    /// The fields that are set and not acted on: their paths.
    pub unsupported: Vec<String>,
}

/// `traffic_direction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrafficDirection {
    /// `UNSPECIFIED`.
    #[default]
    Unspecified,
    /// `INBOUND`.
    Inbound,
    /// `OUTBOUND`.
    Outbound,
}

/// `drain_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DrainType {
    /// Drained on update, removal and `/healthcheck/fail`.
    #[default]
    Default,
    /// Drained on update and removal only.
    ModifyOnly,
}

/// `envoy.config.listener.v3.Listener`.
pub struct ListenerConfig {
    /// `name`; made up from the address if empty.
    pub name: Arc<str>,
    /// `address` and `additional_addresses`, each with its socket options.
    pub addresses: Vec<ListenSpec>,
    /// `bind_to_port`; without it the listener only gets connections that another hands over. Default yes.
    pub bind_to_port: bool,
    /// `use_original_dst`: connections are handed to the listener of their original destination. Default no.
    pub use_original_dst: bool,
    /// `listener_filters`, in order.
    pub listener_filters: Vec<Arc<dyn ListenerFilterFactory>>,
    /// `listener_filters_timeout`. Default 15 s; none waits for ever.
    pub listener_filters_timeout: Option<Duration>,
    /// `continue_on_listener_filters_timeout`. Default no: the connection is closed.
    pub continue_on_listener_filters_timeout: bool,
    /// Which of `chains` a connection gets, by index; `default_filter_chain` is the last one.
    pub matcher: FilterChainMatcher,
    /// `filter_chains`, then `default_filter_chain`.
    pub chains: Vec<Arc<FilterChain>>,
    /// Whether the last chain is `default_filter_chain`.
    pub has_default_chain: bool,
    /// `per_connection_buffer_limit_bytes`. Default 1 MiB.
    pub buffer_limit: u32,
    /// `traffic_direction`.
    pub traffic_direction: TrafficDirection,
    /// `drain_type`.
    pub drain_type: DrainType,
    /// `access_log`.
    pub access_logs: AccessLogs,
    /// `stat_prefix`; empty stands for the address.
    pub stat_prefix: String,
    /// `metadata`.
    pub metadata: Option<Arc<Metadata>>,
    /// `max_connections_to_accept_per_socket_event`. Default 1.
    pub max_accepts_per_event: Option<u32>,
    /// `ignore_global_conn_limit`.
    pub ignore_global_connection_limit: bool,
    /// `bypass_overload_manager`. Default no.
    pub bypasses_overload_manager: bool,
    /// Hash of the resource's bytes: an equal listener is the same listener.
    pub hash: u64,
    /// Hash of all but the filter chains: where it stays, connections of chains that stay go on.
    pub hash_without_chains: u64,
    /// The resource as wire bytes, for `/config_dump`.
    pub wire: Arc<[u8]>,
}

/// `envoy.config.listener.v3.FilterChain`.
pub struct FilterChain {
    /// Hash of the message: an equal chain is the same chain.
    pub hash: u64,
    /// `name`; empty if it has none.
    pub name: Arc<str>,
    /// `metadata`.
    pub metadata: Option<Arc<Metadata>>,
    /// The filters before the last.
    pub filters: Vec<Arc<dyn NetworkFilterFactory>>,
    /// The last filter; none closes the connection, as Envoy does with an empty chain.
    pub terminal: Option<Arc<dyn TerminalFilterFactory>>,
    /// `transport_socket`: its TLS context; none for bare sockets.
    pub tls: Option<Arc<DownstreamTls>>,
    /// `transport_socket_connect_timeout`. Default none.
    pub transport_connect_timeout: Option<Duration>,
}

impl ListenerConfig {
    /// An address that both listen on. Port 0 is another one each time.
    pub fn shared_address(&self, other: &ListenerConfig) -> Option<&Address> {
        let addresses = self.addresses.iter().map(|spec| &spec.address);
        let mut fixed = addresses.filter(|address| address.ip().is_none_or(|ip| ip.port() != 0));
        fixed.find(|address| other.addresses.iter().any(|theirs| theirs.address == **address))
    }

    /// The name of the listener in statistics, if its address is the one that is configured: `127.0.0.1_80`.
    pub fn stats_name(&self) -> String {
        if !self.stat_prefix.is_empty() {
            return self.stat_prefix.clone();
        }
        let address = self.addresses.first().map(|spec| spec.address.to_string()).unwrap_or_default();
        nuncio_stats::sanitize(&address)
    }
}
