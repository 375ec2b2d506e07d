//! Network filters.

pub mod direct_response;
pub mod echo;
pub mod http_connection_manager;
pub mod istio_stats;
pub mod local_ratelimit;
pub mod metadata_exchange;
pub mod rbac;
pub mod tcp_proxy;
mod token_bucket;

pub(crate) use token_bucket::TokenBucket;
