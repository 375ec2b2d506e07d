//! A token bucket that all workers share.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// `envoy.type.v3.TokenBucket`: holds up to `max` tokens, and gets `per_fill` every `interval`.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    max: u64,
    per_fill: u64,
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tokens: u64,
    filled: Option<Instant>,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(max: u32, per_fill: u32, interval: Duration) -> TokenBucket {
        TokenBucket {
            max: u64::from(max),
            per_fill: u64::from(per_fill.max(1)),
            interval: interval.max(Duration::from_millis(1)),
            state: Mutex::new(State { tokens: u64::from(max), filled: None }),
        }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&self, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.fill(&mut state, now);
        if state.tokens == 0 {
            return false;
        }
        state.tokens -= 1;
        true
    }

    /// Tokens that are left.
    pub(crate) fn left(&self, now: Instant) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.fill(&mut state, now);
        state.tokens
    }

    /// Most tokens that it holds.
    pub(crate) fn size(&self) -> u64 {
        self.max
    }

    /// Seconds until the next tokens come, rounded up.
    pub(crate) fn reset_seconds(&self, now: Instant) -> u64 {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let next = state.filled.and_then(|filled| filled.checked_add(self.interval)).unwrap_or(now);
        let wait = next.saturating_duration_since(now);
        wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
    }

    /// Fills by whole intervals, so that a bucket of one token a second gives its token once a second.
    fn fill(&self, state: &mut State, now: Instant) {
        let filled = *state.filled.get_or_insert(now);
        let passed = now.saturating_duration_since(filled);
        let fills = passed.as_nanos() / self.interval.as_nanos();
        let Ok(fills @ 1..) = u32::try_from(fills.min(u128::from(u32::MAX))) else { return };
        state.tokens = state.tokens.saturating_add(u64::from(fills).saturating_mul(self.per_fill)).min(self.max);
        state.filled = filled.checked_add(self.interval.saturating_mul(fills)).or(Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_by_intervals_up_to_its_size() {
        let start = Instant::now();
        let bucket = TokenBucket::new(2, 1, Duration::from_secs(1));
        let take = |millis| bucket.take(start + Duration::from_millis(millis));
        assert_eq!([take(0), take(0), take(0)], [true, true, false]);
        assert!(!take(999));
        assert_eq!([take(1000), take(1000)], [true, false]);
        assert_eq!([take(10_500), take(10_500), take(10_500)], [true, true, false]);
        assert!(take(11_000));
    }
}
