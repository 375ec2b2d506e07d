//! Every connection of the load and of the origins, and what happens on each when its socket is ready.

mod flood;
mod multiplexed;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Instant;

use memchr::memmem;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use nuncio_tls::ClientContext;

use super::http2::{Message, Session};
use super::message::BODY;
use super::stream::Stream;
use crate::bench::histogram::Histogram;

/// Bytes read or written at once on bulk connections, and the space for one read everywhere.
const CHUNK: usize = 256 * 1024;
/// Chunks moved on one bulk connection before another one has its turn.
const CHUNKS_PER_TURN: usize = 8;
/// A head that is longer is not one of ours.
const LONGEST_PARTIAL: usize = 64 * 1024;
const HTTP: Token = Token(0);
const BULK: Token = Token(1);
const HTTP2: Token = Token(2);
const FIRST: usize = 3;

/// What was done since the last [`super::Load::clear`].
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests answered with 200 and the whole body.
    pub completed: u64,
    /// TLS handshakes, and how many of them resumed a session.
    pub handshakes: u64,
    pub resumed: u64,
    /// Handshakes that were begun only, and answered.
    pub hellos: u64,
    /// Bytes that came over bulk connections.
    pub bytes: u64,
    /// Requests that were not answered so, and connections that could not be made.
    pub failed: u64,
    /// Why the first of them failed.
    pub first_failure: Option<String>,
}

/// What a socket is used for.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// Sends requests to the proxy.
    Client(Phase),
    /// Reads what the bulk origin sends, through the proxy.
    Sink { connected: bool },
    /// Answers requests.
    Origin,
    /// Sends without end.
    Source,
    /// Begins a handshake with the proxy, and goes away when it is answered.
    Hello { sent: bool },
}

/// What a client is doing.
#[derive(Clone, Copy, Debug)]
pub enum Phase {
    Connecting,
    Idle,
    /// Waits for the reply of a request that was due at this time.
    Waiting(Instant),
}

struct Connection {
    stream: Stream,
    role: Role,
    /// Where it speaks HTTP/2.
    http2: Option<Box<Session>>,
    /// Bytes of an unfinished message.
    partial: Vec<u8>,
}

/// What becomes of a connection after its turn.
enum After {
    Keep,
    /// More can be done without waiting for the socket.
    Again,
    /// The peer has closed it, with nothing owed.
    Ended,
    /// It has done what it was opened for, and another one takes its place.
    Done,
    Failed(String),
}

/// Readiness of a socket.
#[derive(Clone, Copy)]
struct Ready {
    writable: bool,
    closed: bool,
}

/// Where the origins listen.
#[derive(Clone, Copy, Debug)]
pub struct Origins {
    /// HTTP/1.1 in the clear.
    pub http: SocketAddr,
    /// Sends without end.
    pub bulk: SocketAddr,
    /// HTTP/2 in the clear, by prior knowledge.
    pub http2: SocketAddr,
}

/// All connections.
pub struct World {
    registry: Registry,
    http: TcpListener,
    bulk: TcpListener,
    http2: TcpListener,
    connections: Vec<Option<Connection>>,
    vacant: Vec<usize>,
    scratch: Vec<u8>,
    head_end: memmem::Finder<'static>,
    /// Where clients connect to.
    pub target: SocketAddr,
    pub request: Vec<u8>,
    pub reply: Vec<u8>,
    /// The same for HTTP/2.
    pub http2_request: Message,
    pub http2_reply: Message,
    /// Requests at the same time on each connection that is made from now on, over HTTP/2; 0 is HTTP/1.
    pub streams: usize,
    /// TLS for the connections that are made from now on.
    pub tls: Option<ClientContext>,
    /// Whether a connection ends after its first reply.
    pub once: bool,
    /// Whether a client sends its next request as soon as it has a reply.
    pub repeat: bool,
    /// Clients without a request, those that have waited longest first. A number may be out of date.
    idle: VecDeque<usize>,
    again: Vec<usize>,
    /// Connections with HTTP/2 that have something to write.
    unwritten: Vec<usize>,
    /// Connections to the proxy on their way.
    pub connecting: usize,
    /// Connections to the proxy that are established.
    pub connected: usize,
    /// Requests without a reply yet.
    pub waiting: usize,
    /// What a connection says that only begins a handshake, and how many of them there are.
    pub hello: Vec<u8>,
    pub hellos: usize,
    pub tally: Tally,
    /// Latencies, when wanted.
    pub latencies: Option<Histogram>,
}

impl World {
    /// A world of the three origins alone.
    pub fn new(registry: Registry, listeners: [TcpListener; 3]) -> io::Result<Self> {
        let [mut http, mut bulk, mut http2] = listeners;
        registry.register(&mut http, HTTP, Interest::READABLE)?;
        registry.register(&mut bulk, BULK, Interest::READABLE)?;
        registry.register(&mut http2, HTTP2, Interest::READABLE)?;
        let target = http.local_addr()?;
        Ok(Self {
            registry,
            http,
            bulk,
            http2,
            connections: Vec::new(),
            vacant: Vec::new(),
            scratch: vec![0; CHUNK],
            head_end: memmem::Finder::new(b"\r\n\r\n"),
            target,
            request: Vec::new(),
            reply: Vec::new(),
            http2_request: Message::default(),
            http2_reply: Message::default(),
            streams: 0,
            tls: None,
            once: false,
            repeat: false,
            idle: VecDeque::new(),
            again: Vec::new(),
            unwritten: Vec::new(),
            connecting: 0,
            connected: 0,
            waiting: 0,
            hello: Vec::new(),
            hellos: 0,
            tally: Tally::default(),
            latencies: None,
        })
    }

    /// The addresses of the origins.
    pub fn origins(&self) -> io::Result<Origins> {
        let [http, bulk, http2] = [&self.http, &self.bulk, &self.http2].map(TcpListener::local_addr);
        Ok(Origins { http: http?, bulk: bulk?, http2: http2? })
    }

    /// Whether something can be done without waiting for a socket.
    pub fn is_busy(&self) -> bool {
        !self.again.is_empty() || !self.unwritten.is_empty()
    }

    /// Requests that could be sent now.
    pub fn idle(&self) -> usize {
        self.connected * self.streams.max(1) - self.waiting
    }

    /// Ends all connections, both ends of them.
    pub fn close_all(&mut self) {
        self.connections.clear();
        self.vacant.clear();
        self.forget_clients();
    }

    /// Ends the connections to the proxy; those of the origins end when the proxy ends them.
    pub fn close_clients(&mut self) {
        for (index, place) in self.connections.iter_mut().enumerate() {
            if place
                .as_ref()
                .is_some_and(|it| matches!(it.role, Role::Client(_) | Role::Sink { .. } | Role::Hello { .. }))
            {
                *place = None;
                self.vacant.push(index);
            }
        }
        self.forget_clients();
    }

    fn forget_clients(&mut self) {
        self.idle.clear();
        self.again.clear();
        self.unwritten.clear();
        (self.connecting, self.connected, self.waiting, self.hellos) = (0, 0, 0, 0);
    }

    /// Begins a connection to the proxy.
    pub fn connect(&mut self, role: Role) {
        let stream = match TcpStream::connect(self.target) {
            Ok(stream) => stream,
            Err(error) => return self.fail(format!("connect: {error}")),
        };
        self.connecting += 1;
        self.add(stream, role, Interest::READABLE | Interest::WRITABLE);
    }

    /// Sends a request that was due at `due` on the client that has been idle longest. `false` when there is none.
    pub fn send(&mut self, due: Instant) -> bool {
        while let Some(index) = self.idle.pop_front() {
            let place = self.connections.get_mut(index).and_then(Option::as_mut);
            let Some(connection) = place.filter(|it| matches!(it.role, Role::Client(Phase::Idle))) else { continue };
            if let Some(http2) = &mut connection.http2 {
                if http2.out.is_empty() {
                    self.unwritten.push(index);
                }
                http2.request(&self.http2_request, due);
                self.waiting += 1;
                return true;
            }
            let written = connection.stream.write(&self.request);
            connection.role = Role::Client(Phase::Waiting(due));
            self.waiting += 1;
            if !matches!(written, Ok(count) if count == self.request.len()) {
                self.end(index, After::Failed(format!("write: {written:?}")));
            }
            return true;
        }
        false
    }

    /// Handles what `poll` reported.
    pub fn handle(&mut self, event: &Event) {
        match event.token() {
            HTTP | BULK | HTTP2 => self.accept(event.token()),
            Token(number) => {
                let closed = event.is_read_closed() || event.is_error();
                self.serve(number - FIRST, Ready { writable: event.is_writable(), closed });
            }
        }
    }

    /// Goes on with connections that had more to do than one turn allows.
    pub fn go_on(&mut self) {
        for index in std::mem::take(&mut self.again) {
            self.serve(index, Ready { writable: true, closed: false });
        }
        self.write_all();
    }

    fn accept(&mut self, listener: Token) {
        loop {
            let accepted = match listener {
                BULK => self.bulk.accept(),
                HTTP2 => self.http2.accept(),
                _ => self.http.accept(),
            };
            match accepted {
                Ok((stream, _)) if listener == BULK => {
                    self.add(stream, Role::Source, Interest::READABLE | Interest::WRITABLE);
                }
                Ok((stream, _)) => {
                    // Without it replies wait for acknowledgements; nothing is lost but time.
                    let _ = stream.set_nodelay(true);
                    let index = self.add(stream, Role::Origin, Interest::READABLE);
                    if listener == HTTP2
                        && let Some(connection) = &mut self.connections[index]
                    {
                        connection.http2 = Some(Box::new(Session::new(false)));
                        self.unwritten.push(index);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => return self.fail(format!("accept: {error}")),
            }
        }
    }

    fn add(&mut self, mut stream: TcpStream, role: Role, interest: Interest) -> usize {
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        if let Err(error) = self.registry.register(&mut stream, Token(index + FIRST), interest) {
            self.fail(format!("epoll: {error}"));
        }
        let stream = Stream::Plain(stream);
        self.connections[index] = Some(Connection { stream, role, http2: None, partial: Vec::new() });
        index
    }

    fn serve(&mut self, index: usize, ready: Ready) {
        let Some(mut connection) = self.connections.get_mut(index).and_then(Option::take) else { return };
        connection.stream.wake();
        let after = match connection.role {
            Role::Client(Phase::Connecting) | Role::Sink { connected: false } => {
                self.connected(index, &mut connection, ready)
            }
            Role::Client(_) | Role::Origin if connection.http2.is_some() => {
                self.exchange_http2(index, &mut connection, ready)
            }
            Role::Client(phase) => self.receive_reply(index, &mut connection, phase, ready),
            Role::Origin => self.answer(&mut connection, ready),
            Role::Sink { .. } => self.drain(&mut connection),
            Role::Source => self.pour(&mut connection, ready),
            Role::Hello { .. } => self.greet_only(&mut connection, ready),
        };
        self.connections[index] = Some(connection);
        match after {
            After::Keep => {}
            After::Again => self.again.push(index),
            after => self.end(index, after),
        }
        if self.repeat && !self.idle.is_empty() {
            self.send_all_idle();
        }
    }

    /// Sends a request on every client that has none.
    pub fn send_all_idle(&mut self) {
        let now = Instant::now();
        while self.send(now) {}
        self.write_all();
    }

    /// Removes a connection. A client is replaced, so that as many go on as were opened.
    fn end(&mut self, index: usize, after: After) {
        let Some(connection) = self.connections[index].take() else { return };
        self.vacant.push(index);
        match connection.role {
            Role::Client(Phase::Connecting) | Role::Sink { connected: false } => self.connecting -= 1,
            Role::Client(phase) => {
                self.connected -= 1;
                let streams = connection.http2.as_ref().map_or(0, |http2| http2.waiting());
                self.waiting -= streams + usize::from(matches!(phase, Phase::Waiting(_)));
                self.connect(Role::Client(Phase::Connecting));
            }
            Role::Sink { .. } => self.connected -= 1,
            Role::Hello { .. } => self.hellos -= 1,
            // The proxy ends connections to its origin as it likes.
            Role::Origin | Role::Source => return,
        }
        match after {
            After::Failed(reason) => self.fail(reason),
            After::Done => {}
            _ => self.fail("the proxy ended a connection".into()),
        }
    }

    fn fail(&mut self, reason: String) {
        self.tally.failed += 1;
        self.tally.first_failure.get_or_insert(reason);
    }

    fn connected(&mut self, index: usize, connection: &mut Connection, ready: Ready) -> After {
        if let Some(socket) = connection.stream.plain() {
            match socket.take_error() {
                Ok(None) => {}
                Ok(Some(error)) | Err(error) => return After::Failed(format!("connect: {error}")),
            }
            if !ready.writable || socket.peer_addr().is_err() {
                return After::Keep;
            }
            // Without it requests wait for acknowledgements; nothing is lost but time.
            let _ = socket.set_nodelay(true);
            if let Some(context) = &self.tls {
                connection.stream.secure(context);
            }
        }
        match connection.stream.greet() {
            Err(reason) => return After::Failed(reason),
            Ok(None) if ready.closed => return After::Failed("closed during the handshake".into()),
            Ok(None) => return After::Keep,
            Ok(Some(greeted)) => {
                self.tally.handshakes += u64::from(connection.stream.plain().is_none());
                self.tally.resumed += u64::from(greeted.resumed);
            }
        }
        self.connecting -= 1;
        self.connected += 1;
        match &mut connection.role {
            Role::Sink { connected } => {
                *connected = true;
                After::Again
            }
            role => {
                *role = Role::Client(Phase::Idle);
                (0..self.streams.max(1)).for_each(|_| self.idle.push_back(index));
                if self.streams > 0 {
                    connection.http2 = Some(Box::new(Session::new(true)));
                    self.unwritten.push(index);
                }
                After::Keep
            }
        }
    }

    fn receive_reply(&mut self, index: usize, connection: &mut Connection, phase: Phase, ready: Ready) -> After {
        loop {
            let count = match connection.stream.read(&mut self.scratch) {
                Ok(0) if matches!(phase, Phase::Idle) => return After::Ended,
                Ok(0) => return After::Failed("the proxy closed before its reply".into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return After::Keep,
                Err(error) => return After::Failed(format!("read: {error}")),
            };
            let Phase::Waiting(due) = phase else { return After::Failed("a reply nobody asked for".into()) };
            let data = &self.scratch[..count];
            let whole = if connection.partial.is_empty() {
                is_whole(&self.head_end, data)
            } else {
                connection.partial.extend_from_slice(data);
                is_whole(&self.head_end, &connection.partial)
            };
            match whole {
                Ok(true) => return self.replied(index, connection, due, ready),
                Ok(false) if ready.closed => return After::Failed("the proxy closed within its reply".into()),
                Ok(false) => {
                    if connection.partial.is_empty() {
                        connection.partial.extend_from_slice(data);
                    }
                    // A session may hold another record.
                    if connection.stream.plain().is_some() {
                        return After::Keep;
                    }
                }
                Err(reason) => return After::Failed(reason),
            }
        }
    }

    /// A client has its reply.
    fn replied(&mut self, index: usize, connection: &mut Connection, due: Instant, ready: Ready) -> After {
        connection.partial.clear();
        connection.role = Role::Client(Phase::Idle);
        self.waiting -= 1;
        self.tally.completed += 1;
        if let Some(latencies) = &mut self.latencies {
            latencies.record(due.elapsed().as_nanos() as u64);
        }
        if self.once && self.repeat {
            return After::Done;
        }
        self.idle.push_back(index);
        if ready.closed { After::Ended } else { After::Keep }
    }

    fn answer(&mut self, connection: &mut Connection, ready: Ready) -> After {
        let count = match connection.stream.read(&mut self.scratch) {
            Ok(0) => return After::Ended,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return After::Keep,
            Err(_) => return After::Ended,
        };
        let mut data = &self.scratch[..count];
        let joined;
        if !connection.partial.is_empty() {
            connection.partial.extend_from_slice(data);
            joined = std::mem::take(&mut connection.partial);
            data = &joined;
        }
        while let Some(end) = self.head_end.find(data) {
            data = &data[end + 4..];
            if !matches!(connection.stream.write(&self.reply), Ok(count) if count == self.reply.len()) {
                return After::Ended;
            }
        }
        connection.partial.extend_from_slice(data);
        if ready.closed || data.len() > LONGEST_PARTIAL { After::Ended } else { After::Keep }
    }

    fn drain(&mut self, connection: &mut Connection) -> After {
        for _ in 0..CHUNKS_PER_TURN {
            match connection.stream.read(&mut self.scratch) {
                Ok(0) => return After::Ended,
                Ok(count) => self.tally.bytes += count as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return After::Keep,
                Err(error) => return After::Failed(format!("read: {error}")),
            }
        }
        After::Again
    }

    fn pour(&mut self, connection: &mut Connection, ready: Ready) -> After {
        if ready.closed {
            return After::Ended;
        }
        for _ in 0..CHUNKS_PER_TURN {
            match connection.stream.write(&self.scratch) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return After::Keep,
                Err(_) => return After::Ended,
            }
        }
        After::Again
    }
}

/// Whether `data` is the one reply that is expected; an error when it can't become that.
fn is_whole(head_end: &memmem::Finder<'_>, data: &[u8]) -> Result<bool, String> {
    const STATUS: &[u8] = b"HTTP/1.1 200 ";
    if !data.starts_with(&STATUS[..STATUS.len().min(data.len())]) || data.len() > LONGEST_PARTIAL {
        let line = data.split(|byte| *byte == b'\r').next().unwrap_or_default();
        return Err(format!("reply: {}", String::from_utf8_lossy(&line[..line.len().min(80)])));
    }
    match head_end.find(data).map(|end| end + 4 + BODY) {
        Some(length) if data.len() > length => Err("the reply is too long".into()),
        Some(length) => Ok(data.len() == length),
        None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use memchr::memmem::Finder;

    use super::is_whole;
    use crate::bench::load::message::{Request, Shape};

    #[test]
    fn replies_are_whole_or_not() {
        let finder = Finder::new(b"\r\n\r\n");
        let reply = Request::plain(Shape::One).reply();
        let check = |data: &[u8], expected: Option<bool>| assert_eq!(is_whole(&finder, data).ok(), expected);
        check(&reply, Some(true));
        (1..reply.len()).for_each(|length| check(&reply[..length], Some(false)));
        check(&[reply.as_slice(), b"x"].concat(), None);
        check(b"HTTP/1.1 503 Service Unavailable\r\n", None);
        check(b"nonsense", None);
    }
}
