//! Connecting to an upstream host.
//!
//! Owns: source address, mark, options, and the words in which Envoy reports a failure. Does not own: the connect timeout
//! (drop the future), and whom to connect to.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};

use socket2::{Protocol, Socket, Type};
use tokio::net::{TcpStream, UnixStream};

use crate::address::{Address, errno_text};
use crate::listen::set_ip_flags;
use crate::socket_option::{self, Keepalive, SocketOption, SocketState};
use crate::sys;
use crate::transport::Transport;

/// How to connect. [`ConnectSpec::new`] has Envoy's defaults; the host's address is given apart, so that one spec serves
/// a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConnectSpec {
    /// Source address (`upstream_bind_config.source_address`); port 0: any. Not used for unix sockets.
    pub bind: Option<SocketAddr>,
    /// IP_TRANSPARENT: the source address may be another machine's (original_src). Needs CAP_NET_ADMIN.
    pub transparent: bool,
    /// IP_FREEBIND (`upstream_bind_config.freebind`).
    pub freebind: Option<bool>,
    /// SO_MARK. Needs CAP_NET_ADMIN.
    pub mark: Option<u32>,
    /// SO_BINDTODEVICE.
    pub device: Option<String>,
    /// TCP_NODELAY. Default true.
    pub no_delay: bool,
    /// `upstream_connection_options.tcp_keepalive`.
    pub keepalive: Option<Keepalive>,
    /// Options of the configuration, in order; those of `STATE_LISTENING` are not used.
    pub options: Vec<SocketOption>,
}

impl ConnectSpec {
    /// Envoy's defaults.
    pub fn new() -> Self {
        ConnectSpec {
            bind: None,
            transparent: false,
            freebind: None,
            mark: None,
            device: None,
            no_delay: true,
            keepalive: None,
            options: Vec::new(),
        }
    }
}

impl Default for ConnectSpec {
    fn default() -> Self {
        Self::new()
    }
}

/// When it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectPhase {
    /// The source address or an option: the fault is on this side (`local connection failure`, `bind_errors`).
    Local,
    /// The kernel refused at once.
    Immediate,
    /// The peer refused, or the network did.
    Delayed,
}

/// A connection that did not come about. Nothing was sent: another attempt is safe.
#[derive(Debug)]
pub struct ConnectError {
    /// When it failed.
    pub phase: ConnectPhase,
    /// What the kernel said.
    pub source: io::Error,
    /// The whole of what `%UPSTREAM_TRANSPORT_FAILURE_REASON%` shows, before spaces become underscores.
    reason: Box<str>,
}

impl ConnectError {
    fn local(what: &str, source: io::Error) -> Self {
        let reason = format!("{what}: {}", errno_text(&source)).into();
        ConnectError { phase: ConnectPhase::Local, source, reason }
    }

    fn immediate(address: &Address, source: io::Error) -> Self {
        let reason = format!("immediate connect error: {}|remote address:{address}", errno_text(&source)).into();
        ConnectError { phase: ConnectPhase::Immediate, source, reason }
    }

    fn delayed(source: io::Error) -> Self {
        let reason = format!("delayed connect error: {}", errno_text(&source)).into();
        ConnectError { phase: ConnectPhase::Delayed, source, reason }
    }

    /// Envoy's words, as they stand in response code details and the transport failure reason, with spaces:
    /// `delayed connect error: Connection refused`,
    /// `immediate connect error: Network is unreachable|remote address:192.0.2.1:80`,
    /// `failed to bind to 10.0.0.1:0: Cannot assign requested address`.
    pub fn transport_failure_reason(&self) -> &str {
        &self.reason
    }

    /// Whether the fault is on this side (`local connection failure` instead of `remote connection failure`).
    pub fn is_local(&self) -> bool {
        self.phase == ConnectPhase::Local
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A connection that is being made. Dropping it gives up.
#[derive(Debug)]
pub struct Connecting {
    stream: Option<Transport>,
}

/// Starts to connect. Call it on the worker that will use the connection.
pub fn connect(address: &Address, spec: &ConnectSpec) -> Result<Connecting, ConnectError> {
    let immediate = |e| ConnectError::immediate(address, e);
    let kernel = address.to_kernel().map_err(immediate)?;
    let protocol = address.ip().map(|_| Protocol::TCP);
    let socket = Socket::new(kernel.domain(), Type::STREAM.nonblocking().cloexec(), protocol).map_err(immediate)?;
    prepare(&socket, address, spec)?;
    match socket.connect(&kernel) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(e) => return Err(immediate(e)),
    }
    let fd = OwnedFd::from(socket);
    let stream = match address {
        Address::Ip(_) => TcpStream::from_std(fd.into()).map(Transport::Tcp),
        Address::Pipe(_) => UnixStream::from_std(fd.into()).map(Transport::Unix),
    };
    Ok(Connecting { stream: Some(stream.map_err(immediate)?) })
}

fn prepare(socket: &Socket, address: &Address, spec: &ConnectSpec) -> Result<(), ConnectError> {
    let set = |what: &str, result: io::Result<()>| {
        result.map_err(|e| ConnectError::local(&format!("failed to set {what}"), e))
    };
    let apply = |state| {
        socket_option::apply(&spec.options, state, socket)
            .map_err(|(what, e)| ConnectError::local(&format!("failed to set {what}"), e))
    };
    if let Some(mark) = spec.mark {
        set("SO_MARK", socket.set_mark(mark))?;
    }
    let Some(ip) = address.ip() else {
        apply(SocketState::Prebind)?;
        return apply(SocketState::Bound);
    };
    if let Some(device) = &spec.device {
        set("SO_BINDTODEVICE", socket.bind_device(Some(device.as_bytes())))?;
    }
    if spec.no_delay {
        set("TCP_NODELAY", socket.set_tcp_nodelay(true))?;
    }
    if let Some(keepalive) = &spec.keepalive {
        set("SO_KEEPALIVE", keepalive.set(socket))?;
    }
    let transparent = spec.transparent.then_some(true);
    set_ip_flags(socket, ip.is_ipv6(), transparent, spec.freebind).or_else(|(what, e)| set(what, Err(e)))?;
    apply(SocketState::Prebind)?;
    if let Some(source) = spec.bind {
        if source.port() == 0 {
            // The port is chosen when connecting, so that one source port serves many destinations.
            let on = 1i32.to_ne_bytes();
            let name = libc::IP_BIND_ADDRESS_NO_PORT;
            set("IP_BIND_ADDRESS_NO_PORT", sys::set_socket_option(socket.as_fd(), libc::IPPROTO_IP, name, &on))?;
        }
        socket.bind(&source.into()).map_err(|e| ConnectError::local(&format!("failed to bind to {source}"), e))?;
    }
    apply(SocketState::Bound)
}

impl Connecting {
    /// Waits until the connection is made or refused.
    pub async fn finish(mut self) -> Result<Transport, ConnectError> {
        poll_fn(|cx| self.poll_finish(cx)).await
    }

    /// As [`Connecting::finish`]. Don't poll again after `Ready`.
    pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Transport, ConnectError>> {
        let Some(stream) = &self.stream else {
            return Poll::Ready(Err(ConnectError::delayed(io::ErrorKind::NotConnected.into())));
        };
        let refused = match stream {
            Transport::Tcp(stream) => ready!(stream.poll_write_ready(cx)).and_then(|()| stream.take_error()),
            Transport::Unix(stream) => ready!(stream.poll_write_ready(cx)).and_then(|()| stream.take_error()),
            Transport::Tls(_) | Transport::Other(_) => Ok(None),
        };
        let stream = self.stream.take();
        Poll::Ready(match (refused, stream) {
            (Ok(None), Some(stream)) => Ok(stream),
            (Ok(None), None) => Err(ConnectError::delayed(io::ErrorKind::NotConnected.into())),
            (Ok(Some(e)) | Err(e), _) => Err(ConnectError::delayed(e)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn outcome(address: &Address, spec: &ConnectSpec) -> Result<Transport, ConnectError> {
        connect(address, spec)?.finish().await
    }

    /// An address that refuses: bound, and nobody listens.
    fn refusing() -> (Socket, SocketAddr) {
        let socket = Socket::new(socket2::Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, address)
    }

    #[tokio::test]
    async fn failures_in_envoys_words() {
        let (_keep, refusing) = refusing();
        let bound = |source: &str| ConnectSpec { bind: Some(source.parse().unwrap()), ..ConnectSpec::new() };
        let unreachable: SocketAddr = "255.255.255.255:1".parse().unwrap();
        let table: [(Address, ConnectSpec, ConnectPhase, &str); 4] = [
            (refusing.into(), ConnectSpec::new(), ConnectPhase::Delayed, "delayed connect error: Connection refused"),
            (
                Address::pipe("/nonexistent/x"),
                ConnectSpec::new(),
                ConnectPhase::Immediate,
                "immediate connect error: No such file or directory|remote address:/nonexistent/x",
            ),
            (
                unreachable.into(),
                ConnectSpec::new(),
                ConnectPhase::Immediate,
                "immediate connect error: Network is unreachable|remote address:255.255.255.255:1",
            ),
            (
                refusing.into(),
                bound("198.51.100.1:0"),
                ConnectPhase::Local,
                "failed to bind to 198.51.100.1:0: Cannot assign requested address",
            ),
        ];
        for (address, spec, phase, reason) in table {
            let error = outcome(&address, &spec).await.map(drop).unwrap_err();
            assert_eq!((error.phase, error.transport_failure_reason()), (phase, reason));
            assert_eq!(error.is_local(), phase == ConnectPhase::Local);
        }
    }

    #[tokio::test]
    async fn source_address_and_options() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Ip(listener.local_addr().unwrap());
        let spec = ConnectSpec {
            bind: Some("127.0.0.9:0".parse().unwrap()),
            keepalive: Some(Keepalive { time: Some(std::time::Duration::from_secs(30)), ..Keepalive::default() }),
            options: vec![SocketOption {
                description: String::new(),
                level: libc::SOL_SOCKET,
                name: libc::SO_PRIORITY,
                value: socket_option::SocketOptionValue::Int(3),
                state: SocketState::Prebind,
            }],
            ..ConnectSpec::new()
        };
        let (stream, accepted) = tokio::join!(outcome(&address, &spec), listener.accept());
        let stream = stream.unwrap();
        let stream = stream.tcp().unwrap();
        assert_eq!(accepted.unwrap().1, stream.local_addr().unwrap());
        assert_eq!(stream.local_addr().unwrap().ip().to_string(), "127.0.0.9");
        assert!(stream.nodelay().unwrap());
        let option = |level, name| sys::socket_option(stream.as_fd(), level, name).unwrap();
        assert_eq!(option(libc::SOL_SOCKET, libc::SO_PRIORITY), 3);
        assert_eq!(option(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE), 30);
    }

    #[tokio::test]
    async fn unix_abstract() {
        let name = format!("nuncio-io-connect-{}", std::process::id());
        let address = Address::pipe(&format!("@{name}"));
        let spec = crate::listen::ListenSpec::new(address.clone());
        let _listeners = crate::listen::bind(&spec, 1).unwrap().listen().unwrap();
        assert!(matches!(outcome(&address, &ConnectSpec::new()).await, Ok(Transport::Unix(_))));
    }
}
