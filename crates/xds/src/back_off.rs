//! How long to wait before a stream is opened again.

use std::time::Duration;

/// Exponential, with full jitter: before try `n` a random part of `base × 2ⁿ`, at most `max` (`RetryPolicy.retry_back_off` of the
/// gRPC service; Envoy's defaults are 500 ms and 30 s).
#[derive(Debug, Clone)]
pub struct BackOff {
    base: Duration,
    max: Duration,
    interval: Duration,
}

impl BackOff {
    /// Starts anew. A base of zero is taken as 1 ms.
    pub fn new(base: Duration, max: Duration) -> BackOff {
        let base = base.max(Duration::from_millis(1));
        BackOff { base, max: max.max(base), interval: base }
    }

    /// The time to wait now, from a random number; the next will be up to twice as long.
    pub fn next(&mut self, random: u64) -> Duration {
        let limit = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX).max(1);
        self.interval = self.interval.saturating_mul(2).min(self.max);
        Duration::from_millis(random % limit)
    }

    /// The stream works: the next wait is short again.
    pub fn reset(&mut self) {
        self.interval = self.base;
    }
}

impl Default for BackOff {
    fn default() -> Self {
        BackOff::new(Duration::from_millis(500), Duration::from_secs(30))
    }
}
