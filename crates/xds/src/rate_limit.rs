//! `ApiConfigSource.rate_limit_settings`.

use std::time::{Duration, Instant};

/// A token bucket for requests.
#[derive(Debug, Clone)]
pub struct RateLimit {
    max: f64,
    per_second: f64,
    tokens: f64,
    at: Option<Instant>,
}

impl RateLimit {
    /// `max_tokens` (default 100) and `fill_rate` per second (default 10).
    pub fn new(max_tokens: u32, fill_rate: f64) -> RateLimit {
        let max = f64::from(max_tokens.max(1));
        RateLimit { max, per_second: fill_rate.max(0.05), tokens: max, at: None }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.at = Some(now);
        self.tokens = (self.tokens + since.as_secs_f64() * self.per_second).min(self.max);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }

    /// How long until there is a token.
    pub fn wait(&self) -> Duration {
        Duration::from_secs_f64(((1.0 - self.tokens) / self.per_second).max(0.0)) + Duration::from_millis(1)
    }
}
