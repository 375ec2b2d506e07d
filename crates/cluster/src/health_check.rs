//! Active health checks: one session for each host of a cluster that has them, on the main thread.

mod http2;
mod log;
mod probe;
mod session;
#[cfg(test)]
mod tests;

use crate::config::HealthCheck;
use crate::health::HealthFlags;
use crate::host::Host;
use crate::manager::{AbortOnDrop, Cluster, Shared};
use nuncio_stats::stat_group;
use session::Session;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

stat_group! {
    /// `cluster.<name>.health_check.*`
    pub group HealthCheckStats {
        counters {
            attempt,
            failure,
            network_failure,
            passive_failure,
            success,
            verify_cluster,
        }
        gauges {
            degraded,
            healthy,
        }
    }
}

/// Why a check failed (`data.core.v3.HealthCheckFailureType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureType {
    /// The answer was wrong.
    Active,
    /// The data path said so (`x-envoy-immediate-health-check-fail`).
    Passive,
    /// No connection, or it broke.
    Network,
    /// No answer in time.
    NetworkTimeout,
}

impl FailureType {
    fn is_network(self) -> bool {
        matches!(self, FailureType::Network | FailureType::NetworkTimeout)
    }
}

/// What one check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Success {
        degraded: bool,
    },
    Failure {
        kind: FailureType,
        /// Counts towards the threshold, rather than acting at once.
        is_retriable: bool,
        /// 0 if there was no response.
        status: u16,
    },
}

/// The health checks of one cluster.
pub(crate) struct HealthChecks {
    config: HealthCheck,
    stats: HealthCheckStats,
    sessions: RefCell<HashMap<*const Host, (Rc<Session>, AbortOnDrop)>>,
    healthy: Cell<u64>,
    degraded: Cell<u64>,
}

impl HealthChecks {
    pub(crate) fn new(cluster: &Rc<Cluster>, _shared: &Rc<Shared>, config: &HealthCheck) -> Rc<Self> {
        let stats = HealthCheckStats::register(&cluster.info.stats.scope().child("health_check"));
        Rc::new(HealthChecks {
            config: config.clone(),
            stats,
            sessions: RefCell::default(),
            healthy: Cell::new(0),
            degraded: Cell::new(0),
        })
    }

    /// Starts to check new hosts, and stops with those that are gone. Until it is ready the cluster waits for the first
    /// check of each.
    pub(crate) fn update(self: &Rc<Self>, cluster: &Rc<Cluster>, added: &[Arc<Host>], removed: &[Arc<Host>]) {
        for host in added {
            if host.health_check_config().is_some_and(|own| own.disabled) {
                continue;
            }
            cluster.wait_for_one();
            let session = Rc::new(Session::new(host.clone(), Rc::downgrade(self), Rc::downgrade(cluster)));
            if !host.health_flags().has(HealthFlags::FAILED_ACTIVE_HC) {
                self.count_healthy(true);
            }
            let task = AbortOnDrop(tokio::task::spawn_local(session.clone().run()).abort_handle());
            self.sessions.borrow_mut().insert(Arc::as_ptr(host), (session, task));
        }
        for host in removed {
            let session = self.sessions.borrow_mut().remove(&Arc::as_ptr(host));
            if let Some((session, _)) = session {
                self.ended(&session, cluster);
            }
        }
    }

    fn ended(&self, session: &Session, cluster: &Rc<Cluster>) {
        let flags = session.host.health_flags();
        if !flags.has(HealthFlags::FAILED_ACTIVE_HC) {
            self.count_healthy(false);
        }
        if flags.has(HealthFlags::DEGRADED_ACTIVE_HC) {
            self.count_degraded(false);
        }
        if session.is_first()
            && let Some(shared) = cluster.shared()
        {
            cluster.arrived(&shared);
        }
    }

    /// The data path found a host unhealthy.
    pub(crate) fn passive_failure(&self, cluster: &Rc<Cluster>, shared: &Shared, host: &Arc<Host>) {
        let session = self.sessions.borrow().get(&Arc::as_ptr(host)).map(|(session, _)| session.clone());
        if let Some(session) = session {
            host.set_health(HealthFlags::EXCLUDED_VIA_IMMEDIATE_HC_FAIL);
            let failure = Outcome::Failure { kind: FailureType::Passive, is_retriable: false, status: 0 };
            session.settle(self, cluster, shared, failure);
        }
    }

    fn count_healthy(&self, up: bool) {
        self.healthy.set(if up { self.healthy.get() + 1 } else { self.healthy.get().saturating_sub(1) });
        self.stats.healthy().set(self.healthy.get());
    }

    fn count_degraded(&self, up: bool) {
        self.degraded.set(if up { self.degraded.get() + 1 } else { self.degraded.get().saturating_sub(1) });
        self.stats.degraded().set(self.degraded.get());
    }
}
