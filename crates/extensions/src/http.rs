//! HTTP filters.

pub mod buffer;
pub mod fault;
pub mod header_mutation;
pub mod local_ratelimit;
pub mod lua;
