//! One request with its response: the driver that moves it through the chain and between the two connections.
//!
//! Owns: the state of the stream and the loop that advances it. The chain's rules are in [`crate::chain`], the upstream
//! side in [`crate::router`], the wording of responses in [`crate::response`].
//!
//! *Invariant*: a stream is polled by its connection's task only; it starts no task and takes no lock.

mod begin;
mod finish;
mod outcome;

pub(crate) use begin::protocol;

use crate::chain::{self, ChainEntry, Direction, Flow, Side};
use crate::environment::Environment;
use crate::router::Router;
use crate::timer::{deadline, earlier};
use bytes::Bytes;
use nuncio_filter::{HttpFilter, Interest, LocalReply, ScaledTimer, SentPart, Stream, StreamState};
use nuncio_headers::HeaderMap;
use nuncio_http::connection::{BodyPart, RecvError};
use nuncio_http::exchange::Downstream;
use nuncio_http::{Framing, ResetReason, Version};
use nuncio_stream_info::{ResponseFlags, StreamInfo, TimePoint, details};
use std::cell::RefCell;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

/// Streams that a worker keeps for reuse.
const POOLED: usize = 64;
/// Memory of headers that a pooled stream keeps, bytes.
const KEPT_HEADERS: usize = 8 * 1024;
/// Bytes of pipelined requests that are read while a response is on its way.
const PIPELINE_LIMIT: usize = 16 * 1024;

thread_local! {
    // Boxed, because a stream moves between here and its connection with every request.
    #[allow(clippy::vec_box)]
    static POOL: RefCell<Vec<Box<ActiveStream>>> = const { RefCell::new(Vec::new()) };
}

/// What becomes of the connection after a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// The next request may come.
    KeepAlive,
    /// The response went out, nothing follows.
    Close,
    /// The response can't be completed.
    Reset,
    /// The client is gone.
    Gone,
}

/// How much of the response was handed to the codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Sent {
    #[default]
    Nothing,
    Head,
    All,
}

/// A request being served.
pub(crate) struct ActiveStream {
    pub(crate) request: HeaderMap,
    pub(crate) request_trailers: HeaderMap,
    pub(crate) response: HeaderMap,
    pub(crate) response_trailers: HeaderMap,
    pub(crate) info: StreamInfo,
    pub(crate) state: StreamState,
    pub(crate) entries: Vec<ChainEntry>,
    pub(crate) request_side: Side,
    pub(crate) response_side: Side,
    pub(crate) router: Router,
    pub(crate) version: Version,
    pub(crate) head_request: bool,
    pub(crate) is_grpc: bool,
    /// The request asks for an upgrade that the configuration allows, or is CONNECT.
    pub(crate) upgrade: bool,
    /// The upgrade was accepted: both bodies are raw bytes.
    pub(crate) tunnel: bool,
    /// The request was received to its end.
    pub(crate) received: bool,
    /// Nothing of the request is wanted any more.
    pub(crate) request_stopped: bool,
    pub(crate) sent: Sent,
    /// A local reply was made; a second one goes past the chain.
    pub(crate) replied: bool,
    pub(crate) bypass: bool,
    /// The connection ends with this stream.
    pub(crate) close: bool,
    /// The stream can't be completed: the connection is reset.
    pub(crate) reset: bool,
    /// Why, where the version can say it.
    pub(crate) reset_reason: ResetReason,
    /// The client went away before its response was complete.
    pub(crate) gone: bool,
    /// The stream counts as an upgraded one.
    pub(crate) upgrade_counted: bool,
    /// The client waits for `100 Continue`.
    pub(crate) expects_continue: bool,
    /// When bytes of the stream last moved.
    pub(crate) progress: Instant,
    pub(crate) idle_timeout: Option<Duration>,
    /// When the next record of a stream that lasts is written.
    pub(crate) next_log: Option<Instant>,
    pub(crate) idle_from_route: bool,
    pub(crate) max_duration: Option<Duration>,
    pub(crate) wire_before: (u64, u64),
    pub(crate) logged_at: Instant,
    /// Work of a filter was not polled, because its output to this body could not go on.
    feed_paused: [bool; 2],
    finished: bool,
}

/// A stream with its surroundings: what the chain and the router work on.
pub(crate) struct Driver<'a> {
    pub s: &'a mut ActiveStream,
    pub env: &'a Environment,
    pub wire: Downstream<'a>,
    pub now: Instant,
}

impl ActiveStream {
    /// A stream from the worker's pool.
    pub(crate) fn take(env: &Environment) -> Box<ActiveStream> {
        POOL.with_borrow_mut(Vec::pop)
            .unwrap_or_else(|| Box::new(ActiveStream::new(env.worker.now(), env.worker.wall())))
    }

    /// Gives the stream's memory back to the worker.
    pub(crate) fn give_back(mut stream: Box<ActiveStream>) {
        if stream.finished || !stream.request.is_empty() {
            stream.clear();
        }
        POOL.with_borrow_mut(|pool| {
            if pool.len() < POOLED {
                pool.push(stream);
            }
        });
    }

    fn new(now: Instant, wall: SystemTime) -> ActiveStream {
        ActiveStream {
            request: HeaderMap::new(),
            request_trailers: HeaderMap::new(),
            response: HeaderMap::new(),
            response_trailers: HeaderMap::new(),
            info: StreamInfo::new(now, wall),
            state: StreamState::default(),
            entries: Vec::new(),
            request_side: Side::default(),
            response_side: Side::default(),
            router: Router::default(),
            version: Version::Http11,
            head_request: false,
            is_grpc: false,
            upgrade: false,
            tunnel: false,
            received: false,
            request_stopped: false,
            sent: Sent::Nothing,
            replied: false,
            bypass: false,
            close: false,
            reset: false,
            reset_reason: ResetReason::LocalReset,
            gone: false,
            upgrade_counted: false,
            expects_continue: false,
            progress: now,
            idle_timeout: None,
            next_log: None,
            idle_from_route: false,
            max_duration: None,
            wire_before: (0, 0),
            logged_at: now,
            feed_paused: [false; 2],
            finished: false,
        }
    }

    fn clear(&mut self) {
        for map in [&mut self.request, &mut self.request_trailers, &mut self.response, &mut self.response_trailers] {
            map.clear();
            map.shrink_to(KEPT_HEADERS);
        }
        self.info.connection = None;
        self.info.reset(self.info.start, self.info.start_wall);
        self.state.reset();
        self.entries.clear();
        self.request_side.reset();
        self.response_side.reset();
        self.router.reset();
        self.version = Version::Http11;
        self.head_request = false;
        self.is_grpc = false;
        self.upgrade = false;
        self.tunnel = false;
        self.received = false;
        self.request_stopped = false;
        self.sent = Sent::Nothing;
        self.replied = false;
        self.bypass = false;
        self.close = false;
        self.reset = false;
        self.reset_reason = ResetReason::LocalReset;
        self.gone = false;
        self.upgrade_counted = false;
        self.expects_continue = false;
        self.idle_timeout = None;
        self.next_log = None;
        self.idle_from_route = false;
        self.max_duration = None;
        self.feed_paused = [false; 2];
        self.finished = false;
    }

    /// The map that the codec parses the request into.
    pub(crate) fn request_mut(&mut self) -> &mut HeaderMap {
        &mut self.request
    }

    /// Whether the head of the response was sent: too late to say that the connection ends.
    pub(crate) fn is_answered(&self) -> bool {
        self.sent != Sent::Nothing
    }

    /// The connection ends after this stream, if the client can still be told.
    pub(crate) fn close_after(&mut self) {
        self.close |= self.sent == Sent::Nothing;
    }

    /// The earliest moment at which the stream must be looked at though nothing happened.
    pub(crate) fn deadline(&self, env: &Environment) -> Option<Instant> {
        let idle = self.idle_deadline(env);
        let whole = deadline(self.info.start, self.max_duration);
        let request = if self.received { None } else { self.router.request_deadline };
        let ends = earlier(earlier(idle, whole), earlier(request, self.router.deadline()));
        earlier(ends, self.next_log)
    }

    /// When the stream ends for lack of progress.
    fn idle_deadline(&self, env: &Environment) -> Option<Instant> {
        deadline(self.progress, env.timeout(ScaledTimer::StreamIdle, self.idle_timeout))
    }

    /// Moves the stream as far as it can.
    pub(crate) fn poll(
        &mut self,
        env: &Environment,
        wire: Downstream<'_>,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<StreamEnd> {
        let mut driver = Driver { s: self, env, wire, now };
        loop {
            let mut moved = driver.poll_filters(cx);
            moved |= driver.poll_request(cx);
            moved |= driver.poll_router(cx);
            if driver.s.reset {
                return Poll::Ready(if driver.s.gone { StreamEnd::Gone } else { StreamEnd::Reset });
            }
            match driver.wire.poll_flush(cx) {
                Poll::Ready(Ok(())) if driver.s.sent == Sent::All => return Poll::Ready(driver.end()),
                // Reading of the upstream was paused, and nothing else will wake the stream for it.
                Poll::Ready(Ok(())) | Poll::Pending => moved |= driver.may_resume(),
                Poll::Ready(Err(_)) => {
                    driver.send_failed(cx);
                    return Poll::Ready(StreamEnd::Gone);
                }
            }
            if !moved && !driver.may_feed() {
                break;
            }
        }
        if let Poll::Ready(error) = driver.client_closed(cx) {
            driver.client_left(&error);
            return Poll::Ready(StreamEnd::Gone);
        }
        Poll::Pending
    }
}

impl Driver<'_> {
    /// Polls what filters wait for. Tells whether something moved.
    fn poll_filters(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        self.s.feed_paused = [false; 2];
        for direction in [Direction::Request, Direction::Response] {
            let side = match direction {
                Direction::Request => &self.s.request_side,
                Direction::Response => &self.s.response_side,
            };
            if !side.is_waiting() {
                continue;
            }
            if let Poll::Ready(reply) = chain::poll_work(self, direction, cx) {
                self.progressed();
                if let Some(reply) = reply {
                    self.local_reply(reply);
                }
                moved = true;
            }
        }
        while !self.s.state.started.is_empty() {
            match chain::poll_background(self, cx) {
                Poll::Ready(reply) => {
                    if let Some(reply) = reply {
                        self.local_reply(reply);
                    }
                    moved = true;
                }
                Poll::Pending => break,
            }
        }
        moved
    }

    /// Takes what the client sent of the body, as far as the chain and the upstream want it.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while !self.s.reset
            && !self.s.received
            && !self.s.request_stopped
            && self.s.request_side.is_open()
            && self.wants_request_body()
        {
            if self.s.expects_continue && !self.env.config.proxy_100_continue {
                self.s.expects_continue = false;
                self.wire.send_continue();
                self.env.count_response(100);
            }
            match self.wire.poll_body(cx, &mut self.s.request_trailers) {
                Poll::Ready(Ok(part)) => self.request_part(part),
                Poll::Ready(Err(error)) => {
                    self.request_failed(error);
                    return true;
                }
                Poll::Pending => break,
            }
            self.progressed();
            moved = true;
        }
        moved
    }

    fn wants_request_body(&self) -> bool {
        if self.s.upgrade && !self.s.tunnel {
            return false;
        }
        self.s.router.wants_body(self.env.buffer_limit())
    }

    fn request_part(&mut self, part: BodyPart) {
        if self.s.tunnel && matches!(part, BodyPart::End { .. }) && !self.s.router.half_closes() {
            // Half-closed tunnels don't exist (Envoy's `ConnectionManagerImpl` has no half-close either).
            self.s.reset = true;
            return self.client_gone();
        }
        let flow = match part {
            BodyPart::Data { start, end, consumed, last } => {
                self.s.info.bytes_received += (end - start) as u64;
                self.s.received = last;
                if last {
                    self.request_received();
                }
                if self.s.request_side.is_transparent() && self.forward_request(start, end, consumed, last) {
                    return;
                }
                let chunk = self.wire.take_body(start, end, consumed);
                chain::data(self, Direction::Request, chunk, last)
            }
            BodyPart::End { trailers } => {
                if trailers && self.wire.is_multiplexed() {
                    self.env.http2_stats().trailers().inc();
                }
                self.s.received = true;
                self.request_received();
                if trailers {
                    chain::trailers(self, Direction::Request)
                } else {
                    chain::data(self, Direction::Request, Bytes::new(), true)
                }
            }
        };
        self.apply(flow);
    }

    fn request_received(&mut self) {
        self.s.info.mark(TimePoint::DownstreamRxEnd, self.now);
    }

    /// The request can't be read to its end.
    fn request_failed(&mut self, error: RecvError) {
        match error {
            RecvError::Codec(error) => {
                self.env.config.stats.manager.downstream_cx_protocol_error().inc();
                self.s.info.flags.insert(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR);
                self.s.close = true;
                let reply = LocalReply::new(error.status, Bytes::from_static(b"Bad Request"), error.details);
                self.local_reply(reply);
            }
            error => {
                self.client_left(&error);
                self.s.reset = true;
            }
        }
    }

    /// The response can't be sent: the client closed, or gave the stream up.
    fn send_failed(&mut self, cx: &mut Context<'_>) {
        match self.wire.is_multiplexed() {
            true => match self.wire.poll_closed(cx, 0) {
                Poll::Ready(error) => self.client_left(&error),
                Poll::Pending => self.client_gone(),
            },
            false => self.client_gone(),
        }
    }

    /// The client ended the exchange before its time.
    fn client_left(&mut self, error: &RecvError) {
        let RecvError::Reset(reason) = error else { return self.client_gone() };
        let (flag, text) = match reason {
            ResetReason::RemoteReset | ResetReason::RemoteResetNoError | ResetReason::ConnectError => {
                (ResponseFlags::DOWNSTREAM_REMOTE_RESET, details::HTTP2_REMOTE_RESET)
            }
            ResetReason::RemoteRefusedStreamReset => {
                (ResponseFlags::DOWNSTREAM_REMOTE_RESET, details::HTTP2_REMOTE_REFUSE)
            }
            ResetReason::ProtocolError => {
                self.s.reset_reason = ResetReason::ProtocolError;
                (ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR, details::HTTP2_VIOLATION_OF_MESSAGING_RULE)
            }
            _ => return self.client_gone(),
        };
        self.gone(flag, text);
    }

    /// Whether work that was not polled, because its output could not go on, may be polled now.
    fn may_feed(&self) -> bool {
        self.s.feed_paused != [false; 2]
            && [Direction::Request, Direction::Response]
                .into_iter()
                .any(|direction| self.s.feed_paused[direction as usize] && !self.backs_up(direction))
    }

    /// Whether as much of a message waits for its receiver as may wait.
    fn backs_up(&self, direction: Direction) -> bool {
        match direction {
            Direction::Request => !self.wants_request_body(),
            Direction::Response => {
                let waiting = self.wire.buffered();
                waiting > 0 && waiting >= self.env.buffer_limit()
            }
        }
    }

    /// What a part of a message led to.
    pub(crate) fn apply(&mut self, flow: Flow) {
        if let Flow::Reply(reply) = flow {
            self.local_reply(reply);
        }
    }

    /// Bytes moved: the idle timer starts again.
    #[inline]
    pub(crate) fn progressed(&mut self) {
        self.s.progress = self.now;
    }

    /// Whether the client closed while its response is being made, or while a filter lets nothing of its request come.
    fn client_closed(&mut self, cx: &mut Context<'_>) -> Poll<RecvError> {
        let multiplexed = self.wire.is_multiplexed();
        let reads = !self.s.received && !self.s.request_stopped && self.s.request_side.is_open();
        if !multiplexed && (reads || self.s.tunnel) {
            return Poll::Pending;
        }
        self.wire.poll_closed(cx, PIPELINE_LIMIT)
    }

    /// The client went away before its response was complete.
    fn client_gone(&mut self) {
        self.gone(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION, details::DOWNSTREAM_REMOTE_DISCONNECT);
    }

    fn gone(&mut self, flag: ResponseFlags, text: &'static str) {
        self.s.info.flags.insert(flag);
        self.s.info.details = text.into();
        self.s.gone = true;
        self.s.request_stopped = true;
        self.cancel_upstream();
    }

    fn end(&mut self) -> StreamEnd {
        let unfinished = !self.wire.is_multiplexed() && (!self.s.received || self.s.tunnel);
        if self.s.close || unfinished { StreamEnd::Close } else { StreamEnd::KeepAlive }
    }
}

impl chain::Ends for Driver<'_> {
    #[inline]
    fn hook<T>(&mut self, at: usize, call: impl FnOnce(&mut dyn HttpFilter, &mut Stream<'_>) -> T) -> T {
        let ActiveStream { entries, request, request_trailers, response, response_trailers, info, state, .. } =
            &mut *self.s;
        state.current = at;
        let mut stream =
            Stream { request, request_trailers, response, response_trailers, info, worker: &self.env.worker, state };
        call(entries[at].filter.as_mut(), &mut stream)
    }

    #[inline]
    fn length(&self) -> usize {
        if self.s.bypass { 0 } else { self.s.entries.len() }
    }

    #[inline]
    fn interest(&self, index: usize) -> Interest {
        self.s.entries[index].interest
    }

    #[inline]
    fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Request => &mut self.s.request_side,
            Direction::Response => &mut self.s.response_side,
        }
    }

    fn body(&mut self, direction: Direction) -> &mut bytes::BytesMut {
        match direction {
            Direction::Request => &mut self.s.state.request_body,
            Direction::Response => &mut self.s.state.response_body,
        }
    }

    #[inline]
    fn take_added(&mut self, direction: Direction) -> Option<Bytes> {
        match direction {
            Direction::Request => self.s.state.added_request_body.take(),
            Direction::Response => self.s.state.added_response_body.take(),
        }
    }

    fn take_sent(&mut self) -> Option<SentPart> {
        if self.s.state.sent.is_empty() {
            return None;
        }
        self.progressed();
        Some(self.s.state.sent.remove(0))
    }

    fn is_backed_up(&mut self, direction: Direction) -> bool {
        let waits = self.backs_up(direction);
        self.s.feed_paused[direction as usize] |= waits;
        waits
    }

    fn take_continue(&mut self, direction: Direction) -> bool {
        match direction {
            Direction::Request => std::mem::take(&mut self.s.state.continue_request),
            Direction::Response => std::mem::take(&mut self.s.state.continue_response),
        }
    }

    fn background(&mut self) -> &mut Vec<nuncio_filter::Background> {
        &mut self.s.state.started
    }

    fn buffer_limit(&self) -> usize {
        self.s.state.buffer_limit
    }

    fn headers_out(&mut self, direction: Direction, last: bool) -> Flow {
        match direction {
            Direction::Request => self.route_request(last),
            Direction::Response => {
                self.send_response_head(last);
                Flow::Done
            }
        }
    }

    fn data_out(&mut self, direction: Direction, chunk: Bytes, last: bool) -> Flow {
        match direction {
            Direction::Request => self.upstream_data(chunk, last),
            Direction::Response => {
                self.s.info.bytes_sent += chunk.len() as u64;
                if !self.s.head_request && !chunk.is_empty() {
                    self.wire.send_data(chunk);
                }
                if last {
                    self.wire.send_end(None);
                    self.s.sent = Sent::All;
                }
            }
        }
        Flow::Done
    }

    fn trailers_out(&mut self, direction: Direction) -> Flow {
        match direction {
            Direction::Request => self.upstream_trailers(),
            Direction::Response => {
                let trailers = (!self.s.response_trailers.is_empty()).then_some(&self.s.response_trailers);
                self.wire.send_end(trailers);
                self.s.sent = Sent::All;
            }
        }
        Flow::Done
    }

    fn too_large(&mut self, direction: Direction) -> Box<LocalReply> {
        match direction {
            Direction::Request => {
                self.env.config.stats.manager.downstream_rq_too_large().inc();
                self.s.close = true;
                // What is left of the request is not read.
                self.s.received = false;
                LocalReply::new(413, Bytes::from_static(b"Payload Too Large"), details::REQUEST_PAYLOAD_TOO_LARGE)
            }
            Direction::Response => {
                self.env.config.stats.manager.rs_too_large().inc();
                LocalReply::new(500, Bytes::from_static(b"Internal Server Error"), details::RESPONSE_PAYLOAD_TOO_LARGE)
            }
        }
    }
}

/// The framing of a response that goes past the codec's choice: a tunnel.
pub(crate) const TUNNEL: Framing = Framing::UntilClose;
