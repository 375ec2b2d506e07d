//! One try of a request: getting a connection, sending, receiving.

use crate::chain::{self, Direction};
use crate::stream::{Driver, Sent};
use bytes::Bytes;
use nuncio_cluster::pool::{Acquire, ConnectFailure, Connecting, PooledConnection, Waited, Waiting};
use nuncio_headers::Known;
use nuncio_http::connection::{BodyPart, RecvError};
use nuncio_http::h1::{ResponseHead, ResponseOptions, request_framing};
use nuncio_http::{Framing, ResetReason, Version};
use nuncio_stream_info::{Protocol, TimePoint};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Where the present try stands.
#[derive(Default)]
pub(crate) enum Attempt {
    /// There is none, or it is over.
    #[default]
    None,
    /// Waiting for another request's connection.
    Waiting(Box<Waiting>),
    /// Waiting for a new connection.
    Connecting(Box<Connecting>),
    /// A connection is at work.
    Active(Box<Active>),
    /// The next try comes then.
    Backoff(Instant),
}

impl Attempt {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Attempt::Backoff(until) => Some(*until),
            Attempt::Active(active) => crate::timer::earlier(active.deadline, active.idle_deadline()),
            _ => None,
        }
    }
}

/// A try that has its connection.
pub(crate) struct Active {
    pub connection: Box<PooledConnection>,
    options: ResponseOptions,
    /// The request's end was handed to the codec.
    pub request_ended: bool,
    /// Bytes of the request went out.
    request_sent: bool,
    /// The final response head was received.
    pub head_received: bool,
    pub started: Instant,
    pub deadline: Option<Instant>,
    idle: Option<Duration>,
    progress: Instant,
}

impl Active {
    pub(super) fn idle_deadline(&self) -> Option<Instant> {
        crate::timer::deadline(self.progress, self.idle)
    }
}

impl Driver<'_> {
    /// Begins a try. `fresh` wants a new connection.
    pub(crate) fn start_attempt(&mut self, fresh: bool) {
        let Some(host) = self.choose_host() else { return };
        let Some(cluster) = self.s.router.cluster.clone() else { return };
        let pool = cluster.pools.of(&cluster.info, &host);
        self.s.info.upstream.set_host(std::sync::Arc::clone(host.info()));
        self.s.router.tried.push(host);
        self.s.info.upstream.attempts += 1;
        self.s.router.begun = Some(self.now);
        match pool.acquire(self.s.router.priority, self.now, fresh) {
            Acquire::Ready(connection) => self.attach(connection),
            Acquire::Connect(connecting) => self.s.router.attempt = Attempt::Connecting(connecting),
            Acquire::Wait(waiting) => self.s.router.attempt = Attempt::Waiting(Box::new(waiting)),
            Acquire::Overflow => self.upstream_reset(ResetReason::Overflow, None),
        }
    }

    /// Sends what there is of the request.
    fn attach(&mut self, connection: Box<PooledConnection>) {
        let now = self.now;
        let info = &mut self.s.info;
        info.upstream.mark_attempted();
        info.upstream.set_connection(connection.id());
        info.upstream.local_address = connection.local_address().cloned();
        info.upstream.remote_address = info.upstream.host().map(|host| host.address.clone());
        info.upstream.protocol = Some(Protocol::Http11);
        if !connection.is_reused() {
            let (began, ended) = connection.connect_times();
            info.mark(TimePoint::UpstreamConnectBegin, began);
            info.mark(TimePoint::UpstreamConnectEnd, ended);
        }
        info.upstream.pool_ready = Some(now.saturating_duration_since(self.s.router.begun.unwrap_or(now)));
        info.mark(TimePoint::UpstreamTxBegin, now);
        let http1 = connection.pool().http1();
        let options = ResponseOptions {
            head_request: self.s.head_request,
            upgrade_request: self.s.upgrade,
            ..http1.response.clone()
        };
        let mut active = Box::new(Active {
            connection,
            options,
            request_ended: false,
            request_sent: false,
            head_received: false,
            started: now,
            deadline: None,
            idle: self.s.router.timeouts.per_try_idle,
            progress: now,
        });
        self.prepare_request_head();
        let router = &mut self.s.router;
        let complete = router.ended && router.kept.chunks.is_empty() && !router.trailers;
        let framing = if self.s.upgrade { Framing::None } else { request_framing(&self.s.request, complete) };
        active.connection.wire.send_head(&self.s.request, framing);
        for chunk in &router.kept.chunks {
            active.connection.wire.send_data(chunk.clone());
        }
        router.kept.given = router.kept.chunks.len();
        router.attempt = Attempt::Active(active);
        if router.ended {
            self.send_request_end();
        }
        if !self.keeps_body() {
            let kept = &mut self.s.router.kept;
            kept.lost |= !kept.chunks.is_empty();
            kept.chunks.clear();
            kept.bytes = 0;
            kept.given = 0;
        }
        self.arm_try_timeout();
    }

    /// Moves the upstream side as far as it can. Tells whether something moved.
    pub(crate) fn poll_router(&mut self, cx: &mut Context<'_>) -> bool {
        let now = self.now;
        match &mut self.s.router.attempt {
            Attempt::None | Attempt::Backoff(_) => false,
            Attempt::Connecting(connecting) => {
                let Poll::Ready(outcome) = connecting.poll(cx, now) else { return false };
                self.s.router.attempt = Attempt::None;
                match outcome {
                    Ok(connection) => self.attach(connection),
                    Err(failure) => self.connect_failed(failure),
                }
                true
            }
            Attempt::Waiting(waiting) => {
                let Poll::Ready(outcome) = waiting.poll(cx, now) else { return false };
                let pool = std::rc::Rc::clone(waiting.pool());
                self.s.router.attempt = Attempt::None;
                match outcome {
                    Waited::Ready(connection) => self.attach(connection),
                    Waited::Again => match pool.acquire(self.s.router.priority, now, false) {
                        Acquire::Ready(connection) => self.attach(connection),
                        Acquire::Connect(connecting) => self.s.router.attempt = Attempt::Connecting(connecting),
                        Acquire::Wait(waiting) => self.s.router.attempt = Attempt::Waiting(Box::new(waiting)),
                        Acquire::Overflow => self.upstream_reset(ResetReason::Overflow, None),
                    },
                }
                true
            }
            Attempt::Active(_) => self.poll_active(cx),
        }
    }

    fn poll_active(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        if let Attempt::Active(active) = &mut self.s.router.attempt {
            let before = active.connection.wire.buffered();
            let flushed = active.connection.wire.poll_flush(cx);
            if before > active.connection.wire.buffered() {
                active.progress = self.now;
                active.request_sent = true;
                self.s.progress = self.now;
                moved = !self.s.received;
            }
            if active.request_ended && before > 0 && flushed.is_ready() {
                self.s.info.mark(TimePoint::UpstreamTxEnd, self.now);
            }
            // A peer that stopped reading may still have answered: what it sent is read before the failure counts.
        }
        loop {
            let Attempt::Active(active) = &mut self.s.router.attempt else { return true };
            if !active.head_received {
                match active.connection.wire.poll_head(cx, &active.options, &mut self.s.response) {
                    Poll::Ready(Ok(head)) => self.response_head(head),
                    Poll::Ready(Err(error)) => self.receive_failed(error),
                    Poll::Pending => return moved,
                }
                moved = true;
                continue;
            }
            if !self.s.response_side.is_open() || self.wire.buffered() >= self.env.buffer_limit {
                return moved;
            }
            match active.connection.wire.poll_body(cx, &mut self.s.response_trailers) {
                Poll::Ready(Ok(part)) => self.response_part(part),
                Poll::Ready(Err(error)) => self.receive_failed(error),
                Poll::Pending => return moved,
            }
            moved = true;
        }
    }

    fn response_head(&mut self, head: ResponseHead) {
        let now = self.now;
        self.progressed();
        if let Attempt::Active(active) = &mut self.s.router.attempt {
            active.progress = now;
        }
        self.s.info.mark_first(TimePoint::UpstreamRxBegin, now);
        if head.upgrade {
            return self.upgraded(head);
        }
        if head.status < 200 {
            return self.informational(head.status);
        }
        if let Attempt::Active(active) = &mut self.s.router.attempt {
            active.head_received = true;
            if head.version == Version::Http10 {
                self.s.info.upstream.protocol = Some(Protocol::Http10);
            }
        }
        self.s.info.upstream_bytes.header_received += u64::from(head.head_bytes);
        let last = head.framing.is_empty() || self.s.head_request;
        self.upstream_response(head.status, last);
    }

    /// 1xx: passed on if the client wants to see it.
    fn informational(&mut self, status: u16) {
        if self.env.config.proxy_100_continue && self.s.sent == Sent::Nothing {
            self.s.expects_continue &= status != 100;
            self.wire.send_informational(&self.s.response);
            self.charge_status(status);
            self.env.count_response(status);
        }
        self.s.response.clear();
    }

    /// The upstream accepted the upgrade: from here on both bodies are raw bytes.
    fn upgraded(&mut self, head: ResponseHead) {
        self.s.tunnel = true;
        self.wire.tunnel();
        if let Attempt::Active(active) = &mut self.s.router.attempt {
            active.head_received = true;
            active.connection.wire.tunnel();
        }
        self.s.router.kept.lost = true;
        self.s.router.response_deadline = None;
        self.upstream_response(head.status, false);
    }

    fn response_part(&mut self, part: BodyPart) {
        self.progressed();
        let now = self.now;
        if let Attempt::Active(active) = &mut self.s.router.attempt {
            active.progress = now;
        }
        let (flow, last) = match part {
            BodyPart::Data { start, end, consumed, last } => {
                self.s.info.mark_first(TimePoint::UpstreamRxBodyBegin, now);
                if self.s.response_side.is_transparent() {
                    self.forward_response(start, end, consumed, last);
                    if last {
                        self.response_complete();
                    }
                    return;
                }
                let Attempt::Active(active) = &mut self.s.router.attempt else { return };
                let chunk = active.connection.wire.take_body(start, end, consumed);
                if last {
                    self.response_complete();
                }
                (chain::data(self, Direction::Response, chunk, last), last)
            }
            // A tunnel has no end of its own: it ends when either side closes.
            BodyPart::End { .. } if self.s.tunnel => return self.receive_failed(RecvError::Closed),
            BodyPart::End { trailers } => {
                self.response_complete();
                let flow = if trailers {
                    chain::trailers(self, Direction::Response)
                } else {
                    chain::data(self, Direction::Response, Bytes::new(), true)
                };
                (flow, true)
            }
        };
        let _ = last;
        self.apply(flow);
    }

    /// Moves a piece of the response straight from one connection to the other.
    fn forward_response(&mut self, start: usize, end: usize, consumed: usize, last: bool) {
        let Attempt::Active(active) = &mut self.s.router.attempt else { return };
        self.s.info.bytes_sent += (end - start) as u64;
        active.connection.wire.forward_body(start, end, consumed, self.wire);
        if last {
            self.s.response_side.ended = true;
            self.wire.send_end(None);
            self.s.sent = Sent::All;
        }
    }

    /// The response was received to its end: the connection goes back to its pool.
    pub(super) fn response_complete(&mut self) {
        self.s.info.mark(TimePoint::UpstreamRxEnd, self.now);
        self.s.router.response_deadline = None;
        self.charge_response_time();
        if let Attempt::Active(active) = std::mem::take(&mut self.s.router.attempt) {
            let (received, sent) = active.connection.wire.wire_bytes();
            let bytes = &mut self.s.info.upstream_bytes;
            bytes.wire_received = received;
            bytes.wire_sent = sent;
            active.connection.release(self.now);
        }
        self.s.request_stopped |= !self.s.received;
    }

    fn receive_failed(&mut self, error: RecvError) {
        let Attempt::Active(active) = &mut self.s.router.attempt else { return };
        let (reason, detail) = match &error {
            RecvError::Codec(codec) => (ResetReason::ProtocolError, Some(codec.details)),
            RecvError::Closed | RecvError::Truncated | RecvError::Io(_) => {
                active.connection.closed_by_peer();
                (ResetReason::ConnectionTermination, None)
            }
        };
        let lost_race = active.connection.is_reused() && !active.head_received && !active.connection.wire.has_input();
        if lost_race && reason == ResetReason::ConnectionTermination && self.replay() {
            return;
        }
        if reason == ResetReason::ProtocolError
            && let Some(cluster) = &self.s.router.cluster
        {
            cluster.info.stats.upstream_cx_protocol_error().inc();
        }
        self.upstream_reset(reason, detail.map(std::sync::Arc::from));
    }

    /// A reused connection closed before any byte of the response: the upstream's idle timeout met the request. What
    /// is safe to send twice (RFC 9110 §9.2.2) is sent again on a new connection, once, without counting as a retry.
    fn replay(&mut self) -> bool {
        let idempotent = matches!(
            self.s.request.get(Known::METHOD),
            Some(b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE" | b"TRACE")
        );
        if self.s.router.replayed || !idempotent || self.s.router.kept.lost || self.s.upgrade {
            return false;
        }
        self.s.router.replayed = true;
        self.s.router.attempt = Attempt::None;
        self.s.router.tried.pop();
        self.s.info.upstream.attempts = self.s.info.upstream.attempts.saturating_sub(1);
        self.start_attempt(true);
        true
    }

    fn connect_failed(&mut self, failure: ConnectFailure) {
        if failure.overflow {
            return self.upstream_reset(ResetReason::Overflow, None);
        }
        self.s.info.upstream.transport_failure_reason = Some(std::sync::Arc::clone(&failure.reason));
        let reason = match (failure.timeout, failure.local) {
            (true, _) => ResetReason::ConnectionTimeout,
            (false, true) => ResetReason::LocalConnectionFailure,
            (false, false) => ResetReason::RemoteConnectionFailure,
        };
        self.upstream_reset(reason, Some(failure.reason));
    }

    /// Ends the upstream side, whatever it is doing.
    pub(crate) fn cancel_upstream(&mut self) {
        let attempt = std::mem::take(&mut self.s.router.attempt);
        let was_running = !matches!(attempt, Attempt::None);
        if let (true, Some(cluster)) = (was_running, &self.s.router.cluster) {
            match attempt {
                Attempt::Active(_) => cluster.info.stats.upstream_rq_tx_reset().inc(),
                Attempt::Connecting(_) | Attempt::Waiting(_) => cluster.info.stats.upstream_rq_cancelled().inc(),
                _ => {}
            }
        }
        self.release_retry();
        self.s.router.response_deadline = None;
    }

    /// Whether bytes of the request were sent in the present try.
    pub(super) fn request_was_sent(&self) -> bool {
        matches!(&self.s.router.attempt, Attempt::Active(active) if active.request_sent)
    }
}
