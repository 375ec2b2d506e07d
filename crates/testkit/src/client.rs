//! A raw HTTP/1 client: it sends the bytes it is told to, and reads responses one by one, so that pipelining, malformed
//! requests and half-closed connections can be scripted.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::PATIENCE;
use crate::message::{Body, End, Framing, Head, Wire};

/// A connection of the client.
pub struct Client {
    wire: Wire<Stream>,
}

/// What came back for one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Informational responses (1xx other than 101) that came before.
    pub interim: Vec<Head>,
    /// The head of the final response; `None` when the connection ended before one.
    pub head: Option<Head>,
    /// The body, and how reading ended.
    pub body: Body,
}

impl Response {
    /// The status, 0 without a response.
    pub fn status(&self) -> u16 {
        self.head.as_ref().map_or(0, Head::status)
    }
}

impl Client {
    /// Connects over TCP.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        Self::over(Stream::Tcp(stream))
    }

    /// Connects over TCP from the given local address; its port may be 0.
    pub fn connect_from(local: SocketAddr, address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.bind(&SockAddr::from(local))?;
        socket.connect(&SockAddr::from(address))?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        Self::over(Stream::Tcp(stream))
    }

    /// Connects to a unix socket.
    pub fn connect_unix(path: &Path) -> io::Result<Self> {
        Self::over(Stream::Unix(UnixStream::connect(path)?))
    }

    fn over(stream: Stream) -> io::Result<Self> {
        stream.set_patience(PATIENCE)?;
        Ok(Self { wire: Wire::new(stream) })
    }

    /// Sends bytes. The error of a peer that has closed is for the caller to ignore where a script expects it.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.stream.write_all(bytes)
    }

    /// Sets how long reading waits for bytes; [`PATIENCE`] at first.
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.wire.stream.set_patience(patience)
    }

    /// Reads the response to one request. `to_head` says that the request was a HEAD, whose response has no body.
    pub fn response(&mut self, to_head: bool) -> Response {
        let mut response = Response::default();
        loop {
            match self.wire.head() {
                Ok(head) if (100..200).contains(&head.status()) && head.status() != 101 => response.interim.push(head),
                Ok(head) => {
                    response.body = self.wire.body(head.response_framing(to_head));
                    response.head = Some(head);
                    return response;
                }
                Err((end, data)) => {
                    response.body = Body { data, end, ..Body::default() };
                    return response;
                }
            }
        }
    }

    /// Reads one head only, for a script that reads the body by itself.
    pub fn head(&mut self) -> Result<Head, (End, Vec<u8>)> {
        self.wire.head()
    }

    /// Reads exactly `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Body {
        self.wire.body(Framing::Length(length))
    }

    /// Reads until the peer closes.
    pub fn rest(&mut self) -> Body {
        self.wire.body(Framing::UntilClose)
    }

    /// Whether the peer closed or reset the connection within `wait`; data that comes instead counts as open.
    pub fn is_closed_within(&mut self, wait: Duration) -> io::Result<bool> {
        if !self.wire.buffered().is_empty() {
            return Ok(false);
        }
        let deadline = Instant::now() + wait;
        self.wire.stream.set_patience(wait.max(Duration::from_millis(1)))?;
        let closed = match self.wire.stream.peek() {
            Ok(count) => count == 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Instant::now() >= deadline,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        };
        self.wire.stream.set_patience(PATIENCE)?;
        Ok(closed)
    }

    /// Says that nothing more will be sent (FIN), and goes on reading.
    pub fn finish_sending(&mut self) -> io::Result<()> {
        self.wire.stream.shutdown(Shutdown::Write)
    }

    /// Drops the connection with a reset (RST).
    pub fn reset(self) -> io::Result<()> {
        match self.wire.stream {
            Stream::Tcp(stream) => Socket::from(stream).set_linger(Some(Duration::ZERO)),
            Stream::Unix(_) => Ok(()),
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn set_patience(&self, patience: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(PATIENCE))
            }
            Self::Unix(stream) => stream.set_read_timeout(Some(patience)),
        }
    }

    fn peek(&self) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.peek(&mut [0]),
            Self::Unix(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buffer),
            Self::Unix(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
