//! The xDS subscription engine, as state machines without I/O.
//!
//! Owns: what is subscribed to, which requests follow from it and in which order, versions and nonces, ACK and NACK, which watch
//! gets which resource, time to live, and back-off. Does not own: streams, timers and files (`server::xds`), nor what a resource
//! means (`config`).
//!
//! Time and randomness are passed in. A [`Mux`] is fed responses and asked for requests; between the two, whoever drives it hands
//! the [`Delivery`] to the watches and says what they made of it.
//!
//! *Invariant*: every response is answered exactly once, with an ACK or a NACK, in the order of arrival per type.
//! *Invariant*: nothing here trusts the server: responses of unknown types, duplicate names and undecodable bodies are outcomes.
//!
//! Where the protocol's description leaves room, this does what Envoy 1.40 does on the wire.

mod back_off;
mod delta;
mod kind;
mod mux;
mod rate_limit;
mod resource;
mod sotw;
mod time_to_live;
mod watches;

#[cfg(test)]
mod tests;

pub use back_off::BackOff;
pub use kind::ResourceType;
pub use mux::{Delivery, Dialect, Message, Mux, MuxOptions, Outcome, Received, Request, Share};
pub use rate_limit::RateLimit;
pub use resource::Resource;
pub use watches::{Names, WatchId};

pub use nuncio_api::pb::envoy::service::discovery::v3 as pb;
