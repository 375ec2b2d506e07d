//! `Bootstrap` and what stands directly in it: node, admin, static resources, cluster manager.

use super::config_source::{api_source, config_source};
use super::number::duration_field;
use super::{NodeOverrides, access_log, address, cluster, listener, overload, value};
use crate::compile::{Compile, Invalid};
use crate::overload::{OverloadConfig, Watchdogs};
use crate::snapshot::{AdminConfig, DynamicConfig, ListenerConfig, LogFormat, Node};
use crate::source::Loaded;
use crate::transcode::wire::{self, WireValue};
use nuncio_api::pb::envoy::config::bootstrap::v3 as pb;
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_cluster::ClusterConfig;
use nuncio_filter::AccessLogs;
use nuncio_io::listen::ListenSpec;
use prost::Message;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// `stats_flush_interval`, where none is given.
const STATS_FLUSH_INTERVAL: Duration = Duration::from_secs(5);

/// What a bootstrap holds beside node and runtime.
pub(super) struct Lowered {
    pub(super) admin: Option<AdminConfig>,
    pub(super) listeners: Vec<Arc<ListenerConfig>>,
    pub(super) clusters: Vec<Arc<ClusterConfig>>,
    /// The names of all clusters, those included that could not be lowered.
    pub(super) cluster_names: BTreeSet<String>,
    pub(super) stats_flush_interval: Duration,
    pub(super) outlier_event_log: Option<Arc<str>>,
    pub(super) local_cluster: Option<Arc<str>>,
    pub(super) log_format: Option<LogFormat>,
    pub(super) dynamic: DynamicConfig,
    pub(super) overload: Option<Arc<OverloadConfig>>,
    pub(super) watchdogs: Watchdogs,
    pub(super) manager: Manager,
}

/// `node`, with what the command line says.
pub(super) fn node(bootstrap: &pb::Bootstrap, overrides: &NodeOverrides, cx: &mut Compile<'_>) -> Node {
    let or = |given: &String, configured: String| if given.is_empty() { configured } else { given.clone() };
    let mut cx = cx.field("node");
    #[allow(deprecated)]
    let core::Node {
        id,
        cluster,
        metadata,
        dynamic_parameters,
        locality,
        user_agent_name,
        // A build version is for servers of xDS to read.
        user_agent_version_type: _,
        extensions,
        // Sent to management servers as it is.
        client_features: _,
        listening_addresses,
    } = bootstrap.node.clone().unwrap_or_default();
    cx.unsupported_if(!dynamic_parameters.is_empty(), "dynamic_parameters");
    cx.unsupported_if(!user_agent_name.is_empty(), "user_agent_name");
    cx.unsupported_if(!extensions.is_empty(), "extensions");
    cx.unsupported_if(!listening_addresses.is_empty(), "listening_addresses");
    let core::Locality { region, zone, sub_zone } = locality.unwrap_or_default();
    Node {
        id: or(&overrides.id, id),
        cluster: or(&overrides.cluster, cluster),
        region,
        zone: or(&overrides.zone, zone),
        sub_zone,
        metadata: metadata.map(|metadata| metadata.encode_to_vec()),
    }
}

/// All but node and runtime.
pub(super) fn resources(bootstrap: pb::Bootstrap, loaded: &Loaded, cx: &mut Compile<'_>) -> Lowered {
    report_unsupported(&bootstrap, cx);
    #[allow(deprecated)]
    let pb::Bootstrap {
        static_resources,
        cluster_manager,
        stats_flush_interval,
        admin,
        application_log_config,
        dynamic_resources,
        overload_manager,
        watchdogs,
        watchdog,
        ..
    } = bootstrap;
    let manager = manager(cluster_manager.as_ref(), &mut cx.field("cluster_manager"));
    // The secrets are among the facts by now.
    let pb::bootstrap::StaticResources { listeners, clusters, secrets: _ } = static_resources.unwrap_or_default();
    let mut at = cx.field("static_resources");
    let cluster_names: BTreeSet<String> = clusters.iter().map(|cluster| cluster.name.clone()).collect();
    let clusters = cluster::clusters(&clusters, &manager, &mut at);
    check_local_cluster(&manager, &cluster_names, cx);
    let mut at = cx.field("static_resources");
    let wires = resource_wires(&loaded.wire);
    let listeners = listener::listeners(&listeners, &wires, &mut at);
    let dynamic = dynamic_resources.as_ref().map(|dynamic| self::dynamic(dynamic, &mut cx.field("dynamic_resources")));
    let overload = overload_manager
        .and_then(|config| overload::overload_manager(&config, &mut cx.field("overload_manager")).ok())
        .map(Arc::new);
    #[allow(deprecated)]
    let watchdogs = overload::watchdogs(watchdogs.as_ref(), watchdog.as_ref(), cx);
    let load_stats = cluster_manager.as_ref().and_then(|manager| manager.load_stats_config.as_ref());
    let dynamic = DynamicConfig {
        load_stats: load_stats
            .and_then(|api| stream_source(api, &mut cx.field("cluster_manager").field("load_stats_config"))),
        ..dynamic.unwrap_or_default()
    };
    let stats_flush_interval = duration_field(&stats_flush_interval, "stats_flush_interval", cx).ok().flatten();
    Lowered {
        admin: admin.and_then(|admin| self::admin(&admin, &mut cx.field("admin")).ok().flatten()),
        listeners,
        clusters,
        cluster_names,
        stats_flush_interval: stats_flush_interval.unwrap_or(STATS_FLUSH_INTERVAL),
        outlier_event_log: manager.outlier_event_log.clone(),
        local_cluster: manager.local_cluster.clone(),
        log_format: application_log_config
            .and_then(|config| log_format(&config, &mut cx.field("application_log_config"))),
        dynamic,
        overload,
        watchdogs,
        manager,
    }
}

/// Reports the fields that are not acted on, with all fields named, so that none is forgotten.
fn report_unsupported(bootstrap: &pb::Bootstrap, cx: &mut Compile<'_>) {
    #[allow(deprecated)]
    let pb::Bootstrap {
        // Lowered: see `resources`, `node`, `runtime` and `stats`.
        node: _,
        static_resources: _,
        cluster_manager: _,
        stats_config: _,
        stats_flush_interval: _,
        layered_runtime: _,
        admin: _,
        application_log_config: _,
        node_context_params,
        dynamic_resources: _,
        hds_config,
        flags_path,
        stats_sinks,
        // Statistics are created when they are first used in any case.
        deferred_stat_options: _,
        // Lowered: see `overload`.
        watchdog: _,
        watchdogs: _,
        overload_manager: _,
        tracing,
        enable_dispatcher_stats,
        header_prefix,
        stats_server_version_override,
        use_tcp_for_dns_lookups,
        dns_resolution_config,
        typed_dns_resolver_config,
        bootstrap_extensions,
        fatal_actions,
        config_sources,
        default_config_source,
        default_socket_interface,
        certificate_provider_instances,
        inline_headers,
        perf_tracing_file_path,
        default_regex_engine,
        xds_delegate_extension,
        xds_config_tracker_extension,
        listener_manager,
        grpc_async_client_manager_config,
        memory_allocator_manager,
        enable_worker_cpu_affinity,
        stats_flush,
        stats_eviction,
    } = bootstrap;
    if header_prefix.is_empty() || header_prefix == "x-envoy" {
        // What the headers are called in any case.
    } else {
        cx.unsupported("header_prefix");
    }
    for (set, field) in [
        (!node_context_params.is_empty(), "node_context_params"),
        (hds_config.is_some(), "hds_config"),
        (!flags_path.is_empty(), "flags_path"),
        (!stats_sinks.is_empty(), "stats_sinks"),
        (tracing.is_some(), "tracing"),
        (*enable_dispatcher_stats, "enable_dispatcher_stats"),
        (stats_server_version_override.is_some(), "stats_server_version_override"),
        (*use_tcp_for_dns_lookups, "use_tcp_for_dns_lookups"),
        (dns_resolution_config.is_some(), "dns_resolution_config"),
        (typed_dns_resolver_config.is_some(), "typed_dns_resolver_config"),
        (!bootstrap_extensions.is_empty(), "bootstrap_extensions"),
        (!fatal_actions.is_empty(), "fatal_actions"),
        (!config_sources.is_empty(), "config_sources"),
        (default_config_source.is_some(), "default_config_source"),
        (!default_socket_interface.is_empty(), "default_socket_interface"),
        (!certificate_provider_instances.is_empty(), "certificate_provider_instances"),
        (!inline_headers.is_empty(), "inline_headers"),
        (!perf_tracing_file_path.is_empty(), "perf_tracing_file_path"),
        (default_regex_engine.is_some(), "default_regex_engine"),
        (xds_delegate_extension.is_some(), "xds_delegate_extension"),
        (xds_config_tracker_extension.is_some(), "xds_config_tracker_extension"),
        (listener_manager.is_some(), "listener_manager"),
        (grpc_async_client_manager_config.is_some(), "grpc_async_client_manager_config"),
        (memory_allocator_manager.is_some(), "memory_allocator_manager"),
        (*enable_worker_cpu_affinity, "enable_worker_cpu_affinity"),
        (stats_flush.is_some(), "stats_flush"),
        (stats_eviction.is_some(), "stats_eviction"),
    ] {
        cx.unsupported_if(set, field);
    }
}

/// `dynamic_resources`.
fn dynamic(dynamic: &pb::bootstrap::DynamicResources, cx: &mut Compile<'_>) -> DynamicConfig {
    let pb::bootstrap::DynamicResources {
        lds_config,
        lds_resources_locator,
        cds_config,
        cds_resources_locator,
        ads_config,
    } = dynamic;
    for (locator, field) in
        [(lds_resources_locator, "lds_resources_locator"), (cds_resources_locator, "cds_resources_locator")]
    {
        if !locator.is_empty() {
            cx.field(field).error_hint("xdstp collections are not built yet", "use lds_config and cds_config");
        }
    }
    let mut source = |source: &Option<core::ConfigSource>, field| {
        let source = source.as_ref()?;
        config_source(source, &mut cx.field(field)).ok()
    };
    let (lds, cds) = (source(lds_config, "lds_config"), source(cds_config, "cds_config"));
    let ads = ads_config.as_ref().and_then(|ads| {
        let mut cx = cx.field("ads_config");
        let api = api_source(ads, &mut cx).ok()?;
        if api.kind == crate::sources::ApiKind::Rest {
            cx.field("api_type").error_hint("ADS is a stream", "use GRPC or DELTA_GRPC");
        }
        Some(Arc::new(api))
    });
    DynamicConfig { ads, cds, lds, ..DynamicConfig::default() }
}

/// The server of a service that is a gRPC stream in any case.
fn stream_source(api: &core::ApiConfigSource, cx: &mut Compile<'_>) -> Option<Arc<crate::sources::ApiSource>> {
    let source = api_source(api, cx).ok()?;
    if source.kind == crate::sources::ApiKind::Rest {
        cx.field("api_type").error_hint("this service is a stream", "use GRPC");
    }
    Some(Arc::new(source))
}

/// What the cluster manager's configuration says to clusters.
#[derive(Clone, Default)]
pub(crate) struct Manager {
    pub(super) outlier_event_log: Option<Arc<str>>,
    pub(super) upstream_bind: Option<core::BindConfig>,
    pub(super) local_cluster: Option<Arc<str>>,
}

fn manager(manager: Option<&pb::ClusterManager>, cx: &mut Compile<'_>) -> Manager {
    let Some(manager) = manager else { return Manager::default() };
    let pb::ClusterManager {
        local_cluster_name,
        outlier_detection,
        upstream_bind_config,
        // Lowered beside `dynamic_resources`.
        load_stats_config: _,
        // Clusters cost little before they are used in any case.
        enable_deferred_cluster_creation: _,
    } = manager;
    let mut event_log = None;
    if let Some(pb::cluster_manager::OutlierDetection { event_log_path, event_service }) = outlier_detection {
        cx.field("outlier_detection").unsupported_if(event_service.is_some(), "event_service");
        event_log = (!event_log_path.is_empty()).then(|| event_log_path.as_str().into());
    }
    Manager {
        outlier_event_log: event_log,
        upstream_bind: upstream_bind_config.clone(),
        local_cluster: (!local_cluster_name.is_empty()).then(|| local_cluster_name.as_str().into()),
    }
}

/// The local cluster must be there from the start.
fn check_local_cluster(manager: &Manager, clusters: &BTreeSet<String>, cx: &mut Compile<'_>) {
    if let Some(name) = &manager.local_cluster
        && !clusters.contains(&**name)
    {
        let text = format!("local cluster '{name}' must be defined");
        let mut cx = cx.field("cluster_manager");
        cx.field("local_cluster_name").error_hint(text, "add it to static_resources.clusters");
    }
}

/// `admin`; none without an address, as in Envoy.
fn admin(admin: &pb::Admin, cx: &mut Compile<'_>) -> Result<Option<AdminConfig>, Invalid> {
    #[allow(deprecated)]
    let pb::Admin {
        access_log,
        access_log_path,
        profile_path,
        address,
        socket_options,
        ignore_global_conn_limit: _,
        allow_paths,
    } = admin;
    cx.unsupported_if(!profile_path.is_empty(), "profile_path");
    // There is no global limit that the admin listener would have to be spared.
    let mut access_logs = access_log::access_logs(access_log, "access_log", cx);
    if !access_log_path.is_empty() {
        access_logs = access_logs.and_then(|logs| with_path_log(logs, access_log_path, cx));
    }
    if !allow_paths.is_empty() {
        cx.refuse("allow_paths", "all endpoints would be open");
    }
    let Some(configured) = address else {
        if !access_log.is_empty() || !access_log_path.is_empty() || !socket_options.is_empty() {
            cx.warn("has no address: there is no admin server");
        }
        return Ok(None);
    };
    let listen = address::listen_address(configured, &mut cx.field("address"));
    let kernel_address = listen.as_ref().ok().map(|listen| listen.address.clone());
    let options = address::socket_options(socket_options, "socket_options", kernel_address.as_ref(), cx);
    let (listen, options) = (listen?, options?);
    let spec = ListenSpec {
        // One socket for the one thread that serves it, and no other process beside it.
        reuse_port: false,
        ipv4_compat: listen.ipv4_compat,
        mode: listen.mode,
        options,
        ..ListenSpec::new(listen.address)
    };
    Ok(Some(AdminConfig { address: spec, access_logs: access_logs? }))
}

/// The deprecated `access_log_path`: a file log in the default format behind the others.
fn with_path_log(logs: AccessLogs, path: &str, cx: &mut Compile<'_>) -> Result<AccessLogs, Invalid> {
    use nuncio_api::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
    use prost::Name;
    let file = FileAccessLog { path: path.to_owned(), ..FileAccessLog::default() };
    let registry = cx.registry;
    let Some(entry) = registry.access_log.iter().find(|entry| entry.config == FileAccessLog::full_name()) else {
        return Err(cx.field("access_log_path").error("file access logs are not built"));
    };
    let any = nuncio_api::wkt::Any { type_url: FileAccessLog::type_url(), value: file.encode_to_vec() };
    let log = (entry.compile)(&any, &mut cx.field("access_log_path"))?;
    Ok(logs.iter().cloned().chain([log]).collect())
}

fn log_format(config: &pb::bootstrap::ApplicationLogConfig, cx: &mut Compile<'_>) -> Option<LogFormat> {
    use pb::bootstrap::application_log_config::log_format::LogFormat as Kind;
    let mut cx = cx.field("log_format");
    match config.log_format.as_ref()?.log_format.as_ref() {
        None => {
            cx.error_hint("has no format", "set text_format or json_format");
            None
        }
        Some(Kind::TextFormat(text)) => Some(LogFormat::Text(text.clone())),
        Some(Kind::JsonFormat(fields)) => {
            let mut json = Vec::new();
            value::structure(fields).write_json(&mut json);
            Some(LogFormat::Json(String::from_utf8_lossy(&json).into_owned()))
        }
    }
}

/// The bytes of `static_resources.listeners` in the bytes of a bootstrap, in order. Messages that are laid end to end are
/// merged, which appends their lists.
fn resource_wires(bootstrap: &[u8]) -> Vec<&[u8]> {
    const STATIC_RESOURCES: u32 = 2;
    const LISTENERS: u32 = 1;
    let below = |message, number| {
        wire::fields(message).filter_map(move |field| match field {
            Ok((found, WireValue::Bytes(bytes))) if found == number => Some(bytes),
            _ => None,
        })
    };
    below(bootstrap, STATIC_RESOURCES).flat_map(|resources| below(resources, LISTENERS)).collect()
}
