//! HTTP/2 (RFC 9113): connections and streams with the shape that the stream driver expects.
//!
//! Owns: frames, HPACK (RFC 7541), streams, flow control, the limits of what a peer may ask for, and the change of upgrades
//! into extended CONNECT (RFC 8441) and back. Does not own: tasks and timers, which are the caller's.
//!
//! *Invariant*: what a peer makes this side hold is bounded: by the windows that were offered, by the header limits, and by
//! the limits of frames that carry nothing. Nothing is held of a connection that is idle but its state and HPACK's tables.

mod client;
mod credit;
mod error;
mod frame;
mod headers;
mod hpack;
mod meter;
mod options;
mod outgoing;
mod output;
mod receive;
mod server;
mod settings;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

pub use client::{ClientConnection, ClientStream, Opener, connect};
pub use error::{ConnectionError, Violation};
pub use headers::Refused;
pub use meter::{Flood, Meter};
pub use options::{Http2Keepalive, Http2Options, ResetRate};
pub use server::{Incoming, ServerConnection, ServerStream};

use self::state::Shared;
use std::rc::Rc;

/// The first bytes of a client that speaks HTTP/2 without asking first (RFC 9113 §3.3).
pub const PREFACE: &[u8] = frame::PREFACE;

/// Pings of a connection, one at a time.
pub struct Pings(Shared);

impl Pings {
    fn new(core: &Shared) -> Pings {
        Pings(Rc::clone(core))
    }

    /// Sends a ping; false if one is on its way, or the connection is over.
    pub fn send(&self) -> bool {
        self.0.borrow_mut().send_ping()
    }

    /// Whether the answer has come; tells it once. The connection's task reads it, and so is awake when it comes.
    pub fn take_answer(&self) -> bool {
        self.0.borrow_mut().take_pong()
    }
}
