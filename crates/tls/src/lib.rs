//! TLS: contexts made of plain data, handshakes, and the stream that carries a session.
//!
//! Owns: everything that rustls and aws-lc-rs do for the proxy: certificates and their choice, verification of peers, resumption,
//! key logs, and the record layer of established sessions. Does not own: configuration messages, files that are read, whom to
//! connect to, statistics (it says what happened, the caller counts).
//!
//! *Invariant*: no other crate names rustls.
//! *Invariant*: an idle session holds no buffer.

mod certificate;
mod client;
mod client_sessions;
mod clock;
mod der;
mod finding;
pub mod fuzz;
mod handshake;
mod hello;
mod identity;
mod info;
mod key;
mod key_log;
mod name;
mod notes;
mod ocsp;
mod parameters;
mod pem;
mod pkcs12;
mod resolve;
mod roots;
mod san;
mod server;
mod session;
mod shared;
pub mod spec;
mod spiffe;
mod stream;
mod ticket;
mod turn;
mod validation;
mod verify;

pub use self::client::{ClientContext, ClientHandshake, ConnectOptions};
pub use self::clock::Clock;
pub use self::finding::{ContextError, Finding, Warning};
pub use self::identity::CertificateDetails;
pub use self::server::{ServerContext, ServerHandshake};
pub use self::session::{FailureKind, HandshakeError, StapleOutcome, TlsSession};
