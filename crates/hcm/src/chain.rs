//! Running a message through the filter chain, in either direction.
//!
//! Owns: which filter is next, what is held back, and what waits. Does not own: where messages come from and go to
//! (see [`Ends`]), nor what a local reply looks like.
//!
//! *Invariant*: a filter sees its headers before any data, and nothing while work of its `Await` is under way.

use bytes::{Bytes, BytesMut};
use nuncio_filter::{
    Background, Chunk, Completed, DataStep, End, HttpFilter, Interest, LocalReply, Step, Stream, Work,
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

/// A chunk that waits for the filter at a place.
struct Parked {
    at: usize,
    chunk: Bytes,
    last: bool,
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
    /// The place of the filter that waits, what it waits for, and which hook that holds up.
    waiting: Option<(usize, Hook, Work)>,
    /// The place of the filter that buffers; the bytes are in the stream's state.
    buffering: Option<usize>,
    parked: Option<Parked>,
    /// Whether headers alone are the message.
    headers_last: bool,
    /// Whether the last part of the message entered the chain.
    pub ended: bool,
    /// Trailers that wait behind the filter at a place.
    trailers: Option<usize>,
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

    /// Whether parts of the message may enter the chain: no filter waits.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.waiting.is_none()
    }

    /// Whether data can pass without entering the chain.
    #[inline]
    pub(crate) fn is_transparent(&self) -> bool {
        self.headers_out && !self.looks_at_body && self.waiting.is_none() && self.parked.is_none()
    }

    /// Whether a filter waits.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
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
        if !wants(ends, direction, place, false) {
            continue;
        }
        let end = End::when(ends.side(direction).headers_last);
        let at = index(ends, direction, place);
        let step = ends.hook(at, |filter, stream| match direction {
            Direction::Request => filter.request_headers(stream, end),
            Direction::Response => filter.response_headers(stream, end),
        });
        match step {
            Step::Next => add_body(ends, direction, place),
            Step::Hold => {
                ends.side(direction).held = Some(place);
                return Flow::Done;
            }
            Step::Await(work) => {
                ends.side(direction).waiting = Some((place, Hook::Headers, work));
                return Flow::Done;
            }
            Step::Reply(reply) => return Flow::Reply(reply),
        }
    }
    let side = ends.side(direction);
    side.headers_out = true;
    let last = side.headers_last;
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
    side.parked = Some(Parked { at: place + 1, chunk, last });
}

fn unpark(ends: &mut impl Ends, direction: Direction) -> Flow {
    match ends.side(direction).parked.take() {
        Some(parked) => data_from(ends, direction, parked.at, parked.chunk, parked.last),
        None => Flow::Done,
    }
}

/// A piece of a body enters the chain.
pub(crate) fn data(ends: &mut impl Ends, direction: Direction, chunk: Bytes, last: bool) -> Flow {
    ends.side(direction).ended = last;
    data_from(ends, direction, 0, chunk, last)
}

fn data_from(ends: &mut impl Ends, direction: Direction, from: usize, chunk: Bytes, last: bool) -> Flow {
    let mut chunk = Chunk::from(chunk);
    for place in from..ends.length() {
        if let Some((waiting, _, _)) = &ends.side(direction).waiting
            && *waiting == place
        {
            ends.side(direction).parked = Some(Parked { at: place, chunk: chunk.take(), last });
            return Flow::Done;
        }
        let holds = ends.side(direction).held == Some(place);
        let step = if wants(ends, direction, place, true) {
            let at = index(ends, direction, place);
            ends.hook(at, |filter, stream| match direction {
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
            DataStep::Buffer => return hold_back(ends, direction, place, chunk.take()),
            DataStep::Hold => return Flow::Done,
            DataStep::Reply(reply) => return Flow::Reply(reply),
            DataStep::Await(work) => {
                ends.side(direction).waiting = Some((place, Hook::Data, work));
                return hold_back(ends, direction, place, chunk.take());
            }
        }
    }
    ends.data_out(direction, chunk.take(), last)
}

/// Puts what the filter held back before the chunk that it let go.
fn release(ends: &mut impl Ends, direction: Direction, place: usize, chunk: &mut Chunk) {
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

fn hold_back(ends: &mut impl Ends, direction: Direction, place: usize, chunk: Bytes) -> Flow {
    ends.side(direction).buffering = Some(place);
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
        if ends.side(direction).waiting.as_ref().is_some_and(|(waiting, _, _)| *waiting == place) {
            ends.side(direction).trailers = Some(place);
            return Flow::Done;
        }
        let holds = ends.side(direction).held == Some(place) || ends.side(direction).buffering == Some(place);
        let step = if wants(ends, direction, place, true) {
            let at = index(ends, direction, place);
            ends.hook(at, |filter, stream| match direction {
                Direction::Request => filter.request_trailers(stream),
                Direction::Response => filter.response_trailers(stream),
            })
        } else {
            Step::Next
        };
        match step {
            Step::Next if holds => {
                if let Flow::Reply(reply) = let_go(ends, direction, place, false) {
                    return Flow::Reply(reply);
                }
            }
            Step::Next => {}
            Step::Hold => {
                ends.side(direction).trailers = Some(place + 1);
                return Flow::Done;
            }
            Step::Await(work) => {
                ends.side(direction).waiting = Some((place, Hook::Trailers, work));
                return Flow::Done;
            }
            Step::Reply(reply) => return Flow::Reply(reply),
        }
    }
    ends.trailers_out(direction)
}

/// Sends on what the filter at a place held: headers first, then the bytes.
fn let_go(ends: &mut impl Ends, direction: Direction, place: usize, last: bool) -> Flow {
    if ends.side(direction).held == Some(place) {
        ends.side(direction).held = None;
        let has_body = !ends.body(direction).is_empty() || !last;
        if has_body {
            ends.side(direction).headers_last = false;
        }
        if let Flow::Reply(reply) = headers_from(ends, direction, place + 1) {
            return Flow::Reply(reply);
        }
    }
    if ends.side(direction).buffering == Some(place) {
        ends.side(direction).buffering = None;
        let chunk = ends.body(direction).split().freeze();
        if !chunk.is_empty() || last {
            return data_from(ends, direction, place + 1, chunk, last);
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
    let Some((_, _, work)) = &mut ends.side(direction).waiting else { return Poll::Pending };
    let Poll::Ready(done) = work.poll(cx) else { return Poll::Pending };
    let Some((place, hook, _)) = ends.side(direction).waiting.take() else { return Poll::Pending };
    match resumed(ends, direction, place, hook, done) {
        Flow::Done => Poll::Ready(None),
        Flow::Reply(reply) => Poll::Ready(Some(reply)),
    }
}

fn resumed(ends: &mut impl Ends, direction: Direction, place: usize, hook: Hook, done: Completed) -> Flow {
    let at = index(ends, direction, place);
    match ends.hook(at, |filter, stream| filter.resume(stream, done)) {
        Step::Reply(reply) => Flow::Reply(reply),
        Step::Await(work) => {
            ends.side(direction).waiting = Some((place, hook, work));
            Flow::Done
        }
        Step::Hold => {
            match hook {
                Hook::Headers => ends.side(direction).held = Some(place),
                Hook::Data => ends.side(direction).buffering = Some(place),
                Hook::Trailers => ends.side(direction).trailers = Some(place + 1),
            }
            unpark(ends, direction)
        }
        Step::Next => proceed(ends, direction, place, hook),
    }
}

fn proceed(ends: &mut impl Ends, direction: Direction, place: usize, hook: Hook) -> Flow {
    let flow = match hook {
        Hook::Headers => {
            add_body(ends, direction, place);
            headers_from(ends, direction, place + 1)
        }
        Hook::Data => {
            let last = ends.side(direction).ended && ends.side(direction).trailers.is_none();
            let_go(ends, direction, place, last)
        }
        Hook::Trailers => {
            let flow = let_go(ends, direction, place, false);
            match flow {
                Flow::Done => return trailers_from(ends, direction, place + 1),
                reply => reply,
            }
        }
    };
    if let Flow::Reply(reply) = flow {
        return Flow::Reply(reply);
    }
    if let Flow::Reply(reply) = unpark(ends, direction) {
        return Flow::Reply(reply);
    }
    let side = ends.side(direction);
    if side.waiting.is_some() || side.held.is_some() {
        return Flow::Done;
    }
    match side.trailers.take() {
        Some(at) => trailers_from(ends, direction, at),
        None => Flow::Done,
    }
}

/// Polls the work that runs beside the stream. As [`poll_work`].
pub(crate) fn poll_background(ends: &mut impl Ends, cx: &mut Context<'_>) -> Poll<Option<Box<LocalReply>>> {
    let mut at = 0;
    while at < ends.background().len() {
        let Poll::Ready(done) = ends.background()[at].work.poll(cx) else {
            at += 1;
            continue;
        };
        let filter = ends.background().swap_remove(at).filter;
        if let Step::Reply(reply) = ends.hook(filter, |filter, stream| filter.resume(stream, done)) {
            return Poll::Ready(Some(reply));
        }
        for direction in [Direction::Request, Direction::Response] {
            if !ends.take_continue(direction) {
                continue;
            }
            let place = index(ends, direction, filter);
            let last = ends.side(direction).ended;
            if let Flow::Reply(reply) = let_go(ends, direction, place, last) {
                return Poll::Ready(Some(reply));
            }
        }
        return Poll::Ready(None);
    }
    Poll::Pending
}
