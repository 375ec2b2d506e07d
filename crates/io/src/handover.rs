//! A unix socket over which processes of one user hand descriptors to one another: messages with bounds, each whole.
//!
//! Owns: binding, accepting, connecting, and who is at the other end. Does not own: what the messages say.
//!
//! *Invariant*: a [`Peer`] is a process of this process's own user.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use socket2::{Domain, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::address::Address;
use crate::sys::rights;

/// Bytes of one message at most.
pub const MOST_BYTES: usize = 64 * 1024;
/// Descriptors of one message at most.
pub const MOST_DESCRIPTORS: usize = rights::MOST_DESCRIPTORS;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 8;

/// Where processes are waited for. A path is removed when this is dropped.
pub struct Endpoint {
    socket: AsyncFd<Socket>,
    address: Address,
}

/// A connection to another process of the same user.
pub struct Peer {
    socket: AsyncFd<Socket>,
    process: u32,
}

/// A message as it was received.
pub struct Received {
    /// Its bytes, never none.
    pub bytes: Vec<u8>,
    /// Descriptors that came with it.
    pub descriptors: Vec<OwnedFd>,
}

fn new_socket() -> io::Result<Socket> {
    Socket::new(Domain::UNIX, Type::SEQPACKET.nonblocking().cloexec(), None)
}

impl Endpoint {
    /// Binds an address; `mode` are the permissions of a path. A path that no process listens on any more is taken over;
    /// one that is in use, or a name that is, is an error of [`io::ErrorKind::AddrInUse`].
    pub fn bind(address: &Address, mode: u32) -> io::Result<Endpoint> {
        let kernel = address.to_kernel()?;
        let socket = new_socket()?;
        if let Address::Pipe(path) = address
            && !address.is_abstract()
        {
            remove_stale(path, &kernel)?;
        }
        socket.bind(&kernel)?;
        if let Address::Pipe(path) = address
            && !address.is_abstract()
        {
            // Nobody can connect before `listen`.
            std::fs::set_permissions(&**path, std::fs::Permissions::from_mode(mode & 0o777))?;
        }
        socket.listen(BACKLOG)?;
        let socket = rights::watched(socket, Interest::READABLE)?;
        Ok(Endpoint { socket, address: address.clone() })
    }

    /// The next process of this user; those of other users are closed, and told to `refused` by their number. Cancel safe.
    pub async fn accept(&self, mut refused: impl FnMut(u32)) -> io::Result<Peer> {
        loop {
            let accepted = self.socket.async_io(Interest::READABLE, |socket| socket.accept()).await;
            let socket = match accepted {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            match Peer::new(socket) {
                Ok(peer) => return Ok(peer),
                Err(NoPeer::OtherUser(user)) => refused(user),
                // It is gone already.
                Err(NoPeer::Failed(_)) => {}
            }
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Address::Pipe(path) = &self.address
            && !self.address.is_abstract()
        {
            // Whoever binds it next would remove it, too.
            let _ = std::fs::remove_file(&**path);
        }
    }
}

/// Removes the file of a socket that no process listens on.
fn remove_stale(path: &str, kernel: &socket2::SockAddr) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    if !std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        return Ok(());
    }
    match new_socket()?.connect(kernel) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Ok(()),
    }
}

enum NoPeer {
    OtherUser(u32),
    Failed(io::Error),
}

impl Peer {
    /// Connects to the process that waits at an address. A process of another user there is an error of
    /// [`io::ErrorKind::PermissionDenied`].
    pub fn connect(address: &Address) -> io::Result<Peer> {
        let socket = new_socket()?;
        socket.connect(&address.to_kernel()?)?;
        match Peer::new(socket) {
            Ok(peer) => Ok(peer),
            Err(NoPeer::OtherUser(user)) => {
                let text = format!("the process there belongs to user {user}");
                Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
            }
            Err(NoPeer::Failed(error)) => Err(error),
        }
    }

    fn new(socket: Socket) -> Result<Peer, NoPeer> {
        socket.set_nonblocking(true).map_err(NoPeer::Failed)?;
        let (process, user) = rights::peer_credentials(socket.as_fd()).map_err(NoPeer::Failed)?;
        if user != rights::user() {
            return Err(NoPeer::OtherUser(user));
        }
        let both = Interest::READABLE.add(Interest::WRITABLE);
        let socket = rights::watched(socket, both).map_err(NoPeer::Failed)?;
        Ok(Peer { socket, process })
    }

    /// The process at the other end.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// Sends a message of 1 to [`MOST_BYTES`] bytes with up to [`MOST_DESCRIPTORS`] descriptors, which the peer gets copies
    /// of. Waits while the peer has much to read. Cancel safe: it is sent whole or not at all.
    pub async fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if bytes.is_empty() || bytes.len() > MOST_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a message must have 1 to 65536 bytes"));
        }
        let send = |socket: &Socket| rights::send_message(socket.as_fd(), bytes, descriptors);
        self.socket.async_io(Interest::WRITABLE, send).await
    }

    /// The next message; `None`: the peer has closed. Cancel safe.
    pub async fn receive(&self) -> io::Result<Option<Received>> {
        let receive = |socket: &Socket| {
            let mut bytes = vec![0; MOST_BYTES];
            let (length, descriptors) = rights::receive_message(socket.as_fd(), &mut bytes)?;
            bytes.truncate(length);
            Ok((length > 0).then_some(Received { bytes, descriptors }))
        };
        match self.socket.async_io(Interest::READABLE, receive).await {
            // The peer has closed without having read everything. That is told once, before what it had still sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                self.socket.async_io(Interest::READABLE, receive).await
            }
            received => received,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn address() -> Address {
        Address::pipe(&format!("@nuncio-test-{}-{}", std::process::id(), anything()))
    }

    fn anything() -> u64 {
        use std::hash::{BuildHasher, Hasher};
        std::collections::hash_map::RandomState::new().build_hasher().finish()
    }

    #[tokio::test]
    async fn descriptors_arrive() {
        let address = address();
        let endpoint = Endpoint::bind(&address, 0o600).unwrap();
        assert_eq!(Endpoint::bind(&address, 0o600).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        let client = Peer::connect(&address).unwrap();
        let server = endpoint.accept(|_| panic!("same user")).await.unwrap();
        assert_eq!((client.process(), server.process()), (std::process::id(), std::process::id()));
        let (mut reader, writer) = std::io::pipe().unwrap();
        client.send(b"two", &[writer.as_fd(), writer.as_fd()]).await.unwrap();
        client.send(b"none", &[]).await.unwrap();
        let first = server.receive().await.unwrap().unwrap();
        assert_eq!((&first.bytes[..], first.descriptors.len()), (&b"two"[..], 2));
        assert_eq!(server.receive().await.unwrap().unwrap().bytes, b"none");
        drop(writer);
        for (at, descriptor) in first.descriptors.into_iter().enumerate() {
            std::fs::File::from(descriptor).write_all(&[at as u8]).unwrap();
        }
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(all, [0, 1]);
        drop(client);
        assert!(server.receive().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_was_sent_before_the_end_arrives() {
        let address = address();
        let endpoint = Endpoint::bind(&address, 0o600).unwrap();
        let client = Peer::connect(&address).unwrap();
        let server = endpoint.accept(|_| ()).await.unwrap();
        client.send(b"never read", &[]).await.unwrap();
        server.send(b"last words", &[]).await.unwrap();
        drop(server);
        assert!(client.send(b"too late", &[]).await.is_err());
        assert_eq!(client.receive().await.unwrap().unwrap().bytes, b"last words");
        assert!(client.receive().await.unwrap().is_none());
        // Likewise for one who does not send.
        let client = Peer::connect(&address).unwrap();
        let server = endpoint.accept(|_| ()).await.unwrap();
        client.send(b"never read", &[]).await.unwrap();
        server.send(b"last words", &[]).await.unwrap();
        drop(server);
        assert_eq!(client.receive().await.unwrap().unwrap().bytes, b"last words");
    }

    #[tokio::test]
    async fn messages_have_bounds() {
        let address = address();
        let endpoint = Endpoint::bind(&address, 0o600).unwrap();
        let client = Peer::connect(&address).unwrap();
        let server = endpoint.accept(|_| ()).await.unwrap();
        assert!(client.send(&[], &[]).await.is_err());
        assert!(client.send(&vec![0; MOST_BYTES + 1], &[]).await.is_err());
        let file = std::fs::File::open("/dev/null").unwrap();
        let too_many = vec![file.as_fd(); MOST_DESCRIPTORS + 1];
        assert!(client.send(b"x", &too_many).await.is_err());
        client.send(&vec![7; MOST_BYTES], &vec![file.as_fd(); MOST_DESCRIPTORS]).await.unwrap();
        let whole = server.receive().await.unwrap().unwrap();
        assert_eq!((whole.bytes.len(), whole.descriptors.len()), (MOST_BYTES, MOST_DESCRIPTORS));
        // A peer that keeps no bounds of its own.
        let raw = new_socket().unwrap();
        raw.connect(&address.to_kernel().unwrap()).unwrap();
        let server = endpoint.accept(|_| ()).await.unwrap();
        raw.set_nonblocking(false).unwrap();
        raw.send(&vec![0; MOST_BYTES + 1]).unwrap();
        assert_eq!(server.receive().await.err().unwrap().kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn paths_are_taken_over_from_the_dead_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let address = Address::pipe(path.to_str().unwrap());
        let endpoint = Endpoint::bind(&address, 0o640).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(Endpoint::bind(&address, 0o600).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        drop(endpoint);
        assert!(!path.exists());
        // A process that was killed leaves its file.
        let dead = new_socket().unwrap();
        dead.bind(&address.to_kernel().unwrap()).unwrap();
        drop(dead);
        assert!(path.exists());
        Endpoint::bind(&address, 0o600).unwrap();
    }
}
