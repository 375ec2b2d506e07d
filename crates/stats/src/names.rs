//! Envoy's stat names: one group for each prefix that a feature owns.
//!
//! The doc comment of a group says below which scope it is registered. Names with a response code are
//! [`CodeCounters`](crate::CodeCounters).

mod cluster;
mod discovery;
mod filters;
mod http;
mod listener;
mod network;
mod server;
mod tls;
mod upstream;

#[cfg(test)]
mod tests;

pub use cluster::*;
pub use discovery::*;
pub use filters::*;
pub use http::*;
pub use listener::*;
pub use network::*;
pub use server::*;
pub use tls::*;
pub use upstream::*;
