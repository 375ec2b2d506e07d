//! Moves bytes both ways between two connected sockets when nobody needs to see them (TCP proxy, upgraded connections).
//!
//! A flow starts by copying through a buffer of the worker, which costs the fewest system calls for small messages; once
//! reads keep filling the buffer, the direction goes over to `splice(2)` through a pipe, and back when the flow thins out.
//! Buffers and pipes belong to the worker and are lent to a direction only while bytes wait in it: an idle connection
//! holds neither. What is measured about the two ways stands in `examples/tcp_copy.rs`.
//!
//! *Invariant*: a direction reads only when everything it read before was taken by the other side. That is the
//! back-pressure, and it bounds what a slow reader costs to `buffer_limit`.

mod direction;
mod pipe;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

pub use direction::SpliceSocket;
use direction::{Direction, Finished};

/// How bytes are moved. The defaults are the measured optimum.
#[derive(Clone, Copy, Debug)]
pub struct SpliceSettings {
    /// Room of a pipe, bytes; 0: never splice. Less if many pipes are in use. Default 1 MiB.
    pub pipe_bytes: usize,
    /// Size of a copy buffer, bytes. Default 64 KiB.
    pub copy_bytes: usize,
    /// A direction splices after this many reads in a row that filled the copy buffer; 0: from the start. Default 1.
    pub splice_after: u8,
    /// A direction copies again after this many fills in a row of less than 8 KiB. Default 16.
    pub copy_after: u8,
    /// Most bytes that may wait in one direction (`per_connection_buffer_limit_bytes`). Default 1 MiB.
    pub buffer_limit: usize,
}

impl SpliceSettings {
    /// The measured optimum.
    pub const DEFAULT: Self = SpliceSettings {
        pipe_bytes: 1024 * 1024,
        copy_bytes: 64 * 1024,
        splice_after: 1,
        copy_after: 16,
        buffer_limit: 1024 * 1024,
    };
}

impl Default for SpliceSettings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// One of the two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first one given to [`Splice::poll`], by convention the downstream.
    A,
    /// The second one, by convention the upstream.
    B,
}

/// What was being done when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Receiving.
    Read,
    /// Sending, or ending the stream.
    Write,
}

/// Both directions have ended in order: each side got every byte and the end of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// A socket failed. Everything that could still be delivered was delivered before this is returned.
#[derive(Debug)]
pub struct SpliceError {
    /// Whose socket it was.
    pub side: Side,
    /// What was being done.
    pub operation: Operation,
    /// What the kernel said.
    pub source: io::Error,
}

impl fmt::Display for SpliceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = match self.operation {
            Operation::Read => "receive from",
            Operation::Write => "send to",
        };
        write!(f, "cannot {operation} side {:?}: {}", self.side, self.source)
    }
}

impl std::error::Error for SpliceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Bytes of one direction so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Received from the one side.
    pub received: u64,
    /// Taken by the other side.
    pub sent: u64,
}

/// The movement of bytes between two sockets. See the module.
pub struct Splice {
    settings: SpliceSettings,
    a_to_b: Direction,
    b_to_a: Direction,
    last_activity: Instant,
}

impl Splice {
    /// Nothing has moved yet; `now` counts as the last activity.
    pub fn new(now: Instant) -> Self {
        Self::with_settings(SpliceSettings::DEFAULT, now)
    }

    /// As [`Splice::new`], with other settings.
    pub fn with_settings(settings: SpliceSettings, now: Instant) -> Self {
        Splice { a_to_b: Direction::new(&settings), b_to_a: Direction::new(&settings), settings, last_activity: now }
    }

    /// Bytes received from A earlier (to choose a filter chain, or while B was connecting), to be sent to B first. They
    /// count as received. Call it before the first poll.
    pub fn preload_a_to_b(&mut self, bytes: Vec<u8>) {
        self.a_to_b.preload(bytes);
    }

    /// As [`Splice::preload_a_to_b`], the other way.
    pub fn preload_b_to_a(&mut self, bytes: Vec<u8>) {
        self.b_to_a.preload(bytes);
    }

    /// Moves what can be moved, and is woken when more can be. After a large amount it yields to other tasks.
    ///
    /// The end of one direction is passed on (half close) and the other goes on. If a side fails, bytes under way to the
    /// other side, and bytes that the failed side had sent before, are still delivered; then the first failure is
    /// returned. Don't poll again after `Ready`. Always poll with the same two sockets. Cancel safe.
    pub fn poll<A: SpliceSocket, B: SpliceSocket>(
        &mut self,
        cx: &mut Context<'_>,
        a: &A,
        b: &B,
        now: Instant,
    ) -> Poll<Result<Closed, SpliceError>> {
        let before = self.moved();
        self.a_to_b.run(cx, a, b, &self.settings);
        self.b_to_a.run(cx, b, a, &self.settings);
        if self.spread_failure() {
            // A direction that the failure of the other one ended has not been told yet.
            self.a_to_b.run(cx, a, b, &self.settings);
            self.b_to_a.run(cx, b, a, &self.settings);
        }
        if self.moved() != before {
            self.last_activity = now;
        }
        self.outcome()
    }

    /// Bytes from A to B.
    pub fn a_to_b(&self) -> Progress {
        Progress { received: self.a_to_b.received, sent: self.a_to_b.sent }
    }

    /// Bytes from B to A.
    pub fn b_to_a(&self) -> Progress {
        Progress { received: self.b_to_a.received, sent: self.b_to_a.sent }
    }

    /// Bytes that wait for a side to take them, both directions.
    pub fn buffered(&self) -> usize {
        self.a_to_b.buffered() + self.b_to_a.buffered()
    }

    /// Whether that side has said that it sends no more, and was believed.
    pub fn ended(&self, side: Side) -> bool {
        let direction = match side {
            Side::A => &self.a_to_b,
            Side::B => &self.b_to_a,
        };
        direction.finished.is_some()
    }

    /// The `now` of the last poll that moved a byte: where an idle timeout counts from.
    pub fn last_activity(&self) -> Instant {
        self.last_activity
    }

    /// Pipes that are in use (at most 2; 0 while the connection is idle).
    pub fn pipes(&self) -> usize {
        usize::from(self.a_to_b.holds_pipe()) + usize::from(self.b_to_a.holds_pipe())
    }

    fn moved(&self) -> [u64; 4] {
        [self.a_to_b.received, self.a_to_b.sent, self.b_to_a.received, self.b_to_a.sent]
    }

    /// A side that could not be read from can't be written to either: nothing is read for it any more. True if that ended
    /// something.
    fn spread_failure(&mut self) -> bool {
        let failed_read = |d: &Direction| matches!(d.finished, Some(Finished::Failed(Operation::Read, _)));
        let stop_b = failed_read(&self.a_to_b) && self.b_to_a.finished.is_none();
        let stop_a = failed_read(&self.b_to_a) && self.a_to_b.finished.is_none();
        if stop_b {
            self.b_to_a.stop_reading();
        }
        if stop_a {
            self.a_to_b.stop_reading();
        }
        stop_a || stop_b
    }

    fn outcome(&mut self) -> Poll<Result<Closed, SpliceError>> {
        if self.a_to_b.finished.is_none() || self.b_to_a.finished.is_none() {
            return Poll::Pending;
        }
        let failure = |direction: &mut Direction, from: Side, to: Side| match direction.finished.take() {
            Some(Finished::Failed(operation, source)) => {
                let side = if operation == Operation::Read { from } else { to };
                direction.finished = Some(Finished::Eof);
                Some(SpliceError { side, operation, source })
            }
            other => {
                direction.finished = other;
                None
            }
        };
        let first = failure(&mut self.a_to_b, Side::A, Side::B);
        let second = failure(&mut self.b_to_a, Side::B, Side::A);
        // The side that could not be read from is the cause; that it could not be written to either is a consequence.
        let (first, second) = match (first, second) {
            (Some(a), Some(b)) if a.operation == Operation::Write && b.operation == Operation::Read => {
                (Some(b), Some(a))
            }
            both => both,
        };
        Poll::Ready(first.or(second).map_or(Ok(Closed), Err))
    }
}
