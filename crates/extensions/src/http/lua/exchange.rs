//! What a running coroutine and the filter share: the stream, lent for the time of one resume, and the coroutine's state.
//!
//! A [`Stream`] borrows from the driver and can't be kept; what scripts call must be. So the stream's parts are swapped
//! into this cell before a coroutine runs, and back when it stops.

use super::budget::Budget;
use super::filter::LuaConfig;
use bytes::{Bytes, BytesMut};
use nuncio_filter::{ClientRequest, HttpClientHandle, LocalReply, RouteSlot, Stream, StreamState, Worker};
use nuncio_headers::HeaderMap;
use nuncio_stream_info::{StreamInfo, Struct};
use std::cell::{Cell, RefCell};
use std::mem::swap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// The side of a stream that a coroutine works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Direction {
    /// `envoy_on_request`.
    #[default]
    Request,
    /// `envoy_on_response`.
    Response,
}

/// What a coroutine waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    /// Nothing: it runs.
    #[default]
    Running,
    /// The next piece of the body.
    Chunk,
    /// The whole body.
    Body,
    /// The trailers.
    Trailers,
    /// The answer to a call.
    Call,
    /// Nothing any more: it replied.
    Responded,
}

/// A coroutine's side of a stream.
#[derive(Default)]
pub(super) struct Side {
    pub direction: Direction,
    pub state: State,
    /// The message is complete.
    pub ended: bool,
    /// Some of the body came.
    pub saw_body: bool,
    /// The body is held back until it is complete.
    pub buffers_body: bool,
    /// Headers may still be changed.
    pub headers_open: bool,
    /// Trailers came.
    pub has_trailers: bool,
    /// The piece of the body that the script looks at.
    pub chunk: Bytes,
    /// The script wrote to the held body.
    pub body_changed: bool,
    /// The reply that the script made.
    pub reply: Option<Box<LocalReply>>,
    /// The request that the script waits for.
    pub call: Option<Call>,
    /// Requests whose answers nobody waits for.
    pub detached: Vec<ClientRequest>,
    /// Bytes that the script wrote to headers and metadata, those included that it replaced since.
    pub written: usize,
    /// The filter's configuration.
    pub config: Option<Arc<LuaConfig>>,
    /// `filter_context`.
    pub context: Option<Arc<Struct>>,
}

/// A request that a script waits for.
pub(super) struct Call {
    pub client: HttpClientHandle,
    pub request: ClientRequest,
    /// Headers that occur several times come as tables.
    pub duplicates: bool,
}

/// The parts of the lent stream, and the side that runs.
pub(super) struct Parts {
    request: HeaderMap,
    request_trailers: HeaderMap,
    response: HeaderMap,
    response_trailers: HeaderMap,
    pub info: StreamInfo,
    pub state: StreamState,
    worker: Option<Rc<Worker>>,
    pub side: Side,
}

/// The cell. One per virtual machine: only one coroutine of it runs at a time.
pub(super) struct Shared {
    parts: RefCell<Parts>,
    lent: Cell<bool>,
    /// Statistics that scripts made.
    pub stats: super::api::stats::ScriptStats,
    /// Which functions without effect were called, so that it is said once.
    pub told: Cell<u8>,
    /// How much the running coroutine may still do.
    pub budget: Rc<Budget>,
}

/// A stream is not lent: a primitive was called while no coroutine runs.
pub(super) struct NotLent;

impl Shared {
    pub(super) fn new(now: Instant, budget: Rc<Budget>) -> Shared {
        let parts = Parts {
            request: HeaderMap::new(),
            request_trailers: HeaderMap::new(),
            response: HeaderMap::new(),
            response_trailers: HeaderMap::new(),
            info: StreamInfo::new(now, SystemTime::UNIX_EPOCH),
            state: StreamState::default(),
            worker: None,
            side: Side::default(),
        };
        Shared {
            parts: RefCell::new(parts),
            lent: Cell::new(false),
            stats: super::api::stats::ScriptStats::default(),
            told: Cell::new(0),
            budget,
        }
    }

    /// Calls `use_it` with the lent stream.
    pub(super) fn with<T>(&self, use_it: impl FnOnce(&mut Parts) -> T) -> Result<T, NotLent> {
        if !self.lent.get() {
            return Err(NotLent);
        }
        let mut parts = self.parts.try_borrow_mut().map_err(|_| NotLent)?;
        Ok(use_it(&mut parts))
    }

    /// Lends a stream and a side while `run` runs. `None`: another coroutine runs, which can't be.
    pub(super) fn lend<T>(&self, stream: &mut Stream<'_>, side: &mut Side, run: impl FnOnce() -> T) -> Option<T> {
        if self.lent.get() {
            return None;
        }
        let mut lease = Lease { shared: self, stream, side };
        lease.exchange();
        self.lent.set(true);
        Some(run())
    }
}

/// Gives the stream back when it is dropped, whatever happened meanwhile.
struct Lease<'a, 's> {
    shared: &'a Shared,
    stream: &'a mut Stream<'s>,
    side: &'a mut Side,
}

impl Lease<'_, '_> {
    fn exchange(&mut self) {
        let Ok(mut parts) = self.shared.parts.try_borrow_mut() else { return };
        swap(&mut parts.request, self.stream.request);
        swap(&mut parts.request_trailers, self.stream.request_trailers);
        swap(&mut parts.response, self.stream.response);
        swap(&mut parts.response_trailers, self.stream.response_trailers);
        swap(&mut parts.info, self.stream.info);
        swap(&mut parts.state, self.stream.state);
        swap(&mut parts.side, self.side);
        parts.worker = match parts.worker.take() {
            None => Some(Rc::clone(self.stream.worker)),
            Some(_) => None,
        };
    }
}

impl Drop for Lease<'_, '_> {
    fn drop(&mut self) {
        self.shared.lent.set(false);
        self.exchange();
    }
}

impl Parts {
    /// The stream, as hooks see it.
    pub(super) fn stream(&mut self) -> Option<Stream<'_>> {
        Some(Stream {
            request: &mut self.request,
            request_trailers: &mut self.request_trailers,
            response: &mut self.response,
            response_trailers: &mut self.response_trailers,
            info: &mut self.info,
            worker: self.worker.as_ref()?,
            state: &mut self.state,
        })
    }

    /// The worker whose stream it is.
    pub(super) fn worker(&self) -> Option<&Rc<Worker>> {
        self.worker.as_ref()
    }

    /// Forgets the route.
    pub(super) fn clear_route(&mut self) {
        self.state.route = RouteSlot::Unresolved;
    }

    /// What is held of the side's body.
    pub(super) fn body(&mut self) -> &mut BytesMut {
        match self.side.direction {
            Direction::Request => &mut self.state.request_body,
            Direction::Response => &mut self.state.response_body,
        }
    }

    /// The headers that the script may change.
    pub(super) fn own_headers(&mut self) -> &mut HeaderMap {
        match self.side.direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }
}
