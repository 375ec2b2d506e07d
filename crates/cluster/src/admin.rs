//! `/clusters`: what the main thread knows of clusters and hosts, as text and as JSON, in Envoy's words and order.

mod json;
mod text;

use crate::config::Discovery;
use crate::health::HealthFlags;
use crate::host::{Host, HostCounter};
use crate::manager::{Cluster, ClusterManager};
use nuncio_lb::{HostSet, LocalityHosts};
use std::sync::Arc;

impl ClusterManager {
    /// Appends what `GET /clusters` answers. `accept` says which clusters, by name (`?filter=`).
    pub fn write_clusters_text(&self, out: &mut Vec<u8>, accept: impl Fn(&str) -> bool) {
        for cluster in self.active() {
            if accept(cluster.info.name()) {
                text::write_cluster(out, &cluster);
            }
        }
    }

    /// Appends what `GET /clusters?format=json` answers (`admin.v3.Clusters`).
    pub fn write_clusters_json(&self, out: &mut Vec<u8>, accept: impl Fn(&str) -> bool) {
        let clusters = self.active();
        json::write_clusters(out, clusters.iter().filter(|cluster| accept(cluster.info.name())));
    }

    /// Names of the clusters that workers see, in the order in which they were added: for output that is written cluster by
    /// cluster.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.active().iter().map(|cluster| cluster.info.name().clone()).collect()
    }

    /// Appends what [`ClusterManager::write_clusters_text`] says of one cluster; nothing if it is gone.
    pub fn write_cluster_text(&self, out: &mut Vec<u8>, name: &str) {
        if let Some(cluster) = self.find(name) {
            text::write_cluster(out, &cluster);
        }
    }

    /// Appends one element of the list in [`ClusterManager::write_clusters_json`], with its indentation; false if the
    /// cluster is gone.
    pub fn write_cluster_json(&self, out: &mut Vec<u8>, name: &str) -> bool {
        let Some(cluster) = self.find(name) else { return false };
        json::write_element(out, &cluster);
        true
    }

    /// The hosts of a cluster by priority; none if there is no such cluster.
    pub fn hosts(&self, name: &str) -> Vec<Arc<Host>> {
        self.find(name).map(|cluster| cluster.hosts().hosts().cloned().collect()).unwrap_or_default()
    }

    /// The name that a cluster's endpoints are asked for by, if that is another than its own
    /// (`eds_cluster_config.service_name`).
    pub fn endpoints_name(&self, name: &str) -> Option<Arc<str>> {
        match &self.find(name)?.info.config.discovery {
            Discovery::Eds(eds) => Some(eds.service_name.clone()),
            _ => None,
        }
    }

    /// The hosts of a cluster by priority and locality; none if there is no such cluster.
    pub fn localities(&self, name: &str) -> Vec<LocalityView> {
        let Some(cluster) = self.find(name) else { return Vec::new() };
        let hosts = cluster.hosts();
        let view = |(priority, set): (usize, &Arc<HostSet<Arc<Host>>>)| {
            let localities = set.grouped().into_iter().filter(|locality| !locality.hosts.is_empty());
            let view = |LocalityHosts { weight, hosts }| LocalityView { priority: priority as u32, weight, hosts };
            localities.map(view).collect::<Vec<_>>()
        };
        hosts.sets().iter().enumerate().flat_map(view).collect()
    }

    /// `policy.overprovisioning_factor` of what a cluster's endpoints come from, in percent.
    pub fn overprovisioning_factor(&self, name: &str) -> Option<u32> {
        let cluster = self.find(name)?;
        let discovered = cluster.assignment().map(|assignment| assignment.overprovisioning_factor);
        Some(discovered.unwrap_or(cluster.info.config.load_assignment.overprovisioning_factor))
    }

    /// Event logs are opened anew with their next event (`POST /reopen_logs`).
    pub fn reopen_logs(&self) {
        self.shared().event_logs.reopen();
    }
}

/// The hosts of a cluster that share a priority and a locality.
#[derive(Debug, Clone)]
pub struct LocalityView {
    /// From 0, the highest.
    pub priority: u32,
    /// `load_balancing_weight`; 0 if it has none.
    pub weight: u32,
    /// At least one.
    pub hosts: Vec<Arc<Host>>,
}

/// The stats of a host by name; whether it is a gauge.
fn host_stats(host: &Host) -> [(&'static str, bool, u64); 9] {
    [
        ("cx_active", true, host.cx_active().into()),
        ("cx_connect_fail", false, host.counter(HostCounter::CxConnectFail)),
        ("cx_total", false, host.counter(HostCounter::CxTotal)),
        ("rq_active", true, host.rq_active().into()),
        ("rq_error", false, host.counter(HostCounter::RqError)),
        ("rq_pending_active", true, host.rq_pending_active().into()),
        ("rq_success", false, host.counter(HostCounter::RqSuccess)),
        ("rq_timeout", false, host.counter(HostCounter::RqTimeout)),
        ("rq_total", false, host.counter(HostCounter::RqTotal)),
    ]
}

/// Whether discovery brought the cluster.
fn is_added_via_api(cluster: &Cluster) -> bool {
    cluster.shared().is_some_and(|shared| !shared.is_static(cluster.info.name()))
}

/// Whether the host is a canary (`envoy.lb` metadata).
fn is_canary(host: &Host) -> bool {
    let metadata = host.info().metadata.as_deref();
    let canary = metadata.and_then(|metadata| metadata.get("envoy.lb", &["canary"]));
    matches!(canary, Some(nuncio_stream_info::Value::Bool(true)))
}

/// The health that configuration gives a host.
fn configured_health(flags: HealthFlags) -> &'static str {
    if flags.has(HealthFlags::FAILED_EDS_HEALTH) {
        "UNHEALTHY"
    } else if flags.has(HealthFlags::EDS_STATUS_DRAINING) {
        "DRAINING"
    } else if flags.has(HealthFlags::DEGRADED_EDS_HEALTH) {
        "DEGRADED"
    } else {
        "HEALTHY"
    }
}
