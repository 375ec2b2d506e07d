//! `envoy.filters.http.fault`: delays and aborts on purpose.

mod config;
mod filter;
#[cfg(test)]
mod tests;

pub use config::FaultExtension;
