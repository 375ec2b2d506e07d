//! HTTP/2 connections to hosts: shared by all requests of a worker, as many at once as the host takes.
//!
//! Owns: which connection a request shares, the task that moves a connection's bytes, its pings and its end. A request that
//! finds no room waits; another connection is made only while all that exist, or are being made, are full.

use super::line::{ConnectionGuard, Facts, Line};
use super::{Acquire, ConnectFailure, HostPool, PoolProtocol, PooledConnection, Waiting};
use crate::breaker::Resource;
use crate::connect::Connected;
use nuncio_http::h2::{ClientConnection, Http2Keepalive, Http2Options, Opener, Pings, connect};
use nuncio_stream_info::Address;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::time::Sleep;

/// A connection whose preface and settings went out.
pub(super) struct Multiplexed {
    opener: Opener,
    connection: ClientConnection,
    facts: Facts,
}

impl Multiplexed {
    pub(super) fn open(connected: Connected, options: &Http2Options) -> Multiplexed {
        let Connected { transport, tls, alpn: _, filter_state } = connected;
        let local = transport.lowest_tcp().and_then(|socket| socket.local_addr().ok()).map(Address::from);
        let (opener, connection) = connect(transport, options);
        Multiplexed { opener, connection, facts: Facts { local, tls, filter_state } }
    }

    /// The connection takes requests of its pool; a task moves its bytes.
    pub(super) fn start(self, pool: &Rc<HostPool>, began: Instant, now: Instant) -> Rc<Line> {
        let Multiplexed { opener, connection, facts } = self;
        let guard = ConnectionGuard::new(pool, now);
        let line = Line::new(guard, facts, began, Some(opener));
        let http = &pool.cluster.config.http;
        let keepalive = http.http2.keepalive.map(|options| Keepalive {
            options,
            pings: connection.pings(),
            next: options.next(now, fastrand::u64(..)),
            due: None,
            received: (0, now),
            requests: 0,
        });
        let ends = http.max_connection_duration.and_then(|longest| now.checked_add(longest));
        let run = Run { connection, line: Rc::clone(&line), timer: None, idle_since: now, ends, keepalive };
        tokio::task::spawn_local(run);
        if !pool.closed.get() {
            pool.lines.borrow_mut().push(Rc::clone(&line));
        }
        line
    }
}

impl HostPool {
    /// A place on a connection that exists or is being made. None: another connection is needed, or the host speaks
    /// HTTP/1 after all.
    pub(super) fn acquire_shared(self: &Rc<Self>, now: Instant) -> Option<Acquire> {
        let found = {
            let mut lines = self.lines.borrow_mut();
            lines.retain(|line| line.is_open());
            lines.iter().find(|line| line.has_room()).cloned()
        };
        if let Some(line) = found {
            let connection = PooledConnection::stream(&line)?;
            if connection.begin_request() {
                connection.limit_line();
                return Some(Acquire::Ready(connection));
            }
            connection.release(now);
            return Some(Acquire::Overflow);
        }
        if self.learned.get() == PoolProtocol::Auto && self.connecting.get() == 0 {
            return None;
        }
        let each = u64::from(self.cluster.config.http.http2.max_concurrent_streams);
        let expected = u64::from(self.connecting.get()).saturating_mul(each);
        if expected <= self.waiting.borrow().len() as u64 {
            return None;
        }
        if !self.cluster.breaker(self.key.priority).can_create(Resource::PendingRequests) {
            self.cluster.stats.upstream_rq_pending_overflow().inc();
            return Some(Acquire::PendingOverflow);
        }
        Some(Acquire::Wait(Waiting::new(self)))
    }

    /// Gives those that wait a place on the connection, as long as it has room.
    pub(super) fn serve_waiting(self: &Rc<Self>, line: &Rc<Line>) {
        while line.has_room() {
            let Some(slot) = self.pop_waiting() else { return };
            if !slot.is_wanted() {
                continue;
            }
            match PooledConnection::stream(line) {
                Some(connection) => slot.give(connection),
                None => return slot.retry(),
            }
        }
    }

    /// The connection that was to be shared was not made: those that wait for it fail with it.
    pub(super) fn fail_waiting(&self, failure: &ConnectFailure) {
        if self.connecting.get() > 0 || self.lines.borrow().iter().any(|line| line.is_open()) {
            return;
        }
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.iter().filter(|slot| slot.is_wanted()).for_each(|slot| slot.fail(failure.clone()));
    }

    /// A connection takes no more requests: those that wait for it need another.
    pub(super) fn line_drained(&self) {
        let has_other = self.connecting.get() > 0 || self.lines.borrow().iter().any(|line| line.is_open());
        if !has_other && !self.waiting.borrow().is_empty() {
            self.retry_waiting();
        }
    }

    /// What was to be shared is not: each of those that wait needs a connection of its own.
    pub(super) fn retry_waiting(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.iter().filter(|slot| slot.is_wanted()).for_each(|slot| slot.retry());
    }
}

/// Pings that show whether the host is still there.
struct Keepalive {
    options: Http2Keepalive,
    pings: Pings,
    next: Option<Instant>,
    /// When the answer to the ping on its way must be here.
    due: Option<Instant>,
    /// Bytes that were received, and when the last of them came.
    received: (u64, Instant),
    /// Requests that were sent before.
    requests: u64,
}

impl Keepalive {
    /// Whether a request is sent after the host was silent for long (`connection_idle_interval`).
    fn is_asked_after_silence(&mut self, requests: u64, received: u64, now: Instant) -> bool {
        let asked = std::mem::replace(&mut self.requests, requests) < requests;
        let silent = now.saturating_duration_since(self.received.1);
        if received != self.received.0 {
            self.received = (received, now);
        }
        asked && self.options.connection_idle_interval.is_some_and(|interval| silent >= interval)
    }
}

/// Moves the bytes of a connection until it is over.
struct Run {
    connection: ClientConnection,
    line: Rc<Line>,
    timer: Option<(Pin<Box<Sleep>>, Instant)>,
    idle_since: Instant,
    /// When it takes no more requests.
    ends: Option<Instant>,
    keepalive: Option<Keepalive>,
}

impl Run {
    fn count(&mut self) {
        let meter = self.connection.meter();
        self.line.count_bytes(meter.bytes());
        let (received, sent) = meter.take_resets();
        let malformed = meter.take_malformed();
        let pool = self.line.guard.pool();
        if malformed > 0 {
            pool.http2_stats().rx_messaging_error().add(u64::from(malformed));
        }
        if received > 0 {
            pool.http2_stats().rx_reset().add(u64::from(received));
        }
        if sent > 0 {
            pool.http2_stats().tx_reset().add(u64::from(sent));
        }
    }

    /// Pings, and the ends that time brings. Ready is the end of the connection.
    fn poll_times(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        if self.poll_pings(now) {
            self.line.guard.pool().http2_stats().keepalive_timeout().inc();
            return Poll::Ready(());
        }
        let pool = Rc::clone(self.line.guard.pool());
        let http = &pool.cluster.config.http;
        if self.ends.is_some_and(|ends| ends <= now) {
            self.ends = None;
            pool.cluster.stats.upstream_cx_max_duration_reached().inc();
            self.line.drain();
        }
        let idle_ends = match (self.line.is_idle(), http.idle_timeout) {
            (true, Some(limit)) => self.idle_since.checked_add(limit),
            _ => None,
        };
        if idle_ends.is_some_and(|ends| ends <= now) {
            pool.cluster.stats.upstream_cx_idle_timeout().inc();
            return Poll::Ready(());
        }
        let pings = self.keepalive.as_ref().and_then(|keepalive| earliest([keepalive.next, keepalive.due]));
        match earliest([idle_ends, self.ends, pings]) {
            Some(at) => self.arm(cx, at),
            None => Poll::Pending,
        }
    }

    /// Makes sure that the task is woken by then. It may be woken before.
    fn arm(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let deadline = tokio::time::Instant::from_std(at);
        match &mut self.timer {
            Some((sleep, armed)) if *armed != at => {
                sleep.as_mut().reset(deadline);
                *armed = at;
            }
            Some(_) => {}
            None => self.timer = Some((Box::pin(tokio::time::sleep_until(deadline)), at)),
        }
        if let Some((sleep, _)) = &mut self.timer
            && sleep.as_mut().poll(cx).is_ready()
        {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// True if the host did not answer in time.
    fn poll_pings(&mut self, now: Instant) -> bool {
        let Some(keepalive) = &mut self.keepalive else { return false };
        let received = self.connection.meter().bytes().0;
        if keepalive.is_asked_after_silence(self.line.requests.get(), received, now) && keepalive.due.is_none() {
            keepalive.next = Some(now);
        }
        if keepalive.due.is_some() && keepalive.pings.take_answer() {
            keepalive.due = None;
            keepalive.next = keepalive.options.next(now, fastrand::u64(..));
        }
        if keepalive.due.is_some_and(|due| due <= now) {
            return true;
        }
        if keepalive.next.is_some_and(|next| next <= now) {
            keepalive.next = None;
            if keepalive.pings.send() {
                keepalive.due = now.checked_add(keepalive.options.timeout);
            }
        }
        false
    }
}

fn earliest<const N: usize>(times: [Option<Instant>; N]) -> Option<Instant> {
    times.into_iter().flatten().min()
}

impl Future for Run {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let now = tokio::time::Instant::now().into_std();
        this.line.set_waker(cx.waker());
        let outcome = Pin::new(&mut this.connection).poll(cx);
        this.count();
        if !this.line.is_idle() {
            this.idle_since = now;
        }
        let pool = Rc::clone(this.line.guard.pool());
        if let Poll::Ready(broken) = outcome {
            if broken {
                pool.cluster.stats.upstream_cx_protocol_error().inc();
            }
            if this.connection.meter().is_ended() || this.connection.meter().goaway_received() {
                this.line.guard.closed_by_peer();
            }
            return Poll::Ready(());
        }
        if this.connection.meter().goaway_received() && this.line.is_idle() {
            this.line.drain();
        }
        // A larger limit of the peer, or a stream that ended, makes room.
        if !pool.waiting.borrow().is_empty() {
            pool.serve_waiting(&this.line);
        }
        this.poll_times(cx, now)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.count();
        self.line.drain();
        let pool = Rc::clone(self.line.guard.pool());
        pool.lines.borrow_mut().retain(|line| !Rc::ptr_eq(line, &self.line));
    }
}
