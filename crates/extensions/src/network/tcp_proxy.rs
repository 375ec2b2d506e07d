//! `envoy.filters.network.tcp_proxy`: bytes between a downstream and an upstream connection.

mod config;
mod filter;

pub use config::TcpProxyExtension;
