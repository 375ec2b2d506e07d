//! What passed over a connection, and what its streams hold: shared by the connection, its streams and their owners.

use std::cell::Cell;
use std::rc::Rc;

/// Bytes of decoded heads that the open streams of a connection may hold, however little was received.
const FREE_HEADS: u64 = 1 << 20;
/// The same, once the connections of this worker hold [`MANY_HEADS`] together.
const FREE_HEADS_OF_MANY: u64 = 128 * 1024;
const MANY_HEADS: u64 = 64 << 20;

thread_local! {
    /// Bytes of decoded heads that all connections of this worker hold.
    static HEADS: Cell<u64> = const { Cell::new(0) };
}

/// Which limit a peer passed; each has a counter `http2.*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    /// `inbound_empty_frames_flood`.
    EmptyFrames,
    /// `inbound_priority_frames_flood`.
    Priority,
    /// `inbound_window_update_frames_flood`.
    WindowUpdate,
    /// `outbound_control_flood`.
    Control,
    /// `inbound_useless_frames_flood`: frames that are ignored (unknown kinds, answers to nothing, frames of closed streams).
    /// Envoy takes any number of them.
    Useless,
}

impl Flood {
    /// Envoy's response code details.
    pub fn details(self) -> &'static str {
        match self {
            Flood::EmptyFrames => "http2.inbound_empty_frames_flood",
            Flood::Priority => "http2.inbound_priority_frames_flood",
            Flood::WindowUpdate => "http2.inbound_window_update_frames_flood",
            Flood::Control => "http2.outbound_control_frames_flood",
            Flood::Useless => "http2.inbound_useless_frames_flood",
        }
    }
}

/// What passed over a connection.
#[derive(Debug, Default)]
pub struct Meter {
    received: Cell<u64>,
    sent: Cell<u64>,
    goaway_received: Cell<bool>,
    goaways_sent: Cell<u32>,
    resets_received: Cell<u32>,
    resets_sent: Cell<u32>,
    malformed: Cell<u32>,
    ended: Cell<bool>,
    /// Bytes of the heads of streams that are open, decoded.
    heads: Cell<u64>,
}

impl Meter {
    /// Bytes received and sent.
    pub fn bytes(&self) -> (u64, u64) {
        (self.received.get(), self.sent.get())
    }

    /// Whether the peer said that it takes no more streams.
    pub fn goaway_received(&self) -> bool {
        self.goaway_received.get()
    }

    /// GOAWAY frames sent since the last call.
    pub fn take_goaways_sent(&self) -> u32 {
        self.goaways_sent.take()
    }

    /// RST_STREAM frames received and sent since the last call.
    pub fn take_resets(&self) -> (u32, u32) {
        (self.resets_received.take(), self.resets_sent.take())
    }

    /// Malformed responses and trailers since the last call.
    pub fn take_malformed(&self) -> u32 {
        self.malformed.take()
    }

    /// Whether the peer closed the connection, or it failed.
    pub fn is_ended(&self) -> bool {
        self.ended.get()
    }

    pub(super) fn add_received(&self, bytes: u64) {
        self.received.set(self.received.get() + bytes);
    }

    pub(super) fn add_sent(&self, bytes: u64) {
        self.sent.set(self.sent.get() + bytes);
    }

    pub(super) fn note_goaway_received(&self) {
        self.goaway_received.set(true);
    }

    pub(super) fn note_goaway_sent(&self) {
        self.goaways_sent.set(self.goaways_sent.get().saturating_add(1));
    }

    pub(super) fn note_reset_received(&self) {
        self.resets_received.set(self.resets_received.get().saturating_add(1));
    }

    pub(super) fn note_reset_sent(&self) {
        self.resets_sent.set(self.resets_sent.get().saturating_add(1));
    }

    pub(super) fn note_malformed(&self) {
        self.malformed.set(self.malformed.get().saturating_add(1));
    }

    pub(super) fn note_end(&self) {
        self.ended.set(true);
    }

    /// Whether another head may be held beside those of the streams that are open. What a few bytes refer to in the table
    /// of HPACK may be long: such heads together may exceed what was received only so far (CVE-2026-47774).
    pub(super) fn has_room_for(&self, head: u64) -> bool {
        let free = if HEADS.get() > MANY_HEADS { FREE_HEADS_OF_MANY } else { FREE_HEADS };
        self.heads.get().saturating_add(head) <= self.received.get().saturating_mul(2).saturating_add(free)
    }
}

/// The head of a stream that is open, as the meter knows of it.
pub(super) struct Held {
    meter: Rc<Meter>,
    bytes: u64,
}

impl Held {
    pub(super) fn new(meter: Rc<Meter>, bytes: u64) -> Held {
        meter.heads.set(meter.heads.get().saturating_add(bytes));
        HEADS.set(HEADS.get().saturating_add(bytes));
        Held { meter, bytes }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.meter.heads.set(self.meter.heads.get().saturating_sub(self.bytes));
        HEADS.set(HEADS.get().saturating_sub(self.bytes));
    }
}
