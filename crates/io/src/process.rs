//! Other processes: signals to them.

use std::io;

use crate::sys::rights;

/// A signal that a supervisor passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM
    Terminate,
    /// SIGKILL
    Kill,
    /// SIGUSR1
    User1,
}

/// Sends a signal to a process. Only for a child that was not waited for yet: its number is not given to another one.
pub fn send_signal(process: u32, signal: Signal) -> io::Result<()> {
    let number = match signal {
        Signal::Terminate => libc::SIGTERM,
        Signal::Kill => libc::SIGKILL,
        Signal::User1 => libc::SIGUSR1,
    };
    rights::signal(process, number)
}
