//! A raw HTTP/2 server: what it sends is up to the test.

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use socket2::SockRef;

use super::{Answer, Frame, PREFACE, RawH2};
use crate::PATIENCE;

/// A server on a loopback port, ended when dropped. Its connections are those of [`RawServer::accept`].
pub struct RawServer {
    address: SocketAddr,
    listener: TcpListener,
    acceptor: Option<JoinHandle<()>>,
    accepted: Mutex<Receiver<RawH2>>,
}

impl RawServer {
    /// Sends `first` (SETTINGS, as a rule) on each connection, and what `answer` says for each frame that comes. SETTINGS and
    /// PING are acknowledged.
    pub fn start(first: Vec<u8>, answer: impl Fn(&Frame<'_>) -> Vec<u8> + Send + Sync + 'static) -> io::Result<Self> {
        Self::serve(first, Some(Arc::new(answer)))
    }

    /// Sends `first` on each connection and never reads.
    pub fn deaf(first: Vec<u8>) -> io::Result<Self> {
        Self::serve(first, None)
    }

    fn serve(first: Vec<u8>, answer: Option<Answer>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let (sender, accepted) = channel();
        let accepting = listener.try_clone()?;
        let acceptor = Some(thread::spawn(move || accept(&accepting, &sender, &first, answer.as_ref())));
        Ok(Self { address, listener, acceptor, accepted: Mutex::new(accepted) })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next connection. It is an error when none came in time.
    pub fn accept(&self) -> io::Result<RawH2> {
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.recv_timeout(PATIENCE).map_err(io::Error::other)
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        // Wakes the acceptor.
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, sender: &Sender<RawH2>, first: &[u8], answer: Option<&Answer>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { return };
        // A peer that went away at once is no connection to test with.
        if let Ok(connection) = begin(stream, first, answer.cloned())
            && sender.send(connection).is_err()
        {
            return;
        }
    }
}

fn begin(mut stream: TcpStream, first: &[u8], answer: Option<Answer>) -> io::Result<RawH2> {
    let Some(answer) = answer else {
        let connection = RawH2::over(stream)?;
        connection.send(first)?;
        return Ok(connection);
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface)?;
    if preface != *PREFACE {
        return Err(io::Error::other("the peer does not speak HTTP/2"));
    }
    stream.set_read_timeout(None)?;
    let connection = RawH2::over(stream)?;
    connection.send(first)?;
    connection.listen(answer)?;
    Ok(connection)
}
