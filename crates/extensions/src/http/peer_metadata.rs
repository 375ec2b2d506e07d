//! Istio's metadata exchange over HTTP: proxies tell each other in headers what workload they stand before.
//!
//! What a peer says is a claim: metrics and logs name it, nothing is decided by it.

mod cache;
mod config;
mod filter;
#[cfg(test)]
mod tests;

pub use config::PeerMetadataExtension;
