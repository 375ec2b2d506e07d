//! HTTP/1 connections: the codec joined to a transport and its buffers.
//!
//! Owns: reading and writing the messages of one connection, one exchange after the other. Does not own: pools, timers,
//! filters, or what a message means. All methods that wait are `poll_*` and cancel safe: what was read stays buffered.

mod client;
mod server;
mod wire;

pub use client::ClientConnection;
pub use server::ServerConnection;
pub use wire::{BodyPart, RecvError};
