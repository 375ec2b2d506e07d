//! What rustls' callbacks learn of the handshake that is being driven.
//!
//! Contexts are shared by all connections, and rustls tells its callbacks nothing of the connection. Handshakes are driven
//! synchronously on one thread, so the notes of the one that is driven stand in a thread-local meanwhile.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls_pki_types::CertificateDer;

use crate::session::FailureKind;

/// What became of the OCSP staple, for the `ssl.ocsp_staple_*` counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StapleOutcome {
    /// The client did not ask for one.
    #[default]
    NotRequested,
    /// It was sent (`ocsp_staple_responses`).
    Sent,
    /// There was none that is valid (`ocsp_staple_omitted`).
    Omitted,
    /// The handshake fails for want of one (`ocsp_staple_failed`).
    Failed,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) local: Option<IpAddr>,
    pub(crate) remote: Option<IpAddr>,
    /// Whether the client can take an OCSP staple.
    pub(crate) wants_staple: bool,
    /// What the client asked for.
    pub(crate) server_name: Option<Arc<str>>,
    /// Which certificate this side shows.
    pub(crate) identity: Option<usize>,
    pub(crate) staple: StapleOutcome,
    /// Names of which the peer's certificate must have one, instead of the configured matchers.
    pub(crate) names: Option<Arc<[Arc<str>]>>,
    /// How the peer signed.
    pub(crate) peer_scheme: Option<SignatureScheme>,
    /// Whether the peer's certificate was found to be what the configuration asks for.
    pub(crate) is_validated: bool,
    /// The peer's chain, if it was not accepted.
    pub(crate) refused: Vec<CertificateDer<'static>>,
    /// Why the peer's certificate was not accepted.
    pub(crate) failure: Option<(FailureKind, String)>,
}

thread_local! {
    static CURRENT: RefCell<Option<Box<Notes>>> = const { RefCell::new(None) };
}

/// Runs `drive`; callbacks reach the notes meanwhile.
pub(crate) fn during<T>(notes: &mut Option<Box<Notes>>, drive: impl FnOnce() -> T) -> T {
    CURRENT.with_borrow_mut(|current| std::mem::swap(current, notes));
    let result = drive();
    CURRENT.with_borrow_mut(|current| std::mem::swap(current, notes));
    result
}

/// For callbacks; outside of a handshake there are no notes.
pub(crate) fn with<T: Default>(access: impl FnOnce(&mut Notes) -> T) -> T {
    CURRENT.with_borrow_mut(|current| current.as_deref_mut().map(access).unwrap_or_default())
}
