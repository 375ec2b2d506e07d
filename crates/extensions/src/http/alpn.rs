//! Istio's ALPN filter: what the connection of a request offers in its TLS handshake, by what is spoken to the host.
//!
//! Sidecars tell HTTP from other TCP by it: their inbound filter chains match on `istio-http/1.1` and `istio-h2`.

mod config;
mod filter;
#[cfg(test)]
mod tests;

pub use config::AlpnExtension;
