//! `envoy.config.cluster.v3.OutlierDetection`.

use std::sync::Arc;
use std::time::Duration;

/// When a host is ejected for what its responses were. Percentages are 0 to 100; an `enforcing_*` one is the chance that
/// a detected outlier is ejected, rather than only counted and logged.
#[derive(Debug, Clone, PartialEq)]
pub struct OutlierDetection {
    /// `consecutive_5xx`. Default 5.
    pub consecutive_5xx: u32,
    /// `interval` between sweeps. Default 10 s.
    pub interval: Duration,
    /// `base_ejection_time`: an ejection lasts so long, times how often the host was ejected. Default 30 s.
    pub base_ejection_time: Duration,
    /// `max_ejection_time`. Default 300 s, or the base time if that is longer.
    pub max_ejection_time: Duration,
    /// `max_ejection_time_jitter`: at most so much is added to an ejection. Default 0.
    pub max_ejection_time_jitter: Duration,
    /// `max_ejection_percent` of the hosts may be ejected. Default 10.
    pub max_ejection_percent: u32,
    /// `always_eject_one_host`: one may be ejected whatever the percentage. Default false.
    pub always_eject_one_host: bool,
    /// `enforcing_consecutive_5xx`. Default 100.
    pub enforcing_consecutive_5xx: u32,
    /// `enforcing_success_rate`. Default 100.
    pub enforcing_success_rate: u32,
    /// `success_rate_minimum_hosts` with enough requests. Default 5.
    pub success_rate_minimum_hosts: u32,
    /// `success_rate_request_volume` in an interval. Default 100.
    pub success_rate_request_volume: u32,
    /// `success_rate_stdev_factor`, in thousandths. Default 1900.
    pub success_rate_stdev_factor: u32,
    /// `consecutive_gateway_failure` (502, 503, 504). Default 5.
    pub consecutive_gateway_failure: u32,
    /// `enforcing_consecutive_gateway_failure`. Default 0.
    pub enforcing_consecutive_gateway_failure: u32,
    /// `split_external_local_origin_errors`: failures of this side (connect, timeout) are counted apart. Default false.
    pub split_external_local_origin_errors: bool,
    /// `consecutive_local_origin_failure`. Default 5.
    pub consecutive_local_origin_failure: u32,
    /// `enforcing_consecutive_local_origin_failure`. Default 100.
    pub enforcing_consecutive_local_origin_failure: u32,
    /// `enforcing_local_origin_success_rate`. Default 100.
    pub enforcing_local_origin_success_rate: u32,
    /// `failure_percentage_threshold`. Default 85.
    pub failure_percentage_threshold: u32,
    /// `enforcing_failure_percentage`. Default 0.
    pub enforcing_failure_percentage: u32,
    /// `enforcing_failure_percentage_local_origin`. Default 0.
    pub enforcing_failure_percentage_local_origin: u32,
    /// `failure_percentage_minimum_hosts`. Default 5.
    pub failure_percentage_minimum_hosts: u32,
    /// `failure_percentage_request_volume`. Default 50.
    pub failure_percentage_request_volume: u32,
    /// `successful_active_health_check_uneject_host`. Default true.
    pub successful_active_health_check_uneject_host: bool,
    /// The bootstrap's `cluster_manager.outlier_detection.event_log_path`.
    pub event_log: Option<Arc<str>>,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        OutlierDetection {
            consecutive_5xx: 5,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_time_jitter: Duration::ZERO,
            max_ejection_percent: 10,
            always_eject_one_host: false,
            enforcing_consecutive_5xx: 100,
            enforcing_success_rate: 100,
            success_rate_minimum_hosts: 5,
            success_rate_request_volume: 100,
            success_rate_stdev_factor: 1900,
            consecutive_gateway_failure: 5,
            enforcing_consecutive_gateway_failure: 0,
            split_external_local_origin_errors: false,
            consecutive_local_origin_failure: 5,
            enforcing_consecutive_local_origin_failure: 100,
            enforcing_local_origin_success_rate: 100,
            failure_percentage_threshold: 85,
            enforcing_failure_percentage: 0,
            enforcing_failure_percentage_local_origin: 0,
            failure_percentage_minimum_hosts: 5,
            failure_percentage_request_volume: 50,
            successful_active_health_check_uneject_host: true,
            event_log: None,
        }
    }
}
