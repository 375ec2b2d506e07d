//! Pipes for `splice`, and the pools of pipes and copy buffers that a worker keeps. Owns how many pipe pages this
//! process takes from the kernel, because those are limited per user, over all processes of that user.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sys;

/// Pipes that a worker keeps for reuse.
const KEPT_PIPES: usize = 32;
/// Copy buffers that a worker keeps for reuse.
const KEPT_BUFFERS: usize = 16;
/// Room that a new pipe has anyway (16 pages). A pipe with less (the user is over the limit) is not worth its calls.
const DEFAULT_PIPE: usize = 64 * 1024;
/// Bytes a pipe page stands for in `/proc/sys/fs/pipe-user-pages-soft`.
const PAGE: usize = 4096;
/// Used when the limit is not readable or switched off (0): 16384 pages, the kernel's default.
const DEFAULT_SOFT_LIMIT: usize = 64 * 1024 * 1024;

thread_local! {
    static PIPES: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
    static BUFFERS: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes of pipe room that live pipes of this process have.
static IN_USE: AtomicUsize = AtomicUsize::new(0);

/// Room that all pipes of this process may have: half of what the user may have before the kernel hands out pipes of two
/// pages, so that other processes of the same user (sidecars share theirs over a whole node) keep theirs.
fn budget() -> usize {
    static BUDGET: OnceLock<usize> = OnceLock::new();
    *BUDGET.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/fs/pipe-user-pages-soft").unwrap_or_default();
        budget_from(&text)
    })
}

fn budget_from(pages: &str) -> usize {
    let pages: usize = pages.trim().parse().unwrap_or(0);
    let limit = if pages == 0 { DEFAULT_SOFT_LIMIT } else { pages.saturating_mul(PAGE) };
    limit / 2
}

/// A pipe with nothing in it, except while a direction owns it.
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    room: usize,
}

/// Room for a new pipe while pipes with `in_use` bytes of room exist: the less is left the smaller, so that many slow
/// readers share what there is. `None`: less than an ordinary pipe is left.
fn room_for(wanted: usize, in_use: usize, budget: usize) -> Option<usize> {
    let left = budget.saturating_sub(in_use);
    let share = (left / 16).max(DEFAULT_PIPE);
    let room = wanted.max(DEFAULT_PIPE).min(1 << share.ilog2());
    (room <= left).then_some(room)
}

impl Pipe {
    /// Takes a pipe of this worker, or makes one with room for up to `wanted` bytes. `None`: no descriptors or no pages
    /// are left, copy instead.
    pub(super) fn take(wanted: usize) -> Option<Pipe> {
        let kept = PIPES.try_with(|pipes| pipes.borrow_mut().pop()).ok().flatten();
        kept.or_else(|| Pipe::make(wanted).ok())
    }

    /// Gives an empty pipe back to this worker. One that was made small for lack of pages is kept only while they lack.
    pub(super) fn give_back(self, wanted: usize) {
        if self.room < wanted && IN_USE.load(Ordering::Relaxed) < budget() / 2 {
            return;
        }
        let _ = PIPES.try_with(|pipes| {
            let mut pipes = pipes.borrow_mut();
            if pipes.len() < KEPT_PIPES {
                pipes.push(self);
            }
        });
    }

    fn make(wanted: usize) -> io::Result<Pipe> {
        let in_use = IN_USE.load(Ordering::Relaxed);
        let room = room_for(wanted, in_use, budget()).ok_or(io::ErrorKind::QuotaExceeded)?;
        let (read, write) = sys::pipe()?;
        // Two threads that ask at once may go over the budget by one pipe each.
        IN_USE.fetch_add(room, Ordering::Relaxed);
        let mut pipe = Pipe { read, write, room };
        let given =
            sys::set_pipe_size(pipe.write.as_fd(), room).or_else(|_| sys::pipe_size(pipe.write.as_fd())).unwrap_or(0);
        if given < DEFAULT_PIPE {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        if given < room {
            IN_USE.fetch_sub(room - given, Ordering::Relaxed);
            pipe.room = given;
        }
        Ok(pipe)
    }

    /// Segments that the pipe holds; a segment has at least one byte, so fewer bytes than this never fill it.
    pub(super) fn slots(&self) -> usize {
        self.room / PAGE
    }

    /// Moves bytes from `socket` into the pipe.
    pub(super) fn fill(&self, socket: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
        sys::splice(socket, self.write.as_fd(), len)
    }

    /// Moves bytes from the pipe to `socket`.
    pub(super) fn drain(&self, socket: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
        sys::splice(self.read.as_fd(), socket, len)
    }

    /// Reads bytes out of the pipe, where `drain` turned out to be impossible.
    pub(super) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        sys::read(self.read.as_fd(), into)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        IN_USE.fetch_sub(self.room, Ordering::Relaxed);
    }
}

/// Takes a copy buffer of exactly `size` bytes.
pub(super) fn take_buffer(size: usize) -> Box<[u8]> {
    let kept = BUFFERS.try_with(|buffers| buffers.borrow_mut().pop()).ok().flatten();
    kept.filter(|buffer| buffer.len() == size).unwrap_or_else(|| vec![0; size].into_boxed_slice())
}

/// Gives a copy buffer back to this worker.
pub(super) fn give_back_buffer(buffer: Box<[u8]>) {
    let _ = BUFFERS.try_with(|buffers| {
        let mut buffers = buffers.borrow_mut();
        if buffers.len() < KEPT_BUFFERS {
            buffers.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_is_half_of_the_users_pages() {
        let check = |text: &str, bytes: usize| assert_eq!(budget_from(text), bytes, "{text:?}");
        check("16384\n", 32 << 20);
        check("1024", 2 << 20);
        check("0\n", 32 << 20);
        check("", 32 << 20);
        check("nonsense", 32 << 20);
        check(&usize::MAX.to_string(), usize::MAX / 2);
    }

    #[test]
    fn room_shrinks_with_what_is_left() {
        let check = |wanted: usize, in_use: usize, room: Option<usize>| {
            assert_eq!(room_for(wanted << 10, in_use << 10, 32 << 20).map(|r| r >> 10), room, "{wanted} {in_use}");
        };
        check(1024, 0, Some(1024));
        check(1024, 16 << 10, Some(1024));
        check(1024, 17 << 10, Some(512));
        check(64, 0, Some(64));
        check(1, 0, Some(64));
        check(1024, (32 << 10) - 64, Some(64));
        check(1024, (32 << 10) - 63, None);
        check(1024, 64 << 10, None);
    }

    #[test]
    fn pipe_is_reused_by_its_worker() {
        let pipe = Pipe::take(DEFAULT_PIPE).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&pipe.read);
        pipe.give_back(DEFAULT_PIPE);
        let again = Pipe::take(DEFAULT_PIPE).unwrap();
        assert_eq!(std::os::fd::AsRawFd::as_raw_fd(&again.read), fd);
    }
}
