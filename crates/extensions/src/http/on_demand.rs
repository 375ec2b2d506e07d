//! `envoy.filters.http.on_demand`: requests wait for virtual hosts, routes of scopes and clusters that are not there yet.

mod config;
mod filter;

pub use config::OnDemandExtension;
