//! `envoy.filters.http.buffer`: the upstream sees a request only once it is complete.

mod config;
mod filter;
#[cfg(test)]
mod tests;

pub use config::BufferExtension;
