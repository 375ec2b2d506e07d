//! A transport whose HTTP/2 frames are counted as they pass.
//!
//! Owns: the limits of frames that cost the receiver work and carry nothing, which the `h2` crate has none of its own for,
//! and what the crate does not tell about a connection (bytes, a GOAWAY received). Frames are only looked at: nine bytes of
//! each. Does not own: what frames mean.
//!
//! Envoy counts such frames over the life of a connection, so that a connection which has carried many streams may send
//! many more of them (envoyproxy/envoy#45077). Here each stream or data frame adds credit only up to a cap.

use super::Http2Options;
use bytes::{BufMut, Bytes, BytesMut};
use nuncio_io::transport::Transport;
use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Length of the client's connection preface (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length of a frame's header (RFC 9113 §4.1).
const HEAD: usize = 9;
/// Streams for which credit is kept at most.
const STREAM_CREDIT: u32 = 1024;
/// Bytes of decoded heads that the open streams of a connection may hold, however little was received.
const MOST_HEADS: u64 = 1 << 20;
/// Data frames for which credit is kept at most: more than a window holds of the smallest frames in use.
const DATA_CREDIT: u32 = 4096;

mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}
const END_STREAM_OR_ACK: u8 = 1;
const PADDED: u8 = 8;

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
}

impl Flood {
    /// Envoy's response code details.
    pub fn details(self) -> &'static str {
        match self {
            Flood::EmptyFrames => "http2.inbound_empty_frames_flood",
            Flood::Priority => "http2.inbound_priority_frames_flood",
            Flood::WindowUpdate => "http2.inbound_window_update_frames_flood",
            Flood::Control => "http2.outbound_control_frames_flood",
        }
    }
}

/// What passed over a connection. Shared by the connection and its streams.
#[derive(Debug, Default)]
pub struct Meter {
    received: Cell<u64>,
    sent: Cell<u64>,
    goaway_received: Cell<bool>,
    goaway_sent: Cell<u32>,
    resets_received: Cell<u32>,
    resets_sent: Cell<u32>,
    flood: Cell<Option<Flood>>,
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
        self.goaway_sent.take()
    }

    /// RST_STREAM frames received and sent since the last call.
    pub fn take_resets(&self) -> (u32, u32) {
        (self.resets_received.take(), self.resets_sent.take())
    }

    /// The limit that the peer passed, if it did.
    pub fn flood(&self) -> Option<Flood> {
        self.flood.get()
    }

    /// Whether another head may be held beside those of the streams that are open. What a few bytes refer to in the table
    /// of HPACK may be long: such heads together may exceed what was received only so far (CVE-2026-47774).
    pub(super) fn has_room_for(&self, head: u64) -> bool {
        self.heads.get().saturating_add(head) <= MOST_HEADS.saturating_add(self.received.get().saturating_mul(2))
    }

    /// Whether the peer closed the connection, or it failed.
    pub fn is_ended(&self) -> bool {
        self.ended.get()
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
        Held { meter, bytes }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.meter.heads.set(self.meter.heads.get().saturating_sub(self.bytes));
    }
}

/// Finds the frames in a stream of bytes.
struct Frames {
    /// The frame's header, and of padded data the length of the padding.
    head: [u8; HEAD + 1],
    filled: usize,
    skip: usize,
}

impl Frames {
    fn new(skip: usize) -> Frames {
        Frames { head: [0; HEAD + 1], filled: 0, skip }
    }

    /// Calls `see` with kind, flags and payload length of every frame whose header ends in `bytes`; padding does not count
    /// as payload of data.
    #[inline]
    fn pass(&mut self, mut bytes: &[u8], mut see: impl FnMut(u8, u8, usize)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let count = self.skip.min(bytes.len());
                self.skip -= count;
                bytes = bytes.get(count..).unwrap_or_default();
                continue;
            }
            let wanted = HEAD + usize::from(self.filled >= HEAD);
            let count = (wanted - self.filled).min(bytes.len());
            let (now, rest) = bytes.split_at(count);
            self.head[self.filled..self.filled + count].copy_from_slice(now);
            self.filled += count;
            bytes = rest;
            if self.filled < wanted {
                return;
            }
            let [a, b, c, kind, flags, .., padding] = self.head;
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if self.filled > HEAD {
                self.skip = length - 1;
                see(kind, flags, self.skip.saturating_sub(usize::from(padding)));
            } else if kind == kind::DATA && flags & PADDED != 0 && length > 0 {
                continue;
            } else {
                self.skip = length;
                see(kind, flags, length);
            }
            self.filled = 0;
        }
    }
}

/// Frames that a peer may still send.
struct Credit {
    empty: u32,
    priority: u32,
    window: u32,
    /// Answers that the peer's frames asked for and that did not go out yet.
    owed: u32,
    most_empty: u32,
    per_stream_priority: u32,
    per_data_window: u32,
    most_owed: u32,
}

impl Credit {
    fn new(options: &Http2Options) -> Credit {
        Credit {
            empty: 0,
            priority: options.max_priority_frames_per_stream,
            window: 5,
            owed: 0,
            most_empty: options.max_consecutive_empty_frames,
            per_stream_priority: options.max_priority_frames_per_stream,
            per_data_window: options.max_window_updates_per_data_frame,
            most_owed: options.max_outbound_control_frames,
        }
    }

    fn stream_opened(&mut self) {
        let most = self.per_stream_priority.saturating_mul(STREAM_CREDIT);
        self.priority = self.priority.saturating_add(self.per_stream_priority).min(most.max(1));
        self.add_window(2);
    }

    fn data_sent(&mut self) {
        self.add_window(self.per_data_window.saturating_mul(2));
    }

    fn add_window(&mut self, more: u32) {
        let most = self.per_data_window.saturating_mul(2 * DATA_CREDIT).max(2 * STREAM_CREDIT);
        self.window = self.window.saturating_add(more).min(most);
    }

    fn received(&mut self, kind: u8, flags: u8, length: usize) -> Option<Flood> {
        let flagged = flags & END_STREAM_OR_ACK != 0;
        match kind {
            kind::DATA | kind::HEADERS | kind::CONTINUATION => {
                if kind == kind::HEADERS {
                    self.stream_opened();
                }
                self.empty = if length == 0 && !flagged { self.empty + 1 } else { 0 };
                (self.empty > self.most_empty).then_some(Flood::EmptyFrames)
            }
            kind::PRIORITY => spend(&mut self.priority).then_some(Flood::Priority),
            kind::WINDOW_UPDATE => spend(&mut self.window).then_some(Flood::WindowUpdate),
            kind::PING | kind::SETTINGS if !flagged => {
                self.owed += 1;
                (self.owed > self.most_owed).then_some(Flood::Control)
            }
            _ => None,
        }
    }

    fn sent(&mut self, kind: u8, flags: u8) {
        match kind {
            kind::DATA => self.data_sent(),
            kind::PING | kind::SETTINGS if flags & END_STREAM_OR_ACK != 0 => self.owed = self.owed.saturating_sub(1),
            _ => {}
        }
    }
}

/// Takes one; true if there was none left.
fn spend(credit: &mut u32) -> bool {
    match credit.checked_sub(1) {
        Some(left) => {
            *credit = left;
            false
        }
        None => true,
    }
}

/// The transport, which outlives the crate's connection: what is left of it is read after a GOAWAY, so that closing does
/// not reset the connection under it.
pub(super) type Shared = Rc<RefCell<Transport>>;

/// The transport of an HTTP/2 connection.
pub(super) struct Metered {
    transport: Shared,
    /// What was read before the protocol was known.
    before: Bytes,
    meter: Rc<Meter>,
    credit: Credit,
    inbound: Frames,
    outbound: Frames,
    /// Settings that go out with the first frame, behind those of the crate.
    settings: Option<CustomSettings>,
}

impl Metered {
    pub(super) fn server(transport: Transport, before: Bytes, options: &Http2Options) -> Metered {
        Metered::new(transport, before, options, (PREFACE.len(), 0))
    }

    pub(super) fn client(transport: Transport, options: &Http2Options) -> Metered {
        Metered::new(transport, Bytes::new(), options, (0, PREFACE.len()))
    }

    fn new(transport: Transport, before: Bytes, options: &Http2Options, skip: (usize, usize)) -> Metered {
        Metered {
            transport: Rc::new(RefCell::new(transport)),
            before,
            meter: Rc::default(),
            credit: Credit::new(options),
            inbound: Frames::new(skip.0),
            outbound: Frames::new(skip.1),
            settings: CustomSettings::new(&options.custom_settings, skip.1),
        }
    }

    pub(super) fn meter(&self) -> Rc<Meter> {
        Rc::clone(&self.meter)
    }

    pub(super) fn transport(&self) -> Shared {
        Rc::clone(&self.transport)
    }

    fn arrived(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.meter.received.set(self.meter.received.get() + bytes.len() as u64);
        let Metered { inbound, credit, meter, .. } = self;
        let mut flood = None;
        inbound.pass(bytes, |kind, flags, length| {
            match kind {
                kind::GOAWAY => meter.goaway_received.set(true),
                kind::RST_STREAM => meter.resets_received.set(meter.resets_received.get().saturating_add(1)),
                _ => {}
            }
            flood = flood.or(credit.received(kind, flags, length));
        });
        match flood {
            Some(flood) => {
                meter.flood.set(Some(flood));
                Err(io::Error::other(flood.details()))
            }
            None => Ok(()),
        }
    }

    fn left(&mut self, bytes: &[u8]) {
        self.meter.sent.set(self.meter.sent.get() + bytes.len() as u64);
        let Metered { outbound, credit, meter, .. } = self;
        outbound.pass(bytes, |kind, flags, _| {
            match kind {
                kind::GOAWAY => meter.goaway_sent.set(meter.goaway_sent.get().saturating_add(1)),
                kind::RST_STREAM => meter.resets_sent.set(meter.resets_sent.get().saturating_add(1)),
                _ => {}
            }
            credit.sent(kind, flags);
        });
    }
}

impl AsyncRead for Metered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.before.is_empty() {
            let count = this.before.len().min(into.remaining());
            let now = this.before.split_to(count);
            into.put_slice(&now);
            return Poll::Ready(this.arrived(&now));
        }
        let start = into.filled().len();
        let outcome = ready!(this.transport.borrow_mut().poll_read_buf(cx, into));
        let count = into.filled().len() - start;
        if outcome.is_err() || count == 0 {
            this.meter.ended.set(true);
            return Poll::Ready(outcome);
        }
        Poll::Ready(this.arrived(into.filled().get(start..).unwrap_or_default()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(settings) = &mut this.settings {
            let taken = ready!(settings.poll_write(cx, &mut this.transport.borrow_mut(), from))?;
            if settings.is_done() {
                this.settings = None;
            }
            this.left(from.get(..taken).unwrap_or_default());
            return Poll::Ready(Ok(taken));
        }
        let count = ready!(this.transport.borrow_mut().poll_write(cx, from))?;
        this.left(from.get(..count).unwrap_or_default());
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.settings.is_some() {
            let first = from.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
            return self.poll_write(cx, first);
        }
        let this = self.get_mut();
        let count = ready!(this.transport.borrow_mut().poll_write_vectored(cx, from))?;
        let mut left = count;
        for slice in from {
            let now = left.min(slice.len());
            this.left(slice.get(..now).unwrap_or_default());
            left -= now;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().transport.borrow_mut().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().transport.borrow_mut().poll_shutdown(cx)
    }
}

/// Adds settings to the first SETTINGS frame that goes out.
struct CustomSettings {
    extra: BytesMut,
    /// Bytes that go out before the frame.
    before: usize,
    /// The frame's header as it goes out, with the settings behind it.
    pending: BytesMut,
    made: bool,
}

impl CustomSettings {
    fn new(settings: &[(u16, u32)], before: usize) -> Option<CustomSettings> {
        if settings.is_empty() {
            return None;
        }
        let mut extra = BytesMut::with_capacity(settings.len() * 6);
        for (identifier, value) in settings {
            extra.put_u16(*identifier);
            extra.put_u32(*value);
        }
        Some(CustomSettings { extra, before, pending: BytesMut::new(), made: false })
    }

    /// Writes of `from` what comes before the frame, or the frame's header; how much it took. A writer whose write is
    /// pending offers the same bytes again.
    fn poll_write(&mut self, cx: &mut Context<'_>, transport: &mut Transport, from: &[u8]) -> Poll<io::Result<usize>> {
        if self.before > 0 {
            let now = from.get(..self.before.min(from.len())).unwrap_or_default();
            let count = ready!(transport.poll_write(cx, now))?;
            self.before -= count;
            return Poll::Ready(Ok(count));
        }
        if !self.made {
            let Some((head, _)) = from.split_first_chunk::<HEAD>() else {
                return Poll::Ready(Err(io::Error::other("the first frame is not a whole one")));
            };
            let [a, b, c, rest @ ..] = head;
            let length = (u32::from(*a) << 16 | u32::from(*b) << 8 | u32::from(*c)) + self.extra.len() as u32;
            self.pending.extend_from_slice(&length.to_be_bytes()[1..]);
            self.pending.extend_from_slice(rest);
            self.pending.extend_from_slice(&self.extra);
            self.made = true;
        }
        while !self.pending.is_empty() {
            let count = ready!(transport.poll_write(cx, &self.pending))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let _ = self.pending.split_to(count);
        }
        Poll::Ready(Ok(HEAD))
    }

    fn is_done(&self) -> bool {
        self.made && self.pending.is_empty()
    }
}
