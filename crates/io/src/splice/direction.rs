//! One direction of a spliced connection: read side, what waits in between, write side.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

use super::pipe::{self, Pipe};
use super::{Operation, SpliceSettings};
use crate::sys;

/// A direction that has received this many bytes lets others have their turn. Small, so that one bulk read is a turn:
/// going round the connections, instead of serving one as long as it has bytes, lets each peer work undisturbed on a large
/// piece (64 connections over loopback: half the CPU, because a sleeping peer is woken less often).
const TURN: usize = 64 * 1024;
/// Bytes asked for when filling a pipe. More than its room: a segment may hold more than the page it counts for.
const FILL: usize = 1024 * 1024;
/// A fill of less than this is small.
const SMALL: usize = 8 * 1024;

/// A kernel stream socket whose bytes can be moved: `TcpStream` and `UnixStream`.
pub trait SpliceSocket: AsFd {
    /// Registers for readability.
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Registers for writability.
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Runs `call` if the socket is known to be ready, and forgets that when it says `WouldBlock`.
    fn try_io<R>(&self, interest: Interest, call: impl FnOnce() -> io::Result<R>) -> io::Result<R>;
}

macro_rules! splice_socket {
    ($stream:ty) => {
        impl SpliceSocket for $stream {
            fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                <$stream>::poll_read_ready(self, cx)
            }
            fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                <$stream>::poll_write_ready(self, cx)
            }
            fn try_io<R>(&self, interest: Interest, call: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
                <$stream>::try_io(self, interest, call)
            }
        }
    };
}
splice_socket!(TcpStream);
splice_socket!(UnixStream);

/// How bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Through a copy buffer; `full` reads in a row filled it.
    Copy { full: u8 },
    /// Through a pipe; `small` fills in a row brought little.
    Splice { small: u8 },
    /// Through a copy buffer for ever: a side can't be spliced.
    CopyOnly,
}

/// What waits for the write side. No memory, and no pipe, while nothing waits.
enum Waiting {
    Nothing,
    Bytes { buffer: Box<[u8]>, start: usize, end: usize, pooled: bool },
    Piped { pipe: Pipe, bytes: usize },
}

/// What ended the read side.
enum End {
    /// Nothing did.
    Open,
    Eof,
    /// The write side is gone: nobody wants the bytes.
    Unwanted,
    Failed(io::Error),
}

/// How a direction ended.
pub(super) enum Finished {
    /// End of stream was passed on.
    Eof,
    /// One of its sides failed.
    Failed(Operation, io::Error),
}

pub(super) struct Direction {
    mode: Mode,
    waiting: Waiting,
    end: End,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) finished: Option<Finished>,
}

/// Whether the loop of a direction goes on.
enum Turn {
    Again,
    Blocked,
}

impl Direction {
    pub(super) fn new(settings: &SpliceSettings) -> Self {
        let mode = match settings {
            SpliceSettings { pipe_bytes: 0, .. } => Mode::CopyOnly,
            SpliceSettings { splice_after: 0, .. } => Mode::Splice { small: 0 },
            _ => Mode::Copy { full: 0 },
        };
        Direction { mode, waiting: Waiting::Nothing, end: End::Open, received: 0, sent: 0, finished: None }
    }

    /// Bytes to send before anything that is read.
    pub(super) fn preload(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            let buffer = bytes.into_boxed_slice();
            self.received += buffer.len() as u64;
            self.waiting = Waiting::Bytes { start: 0, end: buffer.len(), buffer, pooled: false };
        }
    }

    /// Bytes that wait for the write side.
    pub(super) fn buffered(&self) -> usize {
        match &self.waiting {
            Waiting::Nothing => 0,
            Waiting::Bytes { start, end, .. } => end - start,
            Waiting::Piped { bytes, .. } => *bytes,
        }
    }

    pub(super) fn holds_pipe(&self) -> bool {
        matches!(self.waiting, Waiting::Piped { .. })
    }

    /// Stops reading: bytes that are still in the socket are nobody's any more.
    pub(super) fn stop_reading(&mut self) {
        if matches!(self.end, End::Open) {
            self.end = End::Unwanted;
        }
    }

    /// Moves what can be moved. Sets `finished` once nothing will move any more.
    pub(super) fn run<F: SpliceSocket, T: SpliceSocket>(
        &mut self,
        cx: &mut Context<'_>,
        from: &F,
        to: &T,
        settings: &SpliceSettings,
    ) {
        let until = self.received.saturating_add(TURN as u64);
        while self.finished.is_none() {
            if self.received >= until && matches!((&self.waiting, &self.end), (Waiting::Nothing, End::Open)) {
                cx.waker().wake_by_ref();
                return;
            }
            let turn = match (&self.waiting, &self.end) {
                (Waiting::Nothing, End::Open) => self.receive(cx, from, settings),
                (Waiting::Nothing, _) => self.finish(to),
                _ => self.send(cx, to, settings),
            };
            if matches!(turn, Turn::Blocked) {
                return;
            }
        }
    }

    /// Passes the end of the stream on.
    fn finish<T: SpliceSocket>(&mut self, to: &T) -> Turn {
        self.finished = Some(match std::mem::replace(&mut self.end, End::Eof) {
            End::Failed(e) => Finished::Failed(Operation::Read, e),
            End::Unwanted => Finished::Eof,
            End::Open | End::Eof => match SockRef::from(to).shutdown(Shutdown::Write) {
                Ok(()) => Finished::Eof,
                // The peer has gone altogether; it will not miss the end of the stream.
                Err(e) if e.kind() == io::ErrorKind::NotConnected => Finished::Eof,
                Err(e) => Finished::Failed(Operation::Write, e),
            },
        });
        Turn::Again
    }

    fn fail_write(&mut self, e: io::Error) -> Turn {
        // What waits is lost with the peer that wanted it; a pipe with bytes in it is closed, not kept.
        self.waiting = Waiting::Nothing;
        self.finished = Some(Finished::Failed(Operation::Write, e));
        Turn::Again
    }

    fn receive<F: SpliceSocket>(&mut self, cx: &mut Context<'_>, from: &F, settings: &SpliceSettings) -> Turn {
        let result = match self.mode {
            Mode::Splice { .. } => match Pipe::take(settings.pipe_bytes) {
                Some(pipe) => self.fill_pipe(from, pipe, settings),
                None => self.fill_buffer(from, settings),
            },
            Mode::Copy { .. } | Mode::CopyOnly => self.fill_buffer(from, settings),
        };
        match result {
            Ok(0) => {
                self.end = End::Eof;
                Turn::Again
            }
            Ok(count) => {
                self.received += count as u64;
                Turn::Again
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => match from.poll_read_ready(cx) {
                Poll::Ready(_) => Turn::Again,
                Poll::Pending => Turn::Blocked,
            },
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Turn::Again,
            Err(e) if matches!(self.mode, Mode::Splice { .. }) && cannot_splice(&e) => {
                self.mode = Mode::CopyOnly;
                Turn::Again
            }
            Err(e) => {
                self.end = End::Failed(e);
                Turn::Again
            }
        }
    }

    fn fill_pipe<F: SpliceSocket>(&mut self, from: &F, pipe: Pipe, settings: &SpliceSettings) -> io::Result<usize> {
        let len = FILL.min(settings.buffer_limit.max(1));
        let slots = pipe.slots();
        let result = try_read(from, |count| count < slots.min(len), || pipe.fill(from.as_fd(), len));
        match result {
            Ok(count) if count > 0 => {
                let small = if count < SMALL { self.small_fills().saturating_add(1) } else { 0 };
                let back = settings.splice_after > 0 && small >= settings.copy_after;
                self.mode = if back { Mode::Copy { full: 0 } } else { Mode::Splice { small } };
                self.waiting = Waiting::Piped { pipe, bytes: count };
            }
            _ => pipe.give_back(settings.pipe_bytes),
        }
        result
    }

    fn small_fills(&self) -> u8 {
        match self.mode {
            Mode::Splice { small } => small,
            Mode::Copy { .. } | Mode::CopyOnly => 0,
        }
    }

    fn fill_buffer<F: SpliceSocket>(&mut self, from: &F, settings: &SpliceSettings) -> io::Result<usize> {
        let mut buffer = pipe::take_buffer(settings.copy_bytes.max(1));
        let len = buffer.len().min(settings.buffer_limit.max(1));
        let result = {
            let spare = &mut buffer[..len];
            try_read(from, |count| count < len, || sys::read(from.as_fd(), spare))
        };
        match result {
            Ok(count) if count > 0 => {
                if let Mode::Copy { full } = self.mode {
                    let full = if count == len { full.saturating_add(1) } else { 0 };
                    let bulk = full >= settings.splice_after;
                    self.mode = if bulk { Mode::Splice { small: 0 } } else { Mode::Copy { full } };
                }
                self.waiting = Waiting::Bytes { buffer, start: 0, end: count, pooled: true };
            }
            _ => pipe::give_back_buffer(buffer),
        }
        result
    }

    fn send<T: SpliceSocket>(&mut self, cx: &mut Context<'_>, to: &T, settings: &SpliceSettings) -> Turn {
        let result = match &mut self.waiting {
            Waiting::Nothing => return Turn::Again,
            Waiting::Bytes { buffer, start, end, .. } => {
                let rest = &buffer[*start..*end];
                try_write(to, |count| count < rest.len(), || sys::send_now(to.as_fd(), rest))
            }
            Waiting::Piped { pipe, bytes } => to.try_io(Interest::WRITABLE, || pipe.drain(to.as_fd(), *bytes)),
        };
        match result {
            Ok(0) => self.fail_write(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                self.sent += count as u64;
                self.consume(count, settings);
                Turn::Again
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => match to.poll_write_ready(cx) {
                Poll::Ready(_) => Turn::Again,
                Poll::Pending => Turn::Blocked,
            },
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Turn::Again,
            Err(e) if self.holds_pipe() && cannot_splice(&e) => self.unpipe(settings),
            Err(e) => self.fail_write(e),
        }
    }

    fn consume(&mut self, count: usize, settings: &SpliceSettings) {
        let empty = match &mut self.waiting {
            Waiting::Nothing => true,
            Waiting::Bytes { start, end, .. } => {
                *start += count;
                *start >= *end
            }
            Waiting::Piped { bytes, .. } => {
                *bytes = bytes.saturating_sub(count);
                *bytes == 0
            }
        };
        if empty {
            match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
                Waiting::Bytes { buffer, pooled: true, .. } => pipe::give_back_buffer(buffer),
                Waiting::Piped { pipe, .. } => pipe.give_back(settings.pipe_bytes),
                Waiting::Nothing | Waiting::Bytes { .. } => {}
            }
        }
    }

    /// The write side can't be spliced to: takes the bytes out of the pipe and goes on by copying.
    fn unpipe(&mut self, settings: &SpliceSettings) -> Turn {
        self.mode = Mode::CopyOnly;
        let Waiting::Piped { pipe, bytes } = std::mem::replace(&mut self.waiting, Waiting::Nothing) else {
            return Turn::Again;
        };
        let mut buffer = vec![0; bytes.max(settings.copy_bytes)].into_boxed_slice();
        let mut end = 0;
        while end < bytes {
            match pipe.read(&mut buffer[end..bytes]) {
                Ok(0) => return self.fail_write(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => end += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return self.fail_write(e),
            }
        }
        self.waiting = Waiting::Bytes { buffer, start: 0, end, pooled: false };
        pipe.give_back(settings.pipe_bytes);
        Turn::Again
    }
}

impl Drop for Direction {
    fn drop(&mut self) {
        if let Waiting::Bytes { buffer, pooled: true, .. } = std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            pipe::give_back_buffer(buffer);
        }
    }
}

/// Errors by which the kernel says that this kind of socket has no `splice`.
fn cannot_splice(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP))
}

/// Reads once. If `drained` says that so few bytes mean an empty socket, the readiness is forgotten at once, which saves
/// the call that would only say `WouldBlock`. (A close that is known already is remembered all the same.)
fn try_read<S: SpliceSocket>(
    socket: &S,
    drained: impl FnOnce(usize) -> bool,
    call: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    short_io(socket, Interest::READABLE, drained, call)
}

fn try_write<S: SpliceSocket>(
    socket: &S,
    filled: impl FnOnce(usize) -> bool,
    call: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    short_io(socket, Interest::WRITABLE, filled, call)
}

fn short_io<S: SpliceSocket>(
    socket: &S,
    interest: Interest,
    short: impl FnOnce(usize) -> bool,
    call: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    let mut moved = None;
    let result = socket.try_io(interest, || {
        let count = call()?;
        if count > 0 && short(count) {
            moved = Some(count);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(count)
    });
    moved.map_or(result, Ok)
}
