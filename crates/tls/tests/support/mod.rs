//! Certificates made for the tests, and both ends of a session over an in-memory pipe.
#![allow(dead_code, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use nuncio_io::transport::Transport;
use nuncio_tls::spec::{CertificateSpec, ClientSpec, ParametersSpec, ServerSpec, TlsVersion, ValidationSpec};
use nuncio_tls::{ClientContext, Clock, ConnectOptions, HandshakeError, ServerContext, TlsSession};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, SanType, SignatureAlgorithm,
};

pub use std::future::poll_fn;

pub const P256: &SignatureAlgorithm = &PKCS_ECDSA_P256_SHA256;
pub const P384: &SignatureAlgorithm = &PKCS_ECDSA_P384_SHA384;
pub const RSA: &SignatureAlgorithm = &PKCS_RSA_SHA256;

/// 2024-01-01 and later: certificates of the tests begin a day before and last a year.
pub const NOW: i64 = 1_704_067_200;

/// An authority.
pub struct Authority {
    pub issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Leaf {
    pub chain: String,
    pub key: String,
    pub der: Vec<u8>,
}

pub fn params(name: &str, sans: Vec<SanType>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Nuncio");
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = sans;
    params.not_before = (SystemTime::UNIX_EPOCH + Duration::from_secs(NOW as u64 - 86_400)).into();
    params.not_after = (SystemTime::UNIX_EPOCH + Duration::from_secs(NOW as u64 + 365 * 86_400)).into();
    params
}

pub fn authority_params(name: &str) -> CertificateParams {
    let mut params = params(name, Vec::new());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let params = authority_params(name);
        let key = KeyPair::generate_for(P256).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// An authority below this one; its PEM is its own certificate.
    pub fn below(&self, name: &str) -> Authority {
        let params = authority_params(name);
        let key = KeyPair::generate_for(P256).unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    pub fn sign(&self, params: &CertificateParams, algorithm: &'static SignatureAlgorithm) -> Leaf {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { chain: certificate.pem(), key: key.serialize_pem(), der: certificate.der().to_vec() }
    }

    pub fn leaf(&self, name: &str, algorithm: &'static SignatureAlgorithm) -> Leaf {
        self.sign(&params(name, vec![dns(name)]), algorithm)
    }

    pub fn validation(&self) -> ValidationSpec {
        ValidationSpec { trusted_ca: Some(Arc::from(self.pem.as_bytes())), ..ValidationSpec::default() }
    }
}

pub fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

pub fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

pub fn server_usage(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
}

impl Leaf {
    pub fn spec(&self) -> CertificateSpec {
        CertificateSpec::pem(self.chain.as_str(), self.key.as_str())
    }
}

/// A clock that tests move.
#[derive(Clone)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub fn new() -> TestClock {
        TestClock(Arc::new(AtomicI64::new(NOW)))
    }

    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub fn clock(&self) -> Clock {
        let now = Arc::clone(&self.0);
        Clock::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(now.load(Ordering::SeqCst) as u64))
    }
}

pub fn server(spec: &ServerSpec) -> ServerContext {
    server_at(spec, &TestClock::new(), b"chain")
}

pub fn server_at(spec: &ServerSpec, clock: &TestClock, binding: &[u8]) -> ServerContext {
    ServerContext::with_clock(spec, binding, clock.clock()).unwrap().0
}

pub fn client(spec: &ClientSpec) -> ClientContext {
    ClientContext::with_clock(spec, TestClock::new().clock()).unwrap().0
}

pub fn server_spec(leaf: &Leaf) -> ServerSpec {
    ServerSpec { certificates: vec![leaf.spec()], ..ServerSpec::default() }
}

pub fn client_spec(sni: &str) -> ClientSpec {
    let parameters = ParametersSpec { maximum_version: Some(TlsVersion::V1_3), ..ParametersSpec::default() };
    ClientSpec { sni: sni.to_owned(), parameters, ..ClientSpec::default() }
}

/// One end of a session.
pub struct End {
    pub transport: Transport,
    pub session: TlsSession,
}

pub type Outcome = Result<End, HandshakeError>;

/// Handshakes over a pipe that holds `capacity` bytes.
pub async fn handshake_over(
    capacity: usize,
    server: &ServerContext,
    client: &ClientContext,
    options: ConnectOptions,
) -> (Outcome, Outcome) {
    let (near, far) = nuncio_testkit::memory::pair(capacity);
    let accept = server.accept(Transport::Other(Box::new(far)), None, None);
    let connect = client.connect(Transport::Other(Box::new(near)), options);
    let end = |result: Result<(Transport, TlsSession), HandshakeError>| {
        result.map(|(transport, session)| End { transport, session })
    };
    let (server, client) = tokio::join!(accept, connect);
    (end(server), end(client))
}

pub async fn handshake(server: &ServerContext, client: &ClientContext) -> (Outcome, Outcome) {
    handshake_over(64 * 1024, server, client, ConnectOptions::default()).await
}

/// Both ends of an established session that carried a message each way, so that tickets have arrived.
pub async fn established(server: &ServerContext, client: &ClientContext) -> (End, End) {
    let (server, client) = handshake(server, client).await;
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    exchange(&mut server, &mut client).await;
    (server, client)
}

pub async fn exchange(server: &mut End, client: &mut End) {
    write(&mut client.transport, b"ping").await;
    assert_eq!(read(&mut server.transport).await, b"ping");
    write(&mut server.transport, b"pong").await;
    assert_eq!(read(&mut client.transport).await, b"pong");
}

/// Reads once; empty at the end.
pub async fn read(transport: &mut Transport) -> Vec<u8> {
    try_read(transport).await.unwrap()
}

pub async fn try_read(transport: &mut Transport) -> std::io::Result<Vec<u8>> {
    let mut into = BytesMut::with_capacity(64 * 1024);
    poll_fn(|cx| transport.poll_read(cx, &mut into)).await?;
    Ok(into.to_vec())
}

pub async fn write(transport: &mut Transport, mut from: &[u8]) {
    while !from.is_empty() {
        let count = poll_fn(|cx| transport.poll_write(cx, from)).await.unwrap();
        from = &from[count..];
    }
    poll_fn(|cx| transport.poll_flush(cx)).await.unwrap();
}

pub async fn shutdown(transport: &mut Transport) {
    poll_fn(|cx| transport.poll_shutdown(cx)).await.unwrap();
}
