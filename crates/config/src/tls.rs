//! TLS contexts of a configuration: what they are made of, where their secrets come from, and how they follow changes.
//!
//! A context is lowered in one step from its message and its secrets, with all files read: [`context`]. The same step is done
//! again when a file has changed ([`TlsUse::refresh`]); connections take what the slot holds when they begin.
//!
//! *Invariant*: what can't be built replaces nothing.

mod context;
mod expiry;
mod parameters;
mod reading;
mod secrets;
mod trust_bundles;
mod uses;
mod validation;

pub(crate) use secrets::digest_of;
pub use secrets::{DiscoveredSecrets, SecretKey, SecretSource, Secrets};
pub use uses::{Certificates, DownstreamTls, Refreshed, TlsUse};
pub(crate) use uses::{client, server};
