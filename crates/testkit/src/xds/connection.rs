//! The thread of a management server: accepting, TLS, HTTP/2 connections.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::task::{Context, Poll};

use bytes::Bytes;
use nuncio_io::transport::Transport;
use nuncio_tls::ServerContext;
use nuncio_tls::spec::ServerSpec;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::{Place, Shared, rest, stream};

/// What clients may send before they have to wait.
const WINDOW: u32 = 16 << 20;
const BACKLOG: i32 = 128;

/// What the test wants of the server as a whole; each is answered when it is done.
pub enum Control {
    /// GOAWAY on every connection.
    GoAway(Sender<()>),
    /// The end of every connection.
    Cut(Sender<()>),
    /// No new connections.
    Stop(Sender<()>),
    /// New connections again.
    Listen(Sender<io::Result<()>>),
    /// The end.
    End,
}

#[derive(Clone, Copy)]
enum Wish {
    GoAway,
    Cut,
}

#[derive(Default)]
struct Connections {
    open: Vec<UnboundedSender<Wish>>,
    blocking: Vec<std::net::TcpStream>,
}

impl Connections {
    fn tell(&mut self, wish: Wish) {
        self.open.retain(|connection| connection.send(wish).is_ok());
        if let Wish::Cut = wish {
            self.blocking.drain(..).for_each(|stream| super::shut(&stream));
        }
    }
}

struct Server {
    shared: Arc<Shared>,
    listening: (Place, u16),
    tls: Option<ServerContext>,
    connections: RefCell<Connections>,
}

/// Runs the server until it is told to end. `ready` is told when it listens.
pub fn run(
    shared: Arc<Shared>,
    controls: UnboundedReceiver<Control>,
    listening: (Place, u16),
    tls: Option<ServerSpec>,
    ready: &Sender<io::Result<()>>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let context = tls.map(|spec| ServerContext::new(&spec, b"xds").map(|(context, _)| context)).transpose();
    let context = match context {
        Ok(context) => context,
        Err(error) => {
            let _ = ready.send(Err(io::Error::other(format!("{error:?}"))));
            return Ok(());
        }
    };
    let server = Rc::new(Server { shared, listening, tls: context, connections: RefCell::default() });
    LocalSet::new().block_on(&runtime, server.serve(controls, ready));
    Ok(())
}

impl Server {
    async fn serve(self: Rc<Self>, mut controls: UnboundedReceiver<Control>, ready: &Sender<io::Result<()>>) {
        let mut acceptor = None;
        // Nobody waits for an answer only if the test has ended.
        let _ = ready.send(self.listen(&mut acceptor));
        while let Some(control) = controls.recv().await {
            match control {
                Control::GoAway(done) => {
                    self.connections.borrow_mut().tell(Wish::GoAway);
                    let _ = done.send(());
                }
                Control::Cut(done) => {
                    self.connections.borrow_mut().tell(Wish::Cut);
                    let _ = done.send(());
                }
                Control::Stop(done) => {
                    if let Some(acceptor) = acceptor.take() {
                        acceptor.abort();
                        // It was aborted: the error says so.
                        let _ = acceptor.await;
                    }
                    let _ = done.send(());
                }
                Control::Listen(done) => {
                    let listening = self.listen(&mut acceptor);
                    let _ = done.send(listening);
                }
                Control::End => break,
            }
        }
        self.connections.borrow_mut().tell(Wish::Cut);
    }

    fn listen(self: &Rc<Self>, acceptor: &mut Option<JoinHandle<()>>) -> io::Result<()> {
        if acceptor.is_some() {
            return Ok(());
        }
        let listener = Listener::bind(&self.listening)?;
        let server = Rc::clone(self);
        *acceptor = Some(spawn_local(async move {
            loop {
                // One that fails to be accepted was closed by its client.
                if let Ok(accepted) = listener.accept().await {
                    spawn_local(Rc::clone(&server).connection(accepted));
                }
            }
        }));
        Ok(())
    }

    async fn connection(self: Rc<Self>, accepted: Accepted) {
        let number = {
            let mut state = self.shared.state();
            state.connections += 1;
            state.connections
        };
        let accepted = match accepted {
            Accepted::Tcp(stream) if self.tls.is_none() && !speaks_http2(&stream).await => {
                return self.rest(stream, number);
            }
            other => other,
        };
        let transport: Box<dyn Io> = match (&self.tls, accepted) {
            (None, Accepted::Tcp(stream)) => Box::new(stream),
            (None, Accepted::Unix(stream)) => Box::new(stream),
            (Some(context), accepted) => {
                let carrier = match accepted {
                    Accepted::Tcp(stream) => Transport::Tcp(stream),
                    Accepted::Unix(stream) => Transport::Unix(stream),
                };
                match context.accept(carrier, None, None).await {
                    Ok((transport, _)) => Box::new(Secure(transport)),
                    // The client sees why in its alert.
                    Err(_) => return,
                }
            }
        };
        // A connection that breaks shows in its streams.
        let _ = self.http2(transport, number).await;
    }

    fn rest(&self, stream: TcpStream, number: usize) {
        let Ok(stream) = stream.into_std() else { return };
        let Ok(handle) = stream.try_clone() else { return };
        if stream.set_nonblocking(false).is_ok() {
            self.connections.borrow_mut().blocking.push(handle);
            let shared = Arc::clone(&self.shared);
            std::thread::spawn(move || rest::serve(stream, number, &shared));
        }
    }

    async fn http2(&self, transport: Box<dyn Io>, number: usize) -> Result<(), h2::Error> {
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
        let (wish, mut wishes) = unbounded_channel();
        self.connections.borrow_mut().open.push(wish);
        let mut connection = builder.handshake::<_, Bytes>(transport).await?;
        loop {
            tokio::select! {
                accepted = connection.accept() => match accepted {
                    Some(Ok((request, respond))) => {
                        spawn_local(stream::serve(request, respond, number, Arc::clone(&self.shared)));
                    }
                    Some(Err(error)) => return Err(error),
                    None => return Ok(()),
                },
                wish = wishes.recv() => match wish {
                    Some(Wish::GoAway) => connection.graceful_shutdown(),
                    Some(Wish::Cut) | None => return Ok(()),
                },
            }
        }
    }
}

/// Whether a connection begins as HTTP/2 does. One that says nothing counts as such.
async fn speaks_http2(stream: &TcpStream) -> bool {
    let mut first = [0; 3];
    match stream.peek(&mut first).await {
        Ok(count) if count > 0 => b"PRI".starts_with(&first[..count]),
        _ => true,
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Accepted {
    Tcp(TcpStream),
    Unix(tokio::net::UnixStream),
}

impl Listener {
    fn bind((place, port): &(Place, u16)) -> io::Result<Self> {
        match place {
            Place::Tcp => {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
                socket.set_reuse_port(true)?;
                socket.set_nonblocking(true)?;
                socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], *port)).into())?;
                socket.listen(BACKLOG)?;
                TcpListener::from_std(socket.into()).map(Self::Tcp)
            }
            Place::Unix(path) => {
                // What an earlier server left.
                let _ = std::fs::remove_file(path);
                UnixListener::bind(path).map(Self::Unix)
            }
        }
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

/// What HTTP/2 runs on.
pub trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// A TLS session as h2 wants it.
pub struct Secure(pub Transport);

impl AsyncRead for Secure {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_buf(cx, into)
    }
}

impl AsyncWrite for Secure {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write_vectored(cx, &[io::IoSlice::new(from)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_shutdown(cx)
    }
}
