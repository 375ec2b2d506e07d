//! The weight that a host's load reports give it. Any worker writes it, all read it; a mixture of two reports does no harm.

use nuncio_lb::ClientSideWeights;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The last report, and since when there have been some. Times are microseconds after the host was added, plus one.
#[derive(Debug, Default)]
pub(super) struct ReportedLoad {
    weight: AtomicU32,
    since: AtomicU64,
    last: AtomicU64,
}

impl ReportedLoad {
    /// Takes up a report that came so long after the host was added.
    pub(super) fn record(&self, weight: u32, age: Duration) {
        let now = moment(age);
        self.weight.store(weight, Relaxed);
        self.last.store(now, Relaxed);
        // Only the first one after none counts.
        let _ = self.since.compare_exchange(0, now, Relaxed, Relaxed);
    }

    /// The weight, unless reports have not come for long enough or not lately. After a pause they begin anew.
    pub(super) fn weight(&self, age: Duration, options: &ClientSideWeights) -> Option<u32> {
        let since = self.since.load(Relaxed).checked_sub(1)?;
        let last = self.last.load(Relaxed).saturating_sub(1);
        let now = moment(age) - 1;
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        if now.saturating_sub(since) < micros(options.blackout_period) {
            return None;
        }
        if now.saturating_sub(last) > micros(options.weight_expiration_period) {
            self.since.store(0, Relaxed);
            return None;
        }
        Some(self.weight.load(Relaxed))
    }
}

fn moment(age: Duration) -> u64 {
    u64::try_from(age.as_micros()).unwrap_or(u64::MAX - 1).saturating_add(1)
}

/// How old a host that was added then is now.
pub(super) fn age(added: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(added)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_count_after_the_blackout_until_they_expire() {
        let options = ClientSideWeights::default();
        let load = ReportedLoad::default();
        let at = Duration::from_secs;
        assert_eq!(load.weight(at(5), &options), None);
        load.record(7, at(5));
        load.record(8, at(9));
        assert_eq!(load.weight(at(14), &options), None, "within ten seconds of the first");
        assert_eq!(load.weight(at(15), &options), Some(8));
        assert_eq!(load.weight(at(189), &options), Some(8));
        assert_eq!(load.weight(at(190), &options), None);
        load.record(9, at(200));
        assert_eq!(load.weight(at(205), &options), None, "a new blackout");
        assert_eq!(load.weight(at(210), &options), Some(9));
    }
}
