//! `envoy.filters.network.tcp_proxy`: bytes between a downstream and an upstream connection.

mod balance;
mod config;
mod early;
mod filter;
mod proxied;
mod relay;
mod reports;
mod tunnel;

pub use config::TcpProxyExtension;
