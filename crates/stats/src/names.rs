//! Envoy's stat names: one group for each prefix that a feature owns.

mod cluster;
mod http;
mod listener;
mod server;

pub use cluster::*;
pub use http::*;
pub use listener::*;
pub use server::*;
