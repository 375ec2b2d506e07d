//! The client's side: a context for a cluster, and its handshakes.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};

use nuncio_io::transport::Transport;
use nuncio_stream_info::TlsInfo;
use rustls::ClientConfig;
use rustls::client::{Resumption, Tls12Resumption, UnbufferedClientConnection};
use rustls_pki_types::ServerName;

use crate::client_sessions::ClientSessions;
use crate::clock::Clock;
use crate::finding::{ContextError, Finding, Warning};
use crate::handshake::{Established, Handshake, Wire};
use crate::identity::{CertificateDetails, Identity};
use crate::info::{self, Infos, Key};
use crate::key_log::KeyLogger;
use crate::notes::{self, Notes};
use crate::parameters::{self, Parameters};
use crate::resolve::ClientCertificate;
use crate::session::{FailureKind, HandshakeError, StapleOutcome, TlsSession};
use crate::spec::{ClientSpec, TlsVersion};
use crate::validation::{Demands, Validation};
use crate::verify::{Peer, Verifier};

/// Longest `sni` (Envoy), bytes.
const MOST_SNI: usize = 255;

struct State {
    config: Arc<ClientConfig>,
    identity: Option<Arc<Identity>>,
    verifier: Arc<Verifier>,
    alpn: Vec<Arc<str>>,
    infos: Infos,
    sni: Option<Arc<str>>,
    auto_host_sni: bool,
    auto_sni_san_validation: bool,
    logs_keys: bool,
}

/// What one connection wants other than its context says.
#[derive(Debug, Clone, Default)]
pub struct ConnectOptions {
    /// Instead of `sni`: `auto_sni`, or the server name of the transport socket options.
    pub server_name: Option<Arc<str>>,
    /// Name of the host, for `auto_host_sni`.
    pub host_name: Option<Arc<str>>,
    /// Names of which the certificate must have one (`auto_san_validation`), instead of the configured matchers.
    pub subject_alt_names: Option<Arc<[Arc<str>]>>,
    /// Instead of `alpn_protocols`.
    pub alpn_protocols: Option<Vec<Vec<u8>>>,
    /// For the key log, if it is not the carrier's own.
    pub local: Option<IpAddr>,
    /// For the key log, if it is not the carrier's own.
    pub remote: Option<IpAddr>,
}

/// An `UpstreamTlsContext`, ready for handshakes. Shared by all workers.
pub struct ClientContext {
    /// None as long as its secrets are not there.
    state: RwLock<Option<Arc<State>>>,
    clock: Clock,
}

impl std::fmt::Debug for ClientContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientContext")
    }
}

impl ClientContext {
    /// Sessions are resumed within the context only, so each cluster (and transport socket of it) has its own.
    pub fn new(spec: &ClientSpec) -> Result<(ClientContext, Vec<Warning>), ContextError> {
        Self::with_clock(spec, Clock::default())
    }

    /// As [`ClientContext::new`], with a clock of one's own.
    pub fn with_clock(spec: &ClientSpec, clock: Clock) -> Result<(ClientContext, Vec<Warning>), ContextError> {
        let (state, warnings) = State::new(spec, &clock)?;
        Ok((ClientContext { state: RwLock::new(Some(Arc::new(state))), clock }, warnings))
    }

    /// A context whose secrets are not there yet: handshakes fail until [`ClientContext::replace`] brings them.
    pub fn pending() -> ClientContext {
        ClientContext { state: RwLock::new(None), clock: Clock::default() }
    }

    /// Takes another specification for new handshakes. Where it can't be used everything stays as it was. Sessions of before are
    /// not resumed.
    pub fn replace(&self, spec: &ClientSpec) -> Result<Vec<Warning>, ContextError> {
        let (state, warnings) = State::new(spec, &self.clock)?;
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(state));
        Ok(warnings)
    }

    fn state(&self) -> Option<Arc<State>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The certificate that is shown on demand.
    pub fn certificates(&self) -> Vec<CertificateDetails> {
        let state = self.state();
        let identity = state.iter().filter_map(|state| state.identity.as_ref());
        identity.map(|identity| identity.details.clone()).collect()
    }

    /// The authorities that servers' certificates are verified against.
    pub fn authorities(&self) -> Vec<CertificateDetails> {
        self.state().map(|state| state.verifier.authorities()).unwrap_or_default()
    }

    /// Begins a handshake on a connection that was made.
    pub fn connect(&self, carrier: Transport, options: ConnectOptions) -> ClientHandshake {
        let state = self.state();
        let running = match &state {
            Some(state) => state.begin(carrier, options).map(|(handshake, name)| (Box::new(handshake), name)),
            None => Err(HandshakeError::not_ready()),
        };
        ClientHandshake { state, running: Some(running) }
    }
}

impl State {
    fn new(spec: &ClientSpec, clock: &Clock) -> Result<(State, Vec<Warning>), ContextError> {
        let mut warnings = Vec::new();
        check(spec)?;
        let identity = match spec.certificates.first() {
            Some(certificate) => Some(Identity::load(certificate, "tls_certificates[0]")?),
            None => None,
        };
        let parameters = Parameters::new(&spec.parameters, TlsVersion::V1_2, &mut warnings)?;
        let demands = Demands { peer: Peer::Server, require_client_certificate: false, parameters: &parameters };
        let validation = Validation::new(spec.validation.as_ref(), &demands)?;
        let has_authority = validation.verifier.roots.is_some() || validation.verifier.spiffe.is_some();
        if spec.auto_sni_san_validation && !has_authority {
            let found = "'auto_sni_san_validation' was configured without configuring a trusted CA";
            return Err(Finding::new("auto_sni_san_validation", found, "give validation_context.trusted_ca"));
        }
        let wrong = |error: rustls::Error| Finding::new("tls_params", error.to_string(), "");
        let key = identity.as_ref().map(|identity| match &parameters.signatures {
            Some(allowed) => Identity::limited(&identity.key, allowed),
            None => Arc::clone(&identity.key),
        });
        let mut config = ClientConfig::builder_with_details(Arc::clone(&parameters.provider), Arc::new(clock.clone()))
            .with_protocol_versions(&parameters.versions)
            .map_err(wrong)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&validation.verifier) as _)
            .with_client_cert_resolver(Arc::new(ClientCertificate(key)));
        config.enable_secret_extraction = true;
        config.alpn_protocols = spec.alpn_protocols.clone();
        config.resumption = match spec.max_session_keys.unwrap_or(1) {
            0 => Resumption::disabled(),
            most => Resumption::store(Arc::new(ClientSessions::new(most)))
                .tls12_resumption(Tls12Resumption::SessionIdOrTickets),
        };
        if let Some(key_log) = &spec.key_log {
            config.key_log = Arc::new(KeyLogger::open(key_log)?);
        }
        let state = State {
            config: Arc::new(config),
            identity,
            verifier: validation.verifier,
            alpn: spec.alpn_protocols.iter().map(|name| String::from_utf8_lossy(name).into()).collect(),
            infos: Infos::default(),
            sni: (!spec.sni.is_empty()).then(|| spec.sni.as_str().into()),
            auto_host_sni: spec.auto_host_sni,
            auto_sni_san_validation: spec.auto_sni_san_validation,
            logs_keys: spec.key_log.is_some(),
        };
        Ok((state, warnings))
    }

    /// Envoy's order: what the connection wants, the host's name, the configured name.
    fn server_name(&self, options: &ConnectOptions) -> Option<Arc<str>> {
        let host = options.host_name.as_ref().filter(|name| self.auto_host_sni && !name.is_empty());
        let chosen = options.server_name.as_ref().filter(|name| !name.is_empty()).or(host).or(self.sni.as_ref());
        chosen.cloned()
    }

    fn begin(&self, carrier: Transport, options: ConnectOptions) -> Result<Running, HandshakeError> {
        let server_name = self.server_name(&options);
        let wanted = match &server_name {
            Some(name) => ServerName::try_from(name.to_string()).map_err(|_| refused("INVALID_SERVER_NAME"))?,
            // rustls sends no server name for an address.
            None => ServerName::from(IpAddr::from(Ipv4Addr::UNSPECIFIED)),
        };
        let mut names = options.subject_alt_names.filter(|names| !names.is_empty());
        if self.auto_sni_san_validation
            && names.is_none()
            && let Some(name) = &server_name
        {
            names = Some(Arc::from([Arc::clone(name)]));
        }
        let config = Arc::clone(&self.config);
        // Asking the kernel costs two calls, so it is asked only for what is used.
        let socket = carrier.lowest_tcp().filter(|_| self.logs_keys);
        let of_socket = |address: std::io::Result<SocketAddr>| address.ok().map(|address| address.ip());
        let local = options.local.or_else(|| of_socket(socket?.local_addr()));
        let remote = options.remote.or_else(|| of_socket(socket?.peer_addr()));
        let notes = Notes { names, local, remote, ..Notes::default() };
        let mut notes = Some(Box::new(notes));
        // The session to resume is looked for when the connection is made, so the notes must be there.
        let connection = notes::during(&mut notes, || match options.alpn_protocols {
            Some(protocols) => UnbufferedClientConnection::new_with_alpn(config, wanted, protocols),
            None => UnbufferedClientConnection::new(config, wanted),
        });
        let connection = connection.map_err(|_| refused("INTERNAL_ERROR"))?;
        Ok((Handshake::new(connection, Wire::new(carrier), notes.unwrap_or_default()), server_name))
    }

    fn session(&self, done: Established, server_name: Option<Arc<str>>) -> (Transport, TlsSession) {
        let peer = done.peer.as_deref();
        let mut key = Key::new(done.suite, done.version, peer);
        // A session is resumed only where its first handshake was verified in the same way.
        let is_validated = done.notes.is_validated || (done.resumed && self.verifier.always_validates());
        (key.identity, key.group, key.is_validated) = (done.notes.identity, done.group, is_validated);
        key.server_name = server_name.clone();
        let local = done.notes.identity.and(self.identity.as_ref());
        let issuer = |name: &[u8]| self.verifier.issuer(name);
        let info = self.infos.get(key, local.map(|identity| &identity.names), peer, &issuer);
        let named = |name: Vec<u8>| {
            let known = self.alpn.iter().find(|known| known.as_bytes() == name);
            known.cloned().unwrap_or_else(|| String::from_utf8_lossy(&name).into())
        };
        let session = TlsSession {
            info,
            alpn: done.alpn.map(named),
            server_name,
            resumed: done.resumed,
            has_peer_certificate: peer.is_some(),
            cipher: parameters::suite_name(done.suite),
            version: parameters::version_name(done.version),
            curve: done.group.map(parameters::group_name).unwrap_or_default(),
            signature_algorithm: done.notes.peer_scheme.map(parameters::signature_name).unwrap_or_default(),
            staple: StapleOutcome::NotRequested,
        };
        (done.transport, session)
    }
}

fn check(spec: &ClientSpec) -> Result<(), ContextError> {
    if spec.certificates.len() > 1 {
        let found = "Multiple TLS certificates are not supported for client contexts";
        return Err(Finding::new("tls_certificates", found, "give one"));
    }
    if spec.sni.len() > MOST_SNI {
        return Err(Finding::new("sni", format!("the name has {} bytes", spec.sni.len()), "at most 255"));
    }
    if !spec.sni.is_empty() && ServerName::try_from(spec.sni.as_str()).is_err() {
        let found = format!("{:?} is not a name that can be sent", spec.sni);
        return Err(Finding::new("sni", found, "a DNS name, without port and wildcard"));
    }
    Ok(())
}

fn refused(name: &str) -> HandshakeError {
    let reason = format!("TLS_error:{name}:TLS_error_end");
    HandshakeError { kind: FailureKind::Protocol, reason, staple: StapleOutcome::default(), info: None }
}

type Running = (Handshake<UnbufferedClientConnection>, Option<Arc<str>>);
type Boxed = (Box<Handshake<UnbufferedClientConnection>>, Option<Arc<str>>);

/// A handshake on the client's side. Dropping it closes the connection.
pub struct ClientHandshake {
    state: Option<Arc<State>>,
    running: Option<Result<Boxed, HandshakeError>>,
}

impl Future for ClientHandshake {
    type Output = Result<(Transport, TlsSession), HandshakeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let done = match &mut this.running {
            Some(Ok((handshake, name))) => match ready!(Pin::new(handshake.as_mut()).poll(cx)) {
                Ok(done) => done,
                Err(mut error) => {
                    let notes = handshake.notes().filter(|_| error.kind != FailureKind::Closed);
                    error.info = notes.map(|notes| {
                        let info = info::of_failed(None, &notes.refused);
                        Arc::new(TlsInfo { server_name: name.clone(), ..info })
                    });
                    return Poll::Ready(Err(error));
                }
            },
            Some(Err(error)) => return Poll::Ready(Err(error.clone())),
            None => return Poll::Ready(Err(refused("handshake has ended"))),
        };
        let server_name = this.running.take().and_then(Result::ok).and_then(|(_, name)| name);
        let Some(state) = &this.state else { return Poll::Ready(Err(HandshakeError::not_ready())) };
        Poll::Ready(Ok(state.session(done, server_name)))
    }
}
