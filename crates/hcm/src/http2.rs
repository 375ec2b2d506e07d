//! One downstream HTTP/2 connection: its streams, its timers, its end.
//!
//! The connection is one task, each of its streams another: a stream that waits costs nothing when its neighbours move, and
//! frames of all of them leave in one write, because the connection's task runs after those that woke it.
//!
//! *Invariant*: a stream's task ends with its connection, at the latest: the codec tells it.

use crate::connection;
use crate::environment::Environment;
use crate::stream::{ActiveStream, Sent, StreamEnd};
use crate::timer::{LazyTimer, deadline, earlier};
use bytes::Bytes;
use nuncio_filter::{Drain, LoadShedPoint, OverloadAction, Registration, ScaledTimer};
use nuncio_http::ResetReason;
use nuncio_http::h2::{
    ConnectionError, Flood, Http2Keepalive, Incoming, Pings, Refused, ServerConnection, ServerStream,
};
use nuncio_io::transport::Transport;
use nuncio_stats::names::Http2CodecStats;
use nuncio_stream_info::{ResponseFlags, details};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// A stream that the client gives up so soon was never meant: Envoy's `premature_reset_min_stream_lifetime_seconds`.
const PREMATURE: Duration = Duration::from_secs(1);
/// Streams of a connection before it is judged by how many of them the client gave up at once: Envoy's
/// `premature_reset_total_stream_count`.
const JUDGED_STREAMS: u32 = 500;
/// Requests that begin before other connections have a turn.
const TURN: u32 = 32;

/// What a connection and its streams share.
#[derive(Default)]
struct Shared {
    open: Cell<u32>,
    /// Streams that are over, and those of them that the client gave up at once.
    closed: Cell<u32>,
    premature: Cell<u32>,
    /// The connection ends with its last stream.
    close: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Shared {
    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn stream_over(&self, environment: &Environment, premature: bool) {
        self.open.set(self.open.get().saturating_sub(1));
        environment.set_streams(self.open.get());
        self.closed.set(self.closed.get().saturating_add(1));
        if premature {
            self.premature.set(self.premature.get().saturating_add(1));
        }
        self.wake();
    }

    /// Whether the client opens streams only to give them up (CVE-2023-44487).
    fn is_rapid_reset(&self) -> bool {
        self.closed.get() >= JUDGED_STREAMS && self.premature.get() > self.closed.get() / 2
    }
}

/// Serves a connection until it is over.
pub(crate) struct Http2Connection {
    wire: ServerConnection,
    environment: Rc<Environment>,
    registration: Registration,
    drain: Rc<Drain>,
    shared: Rc<Shared>,
    stats: Rc<Http2CodecStats>,
    timer: LazyTimer,
    opened: Instant,
    /// Since when no stream is open.
    idle_since: Option<Instant>,
    /// Since when a head is being received that did not end yet.
    head_since: Option<Instant>,
    requests: u32,
    /// The client was told to open no more streams; since when.
    drained: Option<Instant>,
    /// When it is told so without having answered to that.
    drain_ends: Option<Instant>,
    counted: (u64, u64),
    keepalive: Option<Keepalive>,
    /// Streams that the client may still reset, and since when that is counted.
    resets: Option<(f64, Instant)>,
    local_close: bool,
    /// A GOAWAY is on its way out, whatever streams there are; the connection ends by then.
    ends_at: Option<Instant>,
    /// This side has said all it will.
    lingers: bool,
}

/// Pings that show whether the client is still there.
struct Keepalive {
    options: Http2Keepalive,
    pings: Pings,
    next: Option<Instant>,
    /// When the answer to the ping on its way must be here.
    due: Option<Instant>,
}

impl Http2Connection {
    /// A connection whose client speaks HTTP/2; `before` is what was read of it.
    pub(crate) fn new(
        transport: Transport,
        before: Bytes,
        environment: Environment,
        (registration, drain): (Registration, Rc<Drain>),
        opened: Instant,
    ) -> Http2Connection {
        let config = &environment.config;
        let wire = ServerConnection::new(transport, before, &config.http2);
        config.stats.manager.downstream_cx_http2_total().inc();
        config.stats.manager.downstream_cx_http2_active().add(1);
        let resets = config.http2.stream_resets.map(|rate| (rate.burst as f64, opened));
        let keepalive = config.http2.keepalive.map(|options| Keepalive {
            options,
            pings: wire.pings(),
            next: options.next(opened, environment.worker.random()),
            due: None,
        });
        Http2Connection {
            wire,
            stats: environment.http2_stats(),
            environment: Rc::new(environment),
            registration,
            drain,
            shared: Rc::default(),
            timer: LazyTimer::new(),
            opened,
            idle_since: Some(opened),
            head_since: None,
            requests: 0,
            drained: None,
            drain_ends: None,
            counted: (0, 0),
            keepalive,
            resets,
            local_close: false,
            ends_at: None,
            lingers: false,
        }
    }

    /// Moves as far as it can. `Ready` is the end of the connection.
    fn step(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        if self.registration.must_close() {
            self.local_close = true;
            return Poll::Ready(());
        }
        if self.lingers {
            return self.linger(cx, now);
        }
        self.look_at_drain(now);
        if self.environment.overload.is_some() {
            self.look_at_overload(now);
        }
        for turn in 0.. {
            match self.wire.poll_accept(cx) {
                Poll::Ready(Some(Ok(incoming))) => self.begin(incoming, now),
                Poll::Ready(Some(Err(error))) => {
                    self.failed(&error);
                    return self.linger(cx, now);
                }
                Poll::Ready(None) => return self.linger(cx, now),
                Poll::Pending => break,
            }
            if turn >= TURN {
                cx.waker().wake_by_ref();
                break;
            }
        }
        let resets = self.count();
        self.judge(now, resets);
        self.set_waker(cx);
        if self.shared.close.get() && self.shared.open.get() == 0 {
            self.tell_end(now);
        }
        self.wait(cx, now)
    }

    /// Lets the client close first, so that it reads what it was told.
    fn linger(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        self.lingers = true;
        let Some(wait) = self.environment.config.timeouts.delayed_close else { return Poll::Ready(()) };
        if self.wire.meter().is_ended() || self.wire.poll_linger(cx).is_ready() {
            return Poll::Ready(());
        }
        self.local_close = true;
        if self.ends_at.is_none() {
            self.ends_at = deadline(now, Some(wait));
        }
        if self.timer.arm(cx, now, self.ends_at) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Timers of the connection: without streams, of its age, of its drain, of pings.
    fn wait(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let environment = Rc::clone(&self.environment);
        let (timeouts, stats) = (environment.config.timeouts, &environment.config.stats.manager);
        if self.shared.open.get() > 0 {
            self.idle_since = None;
        } else if self.idle_since.is_none() {
            self.idle_since = Some(now);
        }
        match (self.wire.is_reading_head(), self.head_since) {
            (true, None) => self.head_since = Some(now),
            (false, Some(_)) => self.head_since = None,
            _ => {}
        }
        loop {
            if self.ends_at.is_some() {
                return if self.timer.arm(cx, now, self.ends_at) { Poll::Ready(()) } else { Poll::Pending };
            }
            let idle_timeout = environment.timeout(ScaledTimer::ConnectionIdle, timeouts.idle);
            let idle = self.idle_since.and_then(|since| deadline(since, idle_timeout));
            let longest = environment.timeout(ScaledTimer::ConnectionMax, timeouts.max_connection_duration);
            let old = if self.drained.is_some() { None } else { deadline(self.opened, longest) };
            // A client that was told and has no streams left closes; one that does not is left alone for as long.
            let told = match (self.drained, self.idle_since) {
                (Some(drained), Some(idle)) => deadline(drained.max(idle), Some(timeouts.drain)),
                _ => None,
            };
            let pings = self.keepalive.as_ref().and_then(|keepalive| earlier(keepalive.next, keepalive.due));
            let head = self.head_since.and_then(|since| {
                earlier(deadline(since, timeouts.request_headers), deadline(since, timeouts.stream_idle))
            });
            let drain = earlier(told, self.drain_ends);
            if !self.timer.arm(cx, now, earlier(earlier(idle, old), earlier(earlier(drain, pings), head))) {
                return self.poll_pings(cx, now);
            }
            let reached = |at: Option<Instant>| at.is_some_and(|at| at <= now);
            if reached(old) {
                stats.downstream_cx_max_duration_reached().inc();
                self.tell_end(now);
                cx.waker().wake_by_ref();
            } else if reached(idle) {
                stats.downstream_cx_idle_timeout().inc();
                self.end_now(now, false);
                cx.waker().wake_by_ref();
            } else if reached(self.drain_ends) {
                self.drain_ends = None;
                self.wire.finish_drain();
                cx.waker().wake_by_ref();
            } else if reached(told) {
                self.end_now(now, false);
                cx.waker().wake_by_ref();
            } else if reached(head) {
                // Nothing else can be received of a client that does not end its head.
                if self.head_since.is_some_and(|since| deadline(since, timeouts.request_headers) == head) {
                    stats.downstream_rq_header_timeout().inc();
                } else {
                    stats.downstream_rq_idle_timeout().inc();
                }
                self.end_now(now, false);
                cx.waker().wake_by_ref();
            } else if self.poll_pings(cx, now).is_ready() {
                return Poll::Ready(());
            }
        }
    }

    /// Sends pings and waits for their answers.
    fn poll_pings(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let Some(keepalive) = &mut self.keepalive else { return Poll::Pending };
        if keepalive.due.is_some() && keepalive.pings.take_answer() {
            keepalive.due = None;
            keepalive.next = keepalive.options.next(now, self.environment.worker.random());
        }
        if keepalive.due.is_some_and(|due| due <= now) {
            self.stats.keepalive_timeout().inc();
            self.local_close = true;
            return Poll::Ready(());
        }
        if keepalive.next.is_some_and(|next| next <= now) {
            keepalive.next = None;
            if keepalive.pings.send() {
                keepalive.due = deadline(now, Some(keepalive.options.timeout));
            }
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Ends the connection with a GOAWAY. The client gets as long to take it as after a last response.
    fn end_now(&mut self, now: Instant, enhance_your_calm: bool) {
        self.local_close = true;
        let wait = self.environment.config.timeouts.delayed_close.unwrap_or(PREMATURE);
        self.ends_at = deadline(now, Some(wait));
        self.wire.abort(enhance_your_calm);
    }

    /// Begins a request: its task goes on with it.
    fn begin(&mut self, incoming: Incoming, now: Instant) {
        let config = &self.environment.config;
        let stats = &config.stats.manager;
        self.requests = self.requests.saturating_add(1);
        stats.downstream_rq_total().inc();
        stats.downstream_rq_http2_total().inc();
        let most = config.max_requests_per_connection;
        if most > 0 && self.requests >= most && self.drained.is_none() {
            stats.downstream_cx_max_requests_reached().inc();
            self.tell_end(now);
        }
        let draining = self.drain.is_draining() && self.drain.wants_end(now, self.environment.worker.random());
        if draining && self.drained.is_none() {
            self.environment.config.stats.manager.downstream_cx_drain_close().inc();
            self.tell_end(now);
        }
        if self.drained.is_none() && self.environment.disables_keepalive() {
            self.tell_end(now);
        }
        self.idle_since = None;
        let mut stream = ActiveStream::take(&self.environment);
        let (head, mut wire) = incoming.open(stream.request_mut());
        match head {
            Ok(head) => {
                stream.begin(&self.environment, (&mut wire).into(), head, now, false);
                self.shared.open.set(self.shared.open.get() + 1);
                self.environment.set_streams(self.shared.open.get());
                let environment = Rc::clone(&self.environment);
                let shared = Rc::clone(&self.shared);
                let task =
                    Stream { stream: Some(stream), wire, environment, shared, timer: LazyTimer::new(), began: now };
                tokio::task::spawn_local(task);
            }
            Err(refused) => {
                let (details, reason) = self.count_refused(refused);
                stream.refuse_stream(&self.environment, &mut wire, details, reason);
                ActiveStream::give_back(stream);
            }
        }
    }

    /// A request that no filter sees: its stream is reset. Its details, and what the client is told.
    fn count_refused(&self, refused: Refused) -> (&'static str, ResetReason) {
        match refused {
            Refused::TooMany => {
                self.stats.header_overflow().inc();
                (details::HTTP2_TOO_MANY_HEADERS, ResetReason::ProtocolError)
            }
            Refused::TooLarge => {
                self.stats.header_list_size_too_large().inc();
                (details::HTTP2_HEADER_LIST_TOO_LARGE, ResetReason::ProtocolError)
            }
            Refused::Underscore => {
                self.stats.requests_rejected_with_underscores_in_headers().inc();
                (details::HTTP2_UNEXPECTED_UNDERSCORE, ResetReason::ProtocolError)
            }
            Refused::Malformed => {
                self.stats.rx_messaging_error().inc();
                (details::HTTP2_VIOLATION_OF_MESSAGING_RULE, ResetReason::ProtocolError)
            }
            Refused::NoRoom => {
                self.stats.header_overflow().inc();
                (details::HTTP2_HEADER_LIST_TOO_LARGE, ResetReason::LocalRefusedStreamReset)
            }
        }
    }

    /// Ends a connection whose client opens streams only to reset them.
    fn judge(&mut self, now: Instant, resets: u32) {
        if self.ends_at.is_none() && (self.shared.is_rapid_reset() | self.passes_reset_rate(now, resets)) {
            self.environment.config.stats.manager.downstream_rq_too_many_premature_resets().inc();
            self.end_now(now, true);
            self.shared.wake();
        }
    }

    /// Whether the client reset more streams than `stream_reset_burst` and `stream_reset_rate` let it.
    fn passes_reset_rate(&mut self, now: Instant, resets: u32) -> bool {
        let Some(rate) = self.environment.config.http2.stream_resets else { return false };
        let Some((left, since)) = &mut self.resets else { return false };
        let earned = now.saturating_duration_since(*since).as_secs_f64() * rate.per_second as f64;
        *left = (*left + earned).min(rate.burst as f64) - f64::from(resets);
        *since = now;
        *left < 0.0
    }

    fn failed(&self, error: &ConnectionError) {
        tracing::debug!(target: "http2", "[C{}] connection ended: {error}", self.environment.info.id);
        if !matches!(error, ConnectionError::Io(_)) {
            self.environment.note(|info| info.flags.insert(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR));
        }
        let manager = &self.environment.config.stats.manager;
        match error {
            ConnectionError::Flood(flood) => {
                match flood {
                    Flood::EmptyFrames => self.stats.inbound_empty_frames_flood().inc(),
                    Flood::Priority => self.stats.inbound_priority_frames_flood().inc(),
                    Flood::WindowUpdate => self.stats.inbound_window_update_frames_flood().inc(),
                    Flood::Control => self.stats.outbound_control_flood().inc(),
                    Flood::Useless => self.stats.inbound_useless_frames_flood().inc(),
                }
                manager.downstream_cx_protocol_error().inc();
            }
            ConnectionError::Protocol(_) => manager.downstream_cx_protocol_error().inc(),
            ConnectionError::Io(_) => {}
        }
    }

    /// Tells the client to open no more streams.
    fn tell_end(&mut self, now: Instant) {
        if self.drained.is_none() {
            self.drained = Some(now);
            self.drain_ends = deadline(now, Some(self.environment.config.timeouts.drain));
            self.wire.drain();
            self.shared.wake();
        }
    }

    fn look_at_drain(&mut self, now: Instant) {
        if self.drained.is_none() && (self.drain.is_failing() || self.drain.wants_all(now)) {
            self.environment.config.stats.manager.downstream_cx_drain_close().inc();
            self.tell_end(now);
        }
    }

    /// Ends the connection, or tells the client to open no more streams, if the process is overloaded.
    fn look_at_overload(&mut self, now: Instant) {
        if self.ends_at.is_some() {
            return;
        }
        let env = Rc::clone(&self.environment);
        let is_idle = self.requests > 0 && self.idle_since.is_some();
        if env.sheds(LoadShedPoint::Http2ServerGoAwayAndCloseOnDispatch)
            || is_idle && env.acts(OverloadAction::CloseIdleHttpConnections)
        {
            self.end_now(now, false);
        } else if self.drained.is_none() && env.sheds(LoadShedPoint::Http2ServerGoAwayOnDispatch) {
            self.tell_end(now);
        }
    }

    fn set_waker(&mut self, cx: &Context<'_>) {
        let mut waker = self.shared.waker.borrow_mut();
        if waker.is_none() {
            *waker = Some(cx.waker().clone());
            self.registration.set_waker(cx.waker());
        }
    }

    /// Counts what passed; how many streams the client reset meanwhile.
    fn count(&mut self) -> u32 {
        let meter = self.wire.meter();
        let (received, sent) = meter.bytes();
        let stats = &self.environment.config.stats.manager;
        stats.downstream_cx_rx_bytes_total().add(received - self.counted.0);
        stats.downstream_cx_tx_bytes_total().add(sent - self.counted.1);
        self.counted = (received, sent);
        let (resets_received, resets_sent) = meter.take_resets();
        if resets_received > 0 {
            self.stats.rx_reset().add(u64::from(resets_received));
        }
        if resets_sent > 0 {
            self.stats.tx_reset().add(u64::from(resets_sent));
        }
        let malformed = meter.take_malformed();
        if malformed > 0 {
            self.stats.rx_messaging_error().add(u64::from(malformed));
        }
        let goaways = meter.take_goaways_sent();
        if goaways > 0 {
            self.stats.goaway_sent().add(u64::from(goaways));
        }
        resets_received
    }
}

impl Future for Http2Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let now = this.environment.worker.tick();
        this.step(cx, now)
    }
}

impl Http2Connection {
    /// The connection is over: counts it.
    pub(crate) fn end(&mut self) {
        self.count();
        self.environment.config.stats.manager.downstream_cx_http2_active().sub(1);
        let active = self.shared.open.get() > 0;
        connection::count_end(&self.environment, self.opened, self.local_close, active);
    }
}

/// One request of a connection.
struct Stream {
    stream: Option<Box<ActiveStream>>,
    wire: ServerStream,
    environment: Rc<Environment>,
    shared: Rc<Shared>,
    timer: LazyTimer,
    began: Instant,
}

impl Stream {
    fn over(&mut self, mut stream: Box<ActiveStream>, end: StreamEnd, now: Instant) {
        let premature =
            end == StreamEnd::Gone && stream.sent != Sent::All && now.saturating_duration_since(self.began) < PREMATURE;
        stream.finish(&self.environment, (&mut self.wire).into(), now);
        ActiveStream::give_back(stream);
        if end == StreamEnd::Close {
            self.shared.close.set(true);
        }
        self.shared.stream_over(&self.environment, premature);
    }
}

impl Future for Stream {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let now = this.environment.worker.tick();
        this.environment.worker.works_on(this.environment.info.id);
        let Some(mut stream) = this.stream.take() else { return Poll::Ready(()) };
        loop {
            match stream.poll(&this.environment, (&mut this.wire).into(), cx, now) {
                Poll::Ready(end) => {
                    this.over(stream, end, now);
                    return Poll::Ready(());
                }
                Poll::Pending => {
                    if !this.timer.arm(cx, now, stream.deadline(&this.environment)) {
                        this.stream = Some(stream);
                        return Poll::Pending;
                    }
                    stream.expired(&this.environment, (&mut this.wire).into(), now);
                }
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            stream.abandon(&self.environment, (&mut self.wire).into());
            ActiveStream::give_back(stream);
            self.shared.stream_over(&self.environment, false);
        }
    }
}
