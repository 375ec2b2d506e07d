//! Facts of the upstream side of a stream: cluster, hosts, connection.

use crate::{Address, CloseType, FilterState, Metadata, Protocol, TlsInfo};
use std::sync::Arc;
use std::time::Duration;

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
    host: Option<Arc<HostInfo>>,
    /// Whether `host` counts as attempted.
    attempted: bool,
    /// Hosts attempted before `host`, oldest first, each once.
    earlier_hosts: Vec<Arc<HostInfo>>,
    connection_id: Option<u64>,
    /// Connections used before `connection_id`, oldest first, each once.
    earlier_connections: Vec<u64>,
    /// Own address of the upstream connection.
    pub local_address: Option<Address>,
    /// Peer of the upstream connection, once there is one.
    pub remote_address: Option<Address>,
    /// Attempts made, the first included; 0 before the first.
    pub attempts: u32,
    /// Protocol of the upstream connection.
    pub protocol: Option<Protocol>,
    /// How long the last attempt waited for the pool to give it a connection, or to fail.
    pub pool_ready: Option<Duration>,
    /// Why the transport failed: TLS or connect error text.
    pub transport_failure_reason: Option<Arc<str>>,
    /// How the end of the upstream connection was noticed.
    pub close_type: CloseType,
    /// Why this side closed the upstream connection.
    pub local_close_reason: Option<Arc<str>>,
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
        // Every field by name, so that a new one is noticed.
        let UpstreamInfo {
            cluster,
            host,
            attempted,
            earlier_hosts,
            connection_id,
            earlier_connections,
            local_address,
            remote_address,
            attempts,
            protocol,
            pool_ready,
            transport_failure_reason,
            close_type,
            local_close_reason,
            tls,
            filter_state,
        } = self;
        (*cluster, *host, *attempted) = (None, None, false);
        earlier_hosts.clear();
        *connection_id = None;
        earlier_connections.clear();
        (*local_address, *remote_address) = (None, None);
        (*attempts, *protocol, *pool_ready) = (0, None, None);
        (*transport_failure_reason, *close_type, *local_close_reason) = (None, CloseType::Normal, None);
        *tls = None;
        *filter_state = FilterState::default();
    }

    /// The host of the last attempt.
    pub fn host(&self) -> Option<&Arc<HostInfo>> {
        self.host.as_ref()
    }

    /// Sets the host of the attempt that starts. It counts as attempted only after [`UpstreamInfo::mark_attempted`]:
    /// HTTP counts hosts that a connection was had to, TCP counts all.
    pub fn set_host(&mut self, host: Arc<HostInfo>) {
        let before = self.host.replace(host);
        if let Some(before) = before
            && std::mem::take(&mut self.attempted)
            && self.earlier_hosts.len() < MAX_REMEMBERED
            && !is_among(&self.earlier_hosts, &before)
        {
            self.earlier_hosts.push(before);
        }
    }

    /// The host of the attempt counts as attempted.
    pub fn mark_attempted(&mut self) {
        self.attempted = true;
    }

    /// The connection of the last attempt that had one: a number unique in the process.
    pub fn connection_id(&self) -> Option<u64> {
        self.connection_id
    }

    /// Sets the connection of the attempt.
    pub fn set_connection(&mut self, id: u64) {
        if let Some(before) = self.connection_id.replace(id)
            && before != id
            && self.earlier_connections.len() < MAX_REMEMBERED
            && !self.earlier_connections.contains(&before)
        {
            self.earlier_connections.push(before);
        }
    }

    /// Whether any attempt was made.
    pub fn is_used(&self) -> bool {
        self.attempts > 0 || self.host.is_some()
    }

    /// Hosts attempted, in the order of their first attempt, each once.
    pub fn hosts_attempted(&self) -> impl Iterator<Item = &HostInfo> {
        let last = self.host.as_ref().filter(|host| self.attempted && !is_among(&self.earlier_hosts, host));
        self.earlier_hosts.iter().chain(last).map(|host| &**host)
    }

    /// Connections used, in the order of their first use, each once.
    pub fn connections_attempted(&self) -> impl Iterator<Item = u64> {
        let last = self.connection_id.filter(|id| !self.earlier_connections.contains(id));
        self.earlier_connections.iter().copied().chain(last)
    }
}

fn is_among(hosts: &[Arc<HostInfo>], host: &Arc<HostInfo>) -> bool {
    hosts.iter().any(|known| Arc::ptr_eq(known, host) || known.address == host.address)
}
