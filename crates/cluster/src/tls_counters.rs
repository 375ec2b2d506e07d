//! `<owner>.ssl.*`: what is counted of the TLS sessions of a listener or a cluster.

use nuncio_stats::names::TlsStats;
use nuncio_stats::{Counter, Scope};
use nuncio_tls::{FailureKind, HandshakeError, StapleOutcome, TlsSession};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// The counters of one owner.
pub struct TlsCounters {
    /// `ssl.*`.
    pub stats: TlsStats,
    scope: Scope,
    named: Mutex<HashMap<(&'static str, &'static str), Counter>>,
}

impl TlsCounters {
    /// Those of `scope`: a listener's or a cluster's.
    pub fn register(scope: &Scope) -> TlsCounters {
        let scope = scope.child("ssl");
        TlsCounters { stats: TlsStats::register(&scope), scope, named: Mutex::default() }
    }

    /// A handshake was completed.
    pub fn established(&self, session: &TlsSession) {
        let stats = self.stats.local();
        stats.handshake().inc();
        if session.resumed {
            stats.session_reused().inc();
        }
        if !session.has_peer_certificate {
            stats.no_certificate().inc();
        }
        self.staple(session.staple);
        let TlsSession { version, cipher, curve, signature_algorithm, .. } = session;
        for (kind, name) in
            [("versions", version), ("ciphers", cipher), ("curves", curve), ("sigalgs", signature_algorithm)]
        {
            if !name.is_empty() {
                self.named(kind, name);
            }
        }
    }

    /// A handshake failed.
    pub fn failed(&self, error: &HandshakeError) {
        let stats = self.stats.local();
        match error.kind {
            FailureKind::NoCertificate => stats.fail_verify_no_cert().inc(),
            FailureKind::VerifyError => stats.fail_verify_error().inc(),
            FailureKind::VerifySan => stats.fail_verify_san().inc(),
            FailureKind::VerifyCertificateHash => stats.fail_verify_cert_hash().inc(),
            FailureKind::Protocol => stats.connection_error().inc(),
            // Counted where the context is.
            FailureKind::NotReady | FailureKind::Closed => {}
        }
        self.staple(error.staple);
    }

    fn staple(&self, outcome: StapleOutcome) {
        let stats = self.stats.local();
        let counter = match outcome {
            StapleOutcome::NotRequested => return,
            StapleOutcome::Sent => stats.ocsp_staple_responses(),
            StapleOutcome::Omitted => stats.ocsp_staple_omitted(),
            StapleOutcome::Failed => stats.ocsp_staple_failed(),
        };
        counter.inc();
        stats.ocsp_staple_requests().inc();
    }

    fn named(&self, kind: &'static str, name: &'static str) {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = named.get(&(kind, name)) {
            counter.inc();
            return;
        }
        let counter = self.scope.child(kind).dynamic_counter(name);
        counter.inc();
        named.insert((kind, name), counter);
    }
}

impl fmt::Debug for TlsCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsCounters").field(&self.scope).finish()
    }
}
