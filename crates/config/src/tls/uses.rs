//! The contexts in use, and how they follow their secrets.

use super::context::{client_spec, server_spec};
use super::expiry::Expiry;
use super::reading::{Found, Reading};
use super::secrets::{SecretKey, Secrets, is_discovered};
use crate::compile::{Compile, Environment, Invalid};
use crate::lower::config_source;
use crate::sources::{DynamicUse, SecretUse};
use nuncio_api::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use nuncio_api::wkt::Any;
use nuncio_cluster::TlsCounters;
use nuncio_cluster::config::UpstreamTls;
use nuncio_stats::names::{TlsSocketFactoryStats, TlsUpdateFailureStats};
use nuncio_stats::{Scope, sanitize};
use nuncio_tls::spec::{ClientSpec, ServerSpec};
use nuncio_tls::{CertificateDetails, ClientContext, ContextError, Finding, ServerContext, Warning};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;
use tls::downstream_tls_context::SessionTicketKeysType;

/// The TLS context of a filter chain.
pub struct DownstreamTls {
    /// The context. It follows its secrets.
    pub context: ServerContext,
    /// `listener.<address>.ssl.*`.
    pub counters: TlsCounters,
    /// `listener.<address>.server_ssl_socket_factory.*`
    pub factory: Arc<TlsSocketFactoryStats>,
}

impl fmt::Debug for DownstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DownstreamTls")
    }
}

/// What became of a context whose files changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refreshed {
    /// New connections take the new one.
    Updated,
    /// It can't be built: the old one stays. Says why.
    Kept(String),
    /// One of its secrets is not there yet.
    Pending,
    /// Nobody uses it any more.
    Gone,
}

/// Whose context it is.
enum Owner {
    Downstream(Weak<DownstreamTls>),
    Upstream(Weak<UpstreamTls>),
}

/// A context in use: what it is made of, so that it can be made again.
pub struct TlsUse {
    /// Where it stands in the configuration.
    pub place: String,
    owner: Owner,
    /// The context's message.
    message: Box<[u8]>,
    environment: Environment,
    secrets: Arc<Secrets>,
    paths: Mutex<Paths>,
    stats: Arc<TlsSocketFactoryStats>,
    /// Secrets of discovery.
    discovered: Vec<SecretKey>,
    failures: TlsUpdateFailureStats,
    /// `<owner>.ssl`.
    scope: Scope,
    names: Names,
    /// `certificate.<name>.expiration_unix_time_seconds`, kept as long as the context.
    expiries: Mutex<Vec<Expiry>>,
}

/// Files and directories that a context rests on.
#[derive(Debug, Default)]
struct Paths {
    /// Those that the present one was built from.
    in_use: BTreeSet<PathBuf>,
    /// Those of an attempt that failed since: what makes it succeed is a change of one of them.
    attempted: BTreeSet<PathBuf>,
}

/// What the gauges of a context's certificates are named by: the secrets that they are.
struct Names {
    /// How many certificates have no name; they come first.
    unnamed: usize,
    secrets: Vec<String>,
    authorities: String,
}

/// Envoy's names for what stands in the context itself: the start of the digest of an empty name.
const UNNAMED: &str = "unnamed_cert_e3b0c442";
const UNNAMED_AUTHORITY: &str = "unnamed_ca_cert_e3b0c442";

impl Names {
    fn of(common: Option<tls::CommonTlsContext>) -> Names {
        use tls::common_tls_context::ValidationContextType as Kind;
        let common = common.unwrap_or_default();
        let authorities = match common.validation_context_type {
            Some(Kind::ValidationContextSdsSecretConfig(config)) => Some(config.name),
            Some(Kind::CombinedValidationContext(combined)) => {
                combined.validation_context_sds_secret_config.map(|config| config.name)
            }
            _ => None,
        };
        Names {
            unnamed: common.tls_certificates.len(),
            secrets: common.tls_certificate_sds_secret_configs.into_iter().map(|config| config.name).collect(),
            authorities: authorities.filter(|name| !name.is_empty()).unwrap_or_else(|| UNNAMED_AUTHORITY.to_owned()),
        }
    }

    /// The name of the certificate at a place of the context's list.
    fn certificate(&self, index: usize) -> &str {
        let secret = index.checked_sub(self.unnamed).and_then(|index| self.secrets.get(index));
        secret.filter(|name| !name.is_empty()).map_or(UNNAMED, String::as_str)
    }
}

impl Paths {
    fn all(&self) -> BTreeSet<PathBuf> {
        self.in_use.union(&self.attempted).cloned().collect()
    }

    /// The context was built anew from these, or could not be.
    fn read(&mut self, paths: BTreeSet<PathBuf>, built: bool) {
        if built {
            *self = Paths { in_use: paths, attempted: BTreeSet::new() };
        } else {
            self.attempted = paths;
        }
    }
}

/// The certificates of a context.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificates {
    /// Those that are shown.
    pub chain: Vec<CertificateDetails>,
    /// The authorities that the peer's are verified against.
    pub authorities: Vec<CertificateDetails>,
}

impl TlsUse {
    /// The certificates in use; none if nobody uses the context any more.
    pub fn certificates(&self) -> Option<Certificates> {
        Some(match &self.owner {
            Owner::Downstream(owner) => {
                let context = &owner.upgrade()?.context;
                Certificates { chain: context.certificates(), authorities: context.authorities() }
            }
            Owner::Upstream(owner) => {
                let context = &owner.upgrade()?.context;
                Certificates { chain: context.certificates(), authorities: context.authorities() }
            }
        })
    }

    /// Sets the gauges of when certificates expire: of each name the one that is first to.
    fn note_expiry(&self) {
        let Some(Certificates { chain, authorities }) = self.certificates() else { return };
        let expiry = |certificate: &CertificateDetails| {
            certificate.expiration_time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
        };
        let mut first = BTreeMap::new();
        let mut note = |name: &str, at: u64| {
            first.entry(name.to_owned()).and_modify(|first: &mut u64| *first = at.min(*first)).or_insert(at);
        };
        for (index, certificate) in chain.iter().enumerate() {
            note(self.names.certificate(index), expiry(certificate));
        }
        for certificate in &authorities {
            note(&self.names.authorities, expiry(certificate));
        }
        let expiries = first
            .into_iter()
            .map(|(name, at)| Expiry::note(&self.scope.child(&format!("certificate.{}", sanitize(&name))), at));
        let expiries = expiries.collect();
        *self.expiries.lock().unwrap_or_else(PoisonError::into_inner) = expiries;
    }

    /// Whether somebody uses the context.
    pub fn is_used(&self) -> bool {
        match &self.owner {
            Owner::Downstream(owner) => owner.strong_count() > 0,
            Owner::Upstream(owner) => owner.strong_count() > 0,
        }
    }

    /// Files and directories whose change may change it.
    pub fn paths(&self) -> BTreeSet<PathBuf> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner).all()
    }

    /// Whether it rests on a secret of discovery.
    pub fn rests_on(&self, key: &SecretKey) -> bool {
        self.discovered.contains(key)
    }

    /// Builds the context anew and puts it in the place of the present one. Reads files; not for workers.
    pub fn refresh(&self) -> Refreshed {
        let mut found = Found::default();
        let mut cx = Reading::new(&mut found, &self.environment, &self.secrets);
        let done = match &self.owner {
            Owner::Downstream(owner) => {
                let Some(owner) = owner.upgrade() else { return Refreshed::Gone };
                read_server(&self.message, &mut cx).and_then(|spec| checked(owner.context.replace(&spec), &mut cx))
            }
            Owner::Upstream(owner) => {
                let Some(owner) = owner.upgrade() else { return Refreshed::Gone };
                read_client(&self.message, &mut cx).and_then(|spec| checked(owner.context.replace(&spec), &mut cx))
            }
        };
        self.note_expiry();
        let read = std::mem::take(&mut found.paths);
        self.paths.lock().unwrap_or_else(PoisonError::into_inner).read(read, done.is_ok());
        match done {
            Ok(_) => {
                self.stats.ssl_context_update_by_sds().inc();
                Refreshed::Updated
            }
            // Another of its secrets is awaited.
            Err(Invalid) if found.is_pending && found.errors.is_empty() => Refreshed::Pending,
            Err(Invalid) => {
                self.failures.ssl_context_update_failed().inc();
                Refreshed::Kept(found.text())
            }
        }
    }
}

fn read_server(message: &[u8], cx: &mut Reading<'_>) -> Result<ServerSpec, Invalid> {
    let context = tls::DownstreamTlsContext::decode(message).map_err(|error| cx.error(error.to_string(), ""))?;
    server_spec(&context, cx)
}

fn read_client(message: &[u8], cx: &mut Reading<'_>) -> Result<ClientSpec, Invalid> {
    let context = tls::UpstreamTlsContext::decode(message).map_err(|error| cx.error(error.to_string(), ""))?;
    client_spec(&context, cx)
}

/// What the TLS crate says of a specification becomes findings.
fn checked<T: Outcome>(outcome: Result<T, ContextError>, cx: &mut Reading<'_>) -> Result<T::Context, Invalid> {
    match outcome {
        Ok(made) => {
            let (context, warnings) = made.parts();
            cx.found.warnings.extend(warnings.into_iter().map(placed));
            Ok(context)
        }
        Err(error) => {
            cx.found.errors.push(placed(error));
            Err(Invalid)
        }
    }
}

/// Fields that both sides have stand in `common_tls_context`.
fn placed(finding: Finding) -> Finding {
    const OWN: [&str; 6] =
        ["sni", "session_ticket_keys", "session_timeout", "max_session_keys", "ocsp_staple_policy", "require_"];
    if finding.field.is_empty() || OWN.iter().any(|own| finding.field.starts_with(own)) {
        return finding;
    }
    Finding { field: format!("common_tls_context.{}", finding.field), ..finding }
}

/// A context with what there is to be said of it.
trait Outcome {
    type Context;
    fn parts(self) -> (Self::Context, Vec<Warning>);
}

impl<C> Outcome for (C, Vec<Warning>) {
    type Context = C;
    fn parts(self) -> (C, Vec<Warning>) {
        self
    }
}

impl Outcome for Vec<Warning> {
    type Context = ();
    fn parts(self) -> ((), Vec<Warning>) {
        ((), self)
    }
}

/// The context of a `DownstreamTlsContext`, its findings reported. `scope` is the listener's, `chain` what tells the filter chain
/// from others.
pub(crate) fn server(
    any: &Any,
    (scope, chain): (&Scope, &[u8]),
    cx: &mut Compile<'_>,
) -> Result<Arc<DownstreamTls>, Invalid> {
    // What a session may not be resumed across: the filter chain and its whole context. Not its place in the list, which changes
    // when others come and go.
    let mut binding = Vec::new();
    for part in [chain, scope.prefix().as_bytes(), &any.value] {
        binding.extend((part.len() as u64).to_be_bytes());
        binding.extend(part);
    }
    let context = tls::DownstreamTlsContext::decode(&any.value[..]).unwrap_or_default();
    let common = context.common_tls_context.as_ref();
    let keys = match &context.session_ticket_keys_type {
        Some(SessionTicketKeysType::SessionTicketKeysSdsSecretConfig(config)) => Some(config),
        _ => None,
    };
    follow_secrets(common, &mut cx.field("common_tls_context"))?;
    if let Some(config) = keys {
        follow_secret(config, &mut cx.field("session_ticket_keys_sds_secret_config"))?;
    }
    let (built, parts) = build(any, cx, |message, cx| {
        let spec = read_server(message, cx)?;
        checked(ServerContext::new(&spec, &binding), cx)
    });
    let context = match parts.is_pending {
        true => ServerContext::pending(&binding),
        false => built?,
    };
    let factory = Arc::new(TlsSocketFactoryStats::register(&scope.child("server_ssl_socket_factory")));
    let counters = TlsCounters::register(scope);
    let owner = Arc::new(DownstreamTls { context, counters, factory: Arc::clone(&factory) });
    remember((Owner::Downstream(Arc::downgrade(&owner)), factory), any, parts, scope, cx);
    Ok(owner)
}

/// The context of an `UpstreamTlsContext`. `scope` is the cluster's.
pub(crate) fn client(any: &Any, scope: &Scope, cx: &mut Compile<'_>) -> Result<Arc<UpstreamTls>, Invalid> {
    let context = tls::UpstreamTlsContext::decode(&any.value[..]).unwrap_or_default();
    let common = context.common_tls_context.as_ref();
    follow_secrets(common, &mut cx.field("common_tls_context"))?;
    let has_protocols = common.is_some_and(|common| !common.alpn_protocols.is_empty());
    let (built, parts) = build(any, cx, |message, cx| {
        let spec = read_client(message, cx)?;
        checked(ClientContext::new(&spec), cx)
    });
    let mut identity = any.value.clone();
    identity.extend(cx.facts.secrets.digest().to_ne_bytes());
    let context = match parts.is_pending {
        true => ClientContext::pending(),
        false => built?,
    };
    let factory = Arc::new(TlsSocketFactoryStats::register(&scope.child("client_ssl_socket_factory")));
    let identity = identity.into();
    let owner = Arc::new(UpstreamTls { context, has_protocols, identity, factory: Arc::clone(&factory) });
    remember((Owner::Upstream(Arc::downgrade(&owner)), factory), any, parts, scope, cx);
    Ok(owner)
}

/// What a context was built from.
struct Parts {
    place: String,
    environment: Environment,
    secrets: Arc<Secrets>,
    paths: BTreeSet<PathBuf>,
    discovered: Vec<SecretKey>,
    is_pending: bool,
}

fn build<C>(
    any: &Any,
    cx: &mut Compile<'_>,
    build: impl FnOnce(&[u8], &mut Reading<'_>) -> Result<C, Invalid>,
) -> (Result<C, Invalid>, Parts) {
    let (environment, secrets) = (cx.facts.environment.clone(), Arc::clone(&cx.facts.secrets));
    let mut found = Found::default();
    let built = build(&any.value, &mut Reading::new(&mut found, &environment, &secrets));
    found.report(cx);
    let place = cx.path.to_string();
    let is_pending = built.is_err() && found.is_pending && found.errors.is_empty();
    let Found { paths, discovered, .. } = found;
    (built, Parts { place, environment, secrets, paths, discovered, is_pending })
}

/// Notes the secrets of discovery that a context rests on.
fn follow_secrets(common: Option<&tls::CommonTlsContext>, cx: &mut Compile<'_>) -> Result<(), Invalid> {
    use tls::common_tls_context::ValidationContextType as Kind;
    let Some(common) = common else { return Ok(()) };
    for (index, config) in common.tls_certificate_sds_secret_configs.iter().enumerate() {
        follow_secret(config, &mut cx.element("tls_certificate_sds_secret_configs", index))?;
    }
    match &common.validation_context_type {
        Some(Kind::ValidationContextSdsSecretConfig(config)) => {
            follow_secret(config, &mut cx.field("validation_context_sds_secret_config"))
        }
        Some(Kind::CombinedValidationContext(combined)) => match &combined.validation_context_sds_secret_config {
            Some(config) => {
                let mut cx = cx.field("combined_validation_context");
                follow_secret(config, &mut cx.field("validation_context_sds_secret_config"))
            }
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn follow_secret(config: &tls::SdsSecretConfig, cx: &mut Compile<'_>) -> Result<(), Invalid> {
    let Some(source) = config.sds_config.as_ref().filter(|source| is_discovered(source)) else { return Ok(()) };
    let source = config_source(source, &mut cx.field("sds_config"))?;
    let name = config.name.as_str().into();
    cx.references.dynamic.push(DynamicUse::Secret(SecretUse { name, source, cluster: None }));
    Ok(())
}

fn remember(
    (owner, stats): (Owner, Arc<TlsSocketFactoryStats>),
    any: &Any,
    parts: Parts,
    scope: &Scope,
    cx: &mut Compile<'_>,
) {
    let Parts { place, environment, secrets, paths, discovered, is_pending: _ } = parts;
    let message = any.value.clone().into();
    let factory = scope.child(match &owner {
        Owner::Downstream(_) => "server_ssl_socket_factory",
        Owner::Upstream(_) => "client_ssl_socket_factory",
    });
    // It was decoded a moment ago; what can't be has no certificates either.
    let common = match &owner {
        Owner::Downstream(_) => {
            tls::DownstreamTlsContext::decode(&any.value[..]).map(|context| context.common_tls_context)
        }
        Owner::Upstream(_) => tls::UpstreamTlsContext::decode(&any.value[..]).map(|context| context.common_tls_context),
    };
    let used = TlsUse {
        names: Names::of(common.ok().flatten()),
        place,
        owner,
        message,
        environment,
        secrets,
        paths: Mutex::new(Paths { in_use: paths, attempted: BTreeSet::new() }),
        stats,
        discovered,
        failures: TlsUpdateFailureStats::register(&factory),
        scope: scope.child("ssl"),
        expiries: Mutex::default(),
    };
    used.note_expiry();
    cx.references.tls.push(Arc::new(used));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_in_use_and_those_of_the_last_attempt() {
        let set = |names: &[&str]| names.iter().map(PathBuf::from).collect::<BTreeSet<PathBuf>>();
        let mut paths = Paths { in_use: set(&["a"]), attempted: BTreeSet::new() };
        for name in ["b", "c"] {
            paths.read(set(&["a", name]), false);
            assert_eq!(paths.all(), set(&["a", name]));
        }
        paths.read(set(&["d"]), true);
        assert_eq!(paths.all(), set(&["d"]));
    }
}
