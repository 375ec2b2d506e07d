//! What files hold: keys in every form, PKCS#12, OCSP responses, key logs; and what contexts say about them.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::SystemTime;

use nuncio_matcher::CidrRange;
use nuncio_tls::spec::*;
use nuncio_tls::{ContextError, ServerContext, StapleOutcome, Warning};
use support::*;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn pem(chain: &str, key: &str, password: Option<&str>) -> CertificateSpec {
    let mut spec = CertificateSpec::pem(fixture(chain), fixture(key));
    spec.password = password.map(Secret::from);
    spec
}

fn pkcs12(name: &str, password: &str) -> CertificateSpec {
    CertificateSpec {
        material: CertificateMaterial::Pkcs12(Secret(fixture(name))),
        password: Some(Secret::from(password)),
        ..CertificateSpec::pem("", "")
    }
}

fn try_server(spec: CertificateSpec) -> Result<(ServerContext, Vec<Warning>), ContextError> {
    ServerContext::new(&ServerSpec { certificates: vec![spec], ..ServerSpec::default() }, b"")
}

#[tokio::test]
async fn keys_in_every_form() {
    for spec in [
        pem("leaf.pem", "leaf.key", None),
        pem("leaf.pem", "sec1.key", None),
        pem("leaf.pem", "sha256.key", Some("secret")),
        pem("leaf.pem", "sha1.key", Some("secret")),
        pkcs12("default.p12", "secret"),
        pkcs12("clear.p12", "secret"),
    ] {
        let chained = matches!(spec.material, CertificateMaterial::Pkcs12(_));
        let server = try_server(spec).unwrap().0;
        let (_, end) = established(&server, &client(&client_spec("a.example"))).await;
        assert_eq!(end.session.info.peer.subject.as_deref(), Some("CN=a.example"));
        assert!(end.session.info.peer_chain_serials.len() <= 1 + usize::from(chained));
    }
}

#[test]
fn what_is_wrong_with_a_certificate() {
    for (spec, field, found) in [
        (pem("leaf.pem", "sha256.key", None), "private_key", "is encrypted"),
        (pem("leaf.pem", "sha256.key", Some("wrong")), "private_key", "does not decrypt"),
        (pem("leaf.pem", "scrypt.key", Some("secret")), "private_key", "not PBKDF2"),
        (pem("leaf.pem", "des.key", Some("secret")), "private_key", "old algorithm"),
        (pem("leaf.pem", "old.key", Some("secret")), "private_key", "old way"),
        (pem("leaf.pem", "leaf.pem", None), "private_key", "no private key"),
        (pem("leaf.key", "leaf.key", None), "certificate_chain", "no certificate"),
        (pem("ca.pem", "leaf.key", None), "private_key", "does not belong"),
        (pem("weak.pem", "weak.key", None), "certificate_chain", "1024 bits"),
        (CertificateSpec::pem("-----BEGIN CERTIFICATE-----\n", ""), "certificate_chain", "does not end"),
        (pkcs12("default.p12", "wrong"), "pkcs12", "does not open"),
        (pkcs12("legacy.p12", "secret"), "pkcs12", "old algorithm"),
        (pkcs12("leaf.pem", "secret"), "pkcs12", "malformed"),
    ] {
        let error = try_server(spec).err().unwrap();
        assert_eq!(error.field, format!("tls_certificates[0].{field}"), "{error}");
        assert!(error.found.contains(found), "{error}");
    }
    let none = ServerContext::new(&ServerSpec::default(), b"").err().unwrap();
    assert_eq!((none.field.as_str(), none.found.contains("No TLS certificates")), ("tls_certificates", true));
}

/// No prefix and no mangled byte of a file makes anything panic.
#[test]
fn mangled_files() {
    for name in ["default.p12", "clear.p12", "ocsp.der"] {
        let whole = fixture(name);
        for at in 0..whole.len() {
            let mut mangled = whole.clone();
            mangled[at] ^= 0x41;
            for data in [&whole[..at], &mangled] {
                // A mangled number of rounds may take its time.
                if name == "default.p12" && at % 29 != 0 {
                    continue;
                }
                let spec = match name {
                    "ocsp.der" => {
                        CertificateSpec { ocsp_staple: Some(data.to_vec()), ..pem("leaf.pem", "leaf.key", None) }
                    }
                    _ => CertificateSpec {
                        material: CertificateMaterial::Pkcs12(Secret(data.to_vec())),
                        ..pkcs12(name, "secret")
                    },
                };
                let _ = try_server(spec);
            }
        }
    }
}

#[tokio::test]
async fn ocsp_staples() {
    use OcspStaplePolicy::*;
    let stapled = CertificateSpec { ocsp_staple: Some(fixture("ocsp.der")), ..pem("leaf.pem", "leaf.key", None) };
    let expiry = 1_826_750_737;
    for (policy, has_staple, is_expired, expected) in [
        (LenientStapling, true, false, StapleOutcome::Sent),
        (LenientStapling, true, true, StapleOutcome::Omitted),
        (StrictStapling, true, false, StapleOutcome::Sent),
        (StrictStapling, true, true, StapleOutcome::Failed),
        (StrictStapling, false, false, StapleOutcome::NotRequested),
        (MustStaple, true, false, StapleOutcome::Sent),
        (MustStaple, true, true, StapleOutcome::Failed),
    ] {
        let clock = TestClock::new();
        if is_expired {
            clock.advance(expiry - NOW + 1);
        }
        let certificate = if has_staple { stapled.clone() } else { pem("leaf.pem", "leaf.key", None) };
        let spec = ServerSpec { certificates: vec![certificate], ocsp_staple_policy: policy, ..ServerSpec::default() };
        let server = server_at(&spec, &clock, b"");
        let (end, _) = handshake(&server, &client(&client_spec("a.example"))).await;
        let outcome = match &end {
            Ok(end) => end.session.staple,
            Err(error) => error.staple,
        };
        assert_eq!(outcome, expected, "{policy:?} {has_staple} {is_expired}");
        assert_eq!(end.is_err(), expected == StapleOutcome::Failed);
        let expires = server.certificates()[0].ocsp_expiration;
        assert_eq!(expires.is_some(), has_staple);
    }
    let spec = ServerSpec {
        certificates: vec![pem("leaf.pem", "leaf.key", None)],
        ocsp_staple_policy: MustStaple,
        ..ServerSpec::default()
    };
    let error = ServerContext::new(&spec, b"").err().unwrap();
    assert_eq!(error.field, "tls_certificates[0].ocsp_staple");
    let authority = Authority::new("Root");
    let other = CertificateSpec { ocsp_staple: Some(fixture("ocsp.der")), ..authority.leaf("a", P256).spec() };
    assert!(try_server(other).err().unwrap().found.contains("does not match"));
}

#[tokio::test]
async fn key_logs() {
    let directory = std::env::temp_dir().join(format!("nuncio-key-log-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let authority = Authority::new("Root");
    let range = |text: &str| CidrRange::parse(text, 32).unwrap();
    for (name, ranges, expected) in
        [("all", vec![], 5), ("none", vec![range("10.0.0.1")], 0), ("some", vec![range("10.0.0.2")], 5)]
    {
        let path = directory.join(name);
        let mut spec = server_spec(&authority.leaf("a.example", P256));
        spec.key_log =
            Some(KeyLogSpec { path: path.clone(), local_address_range: vec![], remote_address_range: ranges });
        let server = server(&spec);
        let (near, far) = nuncio_testkit::memory::pair(65536);
        let carrier = |pipe| nuncio_io::transport::Transport::Other(Box::new(pipe));
        let accept = server.accept(carrier(far), None, Some("10.0.0.2".parse().unwrap()));
        let client = client(&client_spec("a.example"));
        let connect = client.connect(carrier(near), nuncio_tls::ConnectOptions::default());
        let (accepted, connected) = tokio::join!(accept, connect);
        assert!(accepted.is_ok() && connected.is_ok());
        let log = std::fs::read_to_string(&path).unwrap();
        assert_eq!(log.lines().count(), expected, "{name}: {log}");
        for line in log.lines() {
            let parts: Vec<&str> = line.split(' ').collect();
            assert!(parts.len() == 3 && parts[1].len() == 64 && parts[0].contains("SECRET"), "{line}");
        }
    }
    std::fs::remove_dir_all(&directory).unwrap();
    let mut spec = server_spec(&authority.leaf("a.example", P256));
    let path = directory.join("gone").join("log");
    spec.key_log = Some(KeyLogSpec { path, local_address_range: vec![], remote_address_range: vec![] });
    assert_eq!(ServerContext::new(&spec, b"").err().unwrap().field, "key_log.path");
}

#[test]
fn warnings_name_what_is_not_offered() {
    let authority = Authority::new("Root");
    let mut spec = server_spec(&authority.leaf("a.example", P256));
    spec.parameters = ParametersSpec {
        minimum_version: Some(TlsVersion::V1_0),
        cipher_suites: vec![
            "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]".into(),
            "AES128-SHA".into(),
            "NOT-A-SUITE".into(),
            "TLS_AES_128_GCM_SHA256".into(),
        ],
        ecdh_curves: vec!["P-521".into(), "X25519".into()],
        signature_algorithms: vec!["rsa_pkcs1_sha1".into(), "ecdsa_secp256r1_sha256".into()],
        ..ParametersSpec::default()
    };
    let warnings = ServerContext::new(&spec, b"").unwrap().1;
    let fields: Vec<&str> = warnings.iter().map(|warning| warning.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "tls_params.tls_minimum_protocol_version",
            "tls_params.cipher_suites[1]",
            "tls_params.cipher_suites[2]",
            "tls_params.cipher_suites[3]",
            "tls_params.ecdh_curves[0]",
            "tls_params.signature_algorithms[0]",
        ]
    );
    assert!(warnings[1].found.contains("AES128-SHA is not safe"), "{}", warnings[1]);
    assert!(warnings[2].found.contains("NOT-A-SUITE is unknown"), "{}", warnings[2]);
    let parameters = std::mem::take(&mut spec.parameters);
    for (change, field) in [
        (ParametersSpec { cipher_suites: vec!["AES128-SHA".into()], ..parameters.clone() }, "tls_params.cipher_suites"),
        (ParametersSpec { ecdh_curves: vec!["P-521".into()], ..parameters.clone() }, "tls_params.ecdh_curves"),
        (
            ParametersSpec { signature_algorithms: vec!["x".into()], ..parameters.clone() },
            "tls_params.signature_algorithms",
        ),
        (ParametersSpec { maximum_version: Some(TlsVersion::V1_1), ..parameters.clone() }, "tls_params"),
    ] {
        spec.parameters = change;
        assert_eq!(ServerContext::new(&spec, b"").err().unwrap().field, field);
    }
    // With TLS 1.3 alone no suite of TLS 1.2 is missed.
    spec.parameters = ParametersSpec {
        minimum_version: Some(TlsVersion::V1_3),
        cipher_suites: vec!["AES128-SHA".into()],
        ..ParametersSpec::default()
    };
    assert!(ServerContext::new(&spec, b"").is_ok());
}

#[test]
fn details_of_certificates() {
    let mut spec = pem("leaf.pem", "leaf.key", None);
    spec.source = Arc::from("/certs/leaf.pem");
    let server = ServerSpec {
        certificates: vec![spec],
        validation: Some(ValidationSpec {
            trusted_ca: Some(fixture("ca.pem").into()),
            trusted_ca_source: Some(Arc::from("/certs/ca.pem")),
            ..ValidationSpec::default()
        }),
        ..ServerSpec::default()
    };
    let server = ServerContext::new(&server, b"").unwrap().0;
    let details = &server.certificates()[0];
    assert_eq!((&*details.path, &*details.serial_number), ("/certs/leaf.pem", "1234"));
    assert_eq!(details.dns, [Arc::from("a.example")]);
    let end = details.expiration_time;
    assert_eq!(details.days_until_expiration(end - std::time::Duration::from_secs(86_400 * 3 + 5)), 3);
    assert_eq!(details.days_until_expiration(end), 0);
    assert!(details.valid_from > SystemTime::UNIX_EPOCH && details.valid_from < end);
    assert_eq!(&*server.authorities()[0].path, "/certs/ca.pem");
}
