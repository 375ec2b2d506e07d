//! Envoy v3 message types, and the schema tables of their fields. No logic.

pub mod istio;
pub mod matchers;
pub mod schema;

/// The generated message types, in modules named as their packages: `pb::envoy::config::bootstrap::v3::Bootstrap`.
pub use envoy_types::pb;
/// The well-known types: `Any`, `Duration`, `Struct`, the wrappers.
pub use envoy_types::pb::google::protobuf as wkt;
