//! A scripted origin: a server that plays a list of replies, or a list of TCP actions, and records the requests it saw.

mod script;
mod session;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use script::{Action, After, Reply, Script};

use crate::gate::Gates;
use crate::message::{Body, Head};
use crate::port::ReservedPort;

/// A request as it arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The number of the connection, from 1, in order of acceptance.
    pub connection: usize,
    /// The head.
    pub head: Head,
    /// The body; [`Body::end`] tells whether it arrived whole.
    pub body: Body,
}

/// A server on a loopback port, ended when dropped.
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    _refusing: Option<ReservedPort>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    gates: Gates,
}

#[derive(Default)]
struct State {
    script: Script,
    used: HashMap<usize, u32>,
    seen: Vec<Seen>,
    connections: usize,
    streams: HashMap<usize, TcpStream>,
    stopped: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Origin {
    /// Listens on a free port of 127.0.0.1 and plays `script`. The gates are those of the client script.
    pub fn start(script: Script, gates: Gates) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let state = Mutex::new(State { script, ..State::default() });
        let shared = Arc::new(Shared { state, changed: Condvar::new(), gates });
        let accepting = Arc::clone(&shared);
        let acceptor = Some(thread::spawn(move || accept(&listener, &accepting)));
        Ok(Self { address, shared, acceptor, _refusing: None })
    }

    /// An origin that nobody listens for: connections are refused.
    pub fn refusing() -> io::Result<Self> {
        let port = ReservedPort::new()?;
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), gates: Gates::default() });
        let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
        Ok(Self { address, shared, acceptor: None, _refusing: Some(port) })
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

    /// Waits until all but `count` accepted connections have ended. `false` when that did not happen in time.
    pub fn await_open(&self, count: usize, patience: Duration) -> bool {
        let state = self.shared.state();
        let waited = self.shared.changed.wait_timeout_while(state, patience, |state| state.streams.len() > count);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
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
        if let Some(acceptor) = self.acceptor.take() {
            // Wakes the acceptor, which then sees that it is to stop.
            let _ = TcpStream::connect(self.address);
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let mut state = shared.state();
        if state.stopped {
            return;
        }
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
