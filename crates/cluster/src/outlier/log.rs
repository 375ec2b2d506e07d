//! The outlier event log (`data.cluster.v3.OutlierDetectionEvent`).

use super::detector::Detector;
use super::monitor::EjectionType;
use crate::event_log::JsonLine;
use crate::host::Host;
use crate::manager::{Cluster, Shared};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

impl EjectionType {
    /// The name in the log.
    fn as_str(self) -> &'static str {
        match self {
            EjectionType::Consecutive5xx => "CONSECUTIVE_5XX",
            EjectionType::ConsecutiveGatewayFailure => "CONSECUTIVE_GATEWAY_FAILURE",
            EjectionType::SuccessRate => "SUCCESS_RATE",
            EjectionType::ConsecutiveLocalOriginFailure => "CONSECUTIVE_LOCAL_ORIGIN_FAILURE",
            EjectionType::SuccessRateLocalOrigin => "SUCCESS_RATE_LOCAL_ORIGIN",
            EjectionType::FailurePercentage => "FAILURE_PERCENTAGE",
            EjectionType::FailurePercentageLocalOrigin => "FAILURE_PERCENTAGE_LOCAL_ORIGIN",
        }
    }

    fn is_local_origin(self) -> bool {
        matches!(self, EjectionType::SuccessRateLocalOrigin | EjectionType::FailurePercentageLocalOrigin)
    }
}

impl Detector {
    pub(super) fn log_ejection(
        &self,
        cluster: &Cluster,
        shared: &Shared,
        (host, what): (&Arc<Host>, EjectionType),
        is_enforced: bool,
    ) {
        let (Some(path), Some(monitor)) = (&self.config().event_log, host.outlier()) else { return };
        let ejection = monitor.ejection();
        let mut line = JsonLine::new();
        line.text("type", what.as_str()).time("timestamp", SystemTime::now());
        if let Some(since) = ejection.last_unejection.map(|at| crate::manager::now().saturating_duration_since(at)) {
            line.text("secs_since_last_action", &seconds(since));
        }
        line.text("cluster_name", cluster.info.name()).text("upstream_url", &host.address().to_string());
        line.text("action", "EJECT").raw("num_ejections", ejection.count).raw("enforced", is_enforced);
        let origin = usize::from(what.is_local_origin());
        let rate = ejection.success_rate[origin].unwrap_or(-1.0);
        let rates = self.rates()[origin];
        let percent = |rate: Option<f64>| rate.map_or(0, |rate| rate as u32);
        match what {
            EjectionType::SuccessRate | EjectionType::SuccessRateLocalOrigin => {
                line.object("eject_success_rate_event", |line| {
                    line.raw("host_success_rate", rate as u32);
                    line.raw("cluster_average_success_rate", percent(rates.average));
                    line.raw("cluster_success_rate_ejection_threshold", percent(rates.threshold));
                });
            }
            EjectionType::FailurePercentage | EjectionType::FailurePercentageLocalOrigin => {
                line.object("eject_failure_percentage_event", |line| {
                    line.raw("host_success_rate", rate as u32);
                });
            }
            _ => {
                line.object("eject_consecutive_event", |_| {});
            }
        }
        shared.event_logs.write(path, &line.finish());
    }

    pub(super) fn log_unejection(&self, cluster: &Cluster, shared: &Shared, host: &Arc<Host>, now: Instant) {
        let (Some(path), Some(monitor)) = (&self.config().event_log, host.outlier()) else { return };
        let ejection = monitor.ejection();
        let mut line = JsonLine::new();
        line.text("type", "CONSECUTIVE_5XX").time("timestamp", SystemTime::now());
        if let Some(since) = ejection.last_ejection.map(|at| now.saturating_duration_since(at)) {
            line.text("secs_since_last_action", &seconds(since));
        }
        line.text("cluster_name", cluster.info.name()).text("upstream_url", &host.address().to_string());
        line.text("action", "UNEJECT").raw("num_ejections", ejection.count).raw("enforced", false);
        shared.event_logs.write(path, &line.finish());
    }
}

fn seconds(time: Duration) -> String {
    time.as_secs().to_string()
}
