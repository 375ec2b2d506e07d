//! `envoy.filters.http.rbac`: requests are let through or refused by who asks for what.

mod config;
mod filter;

pub use config::RbacExtension;
