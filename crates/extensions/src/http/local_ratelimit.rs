//! `envoy.filters.http.local_ratelimit`: requests beyond a rate are answered 429, without asking anybody.

mod buckets;
mod config;
mod filter;
#[cfg(test)]
mod tests;

pub use config::LocalRateLimitExtension;
