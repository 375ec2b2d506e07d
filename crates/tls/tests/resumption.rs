//! Resumption: that it works, and what it must never cross.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use nuncio_tls::spec::*;
use nuncio_tls::{ClientContext, ConnectOptions, FailureKind, ServerContext};
use support::*;

const NAME: &str = "a.example";

struct World {
    root: Authority,
    spec: ServerSpec,
    clock: TestClock,
}

impl World {
    fn new() -> World {
        let root = Authority::new("Root");
        let spec = server_spec(&root.leaf(NAME, P256));
        World { root, spec, clock: TestClock::new() }
    }

    /// A world in which clients must show a certificate.
    fn mutual() -> World {
        let mut world = World::new();
        world.spec.validation = Some(world.root.validation());
        world.spec.require_client_certificate = true;
        world
    }

    fn server(&self) -> ServerContext {
        server_at(&self.spec, &self.clock, b"chain")
    }

    fn client(&self) -> ClientContext {
        self.client_at(None)
    }

    fn client_at(&self, at: Option<TlsVersion>) -> ClientContext {
        let mut spec = client_spec(NAME);
        let maximum = at.or(Some(TlsVersion::V1_3));
        (spec.parameters.minimum_version, spec.parameters.maximum_version) = (at, maximum);
        spec.certificates = vec![self.root.leaf("client.example", P256).spec()];
        ClientContext::with_clock(&spec, self.clock.clock()).unwrap().0
    }
}

async fn resumes(server: &ServerContext, client: &ClientContext) -> bool {
    let (server, client) = established(server, client).await;
    assert_eq!(server.session.resumed, client.session.resumed);
    server.session.resumed
}

#[tokio::test]
async fn both_versions_and_both_ways() {
    for at in [TlsVersion::V1_2, TlsVersion::V1_3] {
        for (stateless, stateful) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut world = World::new();
            world.spec.disable_stateless_session_resumption = !stateless;
            world.spec.disable_stateful_session_resumption = !stateful;
            let (server, client) = (world.server(), world.client_at(Some(at)));
            assert!(!resumes(&server, &client).await);
            for _ in 0..3 {
                assert_eq!(resumes(&server, &client).await, stateless || stateful, "{at:?} {stateless} {stateful}");
            }
        }
    }
}

#[tokio::test]
async fn the_peer_is_known_as_before() {
    for at in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let world = World::mutual();
        let (server, client) = (world.server(), world.client_at(Some(at)));
        let (first, _) = established(&server, &client).await;
        let (again, _) = established(&server, &client).await;
        assert!(again.session.resumed && again.session.has_peer_certificate && again.session.info.peer_validated);
        assert_eq!(again.session.info.peer.dns, first.session.info.peer.dns);
        assert_eq!(again.session.info.peer_fingerprint_256, first.session.info.peer_fingerprint_256);
    }
}

/// A session of one virtual server must not open another: the ticket is bound to its filter chain.
#[tokio::test]
async fn cve_2025_23419_another_filter_chain() {
    for keys in [vec![], vec![Secret(vec![7; 80])]] {
        let mut world = World::new();
        world.spec.session_ticket_keys = keys;
        let (one, two) = (world.server(), server_at(&world.spec, &world.clock, b"other chain"));
        let client = world.client();
        assert!(!resumes(&one, &client).await);
        assert!(resumes(&one, &client).await);
        assert!(!resumes(&two, &client).await);
    }
}

/// nginx and Envoy accepted sessions of a server that does not verify clients at one that does.
#[tokio::test]
async fn cve_2022_21654_another_validation_context() {
    for at in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let mut world = World::new();
        world.spec.session_ticket_keys = vec![Secret(vec![7; 80])];
        let open = world.server();
        world.spec.validation = Some(world.root.validation());
        let verifying = world.server();
        world.spec.require_client_certificate = true;
        let strict = world.server();
        world.spec.validation.as_mut().unwrap().match_typed_subject_alt_names = vec![SanMatcherSpec {
            san_type: SanType::Dns,
            matcher: nuncio_matcher::StringMatcherSpec::exact("client.example"),
        }];
        let named = world.server();
        let contexts = [&open, &verifying, &strict, &named];
        for (from, first) in contexts.iter().enumerate() {
            for (to, second) in contexts.iter().enumerate() {
                let client = world.client_at(Some(at));
                assert!(!resumes(first, &client).await);
                assert_eq!(resumes(second, &client).await, from == to, "{at:?} {from} {to}");
            }
        }
    }
}

/// A session must not outlive the trust that it rests on.
#[tokio::test]
async fn cve_2025_68121_changed_authority() {
    for stateless in [true, false] {
        let mut world = World::mutual();
        world.spec.session_ticket_keys = vec![Secret(vec![7; 80])];
        world.spec.disable_stateless_session_resumption = !stateless;
        let (server, client) = (world.server(), world.client());
        assert!(!resumes(&server, &client).await);
        assert!(resumes(&server, &client).await);
        let mut changed = world.spec.clone();
        changed.validation = Some(Authority::new("Root").validation());
        server.replace(&changed).unwrap();
        let (refused, _) = handshake(&server, &client).await;
        assert_eq!(refused.err().unwrap().kind, FailureKind::VerifyError);
    }
}

/// Nor a revocation list that appeared.
#[tokio::test]
async fn cve_2026_97629_changed_revocation_list() {
    let world = World::mutual();
    let (server, client) = (world.server(), world.client());
    assert!(!resumes(&server, &client).await);
    let at = |seconds: i64| std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds as u64);
    let list = rcgen::CertificateRevocationListParams {
        this_update: at(NOW - 10).into(),
        next_update: at(NOW + 10).into(),
        crl_number: rcgen::SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let mut changed = world.spec.clone();
    let list = list.signed_by(&world.root.issuer).unwrap().pem().unwrap();
    changed.validation.as_mut().unwrap().crl = Some(list.into_bytes());
    server.replace(&changed).unwrap();
    assert!(!resumes(&server, &client).await);
    assert!(resumes(&server, &client).await);
}

#[tokio::test]
async fn a_renewed_certificate_keeps_sessions() {
    for stateless in [true, false] {
        let mut world = World::new();
        world.spec.disable_stateless_session_resumption = !stateless;
        let (server, client) = (world.server(), world.client());
        assert!(!resumes(&server, &client).await);
        let mut renewed = world.spec.clone();
        renewed.certificates = vec![world.root.leaf(NAME, P256).spec()];
        server.replace(&renewed).unwrap();
        assert!(resumes(&server, &client).await);
        // One for other names does not.
        renewed.certificates = vec![world.root.leaf("b.example", P256).spec()];
        server.replace(&renewed).unwrap();
        assert!(!resumes(&server, &client).await);
    }
}

/// The client's certificate expires while its session lives.
#[tokio::test]
async fn an_expired_client_does_not_resume() {
    let world = World::mutual();
    let mut params = params("client.example", vec![]);
    params.not_after = (std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(NOW as u64 + 60)).into();
    let mut spec = client_spec(NAME);
    spec.certificates = vec![world.root.sign(&params, P256).spec()];
    let client = ClientContext::with_clock(&spec, world.clock.clock()).unwrap().0;
    let server = world.server();
    assert!(!resumes(&server, &client).await);
    assert!(resumes(&server, &client).await);
    world.clock.advance(61);
    let (refused, _) = handshake(&server, &client).await;
    assert_eq!(refused.err().unwrap().kind, FailureKind::VerifyError);
}

#[tokio::test]
async fn untrusted_stays_untrusted() {
    let mut world = World::mutual();
    world.spec.validation.as_mut().unwrap().trust_chain_verification = TrustChainVerification::AcceptUntrusted;
    let mut spec = client_spec(NAME);
    spec.certificates = vec![Authority::new("Elsewhere").leaf("client.example", P256).spec()];
    let (server, client) = (world.server(), client(&spec));
    for resumed in [false, true] {
        let (end, _) = established(&server, &client).await;
        assert_eq!(end.session.resumed, resumed);
        assert!(end.session.info.peer_presented && !end.session.info.peer_validated);
    }
}

#[tokio::test]
async fn sessions_end() {
    for stateless in [true, false] {
        let mut world = World::new();
        world.spec.disable_stateless_session_resumption = !stateless;
        world.spec.session_timeout = Some(Duration::from_secs(100));
        let (server, client) = (world.server(), world.client());
        assert!(!resumes(&server, &client).await);
        world.clock.advance(99);
        assert!(resumes(&server, &client).await);
        world.clock.advance(101);
        assert!(!resumes(&server, &client).await);
    }
}

#[tokio::test]
async fn keys_from_files_rotate() {
    let mut world = World::new();
    let (old, new) = (Secret(vec![1; 80]), Secret((0..80).collect::<Vec<u8>>()));
    world.spec.session_ticket_keys = vec![old.clone()];
    world.spec.disable_stateful_session_resumption = true;
    let (one, client) = (world.server(), world.client());
    assert!(!resumes(&one, &client).await);
    // Another process with the same keys, then one with a new key in front, then one without the old key.
    assert!(resumes(&world.server(), &client).await);
    world.spec.session_ticket_keys = vec![new.clone(), old];
    assert!(resumes(&world.server(), &client).await);
    world.spec.session_ticket_keys = vec![new];
    assert!(resumes(&world.server(), &client).await, "the last ticket was made with the new key");
    world.spec.session_ticket_keys = vec![Secret(vec![9; 80])];
    assert!(!resumes(&world.server(), &client).await);
    world.spec.session_ticket_keys = vec![Secret(vec![9; 80]), Secret(vec![9; 48])];
    let error = ServerContext::new(&world.spec, b"").err().unwrap();
    assert_eq!(error.field, "session_ticket_keys.keys[1]");
}

#[tokio::test]
async fn clients_keep_as_many_as_they_may() {
    let world = World::new();
    let server = world.server();
    for (most, expected) in [(Some(0), false), (None, true), (Some(4), true)] {
        let mut spec = client_spec(NAME);
        spec.max_session_keys = most;
        let client = client(&spec);
        assert!(!resumes(&server, &client).await);
        assert_eq!(resumes(&server, &client).await, expected, "{most:?}");
    }
    // One is kept: the other name's takes its place.
    let client = world.client();
    assert!(!resumes(&server, &client).await);
    let other = ConnectOptions { server_name: Some("other.example".into()), ..ConnectOptions::default() };
    let (mut one, mut two) = {
        let (server, client) = handshake_over(65536, &server, &client, other).await;
        (server.unwrap(), client.unwrap())
    };
    assert!(!one.session.resumed, "sessions do not cross names");
    exchange(&mut one, &mut two).await;
    assert!(!resumes(&server, &client).await);
}

/// A session whose certificate was not held to a name is not used where it is.
#[tokio::test]
async fn sessions_do_not_cross_demands() {
    let world = World::new();
    let server = world.server();
    let mut spec = client_spec(NAME);
    spec.validation = Some(world.root.validation());
    let client = client(&spec);
    assert!(!resumes(&server, &client).await);
    let names = |name: &str| {
        let names: Arc<[Arc<str>]> = Arc::from([Arc::from(name)]);
        ConnectOptions { subject_alt_names: Some(names), ..ConnectOptions::default() }
    };
    let (_, refused) = handshake_over(65536, &server, &client, names("other.example")).await;
    assert_eq!(refused.err().unwrap().kind, FailureKind::VerifySan);
    for resumed in [false, true] {
        let (server, client) = handshake_over(65536, &server, &client, names(NAME)).await;
        let (mut server, mut client) = (server.unwrap(), client.unwrap());
        assert_eq!(server.session.resumed, resumed);
        exchange(&mut server, &mut client).await;
    }
}

/// A new pair that can't be used leaves the old one in place.
#[tokio::test]
async fn a_broken_pair_is_refused() {
    let world = World::new();
    let (server, client) = (world.server(), world.client());
    let (one, two) = (world.root.leaf(NAME, P256), world.root.leaf(NAME, P256));
    let mut mismatched = world.spec.clone();
    mismatched.certificates = vec![CertificateSpec::pem(one.chain.as_str(), two.key.as_str())];
    let error = server.replace(&mismatched).unwrap_err();
    assert_eq!(error.field, "tls_certificates[0].private_key");
    assert!(error.found.contains("does not belong"), "{error}");
    let before = established(&server, &client).await.1.session.info.peer_fingerprint_256.clone();
    mismatched.certificates = vec![one.spec()];
    server.replace(&mismatched).unwrap();
    let client = world.client();
    let after = established(&server, &client).await.1.session.info.peer_fingerprint_256.clone();
    assert_ne!(before, after);
}
