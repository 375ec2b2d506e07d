//! Making a connection to a host, with the cluster's source address and socket options, and its transport socket.

mod eyeballs;
mod secure;

use crate::config::{self, BindConfig, ClusterConfig, SocketOption, SocketOptionState, UpstreamOpened};
use crate::host::Host;
use crate::info::ClusterInfo;
use crate::pool::{ConnectFailure, PoolProtocol};
use nuncio_io::connect::{ConnectError, ConnectSpec, connect};
use nuncio_io::socket_option::{self, Keepalive, SocketOptionValue, SocketState};
use nuncio_io::transport::Transport;
use nuncio_stream_info::{Address, ConnectionState, ProxiedAddresses, TlsInfo};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
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
    /// What the cluster's filters leave for others to see.
    pub filter_state: ConnectionState,
}

impl Connected {
    /// A connection without TLS.
    pub(crate) fn plain(transport: Transport) -> Connected {
        Connected { transport, tls: None, alpn: None, filter_state: ConnectionState::default() }
    }
}

/// What a connection is to be told and asked beyond the cluster's configuration. Connections of different targets can't
/// stand in for each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ConnectTarget {
    /// `auto_sni`: the server name of the request, in place of the configured one.
    pub server_name: Option<Arc<str>>,
    /// `auto_san_validation`: the certificate must have one of these DNS names, in place of the configured matchers.
    pub names: Option<Arc<[Arc<str>]>>,
    /// Protocols that are offered (ALPN) where the TLS context lists none.
    pub protocols: Arc<[Vec<u8>]>,
    /// They are offered though the context lists others.
    pub insists_on_protocols: bool,
    /// Where the downstream connection comes from, for a PROXY protocol header.
    pub proxied: Option<Arc<ProxiedAddresses>>,
}

impl ConnectTarget {
    /// A target that offers what a pool can speak.
    pub(crate) fn offering(protocol: PoolProtocol) -> ConnectTarget {
        static OFFERS: [LazyLock<Arc<[Vec<u8>]>>; 3] = [
            LazyLock::new(|| Arc::from([b"http/1.1".to_vec()])),
            LazyLock::new(|| Arc::from([b"h2".to_vec()])),
            LazyLock::new(|| Arc::from([b"h2".to_vec(), b"http/1.1".to_vec()])),
        ];
        let offer = match protocol {
            PoolProtocol::Http1 => &OFFERS[0],
            PoolProtocol::Http2 => &OFFERS[1],
            PoolProtocol::Auto => &OFFERS[2],
        };
        ConnectTarget { protocols: Arc::clone(offer), ..ConnectTarget::default() }
    }
}

/// Connects to a host, within the cluster's `connect_timeout`, which covers everything up to the end of the TLS handshake.
pub(crate) async fn open(
    cluster: Arc<ClusterInfo>,
    host: Arc<Host>,
    target: ConnectTarget,
) -> Result<Connected, ConnectFailure> {
    let destination = host.destination();
    let transport = transport_of(&cluster, &host).cloned();
    if destination.addresses.len() < 2 {
        return open_by(&cluster, &host, &destination.info.address, transport.as_ref(), &target).await;
    }
    let addresses = eyeballs::in_order(&destination.addresses, &cluster.config.happy_eyeballs);
    let (of, at, by, to) = (&*cluster, &*host, transport.as_ref(), &target);
    let mut is_first = true;
    let race = eyeballs::race(addresses, timed_out(), |address| {
        // Each attempt is a connection in statistics; the caller counted one.
        if !std::mem::take(&mut is_first) {
            of.stats.upstream_cx_total().inc();
        }
        async move { open_by(of, at, &address, by, to).await }
    });
    tokio::time::timeout(cluster.config.connect_timeout, race).await.unwrap_or_else(|_| Err(timed_out()))
}

fn timed_out() -> ConnectFailure {
    ConnectFailure { timeout: true, local: false, overflow: false, reason: Arc::from("connect timeout") }
}

/// How connections to a host are carried; none: the bare socket.
fn transport_of<'a>(cluster: &'a ClusterInfo, host: &Host) -> Option<&'a config::Transport> {
    let transports = cluster.config.transports.as_deref()?;
    Some(transports.of_host(host.transport()))
}

/// Connects to an address that is the host's or stands for it.
pub(crate) async fn open_by(
    cluster: &ClusterInfo,
    host: &Host,
    address: &Address,
    transport: Option<&config::Transport>,
    target: &ConnectTarget,
) -> Result<Connected, ConnectFailure> {
    let address = match address {
        Address::Ip(address) => nuncio_io::Address::Ip(*address),
        Address::Pipe(path) => nuncio_io::Address::Pipe(Arc::clone(path)),
        Address::Internal { listener, .. } => {
            let reason = format!("internal listener {listener} is not built");
            return Err(ConnectFailure { timeout: false, local: true, overflow: false, reason: reason.into() });
        }
    };
    let spec = spec(&cluster.config, &address);
    let connecting = connect(&address, &spec).map_err(|error| failure(cluster, &error))?;
    let establish = async {
        let socket = connecting.finish().await.map_err(|error| failure(cluster, &error))?;
        match transport {
            Some(transport) => secure::establish(cluster, host, transport, target, socket).await,
            None => Ok(Connected::plain(socket)),
        }
        .map(|connected| pass_filters(cluster, connected))
    };
    match tokio::time::timeout(cluster.config.connect_timeout, establish).await {
        Ok(outcome) => outcome,
        Err(_) => Err(timed_out()),
    }
}

/// The connection as the cluster's filters carry it: the last of them is next to the host, as in Envoy.
fn pass_filters(cluster: &ClusterInfo, connected: Connected) -> Connected {
    let Some(filters) = &cluster.config.filters else { return connected };
    let Connected { mut transport, tls, alpn, filter_state: _ } = connected;
    let state = ConnectionState::shared();
    for factory in filters.factories.iter().rev() {
        transport = factory.carry(UpstreamOpened { transport, protocol: alpn.as_deref(), state: &state });
    }
    Connected { transport, tls, alpn, filter_state: state }
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
