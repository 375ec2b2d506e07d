//! Access loggers.

pub mod file;
pub mod stream;
