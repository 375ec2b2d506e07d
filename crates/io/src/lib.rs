//! Sockets, original destination, buffers and watermarks, splice, log files.

pub mod buffer;
pub mod transport;

pub mod splice;
mod sys;
