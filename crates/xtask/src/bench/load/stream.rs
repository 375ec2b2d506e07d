//! The byte stream of a connection: a socket, or a TLS session over it, driven by readiness instead of by a runtime.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use mio::net::TcpStream;
use nuncio_io::transport::Transport;
use nuncio_tls::spec::{ClientSpec, ParametersSpec, TlsVersion};
use nuncio_tls::{ClientContext, ClientHandshake, ConnectOptions};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Sessions that a client keeps for resumption: more than there are connections at the same time.
const SESSIONS: u32 = 256;

/// What is read and written.
pub enum Stream {
    Plain(TcpStream),
    /// A handshake that has not ended.
    Handshake(Box<ClientHandshake>, Rc<Cell<bool>>),
    Secure(Transport, Rc<Cell<bool>>),
    /// On the way from one of these to another.
    Vacant,
}

/// A handshake that has ended: whether it resumed a session.
pub struct Greeted {
    pub resumed: bool,
}

/// A client context: TLS 1.3 with X25519, which all proxies have; nothing is verified but the signature of the handshake.
pub fn context(resume: bool) -> Result<ClientContext, String> {
    let spec = ClientSpec {
        parameters: ParametersSpec {
            minimum_version: Some(TlsVersion::V1_3),
            maximum_version: Some(TlsVersion::V1_3),
            ecdh_curves: vec!["X25519".into()],
            ..ParametersSpec::default()
        },
        sni: "bench.test".into(),
        max_session_keys: Some(if resume { SESSIONS } else { 0 }),
        ..ClientSpec::default()
    };
    ClientContext::new(&spec).map(|(context, _)| context).map_err(|error| format!("TLS of the load: {error:?}"))
}

/// The first flight of a client, to be sent again and again: a server has the whole work of it each time.
pub fn hello() -> Result<Vec<u8>, String> {
    let (near, far) = tokio::io::duplex(1 << 16);
    let mut handshake = context(false)?.connect(Transport::Other(Box::new(near)), ConnectOptions::default());
    let mut cx = Context::from_waker(Waker::noop());
    if Pin::new(&mut handshake).poll(&mut cx).is_ready() {
        return Err("TLS of the load: a handshake with nobody".into());
    }
    let mut bytes = vec![0; 1 << 16];
    let mut buffer = ReadBuf::new(&mut bytes);
    let mut far = far;
    if !matches!(Pin::new(&mut far).poll_read(&mut cx, &mut buffer), Poll::Ready(Ok(()))) {
        return Err("TLS of the load: no hello".into());
    }
    Ok(buffer.filled().to_vec())
}

impl Stream {
    /// Begins a handshake on a socket that is connected.
    pub fn secure(&mut self, context: &ClientContext) {
        let Self::Plain(socket) = std::mem::replace(self, Self::Vacant) else { return };
        let readable = Rc::new(Cell::new(true));
        let socket = Socket { socket, readable: Rc::clone(&readable) };
        let handshake = context.connect(Transport::Other(Box::new(socket)), ConnectOptions::default());
        *self = Self::Handshake(Box::new(handshake), readable);
    }

    /// Tells that the kernel reported something.
    pub fn wake(&self) {
        if let Self::Handshake(_, readable) | Self::Secure(_, readable) = self {
            readable.set(true);
        }
    }

    /// Goes on with the handshake; `None` while it has not ended.
    pub fn greet(&mut self) -> Result<Option<Greeted>, String> {
        let Self::Handshake(handshake, readable) = self else { return Ok(Some(Greeted { resumed: false })) };
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(handshake.as_mut()).poll(&mut cx) {
            Poll::Pending => Ok(None),
            Poll::Ready(Err(error)) => Err(format!("handshake: {error}")),
            Poll::Ready(Ok((transport, session))) => {
                *self = Self::Secure(transport, Rc::clone(readable));
                Ok(Some(Greeted { resumed: session.resumed }))
            }
        }
    }

    /// The socket, where nothing lies above it.
    pub fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Handshake(..) | Self::Secure(..) | Self::Vacant => None,
        }
    }

    /// Reads; [`ErrorKind::WouldBlock`] when the socket was emptied.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(into),
            Self::Handshake(..) | Self::Vacant => Err(ErrorKind::WouldBlock.into()),
            Self::Secure(transport, _) => {
                let mut buffer = ReadBuf::new(into);
                let mut cx = Context::from_waker(Waker::noop());
                block(transport.poll_read_buf(&mut cx, &mut buffer))?;
                Ok(buffer.filled().len())
            }
        }
    }

    /// Writes everything or nothing but an error: what is sent is small.
    pub fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(from),
            Self::Handshake(..) | Self::Vacant => Err(ErrorKind::WouldBlock.into()),
            Self::Secure(transport, _) => {
                let mut cx = Context::from_waker(Waker::noop());
                let count = block(transport.poll_write(&mut cx, from))?;
                block(transport.poll_flush(&mut cx))?;
                Ok(count)
            }
        }
    }
}

fn block<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
    }
}

fn poll<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

/// A socket as the TLS crate wants it. A read that does not fill the buffer has emptied the socket, which saves the next call.
struct Socket {
    socket: TcpStream,
    readable: Rc<Cell<bool>>,
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.readable.get() {
            return Poll::Pending;
        }
        let spare = into.initialize_unfilled();
        let length = spare.len();
        match self.socket.read(spare) {
            Ok(count) => {
                self.readable.set(count == length || count == 0);
                into.advance(count);
                Poll::Ready(Ok(()))
            }
            Err(error) => {
                self.readable.set(error.kind() != ErrorKind::WouldBlock);
                poll(Err(error))
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        poll(self.socket.write(from))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll(self.socket.shutdown(std::net::Shutdown::Write))
    }
}
