//! `Cluster.type`, `cluster_type` and DNS.

#![allow(deprecated)] // Deprecated fields still work.

use crate::compile::{Compile, Invalid, message_of};
use crate::lower::address::{HostPort, host_port, parse_ip};
use crate::lower::config_source;
use crate::lower::number::{Wrapped, duration_field, port};
use crate::sources::{DynamicUse, EndpointsUse};
use nuncio_api::pb::envoy::config::cluster::v3 as pb;
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::extensions::clusters::common::dns::v3::DnsLookupFamily as TypedFamily;
use nuncio_api::pb::envoy::extensions::clusters::dns::v3 as dns;
use nuncio_api::pb::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use nuncio_api::pb::envoy::extensions::network::dns_resolver::getaddrinfo::v3::GetAddrInfoDnsResolverConfig;
use nuncio_api::wkt;
use nuncio_cluster::config::{BackOff, Discovery, DnsLookupFamily, DnsOptions, Eds, OriginalDst, ResolverOptions};
use nuncio_headers::HeaderName;
use pb::cluster::{ClusterDiscoveryType, CustomClusterType, DiscoveryType};
use prost::Name;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Where a cluster's hosts come from. Default `STATIC`.
pub(super) fn discovery(cluster: &pb::Cluster, cx: &mut Compile<'_>) -> Result<Discovery, Invalid> {
    let kind = match &cluster.cluster_discovery_type {
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            return custom_type(custom, cluster, &mut cx.field("cluster_type"));
        }
        Some(ClusterDiscoveryType::Type(number)) => DiscoveryType::try_from(*number).unwrap_or_default(),
        None => DiscoveryType::Static,
    };
    if cluster.eds_cluster_config.is_some() && kind != DiscoveryType::Eds {
        return Err(cx.field("eds_cluster_config").error("cannot be set in a cluster that is not of type EDS"));
    }
    match kind {
        DiscoveryType::Static => Ok(Discovery::Static),
        DiscoveryType::StrictDns => Ok(Discovery::StrictDns(Box::new(dns_fields(cluster, cx)?))),
        DiscoveryType::LogicalDns => Ok(Discovery::LogicalDns(Box::new(dns_fields(cluster, cx)?))),
        DiscoveryType::OriginalDst => original_dst(cluster, cx),
        DiscoveryType::Eds => eds(cluster, cx),
    }
}

/// `EDS`: the endpoints come from `eds_cluster_config`.
fn eds(cluster: &pb::Cluster, cx: &mut Compile<'_>) -> Result<Discovery, Invalid> {
    let Some(config) = &cluster.eds_cluster_config else {
        return Err(cx.field("eds_cluster_config").error("is required for EDS"));
    };
    let mut cx = cx.field("eds_cluster_config");
    let pb::cluster::EdsClusterConfig { eds_config, service_name } = config;
    let Some(source) = eds_config else { return Err(cx.field("eds_config").error("is required for EDS")) };
    let source = config_source(source, &mut cx.field("eds_config"))?;
    let name: Arc<str> = if service_name.is_empty() { cluster.name.as_str() } else { service_name }.into();
    let discovery = Discovery::Eds(Box::new(Eds { service_name: name.clone(), source: source.digest }));
    let cluster = cluster.name.as_str().into();
    cx.references.dynamic.push(DynamicUse::Endpoints(EndpointsUse { cluster, name, source }));
    Ok(discovery)
}

fn custom_type(custom: &CustomClusterType, cluster: &pb::Cluster, cx: &mut Compile<'_>) -> Result<Discovery, Invalid> {
    let CustomClusterType { name, typed_config } = custom;
    let message = typed_config.as_ref().map(message_of).unwrap_or_default();
    if let Some(any) = typed_config
        && message == dns::DnsCluster::full_name()
    {
        let mut cx = cx.field("typed_config");
        let config: dns::DnsCluster = cx.decode(any)?;
        return dns_cluster(&config, &mut cx);
    }
    let mut outer = cx.path.clone();
    outer.pop();
    match name.as_str() {
        "envoy.cluster.static" => Ok(Discovery::Static),
        "envoy.cluster.strict_dns" | "envoy.clusters.strict_dns" => {
            cx.path = outer;
            Ok(Discovery::StrictDns(Box::new(dns_fields(cluster, cx)?)))
        }
        "envoy.cluster.logical_dns" | "envoy.clusters.logical_dns" => {
            cx.path = outer;
            Ok(Discovery::LogicalDns(Box::new(dns_fields(cluster, cx)?)))
        }
        "envoy.cluster.original_dst" | "envoy.clusters.original_dst" => {
            cx.path = outer;
            original_dst(cluster, cx)
        }
        "envoy.cluster.eds" | "envoy.clusters.eds" => {
            cx.path = outer;
            eds(cluster, cx)
        }
        _ => {
            let kind = if message.is_empty() { name.as_str() } else { message };
            Err(cx.error_hint(format!("the cluster type {kind} is not built"), "envoy.cluster.dns is"))
        }
    }
}

/// `envoy.extensions.clusters.dns.v3.DnsCluster`.
fn dns_cluster(config: &dns::DnsCluster, cx: &mut Compile<'_>) -> Result<Discovery, Invalid> {
    let dns::DnsCluster {
        dns_refresh_rate,
        dns_failure_refresh_rate,
        respect_dns_ttl,
        dns_jitter,
        typed_dns_resolver_config,
        dns_lookup_family: _,
        all_addresses_in_single_endpoint,
        dns_min_refresh_rate,
    } = config;
    cx.unsupported_if(dns_min_refresh_rate.is_some(), "dns_min_refresh_rate");
    let defaults = DnsOptions::default();
    let failure = dns_failure_refresh_rate.as_ref();
    let failure = failure.map(|rate| (&rate.base_interval, &rate.max_interval));
    let options = DnsOptions {
        lookup_family: match config.dns_lookup_family() {
            TypedFamily::Unspecified | TypedFamily::Auto => DnsLookupFamily::Auto,
            TypedFamily::V4Only => DnsLookupFamily::V4Only,
            TypedFamily::V6Only => DnsLookupFamily::V6Only,
            TypedFamily::V4Preferred => DnsLookupFamily::V4Preferred,
            TypedFamily::All => DnsLookupFamily::All,
        },
        refresh_rate: duration_field(dns_refresh_rate, "dns_refresh_rate", cx)?.unwrap_or(defaults.refresh_rate),
        jitter: duration_field(dns_jitter, "dns_jitter", cx)?.unwrap_or(defaults.jitter),
        respect_ttl: *respect_dns_ttl,
        failure_refresh_rate: failure.map(|rate| back_off(rate, cx)).transpose()?,
        resolver: match typed_dns_resolver_config {
            Some(extension) => typed_resolver(extension, cx)?,
            None => None,
        },
    };
    let options = Box::new(options);
    Ok(if *all_addresses_in_single_endpoint { Discovery::LogicalDns(options) } else { Discovery::StrictDns(options) })
}

/// The DNS fields of the cluster itself.
fn dns_fields(cluster: &pb::Cluster, cx: &mut Compile<'_>) -> Result<DnsOptions, Invalid> {
    let defaults = DnsOptions::default();
    let failure = cluster.dns_failure_refresh_rate.as_ref();
    let failure = failure.map(|rate| (&rate.base_interval, &rate.max_interval));
    let refresh_rate = duration_field(&cluster.dns_refresh_rate, "dns_refresh_rate", cx)?;
    Ok(DnsOptions {
        lookup_family: match cluster.dns_lookup_family() {
            pb::cluster::DnsLookupFamily::Auto => DnsLookupFamily::Auto,
            pb::cluster::DnsLookupFamily::V4Only => DnsLookupFamily::V4Only,
            pb::cluster::DnsLookupFamily::V6Only => DnsLookupFamily::V6Only,
            pb::cluster::DnsLookupFamily::V4Preferred => DnsLookupFamily::V4Preferred,
            pb::cluster::DnsLookupFamily::All => DnsLookupFamily::All,
        },
        refresh_rate: refresh_rate.unwrap_or(defaults.refresh_rate),
        jitter: duration_field(&cluster.dns_jitter, "dns_jitter", cx)?.unwrap_or(defaults.jitter),
        respect_ttl: cluster.respect_dns_ttl,
        failure_refresh_rate: failure.map(|rate| back_off(rate, cx)).transpose()?,
        resolver: resolver(cluster, cx)?,
    })
}

type Interval<'a> = &'a Option<wkt::Duration>;

fn back_off((base, max): (Interval<'_>, Interval<'_>), cx: &mut Compile<'_>) -> Result<BackOff, Invalid> {
    let mut cx = cx.field("dns_failure_refresh_rate");
    let Some(base_interval) = duration_field(base, "base_interval", &mut cx)? else {
        return Err(cx.field("base_interval").error("is required"));
    };
    let max_interval = duration_field(max, "max_interval", &mut cx)?.unwrap_or(base_interval.saturating_mul(10));
    if max_interval < base_interval {
        return Err(cx.field("max_interval").error("must be greater than or equal to the base_interval"));
    }
    Ok(BackOff { base_interval, max_interval })
}

/// `typed_dns_resolver_config`, or one of the deprecated ways to say it.
fn resolver(cluster: &pb::Cluster, cx: &mut Compile<'_>) -> Result<Option<Arc<ResolverOptions>>, Invalid> {
    if let Some(extension) = &cluster.typed_dns_resolver_config {
        return typed_resolver(extension, cx);
    }
    #[allow(deprecated)]
    let (resolvers, use_tcp, config) =
        (&cluster.dns_resolvers, cluster.use_tcp_for_dns_lookups, &cluster.dns_resolution_config);
    let options = match config {
        Some(config) => {
            let mut cx = cx.field("dns_resolution_config");
            let options = config.dns_resolver_options.unwrap_or_default();
            ResolverOptions {
                servers: servers(&config.resolvers, "resolvers", &mut cx)?,
                use_tcp: options.use_tcp_for_dns_lookups,
                no_default_search_domain: options.no_default_search_domain,
                ..ResolverOptions::default()
            }
        }
        None => {
            let servers = servers(resolvers, "dns_resolvers", cx)?;
            ResolverOptions { servers, use_tcp, ..ResolverOptions::default() }
        }
    };
    Ok(or_system(options))
}

/// None for the options that the proxy's own resolver has.
fn or_system(options: ResolverOptions) -> Option<Arc<ResolverOptions>> {
    (options != ResolverOptions::default()).then(|| Arc::new(options))
}

fn typed_resolver(
    extension: &core::TypedExtensionConfig,
    cx: &mut Compile<'_>,
) -> Result<Option<Arc<ResolverOptions>>, Invalid> {
    let mut cx = cx.field("typed_dns_resolver_config");
    let core::TypedExtensionConfig { name, typed_config } = extension;
    let Some(any) = typed_config else { return Err(cx.field("typed_config").error("is required")) };
    let message = message_of(any);
    let mut cx = cx.field("typed_config");
    if message == GetAddrInfoDnsResolverConfig::full_name() {
        let config: GetAddrInfoDnsResolverConfig = cx.decode(any)?;
        let GetAddrInfoDnsResolverConfig { num_retries, num_resolver_threads } = config;
        cx.unsupported_if(num_retries.is_some(), "num_retries");
        cx.unsupported_if(num_resolver_threads.is_some(), "num_resolver_threads");
        return Ok(None);
    }
    if message == CaresDnsResolverConfig::full_name() {
        let config: CaresDnsResolverConfig = cx.decode(any)?;
        return Ok(or_system(cares(&config, &mut cx)?));
    }
    let hint = "envoy.network.dns_resolver.cares and envoy.network.dns_resolver.getaddrinfo are";
    Err(cx.error_hint(format!("the DNS resolver {name} ({message}) is not built"), hint))
}

fn cares(config: &CaresDnsResolverConfig, cx: &mut Compile<'_>) -> Result<ResolverOptions, Invalid> {
    let CaresDnsResolverConfig {
        resolvers,
        use_resolvers_as_fallback,
        filter_unroutable_families,
        dns_resolver_options,
        udp_max_queries,
        query_timeout_seconds,
        query_tries,
        rotate_nameservers,
        edns0_max_payload_size,
        max_udp_channel_duration,
        reinit_channel_on_timeout,
        qcache_max_ttl,
    } = config;
    for (set, field) in [
        (*filter_unroutable_families, "filter_unroutable_families"),
        (udp_max_queries.is_some(), "udp_max_queries"),
        (*rotate_nameservers, "rotate_nameservers"),
        (edns0_max_payload_size.is_some(), "edns0_max_payload_size"),
        (max_udp_channel_duration.is_some(), "max_udp_channel_duration"),
        (*reinit_channel_on_timeout, "reinit_channel_on_timeout"),
        (qcache_max_ttl.is_some(), "qcache_max_ttl"),
    ] {
        cx.unsupported_if(set, field);
    }
    let options = dns_resolver_options.unwrap_or_default();
    Ok(ResolverOptions {
        servers: servers(resolvers, "resolvers", cx)?,
        system_fallback: *use_resolvers_as_fallback,
        use_tcp: options.use_tcp_for_dns_lookups,
        no_default_search_domain: options.no_default_search_domain,
        query_timeout: query_timeout_seconds.get().map(Duration::from_secs),
        query_tries: query_tries.get(),
    })
}

/// Addresses of name servers; port 53 where none is given.
fn servers(addresses: &[core::Address], field: &'static str, cx: &mut Compile<'_>) -> Result<Vec<SocketAddr>, Invalid> {
    crate::lower::matcher::list(addresses, field, cx, |address, cx| {
        let Some(core::address::Address::SocketAddress(socket)) = &address.address else {
            return Err(cx.error("found no socket_address, expected that of a name server"));
        };
        let mut cx = cx.field("socket_address");
        // Name servers are asked over UDP whatever the address says.
        let socket = core::SocketAddress { protocol: 0, ..socket.clone() };
        let HostPort { host, port } = host_port(&socket, &mut cx)?;
        let port = if port == 0 { 53 } else { port };
        parse_ip(host, port).ok_or_else(|| cx.field("address").error(format!("malformed IP address: {host}")))
    })
}

fn original_dst(cluster: &pb::Cluster, cx: &mut Compile<'_>) -> Result<Discovery, Invalid> {
    let Some(pb::cluster::LbConfig::OriginalDstLbConfig(config)) = &cluster.lb_config else {
        return Ok(Discovery::OriginalDst(Box::default()));
    };
    let mut cx = cx.field("original_dst_lb_config");
    let pb::cluster::OriginalDstLbConfig { use_http_header, http_header_name, upstream_port_override, metadata_key } =
        config;
    let header = match http_header_name.as_str() {
        "" => None,
        name => match HeaderName::new(name) {
            Ok(name) => Some(name),
            Err(error) => return Err(cx.field("http_header_name").error(error.to_string())),
        },
    };
    let port = upstream_port_override.get().map(|value| port(value, "upstream_port_override", &mut cx)).transpose()?;
    let metadata_key =
        metadata_key.as_ref().map(|key| metadata_path(key, &mut cx.field("metadata_key"))).transpose()?;
    Ok(Discovery::OriginalDst(Box::new(OriginalDst {
        use_http_header: *use_http_header,
        http_header_name: header,
        upstream_port_override: port,
        metadata_key,
    })))
}

type MetadataPath = (Arc<str>, Vec<Arc<str>>);

pub(super) fn metadata_path(
    key: &nuncio_api::pb::envoy::r#type::metadata::v3::MetadataKey,
    cx: &mut Compile<'_>,
) -> Result<MetadataPath, Invalid> {
    use nuncio_api::pb::envoy::r#type::metadata::v3::metadata_key::path_segment::Segment;
    let path = crate::lower::matcher::list(&key.path, "path", cx, |segment, cx| match &segment.segment {
        Some(Segment::Key(key)) => Ok(key.as_str().into()),
        Some(Segment::Index(_)) => Err(cx.field("index").error("is not built: use key")),
        None => Err(cx.field("key").error("is required")),
    })?;
    Ok((key.key.as_str().into(), path))
}
