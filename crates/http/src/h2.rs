//! HTTP/2 (RFC 9113), through the `h2` crate: connections and streams with the shape that the stream driver expects.
//!
//! Owns: the limits around the crate ([`meter`](Meter)), the change of headers between its map and ours, the queue of what
//! a stream sends, and the change of upgrades into extended CONNECT (RFC 8441) and back. Does not own: HPACK, framing and
//! flow control, which are the crate's; tasks and timers, which are the caller's.
//!
//! *Invariant*: what a peer makes this side hold is bounded: by the windows that were offered, by the header limits, and by
//! the meter's limits of frames that carry nothing.

mod client;
mod headers;
#[cfg_attr(not(test), expect(dead_code, unused_imports, reason = "no connection uses it yet"))]
mod hpack;
mod meter;
mod options;
mod outgoing;
mod server;

pub use client::{ClientConnection, ClientStream, Opener, connect};
pub use headers::Refused;
pub use meter::{Flood, Meter};
pub use options::{Http2Keepalive, Http2Options, ResetRate};
pub use server::{AcceptError, Incoming, ServerConnection, ServerStream};

use crate::ResetReason;
use h2::Reason;
use std::task::{Context, Poll};

/// The first bytes of a client that speaks HTTP/2 without asking first (RFC 9113 §3.3).
pub const PREFACE: &[u8] = meter::PREFACE;

/// Pings of a connection, one at a time.
pub struct Pings(h2::PingPong);

impl Pings {
    /// Sends a ping; false if one is on its way, or the connection is over.
    pub fn send(&mut self) -> bool {
        self.0.send_ping(h2::Ping::opaque()).is_ok()
    }

    /// Whether the answer has come. The task is woken when it does.
    pub fn poll_answer(&mut self, cx: &mut Context<'_>) -> bool {
        matches!(self.0.poll_pong(cx), Poll::Ready(Ok(_)))
    }
}

/// What the end of a stream means. `ended`: its whole connection is over.
fn reset_reason(error: &h2::Error, ended: bool) -> ResetReason {
    let reason = error.reason();
    if error.is_io() {
        return ResetReason::ConnectionTermination;
    }
    if error.is_go_away() {
        return match error.is_remote() {
            true if ended => ResetReason::ConnectionTermination,
            // The peer said that it did not process the stream.
            true => ResetReason::RemoteRefusedStreamReset,
            false if error.is_library() => ResetReason::ProtocolError,
            false => ResetReason::LocalReset,
        };
    }
    match reason {
        Some(reason) if error.is_remote() => remote_reset(reason),
        _ if error.is_library() => ResetReason::ProtocolError,
        _ => ResetReason::ConnectionTermination,
    }
}

/// What RST_STREAM of a peer means.
fn remote_reset(reason: Reason) -> ResetReason {
    match reason {
        Reason::REFUSED_STREAM => ResetReason::RemoteRefusedStreamReset,
        Reason::NO_ERROR => ResetReason::RemoteResetNoError,
        Reason::CONNECT_ERROR => ResetReason::ConnectError,
        Reason::PROTOCOL_ERROR => ResetReason::ProtocolError,
        _ => ResetReason::RemoteReset,
    }
}
