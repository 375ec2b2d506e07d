//! Sockets, original destination, buffers and watermarks, splice, log files.

pub mod accept;
mod address;
pub mod buffer;
pub mod connect;
pub mod listen;
pub mod original_dst;
pub mod socket_option;
pub mod transport;

pub mod splice;
mod sys;

pub use address::{Address, errno_text};
