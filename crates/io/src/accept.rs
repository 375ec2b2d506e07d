//! Accepting connections on one listening socket of one worker.
//!
//! Owns: telling errors of a connection from those of the listener, waiting without a busy loop while descriptors are
//! exhausted, and taking turns with other tasks. Does not own: counters and limits, which the caller keeps.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, UnixListener};
use tokio::time::Sleep;

use crate::address::{Address, canonical};
use crate::listen::Listener;
use crate::transport::Transport;

/// First pause after descriptors ran out; doubles up to [`LONGEST_PAUSE`].
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
/// Longest pause while descriptors are exhausted.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// Connections in a row before other tasks get their turn, where the configuration sets no limit.
const MOST_IN_A_ROW: u32 = 64;

/// A new connection.
#[derive(Debug)]
pub struct Accepted {
    /// Its bytes.
    pub stream: Transport,
    /// Who connected; an empty path for a unix socket without a name.
    pub peer: Address,
    /// Where it arrived. Behind a REDIRECT rule this is the listener, not the original destination; for a transparent
    /// listener it is the original destination.
    pub local: Address,
}

/// What accepting came to.
#[derive(Debug)]
pub enum Outcome {
    /// A new connection.
    Connection(Accepted),
    /// Descriptors or memory ran out. Connections that exist go on; new ones wait in the backlog, and the next call tries
    /// again after a pause. Move a counter.
    Exhausted(io::Error),
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Accepts connections on a listening socket. Lives on the worker that made it.
pub struct Acceptor {
    socket: Socket,
    address: Address,
    /// The local address of every connection, where it can't differ from the listener's.
    local: Option<Address>,
    most_in_a_row: u32,
    in_a_row: u32,
    pause: Option<Pin<Box<Sleep>>>,
    next_pause: Duration,
}

enum Class {
    /// That connection was gone before it was accepted, or a firewall forbade it.
    Connection,
    /// No descriptors or memory.
    Exhausted,
    /// The listener itself.
    Listener,
}

fn classify(error: &io::Error) -> Class {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::ENOSPC) => Class::Exhausted,
        // accept(2): errors of the new socket that are already known are passed on; treat them like EAGAIN.
        Some(
            libc::ECONNABORTED
            | libc::ECONNRESET
            | libc::EPROTO
            | libc::EPERM
            | libc::EINTR
            | libc::ETIMEDOUT
            | libc::ENETDOWN
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EHOSTUNREACH
            | libc::EOPNOTSUPP
            | libc::ENETUNREACH,
        ) => Class::Connection,
        _ => Class::Listener,
    }
}

impl Acceptor {
    /// Registers the listener with the runtime of this thread. `most_per_wake` is
    /// `max_connections_to_accept_per_socket_event`; `None` is 64 (Envoy: no limit), after which other tasks run first.
    pub fn new(listener: Listener, most_per_wake: Option<u32>) -> io::Result<Self> {
        let Listener { socket, address, transparent } = listener;
        let fixed = match &address {
            Address::Ip(ip) => !transparent && !ip.ip().is_unspecified(),
            Address::Pipe(_) => true,
        };
        let fd = OwnedFd::from(socket);
        let socket = match &address {
            Address::Ip(_) => Socket::Tcp(TcpListener::from_std(fd.into())?),
            Address::Pipe(_) => Socket::Unix(UnixListener::from_std(fd.into())?),
        };
        Ok(Acceptor {
            socket,
            local: fixed.then(|| address.clone()),
            address,
            most_in_a_row: most_per_wake.unwrap_or(MOST_IN_A_ROW).max(1),
            in_a_row: 0,
            pause: None,
            next_pause: SHORTEST_PAUSE,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Connections accepted since it last waited for the socket or for its turn; 0 while it waits. Before a wait it is
    /// the value for `connections_accepted_per_socket_event`.
    pub fn accepted_in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// The next connection. An error means that the listener itself is of no use any more. Cancel safe.
    pub async fn accept(&mut self) -> io::Result<Outcome> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// As [`Acceptor::accept`].
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Outcome>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        loop {
            if self.in_a_row >= self.most_in_a_row {
                self.in_a_row = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let Poll::Ready(result) = self.poll_socket(cx) else {
                self.in_a_row = 0;
                return Poll::Pending;
            };
            self.in_a_row += 1;
            match result {
                Ok(accepted) => {
                    self.next_pause = SHORTEST_PAUSE;
                    return Poll::Ready(Ok(Outcome::Connection(accepted)));
                }
                Err(e) => match classify(&e) {
                    Class::Connection => {}
                    Class::Exhausted => {
                        self.pause = Some(Box::pin(tokio::time::sleep(self.next_pause)));
                        self.next_pause = (self.next_pause * 2).min(LONGEST_PAUSE);
                        self.in_a_row = 0;
                        return Poll::Ready(Ok(Outcome::Exhausted(e)));
                    }
                    Class::Listener => return Poll::Ready(Err(e)),
                },
            }
        }
    }

    /// Another descriptor of the listening socket, for another process.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.as_fd().try_clone_to_owned()
    }

    fn poll_socket(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        let (stream, peer, local) = match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = ready!(listener.poll_accept(cx))?;
                let local = match &self.local {
                    Some(local) => local.clone(),
                    None => Address::Ip(canonical(stream.local_addr()?)),
                };
                (Transport::Tcp(stream), Address::Ip(canonical(peer)), local)
            }
            Socket::Unix(listener) => {
                let (stream, _) = ready!(listener.poll_accept(cx))?;
                let peer = SockRef::from(&stream).peer_addr()?;
                (Transport::Unix(stream), Address::from_kernel(&peer), self.address.clone())
            }
        };
        Poll::Ready(Ok(Accepted { stream, peer, local }))
    }
}

impl AsFd for Acceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(listener) => listener.as_fd(),
            Socket::Unix(listener) => listener.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::{ListenSpec, bind};
    use crate::sys;

    fn acceptor(address: Address, most_per_wake: Option<u32>) -> Acceptor {
        let mut listeners = bind(&ListenSpec::new(address), 1).unwrap().listen().unwrap();
        Acceptor::new(listeners.remove(0), most_per_wake).unwrap()
    }

    fn connection(outcome: Outcome) -> Accepted {
        match outcome {
            Outcome::Connection(accepted) => accepted,
            Outcome::Exhausted(e) => unreachable!("{e}"),
        }
    }

    #[tokio::test]
    async fn addresses_of_a_connection() {
        for (listen, connect) in [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.3")] {
            let mut acceptor = acceptor(Address::Ip(listen.parse().unwrap()), None);
            let to = std::net::SocketAddr::new(connect.parse().unwrap(), acceptor.address().ip().unwrap().port());
            let client = tokio::net::TcpStream::connect(to).await.unwrap();
            let accepted = connection(acceptor.accept().await.unwrap());
            assert_eq!(accepted.local, Address::Ip(to));
            assert_eq!(accepted.peer, Address::Ip(client.local_addr().unwrap()));
            let stream = accepted.stream.tcp().unwrap();
            assert!(stream.nodelay().unwrap(), "inherited from the listener");
        }
    }

    #[tokio::test]
    async fn unix_connections() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let address = Address::pipe(path.to_str().unwrap());
        let mut acceptor = acceptor(address.clone(), None);
        let _client = tokio::net::UnixStream::connect(&path).await.unwrap();
        let accepted = connection(acceptor.accept().await.unwrap());
        assert_eq!((accepted.local, accepted.peer), (address, Address::pipe("")));
    }

    #[tokio::test]
    async fn takes_turns() {
        let mut acceptor = acceptor(Address::Ip("127.0.0.1:0".parse().unwrap()), Some(1));
        let to = acceptor.address().ip().unwrap();
        let _clients =
            [tokio::net::TcpStream::connect(to).await.unwrap(), tokio::net::TcpStream::connect(to).await.unwrap()];
        connection(acceptor.accept().await.unwrap());
        assert_eq!(acceptor.accepted_in_a_row(), 1);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(acceptor.poll_accept(&mut cx).is_pending(), "one connection a wake-up");
        assert!(acceptor.poll_accept(&mut cx).is_ready());
    }

    #[test]
    fn errors_are_told_apart() {
        let class = |errno| match classify(&io::Error::from_raw_os_error(errno)) {
            Class::Connection => "connection",
            Class::Exhausted => "exhausted",
            Class::Listener => "listener",
        };
        assert_eq!(class(libc::EMFILE), "exhausted");
        assert_eq!(class(libc::ENFILE), "exhausted");
        assert_eq!(class(libc::ECONNABORTED), "connection");
        assert_eq!(class(libc::EPERM), "connection");
        assert_eq!(class(libc::EBADF), "listener");
        assert_eq!(class(libc::EINVAL), "listener");
    }

    #[tokio::test]
    async fn options_of_the_listener_hold_for_connections() {
        let mut spec = ListenSpec::new(Address::Ip("127.0.0.1:0".parse().unwrap()));
        spec.keepalive = Some(crate::socket_option::Keepalive { probes: Some(3), ..Default::default() });
        let listener = bind(&spec, 1).unwrap().listen().unwrap().remove(0);
        let mut acceptor = Acceptor::new(listener, None).unwrap();
        let _client = tokio::net::TcpStream::connect(acceptor.address().ip().unwrap()).await.unwrap();
        let accepted = connection(acceptor.accept().await.unwrap());
        let fd = accepted.stream.tcp().unwrap().as_fd();
        assert_eq!(sys::socket_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE).unwrap(), 1);
        assert_eq!(sys::socket_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPCNT).unwrap(), 3);
    }
}
