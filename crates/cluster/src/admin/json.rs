//! The JSON form of `/clusters`, as protobuf prints it: one space of indentation, defaults left out.

use super::{configured_health, host_stats, is_added_via_api};
use crate::breaker::RoutingPriority;
use crate::health::HealthFlags;
use crate::host::Host;
use crate::manager::Cluster;
use nuncio_lb::Endpoint;
use nuncio_stream_info::{Address, Locality, write_json_string};
use std::fmt::Display;
use std::io::Write;
use std::rc::Rc;

/// Writes indented JSON.
struct Pretty<'a> {
    out: &'a mut Vec<u8>,
    depth: usize,
    is_empty: bool,
}

impl Pretty<'_> {
    fn next(&mut self) {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
        self.line();
    }

    fn line(&mut self) {
        self.out.push(b'\n');
        self.out.extend(std::iter::repeat_n(b' ', self.depth));
    }

    fn key(&mut self, name: &str) {
        self.next();
        write_json_string(name.as_bytes(), self.out);
        self.out.extend_from_slice(b": ");
    }

    fn nested(&mut self, [open, close]: [u8; 2], fill: impl FnOnce(&mut Self)) {
        self.out.push(open);
        self.depth += 1;
        self.is_empty = true;
        fill(self);
        self.depth -= 1;
        if !self.is_empty {
            self.line();
        }
        self.is_empty = false;
        self.out.push(close);
    }

    fn object(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        self.key(name);
        self.nested(*b"{}", fill);
    }

    /// A list of objects; left out if there are none.
    fn list<T>(&mut self, name: &str, items: impl Iterator<Item = T>, fill: impl Fn(&mut Self, T)) {
        let mut items = items.peekable();
        if items.peek().is_none() {
            return;
        }
        self.key(name);
        self.nested(*b"[]", |json| {
            for item in items {
                json.next();
                json.nested(*b"{}", |json| fill(json, item));
            }
        });
    }

    /// Left out if empty.
    fn text(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.key(name);
            write_json_string(value.as_bytes(), self.out);
        }
    }

    fn raw(&mut self, name: &str, value: impl Display) {
        self.key(name);
        // Writing into a Vec can't fail.
        let _ = write!(self.out, "{value}");
    }

    /// `type.v3.Percent`; left out if unknown.
    fn percent(&mut self, name: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.object(name, |json| {
                if value != 0.0 {
                    json.raw("value", value);
                }
            });
        }
    }
}

pub(super) fn write_clusters<'a>(out: &mut Vec<u8>, clusters: impl Iterator<Item = &'a Rc<Cluster>>) {
    let mut json = Pretty { out, depth: 0, is_empty: true };
    json.nested(*b"{}", |json| json.list("cluster_statuses", clusters, |json, cluster| write_cluster(json, cluster)));
    json.line();
}

/// Writes what [`write_clusters`] writes of one cluster.
pub(super) fn write_element(out: &mut Vec<u8>, cluster: &Cluster) {
    let mut json = Pretty { out, depth: 2, is_empty: true };
    json.line();
    json.nested(*b"{}", |json| write_cluster(json, cluster));
}

fn write_cluster(json: &mut Pretty<'_>, cluster: &Cluster) {
    let [external, local] = cluster.detector().map(|detector| detector.rates()).unwrap_or_default();
    json.text("name", cluster.info.name());
    if is_added_via_api(cluster) {
        json.raw("added_via_api", true);
    }
    json.percent("success_rate_ejection_threshold", external.threshold);
    json.list("host_statuses", cluster.hosts().hosts(), |json, host| write_host(json, host));
    json.percent("local_origin_success_rate_ejection_threshold", local.threshold);
    json.object("circuit_breakers", |json| {
        let priorities = [RoutingPriority::Default, RoutingPriority::High];
        json.list("thresholds", priorities.into_iter(), |json, priority| {
            if priority == RoutingPriority::High {
                json.text("priority", "HIGH");
            }
            for (name, limit) in cluster.info.limits(priority) {
                json.raw(name, limit);
            }
        });
    });
    json.text("observability_name", cluster.info.config.observability_name());
}

fn write_host(json: &mut Pretty<'_>, host: &Host) {
    let destination = host.destination();
    json.object("address", |json| write_address(json, &destination.info.address));
    // Counters come before gauges.
    let stats = host_stats(host);
    let (gauges, counters): (Vec<_>, Vec<_>) = stats.into_iter().partition(|(_, is_gauge, _)| *is_gauge);
    json.list("stats", counters.into_iter().chain(gauges), |json, (name, is_gauge, value)| {
        if is_gauge {
            json.text("type", "GAUGE");
        }
        if value != 0 {
            json.text("value", &value.to_string());
        }
        json.text("name", name);
    });
    json.object("health_status", |json| write_health(json, host.health_flags()));
    let monitor = host.outlier();
    json.percent("success_rate", monitor.and_then(|monitor| monitor.success_rate()));
    json.raw("weight", host.weight());
    json.text("hostname", host.hostname());
    if host.priority() != 0 {
        json.raw("priority", host.priority());
    }
    json.percent("local_origin_success_rate", monitor.and_then(|monitor| monitor.local_origin_success_rate()));
    json.object("locality", |json| write_locality(json, &destination.info.locality));
}

fn write_address(json: &mut Pretty<'_>, address: &Address) {
    match address {
        Address::Ip(address) => json.object("socket_address", |json| {
            json.text("address", &address.ip().to_string());
            json.raw("port_value", address.port());
        }),
        Address::Pipe(path) => json.object("pipe", |json| json.text("path", path)),
        Address::Internal { listener, endpoint_id } => json.object("envoy_internal_address", |json| {
            json.text("server_listener_name", listener);
            json.text("endpoint_id", endpoint_id);
        }),
    }
}

fn write_health(json: &mut Pretty<'_>, flags: HealthFlags) {
    let mut flag = |name: &str, flag: HealthFlags| {
        if flags.has(flag) {
            json.raw(name, true);
        }
    };
    flag("failed_active_health_check", HealthFlags::FAILED_ACTIVE_HC);
    flag("failed_outlier_check", HealthFlags::FAILED_OUTLIER_CHECK);
    json.text("eds_health_status", configured_health(flags));
    let mut flag = |name: &str, flag: HealthFlags| {
        if flags.has(flag) {
            json.raw(name, true);
        }
    };
    flag("failed_active_degraded_check", HealthFlags::DEGRADED_ACTIVE_HC);
    flag("pending_dynamic_removal", HealthFlags::PENDING_DYNAMIC_REMOVAL);
    flag("pending_active_hc", HealthFlags::PENDING_ACTIVE_HC);
    flag("excluded_via_immediate_hc_fail", HealthFlags::EXCLUDED_VIA_IMMEDIATE_HC_FAIL);
    flag("active_hc_timeout", HealthFlags::ACTIVE_HC_TIMEOUT);
}

fn write_locality(json: &mut Pretty<'_>, locality: &Locality) {
    json.text("region", &locality.region);
    json.text("zone", &locality.zone);
    json.text("sub_zone", &locality.sub_zone);
}
