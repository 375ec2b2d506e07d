//! `ORIGINAL_DST`: a host for each address that clients want to reach, made when the first one asks.

use super::cluster::LbContext;
use crate::config::{Discovery, OriginalDst};
use crate::event::Event;
use crate::health::HealthFlags;
use crate::host::{Host, HostSetup, HostSpec};
use crate::info::ClusterInfo;
use crate::outlier::Monitor;
use hashbrown::HashMap;
use nuncio_headers::HeaderName;
use nuncio_stream_info::{Address, HostInfo, Locality, Value};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// Most hosts of one cluster. A client that opens connections to every address of the internet must not fill the memory;
/// beyond this, new addresses wait (503 `UH`) until a cleanup.
pub(crate) const MAX_HOSTS: usize = 65_536;

/// The default of `http_header_name`.
const DEFAULT_HEADER: &str = "x-envoy-original-dst-host";

/// Hosts by address, of all workers. Locked only when a worker meets an address for the first time, and for cleanup.
pub(crate) type SharedHosts = Mutex<HashMap<SocketAddr, Arc<Host>>>;

/// The hosts of an `ORIGINAL_DST` cluster that one worker knows.
pub(super) struct OriginalDstHosts {
    by_address: RefCell<HashMap<SocketAddr, Arc<Host>>>,
    header: Option<HeaderName>,
}

impl OriginalDstHosts {
    /// `None` if the cluster is of another type.
    pub(super) fn new(info: &ClusterInfo) -> Option<Self> {
        let Discovery::OriginalDst(options) = &info.config.discovery else { return None };
        let header = options.http_header_name.clone().or_else(|| HeaderName::new(DEFAULT_HEADER).ok());
        Some(OriginalDstHosts { by_address: RefCell::default(), header: header.filter(|_| options.use_http_header) })
    }

    /// Forgets hosts that were cleaned up.
    pub(super) fn forget(&self, removed: &[Arc<Host>]) {
        let mut by_address = self.by_address.borrow_mut();
        for host in removed {
            if let Some(address) = host.address().socket()
                && by_address.get(&address).is_some_and(|known| Arc::ptr_eq(known, host))
            {
                by_address.remove(&address);
            }
        }
    }

    pub(super) fn choose(&self, info: &Arc<ClusterInfo>, cx: &LbContext<'_>) -> Option<Arc<Host>> {
        let Discovery::OriginalDst(options) = &info.config.discovery else { return None };
        let address = self.destination(options, info, cx)?;
        if let Some(host) = self.by_address.borrow().get(&address) {
            host.mark_used();
            return Some(host.clone());
        }
        let host = shared_host(info, address, cx)?;
        self.by_address.borrow_mut().insert(address, host.clone());
        Some(host)
    }

    /// The address that a request is for: of its metadata, of its header, or the one its connection was made to.
    fn destination(&self, options: &OriginalDst, info: &ClusterInfo, cx: &LbContext<'_>) -> Option<SocketAddr> {
        let in_metadata = options.metadata_key.as_ref().and_then(|(namespace, path)| cx.metadata?.get(namespace, path));
        let named = match in_metadata {
            Some(Value::String(text)) => Some(text.as_bytes()),
            _ => self.header.as_ref().and_then(|header| cx.headers?.get_name(header)),
        };
        let mut address = match named {
            Some(text) => {
                let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
                if parsed.is_none() {
                    info.stats.update().original_dst_host_invalid().inc();
                }
                parsed.or(cx.original_dst)?
            }
            None => cx.original_dst?,
        };
        if let Some(port) = options.upstream_port_override {
            address.set_port(port);
        }
        Some(address)
    }
}

/// The host of an address, made if no worker has met it.
#[cold]
fn shared_host(info: &Arc<ClusterInfo>, address: SocketAddr, cx: &LbContext<'_>) -> Option<Arc<Host>> {
    let mut shared = info.original_dst_hosts()?;
    if let Some(host) = shared.get(&address) {
        host.mark_used();
        return Some(host.clone());
    }
    if shared.len() >= MAX_HOSTS {
        return None;
    }
    let host = Arc::new(new_host(info, address, cx));
    host.mark_used();
    shared.insert(address, host.clone());
    drop(shared);
    info.events.send(Event::OriginalDstHosts);
    Some(host)
}

fn new_host(info: &Arc<ClusterInfo>, address: SocketAddr, cx: &LbContext<'_>) -> Host {
    let host_info = HostInfo {
        address: Address::Ip(address),
        hostname: Arc::default(),
        metadata: None,
        locality: Locality::default(),
    };
    let spec = HostSpec {
        info: Arc::new(host_info),
        addresses: Arc::default(),
        weight: 1,
        priority: 0,
        health_check: None,
        hash_key: None,
        health: HealthFlags::NONE,
        transport: info.config.transports.as_ref().and_then(|transports| transports.choose(None, None)),
    };
    let monitor = info.watch.clone().map(|watch| Box::new(Monitor::new(watch)));
    Host::new(spec, HostSetup { workers: info.workers, monitor, reports_load: false, logical: false, now: cx.now })
}
