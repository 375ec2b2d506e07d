use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;
use crate::render::{Format, Kinds, Query};
use crate::{Kind, Store};

/// Names of the reference that are not declared, each with its reason. None today.
const NOT_DECLARED: &[(&str, &str)] = &[];

/// The gauges of the static proxy that the reference files are of, without those that repeat for its second
/// cluster and the admin listener. As Envoy 1.40 said with `/stats?type=Gauges`.
const GAUGES: &[&str] = &[
    "cluster.c1.circuit_breakers.default.cx_open",
    "cluster.c1.circuit_breakers.default.cx_pool_open",
    "cluster.c1.circuit_breakers.default.rq_open",
    "cluster.c1.circuit_breakers.default.rq_pending_open",
    "cluster.c1.circuit_breakers.default.rq_retry_open",
    "cluster.c1.circuit_breakers.high.cx_open",
    "cluster.c1.circuit_breakers.high.cx_pool_open",
    "cluster.c1.circuit_breakers.high.rq_open",
    "cluster.c1.circuit_breakers.high.rq_pending_open",
    "cluster.c1.circuit_breakers.high.rq_retry_open",
    "cluster.c1.lb_subsets_active",
    "cluster.c1.max_host_weight",
    "cluster.c1.membership_degraded",
    "cluster.c1.membership_excluded",
    "cluster.c1.membership_healthy",
    "cluster.c1.membership_total",
    "cluster.c1.upstream_cx_active",
    "cluster.c1.upstream_cx_rx_bytes_buffered",
    "cluster.c1.upstream_cx_tx_bytes_buffered",
    "cluster.c1.upstream_queue_overloaded",
    "cluster.c1.upstream_rq_active",
    "cluster.c1.upstream_rq_pending_active",
    "cluster.c1.version",
    "cluster.c1.warming_state",
    "cluster_manager.active_clusters",
    "cluster_manager.warming_clusters",
    "filesystem.write_total_buffered",
    "http.ing.downstream_cx_active",
    "http.ing.downstream_cx_http1_active",
    "http.ing.downstream_cx_http1_soft_drain",
    "http.ing.downstream_cx_http2_active",
    "http.ing.downstream_cx_http3_active",
    "http.ing.downstream_cx_rx_bytes_buffered",
    "http.ing.downstream_cx_ssl_active",
    "http.ing.downstream_cx_tx_bytes_buffered",
    "http.ing.downstream_cx_upgrades_active",
    "http.ing.downstream_rq_active",
    "listener.127.0.0.1_39902.downstream_cx_active",
    "listener.127.0.0.1_39902.downstream_pre_cx_active",
    "listener.127.0.0.1_39902.worker_0.downstream_cx_active",
    "listener_manager.total_filter_chains_draining",
    "listener_manager.total_listeners_active",
    "listener_manager.total_listeners_draining",
    "listener_manager.total_listeners_warming",
    "listener_manager.workers_pinned",
    "listener_manager.workers_started",
    "runtime.admin_overrides_active",
    "runtime.deprecated_feature_seen_since_process_start",
    "runtime.num_keys",
    "runtime.num_layers",
    "server.compilation_settings.fips_mode",
    "server.concurrency",
    "server.days_until_first_cert_expiring",
    "server.hot_restart_epoch",
    "server.live",
    "server.memory_allocated",
    "server.memory_heap_size",
    "server.memory_physical_size",
    "server.parent_connections",
    "server.seconds_until_first_ocsp_response_expiring",
    "server.state",
    "server.stats_recent_lookups",
    "server.total_connections",
    "server.uptime",
    "server.version",
    "thread_local_cluster_manager.main_thread.clusters_inflated",
    "thread_local_cluster_manager.worker_0.clusters_inflated",
];

/// Registers what the proxy of the reference files has: one listener, two clusters, the admin listener, one worker.
fn reference_proxy(store: &Store) -> Vec<Box<dyn std::any::Any>> {
    let mut keep: Vec<Box<dyn std::any::Any>> = Vec::new();
    let scope = |prefix: &str| store.scope(prefix, &[]);
    macro_rules! register {
        ($($group:ident at $prefix:expr;)*) => { $(keep.push(Box::new($group::register(&scope(&$prefix))));)* };
    }
    for (cluster, code) in [("adm", 200), ("c1", 503)] {
        let prefix = format!("cluster.{cluster}");
        register! {
            ClusterStats at prefix;
            ClusterUpdateStats at prefix;
            Http1CodecStats at format!("{prefix}.http1");
            CircuitBreakerStats at format!("{prefix}.circuit_breakers.default");
            CircuitBreakerStats at format!("{prefix}.circuit_breakers.high");
        }
        for prefix in [prefix.clone(), format!("{prefix}.external")] {
            let codes = scope(&prefix).code_counters("upstream_rq");
            codes.charge(code);
            let time = ClusterRequestTimeStats::register(&scope(&prefix));
            if cluster == "adm" {
                time.upstream_rq_time().record(1);
            }
            keep.push(Box::new((codes, time)));
        }
    }
    for (listener, manager) in [("127.0.0.1_39902", "ing"), ("admin", "admin")] {
        let prefix = format!("listener.{listener}");
        let worker = if manager == "admin" { "main_thread" } else { "worker_0" };
        register! {
            ListenerStats at prefix;
            ListenerHttpStats at format!("{prefix}.http.{manager}");
            ListenerWorkerStats at format!("{prefix}.{worker}");
            HttpConnectionManagerStats at format!("http.{manager}");
        }
    }
    register! {
        ListenerExtensionConfigStats at "listener.127.0.0.1_39902";
        TracingStats at "http.ing.tracing";
        RouterStats at "http.ing";
        RouterStats at "http.async-client";
        Http1CodecStats at "http1";
        ListenerManagerStats at "listener_manager";
        ClusterManagerStats at "cluster_manager";
        ThreadLocalClusterManagerStats at "thread_local_cluster_manager.main_thread";
        ThreadLocalClusterManagerStats at "thread_local_cluster_manager.worker_0";
        ServerStats at "server";
        WatchdogStats at "main_thread";
        WatchdogStats at "workers";
        WatchdogStats at "server.main_thread";
        WatchdogStats at "server.worker_0";
        FilesystemStats at "filesystem";
        RuntimeStats at "runtime";
        OverloadStats at "overload";
        OverloadActionStats at "envoy.overload_actions";
    }
    keep
}

/// A file of the reference; `None`, said aloud, where it is not at hand.
fn reference(file: &str) -> Option<BTreeSet<String>> {
    let shared = std::env::var_os("NUNCIO_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")), PathBuf::from);
    let path = shared.join("reference").join(file);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text.lines().map(str::to_owned).collect()),
        Err(error) => {
            eprintln!("SKIPPED: {}: {error}; set NUNCIO_SHARED", path.display());
            None
        }
    }
}

fn compare(ours: &BTreeSet<String>, reference: &BTreeSet<String>) {
    let excepted = |name: &str| NOT_DECLARED.iter().any(|(known, _)| *known == name);
    let missing: Vec<&String> = reference.difference(ours).filter(|name| !excepted(name)).collect();
    let extra: Vec<&String> = ours.difference(reference).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing: {missing:#?}\nnot in the reference: {extra:#?}");
}

fn names(store: &Store, kinds: Kinds) -> BTreeSet<String> {
    let text = store.render(Query { kinds, ..Query::default() });
    text.lines().filter_map(|line| Some(line.rsplit_once(": ")?.0.to_owned())).collect()
}

#[test]
fn names_are_those_of_envoy() {
    let store = Store::new(1);
    let _keep = reference_proxy(&store);
    let Some(reference) = reference("envoy-1.40-stat-names.txt") else { return };
    compare(&names(&store, Kinds::All), &reference);
}

#[test]
fn series_are_those_of_envoy() {
    let store = Store::new(1);
    let _keep = reference_proxy(&store);
    let Some(reference) = reference("envoy-1.40-prometheus-names.txt") else { return };
    let text = store.render(Query { format: Format::Prometheus, ..Query::default() });
    let series = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let series = line.rsplit_once(' ').map_or(line, |(series, _)| series);
        match series.split_once("le=\"") {
            Some((labels, _)) => format!("{labels}le=\"…\"}}"),
            None => series.to_owned(),
        }
    });
    compare(&series.collect(), &reference);
}

#[test]
fn kinds_are_those_of_envoy() {
    let store = Store::new(1);
    let _keep = reference_proxy(&store);
    let repeated = |name: &String| {
        let repeats = ["cluster.adm.", "http.admin.", "listener.admin."];
        repeats.iter().any(|prefix| name.starts_with(prefix))
    };
    let gauges = names(&store, Kinds::Only(Kind::Gauge)).into_iter().filter(|name| !repeated(name));
    compare(&gauges.collect(), &GAUGES.iter().map(|&name| name.to_owned()).collect());

    let Some(reference) = reference("envoy-1.40-prometheus-names.txt") else { return };
    let text = store.render(Query { format: Format::Prometheus, ..Query::default() });
    let typed = |kind: &str| text.lines().filter(|line| line.ends_with(kind)).count();
    let metrics = |suffix: &str| {
        let names = reference.iter().filter_map(|series| Some(series.split_once('{')?.0));
        names.filter(|name| name.ends_with(suffix)).collect::<BTreeSet<_>>().len()
    };
    assert_eq!(typed(" histogram"), metrics("_bucket"));
}
