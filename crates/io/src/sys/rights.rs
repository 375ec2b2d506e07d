//! Messages that carry descriptors (SCM_RIGHTS) over unix sockets, who sent them, and signals to other processes.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{check, check_len};

/// Descriptors in one message at most: the kernel takes 253 (SCM_MAX_FD).
pub(crate) const MOST_DESCRIPTORS: usize = 64;

/// Room for the control message of [`MOST_DESCRIPTORS`] descriptors, aligned as its header needs it.
#[repr(align(8))]
struct Control([u8; 16 + MOST_DESCRIPTORS * 4 + 8]);

/// Length of a control message with that many descriptors, with and without the padding behind it.
fn control_sizes(descriptors: usize) -> (usize, usize) {
    let bytes = libc::c_uint::try_from(descriptors * size_of::<RawFd>()).unwrap_or(0);
    // SAFETY: both only calculate.
    unsafe { (libc::CMSG_SPACE(bytes) as usize, libc::CMSG_LEN(bytes) as usize) }
}

fn header(part: &mut libc::iovec, control: &mut Control, control_len: usize) -> libc::msghdr {
    // SAFETY: a message header of zeros is one without address, parts and control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    if control_len > 0 {
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control_len;
    }
    message
}

/// Sends one message with descriptors, at most [`MOST_DESCRIPTORS`]. Never blocks, and raises no SIGPIPE.
pub(crate) fn send_message(to: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if descriptors.len() > MOST_DESCRIPTORS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 16 + MOST_DESCRIPTORS * 4 + 8]);
    let (space, len) = if descriptors.is_empty() { (0, 0) } else { control_sizes(descriptors.len()) };
    let message = header(&mut part, &mut control, space);
    if !descriptors.is_empty() {
        // SAFETY: the control buffer is aligned for a header, and has `space` bytes: room for the header and as many
        // descriptors as are written behind it.
        unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const message);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = len;
            let data = libc::CMSG_DATA(first);
            for (at, descriptor) in descriptors.iter().enumerate() {
                let number = descriptor.as_raw_fd().to_ne_bytes();
                std::ptr::copy_nonoverlapping(number.as_ptr(), data.add(at * size_of::<RawFd>()), number.len());
            }
        }
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the header points to a live slice and a live control buffer of the lengths that it names; nothing is
    // written to the slice.
    let sent = check_len(unsafe { libc::sendmsg(to.as_raw_fd(), &raw const message, flags) })?;
    if sent == bytes.len() { Ok(()) } else { Err(io::Error::new(io::ErrorKind::WriteZero, "a message was cut")) }
}

/// Receives one message; 0 bytes: the peer has closed. A message that is longer than `into`, or that carries more
/// descriptors than there is room for, is an error. The descriptors are closed on exec. Never blocks.
pub(crate) fn receive_message(from: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let mut control = Control([0; 16 + MOST_DESCRIPTORS * 4 + 8]);
    let (space, _) = control_sizes(MOST_DESCRIPTORS);
    let mut message = header(&mut part, &mut control, space);
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header points to live, writable memory of the lengths that it names.
    let length = check_len(unsafe { libc::recvmsg(from.as_raw_fd(), &raw mut message, flags) })?;
    let mut received = Vec::new();
    // SAFETY: the kernel has written whole control messages into the buffer and their total length into the header; the
    // macros stay inside of it. Each descriptor is new, and owned by nothing else.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(&raw const message);
        while let Some(control) = at.as_ref() {
            if control.cmsg_level == libc::SOL_SOCKET && control.cmsg_type == libc::SCM_RIGHTS {
                let count = (control.cmsg_len - control_sizes(0).1) / size_of::<RawFd>();
                let data = libc::CMSG_DATA(at);
                for index in 0..count {
                    let number: RawFd = std::ptr::read_unaligned(data.add(index * size_of::<RawFd>()).cast());
                    received.push(OwnedFd::from_raw_fd(number));
                }
            }
            at = libc::CMSG_NXTHDR(&raw const message, at);
        }
    }
    if message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too large"));
    }
    Ok((length, received))
}

/// Process and user at the other end of a connected unix socket, as they were when it was connected (SO_PEERCRED).
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let mut found = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `found` has `len` writable bytes.
    check(unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut found).cast(), &raw mut len)
    })?;
    Ok((u32::try_from(found.pid).unwrap_or(0), found.uid))
}

/// The effective user of this process.
pub(crate) fn user() -> u32 {
    // SAFETY: the call has no arguments and can't fail.
    unsafe { libc::geteuid() }
}

/// Sends a signal to a process, never to a group of them.
pub(crate) fn signal(process: u32, signal: libc::c_int) -> io::Result<()> {
    let process = libc::pid_t::try_from(process).ok().filter(|id| *id > 0);
    let process = process.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a process id"))?;
    // SAFETY: the call touches no memory of this process.
    check(unsafe { libc::kill(process, signal) })?;
    Ok(())
}

/// Registers a socket with the runtime of this thread. The socket in it must not be exchanged through `get_mut`.
pub(crate) fn watched(socket: socket2::Socket, interest: Interest) -> io::Result<AsyncFd<socket2::Socket>> {
    // SAFETY: a `Socket` stays open, and the same, until it is dropped, which `AsyncFd` does itself.
    Ok(unsafe { AsyncFd::register_with_interest(socket, interest) }?)
}
