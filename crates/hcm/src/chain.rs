//! Running a message through the filter chain, in either direction.
//!
//! Owns: which filter is next, what is held back, and what waits. Does not own: where messages come from and go to
//! (see [`Ends`]), nor what a local reply looks like.
//!
//! *Invariant*: a filter sees its headers before any data, and nothing while work of its `Await` is under way.

use bytes::{Bytes, BytesMut};
use nuncio_filter::{
    Background, Body, Chunk, Completed, DataStep, End, HttpFilter, Interest, LocalReply, SentPart, Step, Stream, Work,
};
use std::task::{Context, Poll};

/// A direction through the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From downstream to the router: filters in order.
    Request,
    /// From the router to downstream: filters in reverse.
    Response,
}

impl From<Body> for Direction {
    fn from(body: Body) -> Self {
        match body {
            Body::Request => Direction::Request,
            Body::Response => Direction::Response,
        }
    }
}

/// A filter in the chain of one stream.
pub(crate) struct ChainEntry {
    pub filter: Box<dyn HttpFilter>,
    pub interest: Interest,
}

/// The hook that a filter's work holds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hook {
    Headers,
    Data,
    Trailers,
}

/// A filter that waits, which of its hooks that holds up, and what it waits for.
struct Waiting {
    at: usize,
    hook: Hook,
    work: Work,
}

/// A chunk that waits for the filter at a place.
struct Parked {
    at: usize,
    chunk: Bytes,
    last: bool,
}

/// Trailers that did not leave the chain yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trailers {
    /// They come to the filter at the place when its work is done.
    Before(usize),
    /// The filter at the place holds them.
    Held(usize),
}

/// How far a message has come.
#[derive(Default)]
pub(crate) struct Side {
    /// Whether a message entered the chain.
    started: bool,
    /// Whether the headers left the chain.
    headers_out: bool,
    /// The place of the filter that holds the headers.
    held: Option<usize>,
    /// The filters that wait, at most one at each place.
    waiting: Vec<Waiting>,
    /// The place of the filter that buffers; the bytes are in the stream's state.
    buffering: Option<usize>,
    /// Whether the message ends with what is buffered.
    buffered_last: bool,
    /// What other filters buffer: their places, bytes, and whether the message ends there.
    aside: Vec<(usize, BytesMut, bool)>,
    /// Chunks that wait, at most one at each place.
    parked: Vec<Parked>,
    /// Number of filters that the headers have come to.
    reached: usize,
    /// The message left the chain to its end; nothing may follow.
    over: bool,
    /// Whether headers alone are the message.
    headers_last: bool,
    /// Whether the last part of the message entered the chain.
    pub ended: bool,
    /// Trailers that came to a filter that waits, or that one holds.
    trailers: Option<Trailers>,
    /// Whether any filter looks at bodies.
    pub looks_at_body: bool,
}

impl Side {
    pub(crate) fn reset(&mut self) {
        *self = Side::default();
    }

    /// Another message takes the place of the one that came so far.
    pub(crate) fn restart(&mut self) {
        *self = Side { looks_at_body: self.looks_at_body, ..Side::default() };
    }

    /// Nothing of the message may go on any more: it was answered.
    pub(crate) fn stop(&mut self) {
        self.waiting.clear();
        self.aside.clear();
        self.held = None;
        self.buffering = None;
        self.trailers = None;
        self.parked.clear();
        self.over = true;
    }

    /// Whether the filter at a place waits.
    fn waits_at(&self, place: usize) -> bool {
        self.waiting.iter().any(|waiting| waiting.at == place)
    }

    /// Makes a chunk wait, behind what waits at the place already.
    fn park(&mut self, at: usize, chunk: Bytes, last: bool) {
        match self.parked.iter_mut().find(|parked| parked.at == at) {
            Some(parked) => {
                let mut bytes = BytesMut::from(std::mem::take(&mut parked.chunk));
                bytes.extend_from_slice(&chunk);
                parked.chunk = bytes.freeze();
                parked.last |= last;
            }
            None => self.parked.push(Parked { at, chunk, last }),
        }
    }

    /// Whether parts of the message may enter the chain: no filter waits.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether data can pass without entering the chain.
    #[inline]
    pub(crate) fn is_transparent(&self) -> bool {
        self.headers_out && !self.looks_at_body && self.waiting.is_empty() && self.parked.is_empty()
    }

    /// Whether a filter waits.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether a message entered the chain.
    #[inline]
    pub(crate) fn started(&self) -> bool {
        self.started
    }
}

/// What became of a part of a message.
pub(crate) enum Flow {
    /// It went as far as it can for now.
    Done,
    /// A filter answers the request.
    Reply(Box<LocalReply>),
}

/// The stream as the chain needs it: the two ends, and the view for hooks.
pub(crate) trait Ends {
    /// Takes the view that hooks are given, and the chain.
    fn hook<T>(&mut self, at: usize, call: impl FnOnce(&mut dyn HttpFilter, &mut Stream<'_>) -> T) -> T;
    /// The chain's length.
    fn length(&self) -> usize;
    /// The interest of the filter at an index of the chain.
    fn interest(&self, index: usize) -> Interest;
    /// The progress of a direction.
    fn side(&mut self, direction: Direction) -> &mut Side;
    /// What a filter holds back of a body.
    fn body(&mut self, direction: Direction) -> &mut BytesMut;
    /// Bytes that the current filter puts behind its headers.
    fn take_added(&mut self, direction: Direction) -> Option<Bytes>;
    /// The next part of a body that the current filter sends on.
    fn take_sent(&mut self) -> Option<SentPart>;
    /// Whether as much of a message waits for its receiver as may wait. Asked only when there is something to send;
    /// who answers yes polls the chain again when it is no more so.
    fn is_backed_up(&mut self, direction: Direction) -> bool;
    /// Whether the current filter lets its headers go.
    fn take_continue(&mut self, direction: Direction) -> bool;
    /// Work that hooks started beside the stream.
    fn background(&mut self) -> &mut Vec<Background>;
    /// The limit of a held body, bytes.
    fn buffer_limit(&self) -> usize;
    /// The message's headers left the chain.
    fn headers_out(&mut self, direction: Direction, last: bool) -> Flow;
    /// A piece of its body left the chain.
    fn data_out(&mut self, direction: Direction, chunk: Bytes, last: bool) -> Flow;
    /// Its trailers left the chain.
    fn trailers_out(&mut self, direction: Direction) -> Flow;
    /// A body outgrew its buffer.
    fn too_large(&mut self, direction: Direction) -> Box<LocalReply>;
}

fn index(ends: &impl Ends, direction: Direction, place: usize) -> usize {
    match direction {
        Direction::Request => place,
        Direction::Response => ends.length() - 1 - place,
    }
}

fn wants(ends: &impl Ends, direction: Direction, place: usize, body: bool) -> bool {
    let interest = match (direction, body) {
        (Direction::Request, false) => Interest::REQUEST_HEADERS,
        (Direction::Request, true) => Interest::REQUEST_BODY,
        (Direction::Response, false) => Interest::RESPONSE_HEADERS,
        (Direction::Response, true) => Interest::RESPONSE_BODY,
    };
    ends.interest(index(ends, direction, place)).has(interest)
}

/// Calls a hook of the filter at a place.
fn call<E: Ends, T>(
    ends: &mut E,
    direction: Direction,
    place: usize,
    hook: impl FnOnce(&mut dyn HttpFilter, &mut Stream<'_>) -> T,
) -> T {
    give_body(ends, direction, place);
    let at = index(ends, direction, place);
    ends.hook(at, hook)
}

/// Makes the stream's buffer that of the filter at a place: of what is held back, a filter sees its own.
#[inline]
fn give_body(ends: &mut impl Ends, direction: Direction, place: usize) {
    let side = ends.side(direction);
    if side.buffering != Some(place) && (side.buffering.is_some() || !side.aside.is_empty()) {
        swap_body(ends, direction, place);
    }
}

fn swap_body(ends: &mut impl Ends, direction: Direction, place: usize) {
    if let Some(other) = ends.side(direction).buffering.take() {
        let bytes = ends.body(direction).split();
        let side = ends.side(direction);
        side.aside.push((other, bytes, side.buffered_last));
    }
    let side = ends.side(direction);
    if let Some(own) = side.aside.iter().position(|(at, ..)| *at == place) {
        let (_, bytes, last) = side.aside.swap_remove(own);
        side.buffering = Some(place);
        side.buffered_last = last;
        *ends.body(direction) = bytes;
    }
}

/// Headers enter the chain.
pub(crate) fn headers(ends: &mut impl Ends, direction: Direction, last: bool) -> Flow {
    let side = ends.side(direction);
    side.started = true;
    side.headers_last = last;
    side.ended = last;
    headers_from(ends, direction, 0)
}

fn headers_from(ends: &mut impl Ends, direction: Direction, from: usize) -> Flow {
    for place in from..ends.length() {
        ends.side(direction).reached = place + 1;
        if !wants(ends, direction, place, false) {
            continue;
        }
        let end = End::when(ends.side(direction).headers_last);
        let step = call(ends, direction, place, |filter, stream| match direction {
            Direction::Request => filter.request_headers(stream, end),
            Direction::Response => filter.response_headers(stream, end),
        });
        match step {
            Step::Next => add_body(ends, direction, place),
            Step::Hold => {
                ends.side(direction).held = Some(place);
                return unpark(ends, direction);
            }
            Step::Await(work) => {
                ends.side(direction).waiting.push(Waiting { at: place, hook: Hook::Headers, work });
                return Flow::Done;
            }
            Step::Reply(reply) => return Flow::Reply(reply),
        }
    }
    let side = ends.side(direction);
    side.headers_out = true;
    let last = side.headers_last;
    side.over |= last;
    match ends.headers_out(direction, last) {
        Flow::Done => unpark(ends, direction),
        reply => reply,
    }
}

/// A filter gave its message bytes: they follow the headers from the next filter on.
fn add_body(ends: &mut impl Ends, direction: Direction, place: usize) {
    let Some(chunk) = ends.take_added(direction) else { return };
    let side = ends.side(direction);
    let last = side.headers_last;
    side.headers_last = false;
    side.park(place + 1, chunk, last);
}

/// Sends on what waits; what is further in the chain is nearer to the front of the message.
fn unpark(ends: &mut impl Ends, direction: Direction) -> Flow {
    let mut waiting = std::mem::take(&mut ends.side(direction).parked);
    waiting.sort_by_key(|parked| std::cmp::Reverse(parked.at));
    for parked in waiting {
        if let Flow::Reply(reply) = data_from(ends, direction, parked.at, parked.chunk, parked.last) {
            return Flow::Reply(reply);
        }
    }
    Flow::Done
}

/// A piece of a body enters the chain.
pub(crate) fn data(ends: &mut impl Ends, direction: Direction, chunk: Bytes, last: bool) -> Flow {
    ends.side(direction).ended = last;
    data_from(ends, direction, 0, chunk, last)
}

fn data_from(ends: &mut impl Ends, direction: Direction, from: usize, chunk: Bytes, last: bool) -> Flow {
    let mut chunk = Chunk::from(chunk);
    for place in from..ends.length() {
        if ends.side(direction).waits_at(place) {
            ends.side(direction).park(place, chunk.take(), last);
            return Flow::Done;
        }
        let holds = ends.side(direction).held == Some(place);
        let step = if wants(ends, direction, place, true) {
            call(ends, direction, place, |filter, stream| match direction {
                Direction::Request => filter.request_data(stream, &mut chunk, End::when(last)),
                Direction::Response => filter.response_data(stream, &mut chunk, End::when(last)),
            })
        } else if holds {
            DataStep::Buffer
        } else {
            continue;
        };
        match step {
            DataStep::Next => {
                if holds {
                    ends.side(direction).held = None;
                    ends.side(direction).headers_last = false;
                    if let Flow::Reply(reply) = headers_from(ends, direction, place + 1) {
                        return Flow::Reply(reply);
                    }
                }
                release(ends, direction, place, &mut chunk);
            }
            DataStep::Buffer => return hold_back(ends, direction, place, chunk.take(), last),
            DataStep::Hold => return Flow::Done,
            DataStep::Reply(reply) => return Flow::Reply(reply),
            DataStep::Await(work) => {
                ends.side(direction).waiting.push(Waiting { at: place, hook: Hook::Data, work });
                return hold_back(ends, direction, place, chunk.take(), last);
            }
        }
    }
    let side = ends.side(direction);
    if side.over {
        return Flow::Done;
    }
    side.over = last;
    ends.data_out(direction, chunk.take(), last)
}

/// Puts what the filter held back before the chunk that it let go.
fn release(ends: &mut impl Ends, direction: Direction, place: usize, chunk: &mut Chunk) {
    give_body(ends, direction, place);
    if ends.side(direction).buffering != Some(place) {
        return;
    }
    ends.side(direction).buffering = None;
    let body = ends.body(direction);
    let mut held = body.split();
    if !held.is_empty() {
        held.extend_from_slice(chunk.bytes());
        chunk.replace(held.freeze());
    }
}

fn hold_back(ends: &mut impl Ends, direction: Direction, place: usize, chunk: Bytes, last: bool) -> Flow {
    give_body(ends, direction, place);
    let side = ends.side(direction);
    side.buffering = Some(place);
    side.buffered_last = last;
    let limit = ends.buffer_limit();
    let body = ends.body(direction);
    body.extend_from_slice(&chunk);
    if body.len() > limit {
        return Flow::Reply(ends.too_large(direction));
    }
    Flow::Done
}

/// Trailers enter the chain; they end the message.
pub(crate) fn trailers(ends: &mut impl Ends, direction: Direction) -> Flow {
    ends.side(direction).ended = true;
    trailers_from(ends, direction, 0)
}

fn trailers_from(ends: &mut impl Ends, direction: Direction, from: usize) -> Flow {
    for place in from..ends.length() {
        if ends.side(direction).waits_at(place) {
            ends.side(direction).trailers = Some(Trailers::Before(place));
            return Flow::Done;
        }
        give_body(ends, direction, place);
        let holds = ends.side(direction).held == Some(place) || ends.side(direction).buffering == Some(place);
        let step = if wants(ends, direction, place, true) {
            call(ends, direction, place, |filter, stream| match direction {
                Direction::Request => filter.request_trailers(stream),
                Direction::Response => filter.response_trailers(stream),
            })
        } else {
            Step::Next
        };
        match step {
            Step::Next => {
                let added = ends.take_added(direction);
                if holds && let Flow::Reply(reply) = let_go(ends, direction, place) {
                    return Flow::Reply(reply);
                }
                if let Some(chunk) = added
                    && let Flow::Reply(reply) = data_from(ends, direction, place + 1, chunk, false)
                {
                    return Flow::Reply(reply);
                }
            }
            Step::Hold => {
                ends.side(direction).trailers = Some(Trailers::Held(place));
                return Flow::Done;
            }
            Step::Await(work) => {
                ends.side(direction).waiting.push(Waiting { at: place, hook: Hook::Trailers, work });
                return Flow::Done;
            }
            Step::Reply(reply) => return Flow::Reply(reply),
        }
    }
    if std::mem::replace(&mut ends.side(direction).over, true) {
        return Flow::Done;
    }
    ends.trailers_out(direction)
}

/// Sends on what the filter at a place held: headers first, then the bytes.
fn let_go(ends: &mut impl Ends, direction: Direction, place: usize) -> Flow {
    give_body(ends, direction, place);
    if ends.side(direction).held == Some(place) {
        let has_body = !ends.body(direction).is_empty();
        let side = ends.side(direction);
        side.held = None;
        side.headers_last &= !has_body;
        if let Flow::Reply(reply) = headers_from(ends, direction, place + 1) {
            return Flow::Reply(reply);
        }
        give_body(ends, direction, place);
    }
    let side = ends.side(direction);
    if side.buffering == Some(place) {
        side.buffering = None;
        let last = side.buffered_last;
        let chunk = ends.body(direction).split().freeze();
        if !chunk.is_empty() || last {
            return data_from(ends, direction, place + 1, chunk, last);
        }
    }
    Flow::Done
}

/// Sends on what the filter at an index of the chain put into messages. Of the message whose headers come only after it,
/// it waits for them.
fn send_on(ends: &mut impl Ends, filter: usize, before_headers: Option<Direction>) -> Flow {
    while let Some(SentPart { body, bytes, end }) = ends.take_sent() {
        let direction = Direction::from(body);
        if ends.length() == 0 {
            continue;
        }
        let place = index(ends, direction, filter);
        let side = ends.side(direction);
        if side.over || side.reached <= place {
            continue;
        }
        let headers_wait = side.waiting.iter().any(|waiting| waiting.at == place && waiting.hook == Hook::Headers);
        let follows = side.parked.iter().any(|parked| parked.at == place + 1);
        if headers_wait || follows || before_headers == Some(direction) {
            side.headers_last &= side.headers_out;
            side.park(place + 1, bytes, end.is_last());
            continue;
        }
        if side.held == Some(place) {
            side.held = None;
            side.headers_last = false;
            if let Flow::Reply(reply) = headers_from(ends, direction, place + 1) {
                return Flow::Reply(reply);
            }
        }
        if let Flow::Reply(reply) = data_from(ends, direction, place + 1, bytes, end.is_last()) {
            return Flow::Reply(reply);
        }
    }
    Flow::Done
}

/// Polls what filters wait for. `Ready(None)` means that something moved, `Ready(Some(_))` that a filter replies.
pub(crate) fn poll_work(
    ends: &mut impl Ends,
    direction: Direction,
    cx: &mut Context<'_>,
) -> Poll<Option<Box<LocalReply>>> {
    for index in 0..ends.side(direction).waiting.len() {
        let waiting = &mut ends.side(direction).waiting[index];
        let (at, hook) = (waiting.at, waiting.hook);
        let Poll::Ready(done) = waiting.work.poll(cx) else { continue };
        ends.side(direction).waiting.swap_remove(index);
        return Poll::Ready(match resumed(ends, direction, at, hook, done) {
            Flow::Done => None,
            Flow::Reply(reply) => Some(reply),
        });
    }
    Poll::Pending
}

fn resumed(ends: &mut impl Ends, direction: Direction, place: usize, hook: Hook, done: Completed) -> Flow {
    let at = index(ends, direction, place);
    let step = call(ends, direction, place, |filter, stream| filter.resume(stream, done));
    let mut before_headers = None;
    let proceeds = matches!(step, Step::Next);
    match step {
        Step::Reply(reply) => {
            while ends.take_sent().is_some() {}
            return Flow::Reply(reply);
        }
        Step::Await(work) => ends.side(direction).waiting.push(Waiting { at: place, hook, work }),
        Step::Hold => match hook {
            Hook::Headers => ends.side(direction).held = Some(place),
            Hook::Data => ends.side(direction).buffering = Some(place),
            Hook::Trailers => ends.side(direction).trailers = Some(Trailers::Held(place)),
        },
        Step::Next if hook == Hook::Headers => before_headers = Some(direction),
        Step::Next => {}
    }
    if let Flow::Reply(reply) = send_on(ends, at, before_headers) {
        return Flow::Reply(reply);
    }
    if proceeds {
        return proceed(ends, direction, place, hook);
    }
    follow(ends, direction)
}

fn proceed(ends: &mut impl Ends, direction: Direction, place: usize, hook: Hook) -> Flow {
    let flow = match hook {
        Hook::Headers => {
            add_body(ends, direction, place);
            headers_from(ends, direction, place + 1)
        }
        Hook::Data => let_go(ends, direction, place),
        Hook::Trailers => match let_go(ends, direction, place) {
            Flow::Done => return trailers_from(ends, direction, place + 1),
            reply => reply,
        },
    };
    match flow {
        Flow::Done => follow(ends, direction),
        reply => reply,
    }
}

/// Sends on what waited behind a filter that lets the message go: chunks, then trailers.
fn follow(ends: &mut impl Ends, direction: Direction) -> Flow {
    if let Flow::Reply(reply) = unpark(ends, direction) {
        return Flow::Reply(reply);
    }
    let side = ends.side(direction);
    match side.trailers {
        Some(Trailers::Before(at)) => {
            side.trailers = None;
            trailers_from(ends, direction, at)
        }
        _ => Flow::Done,
    }
}

/// Polls the work that runs beside the stream. As [`poll_work`].
pub(crate) fn poll_background(ends: &mut impl Ends, cx: &mut Context<'_>) -> Poll<Option<Box<LocalReply>>> {
    let mut at = 0;
    while at < ends.background().len() {
        let Background { filter, feeds, .. } = ends.background()[at];
        if feeds.is_some_and(|body| is_blocked(ends, body.into(), filter)) {
            at += 1;
            continue;
        }
        let Poll::Ready(done) = ends.background()[at].work.poll(cx) else {
            at += 1;
            continue;
        };
        // The order is kept: of two that are ready, the one that was started first comes first.
        ends.background().remove(at);
        return Poll::Ready(match in_background(ends, filter, done) {
            Flow::Done => None,
            Flow::Reply(reply) => Some(reply),
        });
    }
    Poll::Pending
}

/// Whether what a filter would send could not go on now.
fn is_blocked(ends: &mut impl Ends, direction: Direction, filter: usize) -> bool {
    if ends.length() == 0 {
        return false;
    }
    let place = index(ends, direction, filter);
    let held_up = ends.side(direction).waiting.iter().any(|waiting| waiting.at > place);
    held_up || ends.is_backed_up(direction)
}

fn in_background(ends: &mut impl Ends, filter: usize, done: Completed) -> Flow {
    for direction in [Direction::Request, Direction::Response] {
        if ends.length() > 0 {
            let place = index(ends, direction, filter);
            give_body(ends, direction, place);
        }
    }
    if let Step::Reply(reply) = ends.hook(filter, |filter, stream| filter.resume(stream, done)) {
        while ends.take_sent().is_some() {}
        return Flow::Reply(reply);
    }
    if let Flow::Reply(reply) = send_on(ends, filter, None) {
        return Flow::Reply(reply);
    }
    for direction in [Direction::Request, Direction::Response] {
        if !ends.take_continue(direction) || ends.length() == 0 {
            continue;
        }
        let place = index(ends, direction, filter);
        if let Flow::Reply(reply) = let_go(ends, direction, place) {
            return Flow::Reply(reply);
        }
        let side = ends.side(direction);
        if side.trailers == Some(Trailers::Held(place)) {
            side.trailers = None;
            if let Flow::Reply(reply) = trailers_from(ends, direction, place + 1) {
                return Flow::Reply(reply);
            }
        }
    }
    Flow::Done
}
