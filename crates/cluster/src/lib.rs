//! Clusters: which hosts there are, which of them are healthy, which one gets the next request, and how much of a
//! cluster may be in use at once.
//!
//! - [`config`]: a cluster's configuration as plain data.
//! - [`ClusterManager`]: on the main thread; owns membership, DNS, active health checks and outlier detection, and tells
//!   the workers of every change.
//! - [`WorkerClusters`]: on each worker; chooses hosts without locks.
//! - [`ClusterInfo`], [`Host`]: what all threads share; every part that changes is atomic.
//!
//! Does not own: protobuf (the `config` crate lowers it to [`config::ClusterConfig`]), routes, requests or retries.
//!
//! *Invariant*: a request takes no lock and allocates nothing here.

mod admin;
mod breaker;
mod cells;
pub mod connect;
mod dns;
mod event;
mod event_log;
mod grpc;
mod health;
mod health_check;
mod host;
mod info;
mod manager;
mod membership;
mod orca;
mod original_dst;
mod outlier;
#[cfg(test)]
mod scripted;
mod tls_counters;
mod worker;

pub mod config;
pub mod pool;

pub use admin::LocalityView;
pub use breaker::{Breaker, Resource, RoutingPriority};
pub use config::ClusterConfig;
pub use dns::SystemFiles;
pub use grpc::{GrpcMethod, GrpcProtocol, GrpcStats};
pub use health::HealthFlags;
pub use host::{Destination, Host, HostCounter};
pub use info::{AlternateStats, ClusterInfo, ClusterStats};
pub use manager::{ClusterManager, ClusterManagerOptions, ClusterWait};
pub use orca::LoadReport;
pub use outlier::{LocalOrigin, Monitor};
pub use tls_counters::TlsCounters;
pub use worker::{HostObserver, Hosts, LbContext, NamedHosts, WorkerCluster, WorkerClusters, WorkerSeed};
