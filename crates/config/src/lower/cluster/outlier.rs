//! `OutlierDetection`.

use crate::compile::{Compile, Invalid};
use crate::lower::bootstrap::Manager;
use crate::lower::number::{Wrapped, duration_field};
use nuncio_api::pb::envoy::config::cluster::v3 as pb;
use nuncio_cluster::config::OutlierDetection;

/// `outlier_detection`; none turns it off.
pub(super) fn outlier_detection(
    detection: Option<&pb::OutlierDetection>,
    manager: &Manager,
    cx: &mut Compile<'_>,
) -> Result<Option<Box<OutlierDetection>>, Invalid> {
    let Some(detection) = detection else { return Ok(None) };
    lower(detection, manager, &mut cx.field("outlier_detection")).map(|lowered| Some(Box::new(lowered)))
}

fn lower(
    detection: &pb::OutlierDetection,
    manager: &Manager,
    cx: &mut Compile<'_>,
) -> Result<OutlierDetection, Invalid> {
    let pb::OutlierDetection {
        consecutive_5xx,
        interval,
        base_ejection_time,
        max_ejection_percent,
        enforcing_consecutive_5xx,
        enforcing_success_rate,
        success_rate_minimum_hosts,
        success_rate_request_volume,
        success_rate_stdev_factor,
        consecutive_gateway_failure,
        enforcing_consecutive_gateway_failure,
        split_external_local_origin_errors,
        consecutive_local_origin_failure,
        enforcing_consecutive_local_origin_failure,
        enforcing_local_origin_success_rate,
        failure_percentage_threshold,
        enforcing_failure_percentage,
        enforcing_failure_percentage_local_origin,
        failure_percentage_minimum_hosts,
        failure_percentage_request_volume,
        max_ejection_time,
        max_ejection_time_jitter,
        successful_active_health_check_uneject_host,
        monitors,
        always_eject_one_host,
        detect_degraded_hosts,
    } = detection;
    cx.unsupported_if(!monitors.is_empty(), "monitors");
    cx.unsupported_if(detect_degraded_hosts.value_or(false), "detect_degraded_hosts");
    let d = OutlierDetection::default();
    let interval = duration_field(interval, "interval", cx)?.unwrap_or(d.interval);
    let base = duration_field(base_ejection_time, "base_ejection_time", cx)?.unwrap_or(d.base_ejection_time);
    let jitter = duration_field(max_ejection_time_jitter, "max_ejection_time_jitter", cx)?;
    let longest = duration_field(max_ejection_time, "max_ejection_time", cx)?;
    if longest.is_some_and(|longest| longest < base) {
        return Err(cx.field("max_ejection_time").error("cannot be smaller than base_ejection_time"));
    }
    Ok(OutlierDetection {
        consecutive_5xx: consecutive_5xx.value_or(d.consecutive_5xx),
        interval,
        base_ejection_time: base,
        max_ejection_time: longest.unwrap_or(d.max_ejection_time.max(base)),
        max_ejection_time_jitter: jitter.unwrap_or(d.max_ejection_time_jitter),
        max_ejection_percent: max_ejection_percent.value_or(d.max_ejection_percent),
        always_eject_one_host: always_eject_one_host.value_or(d.always_eject_one_host),
        enforcing_consecutive_5xx: enforcing_consecutive_5xx.value_or(d.enforcing_consecutive_5xx),
        enforcing_success_rate: enforcing_success_rate.value_or(d.enforcing_success_rate),
        success_rate_minimum_hosts: success_rate_minimum_hosts.value_or(d.success_rate_minimum_hosts),
        success_rate_request_volume: success_rate_request_volume.value_or(d.success_rate_request_volume),
        success_rate_stdev_factor: success_rate_stdev_factor.value_or(d.success_rate_stdev_factor),
        consecutive_gateway_failure: consecutive_gateway_failure.value_or(d.consecutive_gateway_failure),
        enforcing_consecutive_gateway_failure: enforcing_consecutive_gateway_failure
            .value_or(d.enforcing_consecutive_gateway_failure),
        split_external_local_origin_errors: *split_external_local_origin_errors,
        consecutive_local_origin_failure: consecutive_local_origin_failure.value_or(d.consecutive_local_origin_failure),
        enforcing_consecutive_local_origin_failure: enforcing_consecutive_local_origin_failure
            .value_or(d.enforcing_consecutive_local_origin_failure),
        enforcing_local_origin_success_rate: enforcing_local_origin_success_rate
            .value_or(d.enforcing_local_origin_success_rate),
        failure_percentage_threshold: failure_percentage_threshold.value_or(d.failure_percentage_threshold),
        enforcing_failure_percentage: enforcing_failure_percentage.value_or(d.enforcing_failure_percentage),
        enforcing_failure_percentage_local_origin: enforcing_failure_percentage_local_origin
            .value_or(d.enforcing_failure_percentage_local_origin),
        failure_percentage_minimum_hosts: failure_percentage_minimum_hosts.value_or(d.failure_percentage_minimum_hosts),
        failure_percentage_request_volume: failure_percentage_request_volume
            .value_or(d.failure_percentage_request_volume),
        successful_active_health_check_uneject_host: successful_active_health_check_uneject_host
            .value_or(d.successful_active_health_check_uneject_host),
        event_log: manager.outlier_event_log.clone(),
    })
}
