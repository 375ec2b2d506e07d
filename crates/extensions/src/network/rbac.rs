//! `envoy.filters.network.rbac`: connections are let through or closed by who opens them.

mod config;
mod filter;

pub use config::RbacExtension;
