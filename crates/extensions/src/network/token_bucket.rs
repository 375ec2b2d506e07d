//! A token bucket that all workers share.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// `envoy.type.v3.TokenBucket`: holds up to `max` tokens, and gets `per_fill` every `interval`, evenly over the time, as
/// in Envoy.
///
/// It is a moment: that at which it would have been empty, if nothing had been taken since. Taking a token moves it.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    max: u32,
    /// Tokens a second.
    rate: f64,
    created: Instant,
    /// Seconds from `created`, the bits of a float.
    empty_at: AtomicU64,
}

/// What sums of floats may be off by, tokens.
const ROUNDING: f64 = 1e-6;

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(max: u32, per_fill: u32, interval: Duration) -> TokenBucket {
        let rate = f64::from(per_fill.max(1)) / interval.max(Duration::from_millis(1)).as_secs_f64();
        let empty_at = AtomicU64::new((-f64::from(max) / rate).to_bits());
        TokenBucket { max, rate, created: tokio::time::Instant::now().into_std(), empty_at }
    }

    /// Another one like it, full.
    pub(crate) fn another(&self) -> TokenBucket {
        let empty_at = AtomicU64::new((-f64::from(self.max) / self.rate).to_bits());
        TokenBucket { empty_at, created: tokio::time::Instant::now().into_std(), ..*self }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&self, now: Instant) -> bool {
        let now = self.seconds(now);
        let mut before = self.empty_at.load(Relaxed);
        loop {
            let empty_at = f64::from_bits(before).max(now - f64::from(self.max) / self.rate);
            if (now - empty_at) * self.rate < 1.0 - ROUNDING {
                return false;
            }
            let after = (empty_at + 1.0 / self.rate).to_bits();
            match self.empty_at.compare_exchange_weak(before, after, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(changed) => before = changed,
            }
        }
    }

    /// Tokens that are left.
    pub(crate) fn left(&self, now: Instant) -> u64 {
        (self.tokens(now) + ROUNDING).floor().max(0.0) as u64
    }

    /// Most tokens that it holds.
    pub(crate) fn size(&self) -> u64 {
        u64::from(self.max)
    }

    /// Tokens a second.
    pub(crate) fn rate(&self) -> f64 {
        self.rate
    }

    /// Seconds until there is a token, rounded up; 0 if there is one.
    pub(crate) fn reset_seconds(&self, now: Instant) -> u64 {
        let lacks = 1.0 - self.tokens(now);
        if lacks <= ROUNDING { 0 } else { (lacks / self.rate - ROUNDING).ceil().max(0.0) as u64 }
    }

    fn tokens(&self, now: Instant) -> f64 {
        let empty_at = f64::from_bits(self.empty_at.load(Relaxed));
        ((self.seconds(now) - empty_at) * self.rate).min(f64::from(self.max))
    }

    fn seconds(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.created).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_evenly_up_to_its_size() {
        let bucket = TokenBucket::new(2, 1, Duration::from_secs(1));
        let start = bucket.created;
        let take = |millis| bucket.take(start + Duration::from_millis(millis));
        assert_eq!([take(0), take(0), take(0)], [true, true, false]);
        assert!(!take(999));
        assert_eq!([take(1000), take(1000)], [true, false]);
        assert_eq!([take(10_500), take(10_500), take(10_500)], [true, true, false]);
        assert!(!take(11_000));
        assert!(take(11_500));
        let fast = TokenBucket::new(10, 10, Duration::from_secs(1));
        let at = |millis| fast.created + Duration::from_millis(millis);
        assert!((0..10).all(|_| fast.take(at(0))));
        assert_eq!((fast.take(at(50)), fast.take(at(100)), fast.take(at(150))), (false, true, false));
    }

    #[test]
    fn tells_what_is_left() {
        let bucket = TokenBucket::new(2, 2, Duration::from_secs(3600));
        let start = bucket.created;
        let told = || (bucket.size(), bucket.left(start), bucket.reset_seconds(start));
        assert_eq!(told(), (2, 2, 0));
        assert!(bucket.take(start));
        assert_eq!(told(), (2, 1, 0));
        assert!(bucket.take(start));
        assert_eq!(told(), (2, 0, 1800));
    }
}
