//! Listening sockets: made and bound on the main thread, handed to workers, one each with SO_REUSEPORT.
//!
//! Owns: binding, socket options, port 0, unix paths, and errors that say what to do. Does not own: accepting
//! (`accept`), and what a listener does with a connection.

mod error;
mod holder;
mod inherited;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;

use socket2::{Domain, Protocol, Socket, Type};

use crate::address::Address;
use crate::socket_option::{self, Keepalive, SocketOption, SocketState};
use crate::sys;

pub use error::BindError;
pub use inherited::Inherited;

/// Backlog when `/proc/sys/net/core/somaxconn` can't be read.
const DEFAULT_BACKLOG: i32 = 4096;

/// What to listen on (`config.listener.v3.Listener`). [`ListenSpec::new`] has Envoy's defaults.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenSpec {
    /// Port 0: the kernel chooses; all sockets of one call to [`bind`] share its choice.
    pub address: Address,
    /// One socket per worker (`enable_reuse_port`). False, or a unix path: the workers share one. Default true.
    pub reuse_port: bool,
    /// Connections that wait to be accepted (`tcp_backlog_size`). Default: `net.core.somaxconn`.
    pub backlog: Option<u32>,
    /// IP_TRANSPARENT; needs CAP_NET_ADMIN.
    pub transparent: Option<bool>,
    /// IP_FREEBIND: an address that no interface has (yet).
    pub freebind: Option<bool>,
    /// TCP_FASTOPEN: length of the queue; 0 switches it off.
    pub tcp_fast_open: Option<u32>,
    /// An IPv6 address takes IPv4 connections too (`ipv4_compat`). Default false.
    pub ipv4_compat: bool,
    /// Permissions of a unix path (`Pipe.mode`); 0: as the umask has it.
    pub mode: u32,
    /// Interface whose packets alone are taken (SO_BINDTODEVICE).
    pub device: Option<String>,
    /// TCP_NODELAY, which accepted sockets inherit. Default true.
    pub no_delay: bool,
    /// TCP keepalive, which accepted sockets inherit.
    pub keepalive: Option<Keepalive>,
    /// Options of the configuration, in order.
    pub options: Vec<SocketOption>,
}

impl ListenSpec {
    /// Envoy's defaults.
    pub fn new(address: Address) -> Self {
        ListenSpec {
            address,
            reuse_port: true,
            backlog: None,
            transparent: None,
            freebind: None,
            tcp_fast_open: None,
            ipv4_compat: false,
            mode: 0,
            device: None,
            no_delay: true,
            keepalive: None,
            options: Vec::new(),
        }
    }
}

/// Sockets that are bound, and take no connections yet.
#[derive(Debug)]
pub struct Bound {
    spec: ListenSpec,
    /// With the port that the kernel chose.
    address: Address,
    sockets: Vec<Socket>,
    workers: usize,
    /// The sockets listen already, for another [`Bound`] or another process.
    taken_over: bool,
    /// There is one socket, which all workers share.
    shared: bool,
}

/// A listening socket of one worker.
#[derive(Debug)]
pub struct Listener {
    pub(crate) socket: Socket,
    pub(crate) address: Address,
    pub(crate) transparent: bool,
}

impl Listener {
    /// Where it listens; the port is never 0.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A descriptor of a socket that workers listen on, by which [`Held::bind`] hands the socket over to a changed listener.
/// Held are only sockets that all workers share: others can be bound beside one another (SO_REUSEPORT).
#[derive(Debug)]
pub struct Held {
    spec: ListenSpec,
    socket: Socket,
}

impl Held {
    /// Whether the socket can be what `spec` asks for. A unix path can, whatever its options: there is nothing that the
    /// socket is bound with.
    pub fn serves(&self, spec: &ListenSpec) -> bool {
        match &spec.address {
            Address::Pipe(path) => self.spec.address == spec.address && (spec.address.is_abstract() || is_socket(path)),
            Address::Ip(_) => !shares_port(spec) && self.spec == *spec,
        }
    }

    /// As [`bind`], with this socket: connections that wait to be accepted are kept. A mode that is not set any more is
    /// left as it is.
    pub fn bind(&self, spec: &ListenSpec, workers: usize) -> Result<Bound, BindError> {
        let socket = self.socket.try_clone().map_err(|e| BindError::new(spec, "duplicate the socket", e))?;
        let address = spec.address.clone();
        Ok(Bound {
            spec: spec.clone(),
            address,
            sockets: vec![socket],
            workers: workers.max(1),
            taken_over: true,
            shared: true,
        })
    }
}

/// Binds sockets for `workers` workers (at least one is assumed). A stale unix socket (nobody listens on it) is replaced.
pub fn bind(spec: &ListenSpec, workers: usize) -> Result<Bound, BindError> {
    let workers = workers.max(1);
    let first = bind_one(spec, &spec.address)?;
    let address = match &spec.address {
        Address::Ip(_) => match first.local_addr().map(|address| address.as_socket()) {
            Ok(Some(chosen)) => Address::Ip(chosen),
            Ok(None) => spec.address.clone(),
            Err(e) => return Err(BindError::new(spec, "read the address of the socket", e)),
        },
        Address::Pipe(_) => spec.address.clone(),
    };
    let mut sockets = vec![first];
    if shares_port(spec) {
        for _ in 1..workers {
            sockets.push(bind_one(spec, &address)?);
        }
    }
    Ok(Bound { spec: spec.clone(), address, sockets, workers, taken_over: false, shared: !shares_port(spec) })
}

fn shares_port(spec: &ListenSpec) -> bool {
    spec.reuse_port && matches!(spec.address, Address::Ip(_))
}

impl Bound {
    /// Where it is bound; the port is never 0.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Keeps the socket, if all workers share it.
    pub fn hold(&self) -> Result<Option<Held>, BindError> {
        let Some(socket) = self.sockets.first().filter(|_| self.shared) else { return Ok(None) };
        let socket = socket.try_clone().map_err(|e| BindError::new(&self.spec, "duplicate the socket", e))?;
        Ok(Some(Held { spec: self.spec.clone(), socket }))
    }

    /// What `bind` does to a new socket, as far as it can be done to one that is bound.
    fn adapt(&self) -> Result<(), BindError> {
        let spec = &self.spec;
        for socket in &self.sockets {
            if let Some(ip) = self.address.ip() {
                set_options(spec, ip, socket).map_err(|(what, e)| BindError::new(spec, what, e))?;
            }
            for state in [SocketState::Prebind, SocketState::Bound] {
                socket_option::apply(&spec.options, state, socket)
                    .map_err(|(what, e)| BindError::new(spec, &what, e))?;
            }
        }
        match &self.address {
            Address::Pipe(path) => set_mode(spec, path),
            Address::Ip(_) => Ok(()),
        }
    }

    /// Starts listening; one listener per worker.
    pub fn listen(self) -> Result<Vec<Listener>, BindError> {
        if self.taken_over {
            self.adapt()?;
        }
        let spec = &self.spec;
        let backlog = spec.backlog.map_or_else(default_backlog, |b| i32::try_from(b).unwrap_or(i32::MAX));
        for socket in &self.sockets {
            socket.listen(backlog).map_err(|e| BindError::new(spec, "listen", e))?;
            socket_option::apply(&spec.options, SocketState::Listening, socket)
                .map_err(|(what, e)| BindError::new(spec, &what, e))?;
        }
        let mut sockets = self.sockets;
        while let Some(first) = sockets.first().filter(|_| sockets.len() < self.workers) {
            let copy = first.try_clone().map_err(|e| BindError::new(spec, "duplicate the socket", e))?;
            sockets.push(copy);
        }
        let (address, transparent) = (self.address, spec.transparent == Some(true));
        let listener = |socket| Listener { socket, address: address.clone(), transparent };
        Ok(sockets.into_iter().map(listener).collect())
    }
}

fn default_backlog() -> i32 {
    let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    text.trim().parse().unwrap_or(DEFAULT_BACKLOG)
}

fn bind_one(spec: &ListenSpec, address: &Address) -> Result<Socket, BindError> {
    let failed = |what: &str, e| BindError::new(spec, what, e);
    let kernel = address.to_kernel().map_err(|e| failed("bind", e))?;
    let protocol = address.ip().map(|_| Protocol::TCP);
    let socket = Socket::new(kernel.domain(), Type::STREAM.nonblocking().cloexec(), protocol)
        .map_err(|e| failed("make a socket", e))?;
    if let Some(ip) = address.ip() {
        prepare_ip(spec, ip, &socket).map_err(|(what, e)| failed(what, e))?;
    }
    socket_option::apply(&spec.options, SocketState::Prebind, &socket).map_err(|(what, e)| failed(&what, e))?;
    match address {
        Address::Ip(_) => socket.bind(&kernel).map_err(|e| failed("bind", e))?,
        Address::Pipe(path) => bind_path(spec, path, &socket, &kernel)?,
    }
    socket_option::apply(&spec.options, SocketState::Bound, &socket).map_err(|(what, e)| failed(&what, e))?;
    Ok(socket)
}

fn prepare_ip(spec: &ListenSpec, ip: SocketAddr, socket: &Socket) -> Result<(), (&'static str, io::Error)> {
    let set = |name: &'static str, result: io::Result<()>| result.map_err(|e| (name, e));
    set("SO_REUSEADDR", socket.set_reuse_address(true))?;
    if spec.reuse_port {
        set("SO_REUSEPORT", socket.set_reuse_port(true))?;
    }
    if ip.is_ipv6() {
        set("IPV6_V6ONLY", socket.set_only_v6(!spec.ipv4_compat))?;
    }
    set_options(spec, ip, socket)
}

/// What can be set at any time.
fn set_options(spec: &ListenSpec, ip: SocketAddr, socket: &Socket) -> Result<(), (&'static str, io::Error)> {
    let set = |name: &'static str, result: io::Result<()>| result.map_err(|e| (name, e));
    set_ip_flags(socket, ip.is_ipv6(), spec.transparent, spec.freebind)?;
    if let Some(device) = &spec.device {
        set("SO_BINDTODEVICE", socket.bind_device(Some(device.as_bytes())))?;
    }
    if spec.no_delay {
        set("TCP_NODELAY", socket.set_tcp_nodelay(true))?;
    }
    if let Some(keepalive) = &spec.keepalive {
        set("SO_KEEPALIVE", keepalive.set(socket))?;
    }
    if let Some(queue) = spec.tcp_fast_open {
        let queue = queue.to_ne_bytes();
        set("TCP_FASTOPEN", sys::set_socket_option(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_FASTOPEN, &queue))?;
    }
    Ok(())
}

/// IP_TRANSPARENT and IP_FREEBIND. An IPv6 socket that also carries IPv4 looks at the IPv4 flags, too.
pub(crate) fn set_ip_flags(
    socket: &Socket,
    v6: bool,
    transparent: Option<bool>,
    freebind: Option<bool>,
) -> Result<(), (&'static str, io::Error)> {
    let dual = v6 && matches!(socket.domain(), Ok(Domain::IPV6));
    if let Some(on) = transparent {
        if dual {
            socket.set_ip_transparent_v6(on).map_err(|e| ("IPV6_TRANSPARENT", e))?;
        }
        socket.set_ip_transparent_v4(on).map_err(|e| ("IP_TRANSPARENT", e))?;
    }
    if let Some(on) = freebind {
        if dual {
            socket.set_freebind_v6(on).map_err(|e| ("IPV6_FREEBIND", e))?;
        }
        socket.set_freebind_v4(on).map_err(|e| ("IP_FREEBIND", e))?;
    }
    Ok(())
}

fn bind_path(spec: &ListenSpec, path: &str, socket: &Socket, kernel: &socket2::SockAddr) -> Result<(), BindError> {
    let failed = |what: &str, e| BindError::new(spec, what, e);
    if spec.address.is_abstract() {
        set_mode(spec, path)?;
        return socket.bind(kernel).map_err(|e| failed("bind", e));
    }
    remove_stale(path).map_err(|e| failed("bind", e))?;
    socket.bind(kernel).map_err(|e| failed("bind", e))?;
    // Nothing can connect before `listen`, so there is no moment with wider permissions.
    set_mode(spec, path)
}

/// Permissions of a unix path, if there are to be other than the umask has it.
fn set_mode(spec: &ListenSpec, path: &str) -> Result<(), BindError> {
    let failed = |e| BindError::new(spec, "set the mode", e);
    if spec.mode != 0 && spec.address.is_abstract() {
        let e = io::Error::new(io::ErrorKind::InvalidInput, "a name in the abstract namespace has no permissions");
        return Err(failed(e));
    }
    if spec.mode != 0 {
        let permissions = std::fs::Permissions::from_mode(spec.mode & 0o777);
        std::fs::set_permissions(path, permissions).map_err(failed)?;
    }
    Ok(())
}

/// Removes the file of a unix socket that nobody listens on any more. Anything else at the path is left alone, and makes
/// `bind` fail.
fn remove_stale(path: &str) -> io::Result<()> {
    if !is_socket(path) {
        return Ok(());
    }
    match UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Ok(()),
    }
}

fn is_socket(path: &str) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}
