//! `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`.

use super::filter::{ClusterWeight, TcpProxy};
use super::tunnel::Tunneling;
use nuncio_api::pb::envoy::extensions::filters::network::tcp_proxy::v3 as pb;
use nuncio_config::compile::{Compile, Invalid, NetworkExtension, NetworkFactory};
use nuncio_config::lower;
use nuncio_stats::names::TcpProxyStats;
use pb::tcp_proxy::ClusterSpecifier;
use std::sync::Arc;
use std::time::Duration;

/// The extension.
pub struct TcpProxyExtension;

/// `idle_timeout` where none is set.
const DEFAULT_IDLE: Duration = Duration::from_secs(3600);

impl NetworkExtension for TcpProxyExtension {
    type Config = pb::TcpProxy;
    const NAME: &'static str = "envoy.filters.network.tcp_proxy";

    fn compile(config: Self::Config, cx: &mut Compile<'_>) -> Result<NetworkFactory, Invalid> {
        report_unsupported(&config, cx);
        let clusters = clusters(config.cluster_specifier.clone(), cx);
        let access_logs = lower::access_logs(&config.access_log, "access_log", cx);
        let tunneling = config.tunneling_config.as_ref();
        let tunneling = tunneling.map(|tunnel| self::tunneling(tunnel, &mut cx.field("tunneling_config"))).transpose();
        let prefix = nuncio_stats::sanitize(&config.stat_prefix);
        let scope = cx.store.scope(&format!("tcp.{prefix}"), &[]);
        let duration = |value: Option<&nuncio_api::wkt::Duration>| value.and_then(lower::duration);
        let idle = match &config.idle_timeout {
            Some(value) => lower::duration(value).filter(|idle| !idle.is_zero()),
            None => Some(DEFAULT_IDLE),
        };
        #[allow(deprecated)]
        let on_connected = config.flush_access_log_on_connected
            || config.access_log_options.as_ref().is_some_and(|options| options.flush_access_log_on_connected);
        Ok(NetworkFactory::Terminal(Arc::new(TcpProxy {
            stats: TcpProxyStats::register(&scope),
            clusters: clusters?,
            idle_timeout: idle,
            max_duration: duration(config.max_downstream_connection_duration.as_ref()),
            max_connect_attempts: config.max_connect_attempts.as_ref().map_or(1, |value| value.value.max(1)),
            access_logs: access_logs?,
            log_on_connected: on_connected,
            tunneling: tunneling?,
        })))
    }
}

fn clusters(specifier: Option<ClusterSpecifier>, cx: &mut Compile<'_>) -> Result<Vec<ClusterWeight>, Invalid> {
    match specifier {
        Some(ClusterSpecifier::Cluster(name)) => {
            cx.field("cluster").cluster_unchecked(&name);
            Ok(vec![ClusterWeight { name: name.as_str().into(), weight: 1 }])
        }
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let mut cx = cx.field("weighted_clusters");
            let mut clusters = Vec::new();
            for (index, cluster) in weighted.clusters.iter().enumerate() {
                let mut cx = cx.element("clusters", index);
                cx.unsupported_if(cluster.metadata_match.is_some(), "metadata_match");
                cx.field("name").cluster_unchecked(&cluster.name);
                clusters.push(ClusterWeight { name: cluster.name.as_str().into(), weight: cluster.weight });
            }
            Ok(clusters)
        }
        None => Err(cx.error_hint("names no cluster", "set cluster or weighted_clusters")),
    }
}

fn report_unsupported(config: &pb::TcpProxy, cx: &mut Compile<'_>) {
    cx.unsupported_if(config.on_demand.is_some(), "on_demand");
    cx.unsupported_if(config.metadata_match.is_some(), "metadata_match");
    cx.unsupported_if(config.downstream_idle_timeout.is_some(), "downstream_idle_timeout");
    cx.unsupported_if(config.upstream_idle_timeout.is_some(), "upstream_idle_timeout");
    cx.unsupported_if(config.backoff_options.is_some(), "backoff_options");
    cx.unsupported_if(!config.hash_policy.is_empty(), "hash_policy");
    let jitter = config.max_downstream_connection_duration_jitter_percentage.is_some();
    cx.unsupported_if(jitter, "max_downstream_connection_duration_jitter_percentage");
    #[allow(deprecated)]
    let interval = config.access_log_flush_interval.is_some();
    cx.unsupported_if(interval, "access_log_flush_interval");
    cx.unsupported_if(!config.proxy_protocol_tlvs.is_empty(), "proxy_protocol_tlvs");
    cx.unsupported_if(config.upstream_connect_mode != 0, "upstream_connect_mode");
    cx.unsupported_if(config.max_early_data_bytes.is_some(), "max_early_data_bytes");
    cx.unsupported_if(config.check_drain_close.is_some(), "check_drain_close");
    if let Some(options) = &config.access_log_options {
        let mut cx = cx.field("access_log_options");
        cx.unsupported_if(options.access_log_flush_interval.is_some(), "access_log_flush_interval");
        cx.unsupported_if(options.flush_access_log_on_start, "flush_access_log_on_start");
    }
}

/// `tunneling_config`.
fn tunneling(config: &pb::tcp_proxy::TunnelingConfig, cx: &mut Compile<'_>) -> Result<Arc<Tunneling>, Invalid> {
    let pb::tcp_proxy::TunnelingConfig {
        hostname,
        use_post,
        headers_to_add,
        propagate_response_headers,
        post_path,
        propagate_response_trailers,
        request_id_extension,
        request_id_header,
        request_id_metadata_key,
        formatters,
    } = config;
    cx.unsupported_if(*propagate_response_headers, "propagate_response_headers");
    cx.unsupported_if(*propagate_response_trailers, "propagate_response_trailers");
    cx.unsupported_if(request_id_extension.is_some(), "request_id_extension");
    cx.unsupported_if(!request_id_header.is_empty(), "request_id_header");
    cx.unsupported_if(!request_id_metadata_key.is_empty(), "request_id_metadata_key");
    cx.unsupported_if(!formatters.is_empty(), "formatters");
    if !post_path.is_empty() && !use_post {
        cx.field("post_path").error_hint("can't be set: use_post is false", "set use_post, or remove it");
    }
    let hostname = lower::plain_format(hostname, &mut cx.field("hostname"))?;
    let headers = lower::request_edits(headers_to_add, &[], "headers_to_add", cx)?;
    let path = if post_path.is_empty() { "/" } else { post_path.as_str() };
    Ok(Arc::new(Tunneling { hostname, post: use_post.then(|| path.into()), headers }))
}
