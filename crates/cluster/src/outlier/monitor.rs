//! What the outcomes of one host's requests were. Written by all workers without a lock.

use crate::Host;
use crate::cells::WorkerCells;
use crate::config::OutlierDetection;
use crate::event::{Event, Events};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What was detected (`data.cluster.v3.OutlierEjectionType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EjectionType {
    /// `CONSECUTIVE_5XX`.
    Consecutive5xx,
    /// `CONSECUTIVE_GATEWAY_FAILURE`.
    ConsecutiveGatewayFailure,
    /// `SUCCESS_RATE`.
    SuccessRate,
    /// `CONSECUTIVE_LOCAL_ORIGIN_FAILURE`.
    ConsecutiveLocalOriginFailure,
    /// `SUCCESS_RATE_LOCAL_ORIGIN`.
    SuccessRateLocalOrigin,
    /// `FAILURE_PERCENTAGE`.
    FailurePercentage,
    /// `FAILURE_PERCENTAGE_LOCAL_ORIGIN`.
    FailurePercentageLocalOrigin,
}

/// What happened on this side of a connection or request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalOrigin {
    /// Connected; the outcome of a request follows.
    Connected,
    /// Connected; nothing follows (TCP).
    ConnectedFinal,
    /// No connection, or no response, in time. The status is the one sent downstream, 504 unless configured.
    Timeout(u16),
    /// The connection could not be made, or broke before a response.
    ConnectFailed,
}

/// What all monitors of a cluster share.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) config: OutlierDetection,
    pub(crate) events: Events,
    pub(crate) workers: u32,
}

const TOTAL: usize = 0;
const SUCCESS: usize = 1;
const LOCAL_TOTAL: usize = 2;
const LOCAL_SUCCESS: usize = 3;

/// Requests, and how many of them succeeded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) total: u64,
    pub(crate) success: u64,
}

/// The outlier monitor of one host.
#[derive(Debug)]
pub struct Monitor {
    watch: Arc<Watch>,
    consecutive_5xx: AtomicU32,
    consecutive_gateway_failure: AtomicU32,
    consecutive_local_origin_failure: AtomicU32,
    cells: WorkerCells,
    ejection: Mutex<Ejection>,
}

/// What the detector knows of one host. Only the main thread looks at it.
#[derive(Debug, Default)]
pub(crate) struct Ejection {
    /// How often it was ejected.
    pub(crate) count: u32,
    /// The base time is multiplied by this; falls by one with each sweep that finds the host in use.
    pub(crate) backoff: u32,
    pub(crate) last_ejection: Option<Instant>,
    pub(crate) last_unejection: Option<Instant>,
    pub(crate) jitter: Duration,
    /// Sums at the last sweep: external origin, local origin.
    pub(crate) seen: [Volume; 2],
    /// Percent, of the last interval with enough requests: external origin, local origin.
    pub(crate) success_rate: [Option<f64>; 2],
}

impl Monitor {
    pub(crate) fn new(watch: Arc<Watch>) -> Self {
        Monitor {
            cells: WorkerCells::new(watch.workers),
            watch,
            consecutive_5xx: AtomicU32::new(0),
            consecutive_gateway_failure: AtomicU32::new(0),
            consecutive_local_origin_failure: AtomicU32::new(0),
            ejection: Mutex::default(),
        }
    }

    /// A response came with this status.
    #[inline]
    pub(crate) fn record_status(&self, host: &Arc<Host>, status: u16) {
        self.cells.add(TOTAL, 1);
        if status < 500 {
            self.cells.add(SUCCESS, 1);
            reset(&self.consecutive_5xx);
            reset(&self.consecutive_gateway_failure);
            return;
        }
        let config = &self.watch.config;
        if (502..=504).contains(&status) {
            if increment(&self.consecutive_gateway_failure) == config.consecutive_gateway_failure {
                self.report(host, EjectionType::ConsecutiveGatewayFailure);
            }
        } else {
            reset(&self.consecutive_gateway_failure);
        }
        if increment(&self.consecutive_5xx) == config.consecutive_5xx {
            self.report(host, EjectionType::Consecutive5xx);
        }
    }

    /// Something happened on this side. Counts as a response of 200, 503 or 504 unless
    /// `split_external_local_origin_errors`.
    #[inline]
    pub(crate) fn record_local_origin(&self, host: &Arc<Host>, outcome: LocalOrigin) {
        if !self.watch.config.split_external_local_origin_errors {
            match outcome {
                LocalOrigin::Connected => {}
                LocalOrigin::ConnectedFinal => self.record_status(host, 200),
                LocalOrigin::Timeout(status) => self.record_status(host, status),
                LocalOrigin::ConnectFailed => self.record_status(host, 503),
            }
            return;
        }
        self.cells.add(LOCAL_TOTAL, 1);
        match outcome {
            LocalOrigin::Connected | LocalOrigin::ConnectedFinal => {
                self.cells.add(LOCAL_SUCCESS, 1);
                reset(&self.consecutive_local_origin_failure);
            }
            LocalOrigin::Timeout(_) | LocalOrigin::ConnectFailed => {
                let failures = increment(&self.consecutive_local_origin_failure);
                if failures == self.watch.config.consecutive_local_origin_failure {
                    self.report(host, EjectionType::ConsecutiveLocalOriginFailure);
                }
            }
        }
    }

    #[cold]
    fn report(&self, host: &Arc<Host>, what: EjectionType) {
        self.watch.events.send(Event::Outlier(host.clone(), what));
    }

    /// The consecutive counter of an ejection type starts over.
    pub(crate) fn reset_consecutive(&self, what: EjectionType) {
        match what {
            EjectionType::Consecutive5xx => reset(&self.consecutive_5xx),
            EjectionType::ConsecutiveGatewayFailure => reset(&self.consecutive_gateway_failure),
            EjectionType::ConsecutiveLocalOriginFailure => reset(&self.consecutive_local_origin_failure),
            _ => {}
        }
    }

    /// Requests since the host was added: external origin, local origin.
    pub(crate) fn volumes(&self) -> [Volume; 2] {
        [
            Volume { total: self.cells.sum(TOTAL), success: self.cells.sum(SUCCESS) },
            Volume { total: self.cells.sum(LOCAL_TOTAL), success: self.cells.sum(LOCAL_SUCCESS) },
        ]
    }

    pub(crate) fn ejection(&self) -> MutexGuard<'_, Ejection> {
        self.ejection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Percent of requests without external-origin failure in the last interval; `None` with too few requests.
    pub fn success_rate(&self) -> Option<f64> {
        self.ejection().success_rate[0]
    }

    /// Percent of requests without local-origin failure in the last interval; `None` with too few requests.
    pub fn local_origin_success_rate(&self) -> Option<f64> {
        self.ejection().success_rate[1]
    }
}

#[inline]
fn increment(counter: &AtomicU32) -> u32 {
    counter.fetch_add(1, Relaxed).wrapping_add(1)
}

/// Most of the time there is nothing to reset, and a load keeps the line shared between workers.
#[inline]
fn reset(counter: &AtomicU32) {
    if counter.load(Relaxed) != 0 {
        counter.store(0, Relaxed);
    }
}
