//! `envoy.filters.network.http_connection_manager`: the runtime is the `hcm` crate, this is its configuration.

mod config;
mod filters;
mod options;
mod plugins;

pub use config::HttpConnectionManager;
