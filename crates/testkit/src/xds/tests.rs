#![allow(clippy::unwrap_used, clippy::panic)]

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use nuncio_api::pb::envoy::service::discovery::v3 as pb;
use nuncio_api::wkt::Any;
use nuncio_tls::spec::{CertificateSpec, ClientSpec, ServerSpec};
use nuncio_tls::{ClientContext, ConnectOptions};
use prost::Message as _;
use serde_json::json;
use tokio::task::{LocalSet, spawn_blocking, spawn_local};

use super::connection::{Io, Secure};
use super::grpc::{Frames, frame};
use super::*;
use crate::authority::Authority;
use crate::client::Client;

const ADS: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/";

/// A stream of a client, by hand.
struct Stream {
    out: SendStream<Bytes>,
    response: Option<h2::client::ResponseFuture>,
    body: Option<RecvStream>,
    frames: Frames,
}

impl Stream {
    async fn open(io: impl Io + 'static, method: &str) -> Self {
        let (mut send, connection) = h2::client::handshake(io).await.unwrap();
        spawn_local(async move { drop(connection.await) });
        let uri = format!("http://xds{ADS}{method}");
        let request = http::Request::post(uri).header("content-type", "application/grpc").body(()).unwrap();
        let (response, out) = send.send_request(request, false).unwrap();
        Self { out, response: Some(response), body: None, frames: Frames::default() }
    }

    async fn tcp(server: &XdsServer, method: &str) -> Self {
        Self::open(tokio::net::TcpStream::connect(server.address()).await.unwrap(), method).await
    }

    fn send(&mut self, message: &impl prost::Message) {
        self.out.send_data(frame(&message.encode_to_vec()), false).unwrap();
    }

    /// The next message, or what ended the stream: its status, 0 without one.
    async fn next<M: prost::Message + Default>(&mut self) -> Result<M, u16> {
        let status = |fields: &http::HeaderMap| fields["grpc-status"].to_str().unwrap().parse().unwrap();
        if let Some(response) = self.response.take() {
            let (parts, body) = response.await.map_err(|_| 0_u16)?.into_parts();
            if parts.headers.contains_key("grpc-status") {
                return Err(status(&parts.headers));
            }
            self.body = Some(body);
        }
        let body = self.body.as_mut().unwrap();
        loop {
            if let Some(message) = self.frames.next() {
                return Ok(M::decode(message).unwrap());
            }
            match body.data().await {
                Some(Ok(chunk)) => self.frames.extend(&chunk),
                Some(Err(_)) => return Err(0),
                None => return Err(status(&body.trailers().await.map_err(|_| 0_u16)?.unwrap())),
            }
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// Waits for something of the server without blocking the client's thread.
async fn with<T: Send + 'static>(server: &Arc<XdsServer>, ask: impl FnOnce(&XdsServer) -> T + Send + 'static) -> T {
    let server = Arc::clone(server);
    spawn_blocking(move || ask(&server)).await.unwrap()
}

fn sotw(short: &str, version: &str, nonce: &str, names: &[&str]) -> pb::DiscoveryRequest {
    pb::DiscoveryRequest {
        type_url: type_url(short),
        version_info: version.into(),
        response_nonce: nonce.into(),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    }
}

fn cluster(name: &str) -> Any {
    any_of("cds", &json!({"name": name, "type": "STATIC"})).unwrap()
}

#[test]
fn a_scripted_stream() {
    run(async {
        let server = Arc::new(XdsServer::start().unwrap());
        let mut stream = Stream::tcp(&server, "StreamAggregatedResources").await;
        stream.send(&sotw("cds", "", "", &[]));
        let first = with(&server, |server| server.expect("cds")).await.unwrap();
        assert_eq!((first.stream, first.version(), first.nonce()), (1, "", ""));
        let resource = Resource::new("a", "1", cluster("a"));
        server.respond(1, &Response::new("cds", "v1", "n1", vec![resource])).unwrap();
        let response: pb::DiscoveryResponse = stream.next().await.unwrap();
        assert_eq!((&response.version_info[..], &response.nonce[..]), ("v1", "n1"));
        assert_eq!(json_of(&response.resources[0].type_url, &response.resources[0].value)["name"], "a");
        stream.send(&sotw("eds", "v1", "n1", &["a"]));
        let second = with(&server, |server| server.next_request()).await.unwrap();
        assert_eq!((short_type(second.type_url()), second.names()), ("eds", &["a".to_owned()][..]));
        server.close(1, 14, "later").unwrap();
        assert_eq!(stream.next::<pb::DiscoveryResponse>().await, Err(14));
        assert!(server.open_streams().is_empty());
    });
}

#[test]
fn resources_with_a_ttl_are_wrapped() {
    let resource = Resource { ttl: Some(Duration::from_secs(3)), ..Resource::new("a", "1", cluster("a")) };
    let response = Response::new("cds", "v", "n", vec![resource, Resource::new("b", "1", cluster("b"))]).sotw();
    assert_eq!(response.resources[0].type_url, type_url("resource"));
    let wrapped = pb::Resource::decode(&response.resources[0].value[..]).unwrap();
    assert_eq!((wrapped.name.as_str(), wrapped.ttl.unwrap().seconds), ("a", 3));
    assert_eq!(response.resources[1].type_url, type_url("cds"));
}

#[test]
fn delta_over_a_unix_socket() {
    run(async {
        let path = std::env::temp_dir().join(format!("nuncio-xds-{}.sock", std::process::id()));
        let server = Arc::new(XdsServer::start_at(Place::Unix(path.clone()), None).unwrap());
        let io = tokio::net::UnixStream::connect(&path).await.unwrap();
        let mut stream = Stream::open(io, "DeltaAggregatedResources").await;
        let initial_resource_versions = [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into();
        stream.send(&pb::DeltaDiscoveryRequest {
            type_url: type_url("cds"),
            initial_resource_versions,
            ..Default::default()
        });
        let request = with(&server, |server| server.expect("cds")).await.unwrap();
        let expected = [("a", "1"), ("b", "2")].map(|(name, version)| (name.to_owned(), version.to_owned()));
        assert_eq!(request.initial_versions(), expected);
        let response = Response { removed: vec!["b".into()], ..Response::new("cds", "", "n", Vec::new()) };
        server.respond(request.stream, &response).unwrap();
        assert_eq!(stream.next::<pb::DeltaDiscoveryResponse>().await.unwrap().removed_resources, ["b"]);
        drop(stream);
        with(&server, |server| server.await_ended(1)).await.unwrap();
    });
}

#[test]
fn tls() {
    run(async {
        let authority = Authority::new("authority");
        let (certificate, key) = authority.issue("server", &["DNS:xds.test"]);
        let spec = ServerSpec {
            certificates: vec![CertificateSpec::pem(certificate, key)],
            alpn_protocols: vec![b"h2".to_vec()],
            ..ServerSpec::default()
        };
        let server = Arc::new(XdsServer::start_at(Place::Tcp, Some(spec)).unwrap());
        let (context, _) = ClientContext::new(&ClientSpec { sni: "xds.test".into(), ..ClientSpec::default() }).unwrap();
        let socket = tokio::net::TcpStream::connect(server.address()).await.unwrap();
        let socket = nuncio_io::transport::Transport::Tcp(socket);
        let (transport, _) = context.connect(socket, ConnectOptions::default()).await.ok().unwrap();
        let mut stream = Stream::open(Secure(transport), "StreamAggregatedResources").await;
        stream.send(&sotw("lds", "", "", &[]));
        assert_eq!(with(&server, |server| server.expect("lds")).await.unwrap().stream, 1);
        server.close(1, 0, "").unwrap();
        assert_eq!(stream.next::<pb::DiscoveryResponse>().await, Err(0));
    });
}

#[test]
fn a_snapshot_answers_state_of_the_world() {
    run(async {
        let mut snapshot = Snapshot::default();
        snapshot.set("cds", "1", [("a".to_owned(), cluster("a"))]);
        let server = Arc::new(XdsServer::serve_snapshot(snapshot).unwrap());
        let mut stream = Stream::tcp(&server, "StreamAggregatedResources").await;
        stream.send(&sotw("cds", "", "", &[]));
        let first: pb::DiscoveryResponse = stream.next().await.unwrap();
        assert_eq!((first.version_info.as_str(), first.resources.len()), ("1", 1));
        stream.send(&sotw("cds", "1", &first.nonce, &[]));
        with(&server, |server| server.await_ack("cds", "1")).await.unwrap();
        server.update(|snapshot| {
            snapshot.put("cds", "2", "b", cluster("b"));
        });
        let second: pb::DiscoveryResponse = stream.next().await.unwrap();
        assert_eq!((second.version_info.as_str(), second.resources.len()), ("2", 2));
        let mut refusal = sotw("cds", "1", &second.nonce, &[]);
        refusal.error_detail = Some(nuncio_api::pb::google::rpc::Status { message: "no".into(), ..Default::default() });
        stream.send(&refusal);
        assert_eq!(with(&server, |server| server.await_nack("cds", "2")).await.unwrap(), "no");
    });
}

#[test]
fn a_snapshot_answers_delta() {
    run(async {
        let mut snapshot = Snapshot::default();
        snapshot.set("cds", "1", ["a", "b"].map(|name| (name.to_owned(), cluster(name))));
        let server = Arc::new(XdsServer::serve_snapshot(snapshot).unwrap());
        let mut stream = Stream::tcp(&server, "DeltaAggregatedResources").await;
        let initial_resource_versions = [("a".to_owned(), "1".to_owned()), ("old".to_owned(), "0".to_owned())].into();
        let url = type_url("cds");
        stream.send(&pb::DeltaDiscoveryRequest {
            type_url: url.clone(),
            initial_resource_versions,
            ..Default::default()
        });
        let first: pb::DeltaDiscoveryResponse = stream.next().await.unwrap();
        let names = |response: &pb::DeltaDiscoveryResponse| {
            response.resources.iter().map(|resource| resource.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!((names(&first), &first.removed_resources[..]), (vec!["b".to_owned()], &["old".to_owned()][..]));
        let ack = pb::DeltaDiscoveryRequest { type_url: url, response_nonce: first.nonce, ..Default::default() };
        stream.send(&ack);
        with(&server, |server| server.await_ack("cds", "1")).await.unwrap();
        // What is the same as before is not sent again.
        server.update(|snapshot| {
            snapshot.set("cds", "2", [("b".to_owned(), cluster("b"))]);
        });
        let second: pb::DeltaDiscoveryResponse = stream.next().await.unwrap();
        assert_eq!((names(&second), &second.removed_resources[..]), (Vec::new(), &["a".to_owned()][..]));
    });
}

#[test]
fn rest() {
    let server = XdsServer::start().unwrap();
    let mut client = Client::connect(server.address()).unwrap();
    for version in ["1", "2"] {
        let body = r#"{"node": {"id": "x"}, "resource_names": ["a"], "type_url": "t"}"#;
        let length = body.len();
        client
            .send(format!("POST /v3/discovery:clusters HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{body}").as_bytes())
            .unwrap();
        let request = server.next_request().unwrap();
        assert_eq!((request.node().unwrap().id.as_str(), request.names()), ("x", &["a".to_owned()][..]));
        let resource = Resource::new("a", "1", cluster("a"));
        server.respond(request.stream, &Response::new("cds", version, "", vec![resource])).unwrap();
        let response: serde_json::Value = serde_json::from_slice(&client.response(false).body.data).unwrap();
        assert_eq!(
            (response["version_info"].as_str(), response["resources"][0]["name"].as_str()),
            (Some(version), Some("a"))
        );
    }
}

#[test]
fn connections_end_and_come_back() {
    run(async {
        let server = Arc::new(XdsServer::start().unwrap());
        let mut stream = Stream::tcp(&server, "StreamAggregatedResources").await;
        stream.send(&sotw("cds", "", "", &[]));
        with(&server, |server| server.expect("cds")).await.unwrap();
        server.stop_listening();
        server.cut();
        assert_eq!(stream.next::<pb::DiscoveryResponse>().await, Err(0));
        with(&server, |server| server.await_ended(1)).await.unwrap();
        assert!(tokio::net::TcpStream::connect(server.address()).await.is_err());
        server.listen_again().unwrap();
        let mut stream = Stream::tcp(&server, "StreamAggregatedResources").await;
        stream.send(&sotw("cds", "", "", &[]));
        assert_eq!(with(&server, |server| server.expect("cds")).await.unwrap().stream, 2);
        server.go_away();
        server.close(2, 0, "").unwrap();
        assert_eq!(stream.next::<pb::DiscoveryResponse>().await, Err(0));
        assert_eq!(server.connections(), 2);
    });
}
