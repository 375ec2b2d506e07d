//! Facts of the upstream side of a stream: cluster, hosts, connection.

use crate::{Address, CloseType, FilterState, Metadata, Protocol, TlsInfo};
use std::sync::Arc;

/// The names and metadata of a cluster that streams refer to.
#[derive(Debug, Clone, Default)]
pub struct ClusterInfo {
    /// `name`.
    pub name: Arc<str>,
    /// `alt_stat_name`, or the name.
    pub observability_name: Arc<str>,
    /// `metadata`.
    pub metadata: Option<Arc<Metadata>>,
}

/// Where a host stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    /// Region.
    pub region: Arc<str>,
    /// Zone in the region.
    pub zone: Arc<str>,
    /// Part of the zone.
    pub sub_zone: Arc<str>,
}

/// A host of a cluster as streams refer to it.
#[derive(Debug, Clone)]
pub struct HostInfo {
    /// Address that requests go to.
    pub address: Address,
    /// Hostname: the DNS name the host came from, or `endpoint.hostname`. Empty if there is none.
    pub hostname: Arc<str>,
    /// Metadata of the endpoint.
    pub metadata: Option<Arc<Metadata>>,
    /// Locality of the endpoint.
    pub locality: Locality,
}

/// The upstream side of a stream.
#[derive(Debug, Clone, Default)]
pub struct UpstreamInfo {
    /// The cluster that the route chose.
    pub cluster: Option<Arc<ClusterInfo>>,
    /// The host of the last attempt.
    pub host: Option<Arc<HostInfo>>,
    /// Hosts of the attempts before the last one, oldest first.
    earlier_hosts: Vec<Arc<HostInfo>>,
    /// Own address of the upstream connection.
    pub local_address: Option<Address>,
    /// Peer of the upstream connection; the host's address if a proxy or happy eyeballs did not change it.
    pub remote_address: Option<Address>,
    /// Number of the upstream connection, unique in the process.
    pub connection_id: Option<u64>,
    /// Numbers of the upstream connections of the attempts before the last one.
    earlier_connections: Vec<u64>,
    /// Attempts made, the first included; 0 before the first.
    pub attempts: u32,
    /// Protocol of the upstream connection.
    pub protocol: Option<Protocol>,
    /// Why the transport failed: TLS or connect error text.
    pub transport_failure_reason: Option<Arc<str>>,
    /// How the end of the upstream connection was noticed.
    pub close_type: CloseType,
    /// Why this side closed the upstream connection.
    pub local_close_reason: Option<Arc<str>>,
    /// Requests that the upstream connection had carried before.
    pub connection_requests: u64,
    /// Facts of the upstream TLS session.
    pub tls: Option<Arc<TlsInfo>>,
    /// Filter state of the upstream filter chain.
    pub filter_state: FilterState,
}

/// Most attempts that are remembered by host and connection.
const MAX_REMEMBERED: usize = 64;

impl UpstreamInfo {
    /// Forgets everything, keeps memory.
    pub fn reset(&mut self) {
        let mut earlier_hosts = std::mem::take(&mut self.earlier_hosts);
        let mut earlier_connections = std::mem::take(&mut self.earlier_connections);
        earlier_hosts.clear();
        earlier_connections.clear();
        *self = UpstreamInfo { earlier_hosts, earlier_connections, ..UpstreamInfo::default() };
    }

    /// An attempt starts with this host; the host of the attempt before is remembered (64 at most).
    pub fn attempt_host(&mut self, host: Arc<HostInfo>) {
        if let Some(before) = self.host.replace(host)
            && self.earlier_hosts.len() < MAX_REMEMBERED
        {
            self.earlier_hosts.push(before);
        }
    }

    /// An attempt got this connection.
    pub fn attempt_connection(&mut self, id: u64) {
        if let Some(before) = self.connection_id.replace(id)
            && self.earlier_connections.len() < MAX_REMEMBERED
        {
            self.earlier_connections.push(before);
        }
    }

    /// Hosts of all attempts, oldest first.
    pub fn hosts_attempted(&self) -> impl Iterator<Item = &HostInfo> {
        self.earlier_hosts.iter().chain(&self.host).map(|host| &**host)
    }

    /// Connections of all attempts, oldest first.
    pub fn connections_attempted(&self) -> impl Iterator<Item = u64> {
        self.earlier_connections.iter().copied().chain(self.connection_id)
    }
}
