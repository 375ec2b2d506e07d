//! `stats.md`: the names of statistics, by the prefix that the code registers them below.
//!
//! Groups of `nuncio_stats::names` that nothing registers yet are not listed.

use nuncio_stats::names::*;
use nuncio_stats::{Descriptor, Kind};
use std::fmt::Write;

/// A prefix, when its statistics are there if not always, and their groups.
type Section = (&'static str, &'static str, &'static [&'static Descriptor]);

const SECTIONS: &[Section] = &[
    ("cluster.<name>", "", &[ClusterStats::DESCRIPTOR, ClusterUpdateStats::DESCRIPTOR]),
    (
        "cluster.<name>",
        "Once used, and likewise below `cluster.<name>.external` and `cluster.<name>.internal`.",
        &[ClusterRequestTimeStats::DESCRIPTOR],
    ),
    ("cluster.<name>.circuit_breakers.<default|high>", "", &[CircuitBreakerStats::DESCRIPTOR]),
    (
        "cluster.<name>.circuit_breakers.<default|high>",
        "With `track_remaining`.",
        &[CircuitBreakerRemainingStats::DESCRIPTOR],
    ),
    ("cluster.<name>.health_check", "With `health_checks`.", &[HealthCheckStats::DESCRIPTOR]),
    ("cluster.<name>.http1", "", &[Http1CodecStats::DESCRIPTOR]),
    ("cluster.<name>.outlier_detection", "With `outlier_detection`.", &[OutlierDetectionStats::DESCRIPTOR]),
    ("cluster_manager", "", &[ClusterManagerStats::DESCRIPTOR]),
    ("filesystem", "Log files.", &[FilesystemStats::DESCRIPTOR]),
    (
        "http.<stat_prefix>",
        "`http.admin` is the admin interface.",
        &[HttpConnectionManagerStats::DESCRIPTOR, RouterStats::DESCRIPTOR],
    ),
    ("http.<stat_prefix>.fault", "With the filter `envoy.filters.http.fault`.", &[FaultStats::DESCRIPTOR]),
    ("http.<stat_prefix>.lua", "With the filter `envoy.filters.http.lua`.", &[LuaStats::DESCRIPTOR]),
    ("http.<stat_prefix>.tracing", "", &[TracingStats::DESCRIPTOR]),
    ("http1", "", &[Http1CodecStats::DESCRIPTOR]),
    (
        "http_inspector",
        "With the listener filter `envoy.filters.listener.http_inspector`.",
        &[HttpInspectorStats::DESCRIPTOR],
    ),
    ("listener.<address>", "`listener.admin` is the admin interface.", &[ListenerStats::DESCRIPTOR]),
    ("listener.<address>.http.<stat_prefix>", "", &[ListenerHttpStats::DESCRIPTOR]),
    ("listener.<address>.worker_<n>", "`main_thread` for the admin interface.", &[ListenerWorkerStats::DESCRIPTOR]),
    ("listener_manager", "", &[ListenerManagerStats::DESCRIPTOR]),
    (
        "local_rate_limit.<stat_prefix>",
        "With the network filter `envoy.filters.network.local_ratelimit`.",
        &[LocalRateLimitStats::DESCRIPTOR],
    ),
    ("lua", "With the filter `envoy.filters.http.lua`.", &[LuaProcessStats::DESCRIPTOR]),
    ("server", "", &[ServerStats::DESCRIPTOR]),
    (
        "<stat_prefix>.http_local_rate_limit",
        "With the filter `envoy.filters.http.local_ratelimit`.",
        &[HttpLocalRateLimitStats::DESCRIPTOR],
    ),
    ("tcp.<stat_prefix>", "With the network filter `envoy.filters.network.tcp_proxy`.", &[TcpProxyStats::DESCRIPTOR]),
];

pub(super) fn page() -> Result<String, String> {
    let mut page = String::from(
        "# Statistics\n\nAs `/stats` names them; `<name>`, `<address>` and `<stat_prefix>` stand for what the \
         configuration says. Responses are counted by code too, once there was one: `cluster.<name>.upstream_rq_<code>`, \
         `cluster.<name>.upstream_rq_<class>xx` and `cluster.<name>.upstream_rq_completed`, and the same below \
         `external` and `internal`.\n",
    );
    for (at, (prefix, when, groups)) in SECTIONS.iter().enumerate() {
        if at == 0 || SECTIONS.get(at - 1).is_none_or(|(before, ..)| before != prefix) {
            let _ = writeln!(page, "\n## `{prefix}.*`");
        }
        if !when.is_empty() {
            let _ = writeln!(page, "\n{when}");
        }
        for (kind, title) in [
            (Kind::Counter, "Counters"),
            (Kind::Gauge, "Gauges"),
            (Kind::Histogram, "Histograms"),
            (Kind::TextReadout, "Texts"),
        ] {
            let mut names: Vec<&str> = groups
                .iter()
                .flat_map(|group| group.stats())
                .filter(|(_, found)| *found == kind)
                .map(|(name, _)| name)
                .collect();
            names.sort_unstable();
            if !names.is_empty() {
                let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                let _ = writeln!(page, "\n{title}: {}", names.join(", "));
            }
        }
    }
    Ok(page)
}
