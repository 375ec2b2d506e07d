//! What balancing looks at besides the hosts: `common_lb_config`, and the policies that wrap others.

use nuncio_headers::HeaderName;
use nuncio_lb::{CommonOptions, SubsetOptions};
use nuncio_route::HashPolicy;
use std::sync::Arc;

/// `Cluster.CommonLbConfig`, and what a typed policy says in its place.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CommonLb {
    /// Panic threshold, locality weights, zones.
    pub options: CommonOptions,
    /// `ignore_new_hosts_until_first_hc`: a host that was not yet checked does not count in the health of its
    /// priority. Default false.
    pub ignore_new_hosts_until_first_hc: bool,
    /// `close_connections_on_host_set_change`. Default false.
    pub close_connections_on_host_set_change: bool,
    /// `consistent_hashing_lb_config.use_hostname_for_hashing`. Default false.
    pub use_hostname_for_hashing: bool,
    /// The policy `override_host`, around all others.
    pub override_host: Option<Arc<OverrideHost>>,
    /// `lb_subset_config`, or the policy `subset`, around the policy that finds a host.
    pub subset: Option<Arc<SubsetOptions>>,
    /// `hash_policy` of a hashing policy, in place of the routes' and of that of `HttpProtocolOptions`.
    pub hash_policy: Option<Arc<HashPolicies>>,
}

/// Compiled hash policies of a cluster.
#[derive(Debug)]
pub struct HashPolicies {
    /// In order.
    pub policies: Box<[HashPolicy]>,
    /// Bytes of what they were made of.
    pub identity: Box<[u8]>,
}

impl PartialEq for HashPolicies {
    /// Equal configurations make equal policies.
    fn eq(&self, other: &HashPolicies) -> bool {
        self.identity == other.identity
    }
}

/// `envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost`: the request names its hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct OverrideHost {
    /// `override_host_sources`: all of them are read, in order.
    pub sources: Vec<OverrideSource>,
    /// `selected_host_key`: dynamic metadata that is told the host.
    pub selected_host_key: Option<MetadataPath>,
}

/// Where a list of addresses stands.
#[derive(Debug, Clone, PartialEq)]
pub enum OverrideSource {
    /// In a request header.
    Header(HeaderName),
    /// In dynamic metadata.
    Metadata(MetadataPath),
}

/// A place in metadata: `type.metadata.v3.MetadataKey`.
#[derive(Debug, Clone, PartialEq)]
pub struct MetadataPath {
    /// `key`: the namespace.
    pub namespace: Arc<str>,
    /// `path`: one key within the other.
    pub path: Vec<Arc<str>>,
}
