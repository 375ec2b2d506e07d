//! The text form of `/clusters`.

use super::{host_stats, is_added_via_api, is_canary};
use crate::breaker::RoutingPriority;
use crate::host::Host;
use crate::manager::Cluster;
use nuncio_lb::Endpoint;
use std::fmt::Display;
use std::io::Write;

pub(super) fn write_cluster(out: &mut Vec<u8>, cluster: &Cluster) {
    let name = cluster.info.name();
    let mut line = |key: &str, value: &dyn Display| {
        // Writing into a Vec can't fail.
        let _ = writeln!(out, "{name}::{key}::{value}");
    };
    line("observability_name", cluster.info.config.observability_name());
    if let Some(detector) = cluster.detector() {
        let [external, local] = detector.rates();
        line("outlier::success_rate_average", &rate(external.average));
        line("outlier::success_rate_ejection_threshold", &rate(external.threshold));
        line("outlier::local_origin_success_rate_average", &rate(local.average));
        line("outlier::local_origin_success_rate_ejection_threshold", &rate(local.threshold));
    }
    for (prefix, priority) in [("default_priority", RoutingPriority::Default), ("high_priority", RoutingPriority::High)]
    {
        for (key, limit) in cluster.info.limits(priority) {
            line(&format!("{prefix}::{key}"), &limit);
        }
    }
    line("added_via_api", &is_added_via_api(cluster));
    for host in cluster.hosts().hosts() {
        write_host(out, name, host);
    }
}

fn rate(rate: Option<f64>) -> f64 {
    rate.unwrap_or(-1.0)
}

fn write_host(out: &mut Vec<u8>, cluster: &str, host: &Host) {
    let destination = host.destination();
    let address = &destination.info.address;
    let mut line = |key: &str, value: &dyn Display| {
        // Writing into a Vec can't fail.
        let _ = writeln!(out, "{cluster}::{address}::{key}::{value}");
    };
    for (key, _, value) in host_stats(host) {
        line(key, &value);
    }
    line("hostname", host.hostname());
    line("health_flags", &host.health_flags());
    line("weight", &host.weight());
    line("region", &destination.info.locality.region);
    line("zone", &destination.info.locality.zone);
    line("sub_zone", &destination.info.locality.sub_zone);
    line("canary", &is_canary(host));
    line("priority", &host.priority());
    line("success_rate", &rate(host.outlier().and_then(|monitor| monitor.success_rate())));
    line("local_origin_success_rate", &rate(host.outlier().and_then(|monitor| monitor.local_origin_success_rate())));
}
