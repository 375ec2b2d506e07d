//! The health check event log (`data.core.v3.HealthCheckEvent`).

use super::{FailureType, HealthChecks};
use crate::config::HealthChecker;
use crate::event_log::JsonLine;
use crate::host::Host;
use crate::manager::{Cluster, Shared};
use std::sync::Arc;
use std::time::SystemTime;

impl FailureType {
    fn as_str(self) -> &'static str {
        match self {
            FailureType::Active => "ACTIVE",
            FailureType::Passive => "PASSIVE",
            FailureType::Network => "NETWORK",
            FailureType::NetworkTimeout => "NETWORK_TIMEOUT",
        }
    }
}

impl HealthChecks {
    pub(super) fn log_add_healthy(&self, cluster: &Cluster, shared: &Shared, host: &Arc<Host>, is_first: bool) {
        let event = |line: &mut JsonLine| {
            line.object("add_healthy_event", |line| {
                line.raw("first_check", is_first);
            });
        };
        self.write(cluster, shared, host, event, |_| {});
    }

    pub(super) fn log_eject(
        &self,
        cluster: &Cluster,
        shared: &Shared,
        host: &Arc<Host>,
        (kind, status): (FailureType, u16),
    ) {
        let event = |line: &mut JsonLine| {
            line.object("eject_unhealthy_event", |line| {
                line.text("failure_type", kind.as_str()).raw("http_status_code", status);
            });
        };
        self.write(cluster, shared, host, event, |_| {});
    }

    pub(super) fn log_failure(
        &self,
        cluster: &Cluster,
        shared: &Shared,
        host: &Arc<Host>,
        (kind, status, is_first): (FailureType, u16, bool),
    ) {
        let event = |line: &mut JsonLine| {
            line.object("health_check_failure_event", |line| {
                line.text("failure_type", kind.as_str()).raw("first_check", is_first).raw("http_status_code", status);
            });
        };
        self.write_after_time(cluster, shared, host, event);
    }

    pub(super) fn log_degraded(&self, cluster: &Cluster, shared: &Shared, host: &Arc<Host>, degraded: bool) {
        let name = if degraded { "degraded_healthy_host" } else { "no_longer_degraded_host" };
        self.write_after_time(cluster, shared, host, |line| {
            line.object(name, |_| {});
        });
    }

    pub(super) fn log_success(&self, cluster: &Cluster, shared: &Shared, host: &Arc<Host>) {
        self.write(
            cluster,
            shared,
            host,
            |_| {},
            |line| {
                line.object("successful_health_check_event", |_| {});
            },
        );
    }

    fn write_after_time(
        &self,
        cluster: &Cluster,
        shared: &Shared,
        host: &Arc<Host>,
        event: impl FnOnce(&mut JsonLine),
    ) {
        if self.config.event_logs.is_empty() {
            return;
        }
        let mut line = self.head(cluster, host);
        line.time("timestamp", SystemTime::now());
        event(&mut line);
        line.locality("locality", &host.info().locality);
        self.append(shared, line);
    }

    /// Members come in the order of their field numbers: some events before the time, one behind the locality.
    fn write(
        &self,
        cluster: &Cluster,
        shared: &Shared,
        host: &Arc<Host>,
        event: impl FnOnce(&mut JsonLine),
        last: impl FnOnce(&mut JsonLine),
    ) {
        if self.config.event_logs.is_empty() {
            return;
        }
        let mut line = self.head(cluster, host);
        event(&mut line);
        line.time("timestamp", SystemTime::now());
        line.locality("locality", &host.info().locality);
        last(&mut line);
        self.append(shared, line);
    }

    fn head(&self, cluster: &Cluster, host: &Arc<Host>) -> JsonLine {
        let kind = match self.config.checker {
            HealthChecker::Http(_) => "HTTP",
            HealthChecker::Tcp(_) => "TCP",
            HealthChecker::Grpc(_) => "GRPC",
        };
        let mut line = JsonLine::new();
        line.text("health_checker_type", kind).address("host", &host.destination().info.address);
        line.text("cluster_name", cluster.info.name());
        line
    }

    fn append(&self, shared: &Shared, line: JsonLine) {
        let line = line.finish();
        for path in &self.config.event_logs {
            shared.event_logs.write(path, &line);
        }
    }
}
