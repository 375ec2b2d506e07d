//! Network filters.

pub mod http_connection_manager;
