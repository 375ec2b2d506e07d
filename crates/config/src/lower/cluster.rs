//! `Cluster`.

mod breakers;
mod discovery;
mod endpoints;
mod health_check;
mod outlier;
mod policy;
mod protocol;

pub(super) use endpoints::discovered as discovered_endpoints;

use super::bootstrap::Manager;
use super::number::{Wrapped, duration_field};
use super::{address, extension, transport_socket, value};
use crate::compile::{Compile, Invalid};
use crate::sources::DynamicUse;
use nuncio_api::pb::envoy::config::cluster::v3 as pb;
use nuncio_cluster::ClusterConfig;
use nuncio_cluster::config::{
    Discovery, HappyEyeballs, HttpProtocolOptions, TcpKeepalive, Transport, TransportMatch, Transports, UpstreamFilters,
};
use nuncio_lb::Policy;
use prost::Message;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// What most clusters have in common, kept once.
#[derive(Default)]
pub(super) struct Shared {
    policy: Arc<Policy>,
    http: Arc<HttpProtocolOptions>,
}

/// All clusters of `clusters`.
pub(super) fn clusters(clusters: &[pb::Cluster], manager: &Manager, cx: &mut Compile<'_>) -> Vec<Arc<ClusterConfig>> {
    let shared = Shared::default();
    let mut seen: HashMap<&str, usize> = HashMap::with_capacity(clusters.len());
    let mut lowered = Vec::with_capacity(clusters.len());
    for (index, cluster) in clusters.iter().enumerate() {
        let mut cx = cx.element("clusters", index);
        if let Some(first) = seen.insert(&cluster.name, index) {
            let text = format!("duplicate cluster {}: clusters[{first}] has this name already", cluster.name);
            cx.field("name").error_hint(text, "give each cluster a name of its own");
        }
        lowered.extend(self::cluster(cluster, manager, &shared, &mut cx).ok().map(Arc::new));
    }
    lowered
}

pub(super) fn cluster(
    cluster: &pb::Cluster,
    manager: &Manager,
    shared: &Shared,
    cx: &mut Compile<'_>,
) -> Result<ClusterConfig, Invalid> {
    let before = cx.errors();
    report_unsupported(cluster, cx);
    let uses_before = cx.references.dynamic.len();
    let transports = transports(cluster, cx);
    for used in cx.references.dynamic.iter_mut().skip(uses_before) {
        if let DynamicUse::Secret(secret) = used {
            secret.cluster = Some(cluster.name.as_str().into());
        }
    }
    let filters = filters(cluster, cx);
    let discovery = discovery::discovery(cluster, cx);
    let kind = discovery.as_ref().ok();
    let load_assignment = endpoints::load_assignment(cluster, kind, cx);
    let policy = policy::policy(cluster, kind, cx);
    let http = protocol::http_options(cluster, cx);
    let health_check = health_check::health_check(&cluster.health_checks, cx);
    let outlier = outlier::outlier_detection(cluster.outlier_detection.as_ref(), manager, cx);
    let circuit_breakers = breakers::circuit_breakers(cluster.circuit_breakers.as_ref(), cx);
    let upstream_bind = upstream_bind(cluster, manager, cx);
    let connect_timeout = duration_field(&cluster.connect_timeout, "connect_timeout", cx);
    let cleanup_interval = duration_field(&cluster.cleanup_interval, "cleanup_interval", cx);
    cx.unless_errors_since(before)?;
    let mut config = ClusterConfig::new(cluster.name.as_str(), discovery?);
    let (policy, common_lb) = policy?;
    let http = http?;
    config.lb_policy = if policy == *shared.policy { shared.policy.clone() } else { Arc::new(policy) };
    config.common_lb = common_lb;
    config.http = if http == *shared.http { shared.http.clone() } else { Arc::new(http) };
    config.load_assignment = load_assignment?;
    config.circuit_breakers = circuit_breakers?;
    config.outlier_detection = outlier?;
    config.health_check = health_check?;
    config.upstream_bind = upstream_bind?;
    config.transports = transports?;
    config.filters = filters?;
    config.connect_timeout = connect_timeout?.unwrap_or(config.connect_timeout);
    config.cleanup_interval = cleanup_interval?.unwrap_or(config.cleanup_interval);
    plain_fields(cluster, &mut config, cx);
    Ok(config)
}

/// The fields that need no translation.
fn plain_fields(cluster: &pb::Cluster, config: &mut ClusterConfig, cx: &mut Compile<'_>) {
    if !cluster.alt_stat_name.is_empty() {
        config.alt_stat_name = Some(cluster.alt_stat_name.as_str().into());
    }
    let limit = cluster.per_connection_buffer_limit_bytes.get();
    config.per_connection_buffer_limit_bytes = limit.unwrap_or(config.per_connection_buffer_limit_bytes);
    let connection = cluster.upstream_connection_options.as_ref();
    config.tcp_keepalive =
        connection.and_then(|options| options.tcp_keepalive.as_ref()).map(|keepalive| TcpKeepalive {
            probes: keepalive.keepalive_probes.get(),
            time: keepalive.keepalive_time.get(),
            interval: keepalive.keepalive_interval.get(),
        });
    config.happy_eyeballs = happy_eyeballs(connection);
    config.metadata = value::metadata(&cluster.metadata, "metadata", cx);
    config.wait_for_warm_on_init = cluster.wait_for_warm_on_init.value_or(true);
    config.close_connections_on_host_health_failure = cluster.close_connections_on_host_health_failure;
    config.ignore_health_on_host_removal = cluster.ignore_health_on_host_removal;
}

fn happy_eyeballs(options: Option<&pb::UpstreamConnectionOptions>) -> HappyEyeballs {
    use pb::upstream_connection_options::FirstAddressFamilyVersion as Family;
    let Some(config) = options.and_then(|options| options.happy_eyeballs_config.as_ref()) else {
        return HappyEyeballs::default();
    };
    HappyEyeballs {
        first_is_v6: match config.first_address_family_version() {
            Family::Default | Family::Pipe | Family::Internal => None,
            Family::V4 => Some(false),
            Family::V6 => Some(true),
        },
        first_count: config.first_address_family_count.value_or(1).max(1),
    }
}

/// `upstream_bind_config`, or the bootstrap's.
fn upstream_bind(
    cluster: &pb::Cluster,
    manager: &Manager,
    cx: &mut Compile<'_>,
) -> Result<Option<Box<nuncio_cluster::config::BindConfig>>, Invalid> {
    let lowered = match (&cluster.upstream_bind_config, &manager.upstream_bind) {
        (Some(own), _) => address::bind_config(own, &mut cx.field("upstream_bind_config"))?,
        (None, Some(common)) => {
            let mut at = cx.field("upstream_bind_config");
            at.path = crate::FieldPath::root().field("cluster_manager").field("upstream_bind_config");
            address::bind_config(common, &mut at)?
        }
        (None, None) => return Ok(None),
    };
    Ok(Some(Box::new(lowered)))
}

/// `transport_socket` and `transport_socket_matches`; none if all connections are bare.
fn transports(cluster: &pb::Cluster, cx: &mut Compile<'_>) -> Result<Option<Arc<Transports>>, Invalid> {
    let before = cx.errors();
    let scope = cx.store.scope(&format!("cluster.{}", nuncio_stats::sanitize(observed_name(cluster))), &[]);
    let default = match &cluster.transport_socket {
        Some(socket) => transport_socket::upstream(socket, &scope, &mut cx.field("transport_socket")),
        None => Ok(Transport::default()),
    };
    let mut matches = Vec::with_capacity(cluster.transport_socket_matches.len());
    for (index, entry) in cluster.transport_socket_matches.iter().enumerate() {
        let mut cx = cx.element("transport_socket_matches", index);
        let pb::cluster::TransportSocketMatch { name, r#match, transport_socket } = entry;
        let transport = match transport_socket {
            Some(socket) => transport_socket::upstream(socket, &scope, &mut cx.field("transport_socket")),
            None => Ok(Transport::default()),
        };
        let criteria = r#match.as_ref().map(value::structure).unwrap_or_default();
        matches.extend(transport.ok().map(|transport| TransportMatch {
            name: name.as_str().into(),
            criteria,
            transport,
        }));
    }
    if cluster.transport_socket_matcher.is_some() {
        cx.refuse("transport_socket_matcher", "connections would get other transport sockets than it says");
    }
    cx.unless_errors_since(before)?;
    let transports = Transports { default: default?, matches };
    Ok((transports != Transports::default()).then(|| Arc::new(transports)))
}

/// `filters`; none if there are none.
fn filters(cluster: &pb::Cluster, cx: &mut Compile<'_>) -> Result<Option<Arc<UpstreamFilters>>, Invalid> {
    if cluster.filters.is_empty() {
        return Ok(None);
    }
    let before = cx.errors();
    let scope = cx.store.scope(&format!("cluster.{}", nuncio_stats::sanitize(observed_name(cluster))), &[]);
    let mut cx = cx.scoped(scope);
    let mut identity = Vec::new();
    let mut factories = Vec::with_capacity(cluster.filters.len());
    for (index, filter) in cluster.filters.iter().enumerate() {
        let mut cx = cx.element("filters", index);
        let pb::Filter { name, typed_config, config_discovery } = filter;
        if config_discovery.is_some() {
            cx.field("config_discovery").error_hint("filters of clusters are not discovered", "use typed_config");
            continue;
        }
        let registry = cx.registry;
        let factory = extension::compile(name, typed_config.as_ref(), &registry.upstream, "upstream filter", &mut cx);
        factories.extend(factory.ok());
        identity.extend(filter.encode_length_delimited_to_vec());
    }
    cx.unless_errors_since(before)?;
    Ok(Some(Arc::new(UpstreamFilters { identity: identity.into(), factories })))
}

/// What stats call the cluster.
fn observed_name(cluster: &pb::Cluster) -> &str {
    if cluster.alt_stat_name.is_empty() { &cluster.name } else { &cluster.alt_stat_name }
}

/// Reports the fields that are not acted on, with all fields named, so that none is forgotten.
fn report_unsupported(cluster: &pb::Cluster, cx: &mut Compile<'_>) {
    #[allow(deprecated)]
    let pb::Cluster {
        // Lowered: see `cluster`, and the modules of the parts.
        transport_socket_matches: _,
        transport_socket_matcher: _,
        name: _,
        alt_stat_name: _,
        connect_timeout: _,
        per_connection_buffer_limit_bytes: _,
        lb_policy: _,
        load_assignment: _,
        health_checks: _,
        max_requests_per_connection: _,
        circuit_breakers: _,
        common_http_protocol_options: _,
        http_protocol_options: _,
        http2_protocol_options: _,
        typed_extension_protocol_options: _,
        dns_refresh_rate: _,
        dns_jitter: _,
        dns_failure_refresh_rate: _,
        respect_dns_ttl: _,
        dns_lookup_family: _,
        dns_resolvers: _,
        use_tcp_for_dns_lookups: _,
        dns_resolution_config: _,
        typed_dns_resolver_config: _,
        wait_for_warm_on_init: _,
        outlier_detection: _,
        cleanup_interval: _,
        upstream_bind_config: _,
        common_lb_config: _,
        transport_socket: _,
        metadata: _,
        protocol_selection: _,
        upstream_connection_options,
        close_connections_on_host_health_failure: _,
        ignore_health_on_host_removal: _,
        load_balancing_policy: _,
        track_timeout_budgets,
        track_cluster_stats,
        connection_pool_per_downstream_connection,
        cluster_discovery_type: _,
        lb_config: _,
        eds_cluster_config: _,
        stats_matcher,
        per_connection_buffer_high_watermark_timeout,
        upstream_http_protocol_options: _,
        lb_subset_config: _,
        filters: _,
        lrs_server,
        lrs_report_endpoint_metrics,
        upstream_config,
        preconnect_policy,
        queuing_policies,
    } = cluster;
    for (set, field) in [
        (stats_matcher.is_some(), "stats_matcher"),
        (per_connection_buffer_high_watermark_timeout.is_some(), "per_connection_buffer_high_watermark_timeout"),
        (lrs_server.is_some(), "lrs_server"),
        (!lrs_report_endpoint_metrics.is_empty(), "lrs_report_endpoint_metrics"),
        (preconnect_policy.is_some(), "preconnect_policy"),
        (queuing_policies.is_some(), "queuing_policies"),
        (*track_timeout_budgets, "track_timeout_budgets"),
    ] {
        cx.unsupported_if(set, field);
    }
    if let Some(options) = upstream_connection_options {
        let pb::UpstreamConnectionOptions {
            tcp_keepalive: _,
            set_local_interface_name_on_upstream_connections,
            happy_eyeballs_config: _,
        } = options;
        let mut cx = cx.field("upstream_connection_options");
        let field = "set_local_interface_name_on_upstream_connections";
        cx.unsupported_if(*set_local_interface_name_on_upstream_connections, field);
    }
    if track_cluster_stats.is_some_and(|track| track.per_endpoint_stats) {
        cx.field("track_cluster_stats").unsupported("per_endpoint_stats");
    }
    if track_cluster_stats.is_some_and(|track| track.timeout_budgets) {
        cx.field("track_cluster_stats").unsupported("timeout_budgets");
    }
    if track_cluster_stats.is_some_and(|track| track.request_response_sizes) {
        cx.field("track_cluster_stats").unsupported("request_response_sizes");
    }
    if *connection_pool_per_downstream_connection {
        let why = "requests of different clients would share connections";
        cx.refuse("connection_pool_per_downstream_connection", why);
    }
    if let Some(extension) = upstream_config
        && extension.name != "envoy.filters.connection_pools.http.generic"
    {
        cx.field("upstream_config").error(format!("the upstream {} is not built", extension.name));
    }
}

/// Whether the cluster finds its hosts by DNS.
fn is_dns(discovery: &Discovery) -> bool {
    matches!(discovery, Discovery::StrictDns(_) | Discovery::LogicalDns(_))
}

/// A duration, or a default that is none.
fn or_none(timeout: Option<Duration>) -> Option<Duration> {
    timeout.filter(|timeout| !timeout.is_zero())
}
