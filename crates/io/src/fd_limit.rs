//! The limit of open files. Every connection needs a descriptor, and the soft limit that shells and containers start with
//! (1024) exists for programs that use `select`; this one does not.

use std::io;

use crate::sys;

/// Limits of open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFileLimit {
    /// The soft limit before it was raised.
    pub before: u64,
    /// The soft limit now.
    pub now: u64,
    /// The hard limit: as far as this process may go.
    pub hard: u64,
}

/// Raises the soft limit to the hard limit. Call it once at start.
pub fn raise() -> io::Result<OpenFileLimit> {
    let (before, hard) = sys::open_file_limit()?;
    if before < hard {
        sys::set_open_file_limit(hard, hard)?;
    }
    let (now, hard) = sys::open_file_limit()?;
    Ok(OpenFileLimit { before, now, hard })
}

/// Sets the soft limit, to try what happens when descriptors run out.
pub fn set_soft(limit: u64) -> io::Result<()> {
    let (_, hard) = sys::open_file_limit()?;
    sys::set_open_file_limit(limit.min(hard), hard)
}
