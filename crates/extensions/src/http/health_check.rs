//! `envoy.filters.http.health_check`: answers health checks of this process, or caches the upstream's answers to them.

mod config;
mod filter;
#[cfg(test)]
mod tests;

pub use config::HealthCheckExtension;
