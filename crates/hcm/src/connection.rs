//! One downstream connection: which protocol it speaks; of HTTP/1 its requests one after the other, its timers, its end.

use crate::config::CodecType;
use crate::config::HcmConfig;
use crate::environment::Environment;
use crate::http2::Http2Connection;
use crate::stream::{ActiveStream, StreamEnd, protocol};
use crate::timer::{LazyTimer, deadline, earlier};
use nuncio_filter::{Connection, Drain, LoadShedPoint, OverloadAction, Registration, ScaledTimer};
use nuncio_http::connection::{RecvError, ServerConnection};
use nuncio_http::h1::RequestHead;
use nuncio_stream_info::ResponseFlags;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Where a connection stands.
enum State {
    /// Between requests, or inside a request head; since when.
    Idle { since: Instant, head_started: Option<Instant> },
    /// A request is being served.
    Active(Box<ActiveStream>),
    /// The last response was sent; what is left to write goes out, then the client has until the deadline to close.
    Closing { deadline: Option<Instant>, shut: bool },
}

/// Serves a connection until it is over, whatever it speaks.
pub(crate) struct HttpConnection(Protocol);

/// What a connection speaks.
// The larger variant is the common one: it lies in the future of its connection, without an allocation.
#[allow(clippy::large_enum_variant)]
enum Protocol {
    /// HTTP/1, or nothing yet that tells.
    Http1(Http1Connection),
    /// HTTP/2.
    Http2(Box<Http2Connection>),
    /// Nothing: while it changes from the one to the other.
    Changing,
}

impl HttpConnection {
    pub(crate) fn new(config: Arc<HcmConfig>, connection: Connection) -> HttpConnection {
        let agreed = connection.negotiated_protocol.as_deref();
        let codec = match (config.codec, agreed) {
            (CodecType::Auto, Some("h2")) => CodecType::Http2,
            (CodecType::Auto, Some("http/1.1" | "http/1.0")) => CodecType::Http1,
            (codec, _) => codec,
        };
        let connection = Http1Connection::new(config, connection, codec == CodecType::Auto);
        match codec {
            CodecType::Http2 => HttpConnection(Protocol::Http2(connection.into_http2())),
            CodecType::Auto | CodecType::Http1 => HttpConnection(Protocol::Http1(connection)),
        }
    }
}

impl Future for HttpConnection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            match &mut this.0 {
                Protocol::Http1(connection) => match ready!(connection.poll(cx)) {
                    Outcome::Over => return Poll::Ready(()),
                    Outcome::Http2 => {
                        if let Protocol::Http1(connection) = std::mem::replace(&mut this.0, Protocol::Changing) {
                            this.0 = Protocol::Http2(connection.into_http2());
                        }
                    }
                },
                Protocol::Http2(connection) => return Pin::new(connection.as_mut()).poll(cx),
                Protocol::Changing => return Poll::Ready(()),
            }
        }
    }
}

impl Drop for HttpConnection {
    fn drop(&mut self) {
        match &mut self.0 {
            Protocol::Http1(connection) => connection.end(),
            Protocol::Http2(connection) => connection.end(),
            Protocol::Changing => {}
        }
    }
}

/// What an HTTP/1 connection came to.
enum Outcome {
    /// Its end.
    Over,
    /// The client turned out to speak HTTP/2.
    Http2,
}

/// Serves an HTTP/1 connection.
pub(crate) struct Http1Connection {
    wire: ServerConnection,
    /// The first bytes decide the protocol.
    detect: bool,
    environment: Environment,
    registration: Registration,
    drain: Rc<Drain>,
    state: State,
    timer: LazyTimer,
    opened: Instant,
    requests: u32,
    draining: bool,
    /// Decides about the present request of a connection that drains: 1 to 10,000; 0 if it was not drawn yet.
    draw: u16,
    counted: (u64, u64),
    waker_set: bool,
    local_close: bool,
    /// The codec was made: the first byte came.
    codec: bool,
    /// The client left a request that was being served.
    left_active: bool,
    /// When the connection was first seen idle while it should end.
    drain_seen: Option<Instant>,
    /// The time that the connection may live has passed, and was counted.
    overaged: bool,
}

impl Http1Connection {
    fn new(config: Arc<HcmConfig>, connection: Connection, detect: bool) -> Http1Connection {
        let Connection { transport, info, worker, drain, registration, buffer_limit, log, overload, .. } = connection;
        let wire =
            ServerConnection::new(transport, Arc::clone(&config.request_options), config.trailers, config.spelling);
        let now = worker.tick();
        let stats = &config.stats.manager;
        stats.downstream_cx_total().inc();
        stats.downstream_cx_active().add(1);
        if info.tls.is_some() {
            stats.downstream_cx_ssl_total().inc();
            stats.downstream_cx_ssl_active().add(1);
        }
        Http1Connection {
            wire,
            detect,
            environment: Environment::new(config, worker, (info, log), overload, buffer_limit),
            registration,
            drain,
            state: State::Idle { since: now, head_started: None },
            timer: LazyTimer::new(),
            opened: now,
            requests: 0,
            draining: false,
            draw: 0,
            counted: (0, 0),
            waker_set: false,
            local_close: false,
            codec: false,
            left_active: false,
            drain_seen: None,
            overaged: false,
        }
    }

    /// The first byte decides the codec; there is one only.
    fn count_codec(&mut self) {
        if !std::mem::replace(&mut self.codec, true) {
            let stats = &self.environment.config.stats.manager;
            stats.downstream_cx_http1_total().inc();
            stats.downstream_cx_http1_active().add(1);
        }
    }

    /// Moves as far as it can. `Ready` is the end of the connection.
    fn step(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Outcome> {
        if self.registration.must_close() {
            self.local_close = true;
            return Poll::Ready(Outcome::Over);
        }
        loop {
            let state = std::mem::replace(&mut self.state, State::Closing { deadline: None, shut: false });
            let poll = match state {
                State::Idle { since, head_started } => self.poll_idle(cx, now, since, head_started),
                State::Active(stream) => self.poll_active(cx, now, stream),
                State::Closing { deadline, shut } => self.poll_closing(cx, now, deadline, shut),
            };
            match poll {
                Poll::Ready(Next::Again) => {}
                Poll::Ready(Next::Over) => return Poll::Ready(Outcome::Over),
                Poll::Ready(Next::Http2) => return Poll::Ready(Outcome::Http2),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_idle(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        since: Instant,
        head_started: Option<Instant>,
    ) -> Poll<Next> {
        if self.detect {
            match self.wire.poll_preface(cx) {
                Poll::Ready(Ok(true)) if self.environment.refuses_codec() => return Poll::Ready(Next::Over),
                Poll::Ready(Ok(true)) => return Poll::Ready(Next::Http2),
                Poll::Ready(Ok(false)) => self.detect = false,
                Poll::Ready(Err(_)) => return Poll::Ready(Next::Over),
                Poll::Pending => {
                    let head_started = head_started.or_else(|| self.wire.has_input().then_some(now));
                    return self.wait_for_head(cx, now, since, head_started);
                }
            }
        }
        let mut stream = ActiveStream::take(&self.environment);
        match self.wire.poll_head(cx, stream.request_mut()) {
            Poll::Ready(Ok(head)) if self.environment.overload.is_some() => {
                self.begin_unless_overloaded(stream, head, now, head_started)
            }
            Poll::Ready(Ok(head)) => self.begin(stream, head, now, head_started),
            Poll::Ready(Err(RecvError::Codec(error))) => {
                self.count_codec();
                let manager = &self.environment.config.stats.manager;
                manager.downstream_cx_protocol_error().inc();
                self.environment.note(|info| info.flags.insert(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR));
                self.count_request();
                self.draining = true;
                stream.refuse(&self.environment, (&mut self.wire).into(), &error, head_started.unwrap_or(now));
                self.state = State::Active(stream);
                Poll::Ready(Next::Again)
            }
            Poll::Ready(Err(_)) => {
                ActiveStream::give_back(stream);
                Poll::Ready(Next::Over)
            }
            Poll::Pending => {
                ActiveStream::give_back(stream);
                let head_started = head_started.or_else(|| self.wire.has_input().then_some(now));
                if head_started.is_some() {
                    self.count_codec();
                }
                self.wait_for_head(cx, now, since, head_started)
            }
        }
    }

    /// Nothing to parse yet: the connection waits under its idle and head timers.
    fn wait_for_head(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        since: Instant,
        head_started: Option<Instant>,
    ) -> Poll<Next> {
        let timeouts = self.environment.config.timeouts;
        let at = match head_started {
            Some(started) => {
                earlier(deadline(started, timeouts.request_headers), deadline(started, timeouts.stream_idle))
            }
            None => deadline(since, self.environment.timeout(ScaledTimer::ConnectionIdle, timeouts.idle)),
        };
        let drained = if head_started.is_none() { self.idle_drain_deadline(now) } else { None };
        let idle_unwanted =
            self.codec && head_started.is_none() && self.environment.acts(OverloadAction::CloseIdleHttpConnections);
        if idle_unwanted {
            self.local_close = true;
            return self.close(now, Duration::ZERO);
        }
        let stats = &self.environment.config.stats.manager;
        let at = earlier(earlier(at, self.duration_deadline()), drained);
        if self.timer.arm(cx, now, at) {
            let reached = |at: Option<Instant>| at.is_some_and(|at| at <= now);
            if reached(drained) {
                stats.downstream_cx_drain_close().inc();
            } else if reached(self.duration_deadline()) && head_started.is_none() {
                if !self.overaged {
                    stats.downstream_cx_max_duration_reached().inc();
                }
            } else if let Some(started) = head_started {
                if reached(deadline(started, timeouts.request_headers)) {
                    stats.downstream_rq_header_timeout().inc();
                } else {
                    stats.downstream_rq_idle_timeout().inc();
                }
                return self.refuse_slow(now, started);
            } else {
                stats.downstream_cx_idle_timeout().inc();
            }
            self.local_close = true;
            return self.close(now, Duration::ZERO);
        }
        self.set_waker(cx);
        self.state = State::Idle { since, head_started };
        Poll::Pending
    }

    /// A head that does not come to its end in time is answered 408.
    fn refuse_slow(&mut self, now: Instant, started: Instant) -> Poll<Next> {
        self.count_request();
        self.draining = true;
        let mut stream = ActiveStream::take(&self.environment);
        stream.refuse_slow(&self.environment, (&mut self.wire).into(), started, now);
        self.state = State::Active(stream);
        Poll::Ready(Next::Again)
    }

    /// Begins a request, or sheds it before anything looks at it.
    fn begin_unless_overloaded(
        &mut self,
        mut stream: Box<ActiveStream>,
        head: RequestHead,
        now: Instant,
        head_started: Option<Instant>,
    ) -> Poll<Next> {
        let env = &self.environment;
        if (!self.codec && env.refuses_codec()) || env.sheds(LoadShedPoint::Http2ServerGoAwayAndCloseOnDispatch) {
            ActiveStream::give_back(stream);
            self.local_close = true;
            return Poll::Ready(Next::Over);
        }
        if env.sheds(LoadShedPoint::Http1ServerAbortDispatch) {
            self.count_codec();
            self.count_request();
            self.draining = true;
            stream.refuse_overloaded(&self.environment, (&mut self.wire).into(), head_started.unwrap_or(now));
            self.state = State::Active(stream);
            return Poll::Ready(Next::Again);
        }
        self.draining |= env.sheds(LoadShedPoint::Http2ServerGoAwayOnDispatch);
        self.begin(stream, head, now, head_started)
    }

    fn begin(
        &mut self,
        mut stream: Box<ActiveStream>,
        head: RequestHead,
        now: Instant,
        head_started: Option<Instant>,
    ) -> Poll<Next> {
        self.count_codec();
        self.count_request();
        self.environment.note(|info| info.protocol = Some(protocol(head.version)));
        let config = Arc::clone(&self.environment.config);
        if config.max_requests_per_connection > 0
            && self.requests >= config.max_requests_per_connection
            && !self.draining
        {
            self.draining = true;
            config.stats.manager.downstream_cx_max_requests_reached().inc();
        }
        self.draw = 0;
        self.end_if_told(now);
        let close = self.must_drain(now);
        stream.begin(&self.environment, (&mut self.wire).into(), head, head_started.unwrap_or(now), close);
        self.state = State::Active(stream);
        Poll::Ready(Next::Again)
    }

    fn poll_active(&mut self, cx: &mut Context<'_>, now: Instant, mut stream: Box<ActiveStream>) -> Poll<Next> {
        if !stream.is_answered() {
            self.end_if_told(now);
            if self.must_drain(now) {
                stream.close_after();
            }
        }
        match stream.poll(&self.environment, (&mut self.wire).into(), cx, now) {
            Poll::Ready(end) => {
                stream.finish(&self.environment, (&mut self.wire).into(), now);
                ActiveStream::give_back(stream);
                self.count_bytes();
                match end {
                    StreamEnd::KeepAlive => {
                        self.wire.finish_exchange();
                        self.state = State::Idle { since: now, head_started: None };
                        Poll::Ready(Next::Again)
                    }
                    StreamEnd::Close => {
                        self.local_close = true;
                        let wait = self.environment.config.timeouts.delayed_close.unwrap_or(Duration::ZERO);
                        self.close(now, wait)
                    }
                    StreamEnd::Reset => {
                        self.local_close = true;
                        let wait = self.environment.config.timeouts.delayed_close.unwrap_or(Duration::ZERO);
                        self.close(now, wait)
                    }
                    StreamEnd::Gone => {
                        self.left_active = true;
                        Poll::Ready(Next::Over)
                    }
                }
            }
            Poll::Pending => {
                if self.timer.arm(cx, now, stream.deadline(&self.environment)) {
                    stream.expired(&self.environment, (&mut self.wire).into(), now);
                    self.state = State::Active(stream);
                    return Poll::Ready(Next::Again);
                }
                self.set_waker(cx);
                self.state = State::Active(stream);
                Poll::Pending
            }
        }
    }

    /// Ends the connection. With a `wait`, the client may take that long to read what is left, and to close; zero is
    /// without limit for the first and no time for the second (`delayed_close_timeout`).
    fn close(&mut self, now: Instant, wait: Duration) -> Poll<Next> {
        let deadline = if wait.is_zero() { None } else { now.checked_add(wait) };
        self.state = State::Closing { deadline, shut: false };
        Poll::Ready(Next::Again)
    }

    /// Writes what is left, then lets the client close first, so that the response is not lost to a reset. The time starts
    /// anew whenever the client takes something.
    fn poll_closing(&mut self, cx: &mut Context<'_>, now: Instant, until: Option<Instant>, shut: bool) -> Poll<Next> {
        let (mut until, mut shut) = (until, shut);
        if !shut {
            let before = self.wire.buffered();
            match self.wire.poll_shutdown(cx) {
                Poll::Ready(Ok(())) => shut = true,
                Poll::Ready(Err(_)) => return Poll::Ready(Next::Over),
                Poll::Pending => {}
            }
            if self.wire.buffered() < before && until.is_some() {
                until = deadline(now, self.environment.config.timeouts.delayed_close);
            }
        }
        if shut && (until.is_none() || self.wire.poll_discard(cx).is_ready()) {
            return Poll::Ready(Next::Over);
        }
        if until.is_some_and(|until| until <= now) || self.timer.arm(cx, now, until) {
            self.environment.config.stats.manager.downstream_cx_delayed_close_timeout().inc();
            self.environment
                .note(|info| info.downstream_local_close_reason = Some("triggered_delayed_close_timeout".into()));
            return Poll::Ready(Next::Over);
        }
        self.set_waker(cx);
        self.state = State::Closing { deadline: until, shut };
        Poll::Pending
    }

    /// The connection ends with the present response while health checks of the process fail on purpose, and when the
    /// listener drains and it is this one's turn. One draw per request: the share that is told grows with the time.
    fn end_if_told(&mut self, now: Instant) {
        if self.draining {
            return;
        }
        let told = self.drain.is_draining() && {
            if self.draw == 0 {
                self.draw = (self.environment.worker.random() % 10_000) as u16 + 1;
            }
            self.drain.wants_end(now, u64::from(self.draw) - 1)
        };
        if told || self.drain.is_failing() {
            self.draining = true;
            self.environment.config.stats.manager.downstream_cx_drain_close().inc();
        }
        self.draining |= self.environment.disables_keepalive();
    }

    /// When an idle connection is closed that should end. Until then its next request may come, and is told so in the
    /// response: a connection that closes at once may meet a request that is on its way.
    fn idle_drain_deadline(&mut self, now: Instant) -> Option<Instant> {
        if !self.drain.wants_all(now) {
            return None;
        }
        let since = *self.drain_seen.get_or_insert(now);
        deadline(since, Some(self.environment.config.timeouts.drain))
    }

    fn must_drain(&mut self, now: Instant) -> bool {
        if !self.overaged && self.duration_deadline().is_some_and(|at| at <= now) {
            self.overaged = true;
            self.environment.config.stats.manager.downstream_cx_max_duration_reached().inc();
        }
        self.draining || self.overaged
    }

    fn duration_deadline(&self) -> Option<Instant> {
        let longest = self.environment.config.timeouts.max_connection_duration;
        deadline(self.opened, self.environment.timeout(ScaledTimer::ConnectionMax, longest))
    }

    fn set_waker(&mut self, cx: &Context<'_>) {
        if !self.waker_set {
            self.registration.set_waker(cx.waker());
            self.waker_set = true;
        }
    }

    fn count_request(&mut self) {
        self.requests = self.requests.saturating_add(1);
        let stats = &self.environment.config.stats.manager;
        stats.downstream_rq_total().inc();
        stats.downstream_rq_http1_total().inc();
    }

    fn count_bytes(&mut self) {
        let (received, sent) = self.wire.wire_bytes();
        let stats = &self.environment.config.stats.manager;
        stats.downstream_cx_rx_bytes_total().add(received - self.counted.0);
        stats.downstream_cx_tx_bytes_total().add(sent - self.counted.1);
        self.counted = (received, sent);
    }
}

/// What a step leads to.
enum Next {
    /// Another step.
    Again,
    /// The end of the connection.
    Over,
    /// The client speaks HTTP/2.
    Http2,
}

impl Http1Connection {
    #[inline]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let now = self.environment.worker.tick();
        self.environment.worker.works_on(self.environment.info.id);
        self.step(cx, now)
    }

    fn into_http2(self) -> Box<Http2Connection> {
        self.environment.note(|info| info.protocol = Some(nuncio_stream_info::Protocol::Http2));
        let (transport, before) = self.wire.into_parts();
        let ends = (self.registration, self.drain);
        Box::new(Http2Connection::new(transport, before, self.environment, ends, self.opened))
    }

    /// The connection is over: ends what it was doing, and counts it.
    fn end(&mut self) {
        let active = self.left_active || matches!(self.state, State::Active(_));
        if let State::Active(mut stream) =
            std::mem::replace(&mut self.state, State::Closing { deadline: None, shut: false })
        {
            stream.abandon(&self.environment, (&mut self.wire).into());
            ActiveStream::give_back(stream);
        }
        self.count_bytes();
        if self.codec {
            self.environment.config.stats.manager.downstream_cx_http1_active().sub(1);
        }
        count_end(&self.environment, self.opened, self.local_close, active);
    }
}

/// Counts the end of a connection. `local`: this side ended it; `active`: with requests that were being served.
pub(crate) fn count_end(environment: &Environment, opened: Instant, local: bool, active: bool) {
    let now = environment.worker.tick();
    let stats = &environment.config.stats.manager;
    stats.downstream_cx_active().sub(1);
    if environment.info.tls.is_some() {
        stats.downstream_cx_ssl_active().sub(1);
    }
    stats.downstream_cx_destroy().inc();
    if local {
        stats.downstream_cx_destroy_local().inc();
    } else {
        stats.downstream_cx_destroy_remote().inc();
    }
    if active {
        stats.downstream_cx_destroy_active_rq().inc();
        if local {
            stats.downstream_cx_destroy_local_active_rq().inc();
        } else {
            stats.downstream_cx_destroy_remote_active_rq().inc();
        }
    }
    let length = now.saturating_duration_since(opened);
    stats.downstream_cx_length_ms().record(length.as_millis() as u64);
}
