//! Counts gRPC calls and their messages, by cluster and method.

mod config;
mod filter;
mod state;
#[cfg(test)]
mod tests;

pub use config::GrpcStatsExtension;
pub(super) use state::MessageCounts;
