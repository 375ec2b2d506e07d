//! A connection's transport: moves bytes between it and the connection's state.

use super::error::{ConnectionError, Violation};
use super::frame::{FrameHead, kind};
use super::meter::Meter;
use super::receive::Feed;
use super::state::{Core, Shared};
use crate::ResetReason;
use bytes::Bytes;
use nuncio_io::buffer::{HEAD_BUFFER, ReadBuffer};
use nuncio_io::transport::Transport;
use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;

/// Size of a read while much comes.
const BULK_READ: usize = 32 * 1024;
/// Reads before other connections have a turn.
const READS: usize = 16;
/// Requests that are accepted before the answers to others go out.
const ACCEPTED: u32 = 32;

/// What moving the bytes came to.
pub(super) enum Moved {
    /// A request was accepted.
    Accepted,
    /// The connection is over, in order.
    Ended,
}

/// The transport of a connection, and what was read of it.
pub(super) struct Wire {
    pub core: Shared,
    transport: Transport,
    input: ReadBuffer,
    /// The last read filled its buffer.
    bulk: bool,
    /// The peer closed its side.
    ended: bool,
    /// Requests that were accepted since something was written.
    accepted: u32,
    lingered: usize,
}

impl Wire {
    pub fn new(transport: Transport, before: Bytes, core: Core) -> Wire {
        core.meter.add_received(before.len() as u64);
        let core = Rc::new(RefCell::new(core));
        Wire { core, transport, input: ReadBuffer::with(before), bulk: false, ended: false, accepted: 0, lingered: 0 }
    }

    pub fn meter(&self) -> Rc<Meter> {
        Rc::clone(&self.core.borrow().meter)
    }

    /// Whether a head has begun and not ended yet: in the middle of a frame, or between two of them.
    pub fn is_reading_head(&self) -> bool {
        let core = self.core.borrow();
        let begins = || FrameHead::parse(self.input.filled()).is_some_and(|head| head.kind == kind::HEADERS);
        core.block.is_some() || (core.data.is_none() && !core.expects_preface && begins())
    }

    /// Uses what comes, and writes what waits, until there is nothing more to do.
    pub fn poll_move(&mut self, cx: &mut Context<'_>) -> Poll<Result<Moved, ConnectionError>> {
        let shared = Rc::clone(&self.core);
        let core = &mut *shared.borrow_mut();
        core.set_waker(cx);
        if core.accepted.is_empty()
            && let Some(violation) = core.violation.take()
        {
            return Poll::Ready(Err(self.fail(cx, core, violation)));
        }
        match self.poll_receive(cx, core) {
            Poll::Ready(Ok(())) => {
                self.accepted += 1;
                if self.accepted >= ACCEPTED
                    && let Poll::Ready(Err(error)) = self.poll_write(cx, core)
                {
                    return Poll::Ready(Err(lost(core, error)));
                }
                return Poll::Ready(Ok(Moved::Accepted));
            }
            Poll::Ready(Err(Failure::Violation(violation))) => {
                return Poll::Ready(Err(self.fail(cx, core, violation)));
            }
            Poll::Ready(Err(Failure::Io(error))) => return Poll::Ready(Err(lost(core, error))),
            Poll::Pending => {}
        }
        if let Poll::Ready(Err(error)) = self.poll_write(cx, core) {
            return Poll::Ready(Err(lost(core, error)));
        }
        core.pass_turn();
        if self.ended || core.is_finished() { Poll::Ready(Ok(Moved::Ended)) } else { Poll::Pending }
    }

    /// Reads, and uses what was read. Ready without an error: a request was accepted.
    fn poll_receive(&mut self, cx: &mut Context<'_>, core: &mut Core) -> Poll<Result<(), Failure>> {
        for _ in 0..READS {
            let need = loop {
                if !core.accepted.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                match core.feed(&mut self.input)? {
                    Feed::Again => {}
                    Feed::Need(need) => break need,
                }
            };
            core.check_answers()?;
            if self.ended || core.over {
                return Poll::Pending;
            }
            let want = if self.bulk { BULK_READ } else { HEAD_BUFFER }.max(need);
            let count = ready!(self.input.poll_fill(cx, &mut self.transport, want))?;
            core.meter.add_received(count as u64);
            self.bulk = count >= HEAD_BUFFER / 2;
            if count == 0 {
                self.ended = true;
                core.meter.note_end();
                core.end_all(ResetReason::ConnectionTermination);
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, core: &mut Core) -> Poll<io::Result<()>> {
        self.accepted = 0;
        let mut sent = 0;
        let outcome = core.output.poll_flush(cx, &mut self.transport, &mut sent);
        core.meter.add_sent(sent);
        outcome
    }

    /// The peer broke the protocol: tells it so.
    fn fail(&mut self, cx: &mut Context<'_>, core: &mut Core, violation: Violation) -> ConnectionError {
        core.send_goaway(core.last_received, violation.code, violation.what);
        core.end_all(ResetReason::ProtocolError);
        if let Poll::Ready(Err(error)) = self.poll_write(cx, core) {
            // It can't be told; what it did is the reason all the same.
            let _ = lost(core, error);
        }
        violation.into()
    }

    /// The connection is over for this side: writes what is left, waits for the peer to close, and throws away what it still
    /// sends, up to `most` bytes.
    pub fn poll_linger(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<()> {
        let shared = Rc::clone(&self.core);
        let core = &mut *shared.borrow_mut();
        core.set_waker(cx);
        if ready!(self.poll_write(cx, core)).is_err() || ready!(self.transport.poll_shutdown(cx)).is_err() {
            return Poll::Ready(());
        }
        loop {
            let mut room = [MaybeUninit::uninit(); 2048];
            let mut into = ReadBuf::uninit(&mut room);
            if ready!(self.transport.poll_read_buf(cx, &mut into)).is_err() || into.filled().is_empty() {
                return Poll::Ready(());
            }
            self.lingered += into.filled().len();
            if self.lingered > most {
                return Poll::Ready(());
            }
        }
    }

    /// Closes the sending side, as far as that goes at once.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_shutdown(cx)
    }
}

impl Drop for Wire {
    /// Whoever moved the bytes is gone, and the streams with it.
    fn drop(&mut self) {
        let mut core = self.core.borrow_mut();
        core.meter.note_end();
        core.end_all(ResetReason::ConnectionTermination);
    }
}

/// The transport failed.
fn lost(core: &mut Core, error: io::Error) -> ConnectionError {
    core.meter.note_end();
    core.end_all(ResetReason::ConnectionTermination);
    ConnectionError::Io(error)
}

enum Failure {
    Violation(Violation),
    Io(io::Error),
}

impl From<Violation> for Failure {
    fn from(violation: Violation) -> Self {
        Failure::Violation(violation)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Io(error)
    }
}
