//! Sockets, original destination, buffers and watermarks, splice, log files; CPUs, descriptors and watched files.
//!
//! What the kernel does for a proxy, and what the standard library does not offer: everything else in the data plane is
//! safe Rust on top of this crate. Nothing here knows HTTP, configuration messages or policy.
//!
//! *Invariant*: `unsafe` stands only in `sys` (system calls) and `buffer` (spare capacity).

pub mod accept;
mod address;
pub mod buffer;
pub mod connect;
pub mod cpu;
pub mod fd_limit;
pub mod handover;
pub mod listen;
pub mod log_file;
pub mod original_dst;
pub mod process;
pub mod socket_option;
pub mod splice;
mod sys;
pub mod transport;
pub mod watch;

pub use address::{Address, errno_text};
