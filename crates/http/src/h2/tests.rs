//! Both ends of the codec against a peer that is written here, frame by frame; and against each other.

mod conversation;
mod ends;
mod flow;
mod heads;
mod hostile;
mod output;
mod receive;
mod streams;

use super::frame::{self, FrameHead, HEAD, flag, kind};
use super::hpack::{Decoder, Encoder};
use super::{
    ClientConnection, ClientStream, ConnectionError, Http2Options, Incoming, Opener, Refused, ServerConnection,
    ServerStream, connect,
};
use crate::connection::{BodyPart, RecvError};
use crate::h1::RequestHead;
use bytes::Bytes;
use nuncio_headers::{HeaderMap, Known};
use nuncio_io::transport::Transport;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const END_STREAM: u8 = flag::END_STREAM;
const END_HEADERS: u8 = flag::END_HEADERS;
const PADDED: u8 = flag::PADDED;

/// Remembers that it was woken, and after whom.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        static WAKES: AtomicUsize = AtomicUsize::new(1);
        let wake = WAKES.fetch_add(1, Ordering::Relaxed);
        let _ = self.0.compare_exchange(0, wake, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Woken {
    fn take(&self) -> bool {
        self.0.swap(0, Ordering::Relaxed) != 0
    }
}

/// A transport as its other end sees it.
struct Pipe {
    /// What the codec reads, `most` bytes at a time.
    input: VecDeque<u8>,
    closed: bool,
    most: usize,
    /// What the codec wrote, and how much more of it is taken.
    output: Vec<u8>,
    room: usize,
    shut: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone)]
struct Socket(Rc<RefCell<Pipe>>);

impl Socket {
    fn new() -> Socket {
        Socket(Rc::new(RefCell::new(Pipe {
            input: VecDeque::new(),
            closed: false,
            most: usize::MAX,
            output: Vec::new(),
            room: usize::MAX,
            shut: false,
            reader: None,
            writer: None,
        })))
    }

    fn transport(&self) -> Transport {
        Transport::Other(Box::new(self.clone()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.0.borrow_mut();
        if pipe.input.is_empty() && !pipe.closed {
            pipe.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = pipe.input.len().min(pipe.most).min(into.remaining());
        let bytes: Vec<u8> = pipe.input.drain(..count).collect();
        into.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.borrow_mut();
        let count = from.len().min(pipe.room);
        if count == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        pipe.room -= count;
        pipe.output.extend_from_slice(&from[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().shut = true;
        Poll::Ready(Ok(()))
    }
}

/// One frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = FrameHead { length: payload.len(), kind, flags, stream }.bytes().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

fn word(kind: u8, stream: u32, word: u32) -> Vec<u8> {
    frame(kind, 0, stream, &word.to_be_bytes())
}

fn settings(list: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        list.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(kind::SETTINGS, 0, 0, &payload)
}

fn data(stream: u32, flags: u8, length: usize) -> Vec<u8> {
    frame(kind::DATA, flags, stream, &vec![b'd'; length])
}

/// The peer: what it says, and what it hears.
struct Peer {
    socket: Socket,
    encoder: Encoder,
    decoder: Decoder,
    /// Bytes of bodies that came, by stream.
    bodies: BTreeMap<u32, usize>,
    unread: Vec<u8>,
    woken: Arc<Woken>,
}

impl Peer {
    fn new() -> Peer {
        Peer {
            socket: Socket::new(),
            encoder: Encoder::new(),
            decoder: Decoder::new(4096),
            bodies: BTreeMap::new(),
            unread: Vec::new(),
            woken: Arc::default(),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        let mut pipe = self.socket.0.borrow_mut();
        pipe.input.extend(bytes);
        if let Some(waker) = pipe.reader.take() {
            waker.wake();
        }
    }

    fn close(&mut self) {
        let mut pipe = self.socket.0.borrow_mut();
        pipe.closed = true;
        if let Some(waker) = pipe.reader.take() {
            waker.wake();
        }
    }

    /// How many bytes the codec may write from now on.
    fn give_room(&mut self, room: usize) {
        let mut pipe = self.socket.0.borrow_mut();
        pipe.room = room;
        if let Some(waker) = pipe.writer.take() {
            waker.wake();
        }
    }

    fn block(&mut self, lines: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        self.encoder.begin(&mut block);
        for (name, value) in lines {
            self.encoder.field(Known::from_lower(name.as_bytes()), name.as_bytes(), value.as_bytes(), &mut block);
        }
        block
    }

    fn send_head(&mut self, stream: u32, flags: u8, lines: &[(&str, &str)]) {
        let block = self.block(lines);
        self.send(&frame(kind::HEADERS, flags | END_HEADERS, stream, &block));
    }

    /// What the codec sent since the last call, a line for each frame.
    fn heard(&mut self) -> Vec<String> {
        self.unread.append(&mut self.socket.0.borrow_mut().output);
        let mut lines = Vec::new();
        let bytes = std::mem::take(&mut self.unread);
        let mut rest = bytes.strip_prefix(frame::PREFACE).unwrap_or(&bytes);
        let mut block: Option<(String, Vec<u8>)> = None;
        while let Some(head) = FrameHead::parse(rest)
            && let Some(payload) = rest.get(HEAD..HEAD + head.length)
        {
            rest = &rest[HEAD + head.length..];
            let end = if head.has(flag::END_STREAM) { " end" } else { "" };
            let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
            assert!(block.is_none() || head.kind == kind::CONTINUATION, "{head:?} between parts of a section");
            lines.push(match head.kind {
                kind::DATA => {
                    *self.bodies.entry(head.stream).or_default() += head.length;
                    format!("DATA {} {}{end}", head.stream, head.length)
                }
                kind::HEADERS | kind::CONTINUATION => {
                    let (text, mut bytes) =
                        block.take().unwrap_or_else(|| (format!("HEADERS {}{end}", head.stream), Vec::new()));
                    bytes.extend_from_slice(payload);
                    if !head.has(flag::END_HEADERS) {
                        block = Some((text, bytes));
                        continue;
                    }
                    text + &self.fields(&bytes)
                }
                kind::RST_STREAM => format!("RST_STREAM {} {}", head.stream, number(0)),
                kind::SETTINGS if head.has(flag::ACK) => "SETTINGS ack".into(),
                kind::SETTINGS => "SETTINGS".into(),
                kind::PING => format!("PING{end}").replace("end", "ack"),
                kind::GOAWAY => format!("GOAWAY {} {}", number(0), number(4)),
                kind::WINDOW_UPDATE => format!("WINDOW_UPDATE {} {}", head.stream, number(0)),
                other => panic!("a frame of kind {other}"),
            });
        }
        self.unread = rest.to_vec();
        lines
    }

    fn fields(&mut self, block: &[u8]) -> String {
        let mut text = String::new();
        let show = |bytes: &[u8]| match bytes.len() {
            0..100 => String::from_utf8_lossy(bytes).into_owned(),
            length => format!("({length})"),
        };
        self.decoder
            .decode(block, |field| text += &format!(" {}={}", show(field.name), show(field.value)))
            .unwrap_or_else(|_| panic!("a block that can't be decoded"));
        text
    }
}

/// What the streams of both ends have in common.
trait Exchange {
    fn poll_body(&mut self, cx: &mut Context<'_>, trailers: &mut HeaderMap) -> Poll<Result<BodyPart, RecvError>>;
    fn take_body(&mut self) -> Bytes;
    fn send_data(&mut self, chunk: Bytes);
    fn send_end(&mut self, trailers: Option<&HeaderMap>);
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

macro_rules! exchange {
    ($stream:ty) => {
        impl Exchange for $stream {
            fn poll_body(&mut self, cx: &mut Context<'_>, to: &mut HeaderMap) -> Poll<Result<BodyPart, RecvError>> {
                <$stream>::poll_body(self, cx, to)
            }
            fn take_body(&mut self) -> Bytes {
                <$stream>::take_body(self)
            }
            fn send_data(&mut self, chunk: Bytes) {
                <$stream>::send_data(self, chunk);
            }
            fn send_end(&mut self, trailers: Option<&HeaderMap>) {
                <$stream>::send_end(self, trailers);
            }
            fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                <$stream>::poll_flush(self, cx)
            }
        }
    };
}
exchange!(ServerStream);
exchange!(ClientStream);

/// A task that polls a stream.
#[derive(Default)]
struct Task(Arc<Woken>);

impl Task {
    fn waker(&self) -> Waker {
        Arc::clone(&self.0).into()
    }

    fn woken(&self) -> bool {
        self.0.take()
    }

    fn flush(&self, stream: &mut impl Exchange) -> Poll<bool> {
        stream.poll_flush(&mut Context::from_waker(&self.waker())).map(|sent| sent.is_ok())
    }

    /// Takes what has come of a body: `pieces`, then `end`, `end trailer=…`, `waits`, or why it broke off.
    fn read(&self, stream: &mut impl Exchange) -> String {
        let mut trailers = HeaderMap::new();
        let waker = self.waker();
        let (mut bytes, mut cx) = (0, Context::from_waker(&waker));
        let end = loop {
            match stream.poll_body(&mut cx, &mut trailers) {
                Poll::Pending => break "waits".into(),
                Poll::Ready(Ok(BodyPart::Data { last, .. })) => {
                    bytes += stream.take_body().len();
                    if last {
                        break "end".into();
                    }
                }
                Poll::Ready(Ok(BodyPart::End { .. })) => break format!("end {}", dump(&trailers)),
                Poll::Ready(Err(RecvError::Reset(reason))) => break format!("{reason:?}"),
                Poll::Ready(Err(error)) => break format!("{error:?}"),
            }
        };
        format!("{bytes} {end}").trim_end().into()
    }
}

fn dump(headers: &HeaderMap) -> String {
    let lines = headers.iter().map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)));
    lines.collect::<Vec<_>>().join(" ")
}

fn map(lines: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        let known = Known::from_lower(name.as_bytes());
        map.append_received(known, name.as_bytes(), value.as_bytes()).unwrap();
    }
    map
}

const GET: &[(&str, &str)] = &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
const POST: &[(&str, &str)] = &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
const OK: &[(&str, &str)] = &[(":status", "200")];

/// The downstream end, with a client.
struct Server {
    connection: ServerConnection,
    peer: Peer,
}

impl Server {
    /// A connection whose settings were exchanged.
    fn new(options: &Http2Options, list: &[(u16, u32)]) -> Server {
        let mut server = Server::fresh(options);
        server.peer.send(frame::PREFACE);
        server.peer.send(&settings(list));
        server.peer.send(&frame(kind::SETTINGS, flag::ACK, 0, &[]));
        server.idle();
        server.peer.heard();
        server
    }

    fn fresh(options: &Http2Options) -> Server {
        let peer = Peer::new();
        Server { connection: ServerConnection::new(peer.socket.transport(), Bytes::new(), options), peer }
    }

    fn poll(&mut self) -> Poll<Option<Result<Incoming, ConnectionError>>> {
        let waker = Arc::clone(&self.peer.woken).into();
        self.connection.poll_accept(&mut Context::from_waker(&waker))
    }

    /// Runs as long as it is woken.
    fn idle(&mut self) {
        loop {
            self.peer.woken.take();
            assert!(self.poll().is_pending(), "something happened");
            if !self.peer.woken.take() {
                return;
            }
        }
    }

    fn accept(&mut self) -> (HeaderMap, Result<RequestHead, Refused>, ServerStream) {
        let Poll::Ready(Some(Ok(incoming))) = self.poll() else { panic!("no request") };
        let mut headers = HeaderMap::new();
        let (head, stream) = incoming.open(&mut headers);
        (headers, head, stream)
    }

    /// A request that is accepted.
    fn request(&mut self, id: u32, flags: u8, lines: &[(&str, &str)]) -> ServerStream {
        self.peer.send_head(id, flags, lines);
        let (_, head, stream) = self.accept();
        head.unwrap();
        self.idle();
        stream
    }

    /// What the client hears.
    fn heard(&mut self) -> Vec<String> {
        self.idle();
        self.peer.heard()
    }

    /// How the connection ends for what was sent, and what the client hears of it.
    fn fails(&mut self) -> (ConnectionError, Vec<String>) {
        loop {
            match self.poll() {
                Poll::Ready(Some(Err(error))) => return (error, self.peer.heard()),
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(None) => panic!("it ends in order"),
                Poll::Pending => panic!("it does not fail"),
            }
        }
    }

    fn windows(&self) -> (i64, u32, i64) {
        let pings = self.connection.pings();
        let core = pings.0.borrow();
        (core.receive_window, core.owed, core.send_window)
    }
}

/// The upstream end, with a server.
struct Client {
    connection: ClientConnection,
    opener: Opener,
    peer: Peer,
}

impl Client {
    fn new(options: &Http2Options, list: &[(u16, u32)]) -> Client {
        let mut client = Client::fresh(options);
        client.peer.send(&settings(list));
        client.peer.send(&frame(kind::SETTINGS, flag::ACK, 0, &[]));
        client.idle();
        client.peer.heard();
        client
    }

    fn fresh(options: &Http2Options) -> Client {
        let peer = Peer::new();
        let (opener, connection) = connect(peer.socket.transport(), options);
        Client { connection, opener, peer }
    }

    fn poll(&mut self) -> Poll<bool> {
        let waker = Arc::clone(&self.peer.woken).into();
        Pin::new(&mut self.connection).poll(&mut Context::from_waker(&waker))
    }

    fn idle(&mut self) {
        loop {
            self.peer.woken.take();
            assert!(self.poll().is_pending(), "the connection ended");
            if !self.peer.woken.take() {
                return;
            }
        }
    }

    fn heard(&mut self) -> Vec<String> {
        self.idle();
        self.peer.heard()
    }

    /// A request without a body, or the head of one with a body.
    fn request(&mut self, lines: &[(&str, &str)], ends: bool) -> ClientStream {
        let mut stream = self.opener.open();
        stream.send_head(&map(lines));
        if ends {
            stream.send_end(None);
        }
        assert!(Task::default().flush(&mut stream) == Poll::Ready(true));
        self.idle();
        stream
    }

    /// The next head of a response: its status and framing, and the map.
    fn head(&mut self, stream: &mut ClientStream) -> String {
        self.idle();
        head(stream)
    }

    fn windows(&self) -> (i64, u32, i64) {
        let pings = self.connection.pings();
        let core = pings.0.borrow();
        (core.receive_window, core.owed, core.send_window)
    }
}

fn head(stream: &mut ClientStream) -> String {
    let mut headers = HeaderMap::new();
    match stream.poll_head(&mut Context::from_waker(Waker::noop()), &mut headers) {
        Poll::Ready(Ok(head)) => format!("{} {:?} {}", head.status, head.framing, dump(&headers)),
        Poll::Ready(Err(RecvError::Reset(reason))) => format!("{reason:?}"),
        Poll::Ready(Err(error)) => format!("{error:?}"),
        Poll::Pending => "waits".into(),
    }
}
