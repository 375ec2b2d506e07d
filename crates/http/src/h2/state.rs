//! The state of a connection, shared by the task that moves its bytes and by its streams.
//!
//! Owns: which streams exist, windows, both HPACK tables, what waits to be sent, and who is woken when. Does no I/O: the
//! connection's task feeds it what was received ([`Core::feed`]) and writes [`Core::output`].
//!
//! A stream leaves `ids` when it is over on the wire, and `streams` when nobody holds its other end.

use super::Http2Options;
use super::credit::Credit;
use super::error::{ErrorCode, Violation};
use super::frame::{self, DEFAULT_WINDOW, PeerSettings, kind};
use super::headers::{Refused, Rules, Taken};
use super::hpack::{Decoder, Encoder};
use super::meter::Meter;
use super::output::Output;
use super::receive::{Block, Data};
use super::stream::Stream;
use crate::ResetReason;
use nuncio_headers::HeaderMap;
use slab::Slab;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::task::{Context, Waker};

/// Streams that this side reset and still knows of, so that what the peer had sent before it knew is no fault.
const REMEMBERED_RESETS: usize = 1024;
/// Bytes that a connection holds for a peer that does not read, before its streams have to wait.
const MOST_OUTPUT: usize = 256 * 1024;
/// Header maps that a worker keeps for reuse.
const SPARE_MAPS: usize = 64;
/// Bytes of text that such a map may hold.
const SPARE_TEXT: usize = 4 * 1024;
/// What the ping says whose answer is the second step of a drain.
const DRAIN_PING: [u8; 8] = *b"drained?";
/// What pings of a keep-alive say.
const ALIVE_PING: [u8; 8] = *b"alive???";

thread_local! {
    static SPARE: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// A map to decode into.
pub(super) fn take_map() -> HeaderMap {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Gives a map back to the worker.
pub(super) fn give_map(mut map: HeaderMap) {
    map.clear();
    map.shrink_to(SPARE_TEXT);
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < SPARE_MAPS {
            spare.push(map);
        }
    });
}

/// A connection's state, as its streams hold it.
pub(super) type Shared = Rc<RefCell<Core>>;

/// A request whose head has come.
pub(super) struct Accepted {
    pub key: usize,
    pub headers: HeaderMap,
    pub taken: Result<Taken, Refused>,
    /// It has no body.
    pub last: bool,
}

pub(super) struct Core {
    pub meter: Rc<Meter>,
    pub server: bool,
    pub rules: Rules,
    pub limits: Limits,
    pub peer: PeerSettings,
    pub credit: Credit,
    pub decoder: Decoder,
    pub encoder: Encoder,
    pub output: Output,
    pub streams: Slab<Stream>,
    /// Streams on the wire, by number.
    pub ids: BTreeMap<u32, usize>,
    /// Highest number of a stream that the peer opened.
    pub last_received: u32,
    /// Number of the next stream that this side opens.
    pub next_id: u32,
    pub accepted: VecDeque<Accepted>,
    /// The client's preface has not come yet.
    pub expects_preface: bool,
    /// A field section that goes on in the next frame.
    pub block: Option<Block>,
    /// A payload that is under way.
    pub data: Option<Data>,
    /// Bytes that the peer may still send, and those that were taken and that it was not told of yet.
    pub receive_window: i64,
    pub owed: u32,
    /// Bytes that this side may still send.
    pub send_window: i64,
    /// Ends the connection once what was accepted before is taken.
    pub violation: Option<Violation>,
    /// Nothing more will come of this connection.
    pub over: bool,
    /// The last stream that is served, once the peer was told of it.
    pub last_served: Option<u32>,
    /// This side opens no more streams: the peer's GOAWAY.
    pub goaway: bool,
    /// Those who may open streams.
    pub openers: usize,
    draining: bool,
    ping: Ping,
    resets: VecDeque<u32>,
    wait_output: VecDeque<usize>,
    wait_window: VecDeque<usize>,
    opening: Vec<Waker>,
    waker: Option<Waker>,
}

/// Limits of a connection, from its options.
pub(super) struct Limits {
    pub max_streams: u32,
    pub stream_window: u32,
    pub max_answers: u32,
    pub max_frames: u32,
    pub stream_error_on_invalid_message: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ping {
    None,
    OnItsWay,
    Answered,
}

impl Core {
    pub fn new(server: bool, options: &Http2Options) -> Core {
        let underscores = if server { options.underscores } else { crate::h1::Underscores::Allow };
        let mut output = Output::default();
        if !server {
            output.frame().extend_from_slice(frame::PREFACE);
        }
        frame::write_first(options, server, output.frame());
        let mut encoder = Encoder::new();
        encoder.set_huffman(options.huffman);
        Core {
            meter: Rc::default(),
            server,
            rules: Rules::new(options, underscores),
            limits: Limits {
                max_streams: options.max_concurrent_streams,
                stream_window: options.stream_window,
                max_answers: options.max_outbound_control_frames,
                max_frames: options.max_outbound_frames,
                stream_error_on_invalid_message: options.stream_error_on_invalid_message,
            },
            peer: PeerSettings::default(),
            credit: Credit::new(options),
            decoder: Decoder::new(options.hpack_table_size),
            encoder,
            output,
            streams: Slab::new(),
            ids: BTreeMap::new(),
            last_received: 0,
            next_id: 1,
            accepted: VecDeque::new(),
            expects_preface: server,
            block: None,
            data: None,
            receive_window: i64::from(options.connection_window.max(DEFAULT_WINDOW)),
            owed: 0,
            send_window: i64::from(DEFAULT_WINDOW),
            violation: None,
            over: false,
            last_served: None,
            goaway: false,
            openers: 0,
            draining: false,
            ping: Ping::None,
            resets: VecDeque::new(),
            wait_output: VecDeque::new(),
            wait_window: VecDeque::new(),
            opening: Vec::new(),
            waker: None,
        }
    }

    /// The connection's task is woken from now on when there is something to write.
    pub fn set_waker(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
    }

    /// Wakes the connection's task.
    pub fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// The stream of that number, if it is on the wire.
    pub fn on_wire(&mut self, id: u32) -> Option<(usize, &mut Stream)> {
        let key = *self.ids.get(&id)?;
        self.streams.get_mut(key).map(|stream| (key, stream))
    }

    /// Sends RST_STREAM.
    pub fn send_reset(&mut self, id: u32, code: ErrorCode) {
        frame::write_word(kind::RST_STREAM, id, code.0, self.output.frame());
        self.output.count_answer();
        self.meter.note_reset_sent();
        if self.resets.len() >= REMEMBERED_RESETS {
            self.resets.pop_front();
        }
        self.resets.push_back(id);
    }

    /// Whether this side reset the stream not long ago.
    pub fn was_reset(&self, id: u32) -> bool {
        self.resets.contains(&id)
    }

    /// The stream is over before its time. A response that has come whole can still be read.
    pub fn end_stream(&mut self, key: usize, reason: ResetReason) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.reset.get_or_insert(reason);
        let id = stream.id;
        let freed = if stream.receive.ended { 0 } else { stream.receive.discard() };
        stream.wake();
        self.leave_queues(key);
        self.leave_wire(id);
        self.release_connection(freed);
    }

    /// The stream is over if both of its sides are.
    pub fn end_if_over(&mut self, key: usize) {
        if let Some(stream) = self.streams.get(key)
            && stream.is_over()
        {
            let id = stream.id;
            self.leave_wire(id);
        }
    }

    fn leave_wire(&mut self, id: u32) {
        if self.ids.remove(&id).is_none() {
            return;
        }
        self.wake_opening();
        if self.ids.is_empty() {
            // The end of the last stream may be the connection's, and ends its being busy.
            self.wake();
        }
    }

    /// Ends all streams with the connection.
    pub fn end_all(&mut self, reason: ResetReason) {
        self.over = true;
        for key in std::mem::take(&mut self.ids).into_values() {
            self.end_stream(key, reason);
        }
        self.wake_opening();
    }

    /// The peer opens no more streams; those above `last` were not processed.
    pub fn take_goaway(&mut self, last: u32) {
        self.meter.note_goaway_received();
        if self.server {
            return;
        }
        self.goaway = true;
        let refused: Vec<usize> = self.ids.range(last.saturating_add(1)..).map(|(_, key)| *key).collect();
        for key in refused {
            self.end_stream(key, ResetReason::RemoteRefusedStreamReset);
        }
        self.wake_opening();
    }

    /// Nobody holds the other end of the stream any more; there, `piece` bytes were looked at and not taken.
    pub fn drop_stream(&mut self, key: usize, piece: usize) {
        self.leave_queues(key);
        let Some(mut stream) = self.streams.try_remove(key) else { return };
        let held = stream.receive.discard() + piece;
        if let Some(map) = stream.receive.head.take().map(|head| head.headers) {
            give_map(map);
        }
        if self.ids.contains_key(&stream.id) {
            let answered = self.server && stream.sent_end;
            self.send_reset(stream.id, if answered { ErrorCode::NO_ERROR } else { ErrorCode::CANCEL });
            self.leave_wire(stream.id);
        }
        self.release_connection(held);
        if self.streams.is_empty() {
            self.shrink();
        }
        self.pass_turn();
        self.wake();
    }

    /// The stream waits for nothing any more: the turn that it may have been given is the next one's.
    fn leave_queues(&mut self, key: usize) {
        if let Some(stream) = self.streams.get_mut(key)
            && std::mem::take(&mut stream.queued)
        {
            self.wait_output.retain(|waiting| *waiting != key);
            self.wait_window.retain(|waiting| *waiting != key);
        }
    }

    /// No stream is left: what was needed for many of them is given back.
    fn shrink(&mut self) {
        if self.streams.capacity() > 4 {
            self.streams = Slab::new();
        }
        if self.accepted.is_empty() {
            self.accepted = VecDeque::new();
        }
        self.wait_output = VecDeque::new();
        self.wait_window = VecDeque::new();
    }

    /// Bytes of a stream were taken: the peer may send as much again.
    pub fn release(&mut self, key: usize, bytes: usize) {
        let window = self.limits.stream_window;
        if let Some(stream) = self.streams.get_mut(key)
            && !stream.receive.ended
            && stream.reset.is_none()
        {
            let owed = stream.receive.owed.saturating_add(bytes as u32);
            stream.receive.owed = owed;
            if owed >= window / 2 {
                stream.receive.owed = 0;
                stream.receive.window += i64::from(owed);
                frame::write_word(kind::WINDOW_UPDATE, stream.id, owed, self.output.frame());
                self.wake();
            }
        }
        self.release_connection(bytes);
    }

    /// The same for the window of the connection. It is told early enough that what streams hold, however much of the window
    /// that is, leaves the rest of it to the others.
    pub fn release_connection(&mut self, bytes: usize) {
        self.owed = self.owed.saturating_add(bytes as u32);
        if self.owed > 0 && i64::from(self.owed) >= self.receive_window && !self.over {
            let owed = std::mem::take(&mut self.owed);
            self.receive_window += i64::from(owed);
            frame::write_word(kind::WINDOW_UPDATE, 0, owed, self.output.frame());
            self.wake();
        }
    }

    /// The stream waits until more was written.
    pub fn wait_output(&mut self, key: usize, cx: &Context<'_>) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.wait_send(cx);
            stand(stream, key, &mut self.wait_output);
        }
    }

    /// The stream waits for the window of the connection.
    pub fn wait_window(&mut self, key: usize, cx: &Context<'_>) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.wait_send(cx);
            stand(stream, key, &mut self.wait_window);
        }
    }

    /// Whether others wait for their turn.
    pub fn has_waiting(&self) -> bool {
        !self.wait_output.is_empty() || !self.wait_window.is_empty()
    }

    /// Wakes the task when there may be room for another stream, or there will never be.
    pub fn wait_opening(&mut self, cx: &Context<'_>) {
        if !self.opening.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.opening.push(cx.waker().clone());
        }
    }

    /// Wakes those that wait to open streams.
    pub fn wake_opening(&mut self) {
        self.opening.drain(..).for_each(Waker::wake);
    }

    /// Whether more may be handed over before something was written.
    pub fn has_room(&self) -> bool {
        self.output.len() < MOST_OUTPUT && self.output.frames() < self.limits.max_frames
    }

    /// Wakes the next stream that waits for what there is now. It passes the turn on in its turn.
    pub fn pass_turn(&mut self) {
        if !self.has_room() {
            return;
        }
        self.wake_opening();
        while let Some(key) = self.wait_output.pop_front() {
            if let Some(stream) = self.streams.get_mut(key) {
                stream.queued = false;
                stream.turn = true;
                stream.wake_send();
                return;
            }
        }
        if self.send_window <= 0 {
            return;
        }
        while let Some(key) = self.wait_window.pop_front() {
            if let Some(stream) = self.streams.get_mut(key) {
                stream.queued = false;
                stream.turn = true;
                stream.wake_send();
                return;
            }
        }
    }

    /// Tells the peer to open no more streams, and ends the connection with those that exist.
    pub fn send_goaway(&mut self, last: u32, code: ErrorCode, what: &str) {
        frame::write_goaway(last, code, what.as_bytes(), self.output.frame());
        self.meter.note_goaway_sent();
    }

    /// The first step of a drain (RFC 9113 §6.8): no limit yet, for requests on their way.
    pub fn drain(&mut self) {
        if self.draining || self.over {
            return;
        }
        self.draining = true;
        self.send_goaway(0x7fff_ffff, ErrorCode::NO_ERROR, "");
        frame::write_ping(DRAIN_PING, false, self.output.frame());
        self.wake();
    }

    /// Ends the connection whatever its streams are doing.
    pub fn abort(&mut self, code: ErrorCode) {
        if self.over {
            return;
        }
        self.send_goaway(self.last_received, code, "");
        self.end_all(ResetReason::LocalReset);
        self.wake();
    }

    /// Sends a ping; false if one is on its way, or the connection is over.
    pub fn send_ping(&mut self) -> bool {
        if self.over || self.ping == Ping::OnItsWay {
            return false;
        }
        self.ping = Ping::OnItsWay;
        frame::write_ping(ALIVE_PING, false, self.output.frame());
        self.wake();
        true
    }

    /// Whether the answer to the ping has come; tells it once.
    pub fn take_pong(&mut self) -> bool {
        let answered = self.ping == Ping::Answered;
        if answered {
            self.ping = Ping::None;
        }
        answered
    }

    /// An answer to a ping. False if none was asked for.
    pub fn pong(&mut self, payload: [u8; 8]) -> bool {
        if payload == ALIVE_PING && self.ping == Ping::OnItsWay {
            self.ping = Ping::Answered;
            return true;
        }
        payload == DRAIN_PING && self.finish_drain()
    }

    /// The second step of a drain: no streams but those that have come. False if no drain is under way.
    pub fn finish_drain(&mut self) -> bool {
        if !self.draining || self.last_served.is_some() || self.over {
            return false;
        }
        self.last_served = Some(self.last_received);
        self.send_goaway(self.last_received, ErrorCode::NO_ERROR, "");
        self.wake();
        true
    }

    /// Whether nothing is left to do.
    pub fn is_finished(&self) -> bool {
        let told = match self.server {
            true => self.last_served.is_some() && self.accepted.is_empty(),
            false => self.goaway || self.openers == 0,
        };
        (self.over || (told && self.ids.is_empty())) && self.output.is_empty()
    }
}

/// The stream stands in line; in front, if another took what it was woken for.
fn stand(stream: &mut Stream, key: usize, line: &mut VecDeque<usize>) {
    if std::mem::replace(&mut stream.queued, true) {
        return;
    }
    if std::mem::take(&mut stream.turn) {
        line.push_front(key);
    } else {
        line.push_back(key);
    }
}
