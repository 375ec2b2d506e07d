//! The share of a host that has just become ready.

use crate::{Endpoint, SlowStart};
use std::time::{Duration, Instant};

impl SlowStart {
    /// What the weight of a host is multiplied by, `min_weight_percent` to 1.
    pub(crate) fn factor(&self, host: &impl Endpoint, now: Instant) -> f64 {
        let Some(since) = host.ready_since() else { return 1.0 };
        let age = now.saturating_duration_since(since);
        if age >= self.window {
            return 1.0;
        }
        let time = age.max(Duration::from_millis(1)).as_secs_f64() / self.window.as_secs_f64();
        let grown = if self.aggression == 1.0 { time } else { time.powf(1.0 / self.aggression.max(1e-9)) };
        grown.max(self.min_weight_percent / 100.0).min(1.0)
    }

    /// When a host is past its slow start; `None` if it is already.
    pub(crate) fn end(&self, host: &impl Endpoint, now: Instant) -> Option<Instant> {
        let end = host.ready_since()?.checked_add(self.window)?;
        (end > now).then_some(end)
    }
}
