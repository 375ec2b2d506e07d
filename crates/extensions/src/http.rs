//! HTTP filters.

pub mod alpn;
pub mod buffer;
pub mod compressor;
pub mod cors;
pub mod fault;
mod grpc;
pub mod grpc_http1_bridge;
pub mod grpc_stats;
pub mod grpc_web;
pub mod header_mutation;
pub mod health_check;
pub mod istio_stats;
pub mod local_ratelimit;
pub mod lua;
pub mod on_demand;
pub mod peer_metadata;
pub mod rbac;
