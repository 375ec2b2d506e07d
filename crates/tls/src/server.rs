//! The server's side: a context for a filter chain, and its handshakes.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};

use nuncio_io::transport::Transport;
use nuncio_stream_info::TlsInfo;
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, StoresServerSessions, UnbufferedServerConnection};

use crate::clock::Clock;
use crate::finding::{ContextError, Finding, Warning};
use crate::handshake::{Accepting, Established, Handshake, Wire};
use crate::hello::{self, Hello, Wishes};
use crate::identity::{CertificateDetails, Identity};
use crate::info::{self, Infos, Key};
use crate::key_log::KeyLogger;
use crate::notes::Notes;
use crate::parameters::{self, Parameters};
use crate::resolve::{Certificates, Selection};
use crate::session::{FailureKind, HandshakeError, StapleOutcome, TlsSession};
use crate::shared::{Digest, Hasher};
use crate::spec::{OcspStaplePolicy, ServerSpec, TlsVersion};
use crate::ticket::{SessionCache, Ticketer};
use crate::turn::Turn;
use crate::validation::{Demands, Validation};
use crate::verify::{Peer, Verifier};

/// BoringSSL's default of `session_timeout`, seconds.
const SESSION_TIMEOUT: u32 = 7200;

/// What is used for new handshakes; replaced as a whole.
struct State {
    config: Arc<ServerConfig>,
    /// For clients that offer protocols of which none is ours: they go on without, as in Envoy.
    without_alpn: Option<Arc<ServerConfig>>,
    certificates: Arc<Certificates>,
    identities: Vec<Arc<Identity>>,
    verifier: Arc<Verifier>,
    alpn: Vec<Arc<str>>,
    infos: Infos,
    /// What resumption is bound to.
    digest: Digest,
    sessions: Option<Arc<SessionCache>>,
    clock: Clock,
}

/// A `DownstreamTlsContext`, ready for handshakes. Shared by all workers.
pub struct ServerContext {
    /// None as long as its secrets are not there.
    state: RwLock<Option<Arc<State>>>,
    binding: Vec<u8>,
    clock: Clock,
}

impl std::fmt::Debug for ServerContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerContext")
    }
}

impl ServerContext {
    /// `binding` is what resumption must not cross, besides what the specification says: the listener and filter chain.
    pub fn new(spec: &ServerSpec, binding: &[u8]) -> Result<(ServerContext, Vec<Warning>), ContextError> {
        Self::with_clock(spec, binding, Clock::default())
    }

    /// As [`ServerContext::new`], with a clock of one's own.
    pub fn with_clock(
        spec: &ServerSpec,
        binding: &[u8],
        clock: Clock,
    ) -> Result<(ServerContext, Vec<Warning>), ContextError> {
        let (state, warnings) = State::new(spec, binding, &clock, None)?;
        let state = RwLock::new(Some(Arc::new(state)));
        Ok((ServerContext { state, binding: binding.to_vec(), clock }, warnings))
    }

    /// A context whose secrets are not there yet: handshakes fail until [`ServerContext::replace`] brings them.
    pub fn pending(binding: &[u8]) -> ServerContext {
        ServerContext { state: RwLock::new(None), binding: binding.to_vec(), clock: Clock::default() }
    }

    /// Takes another specification for new handshakes, for example because a certificate changed on disk. Where it can't be used
    /// everything stays as it was. Established sessions go on.
    pub fn replace(&self, spec: &ServerSpec) -> Result<Vec<Warning>, ContextError> {
        let before = self.state();
        let (state, warnings) = State::new(spec, &self.binding, &self.clock, before.as_deref())?;
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(state));
        Ok(warnings)
    }

    fn state(&self) -> Option<Arc<State>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The certificates that are shown, in the order of the specification.
    pub fn certificates(&self) -> Vec<CertificateDetails> {
        let state = self.state();
        let identities = state.iter().flat_map(|state| &state.identities);
        identities.map(|identity| identity.details.clone()).collect()
    }

    /// The authorities that clients' certificates are verified against.
    pub fn authorities(&self) -> Vec<CertificateDetails> {
        self.state().map(|state| state.verifier.authorities()).unwrap_or_default()
    }

    /// Begins a handshake on a connection that was accepted. The addresses decide about the key log.
    pub fn accept(&self, carrier: Transport, local: Option<IpAddr>, remote: Option<IpAddr>) -> ServerHandshake {
        let notes = Some(Box::new(Notes { local, remote, ..Notes::default() }));
        let accepting = Accepting::Hello(Some(Wire::new(carrier)));
        ServerHandshake { state: self.state(), accepting, notes, turn: Turn::Idle }
    }
}

impl State {
    fn new(
        spec: &ServerSpec,
        binding: &[u8],
        clock: &Clock,
        before: Option<&State>,
    ) -> Result<(State, Vec<Warning>), ContextError> {
        let mut warnings = Vec::new();
        let identities = identities(spec)?;
        let parameters = Parameters::new(&spec.parameters, TlsVersion::V1_3, &mut warnings)?;
        let require_client_certificate = spec.require_client_certificate;
        let demands = Demands { peer: Peer::Client, require_client_certificate, parameters: &parameters };
        let validation = Validation::new(spec.validation.as_ref(), &demands)?;
        let digest = digest(spec, binding, &identities, &validation.digest);
        let selection = Selection {
            policy: spec.ocsp_staple_policy,
            scan_on_mismatch: spec.full_scan_certs_on_sni_mismatch,
            require_sni: spec.require_sni,
            signatures: parameters.signatures.as_deref(),
            clock: clock.clone(),
        };
        let certificates = Arc::new(Certificates::new(&identities, selection));
        let wrong = |error: rustls::Error| Finding::new("tls_params", error.to_string(), "");
        let builder = ServerConfig::builder_with_details(Arc::clone(&parameters.provider), Arc::new(clock.clone()))
            .with_protocol_versions(&parameters.versions)
            .map_err(wrong)?;
        let builder = match validation.verifier.asks {
            true => builder.with_client_cert_verifier(Arc::clone(&validation.verifier) as _),
            false => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&certificates) as _);
        config.enable_secret_extraction = true;
        config.ignore_client_order = !spec.prefer_client_ciphers;
        config.alpn_protocols = spec.alpn_protocols.clone();
        if let Some(key_log) = &spec.key_log {
            config.key_log = Arc::new(KeyLogger::open(key_log)?);
        }
        let sessions = resumption(spec, &mut config, digest, clock, before)?;
        let config = Arc::new(config);
        let without_alpn = (!config.alpn_protocols.is_empty()).then(|| {
            let mut other = ServerConfig::clone(&config);
            other.alpn_protocols = Vec::new();
            Arc::new(other)
        });
        let alpn = spec.alpn_protocols.iter().map(|name| String::from_utf8_lossy(name).into()).collect();
        let (verifier, clock) = (validation.verifier, clock.clone());
        let infos = Infos::default();
        let state =
            State { config, without_alpn, certificates, identities, verifier, alpn, infos, digest, sessions, clock };
        Ok((state, warnings))
    }

    fn session(&self, done: Established) -> Result<(Transport, TlsSession), HandshakeError> {
        let peer = done.peer.as_deref();
        let is_validated = match peer {
            None => false,
            Some(chain) if done.resumed => self.is_still_valid(chain)?,
            Some(_) => done.notes.is_validated,
        };
        let mut key = Key::new(done.suite, done.version, peer);
        (key.identity, key.group, key.is_validated) = (done.notes.identity, done.group, is_validated);
        let identity = done.notes.identity.and_then(|index| self.identities.get(index));
        let issuer = |name: &[u8]| self.verifier.issuer(name);
        let info = self.infos.get(key, identity.map(|identity| &identity.names), peer, &issuer);
        let named = |name: Vec<u8>| {
            let known = self.alpn.iter().find(|known| known.as_bytes() == name);
            known.cloned().unwrap_or_else(|| String::from_utf8_lossy(&name).into())
        };
        let session = TlsSession {
            info,
            alpn: done.alpn.map(named),
            server_name: done.notes.server_name.clone(),
            resumed: done.resumed,
            has_peer_certificate: peer.is_some(),
            cipher: parameters::suite_name(done.suite),
            version: parameters::version_name(done.version),
            curve: done.group.map(parameters::group_name).unwrap_or_default(),
            signature_algorithm: done.notes.peer_scheme.map(parameters::signature_name).unwrap_or_default(),
            staple: done.notes.staple,
        };
        Ok((done.transport, session))
    }

    /// The client's certificate may have expired since the session began; nothing else can have changed, as then the ticket would
    /// not have opened.
    fn is_still_valid(&self, chain: &[rustls_pki_types::CertificateDer<'_>]) -> Result<bool, HandshakeError> {
        let Some((leaf, intermediates)) = chain.split_first() else { return Ok(false) };
        self.verifier.outcome_of_resumed(leaf, intermediates, self.clock.seconds()).map_err(|refusal| HandshakeError {
            kind: refusal.kind,
            reason: format!("verify cert failed: {}", refusal.text),
            staple: StapleOutcome::default(),
            info: None,
        })
    }

    /// What is known of a session that did not come about.
    fn info_of_failed(&self, notes: &Notes) -> Arc<TlsInfo> {
        let shown = self.identities.get(notes.identity.unwrap_or(0));
        Arc::new(info::of_failed(shown.map(|identity| &identity.names), &notes.refused))
    }
}

fn identities(spec: &ServerSpec) -> Result<Vec<Arc<Identity>>, ContextError> {
    if spec.certificates.is_empty() {
        let found = "No TLS certificates found for server context";
        return Err(Finding::new("tls_certificates", found, "a server needs a certificate and its key"));
    }
    let mut identities = Vec::new();
    for (index, certificate) in spec.certificates.iter().enumerate() {
        let at = format!("tls_certificates[{index}]");
        let identity = Identity::load(certificate, &at)?;
        if spec.ocsp_staple_policy == OcspStaplePolicy::MustStaple && identity.staple.is_none() {
            let found = "Required OCSP response is missing from TLS context";
            return Err(Finding::new(format!("{at}.ocsp_staple"), found, "ocsp_staple_policy is MUST_STAPLE"));
        }
        identities.push(identity);
    }
    Ok(identities)
}

/// Everything that a resumed session relies on.
fn digest(spec: &ServerSpec, binding: &[u8], identities: &[Arc<Identity>], validation: &Digest) -> Digest {
    let mut hasher = Hasher::new("server");
    hasher.part(binding).part(validation).part(&[u8::from(spec.require_sni)]);
    for identity in identities {
        hasher.part(&identity.meaning);
    }
    for protocol in &spec.alpn_protocols {
        hasher.part(protocol);
    }
    hasher.finish()
}

fn resumption(
    spec: &ServerSpec,
    config: &mut ServerConfig,
    digest: Digest,
    clock: &Clock,
    before: Option<&State>,
) -> Result<Option<Arc<SessionCache>>, ContextError> {
    let lifetime = spec
        .session_timeout
        .map_or(SESSION_TIMEOUT, |timeout| u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX).clamp(1, 604_800));
    if !spec.disable_stateless_session_resumption {
        let ticketer = Ticketer::new(&spec.session_ticket_keys, digest, lifetime, clock.clone()).map_err(|index| {
            let found = format!("the key has {} bytes", spec.session_ticket_keys[index].0.len());
            Finding::new(format!("session_ticket_keys.keys[{index}]"), found, "a key has 80 bytes")
        })?;
        config.ticketer = Arc::new(ticketer);
    }
    let sessions = (!spec.disable_stateful_session_resumption).then(|| {
        let kept = before.filter(|before| before.digest == digest).and_then(|before| before.sessions.clone());
        kept.unwrap_or_else(|| Arc::new(SessionCache::new(lifetime, clock.clone())))
    });
    config.session_storage = match &sessions {
        Some(sessions) => Arc::clone(sessions) as Arc<dyn StoresServerSessions>,
        None => Arc::new(NoServerSessionStorage {}),
    };
    if spec.disable_stateless_session_resumption && spec.disable_stateful_session_resumption {
        config.send_tls13_tickets = 0;
    }
    Ok(sessions)
}

/// A handshake on the server's side. Dropping it closes the connection.
pub struct ServerHandshake {
    state: Option<Arc<State>>,
    accepting: Accepting,
    notes: Option<Box<Notes>>,
    turn: Turn,
}

impl ServerHandshake {
    /// Waits for the whole ClientHello, then begins.
    fn poll_hello(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeError>> {
        let Accepting::Hello(place) = &mut self.accepting else { return Poll::Ready(Ok(())) };
        let Some(state) = &self.state else { return Poll::Ready(Err(HandshakeError::not_ready())) };
        let Some(wire) = place else { return Poll::Ready(Err(ended())) };
        let wishes = loop {
            match hello::look(wire.input.filled()) {
                Hello::Complete(wishes) => break wishes,
                Hello::Malformed => break Wishes::default(),
                Hello::TooLarge => return Poll::Ready(Err(wire.refuse_hello())),
                Hello::Incomplete => ready!(wire.poll_fill(cx))?,
            }
        };
        if self.turn.poll(cx).is_pending() {
            wire.input.settle();
            return Poll::Pending;
        }
        let mut notes = self.notes.take().unwrap_or_default();
        notes.wants_staple = wishes.wants_staple && state.certificates.cares_for_staples;
        let config = match &state.without_alpn {
            Some(without) if wishes.shares_no_protocol(&state.config.alpn_protocols) => without,
            _ => &state.config,
        };
        let connection = UnbufferedServerConnection::new(Arc::clone(config)).map_err(|_| ended())?;
        let wire = place.take().ok_or_else(ended)?;
        self.accepting = Accepting::Running(Box::new(Handshake::new(connection, wire, notes)));
        Poll::Ready(Ok(()))
    }
}

fn ended() -> HandshakeError {
    HandshakeError { kind: FailureKind::Closed, reason: String::new(), staple: StapleOutcome::default(), info: None }
}

impl Future for ServerHandshake {
    type Output = Result<(Transport, TlsSession), HandshakeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.turn.pass();
        ready!(this.poll_hello(cx))?;
        let Accepting::Running(handshake) = &mut this.accepting else { return Poll::Ready(Err(ended())) };
        let Poll::Ready(outcome) = handshake.poll(cx) else {
            this.turn.come_back(cx);
            return Poll::Pending;
        };
        let done = match outcome {
            Ok(done) => done,
            Err(mut error) => {
                let notes = handshake.notes().filter(|_| error.kind != FailureKind::Closed);
                error.info = notes.zip(this.state.as_ref()).map(|(notes, state)| state.info_of_failed(notes));
                return Poll::Ready(Err(error));
            }
        };
        this.accepting = Accepting::Hello(None);
        let Some(state) = &this.state else { return Poll::Ready(Err(ended())) };
        Poll::Ready(state.session(done))
    }
}
