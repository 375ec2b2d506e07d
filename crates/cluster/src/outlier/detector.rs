//! The detector of one cluster, on the main thread: ejects outliers and lets them in again.

use super::monitor::{EjectionType, Monitor, Volume};
use crate::config::OutlierDetection;
use crate::health::HealthFlags;
use crate::host::Host;
use crate::manager::{AbortOnDrop, Cluster, Shared, now};
use nuncio_stats::stat_group;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

stat_group! {
    /// `cluster.<name>.outlier_detection.*`
    pub group OutlierStats {
        counters {
            ejections_consecutive_5xx,
            ejections_detected_consecutive_5xx,
            ejections_detected_consecutive_gateway_failure,
            ejections_detected_consecutive_local_origin_failure,
            ejections_detected_degradation,
            ejections_detected_failure_percentage,
            ejections_detected_local_origin_failure_percentage,
            ejections_detected_local_origin_success_rate,
            ejections_detected_success_rate,
            ejections_enforced_consecutive_5xx,
            ejections_enforced_consecutive_gateway_failure,
            ejections_enforced_consecutive_local_origin_failure,
            ejections_enforced_failure_percentage,
            ejections_enforced_local_origin_failure_percentage,
            ejections_enforced_local_origin_success_rate,
            ejections_enforced_success_rate,
            ejections_enforced_total,
            ejections_overflow,
            ejections_success_rate,
            ejections_total,
        }
        gauges {
            ejections_active,
        }
    }
}

/// Where failures come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    External,
    Local,
}

/// The success rate over the hosts of a cluster, in percent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct SuccessRates {
    pub(crate) average: Option<f64>,
    /// Hosts below this are outliers.
    pub(crate) threshold: Option<f64>,
}

/// The detector of one cluster.
pub(crate) struct Detector {
    config: OutlierDetection,
    stats: OutlierStats,
    active: Cell<u32>,
    /// External origin, local origin.
    rates: Cell<[SuccessRates; 2]>,
    task: RefCell<Option<AbortOnDrop>>,
}

/// A host with enough requests in the last interval.
struct Rated {
    host: Arc<Host>,
    rate: f64,
    volume: u64,
}

impl Detector {
    /// Starts a detector that sweeps every `interval`.
    pub(crate) fn new(cluster: &Rc<Cluster>, _shared: &Rc<Shared>, config: &OutlierDetection) -> Rc<Self> {
        let scope = cluster.info.stats.scope().child("outlier_detection");
        let this = Rc::new(Detector {
            config: config.clone(),
            stats: OutlierStats::register(&scope),
            active: Cell::new(0),
            rates: Cell::default(),
            task: RefCell::new(None),
        });
        let (weak, detector) = (Rc::downgrade(cluster), Rc::downgrade(&this));
        let interval = config.interval.max(Duration::from_millis(1));
        let task = tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(interval).await;
                let (Some(cluster), Some(detector)) = (weak.upgrade(), detector.upgrade()) else { return };
                let Some(shared) = cluster.shared() else { return };
                detector.sweep(&cluster, &shared, now());
            }
        });
        *this.task.borrow_mut() = Some(AbortOnDrop(task.abort_handle()));
        this
    }

    pub(super) fn config(&self) -> &OutlierDetection {
        &self.config
    }

    /// Success rates of the last interval: external origin, local origin.
    pub(crate) fn rates(&self) -> [SuccessRates; 2] {
        self.rates.get()
    }

    /// Hosts left the cluster.
    pub(crate) fn forget(&self, removed: &[Arc<Host>]) {
        let ejected = removed.iter().filter(|host| host.health_flags().has(HealthFlags::FAILED_OUTLIER_CHECK));
        self.set_active(self.active.get().saturating_sub(ejected.count() as u32));
    }

    fn set_active(&self, active: u32) {
        self.active.set(active);
        self.stats.ejections_active().set(u64::from(active));
    }

    /// A counter of consecutive failures reached its limit.
    pub(crate) fn consecutive_failures(
        &self,
        cluster: &Rc<Cluster>,
        shared: &Shared,
        host: &Arc<Host>,
        what: EjectionType,
    ) {
        if host.health_flags().has(HealthFlags::FAILED_OUTLIER_CHECK) {
            return;
        }
        self.eject(cluster, shared, host, what);
        if what == EjectionType::Consecutive5xx {
            self.stats.ejections_consecutive_5xx().inc();
        }
        if let Some(monitor) = host.outlier() {
            monitor.reset_consecutive(what);
        }
    }

    /// Lets hosts in whose time is up, and looks for outliers by success rate and failure percentage.
    fn sweep(&self, cluster: &Rc<Cluster>, shared: &Shared, now: Instant) {
        let hosts: Vec<Arc<Host>> = cluster.hosts().hosts().cloned().collect();
        let mut volumes = Vec::with_capacity(hosts.len());
        for host in &hosts {
            let Some(monitor) = host.outlier() else { continue };
            self.check_time(cluster, shared, (host, monitor), now);
            let sums = monitor.volumes();
            let mut ejection = monitor.ejection();
            let interval = [since(sums[0], ejection.seen[0]), since(sums[1], ejection.seen[1])];
            ejection.seen = sums;
            ejection.success_rate = [None, None];
            volumes.push((host.clone(), interval));
        }
        let external = volumes.iter().map(|(host, [volume, _])| (host, *volume));
        let external = self.by_success_rate(cluster, shared, Origin::External, external.collect());
        let local = volumes.iter().map(|(host, [_, volume])| (host, *volume));
        let local = self.by_success_rate(cluster, shared, Origin::Local, local.collect());
        self.rates.set([external, local]);
    }

    fn check_time(
        &self,
        cluster: &Rc<Cluster>,
        shared: &Shared,
        (host, monitor): (&Arc<Host>, &Monitor),
        now: Instant,
    ) {
        let mut ejection = monitor.ejection();
        if !host.health_flags().has(HealthFlags::FAILED_OUTLIER_CHECK) {
            ejection.backoff = ejection.backoff.saturating_sub(1);
            return;
        }
        let time = self.config.base_ejection_time.saturating_mul(ejection.backoff).min(self.max_ejection_time());
        let time = time.saturating_add(ejection.jitter);
        let is_over = ejection.last_ejection.is_none_or(|at| now.saturating_duration_since(at) >= time);
        drop(ejection);
        if is_over {
            self.uneject(cluster, shared, host, now);
        }
    }

    fn max_ejection_time(&self) -> Duration {
        self.config.max_ejection_time.max(self.config.base_ejection_time)
    }

    /// A health check passed (`successful_active_health_check_uneject_host`).
    pub(crate) fn health_check_passed(&self, cluster: &Rc<Cluster>, shared: &Shared, host: &Arc<Host>) {
        if self.config.successful_active_health_check_uneject_host
            && host.health_flags().has(HealthFlags::FAILED_OUTLIER_CHECK)
        {
            self.uneject(cluster, shared, host, now());
        }
    }

    fn uneject(&self, cluster: &Rc<Cluster>, shared: &Shared, host: &Arc<Host>, now: Instant) {
        self.set_active(self.active.get().saturating_sub(1));
        host.clear_health(HealthFlags::FAILED_OUTLIER_CHECK, now);
        if let Some(monitor) = host.outlier() {
            // A counter that is close to its limit would eject the host again on the first failure.
            monitor.reset_consecutive(EjectionType::Consecutive5xx);
            monitor.reset_consecutive(EjectionType::ConsecutiveGatewayFailure);
            monitor.reset_consecutive(EjectionType::ConsecutiveLocalOriginFailure);
            monitor.ejection().last_unejection = Some(now);
        }
        cluster.health_changed(shared, host);
        self.log_unejection(cluster, shared, host, now);
    }

    /// Rates the hosts, and ejects those that are too bad.
    fn by_success_rate(
        &self,
        cluster: &Rc<Cluster>,
        shared: &Shared,
        origin: Origin,
        volumes: Vec<(&Arc<Host>, Volume)>,
    ) -> SuccessRates {
        let config = &self.config;
        let (least_sr, least_fp) = (config.success_rate_minimum_hosts, config.failure_percentage_minimum_hosts);
        if (volumes.len() as u64) < u64::from(least_sr.min(least_fp)) {
            return SuccessRates::default();
        }
        let volume_sr = u64::from(config.success_rate_request_volume);
        let volume_fp = u64::from(config.failure_percentage_request_volume);
        let rated = rate(volumes, volume_sr.min(volume_fp), origin);
        let mut rates = SuccessRates::default();
        let enough: Vec<&Rated> = rated.iter().filter(|rated| rated.volume >= volume_sr).collect();
        if !enough.is_empty() && enough.len() >= least_sr as usize {
            rates = success_rates(&enough, f64::from(config.success_rate_stdev_factor) / 1000.0);
            self.rates.set(with(self.rates.get(), origin, rates));
            for rated in enough.iter().filter(|rated| rates.threshold.is_some_and(|least| rated.rate < least)) {
                self.stats.ejections_success_rate().inc();
                let what = match origin {
                    Origin::External => EjectionType::SuccessRate,
                    Origin::Local => EjectionType::SuccessRateLocalOrigin,
                };
                self.eject(cluster, shared, &rated.host, what);
            }
        }
        let enough: Vec<&Rated> = rated.iter().filter(|rated| rated.volume >= volume_fp).collect();
        if !enough.is_empty() && enough.len() >= least_fp as usize {
            let most = f64::from(config.failure_percentage_threshold);
            for rated in enough.iter().filter(|rated| 100.0 - rated.rate >= most) {
                let what = match origin {
                    Origin::External => EjectionType::FailurePercentage,
                    Origin::Local => EjectionType::FailurePercentageLocalOrigin,
                };
                self.eject(cluster, shared, &rated.host, what);
            }
        }
        rates
    }

    /// Ejects a host, if the limits allow and the dice say so.
    fn eject(&self, cluster: &Rc<Cluster>, shared: &Shared, host: &Arc<Host>, what: EjectionType) {
        self.count_detected(what);
        if host.health_flags().has(HealthFlags::FAILED_OUTLIER_CHECK) {
            return;
        }
        let hosts = cluster.hosts().hosts().count().max(1);
        let percent = 100.0 * (f64::from(self.active.get()) + 1.0) / hosts as f64;
        let is_allowed = percent <= f64::from(self.config.max_ejection_percent.min(100))
            || (self.config.always_eject_one_host && self.active.get() == 0);
        if !is_allowed {
            self.stats.ejections_overflow().inc();
            return;
        }
        if matches!(what, EjectionType::Consecutive5xx | EjectionType::SuccessRate) {
            self.stats.ejections_total().inc();
        }
        let is_enforced = shared.rng.borrow_mut().u32(..100) < self.enforcing(what);
        if is_enforced {
            self.set_active(self.active.get() + 1);
            self.count_enforced(what);
            self.note_ejection(shared, host);
            host.set_health(HealthFlags::FAILED_OUTLIER_CHECK);
            cluster.health_changed(shared, host);
        }
        self.log_ejection(cluster, shared, (host, what), is_enforced);
    }

    fn note_ejection(&self, shared: &Shared, host: &Host) {
        let Some(monitor) = host.outlier() else { return };
        let mut ejection = monitor.ejection();
        ejection.count += 1;
        ejection.last_ejection = Some(now());
        let base = self.config.base_ejection_time;
        if base.saturating_mul(ejection.backoff) < self.max_ejection_time().saturating_add(base) {
            ejection.backoff += 1;
        }
        let jitter = self.config.max_ejection_time_jitter.as_millis().min(u128::from(u64::MAX) - 1) as u64;
        ejection.jitter = Duration::from_millis(shared.rng.borrow_mut().u64(..=jitter));
    }

    /// The chance, in percent, that a detected outlier is ejected.
    fn enforcing(&self, what: EjectionType) -> u32 {
        let config = &self.config;
        match what {
            EjectionType::Consecutive5xx => config.enforcing_consecutive_5xx,
            EjectionType::ConsecutiveGatewayFailure => config.enforcing_consecutive_gateway_failure,
            EjectionType::SuccessRate => config.enforcing_success_rate,
            EjectionType::ConsecutiveLocalOriginFailure => config.enforcing_consecutive_local_origin_failure,
            EjectionType::SuccessRateLocalOrigin => config.enforcing_local_origin_success_rate,
            EjectionType::FailurePercentage => config.enforcing_failure_percentage,
            EjectionType::FailurePercentageLocalOrigin => config.enforcing_failure_percentage_local_origin,
        }
    }

    fn count_detected(&self, what: EjectionType) {
        let stats = &self.stats;
        match what {
            EjectionType::Consecutive5xx => stats.ejections_detected_consecutive_5xx(),
            EjectionType::ConsecutiveGatewayFailure => stats.ejections_detected_consecutive_gateway_failure(),
            EjectionType::SuccessRate => stats.ejections_detected_success_rate(),
            EjectionType::ConsecutiveLocalOriginFailure => stats.ejections_detected_consecutive_local_origin_failure(),
            EjectionType::SuccessRateLocalOrigin => stats.ejections_detected_local_origin_success_rate(),
            EjectionType::FailurePercentage => stats.ejections_detected_failure_percentage(),
            EjectionType::FailurePercentageLocalOrigin => stats.ejections_detected_local_origin_failure_percentage(),
        }
        .inc();
    }

    fn count_enforced(&self, what: EjectionType) {
        let stats = &self.stats;
        stats.ejections_enforced_total().inc();
        match what {
            EjectionType::Consecutive5xx => stats.ejections_enforced_consecutive_5xx(),
            EjectionType::ConsecutiveGatewayFailure => stats.ejections_enforced_consecutive_gateway_failure(),
            EjectionType::SuccessRate => stats.ejections_enforced_success_rate(),
            EjectionType::ConsecutiveLocalOriginFailure => stats.ejections_enforced_consecutive_local_origin_failure(),
            EjectionType::SuccessRateLocalOrigin => stats.ejections_enforced_local_origin_success_rate(),
            EjectionType::FailurePercentage => stats.ejections_enforced_failure_percentage(),
            EjectionType::FailurePercentageLocalOrigin => stats.ejections_enforced_local_origin_failure_percentage(),
        }
        .inc();
    }
}

fn with(mut rates: [SuccessRates; 2], origin: Origin, new: SuccessRates) -> [SuccessRates; 2] {
    rates[origin as usize] = new;
    rates
}

fn since(sum: Volume, seen: Volume) -> Volume {
    Volume { total: sum.total.wrapping_sub(seen.total), success: sum.success.wrapping_sub(seen.success) }
}

/// The success rate of hosts that are in use and had any requests; those with at least `least` remember it.
fn rate(volumes: Vec<(&Arc<Host>, Volume)>, least: u64, origin: Origin) -> Vec<Rated> {
    let rate = |(host, volume): (&Arc<Host>, Volume)| {
        if volume.total == 0 || host.health_flags().has(HealthFlags::FAILED_OUTLIER_CHECK) {
            return None;
        }
        let rate = volume.success as f64 * 100.0 / volume.total as f64;
        if volume.total >= least
            && let Some(monitor) = host.outlier()
        {
            monitor.ejection().success_rate[origin as usize] = Some(rate);
        }
        Some(Rated { host: host.clone(), rate, volume: volume.total })
    };
    volumes.into_iter().filter_map(rate).collect()
}

/// Mean, and mean less `factor` standard deviations.
fn success_rates(rated: &[&Rated], factor: f64) -> SuccessRates {
    let count = rated.len() as f64;
    let mean = rated.iter().map(|rated| rated.rate).sum::<f64>() / count;
    let variance = rated.iter().map(|rated| (rated.rate - mean).powi(2)).sum::<f64>() / count;
    SuccessRates { average: Some(mean), threshold: Some(mean - factor * variance.sqrt()) }
}
