//! What a log file writes to. Owns the ways to write to each kind of file without ever blocking on a reader.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use super::LogDestination;
use crate::sys;

/// A pipe that polls as writable takes this much without blocking (PIPE_BUF).
const ATOMIC: usize = 4096;

enum Kind {
    /// A regular file: writing waits for the disk at most.
    File { device: u64, inode: u64 },
    /// Opened so that it does not block.
    NonBlocking,
    /// A socket: each call says that it must not block.
    Socket,
    /// Someone else's pipe or terminal, shared with others who may count on it to block: ask before each piece.
    Shared,
}

pub(super) struct Output {
    file: File,
    kind: Kind,
}

impl Output {
    pub(super) fn open(destination: &LogDestination) -> io::Result<Self> {
        match destination {
            LogDestination::Path(path) => Self::open_path(path),
            LogDestination::Stdout => Self::share(io::stdout().as_fd(), "/proc/self/fd/1"),
            LogDestination::Stderr => Self::share(io::stderr().as_fd(), "/proc/self/fd/2"),
        }
    }

    fn open_path(path: &str) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o644).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let file = match options.open(path) {
            // A named pipe that nobody reads yet. Held for reading too, it takes lines until it is full.
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) && is_fifo(path) => {
                options.create(false).read(true).open(path)?
            }
            other => other?,
        };
        let found = file.metadata()?;
        let kind = match found.is_file() {
            true => Kind::File { device: found.dev(), inode: found.ino() },
            false => Kind::NonBlocking,
        };
        Ok(Output { file, kind })
    }

    /// A descriptor that this process was started with.
    fn share(fd: std::os::fd::BorrowedFd<'_>, again: &str) -> io::Result<Self> {
        let file = File::from(fd.try_clone_to_owned()?);
        let found = file.metadata()?;
        let kind = found.file_type();
        if kind.is_file() {
            // Not opened anew: others who write to it through this descriptor share its position.
            return Ok(Output { file, kind: Kind::File { device: found.dev(), inode: found.ino() } });
        }
        if kind.is_socket() {
            return Ok(Output { file, kind: Kind::Socket });
        }
        // Opened anew, the flag not to block is ours alone.
        let mut options = OpenOptions::new();
        options.append(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        Ok(match options.open(again) {
            Ok(file) => Output { file, kind: Kind::NonBlocking },
            Err(_) => Output { file, kind: Kind::Shared },
        })
    }

    /// Writes some of `bytes`; `WouldBlock` if it takes none now.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let fd = self.file.as_fd();
        match self.kind {
            Kind::File { .. } | Kind::NonBlocking => sys::write(fd, bytes),
            Kind::Socket => sys::send_now(fd, bytes),
            Kind::Shared => {
                let mut waiting = [libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLOUT, revents: 0 }];
                if sys::poll(&mut waiting, Some(std::time::Duration::ZERO))? == 0 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                sys::write(fd, &bytes[..bytes.len().min(ATOMIC)])
            }
        }
    }

    /// Whether `path` is another file by now, or none: it was rotated.
    pub(super) fn was_rotated(&self, path: &str) -> bool {
        match self.kind {
            Kind::File { device, inode } => match std::fs::metadata(path) {
                Ok(found) => (found.dev(), found.ino()) != (device, inode),
                Err(e) => e.kind() == io::ErrorKind::NotFound,
            },
            Kind::NonBlocking | Kind::Socket | Kind::Shared => false,
        }
    }
}

impl AsRawFd for Output {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

fn is_fifo(path: &str) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo())
}
