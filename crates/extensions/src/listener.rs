//! Listener filters.

pub mod http_inspector;
pub mod original_dst;
