//! A scripted origin: a server that plays a list of replies, or a list of TCP actions, and records the requests it saw.

pub(crate) mod h2;
mod script;
mod session;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::SockRef;

pub use script::{Action, After, Http2Settings, Reply, Script};

use crate::gate::Gates;
use crate::message::{Body, Head};
use crate::port::ReservedPort;

/// A request as it arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The number of the connection, from 1, in order of acceptance.
    pub connection: usize,
    /// When the head arrived, counted from the start of the origin.
    pub arrived: Duration,
    /// The head.
    pub head: Head,
    /// The body; [`Body::end`] tells whether it arrived whole.
    pub body: Body,
}

/// A server on a loopback port, ended when dropped.
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<TcpListener>,
    acceptor: Option<JoinHandle<()>>,
    _refusing: Option<ReservedPort>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    gates: Gates,
    started: Instant,
    sent: AtomicU64,
}

#[derive(Default)]
struct State {
    script: Script,
    used: HashMap<usize, u32>,
    seen: Vec<Seen>,
    /// Requests whose bodies are still being read.
    reading: usize,
    connections: usize,
    streams: HashMap<usize, TcpStream>,
    stopped: bool,
}

impl Shared {
    fn new(script: Script, gates: Gates) -> Arc<Self> {
        let state = Mutex::new(State { script, ..State::default() });
        Arc::new(Self { state, changed: Condvar::new(), gates, started: Instant::now(), sent: AtomicU64::new(0) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Origin {
    /// Listens on a free port of 127.0.0.1 and plays `script`. The gates are those of the client script.
    pub fn start(script: Script, gates: Gates) -> io::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), script, gates)
    }

    /// Listens on `address`, whose port may be 0.
    pub fn start_at(address: SocketAddr, script: Script, gates: Gates) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Shared::new(script, gates);
        let (accepting, accepted) = (Arc::clone(&shared), listener.try_clone()?);
        let acceptor = Some(thread::spawn(move || accept(&accepted, &accepting)));
        Ok(Self { address, shared, listener: Some(listener), acceptor, _refusing: None })
    }

    /// An origin that nobody listens for: connections are refused.
    pub fn refusing() -> io::Result<Self> {
        let port = ReservedPort::new()?;
        let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
        let shared = Shared::new(Script::default(), Gates::default());
        Ok(Self { address, shared, listener: None, acceptor: None, _refusing: Some(port) })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the script and forgets what was seen. Connections stay open.
    pub fn play(&self, script: Script) {
        let mut state = self.shared.state();
        state.script = script;
        state.used.clear();
        state.seen.clear();
    }

    /// The requests seen since the script was set.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }

    /// Waits until `count` requests have been seen. `false` when that did not happen in time.
    pub fn await_seen(&self, count: usize, patience: Duration) -> bool {
        let state = self.shared.state();
        let waited = self.shared.changed.wait_timeout_while(state, patience, |state| state.seen.len() < count);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Waits until no body of a request is being read. `false` when that did not happen in time.
    pub fn await_quiet(&self, patience: Duration) -> bool {
        let state = self.shared.state();
        let waited = self.shared.changed.wait_timeout_while(state, patience, |state| state.reading > 0);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Waits until all but `count` accepted connections have ended. `false` when that did not happen in time.
    pub fn await_open(&self, count: usize, patience: Duration) -> bool {
        let state = self.shared.state();
        let waited = self.shared.changed.wait_timeout_while(state, patience, |state| state.streams.len() > count);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// How many connections were accepted since the start.
    pub fn connections(&self) -> usize {
        self.shared.state().connections
    }

    /// How many bytes of bodies, or of TCP actions, its sockets have taken since the start.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Acquire)
    }

    /// Closes every connection.
    pub fn close_connections(&self) {
        for stream in self.shared.state().streams.values() {
            // A connection that has ended already needs no closing.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.state().stopped = true;
        self.close_connections();
        if let Some(listener) = &self.listener {
            // Wakes the acceptor, from whichever network namespace this is called.
            let _ = SockRef::from(listener).shutdown(std::net::Shutdown::Both);
        }
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let mut state = shared.state();
        if state.stopped {
            return;
        }
        let Ok(stream) = stream else { continue };
        state.connections += 1;
        let number = state.connections;
        if let Ok(handle) = stream.try_clone() {
            state.streams.insert(number, handle);
        }
        drop(state);
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            session::serve(stream, number, &shared);
            shared.state().streams.remove(&number);
            shared.changed.notify_all();
        });
    }
}

#[cfg(test)]
mod tests;
