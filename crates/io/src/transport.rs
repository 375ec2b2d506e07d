//! One byte stream, whatever carries it.
//!
//! Owns: the dispatch between kernel sockets and other carriers (in-memory pipes in tests, TLS sessions). Does not own:
//! buffering, framing or any policy.

use bytes::BytesMut;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A carrier other than a kernel socket.
pub trait TransportSocket: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> TransportSocket for T {}

/// An established TLS session over another transport, its carrier. It is a trait so that this crate knows nothing of TLS.
pub trait SecureSocket {
    /// As [`Transport::poll_read_buf`].
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;

    /// As [`Transport::poll_write_vectored`]: the slices become as few records as can be. What the carrier did not take is held
    /// back until the next call or [`SecureSocket::poll_flush`].
    fn poll_write_vectored(&mut self, cx: &mut Context<'_>, from: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// Writes everything that is held back.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Tells the peer that nothing follows (close_notify), then ends the carrier's writing half.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// As [`Transport::is_quiet`]. Messages of the session itself (tickets, key updates) must not end the quiet; they may be
    /// consumed by this call.
    fn is_quiet(&mut self) -> bool;

    /// As [`Transport::poll_readable`], with the same exception.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// What carries the records.
    fn carrier(&self) -> &Transport;
}

/// A connected byte stream. It belongs to the worker that accepted or made it.
pub enum Transport {
    /// TCP.
    Tcp(TcpStream),
    /// A unix stream socket.
    Unix(UnixStream),
    /// A TLS session.
    Tls(Box<dyn SecureSocket>),
    /// Anything else: an in-memory pipe.
    Other(Box<dyn TransportSocket>),
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Transport::Tcp(_) => "Tcp",
            Transport::Unix(_) => "Unix",
            Transport::Tls(_) => "Tls",
            Transport::Other(_) => "Other",
        })
    }
}

impl Transport {
    /// Reads into the spare capacity of `into`, which must not be empty; 0 is the end of the stream. Never calls the
    /// kernel before the socket is known to be readable. Cancel safe.
    #[inline]
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        crate::buffer::poll_read_spare(into, |spare: &mut ReadBuf<'_>| self.poll_read_buf(cx, spare))
    }

    /// [`Transport::poll_read`] into a buffer that is not a growing one; nothing read is the end of the stream.
    #[inline]
    pub fn poll_read_buf(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Tcp(socket) => Pin::new(socket).poll_read(cx, into),
            Transport::Unix(socket) => Pin::new(socket).poll_read(cx, into),
            Transport::Tls(session) => session.poll_read(cx, into),
            Transport::Other(socket) => Pin::new(socket.as_mut()).poll_read(cx, into),
        }
    }

    /// Writes from one slice.
    #[inline]
    pub fn poll_write(&mut self, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Transport::Tcp(socket) => Pin::new(socket).poll_write(cx, from),
            Transport::Unix(socket) => Pin::new(socket).poll_write(cx, from),
            Transport::Tls(session) => session.poll_write_vectored(cx, &[IoSlice::new(from)]),
            Transport::Other(socket) => Pin::new(socket.as_mut()).poll_write(cx, from),
        }
    }

    /// Writes from several slices.
    #[inline]
    pub fn poll_write_vectored(&mut self, cx: &mut Context<'_>, from: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Transport::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, from),
            Transport::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, from),
            Transport::Tls(session) => session.poll_write_vectored(cx, from),
            Transport::Other(socket) => Pin::new(socket.as_mut()).poll_write_vectored(cx, from),
        }
    }

    /// Pushes what the carrier itself holds back (TLS records); kernel sockets hold nothing.
    #[inline]
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Tcp(_) | Transport::Unix(_) => Poll::Ready(Ok(())),
            Transport::Tls(session) => session.poll_flush(cx),
            Transport::Other(socket) => Pin::new(socket.as_mut()).poll_flush(cx),
        }
    }

    /// Ends the writing half; the peer reads end of stream.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Transport::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Transport::Tls(session) => session.poll_shutdown(cx),
            Transport::Other(socket) => Pin::new(socket.as_mut()).poll_shutdown(cx),
        }
    }

    /// Whether the kernel has reported nothing readable on an idle connection. A pooled connection that is not quiet was
    /// closed by its peer, or received bytes that nobody asked for; either way it must not be used. Costs no system
    /// call, but for a TLS session that received something.
    #[inline]
    pub fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        match self {
            Transport::Tcp(socket) => socket.poll_read_ready(&mut cx).is_pending(),
            Transport::Unix(socket) => socket.poll_read_ready(&mut cx).is_pending(),
            Transport::Tls(session) => session.is_quiet(),
            Transport::Other(_) => true,
        }
    }

    /// Waits, on behalf of an idle connection, until the peer sends bytes or closes. Consumes nothing.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Transport::Tcp(socket) => socket.poll_read_ready(cx).map(|_| ()),
            Transport::Unix(socket) => socket.poll_read_ready(cx).map(|_| ()),
            Transport::Tls(session) => session.poll_readable(cx),
            Transport::Other(_) => Poll::Pending,
        }
    }

    /// The TCP socket, if the bytes go through one unchanged.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Transport::Tcp(socket) => Some(socket),
            Transport::Unix(_) | Transport::Tls(_) | Transport::Other(_) => None,
        }
    }

    /// The TCP socket at the bottom, also below TLS: for addresses and socket options, not for bytes.
    pub fn lowest_tcp(&self) -> Option<&TcpStream> {
        match self {
            Transport::Tls(session) => session.carrier().lowest_tcp(),
            _ => self.tcp(),
        }
    }
}
