//! What tests and differential runs need around a proxy: a scripted origin that speaks HTTP/1 and HTTP/2, clients of both
//! that send the bytes they are told to, reserved ports, a process runner, readers of statistics and access logs, and an in-memory byte stream. Development only.
//!
//! Plain blocking threads throughout: a test reads top to bottom, and a stuck peer ends in a timeout that is reported as
//! an outcome. Nothing here decides what is right; it plays a script and records what it saw.

pub mod access_log;
pub mod allocation;
pub mod authority;
pub mod client;
pub mod dns;
pub mod gate;
pub mod h2_client;
pub mod h2_raw;
pub mod memory;
pub mod message;
pub mod netns;
pub mod origin;
pub mod port;
pub mod process;
pub mod stats;
#[cfg(feature = "xds")]
pub mod xds;

/// How long a blocking wait lasts before it is reported as timed out. Long enough for a loaded machine, short enough that a
/// hanging proxy is noticed.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(8);
