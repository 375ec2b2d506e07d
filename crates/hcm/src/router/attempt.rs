//! One try of a request: getting a connection, sending, receiving.

use crate::chain::{self, Direction};
use crate::stream::{Driver, Sent};
use bytes::Bytes;
use nuncio_cluster::config::AutoSni;
use nuncio_cluster::pool::{Acquire, ConnectFailure, Connecting, PoolKey, PooledConnection, Waited, Waiting};
use nuncio_headers::{HeaderMap, Known};
use nuncio_http::connection::{BodyPart, RecvError};
use nuncio_http::h1::{ResponseHead, ResponseOptions, request_framing};
use nuncio_http::{Framing, ResetReason, Version};
use nuncio_stream_info::{FilterState, Protocol, TimePoint};
use std::sync::Arc;
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
            Attempt::Active(active) => {
                crate::timer::earlier(active.life_ends, crate::timer::earlier(active.deadline, active.idle_deadline()))
            }
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
    pub deadline: Option<Instant>,
    /// When the cluster's `max_stream_duration` is over.
    pub life_ends: Option<Instant>,
    /// What the connection had received and sent before, in bytes.
    wire_before: (u64, u64),
    idle: Option<Duration>,
    progress: Instant,
    /// The upstream has not taken as much of the request as may wait for it.
    backed_up: bool,
    /// The client has not taken as much of the response as may wait for it: the upstream is not read.
    paused: bool,
}

impl Active {
    /// Whether the upstream has to take some of the request before more is read.
    pub(super) fn is_backed_up(&self) -> bool {
        self.backed_up
    }

    pub(super) fn idle_deadline(&self) -> Option<Instant> {
        crate::timer::deadline(self.progress, self.idle)
    }
}

/// The host that the request is for, without port; none if it is an address, for which TLS has no name (RFC 6066 §3).
fn server_name(auto: &AutoSni, request: &HeaderMap) -> Option<Arc<str>> {
    let named = auto.header.as_ref().and_then(|name| request.get_name(name)).filter(|value| !value.is_empty());
    let host = std::str::from_utf8(named.or_else(|| request.get(Known::AUTHORITY))?).ok()?;
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let is_address = name.starts_with('[') || name.parse::<std::net::IpAddr>().is_ok();
    (!name.is_empty() && !is_address).then(|| name.to_ascii_lowercase().into())
}

impl Driver<'_> {
    /// Begins a try. `fresh` wants a new connection.
    pub(crate) fn start_attempt(&mut self, fresh: bool) {
        self.s.info.upstream.attempts += 1;
        let Some(host) = self.choose_host() else { return };
        let Some(cluster) = self.s.router.cluster.clone() else { return };
        let wanted = cluster.info.config.http.protocol;
        let key = PoolKey::new(wanted, self.s.router.priority, self.s.version);
        let key = match &cluster.info.config.http.auto_sni {
            Some(auto) => key.for_server(server_name(auto, &self.s.request)),
            None => key,
        };
        let tells = cluster.info.config.transports.as_ref().is_some_and(|transports| transports.use_proxy_protocol());
        let client = self.s.info.connection.as_ref().filter(|_| tells).map(|client| client.proxied_addresses());
        let protocols = self.s.info.filter_state.application_protocols();
        let pool = cluster.pools.of(&cluster.info, &host, key.for_client(client).offering(protocols));
        self.s.router.begun = Some(self.now);
        let acquired =
            if self.s.router.terminates { pool.acquire_raw(self.now) } else { pool.acquire(self.now, fresh) };
        if !matches!(acquired, Acquire::PendingOverflow) {
            self.s.info.upstream.set_host(std::sync::Arc::clone(host.info()));
        }
        self.s.router.tried.push(host);
        self.acquired(acquired);
    }

    fn acquired(&mut self, acquired: Acquire) {
        match acquired {
            Acquire::Ready(connection) => self.attach(connection),
            Acquire::Connect(connecting) => self.s.router.attempt = Attempt::Connecting(connecting),
            Acquire::Wait(waiting) => self.s.router.attempt = Attempt::Waiting(Box::new(waiting)),
            Acquire::Overflow | Acquire::PendingOverflow => self.upstream_reset(ResetReason::Overflow, None),
        }
    }

    /// Sends what there is of the request.
    fn attach(&mut self, connection: Box<PooledConnection>) {
        let now = self.now;
        let info = &mut self.s.info;
        info.upstream.mark_attempted();
        info.upstream.set_connection(connection.id());
        info.upstream.local_address = connection.local_address().cloned();
        info.upstream.tls = connection.tls().cloned();
        info.upstream.filter_state = FilterState::on_connection(connection.filter_state().clone());
        info.upstream.remote_address = info.upstream.host().map(|host| host.address.clone());
        let multiplexed = connection.wire.is_multiplexed();
        info.upstream.protocol = Some(if multiplexed { Protocol::Http2 } else { Protocol::Http11 });
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
            connect_request: self.s.upgrade && self.s.request.get(Known::METHOD) == Some(b"CONNECT"),
            ..http1.response.clone()
        };
        let longest = connection.pool().cluster().config.http.max_stream_duration;
        let life_ends = crate::timer::deadline(now, longest.filter(|longest| !longest.is_zero()));
        let wire_before = connection.wire.wire_bytes();
        let mut active = Box::new(Active {
            wire_before,
            connection,
            options,
            request_ended: false,
            request_sent: false,
            head_received: false,
            deadline: None,
            life_ends,
            idle: self.s.router.timeouts.per_try_idle,
            progress: now,
            backed_up: false,
            paused: false,
        });
        self.each_request_stat(|stats| stats.upstream_rq_total().inc());
        self.prepare_request_head();
        let router = &mut self.s.router;
        let complete = router.ended && router.kept.chunks.is_empty() && !router.trailers;
        let framing = if self.s.upgrade { Framing::None } else { request_framing(&self.s.request, complete) };
        let sent = active.connection.wire.send_head(&self.s.request, framing);
        self.s.info.upstream_bytes.header_sent = sent as u64;
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
                    Waited::Overflow => self.upstream_reset(ResetReason::Overflow, None),
                    Waited::Failed(failure) => self.connect_failed(failure),
                    Waited::Again => {
                        let acquired = pool.acquire(now, false);
                        self.acquired(acquired);
                    }
                }
                true
            }
            Attempt::Active(_) => self.poll_active(cx),
        }
    }

    fn poll_active(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        self.count_backed_up();
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
        self.count_backed_up();
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
            if !self.s.response_side.is_open() || self.is_paused() {
                return moved;
            }
            let Attempt::Active(active) = &mut self.s.router.attempt else { return true };
            match active.connection.wire.poll_body(cx, &mut self.s.response_trailers) {
                Poll::Ready(Ok(part)) => self.response_part(part),
                Poll::Ready(Err(error)) => self.receive_failed(error),
                Poll::Pending => return moved,
            }
            moved = true;
        }
    }

    /// Whether the client has to take some of the response before more is read. Above the limit reading pauses, below
    /// half of it goes on.
    pub(crate) fn is_paused(&mut self) -> bool {
        let (waiting, limit) = (self.wire.buffered(), self.env.buffer_limit());
        let (Attempt::Active(active), Some(cluster)) = (&mut self.s.router.attempt, &self.s.router.cluster) else {
            return false;
        };
        let stats = &cluster.info.stats;
        if active.paused && waiting <= limit / 2 {
            active.paused = false;
            stats.upstream_flow_control_resumed_reading_total().inc();
        } else if !active.paused && waiting > 0 && waiting >= limit {
            active.paused = true;
            stats.upstream_flow_control_paused_reading_total().inc();
        }
        active.paused
    }

    /// Whether reading of the upstream is paused, and the client has since taken what it was paused for.
    pub(crate) fn may_resume(&self) -> bool {
        matches!(&self.s.router.attempt, Attempt::Active(active) if active.paused)
            && self.s.response_side.is_open()
            && self.wire.buffered() <= self.env.buffer_limit() / 2
    }

    /// Counts when the upstream falls behind with taking the request, and when it has caught up.
    fn count_backed_up(&mut self) {
        let limit = self.env.buffer_limit();
        let (Attempt::Active(active), Some(cluster)) = (&mut self.s.router.attempt, &self.s.router.cluster) else {
            return;
        };
        let waiting = active.connection.wire.buffered();
        let manager = &self.env.config.stats.manager;
        if active.backed_up && waiting <= limit / 2 {
            active.backed_up = false;
            cluster.info.stats.upstream_flow_control_drained_total().inc();
            manager.downstream_flow_control_resumed_reading_total().inc();
        } else if !active.backed_up && waiting > 0 && waiting >= limit {
            active.backed_up = true;
            cluster.info.stats.upstream_flow_control_backed_up_total().inc();
            manager.downstream_flow_control_paused_reading_total().inc();
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
        if self.s.upgrade && self.wire.is_multiplexed() && head.status < 300 {
            // The upstream declined an upgrade. Its 2xx would tell a client of extended CONNECT that it was accepted
            // (RFC 8441 §5).
            return self.receive_failed(RecvError::Reset(ResetReason::ProtocolError));
        }
        if let Attempt::Active(active) = &mut self.s.router.attempt {
            active.head_received = true;
            if head.close_notify {
                active.connection.pool().cluster().stats.upstream_cx_close_notify().inc();
            }
            if head.version == Version::Http10 {
                self.s.info.upstream.protocol = Some(Protocol::Http10);
            }
        }
        self.s.info.upstream_bytes.header_received += u64::from(head.field_bytes);
        self.take_load_report(false);
        let last = head.framing.is_empty() || self.s.head_request;
        self.upstream_response(head.status, last);
    }

    /// 1xx: passed on if the client wants to see it.
    fn informational(&mut self, status: u16) {
        if !std::mem::replace(&mut self.s.router.informed, true) {
            self.charge_status(status);
        }
        if self.env.config.proxy_100_continue && self.s.sent == Sent::Nothing {
            self.s.expects_continue &= status != 100;
            self.wire.send_informational(&self.s.response);
            self.env.count_response(status);
        }
        self.s.response.clear();
    }

    /// The upstream accepted the upgrade: from here on both bodies are raw bytes.
    fn upgraded(&mut self, head: ResponseHead) {
        // A POST that ends here has a body like any other request, and its response too.
        self.s.tunnel = self.s.request.get(Known::METHOD) != Some(b"POST");
        self.s.upgrade = self.s.tunnel;
        if self.s.tunnel {
            self.wire.tunnel();
        }
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
            BodyPart::End { .. } if self.s.tunnel && !self.wire.is_multiplexed() => {
                return self.receive_failed(RecvError::Closed);
            }
            BodyPart::End { trailers } => {
                if trailers {
                    self.take_load_report(true);
                }
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
        active.connection.wire.forward_body(start, end, consumed, &mut self.wire);
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
        self.note_wire_bytes();
        if let Attempt::Active(active) = std::mem::take(&mut self.s.router.attempt) {
            if active.connection.wire.is_ended() {
                active.connection.closed_by_peer();
            }
            active.connection.release(self.now);
        }
        self.s.request_stopped |= !self.s.received;
    }

    fn receive_failed(&mut self, error: RecvError) {
        let Attempt::Active(active) = &mut self.s.router.attempt else { return };
        let answered = active.head_received || active.connection.wire.has_input();
        let reason = match &error {
            RecvError::Codec(_) => ResetReason::ProtocolError,
            RecvError::Reset(reason) => *reason,
            RecvError::Closed | RecvError::Truncated | RecvError::Io(_) => {
                active.connection.closed_by_peer();
                // A message that breaks off is a broken one; a tunnel has no messages.
                if answered && !self.s.tunnel { ResetReason::ProtocolError } else { ResetReason::ConnectionTermination }
            }
        };
        if reason == ResetReason::RemoteRefusedStreamReset && self.replay_refused() {
            return;
        }
        let Attempt::Active(active) = &mut self.s.router.attempt else { return };
        let lost_race = active.connection.is_reused() && !answered;
        let multiplexed = active.connection.wire.is_multiplexed();
        if lost_race && reason == ResetReason::ConnectionTermination && self.replay() {
            return;
        }
        // What is wrong with a connection of many streams, its pool counts.
        if reason == ResetReason::ProtocolError
            && !multiplexed
            && let Some(cluster) = &self.s.router.cluster
        {
            cluster.info.stats.upstream_cx_protocol_error().inc();
        }
        self.upstream_reset(reason, None);
    }

    /// A reused connection closed before any byte of the response: the upstream's idle timeout met the request. What
    /// is safe to send twice (RFC 9110 §9.2.2) is sent again on a new connection, once, without counting as a retry.
    fn replay(&mut self) -> bool {
        let idempotent = matches!(
            self.s.request.get(Known::METHOD),
            Some(b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE" | b"TRACE")
        );
        idempotent && self.send_again()
    }

    /// The upstream said that it did not look at the request (RFC 9113 §8.7), as one does that closes its connection in
    /// order: any request can be sent again, once. A retry policy that names the case goes before.
    fn replay_refused(&mut self) -> bool {
        !self.s.router.retry.is_possible() && self.send_again()
    }

    fn send_again(&mut self) -> bool {
        if self.s.router.replayed || self.s.router.kept.lost || self.s.upgrade || self.s.router.response_begun {
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
        let begun = self.s.router.begun.unwrap_or(self.now);
        self.s.info.upstream.pool_ready = Some(self.now.saturating_duration_since(begun));
        self.s.info.upstream.transport_failure_reason = Some(std::sync::Arc::clone(&failure.reason));
        let reason = match (failure.timeout, failure.local) {
            (true, _) => ResetReason::ConnectionTimeout,
            (false, true) => ResetReason::LocalConnectionFailure,
            (false, false) => ResetReason::RemoteConnectionFailure,
        };
        self.upstream_reset(reason, Some(failure.reason));
    }

    /// Notes what the present try received and sent.
    pub(super) fn note_wire_bytes(&mut self) {
        if let Attempt::Active(active) = &self.s.router.attempt {
            let (received, sent) = active.connection.wire.wire_bytes();
            let bytes = &mut self.s.info.upstream_bytes;
            bytes.wire_received = received - active.wire_before.0;
            bytes.wire_sent = sent - active.wire_before.1;
        }
    }

    /// Ends the present try, whose response is not passed on. A complete one gives its connection back.
    pub(super) fn end_try(&mut self, response_over: bool) {
        self.note_wire_bytes();
        if let Attempt::Active(active) = std::mem::take(&mut self.s.router.attempt)
            && response_over
        {
            active.connection.release(self.now);
        }
    }

    /// Ends the upstream side, whatever it is doing.
    pub(crate) fn cancel_upstream(&mut self) {
        self.note_wire_bytes();
        let attempt = std::mem::take(&mut self.s.router.attempt);
        let was_running = !matches!(attempt, Attempt::None);
        if let (true, Some(cluster)) = (was_running, &self.s.router.cluster) {
            // Resets are counted for HTTP/2 only: HTTP/1 has none, its connection ends.
            match &attempt {
                Attempt::Connecting(_) | Attempt::Waiting(_) => cluster.info.stats.upstream_rq_cancelled().inc(),
                Attempt::Active(active) if active.connection.wire.is_multiplexed() => {
                    cluster.info.stats.upstream_rq_tx_reset().inc();
                }
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
