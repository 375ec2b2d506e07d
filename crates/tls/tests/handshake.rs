//! Handshakes over a matrix of versions, keys, client certificates and server names.

#![allow(clippy::unwrap_used)]

mod support;

use nuncio_tls::spec::{ParametersSpec, TlsVersion};
use nuncio_tls::{ConnectOptions, FailureKind};
use support::*;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Policy {
    None,
    Optional,
    Required,
}

fn version(version: TlsVersion) -> ParametersSpec {
    ParametersSpec { minimum_version: Some(version), maximum_version: Some(version), ..ParametersSpec::default() }
}

#[tokio::test]
async fn matrix() {
    let authority = Authority::new("Root");
    let client_leaf = authority.leaf("client.example", P256);
    for algorithm in [P256, P384, RSA] {
        let leaf = authority.leaf("a.example", algorithm);
        for at in [TlsVersion::V1_2, TlsVersion::V1_3] {
            for policy in [Policy::None, Policy::Optional, Policy::Required] {
                for shows in [false, true] {
                    let mut spec = server_spec(&leaf);
                    spec.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
                    spec.parameters = version(at);
                    spec.validation = (policy != Policy::None).then(|| authority.validation());
                    spec.require_client_certificate = policy == Policy::Required;
                    let mut other = client_spec("a.example");
                    other.validation = Some(authority.validation());
                    other.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
                    if shows {
                        other.certificates = vec![client_leaf.spec()];
                    }
                    let (server, client) = handshake(&server(&spec), &client(&other)).await;
                    let case = format!("{at:?} {policy:?} {shows}");
                    if policy == Policy::Required && !shows {
                        let error = server.err().unwrap();
                        assert_eq!(error.kind, FailureKind::NoCertificate, "{case}");
                        assert!(error.reason.contains("PEER_DID_NOT_RETURN_A_CERTIFICATE"), "{case} {error}");
                        continue;
                    }
                    let (mut server, mut client) = (server.unwrap(), client.unwrap());
                    exchange(&mut server, &mut client).await;
                    let name = if at == TlsVersion::V1_2 { "TLSv1.2" } else { "TLSv1.3" };
                    assert_eq!((server.session.version, client.session.version), (name, name), "{case}");
                    assert_eq!(server.session.cipher, client.session.cipher, "{case}");
                    assert_eq!(server.session.alpn.as_deref(), Some("h2"), "{case}");
                    assert_eq!(server.session.server_name.as_deref(), Some("a.example"), "{case}");
                    let is_shown = shows && policy != Policy::None;
                    assert_eq!(server.session.has_peer_certificate, is_shown, "{case}");
                    assert_eq!(server.session.info.peer_validated, is_shown, "{case}");
                    assert_eq!(server.session.info.peer.dns.len(), usize::from(is_shown), "{case}");
                    assert!(client.session.info.peer_validated, "{case}");
                    assert_eq!(client.session.info.peer.subject.as_deref(), Some("CN=a.example,O=Nuncio"), "{case}");
                    assert_eq!(client.session.info.local.dns.len(), usize::from(is_shown), "{case}");
                }
            }
        }
    }
}

#[tokio::test]
async fn names_of_suites_versions_and_groups() {
    let authority = Authority::new("Root");
    let leaf = authority.leaf("a.example", P256);
    let server = server(&server_spec(&leaf));
    for (at, suite, cipher) in [
        (TlsVersion::V1_3, "", "TLS_AES_128_GCM_SHA256"),
        (TlsVersion::V1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        (TlsVersion::V1_2, "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        (TlsVersion::V1_2, "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ] {
        let mut spec = client_spec("a.example");
        spec.parameters = version(at);
        spec.parameters.cipher_suites = Some(suite.to_owned()).filter(|suite| !suite.is_empty()).into_iter().collect();
        spec.parameters.ecdh_curves = vec!["P-256".to_owned()];
        let (server_end, client_end) = established(&server, &client(&spec)).await;
        assert_eq!((server_end.session.cipher, server_end.session.curve), (cipher, "P-256"));
        assert_eq!(client_end.session.signature_algorithm, "ecdsa_secp256r1_sha256");
        assert_eq!(server_end.session.signature_algorithm, "");
        assert_eq!(server_end.session.info.cipher.as_deref(), Some(cipher));
    }
    let (end, _) = established(&server, &client(&client_spec("a.example"))).await;
    assert_eq!(end.session.curve, "X25519MLKEM768");
}

#[tokio::test]
async fn certificates_by_name() {
    let authority = Authority::new("Root");
    let leaves =
        [authority.leaf("a.example", P256), authority.leaf("*.b.example", P256), authority.leaf("c.b.example", P256)];
    let mut spec = server_spec(&leaves[0]);
    spec.certificates = leaves.iter().map(Leaf::spec).collect();
    let server = server(&spec);
    for (sni, shown) in [
        ("a.example", "a.example"),
        ("A.Example", "a.example"),
        ("x.b.example", "*.b.example"),
        ("c.b.example", "c.b.example"),
        ("x.y.b.example", "a.example"),
        ("unknown.example", "a.example"),
        ("", "a.example"),
    ] {
        let (server_end, client_end) = established(&server, &client(&client_spec(sni))).await;
        assert_eq!(&*client_end.session.info.peer.dns[0], shown, "{sni}");
        assert_eq!(&*server_end.session.info.local.dns[0], shown, "{sni}");
        assert_eq!(server_end.session.server_name.is_none(), sni.is_empty());
    }
}

#[tokio::test]
async fn rsa_and_ecdsa_for_one_name() {
    let authority = Authority::new("Root");
    let mut spec = server_spec(&authority.leaf("a.example", RSA));
    spec.certificates.push(authority.leaf("a.example", P256).spec());
    let server = server(&spec);
    for (algorithms, signed) in [
        (vec![], "ecdsa_secp256r1_sha256"),
        (vec!["rsa_pss_rsae_sha256"], "rsa_pss_rsae_sha256"),
        (vec!["ecdsa_secp256r1_sha256", "rsa_pss_rsae_sha256"], "ecdsa_secp256r1_sha256"),
    ] {
        let mut other = client_spec("a.example");
        other.parameters.signature_algorithms = algorithms.into_iter().map(str::to_owned).collect();
        let (_, end) = established(&server, &client(&other)).await;
        assert_eq!(end.session.signature_algorithm, signed);
    }
}

#[tokio::test]
async fn no_shared_protocol_is_no_protocol() {
    let authority = Authority::new("Root");
    let mut spec = server_spec(&authority.leaf("a.example", P256));
    spec.alpn_protocols = vec![b"h2".to_vec()];
    let mut other = client_spec("a.example");
    other.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (server_end, client_end) = established(&server(&spec), &client(&other)).await;
    assert_eq!((server_end.session.alpn, client_end.session.alpn), (None, None));
}

#[tokio::test]
async fn options_of_a_connection() {
    let authority = Authority::new("Root");
    let mut spec = server_spec(&authority.leaf("a.example", P256));
    spec.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let server = server(&spec);
    let mut other = client_spec("configured.example");
    other.auto_host_sni = true;
    other.alpn_protocols = vec![b"http/1.1".to_vec()];
    let client = client(&other);
    let mut options = ConnectOptions::default();
    let (end, _) = handshake_over(4096, &server, &client, options.clone()).await;
    assert_eq!(end.unwrap().session.server_name.as_deref(), Some("configured.example"));
    options.host_name = Some("host.example".into());
    options.alpn_protocols = Some(vec![b"h2".to_vec()]);
    let (end, _) = handshake_over(4096, &server, &client, options.clone()).await;
    let session = end.unwrap().session;
    assert_eq!((session.server_name.as_deref(), session.alpn.as_deref()), (Some("host.example"), Some("h2")));
    options.server_name = Some("override.example".into());
    let (end, _) = handshake_over(4096, &server, &client, options).await;
    assert_eq!(end.unwrap().session.server_name.as_deref(), Some("override.example"));
}

#[tokio::test]
async fn versions_that_do_not_meet() {
    let authority = Authority::new("Root");
    let mut spec = server_spec(&authority.leaf("a.example", P256));
    spec.parameters = version(TlsVersion::V1_3);
    let mut other = client_spec("a.example");
    other.parameters = version(TlsVersion::V1_2);
    let (server, client) = handshake(&server(&spec), &client(&other)).await;
    let (server, client) = (server.err().unwrap(), client.err().unwrap());
    assert_eq!(server.kind, FailureKind::Protocol);
    assert!(server.reason.contains("UNSUPPORTED_PROTOCOL"), "{server}");
    assert!(client.reason.contains("TLSV1_ALERT_PROTOCOL_VERSION"), "{client}");
}

/// Of the hellos that wait, few are answered before the worker looks after its other tasks; in the end all are, also when some of
/// those that wait go away.
#[tokio::test]
async fn a_flood_of_handshakes_takes_turns() {
    use nuncio_io::transport::Transport;
    use std::future::Future;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let authority = Authority::new("Root");
    let server = server(&server_spec(&authority.leaf("a.example", P256)));
    let client = client(&client_spec("a.example"));
    let hello = async || {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let connect = client.connect(Transport::Other(Box::new(near)), ConnectOptions::default());
        let read = async {
            let mut bytes = vec![0; 1 << 16];
            let count = far.read(&mut bytes).await.unwrap();
            bytes.truncate(count);
            drop(far);
            bytes
        };
        tokio::join!(connect, read).1
    };
    let mut handshakes = Vec::new();
    let mut peers = Vec::new();
    for _ in 0..20 {
        let (mut near, far) = tokio::io::duplex(1 << 16);
        near.write_all(&hello().await).await.unwrap();
        peers.push(near);
        handshakes.push(Some(Box::pin(server.accept(Transport::Other(Box::new(far)), None, None))));
    }
    let mut answered = 0;
    for round in 1..40 {
        // Those that wait in the middle of the queue leave.
        if round == 2 {
            handshakes[8..12].iter_mut().for_each(|handshake| *handshake = None);
        }
        for handshake in handshakes.iter_mut().flatten() {
            poll_fn(|cx| std::task::Poll::Ready(handshake.as_mut().poll(cx).is_pending())).await;
        }
        // A task that does much at once is made to wait by the runtime.
        tokio::task::yield_now().await;
        let mut now = 0;
        for peer in &mut peers {
            let mut first = [0; 1];
            let read = poll_fn(|cx| {
                let mut into = tokio::io::ReadBuf::new(&mut first);
                std::task::Poll::Ready(
                    tokio::io::AsyncRead::poll_read(std::pin::Pin::new(peer), cx, &mut into).is_ready()
                        && !into.filled().is_empty(),
                )
            });
            now += usize::from(read.await);
        }
        // A peer has many bytes to read: it counts in every round from its answer on.
        let new = now - answered;
        assert!(new <= 2, "{new} in round {round}");
        answered = now;
    }
    assert_eq!(answered, 16);
}
