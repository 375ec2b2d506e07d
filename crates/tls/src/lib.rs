//! TLS: contexts made of plain data, handshakes, and the stream that carries a session.
//!
//! Owns: everything that rustls and aws-lc-rs do for the proxy: certificates and their choice, verification of peers, resumption,
//! key logs, and the record layer of established sessions. Does not own: configuration messages, files that are read, whom to
//! connect to, statistics (it says what happened, the caller counts).
//!
//! *Invariant*: no other crate names rustls.
//! *Invariant*: an idle session holds no buffer.

mod finding;
pub mod spec;

pub use self::finding::{ContextError, Finding, Warning};
