//! Which certificate a server shows: by server name, then by what the client can verify (`TlsCertificate` selection of Envoy).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureScheme, client};

use crate::clock::Clock;
use crate::identity::Identity;
use crate::notes::{self, StapleOutcome};
use crate::spec::OcspStaplePolicy;

/// One certificate in the form in which a context uses it.
#[derive(Debug)]
struct Choice {
    identity: Arc<Identity>,
    key: Arc<CertifiedKey>,
    stapled: Option<Arc<CertifiedKey>>,
}

/// Chooses among the certificates of a context.
#[derive(Debug)]
pub(crate) struct Certificates {
    choices: Vec<Choice>,
    /// Exact names, and wildcards with their `*`, in lower case.
    names: HashMap<String, Vec<usize>>,
    policy: OcspStaplePolicy,
    scan_on_mismatch: bool,
    require_sni: bool,
    /// Whether anything depends on the client's wish for an OCSP staple.
    pub(crate) cares_for_staples: bool,
    clock: Clock,
}

/// How the certificates are chosen.
pub(crate) struct Selection<'a> {
    pub(crate) policy: OcspStaplePolicy,
    pub(crate) scan_on_mismatch: bool,
    pub(crate) require_sni: bool,
    pub(crate) signatures: Option<&'a [SignatureScheme]>,
    pub(crate) clock: Clock,
}

impl Certificates {
    pub(crate) fn new(identities: &[Arc<Identity>], selection: Selection<'_>) -> Certificates {
        let mut names: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, identity) in identities.iter().enumerate() {
            for name in &identity.server_names {
                names.entry(name.clone()).or_default().push(index);
            }
        }
        let limited = |key: &Arc<CertifiedKey>| match selection.signatures {
            Some(allowed) => Identity::limited(key, allowed),
            None => Arc::clone(key),
        };
        let choices = identities.iter().map(|identity| Choice {
            key: limited(&identity.key),
            stapled: identity.stapled.as_ref().map(limited),
            identity: Arc::clone(identity),
        });
        let cares = |identity: &Arc<Identity>| identity.stapled.is_some() || identity.must_staple;
        Certificates {
            cares_for_staples: selection.policy == OcspStaplePolicy::MustStaple || identities.iter().any(cares),
            choices: choices.collect(),
            names,
            policy: selection.policy,
            scan_on_mismatch: selection.scan_on_mismatch,
            require_sni: selection.require_sni,
            clock: selection.clock,
        }
    }

    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<usize> {
        let mut lower = String::new();
        if let Some(name) = name {
            lower = name.to_ascii_lowercase();
            if let Some(named) = self.named(&lower) {
                return self.best(named.iter().copied(), schemes);
            }
        }
        // Without a name all are looked through; with one that nobody has, only if the configuration says so.
        if lower.is_empty() || self.scan_on_mismatch {
            return self.best(0..self.choices.len(), schemes);
        }
        Some(0)
    }

    fn named(&self, name: &str) -> Option<&Vec<usize>> {
        self.names.get(name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.names.get(&format!("*.{parent}"))
        })
    }

    /// An ECDSA certificate if the client can verify it, else another, else the first.
    fn best(&self, among: impl Iterator<Item = usize> + Clone, schemes: &[SignatureScheme]) -> Option<usize> {
        let fits = |index: &usize| {
            let choice = &self.choices[*index];
            choice.key.key.choose_scheme(schemes).is_some() && self.staple(choice) != StapleOutcome::Failed
        };
        let ecdsa = among.clone().filter(|index| self.choices[*index].identity.is_ecdsa).find(fits);
        ecdsa.or_else(|| among.clone().find(fits)).or_else(|| among.clone().next())
    }

    fn staple(&self, choice: &Choice) -> StapleOutcome {
        if !notes::with(|notes| notes.wants_staple) {
            return StapleOutcome::NotRequested;
        }
        let staple = choice.identity.staple.as_ref();
        let is_valid = staple.is_some_and(|staple| !staple.is_expired(self.clock.seconds()));
        let policy = if choice.identity.must_staple { OcspStaplePolicy::MustStaple } else { self.policy };
        match policy {
            _ if is_valid => StapleOutcome::Sent,
            OcspStaplePolicy::MustStaple => StapleOutcome::Failed,
            OcspStaplePolicy::StrictStapling if staple.is_some() => StapleOutcome::Failed,
            _ => StapleOutcome::Omitted,
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        notes::with(|notes| notes.server_name = hello.server_name().map(Arc::from));
        if self.require_sni && hello.server_name().is_none() {
            return None;
        }
        let index = self.choose(hello.server_name(), hello.signature_schemes())?;
        let choice = self.choices.get(index)?;
        let staple = self.staple(choice);
        notes::with(|notes| (notes.identity, notes.staple) = (Some(index), staple));
        match staple {
            StapleOutcome::Failed => None,
            StapleOutcome::Sent => choice.stapled.clone(),
            _ => Some(Arc::clone(&choice.key)),
        }
    }
}

/// The certificate that a client shows when it is asked for one.
#[derive(Debug)]
pub(crate) struct ClientCertificate(pub(crate) Option<Arc<CertifiedKey>>);

impl client::ResolvesClientCert for ClientCertificate {
    fn resolve(&self, _authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let key = self.0.as_ref().filter(|key| key.key.choose_scheme(schemes).is_some())?;
        notes::with(|notes| notes.identity = Some(0));
        Some(Arc::clone(key))
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}
