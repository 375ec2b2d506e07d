//! Every rule by which peers' certificates are accepted or refused.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use nuncio_matcher::{StringMatchSpec, StringMatcherSpec};
use nuncio_tls::spec::*;
use nuncio_tls::{ConnectOptions, FailureKind, ServerContext};
use rcgen::string::Ia5String;
use rcgen::{
    CertificateRevocationListParams, ExtendedKeyUsagePurpose, KeyIdMethod, KeyUsagePurpose, OtherNameValue,
    RevokedCertParams, SanType, SerialNumber,
};
use support::*;

const SERVER: &str = "server.example";

struct World {
    root: Authority,
    server: Leaf,
}

impl World {
    fn new() -> World {
        let root = Authority::new("Root");
        let server = root.leaf(SERVER, P256);
        World { root, server }
    }

    /// A server that verifies clients so.
    fn server(&self, validation: ValidationSpec) -> ServerContext {
        let mut spec = server_spec(&self.server);
        spec.validation = Some(validation);
        server(&spec)
    }

    /// What the server says of a client with this certificate, and whether it is validated.
    async fn judge(&self, validation: ValidationSpec, leaf: &Leaf) -> Result<bool, (FailureKind, String)> {
        let mut spec = client_spec(SERVER);
        spec.certificates = vec![leaf.spec()];
        let (server, client) = handshake(&self.server(validation), &client(&spec)).await;
        drop(client);
        server.map(|end| end.session.info.peer_validated).map_err(|error| (error.kind, error.reason))
    }

    fn with_sans(&self, matchers: &[(SanType2, StringMatchSpec)]) -> ValidationSpec {
        let mut spec = self.root.validation();
        spec.match_typed_subject_alt_names = matchers
            .iter()
            .map(|(san_type, pattern)| SanMatcherSpec {
                san_type: san_type.clone(),
                matcher: StringMatcherSpec::from(pattern.clone()),
            })
            .collect();
        spec
    }
}

type SanType2 = nuncio_tls::spec::SanType;

fn kind(result: &Result<bool, (FailureKind, String)>) -> Option<FailureKind> {
    result.as_ref().err().map(|(kind, _)| *kind)
}

fn exact(text: &str) -> StringMatchSpec {
    StringMatchSpec::Exact(text.to_owned())
}

#[tokio::test]
async fn chains() {
    let world = World::new();
    let middle = world.root.below("Middle");
    let leaf = middle.leaf("client", P256);
    let chained = Leaf { chain: format!("{}{}", leaf.chain, middle.pem), ..leaf.clone() };
    let trust = || world.root.validation();
    assert_eq!(world.judge(trust(), &chained).await, Ok(true));
    let alone = world.judge(trust(), &leaf).await.unwrap_err();
    assert_eq!(alone.0, FailureKind::VerifyError);
    assert!(alone.1.contains("CERTIFICATE_VERIFY_FAILED"), "{}", alone.1);
    assert!(alone.1.contains("unable to get local issuer certificate"), "{}", alone.1);
    // An intermediate may be the trusted one, and so may the leaf itself.
    let partial = ValidationSpec { trusted_ca: Some(Arc::from(middle.pem.as_bytes())), ..ValidationSpec::default() };
    assert_eq!(world.judge(partial, &leaf).await, Ok(true));
    let own = ValidationSpec { trusted_ca: Some(Arc::from(leaf.chain.as_bytes())), ..ValidationSpec::default() };
    assert_eq!(world.judge(own, &leaf).await, Ok(true));
    for (depth, expected) in [(0, Some(FailureKind::VerifyError)), (1, None)] {
        let limited = ValidationSpec { max_verify_depth: Some(depth), ..trust() };
        assert_eq!(kind(&world.judge(limited, &chained).await), expected, "{depth}");
    }
    let other = Authority::new("Root");
    assert_eq!(kind(&world.judge(other.validation(), &chained).await), Some(FailureKind::VerifyError));
}

#[tokio::test]
async fn validity_and_purpose() {
    let world = World::new();
    let mut params = params("client", vec![]);
    params.not_after = params.not_before;
    let expired = world.root.sign(&params, P256);
    let refused = world.judge(world.root.validation(), &expired).await.unwrap_err();
    assert!(refused.1.contains("certificate has expired"), "{}", refused.1);
    let lenient = ValidationSpec { allow_expired_certificate: true, ..world.root.validation() };
    assert_eq!(world.judge(lenient, &expired).await, Ok(true));
    let mut params = support::params("client", vec![]);
    server_usage(&mut params);
    let wrong = world.root.sign(&params, P256);
    assert_eq!(kind(&world.judge(world.root.validation(), &wrong).await), Some(FailureKind::VerifyError));
}

/// A trusted authority that has expired trusts nobody.
#[tokio::test]
async fn an_expired_authority() {
    let mut params = authority_params("Old");
    params.not_after = params.not_before;
    let key = rcgen::KeyPair::generate_for(P256).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let old = Authority { issuer: rcgen::Issuer::new(params, key), pem };
    let world = World::new();
    let leaf = old.leaf("client", P256);
    assert_eq!(kind(&world.judge(old.validation(), &leaf).await), Some(FailureKind::VerifyError));
    let lenient = ValidationSpec { allow_expired_certificate: true, ..old.validation() };
    assert_eq!(world.judge(lenient, &leaf).await, Ok(true));
}

#[tokio::test]
async fn subject_alternative_names() {
    let world = World::new();
    let upn = SanType::OtherName((vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], OtherNameValue::Utf8String("me@corp".into())));
    let leaf = world.root.sign(
        &params(
            "client",
            vec![
                dns("*.client.example"),
                uri("spiffe://cluster.local/ns/a/sa/b"),
                SanType::Rfc822Name("me@example.com".try_into().unwrap()),
                SanType::IpAddress("10.1.2.3".parse().unwrap()),
                SanType::IpAddress("fd00::1".parse().unwrap()),
                upn,
            ],
        ),
        P256,
    );
    let regex = |text: &str| StringMatcherSpec::regex(text).pattern;
    let other = |oid: &str| SanType2::OtherName { oid: oid.to_owned() };
    for (san_type, pattern, accepted) in [
        (SanType2::Dns, exact("a.client.example"), true),
        (SanType2::Dns, exact("A.client.example"), true),
        (SanType2::Dns, exact("client.example"), false),
        (SanType2::Dns, StringMatchSpec::Suffix(".client.example".into()), true),
        (SanType2::Dns, exact("spiffe://cluster.local/ns/a/sa/b"), false),
        (SanType2::Uri, exact("spiffe://cluster.local/ns/a/sa/b"), true),
        (SanType2::Uri, StringMatchSpec::Prefix("spiffe://cluster.local/ns/a/".into()), true),
        (SanType2::Uri, regex("spiffe://[^/]+/ns/a/sa/.*"), true),
        (SanType2::Uri, regex("spiffe://[^/]+/ns/a"), false),
        (SanType2::Email, exact("me@example.com"), true),
        (SanType2::Email, exact("you@example.com"), false),
        (SanType2::IpAddress, exact("10.1.2.3"), true),
        (SanType2::IpAddress, exact("fd00::1"), true),
        (SanType2::IpAddress, exact("10.1.2.4"), false),
        (other("1.3.6.1.4.1.311.20.2.3"), exact("me@corp"), true),
        (other("1.3.6.1.4.1.311.20.2.4"), exact("me@corp"), false),
    ] {
        let result = world.judge(world.with_sans(&[(san_type.clone(), pattern.clone())]), &leaf).await;
        let expected = if accepted { None } else { Some(FailureKind::VerifySan) };
        assert_eq!(kind(&result), expected, "{san_type:?} {pattern:?} {result:?}");
    }
    let two = world.with_sans(&[(SanType2::Dns, exact("no")), (SanType2::Email, exact("me@example.com"))]);
    assert_eq!(world.judge(two, &leaf).await, Ok(true));
}

/// A name with a NUL byte in it must not pass for what stands before it, nor for anything else.
#[tokio::test]
async fn cve_2025_66220_nul_in_a_name() {
    let world = World::new();
    for san in [
        SanType::DnsName(Ia5String::try_from("good.example\0.evil.example").unwrap()),
        SanType::URI(Ia5String::try_from("good.example\0x").unwrap()),
        SanType::Rfc822Name(Ia5String::try_from("good.example\0x").unwrap()),
        SanType::OtherName((vec![1, 2, 3], OtherNameValue::Utf8String("good.example\0x".into()))),
    ] {
        let leaf = world.root.sign(&params("good.example", vec![san]), P256);
        for san_type in [SanType2::Dns, SanType2::Uri, SanType2::Email, SanType2::OtherName { oid: "1.2.3".into() }] {
            for pattern in
                [exact("good.example"), StringMatchSpec::Prefix("good".into()), StringMatchSpec::Suffix("e".into())]
            {
                let result = world.judge(world.with_sans(&[(san_type.clone(), pattern)]), &leaf).await;
                assert_ne!(result, Ok(true), "{san_type:?}");
            }
        }
    }
}

/// CVE-2026-47778: the same in a server's certificate, whose name a proxy would compare with what stands before the NUL.
#[tokio::test]
async fn cve_2026_47778_nul_in_the_name_of_an_upstream() {
    let world = World::new();
    for san in ["server.example\0.evil.example", "*.example\0.evil.example", "server.example\0"] {
        let san = SanType::DnsName(Ia5String::try_from(san).unwrap());
        let mut params = params(SERVER, vec![san.clone(), dns("other.example")]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server = server(&server_spec(&world.root.sign(&params, P256)));
        let matching = world.with_sans(&[(SanType2::Dns, exact(SERVER))]);
        let strict = ClientSpec {
            auto_sni_san_validation: true,
            validation: Some(world.root.validation()),
            ..client_spec(SERVER)
        };
        let named = ConnectOptions { server_name: Some(SERVER.into()), ..ConnectOptions::default() };
        let names: Arc<[Arc<str>]> = Arc::from([Arc::from(SERVER)]);
        let listed = ConnectOptions { subject_alt_names: Some(names), ..ConnectOptions::default() };
        for (spec, options) in [
            (ClientSpec { validation: Some(matching), ..client_spec(SERVER) }, ConnectOptions::default()),
            (strict.clone(), named),
            (ClientSpec { auto_sni_san_validation: false, ..strict }, listed),
        ] {
            let (_, judged) = handshake_over(65536, &server, &client(&spec), options).await;
            let refused = judged.map(|_| ()).map_err(|error| error.kind);
            assert_eq!(refused, Err(FailureKind::VerifySan), "{san:?}");
        }
    }
}

#[tokio::test]
async fn pins() {
    use aws_lc_rs::digest::{SHA256, digest};
    let world = World::new();
    let (leaf, other) = (world.root.leaf("client", P256), world.root.leaf("other", P256));
    let hash = |leaf: &Leaf| -> String {
        digest(&SHA256, &leaf.der).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let colons = hash(&leaf)
        .as_bytes()
        .chunks(2)
        .map(|pair| String::from_utf8_lossy(pair).to_uppercase())
        .collect::<Vec<_>>()
        .join(":");
    for text in [hash(&leaf), colons] {
        // Without an authority, the pin alone decides.
        let alone = ValidationSpec { verify_certificate_hash: vec![text.clone()], ..ValidationSpec::default() };
        assert_eq!(world.judge(alone.clone(), &leaf).await, Ok(true));
        let refused = world.judge(alone, &other).await.unwrap_err();
        assert_eq!(refused.0, FailureKind::VerifyCertificateHash);
        assert!(refused.1.contains("cert hash and spki"), "{}", refused.1);
        // With one, both must hold; and with names, these too.
        let both = ValidationSpec { verify_certificate_hash: vec![text], ..world.root.validation() };
        assert_eq!(world.judge(both.clone(), &leaf).await, Ok(true));
        let stranger = Authority::new("Root").leaf("client", P256);
        assert_eq!(kind(&world.judge(both.clone(), &stranger).await), Some(FailureKind::VerifyError));
        let named = ValidationSpec {
            match_typed_subject_alt_names: world
                .with_sans(&[(SanType2::Dns, exact("no"))])
                .match_typed_subject_alt_names,
            ..both
        };
        assert_eq!(kind(&world.judge(named, &leaf).await), Some(FailureKind::VerifySan));
    }
    // One of the two lists is enough.
    let mixed = ValidationSpec {
        verify_certificate_hash: vec![hash(&leaf)],
        verify_certificate_spki: vec!["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into()],
        ..ValidationSpec::default()
    };
    assert_eq!(world.judge(mixed, &leaf).await, Ok(true));
}

fn crl(authority: &Authority, revoked: Vec<RevokedCertParams>, until: i64) -> Vec<u8> {
    let at = |seconds: i64| std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds as u64);
    let params = CertificateRevocationListParams {
        this_update: at(NOW - 1000).into(),
        next_update: at(until).into(),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&authority.issuer).unwrap().pem().unwrap().into_bytes()
}

#[tokio::test]
async fn revocation() {
    let world = World::new();
    let middle = world.root.below("Middle");
    let mut params = params("client", vec![]);
    params.serial_number = Some(SerialNumber::from(77));
    let leaf = middle.sign(&params, P256);
    let leaf = Leaf { chain: format!("{}{}", leaf.chain, middle.pem), ..leaf };
    let revoked = |serial: u64| {
        vec![RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: std::time::SystemTime::UNIX_EPOCH.into(),
            reason_code: None,
            invalidity_date: None,
        }]
    };
    let later = NOW + 1000;
    let with = |parts: &[Vec<u8>], leaf_only: bool| ValidationSpec {
        crl: Some(parts.concat()),
        only_verify_leaf_cert_crl: leaf_only,
        ..world.root.validation()
    };
    let (root, clean) = (crl(&world.root, vec![], later), crl(&middle, revoked(5), later));
    assert_eq!(world.judge(with(&[root.clone(), clean.clone()], false), &leaf).await, Ok(true));
    let refused = world.judge(with(&[root.clone(), crl(&middle, revoked(77), later)], false), &leaf).await.unwrap_err();
    assert!(refused.1.contains("certificate revoked"), "{}", refused.1);
    // Every authority of the chain needs its list, unless only the leaf is asked about.
    let refused = world.judge(with(std::slice::from_ref(&clean), false), &leaf).await.unwrap_err();
    assert!(refused.1.contains("unable to get certificate CRL"), "{}", refused.1);
    assert_eq!(world.judge(with(&[clean], true), &leaf).await, Ok(true));
    let stale = crl(&middle, vec![], NOW - 10);
    let refused = world.judge(with(&[root, stale], false), &leaf).await.unwrap_err();
    assert!(refused.1.contains("CRL has expired"), "{}", refused.1);
}

#[tokio::test]
async fn untrusted_certificates_are_claims() {
    let world = World::new();
    let stranger = Authority::new("Elsewhere").leaf("client", P256);
    let mut spec = world.root.validation();
    spec.trust_chain_verification = TrustChainVerification::AcceptUntrusted;
    assert_eq!(world.judge(spec.clone(), &stranger).await, Ok(false));
    assert_eq!(world.judge(spec, &world.root.leaf("client", P256)).await, Ok(true));
    // A certificate that is required and verified against nothing.
    let mut server_spec = server_spec(&world.server);
    server_spec.require_client_certificate = true;
    let mut spec = client_spec(SERVER);
    spec.certificates = vec![stranger.spec()];
    let (end, _) = established(&server(&server_spec), &client(&spec)).await;
    assert!(end.session.info.peer_presented && !end.session.info.peer_validated);
}

#[tokio::test]
async fn spiffe_trust_domains() {
    let (one, two) = (Authority::new("One"), Authority::new("Two"));
    let world = World::new();
    let domain = |name: &str, authority: &Authority| SpiffeTrustDomain {
        name: name.to_owned(),
        bundle: authority.pem.as_bytes().to_vec(),
    };
    let spec = ValidationSpec {
        spiffe_trust_domains: vec![domain("one.example", &one), domain("two.example", &two)],
        ..ValidationSpec::default()
    };
    let leaf = |authority: &Authority, uris: &[&str]| {
        let mut params = params("w", uris.iter().map(|name| uri(name)).collect());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        authority.sign(&params, P256)
    };
    let accepted = leaf(&one, &["spiffe://one.example/ns/a"]);
    assert_eq!(world.judge(spec.clone(), &accepted).await, Ok(true));
    for refused in [
        // The other domain's authority does not speak for this one.
        leaf(&two, &["spiffe://one.example/ns/a"]),
        leaf(&one, &["spiffe://three.example/ns/a"]),
        leaf(&one, &["spiffe://one.example/a", "spiffe://one.example/b"]),
        leaf(&one, &["https://one.example/a"]),
        leaf(&one, &[]),
    ] {
        assert_eq!(kind(&world.judge(spec.clone(), &refused).await), Some(FailureKind::VerifyError));
    }
    // A key for certificates, and one that says nothing of its use.
    for usages in [vec![KeyUsagePurpose::KeyCertSign], vec![]] {
        let mut signer = params("w", vec![uri("spiffe://one.example/a")]);
        signer.key_usages = usages;
        let signer = one.sign(&signer, P256);
        assert_eq!(kind(&world.judge(spec.clone(), &signer).await), Some(FailureKind::VerifyError));
    }
}

/// Upstream: Envoy compares names only where it is told to, and verifies nothing without an authority.
#[tokio::test]
async fn upstream_names() {
    let world = World::new();
    let server = server(&server_spec(&world.server));
    let trusting = || ClientSpec { validation: Some(world.root.validation()), ..client_spec("other.example") };
    let judge = async |spec: &ClientSpec, options: ConnectOptions| {
        let (_, client) = handshake_over(65536, &server, &client(spec), options).await;
        client.map(|end| end.session.info.peer_validated).map_err(|error| (error.kind, error.reason))
    };
    assert_eq!(judge(&trusting(), ConnectOptions::default()).await, Ok(true), "no name is asked for");
    assert_eq!(judge(&client_spec("other.example"), ConnectOptions::default()).await, Ok(false), "nothing is verified");
    let strict = ClientSpec { auto_sni_san_validation: true, ..trusting() };
    assert_eq!(kind(&judge(&strict, ConnectOptions::default()).await), Some(FailureKind::VerifySan));
    let named = ConnectOptions { server_name: Some(SERVER.into()), ..ConnectOptions::default() };
    assert_eq!(judge(&strict, named).await, Ok(true));
    for (name, accepted) in [(SERVER, true), ("other.example", false)] {
        let names: Arc<[Arc<str>]> = Arc::from([Arc::from(name)]);
        let options = ConnectOptions { subject_alt_names: Some(names), ..ConnectOptions::default() };
        assert_eq!(judge(&trusting(), options).await.is_ok(), accepted, "{name}");
    }
    let stranger = ClientSpec { validation: Some(Authority::new("Root").validation()), ..trusting() };
    let refused = judge(&stranger, ConnectOptions::default()).await.unwrap_err();
    assert_eq!(refused.0, FailureKind::VerifyError);
}

/// A server's certificate that says it is not for signatures is not accepted (`enforce_rsa_key_usage`).
#[tokio::test]
async fn key_usage_of_servers() {
    let world = World::new();
    let mut params = params(SERVER, vec![dns(SERVER)]);
    params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server = server(&server_spec(&world.root.sign(&params, RSA)));
    let spec = ClientSpec { validation: Some(world.root.validation()), ..client_spec(SERVER) };
    let (_, refused) = handshake(&server, &client(&spec)).await;
    assert!(refused.err().unwrap().reason.contains("KEY_USAGE_BIT_INCORRECT"));
}

/// What would look like a check and be none is refused when the context is made.
#[test]
fn insecure_specifications() {
    let world = World::new();
    let sans = world.with_sans(&[(SanType2::Dns, exact("a"))]);
    for (spec, field) in [
        (ValidationSpec { trusted_ca: None, ..sans }, "validation_context.match_typed_subject_alt_names"),
        (ValidationSpec { crl: Some(vec![]), ..ValidationSpec::default() }, "validation_context.crl"),
        (ValidationSpec { crl: Some(b"x".to_vec()), ..world.root.validation() }, "validation_context.crl"),
        (
            ValidationSpec { trusted_ca: Some(Arc::from(&b""[..])), ..ValidationSpec::default() },
            "validation_context.trusted_ca",
        ),
        (
            ValidationSpec { verify_certificate_hash: vec!["00".into()], ..ValidationSpec::default() },
            "validation_context.verify_certificate_hash[0]",
        ),
        (
            ValidationSpec { verify_certificate_spki: vec!["AA==".into()], ..ValidationSpec::default() },
            "validation_context.verify_certificate_spki[0]",
        ),
    ] {
        let spec = ServerSpec { validation: Some(spec), ..server_spec(&world.server) };
        let error = ServerContext::new(&spec, b"").err().unwrap();
        assert_eq!(error.field, field, "{error}");
    }
    let spec = ClientSpec { auto_sni_san_validation: true, ..client_spec("a") };
    assert_eq!(nuncio_tls::ClientContext::new(&spec).err().unwrap().field, "auto_sni_san_validation");
}
