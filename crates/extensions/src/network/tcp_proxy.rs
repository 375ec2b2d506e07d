//! `envoy.filters.network.tcp_proxy`: bytes between a downstream and an upstream connection.

mod config;
mod filter;
mod relay;
mod tunnel;

pub use config::TcpProxyExtension;
