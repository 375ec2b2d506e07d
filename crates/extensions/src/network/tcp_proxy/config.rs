//! `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`.

use super::balance::{ClusterWeight, HashInput};
use super::early::EarlyData;
use super::filter::TcpProxy;
use super::proxied::{Merge, ProxyTlvs, TlvValue};
use super::tunnel::{RequestId, Tunneling};
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::extensions::filters::network::tcp_proxy::v3 as pb;
use nuncio_api::pb::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use nuncio_api::pb::envoy::r#type::v3::HashPolicy;
use nuncio_api::wkt::Any;
use nuncio_config::compile::{Compile, Invalid, NetworkExtension, NetworkFactory, message_of};
use nuncio_config::lower;
use nuncio_headers::HeaderName;
use nuncio_stats::names::TcpProxyStats;
use nuncio_stream_info::Struct;
use pb::tcp_proxy::ClusterSpecifier;
use prost::Name;
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
        let labels = labels(&config.metadata_match, cx);
        let clusters = clusters(config.cluster_specifier.clone(), labels, cx);
        let hash = hash_policy(&config.hash_policy, cx);
        let access_logs = lower::access_logs(&config.access_log, "access_log", cx);
        let tunneling = config.tunneling_config.as_ref();
        let tunneling = tunneling.map(|tunnel| self::tunneling(tunnel, &mut cx.field("tunneling_config"))).transpose();
        let early = early_data(&config, cx);
        let tlvs = proxy_tlvs(&config, cx);
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
            labels: None,
            hash: hash?,
            idle_timeout: idle,
            max_duration: duration(config.max_downstream_connection_duration.as_ref()),
            max_connect_attempts: config.max_connect_attempts.as_ref().map_or(1, |value| value.value.max(1)),
            access_logs: access_logs?,
            log_on_connected: on_connected,
            tunneling: tunneling?,
            early: early?,
            tlvs: tlvs?,
        })))
    }
}

/// The labels that hosts should have.
fn labels(metadata: &Option<core::Metadata>, cx: &mut Compile<'_>) -> Option<Arc<Struct>> {
    let metadata = lower::metadata(metadata, "metadata_match", cx)?;
    metadata.namespace("envoy.lb").cloned().map(Arc::new)
}

/// `hash_policy`; only the first one counts, and there is at most one.
fn hash_policy(policies: &[HashPolicy], cx: &mut Compile<'_>) -> Result<Option<HashInput>, Invalid> {
    use nuncio_api::pb::envoy::r#type::v3::hash_policy::PolicySpecifier;
    match policies.first().map(|policy| &policy.policy_specifier) {
        None => Ok(None),
        Some(Some(PolicySpecifier::SourceIp(_))) => Ok(Some(HashInput::SourceIp)),
        Some(Some(PolicySpecifier::FilterState(state))) => Ok(Some(HashInput::FilterState(state.key.as_str().into()))),
        Some(None) => Err(cx.element("hash_policy", 0).error_hint("hashes nothing", "set source_ip or filter_state")),
    }
}

/// The clusters; `outer` are the labels that hosts of all of them should have.
fn clusters(
    specifier: Option<ClusterSpecifier>,
    outer: Option<Arc<Struct>>,
    cx: &mut Compile<'_>,
) -> Result<Vec<ClusterWeight>, Invalid> {
    match specifier {
        Some(ClusterSpecifier::Cluster(name)) => {
            cx.field("cluster").cluster_unchecked(&name);
            Ok(vec![ClusterWeight { name: name.as_str().into(), weight: 1, labels: outer }])
        }
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let mut cx = cx.field("weighted_clusters");
            let mut clusters = Vec::new();
            for (index, cluster) in weighted.clusters.iter().enumerate() {
                let mut cx = cx.element("clusters", index);
                cx.field("name").cluster_unchecked(&cluster.name);
                let mut labels = outer.clone();
                if let Some(own) = self::labels(&cluster.metadata_match, &mut cx) {
                    let merged = Arc::make_mut(labels.get_or_insert_default());
                    own.iter().for_each(|(name, value)| {
                        merged.set(name, value.clone());
                    });
                }
                clusters.push(ClusterWeight { name: cluster.name.as_str().into(), weight: cluster.weight, labels });
            }
            Ok(clusters)
        }
        None => Err(cx.error_hint("names no cluster", "set cluster or weighted_clusters")),
    }
}

fn report_unsupported(config: &pb::TcpProxy, cx: &mut Compile<'_>) {
    cx.unsupported_if(config.on_demand.is_some(), "on_demand");
    cx.unsupported_if(config.downstream_idle_timeout.is_some(), "downstream_idle_timeout");
    cx.unsupported_if(config.upstream_idle_timeout.is_some(), "upstream_idle_timeout");
    cx.unsupported_if(config.backoff_options.is_some(), "backoff_options");
    let jitter = config.max_downstream_connection_duration_jitter_percentage.is_some();
    cx.unsupported_if(jitter, "max_downstream_connection_duration_jitter_percentage");
    #[allow(deprecated)]
    let interval = config.access_log_flush_interval.is_some();
    cx.unsupported_if(interval, "access_log_flush_interval");
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
    // They say which operators there are, and those of this list are about requests.
    let formatters = lower::formatter_extensions(formatters, cx).map(|_| ());
    // An extension without a type makes no ids, as in Envoy.
    let id = request_id_extension.as_ref().and_then(|extension| extension.typed_config.as_ref());
    let id = id.map(|any| request_id(any, (request_id_header, request_id_metadata_key), cx)).transpose();
    if !post_path.is_empty() && !use_post {
        cx.field("post_path").error_hint("can't be set: use_post is false", "set use_post, or remove it");
    }
    let hostname = lower::plain_format(hostname, &mut cx.field("hostname"))?;
    let headers = lower::request_edits(headers_to_add, &[], "headers_to_add", cx)?;
    let path = if post_path.is_empty() { "/" } else { post_path.as_str() };
    formatters?;
    Ok(Arc::new(Tunneling {
        hostname,
        post: use_post.then(|| path.into()),
        headers,
        propagate_headers: *propagate_response_headers,
        propagate_trailers: *propagate_response_trailers,
        request_id: id?,
    }))
}

/// `request_id_extension`, `request_id_header` and `request_id_metadata_key`.
fn request_id(any: &Any, (header, key): (&str, &str), cx: &mut Compile<'_>) -> Result<RequestId, Invalid> {
    let mut extension = cx.field("request_id_extension");
    if message_of(any) != UuidRequestIdConfig::full_name() {
        return Err(extension.error(format!("{} is not built: use envoy.request_id.uuid", message_of(any))));
    }
    // Its fields are about traces, and there is none to take part in.
    extension.decode::<UuidRequestIdConfig>(any)?;
    drop(extension);
    let header = HeaderName::new(if header.is_empty() { "x-request-id" } else { header });
    let header = header.map_err(|error| cx.field("request_id_header").error(error.to_string()))?;
    let key = if key.is_empty() { "tunnel_request_id" } else { key };
    Ok(RequestId { header, metadata_key: key.into() })
}

/// `upstream_connect_mode` and `max_early_data_bytes`.
fn early_data(config: &pb::TcpProxy, cx: &mut Compile<'_>) -> Result<EarlyData, Invalid> {
    use pb::UpstreamConnectMode::{Immediate, OnDownstreamData};
    let mode = config.upstream_connect_mode();
    let limit = config.max_early_data_bytes.as_ref().map(|limit| limit.value);
    if mode != Immediate && limit.is_none() {
        let hint = "set it to how many bytes of the client may wait for the upstream";
        return Err(cx.field("max_early_data_bytes").error_hint("is required by upstream_connect_mode", hint));
    }
    // The handshake is complete before any network filter is asked.
    Ok(EarlyData { waits: mode == OnDownstreamData, limit })
}

/// `proxy_protocol_tlvs` and `proxy_protocol_tlv_merge_policy`.
fn proxy_tlvs(config: &pb::TcpProxy, cx: &mut Compile<'_>) -> Result<Arc<ProxyTlvs>, Invalid> {
    let before = cx.errors();
    let mut values = Vec::with_capacity(config.proxy_protocol_tlvs.len());
    for (index, entry) in config.proxy_protocol_tlvs.iter().enumerate() {
        values.extend(proxy_tlv(entry, &mut cx.element("proxy_protocol_tlvs", index)).ok());
    }
    cx.unless_errors_since(before)?;
    let merge = match config.proxy_protocol_tlv_merge_policy() {
        pb::ProxyProtocolTlvMergePolicy::AddIfAbsent => Merge::AddIfAbsent,
        pb::ProxyProtocolTlvMergePolicy::OverwriteByTypeIfExistsOrAdd => Merge::OverwriteByType,
        pb::ProxyProtocolTlvMergePolicy::AppendIfExistsOrAdd => Merge::Append,
    };
    Ok(Arc::new(ProxyTlvs { values, merge }))
}

fn proxy_tlv(entry: &core::TlvEntry, cx: &mut Compile<'_>) -> Result<(u8, TlvValue), Invalid> {
    let core::TlvEntry { r#type, value, format_string } = entry;
    let kind = u8::try_from(*r#type).map_err(|_| cx.field("type").error("a type is one byte: 0 to 255"))?;
    match format_string {
        Some(_) if !value.is_empty() => Err(cx.error_hint("has value and format_string", "set one of them")),
        Some(format) => {
            let (format, _) = lower::format_string(format, &mut cx.field("format_string"))?;
            Ok((kind, TlvValue::Format(format)))
        }
        None if value.is_empty() => Err(cx.error_hint("has no value", "set value or format_string")),
        None if value.len() > usize::from(u16::MAX) => {
            Err(cx.field("value").error("is longer than the 65535 bytes that a value may have"))
        }
        None => Ok((kind, TlvValue::Bytes(value.as_slice().into()))),
    }
}
