//! Making a connection to a host, with the cluster's source address and socket options.

use crate::config::{BindConfig, ClusterConfig, SocketOption, SocketOptionState};
use crate::host::Host;
use crate::info::ClusterInfo;
use crate::pool::ConnectFailure;
use nuncio_io::connect::{ConnectError, ConnectSpec, connect};
use nuncio_io::socket_option::{self, Keepalive, SocketOptionValue, SocketState};
use nuncio_io::transport::Transport;
use nuncio_stream_info::{Address, TlsInfo};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A number that no other upstream connection of the process has.
pub(crate) fn next_connection_id() -> u64 {
    NEXT_ID.fetch_add(1, Relaxed)
}

/// A connection to a host, ready for a protocol.
#[derive(Debug)]
pub struct Connected {
    /// The bytes.
    pub transport: Transport,
    /// Facts of the TLS session; none for cleartext.
    pub tls: Option<Arc<TlsInfo>>,
    /// The protocol that both sides agreed on (ALPN), as the TLS session says it.
    pub alpn: Option<Arc<str>>,
}

/// Connects to a host, within the cluster's `connect_timeout`.
pub(crate) async fn open(cluster: Arc<ClusterInfo>, host: Arc<Host>) -> Result<Connected, ConnectFailure> {
    let destination = host.destination();
    let address = match &destination.info.address {
        Address::Ip(address) => nuncio_io::Address::Ip(*address),
        Address::Pipe(path) => nuncio_io::Address::Pipe(Arc::clone(path)),
        Address::Internal { listener, .. } => {
            let reason = format!("internal listener {listener} is not built");
            return Err(ConnectFailure { timeout: false, local: true, overflow: false, reason: reason.into() });
        }
    };
    let spec = spec(&cluster.config, &address);
    let connecting = connect(&address, &spec).map_err(|error| failure(&cluster, &error))?;
    match tokio::time::timeout(cluster.config.connect_timeout, connecting.finish()).await {
        Ok(Ok(transport)) => Ok(Connected { transport, tls: None, alpn: None }),
        Ok(Err(error)) => Err(failure(&cluster, &error)),
        Err(_) => {
            Err(ConnectFailure { timeout: true, local: false, overflow: false, reason: Arc::from("connect timeout") })
        }
    }
}

fn failure(cluster: &ClusterInfo, error: &ConnectError) -> ConnectFailure {
    if error.is_local() {
        cluster.stats.bind_errors().inc();
    }
    let reason = Arc::from(error.transport_failure_reason());
    ConnectFailure { timeout: false, local: error.is_local(), overflow: false, reason }
}

pub(crate) fn spec(config: &ClusterConfig, address: &nuncio_io::Address) -> ConnectSpec {
    let mut spec = ConnectSpec::new();
    spec.keepalive = config.tcp_keepalive.map(|keepalive| Keepalive {
        probes: keepalive.probes,
        time: keepalive.time.map(|seconds| Duration::from_secs(u64::from(seconds))),
        interval: keepalive.interval.map(|seconds| Duration::from_secs(u64::from(seconds))),
    });
    if let Some(bind) = &config.upstream_bind {
        bind_to(&mut spec, bind, address);
    }
    spec
}

fn bind_to(spec: &mut ConnectSpec, bind: &BindConfig, address: &nuncio_io::Address) {
    let mut options = &bind.socket_options;
    if let Some(ip) = address.ip()
        && let Some(source) = bind.sources.iter().find(|source| source.address.is_ipv4() == ip.is_ipv4())
    {
        spec.bind = Some(source.address);
        options = source.socket_options.as_ref().unwrap_or(options);
    }
    spec.freebind = bind.freebind.then_some(true);
    spec.options = options.iter().map(option).collect();
}

fn option(option: &SocketOption) -> socket_option::SocketOption {
    socket_option::SocketOption {
        description: String::new(),
        level: option.level,
        name: option.name,
        value: SocketOptionValue::Bytes(option.value.clone()),
        state: match option.state {
            SocketOptionState::Prebind => SocketState::Prebind,
            SocketOptionState::Bound => SocketState::Bound,
            SocketOptionState::Listening => SocketState::Listening,
        },
    }
}
