//! Safe wrappers around the system calls that neither std, socket2 nor tokio offers. Owns nothing but the calls; every
//! policy stands with the caller.
#![allow(unsafe_code)]

pub(crate) mod rights;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Turns the result of a system call into a `Result`.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Moves up to `len` bytes between a pipe and a socket without copying them to user space. Never blocks.
pub(crate) fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    // SAFETY: both descriptors are open for the duration of the borrows; null offsets are allowed for pipes and sockets.
    check_len(unsafe {
        libc::splice(from.as_raw_fd(), std::ptr::null_mut(), to.as_raw_fd(), std::ptr::null_mut(), len, flags)
    })
}

/// A pipe whose ends do not block: (read end, write end).
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: `ends` has room for the two descriptors that the call writes.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) })?;
    // SAFETY: the call succeeded, so both are open descriptors that nothing else owns.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Asks for room for `size` bytes in a pipe; returns what the kernel gave.
pub(crate) fn set_pipe_size(pipe: BorrowedFd<'_>, size: usize) -> io::Result<usize> {
    let size = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
    // SAFETY: F_SETPIPE_SZ takes an integer and touches no memory of this process.
    let given = check(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, size) })?;
    Ok(usize::try_from(given).unwrap_or(0))
}

/// The room in a pipe, bytes.
pub(crate) fn pipe_size(pipe: BorrowedFd<'_>) -> io::Result<usize> {
    // SAFETY: F_GETPIPE_SZ touches no memory of this process.
    let size = check(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_GETPIPE_SZ) })?;
    Ok(usize::try_from(size).unwrap_or(0))
}

/// Reads from a descriptor of any kind.
pub(crate) fn read(from: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length describe one live, writable slice.
    check_len(unsafe { libc::read(from.as_raw_fd(), into.as_mut_ptr().cast(), into.len()) })
}

/// Writes to a descriptor of any kind.
pub(crate) fn write(to: BorrowedFd<'_>, from: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length describe one live slice.
    check_len(unsafe { libc::write(to.as_raw_fd(), from.as_ptr().cast(), from.len()) })
}

/// Sends on a socket without blocking and without SIGPIPE, whatever the flags of the descriptor.
pub(crate) fn send_now(to: BorrowedFd<'_>, from: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the pointer and the length describe one live slice.
    check_len(unsafe { libc::send(to.as_raw_fd(), from.as_ptr().cast(), from.len(), flags) })
}

/// Sets a socket option of any level and name to the bytes of `value`.
pub(crate) fn set_socket_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &[u8],
) -> io::Result<()> {
    let len = libc::socklen_t::try_from(value.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: the pointer and the length describe one live slice.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), len) })?;
    Ok(())
}

/// Reads an integer socket option.
#[cfg(test)]
pub(crate) fn socket_option(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` has `len` writable bytes.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) })?;
    Ok(value)
}

/// An event counter that does not block; readable while it is above zero.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: the call touches no memory of this process.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })?;
    // SAFETY: the call succeeded, so this is an open descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits until one of `waiting` is ready or `timeout` has passed (`None`: no limit; rounded up to ms). A signal counts as
/// a time-out.
pub(crate) fn poll(waiting: &mut [libc::pollfd], timeout: Option<Duration>) -> io::Result<usize> {
    let timeout = match timeout {
        None => -1,
        Some(t) => libc::c_int::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX),
    };
    let count = libc::nfds_t::try_from(waiting.len()).unwrap_or(libc::nfds_t::MAX);
    // SAFETY: the pointer and the length describe one live, writable slice.
    match check(unsafe { libc::poll(waiting.as_mut_ptr(), count, timeout) }) {
        Ok(ready) => Ok(usize::try_from(ready).unwrap_or(0)),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(0),
        Err(e) => Err(e),
    }
}

/// An inotify instance that does not block, registered with the runtime of this thread. The descriptor in it must not be
/// exchanged through `get_mut`.
pub(crate) fn inotify() -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the call touches no memory of this process.
    let fd = check(unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) })?;
    // SAFETY: the call succeeded, so this is an open descriptor that nothing else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: an `OwnedFd` stays open, and the same, until it is dropped, which `AsyncFd` does itself.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// Adds a path to an inotify instance, or changes its mask; returns the watch descriptor.
pub(crate) fn inotify_add(inotify: BorrowedFd<'_>, path: &std::ffi::CStr, mask: u32) -> io::Result<i32> {
    // SAFETY: `path` is a live, NUL-terminated string.
    check(unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr(), mask) })
}

/// Removes a watch from an inotify instance.
pub(crate) fn inotify_remove(inotify: BorrowedFd<'_>, watch: i32) -> io::Result<()> {
    // SAFETY: the call touches no memory of this process.
    check(unsafe { libc::inotify_rm_watch(inotify.as_raw_fd(), watch) })?;
    Ok(())
}

/// The soft and the hard limit of open files.
pub(crate) fn open_file_limit() -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live, writable value of the type that the call expects.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Sets the soft and the hard limit of open files.
pub(crate) fn set_open_file_limit(soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` is a live value of the type that the call expects.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(())
}
