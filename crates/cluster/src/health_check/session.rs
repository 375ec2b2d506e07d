//! The checks of one host: when the next one comes, and what a result does to the host.

use super::probe::Probe;
use super::{FailureType, HealthChecks, Outcome};
use crate::config::HealthCheck;
use crate::health::HealthFlags;
use crate::host::Host;
use crate::manager::{Cluster, Shared, now};
use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

/// What a result meant for the health of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transition {
    Unchanged,
    /// It changed.
    Changed,
    /// It will, if the next results are the same.
    ChangePending,
}

/// The checks of one host.
pub(super) struct Session {
    pub(super) host: Arc<Host>,
    checks: Weak<HealthChecks>,
    cluster: Weak<Cluster>,
    successes: Cell<u32>,
    failures: Cell<u32>,
    is_first: Cell<bool>,
}

impl Session {
    pub(super) fn new(host: Arc<Host>, checks: Weak<HealthChecks>, cluster: Weak<Cluster>) -> Self {
        Session { host, checks, cluster, successes: Cell::new(0), failures: Cell::new(0), is_first: Cell::new(true) }
    }

    /// Whether there was no result yet.
    pub(super) fn is_first(&self) -> bool {
        self.is_first.get()
    }

    /// Checks the host for as long as it is a member.
    pub(super) async fn run(self: Rc<Self>) {
        let mut probe = Probe::default();
        let Some(wait) = self.checks.upgrade().and_then(|checks| self.initial_wait(&checks.config)) else { return };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        loop {
            let (Some(checks), Some(cluster)) = (self.checks.upgrade(), self.cluster.upgrade()) else { return };
            checks.stats.attempt().inc();
            let outcome = probe.check(&checks, &cluster.info, &self.host).await;
            let Some(shared) = cluster.shared() else { return };
            let transition = self.settle(&checks, &cluster, &shared, outcome);
            let has_traffic = cluster.info.stats.upstream_cx_total().value() > 0;
            let is_success = matches!(outcome, Outcome::Success { .. });
            let base = interval(&checks.config, is_success, transition, has_traffic);
            let wait = with_jitter(&checks.config, base, &mut shared.rng.borrow_mut());
            drop((checks, cluster, shared));
            tokio::time::sleep(wait).await;
        }
    }

    fn initial_wait(&self, config: &HealthCheck) -> Option<Duration> {
        let shared = self.cluster.upgrade()?.shared()?;
        let jitter = config.initial_jitter.as_millis().min(u128::from(u32::MAX)) as u64;
        Some(if jitter > 0 { Duration::from_millis(shared.rng.borrow_mut().u64(..jitter)) } else { Duration::ZERO })
    }

    /// Applies a result to the host.
    pub(super) fn settle(
        &self,
        checks: &HealthChecks,
        cluster: &Rc<Cluster>,
        shared: &Shared,
        outcome: Outcome,
    ) -> Settled {
        let transition = match outcome {
            Outcome::Success { degraded } => self.passed(checks, cluster, shared, degraded),
            Outcome::Failure { kind, is_retriable, status } => {
                self.failed(checks, cluster, shared, (kind, is_retriable, status))
            }
        };
        if transition == Transition::Changed {
            cluster.health_changed(shared, &self.host);
        }
        if matches!(outcome, Outcome::Success { .. })
            && !self.host.health_flags().has(HealthFlags::FAILED_ACTIVE_HC)
            && let Some(detector) = cluster.detector()
        {
            detector.health_check_passed(cluster, shared, &self.host);
        }
        if self.is_first.replace(false) {
            cluster.arrived(shared);
        }
        Settled(transition)
    }

    fn passed(&self, checks: &HealthChecks, cluster: &Cluster, shared: &Shared, degraded: bool) -> Transition {
        let host = &self.host;
        self.failures.set(0);
        let mut transition = Transition::Unchanged;
        if host.health_flags().has(HealthFlags::FAILED_ACTIVE_HC) {
            self.successes.set(self.successes.get() + 1);
            // The first result ever decides at once: it makes the start faster.
            if self.is_first.get() || self.successes.get() == checks.config.healthy_threshold {
                self.successes.set(0);
                let failed = HealthFlags::FAILED_ACTIVE_HC
                    .or(HealthFlags::ACTIVE_HC_TIMEOUT)
                    .or(HealthFlags::EXCLUDED_VIA_IMMEDIATE_HC_FAIL)
                    .or(HealthFlags::PENDING_ACTIVE_HC);
                host.clear_health(failed, now());
                checks.count_healthy(true);
                transition = Transition::Changed;
                checks.log_add_healthy(cluster, shared, host, self.is_first.get());
            } else {
                transition = Transition::ChangePending;
            }
        }
        if transition != Transition::Changed && checks.config.always_log_health_check_success {
            checks.log_success(cluster, shared, host);
        }
        transition = self.no_longer_pending(transition);
        if degraded != host.health_flags().has(HealthFlags::DEGRADED_ACTIVE_HC) {
            if degraded {
                host.set_health(HealthFlags::DEGRADED_ACTIVE_HC);
            } else {
                host.clear_health(HealthFlags::DEGRADED_ACTIVE_HC, now());
            }
            checks.count_degraded(degraded);
            checks.log_degraded(cluster, shared, host, degraded);
            if transition == Transition::Unchanged {
                transition = Transition::Changed;
            }
        }
        checks.stats.success().inc();
        transition
    }

    fn failed(
        &self,
        checks: &HealthChecks,
        cluster: &Cluster,
        shared: &Shared,
        (kind, is_retriable, status): (FailureType, bool, u16),
    ) -> Transition {
        let host = &self.host;
        self.successes.set(0);
        let mut transition = Transition::Unchanged;
        if !host.health_flags().has(HealthFlags::FAILED_ACTIVE_HC) {
            self.failures.set(self.failures.get() + 1);
            // A wrong answer is certain; a lost one counts towards the threshold.
            let is_certain = !kind.is_network() && !is_retriable;
            if is_certain || self.failures.get() == checks.config.unhealthy_threshold {
                self.failures.set(0);
                host.set_health(HealthFlags::FAILED_ACTIVE_HC);
                checks.count_healthy(false);
                transition = Transition::Changed;
                checks.log_eject(cluster, shared, host, (kind, status));
            } else {
                transition = Transition::ChangePending;
            }
        }
        if host.health_flags().has(HealthFlags::FAILED_ACTIVE_HC) {
            if kind == FailureType::NetworkTimeout {
                host.set_health(HealthFlags::ACTIVE_HC_TIMEOUT);
            } else {
                host.clear_health(HealthFlags::ACTIVE_HC_TIMEOUT, now());
            }
        }
        transition = self.no_longer_pending(transition);
        if self.is_first.get() || checks.config.always_log_health_check_failures {
            checks.log_failure(cluster, shared, host, (kind, status, self.is_first.get()));
        }
        checks.stats.failure().inc();
        if kind.is_network() {
            checks.stats.network_failure().inc();
        } else if kind == FailureType::Passive {
            checks.stats.passive_failure().inc();
        }
        transition
    }

    /// The first result ends the time in which the host does not count.
    fn no_longer_pending(&self, transition: Transition) -> Transition {
        match self.host.clear_health(HealthFlags::PENDING_ACTIVE_HC, now()) {
            true => Transition::Changed,
            false => transition,
        }
    }
}

/// What a result did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settled(Transition);

/// The time until the next check, without jitter.
fn interval(config: &HealthCheck, is_success: bool, settled: Settled, has_traffic: bool) -> Duration {
    let is_pending = settled.0 == Transition::ChangePending;
    let unhealthy = config.unhealthy_interval.unwrap_or(config.interval);
    match (has_traffic, is_success, is_pending) {
        (true, true, false) => config.interval,
        (true, true, true) => config.healthy_edge_interval.unwrap_or(config.interval),
        (true, false, false) => unhealthy,
        (true, false, true) => config.unhealthy_edge_interval.unwrap_or(unhealthy),
        (false, true, false) => config.no_traffic_healthy_interval.unwrap_or(config.no_traffic_interval),
        (false, _, _) => config.no_traffic_interval,
    }
}

fn with_jitter(config: &HealthCheck, base: Duration, rng: &mut fastrand::Rng) -> Duration {
    let base = base.as_millis().min(u128::from(u32::MAX)) as u64;
    let mut up_to = |most: u64| if most > 0 { rng.u64(..most) } else { 0 };
    let percent = up_to(base * u64::from(config.interval_jitter_percent) / 100);
    let fixed = up_to(config.interval_jitter.as_millis().min(u128::from(u32::MAX)) as u64);
    Duration::from_millis((base + percent + fixed).max(1))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::{HealthChecker, TcpHealthCheck};

    #[test]
    fn interval_by_result_and_traffic() {
        let seconds = Duration::from_secs;
        let mut config =
            HealthCheck::new(seconds(1), seconds(10), (3, 3), HealthChecker::Tcp(TcpHealthCheck::default()));
        let check = |config: &HealthCheck, success, transition, traffic, expected| {
            let wait = interval(config, success, Settled(transition), traffic);
            assert_eq!(wait, seconds(expected), "{success} {transition:?} {traffic}");
        };
        use Transition::{ChangePending, Changed, Unchanged};
        check(&config, true, Unchanged, true, 10);
        check(&config, false, ChangePending, true, 10);
        check(&config, true, Unchanged, false, 60);
        config.unhealthy_interval = Some(seconds(3));
        check(&config, false, Changed, true, 3);
        check(&config, false, ChangePending, true, 3);
        config.unhealthy_edge_interval = Some(seconds(2));
        config.healthy_edge_interval = Some(seconds(4));
        config.no_traffic_healthy_interval = Some(seconds(90));
        check(&config, false, ChangePending, true, 2);
        check(&config, false, Unchanged, true, 3);
        check(&config, true, ChangePending, true, 4);
        check(&config, true, Changed, true, 10);
        check(&config, true, Changed, false, 90);
        check(&config, true, ChangePending, false, 60);
        check(&config, false, Unchanged, false, 60);
    }

    #[test]
    fn jitter_only_adds() {
        let seconds = Duration::from_secs;
        let mut config =
            HealthCheck::new(seconds(1), seconds(10), (3, 3), HealthChecker::Tcp(TcpHealthCheck::default()));
        let mut rng = fastrand::Rng::with_seed(1);
        assert_eq!(with_jitter(&config, seconds(10), &mut rng), seconds(10));
        config.interval_jitter = seconds(1);
        config.interval_jitter_percent = 50;
        for _ in 0..100 {
            let wait = with_jitter(&config, seconds(10), &mut rng);
            assert!(wait >= seconds(10) && wait < seconds(16), "{wait:?}");
        }
    }
}
