//! A scripted management server: it speaks every discovery service over gRPC (state of the world and delta, aggregated and
//! separate) and over REST, records what clients send, and answers as the test says, or by itself from a [`Snapshot`].
//!
//! A test reads top to bottom: [`XdsServer::expect`] waits for the next request and checks its type, [`XdsServer::respond`]
//! answers on its stream. Nothing here decides what a client has to send.

mod connection;
mod grpc;
mod json;
mod message;
mod rest;
mod snapshot;
mod stream;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nuncio_tls::spec::{CertificateSpec, ServerSpec};
use socket2::SockRef;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

pub use json::{any, any_of, json_of};
pub use message::{Event, Message, Request, Resource, Response, StreamKind, short_type, type_url};
pub use snapshot::{Answer, Snapshot};

use crate::PATIENCE;
use crate::port::ReservedPort;
use connection::Control;
use stream::Command;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A port of 127.0.0.1.
    Tcp,
    /// A unix socket.
    Unix(PathBuf),
}

/// A management server on a thread of its own, ended when dropped.
pub struct XdsServer {
    shared: Arc<Shared>,
    control: UnboundedSender<Control>,
    thread: Option<JoinHandle<()>>,
    port: Option<ReservedPort>,
    place: Place,
}

/// What the thread of the server and the test have in common.
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    events: Vec<Event>,
    /// How many of `events` the test has taken.
    taken: usize,
    streams: HashMap<usize, Open>,
    opened: usize,
    connections: usize,
    snapshot: Option<Snapshot>,
}

/// A stream that has not ended.
struct Open {
    kind: StreamKind,
    commands: UnboundedSender<Command>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: Event) {
        let mut state = self.state();
        let answers = match (&mut state.snapshot, &event) {
            (Some(snapshot), Event::Request(request)) => snapshot.request(request),
            (Some(snapshot), Event::Ended { stream, .. }) => {
                snapshot.ended(*stream);
                Vec::new()
            }
            _ => Vec::new(),
        };
        state.send(answers);
        state.events.push(event);
        drop(state);
        self.changed.notify_all();
    }

    /// Enters a new stream and returns its number, from 1 in order of opening.
    fn open(&self, connection: usize, path: &str, fields: crate::message::Fields, open: Open) -> usize {
        let mut state = self.state();
        state.opened += 1;
        let stream = state.opened;
        state.streams.insert(stream, open);
        state.events.push(Event::Opened { stream, connection, path: path.to_owned(), fields });
        drop(state);
        self.changed.notify_all();
        stream
    }

    fn end(&self, stream: usize, reset: bool) {
        if self.state().streams.remove(&stream).is_some() {
            self.push(Event::Ended { stream, reset });
        }
    }
}

impl State {
    fn send(&self, answers: Vec<(usize, Response)>) {
        for (stream, response) in answers {
            if let Some(open) = self.streams.get(&stream) {
                // A stream that ends meanwhile shows as an event.
                let _ = open.commands.send(Command::Send(response.encode(open.kind)));
            }
        }
    }
}

impl XdsServer {
    /// Listens on a free port of 127.0.0.1, in cleartext: HTTP/2 for gRPC, HTTP/1.1 for REST.
    pub fn start() -> io::Result<Self> {
        Self::start_at(Place::Tcp, None)
    }

    /// Listens at `place`, and speaks TLS where `tls` says how (ALPN included). A unix socket that is there is replaced.
    pub fn start_at(place: Place, tls: Option<ServerSpec>) -> io::Result<Self> {
        let port = match place {
            Place::Tcp => Some(ReservedPort::new()?),
            Place::Unix(_) => None,
        };
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let (control, controls) = unbounded_channel();
        let (ready, started) = std_mpsc::channel();
        let listening = (place.clone(), port.as_ref().map_or(0, ReservedPort::number));
        let run = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            // The error of a runtime that can't be made is the end of `ready`, which the starter sees.
            let _ = connection::run(run, controls, listening, tls, &ready);
        });
        let server = Self { shared, control, thread: Some(thread), port, place };
        started.recv().map_err(io::Error::other)??;
        Ok(server)
    }

    /// Listens on a free port of 127.0.0.1 over TLS with this certificate chain and key (PEM).
    pub fn start_tls(chain: String, key: String) -> io::Result<Self> {
        let certificates = vec![CertificateSpec::pem(chain, key)];
        let spec = ServerSpec { certificates, alpn_protocols: vec![b"h2".to_vec()], ..ServerSpec::default() };
        Self::start_at(Place::Tcp, Some(spec))
    }

    /// A server that answers by itself from `snapshot`. What clients send is recorded all the same.
    pub fn serve_snapshot(snapshot: Snapshot) -> io::Result<Self> {
        let server = Self::start()?;
        server.set_snapshot(snapshot);
        Ok(server)
    }

    /// The TCP port; 0 for a unix socket.
    pub fn port(&self) -> u16 {
        self.port.as_ref().map_or(0, ReservedPort::number)
    }

    /// The TCP address; its port is 0 for a unix socket.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port()))
    }

    /// Where it listens.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Everything that has happened since the start.
    pub fn events(&self) -> Vec<Event> {
        self.shared.state().events.clone()
    }

    /// The next event that was not taken yet, waiting for it up to `patience`.
    pub fn next_event(&self, patience: Duration) -> Option<Event> {
        let state = self.shared.state();
        let none = |state: &mut State| state.taken >= state.events.len();
        let (mut state, _) =
            self.shared.changed.wait_timeout_while(state, patience, none).unwrap_or_else(PoisonError::into_inner);
        let event = state.events.get(state.taken).cloned()?;
        state.taken += 1;
        Some(event)
    }

    /// The next request. Streams that open and end on the way are passed over. An error when none comes in time.
    pub fn next_request(&self) -> io::Result<Request> {
        loop {
            match self.next_event(PATIENCE) {
                Some(Event::Request(request)) => return Ok(request),
                Some(_) => {}
                None => return Err(io::Error::other(format!("no request came; {}", self.tail()))),
            }
        }
    }

    /// The next request, which must be for `wanted`: a type URL, or its short name (`cds`, `lds`, ...).
    pub fn expect(&self, wanted: &str) -> io::Result<Request> {
        let request = self.next_request()?;
        if request.type_url() == type_url(wanted) {
            return Ok(request);
        }
        Err(io::Error::other(format!("expected a request for {wanted}, got {request:?}")))
    }

    /// Waits for the end of a stream that is not taken yet; requests on the way are passed over.
    pub fn await_ended(&self, stream: usize) -> io::Result<()> {
        loop {
            match self.next_event(PATIENCE) {
                Some(Event::Ended { stream: ended, .. }) if ended == stream => return Ok(()),
                Some(_) => {}
                None => return Err(io::Error::other(format!("stream {stream} did not end; {}", self.tail()))),
            }
        }
    }

    fn tail(&self) -> String {
        let state = self.shared.state();
        let from = state.events.len().saturating_sub(4);
        format!("the last events: {:#?}", &state.events[from..])
    }

    /// Sends `response` on `stream`, in the form of the stream.
    pub fn respond(&self, stream: usize, response: &Response) -> io::Result<()> {
        let kind = self.shared.state().streams.get(&stream).map(|open| open.kind);
        self.command(stream, |_| Command::Send(response.encode(kind.unwrap_or(StreamKind::Sotw))))
    }

    /// Sends one message of these bytes.
    pub fn respond_bytes(&self, stream: usize, bytes: Vec<u8>) -> io::Result<()> {
        self.command(stream, |_| Command::Send(bytes))
    }

    /// Ends `stream` with a gRPC status (with an HTTP status for REST).
    pub fn close(&self, stream: usize, status: u16, message: &str) -> io::Result<()> {
        self.command(stream, |_| Command::Close(status, message.to_owned()))
    }

    /// Resets `stream` with an HTTP/2 error code (RFC 9113 section 7).
    pub fn reset(&self, stream: usize, code: u32) -> io::Result<()> {
        self.command(stream, |_| Command::Reset(code))
    }

    fn command(&self, stream: usize, make: impl FnOnce(StreamKind) -> Command) -> io::Result<()> {
        let state = self.shared.state();
        let open =
            state.streams.get(&stream).ok_or_else(|| io::Error::other(format!("stream {stream} is not open")))?;
        open.commands.send(make(open.kind)).map_err(io::Error::other)
    }

    /// The streams that are open, by number, with what they carry.
    pub fn open_streams(&self) -> Vec<(usize, StreamKind)> {
        let mut open: Vec<_> = self.shared.state().streams.iter().map(|(id, open)| (*id, open.kind)).collect();
        open.sort_unstable_by_key(|(id, _)| *id);
        open
    }

    /// How many connections were accepted since the start.
    pub fn connections(&self) -> usize {
        self.shared.state().connections
    }

    /// Tells every connection to go away (GOAWAY); streams go on until they are closed.
    pub fn go_away(&self) {
        self.control(Control::GoAway);
    }

    /// Closes every connection at once, without a word.
    pub fn cut(&self) {
        self.control(Control::Cut);
    }

    /// Listens no more: connections are refused. Those that are open stay.
    pub fn stop_listening(&self) {
        self.control(Control::Stop);
    }

    /// Listens again, at the same place.
    pub fn listen_again(&self) -> io::Result<()> {
        let (done, answered) = std_mpsc::channel();
        self.control.send(Control::Listen(done)).map_err(io::Error::other)?;
        answered.recv().map_err(io::Error::other)?
    }

    fn control(&self, make: impl FnOnce(std_mpsc::Sender<()>) -> Control) {
        let (done, answered) = std_mpsc::channel();
        if self.control.send(make(done)).is_ok() {
            // A server that has ended has done it.
            let _ = answered.recv();
        }
    }

    /// Answers from `snapshot` from now on, also those who asked before.
    pub fn set_snapshot(&self, mut snapshot: Snapshot) {
        let mut state = self.shared.state();
        if let Some(before) = state.snapshot.take() {
            snapshot.take_subscriptions(before);
        }
        let answers = snapshot.push_changes();
        state.snapshot = Some(snapshot);
        state.send(answers);
    }

    /// Changes the snapshot that is served, and sends what changed to those who subscribed it.
    pub fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut state = self.shared.state();
        let mut snapshot = state.snapshot.take().unwrap_or_default();
        change(&mut snapshot);
        let answers = snapshot.push_changes();
        state.snapshot = Some(snapshot);
        state.send(answers);
    }

    /// What clients said to the responses of the snapshot, in order.
    pub fn answers(&self) -> Vec<Answer> {
        self.shared.state().snapshot.as_ref().map(|snapshot| snapshot.answers().to_vec()).unwrap_or_default()
    }

    /// Waits until a client has accepted `version` of `wanted` (a type URL or its short name), or a later answer. An error
    /// when it refuses it, or says nothing in time.
    pub fn await_ack(&self, wanted: &str, version: &str) -> io::Result<Answer> {
        let answer = self.await_answer(wanted, version)?;
        match &answer.error {
            None => Ok(answer),
            Some(error) => Err(io::Error::other(format!("{wanted} {version} was refused: {error}"))),
        }
    }

    /// Waits until a client has refused `version` of `wanted`, and says with what words.
    pub fn await_nack(&self, wanted: &str, version: &str) -> io::Result<String> {
        let answer = self.await_answer(wanted, version)?;
        answer.error.ok_or_else(|| io::Error::other(format!("{wanted} {version} was accepted")))
    }

    fn await_answer(&self, wanted: &str, version: &str) -> io::Result<Answer> {
        let url = type_url(wanted);
        let find = |state: &State| {
            let answers = state.snapshot.as_ref().map_or(&[][..], Snapshot::answers);
            answers.iter().rev().find(|answer| answer.type_url == url && answer.version == version).cloned()
        };
        let state = self.shared.state();
        let missing = |state: &mut State| find(state).is_none();
        let waited = self.shared.changed.wait_timeout_while(state, PATIENCE, missing);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let found = find(&state);
        drop(state);
        found.ok_or_else(|| io::Error::other(format!("nobody answered {wanted} {version}; {}", self.tail())))
    }
}

impl Drop for XdsServer {
    fn drop(&mut self) {
        // A thread that has ended needs no telling.
        let _ = self.control.send(Control::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Place::Unix(path) = &self.place {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Lets go of a REST connection that a thread reads.
fn shut(stream: &std::net::TcpStream) {
    // One that is closed already is as good.
    let _ = SockRef::from(stream).shutdown(std::net::Shutdown::Both);
}

#[cfg(test)]
mod tests;
