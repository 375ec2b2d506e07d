//! What only a peer that has the keys can do.

use std::sync::Arc;
use std::task::Poll;

use nuncio_io::transport::Transport;
use rustls::crypto::aws_lc_rs;
use rustls::crypto::cipher::{AeadKey, Iv};
use rustls::{ClientConfig, ClientConnection, ConnectionTrafficSecrets, ExtractedSecrets};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::pool::Pooled;
use super::record::Gather;
use super::*;
use crate::spec::{CertificateSpec, ServerSpec};
use crate::{ServerContext, validation, verify};

fn secrets() -> ConnectionTrafficSecrets {
    ConnectionTrafficSecrets::Chacha20Poly1305 { key: AeadKey::from([7; 32]), iv: Iv::new([9; 12]) }
}

/// A session of TLS 1.2 whose peer is the test: the key that the peer writes with, and its end of the pipe.
fn session() -> (TlsStream, RecordKey, DuplexStream) {
    let (near, far) = tokio::io::duplex(1 << 20);
    let both = ExtractedSecrets { tx: (1, secrets()), rx: (1, secrets()) };
    let carrier = Transport::Other(Box::new(far));
    let stream = TlsStream::new(carrier, &both, None, Pooled::default(), Pooled::default()).unwrap();
    (stream, RecordKey::new(1, &secrets(), false).unwrap(), near)
}

fn seal(key: &mut RecordKey, kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; payload.len() + OVERHEAD];
    let slices = [IoSlice::new(payload)];
    let length = key.seal(kind, &mut Gather::new(&slices), payload.len(), &mut out).unwrap();
    out.truncate(length);
    out
}

async fn read(stream: &mut TlsStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 1 << 16];
    let count = std::future::poll_fn(|cx| {
        let mut into = ReadBuf::new(&mut bytes);
        match stream.poll_read(cx, &mut into) {
            Poll::Ready(result) => Poll::Ready(result.map(|()| into.filled().len())),
            Poll::Pending => Poll::Pending,
        }
    })
    .await?;
    bytes.truncate(count);
    Ok(bytes)
}

#[tokio::test]
async fn records_without_data() {
    let (mut stream, mut key, mut near) = session();
    for _ in 0..3 {
        for _ in 0..MOST_EMPTY_RECORDS {
            near.write_all(&seal(&mut key, 23, b"")).await.unwrap();
        }
        near.write_all(&seal(&mut key, 23, b"x")).await.unwrap();
        assert_eq!(read(&mut stream).await.unwrap(), b"x");
    }
    for _ in 0..=MOST_EMPTY_RECORDS {
        near.write_all(&seal(&mut key, 23, b"")).await.unwrap();
    }
    assert_eq!(read(&mut stream).await.unwrap_err().to_string(), "too many TLS messages without data");
    // The peer is told: a fatal alert.
    let mut alert = vec![0; 100];
    assert!(near.read(&mut alert).await.unwrap() > 0);
    assert_eq!(alert[0], 21);
}

#[tokio::test]
async fn alerts() {
    for (payload, expected) in [
        (&[1, 0][..], Ok(())),
        (&[2, 40], Err("TLS alert received: HandshakeFailure")),
        (&[2], Err("TLS message is malformed")),
        (&[2, 40, 2, 40], Err("TLS message is malformed")),
    ] {
        let (mut stream, mut key, mut near) = session();
        near.write_all(&seal(&mut key, 21, payload)).await.unwrap();
        match (read(&mut stream).await, expected) {
            (Ok(bytes), Ok(())) => assert!(bytes.is_empty()),
            (Err(error), Err(expected)) => assert_eq!(error.to_string(), expected),
            (other, _) => panic!("{other:?}"),
        }
    }
    // Warnings are overheard, but not without end.
    let (mut stream, mut key, mut near) = session();
    for _ in 0..=MOST_MESSAGES {
        near.write_all(&seal(&mut key, 21, &[1, 90])).await.unwrap();
    }
    assert!(read(&mut stream).await.is_err());
}

/// CVE-2011-1473 and its kin: renegotiation is refused.
#[tokio::test]
async fn renegotiation() {
    for message in [&[0, 0, 0, 0][..], &[1, 0, 0, 2, 3, 3]] {
        let (mut stream, mut key, mut near) = session();
        near.write_all(&seal(&mut key, 22, message)).await.unwrap();
        assert_eq!(read(&mut stream).await.unwrap_err().to_string(), "TLS renegotiation is not supported");
    }
}

#[tokio::test]
async fn replayed_and_reordered_records() {
    let (mut stream, mut key, mut near) = session();
    let (one, two) = (seal(&mut key, 23, b"one"), seal(&mut key, 23, b"two"));
    near.write_all(&one).await.unwrap();
    assert_eq!(read(&mut stream).await.unwrap(), b"one");
    near.write_all(&one).await.unwrap();
    near.write_all(&two).await.unwrap();
    assert_eq!(read(&mut stream).await.unwrap_err().to_string(), "TLS record does not decrypt");
}

#[tokio::test]
async fn types_that_do_not_exist() {
    for kind in [20, 24, 255] {
        let (mut stream, mut key, mut near) = session();
        near.write_all(&seal(&mut key, kind, b"x")).await.unwrap();
        assert!(read(&mut stream).await.is_err());
    }
}

/// A client of rustls itself, whose keys can be changed at will.
struct Client {
    connection: ClientConnection,
    socket: DuplexStream,
}

impl Client {
    async fn push(&mut self) {
        let mut bytes = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut bytes).unwrap();
        }
        self.socket.write_all(&bytes).await.unwrap();
    }

    async fn pull(&mut self) {
        let mut bytes = vec![0; 1 << 16];
        let count = self.socket.read(&mut bytes).await.unwrap();
        let mut bytes = &bytes[..count];
        while !bytes.is_empty() {
            self.connection.read_tls(&mut bytes).unwrap();
            self.connection.process_new_packets().unwrap();
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        io::Write::write_all(&mut self.connection.writer(), bytes).unwrap();
        self.push().await;
    }
}

async fn connected() -> (Transport, Client) {
    let key = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let certificate = CertificateSpec::pem(key.cert.pem(), key.signing_key.serialize_pem());
    let spec = ServerSpec { certificates: vec![certificate], ..ServerSpec::default() };
    let (context, _) = ServerContext::new(&spec, b"").unwrap();
    let parameters =
        crate::parameters::Parameters::new(&Default::default(), crate::spec::TlsVersion::V1_3, &mut Vec::new())
            .unwrap();
    let demands =
        validation::Demands { peer: verify::Peer::Server, require_client_certificate: false, parameters: &parameters };
    let verifier = validation::Validation::new(None, &demands).unwrap().verifier;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier as _)
        .with_no_client_auth();
    let (near, far) = tokio::io::duplex(1 << 16);
    let connection = ClientConnection::new(Arc::new(config), "a.example".try_into().unwrap()).unwrap();
    let mut client = Client { connection, socket: near };
    let accept = context.accept(Transport::Other(Box::new(far)), None, None);
    let connect = async {
        client.push().await;
        client.pull().await;
        client.push().await;
        client
    };
    let (accepted, client) = tokio::join!(accept, connect);
    (accepted.unwrap().0, client)
}

async fn receive(transport: &mut Transport) -> io::Result<Vec<u8>> {
    let mut into = bytes::BytesMut::with_capacity(1 << 16);
    std::future::poll_fn(|cx| transport.poll_read(cx, &mut into)).await?;
    Ok(into.to_vec())
}

#[tokio::test]
async fn keys_change() {
    let (mut server, mut client) = connected().await;
    for round in 0..5u8 {
        client.connection.refresh_traffic_keys().unwrap();
        client.send(&[round]).await;
        assert_eq!(receive(&mut server).await.unwrap(), [round]);
        let reply = [round; 3];
        std::future::poll_fn(|cx| server.poll_write(cx, &reply)).await.unwrap();
        client.pull().await;
        let mut got = [0; 3];
        io::Read::read_exact(&mut client.connection.reader(), &mut got).unwrap();
        assert_eq!(got, reply);
    }
}

#[tokio::test]
async fn key_updates_without_end() {
    let (mut server, mut client) = connected().await;
    for _ in 0..=MOST_MESSAGES {
        client.connection.refresh_traffic_keys().unwrap();
    }
    client.push().await;
    assert_eq!(receive(&mut server).await.unwrap_err().to_string(), "too many TLS messages without data");
}
