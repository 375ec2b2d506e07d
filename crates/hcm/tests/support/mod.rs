//! A connection manager in this process: real sockets on port 0, an origin that answers from a script.

#![allow(clippy::unwrap_used)]

use nuncio_cluster::config::{ClusterConfig, Discovery, Endpoint, LoadAssignment, LocalityEndpoints};
use nuncio_cluster::{ClusterManager, ClusterManagerOptions, WorkerClusters};
use nuncio_filter::{AccessLogs, Connection, FilterSlot, Runtime, TerminalFilterFactory, Worker};
use nuncio_hcm::config::*;
use nuncio_http::h1::{RequestOptions, Spelling, TrailerOptions};
use nuncio_io::transport::Transport;
use nuncio_matcher::CidrSet;
use nuncio_route::spec::*;
use nuncio_route::{RouteConfigSpec, RouteTable};
use nuncio_stats::Store;
use nuncio_stats::names::{HttpConnectionManagerStats, ListenerHttpStats, RouterStats, TracingStats};
use nuncio_stream_info::{Address, ConnectionInfo, Locality};
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the proxy under test has.
pub struct Proxy {
    pub address: SocketAddr,
    pub store: Arc<Store>,
    _clusters: ClusterManager,
}

/// Runs a test on a runtime of its own.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(test);
}

pub fn config(store: &Store, routes: Vec<RouteSpec>) -> HcmConfig {
    let scope = store.scope("http.test", &[]);
    let host = VirtualHostSpec { name: "all".to_owned(), domains: vec!["*".to_owned()], routes, ..Default::default() };
    let table = RouteTable::build(RouteConfigSpec { virtual_hosts: vec![host], ..Default::default() }).unwrap();
    HcmConfig {
        stats: HcmStats {
            manager: HttpConnectionManagerStats::register(&scope),
            router: RouterStats::register(&scope),
            tracing: TracingStats::register(&scope.child("tracing")),
            listener: ListenerHttpStats::register(&store.scope("listener.test.http.test", &[])),
            scope,
            root: store.scope("", &[]),
        },
        request_options: Arc::new(RequestOptions::default()),
        codec: Default::default(),
        http2: Default::default(),
        trailers: TrailerOptions { deliver: true, ..TrailerOptions::default() },
        spelling: Spelling::Lower,
        filters: Arc::from(Vec::<FilterSlot>::new()),
        router: RouterOptions::default(),
        routes: nuncio_hcm::config::RouteSource::Fixed(Arc::new(table)),
        upgrades: vec![UpgradeConfig { name: "websocket".into(), enabled: true, filters: None }],
        server_name: "envoy".into(),
        server_header: ServerHeader::Overwrite,
        via: "".into(),
        proxy_status: None,
        trust: TrustOptions {
            detection: Vec::new(),
            use_remote_address: false,
            trusted_hops: 0,
            skip_xff_append: false,
            append_port: false,
            internal: CidrSet::new([]),
            internal_unix: false,
            ipv4_as_mapped_ipv6: false,
            overwrite_scheme: None,
            match_upstream_scheme: false,
        },
        request_id: RequestIdOptions::default(),
        path: PathOptions::default(),
        strip_port: StripPort::Keep,
        strip_trailing_host_dot: false,
        forward_client_cert: ForwardClientCert::Sanitize,
        forward_client_cert_matcher: None,
        client_cert_details: Default::default(),
        add_user_agent: None,
        timeouts: Timeouts::default(),
        max_requests_per_connection: 0,
        proxy_100_continue: false,
        stream_error_on_invalid_message: false,
        access_logs: AccessLogs::from([]),
        access_log_options: AccessLogOptions::default(),
        local_reply: Default::default(),
        early_header_mutations: Vec::new(),
    }
}

/// All requests to one cluster.
pub fn to_cluster(name: &str) -> RouteSpec {
    RouteSpec::new(
        RouteMatchSpec::new(PathSpec::Prefix("/".to_owned())),
        ActionSpec::Route(Box::new(RouteActionSpec::to_cluster(name))),
    )
}

/// A cluster of static hosts.
pub fn cluster(name: &str, hosts: &[SocketAddr]) -> Arc<ClusterConfig> {
    let mut config = ClusterConfig::new(name, Discovery::Static);
    config.load_assignment = LoadAssignment {
        localities: vec![LocalityEndpoints {
            locality: Locality::default(),
            priority: 0,
            weight: 0,
            metadata: None,
            endpoints: hosts.iter().map(|host| Endpoint::new(*host)).collect(),
        }],
        ..LoadAssignment::default()
    };
    Arc::new(config)
}

/// Starts a proxy with these clusters.
pub async fn start(store: Arc<Store>, hcm: HcmConfig, clusters: Vec<Arc<ClusterConfig>>) -> Proxy {
    let manager = ClusterManager::new(Arc::clone(&store), ClusterManagerOptions::default());
    manager.set_clusters(clusters);
    manager.initialized().await;
    let worker = Worker::new(1, 42, Arc::new(Runtime::default()));
    worker.services().insert(Rc::new(WorkerClusters::start(manager.worker())));
    let hcm = nuncio_hcm::HttpConnectionManager::new(hcm);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((socket, peer)) = listener.accept().await {
            socket.set_nodelay(true).unwrap();
            let info =
                ConnectionInfo::new(worker.unique_id(), worker.tick(), Address::from(address), Address::from(peer));
            let connection = Connection::detached(Transport::Tcp(socket), Arc::new(info), Rc::clone(&worker));
            tokio::task::spawn_local(hcm.serve(connection));
        }
    });
    Proxy { address, store, _clusters: manager }
}

/// An origin: each connection gets `answer` of the bytes of its request head, again and again.
pub async fn origin(answer: impl Fn(&str) -> Vec<u8> + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Rc::new(answer);
    tokio::task::spawn_local(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = Rc::clone(&answer);
            tokio::task::spawn_local(async move {
                let mut seen = Vec::new();
                let mut buffer = [0; 4096];
                loop {
                    while let Some(end) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
                        let head = String::from_utf8_lossy(&seen[..end + 4]).into_owned();
                        seen.drain(..end + 4);
                        let response = answer(&head);
                        if response.is_empty() || socket.write_all(&response).await.is_err() {
                            return;
                        }
                    }
                    match socket.read(&mut buffer).await {
                        Ok(0) | Err(_) => return,
                        Ok(count) => seen.extend_from_slice(&buffer[..count]),
                    }
                }
            });
        }
    });
    address
}

/// Sends bytes and reads until the response (by length) or the connection is over.
pub async fn exchange(socket: &mut TcpStream, request: &[u8]) -> String {
    socket.write_all(request).await.unwrap();
    read_response(socket).await
}

/// Reads one response: head, then `content-length` bytes, or chunks, or until the end.
pub async fn read_response(socket: &mut TcpStream) -> String {
    let mut seen = Vec::new();
    let mut byte = [0; 1];
    loop {
        match socket.read(&mut byte).await {
            Ok(0) | Err(_) => return String::from_utf8_lossy(&seen).into_owned(),
            Ok(_) => seen.push(byte[0]),
        }
        if let Some(end) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&seen[..end]).to_ascii_lowercase();
            let body = &seen[end + 4..];
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            let over = match length {
                Some(length) => body.len() >= length,
                None if head.contains("transfer-encoding: chunked") => body.ends_with(b"0\r\n\r\n"),
                None => head.starts_with("http/1.1 304") || head.starts_with("http/1.1 204"),
            };
            if over {
                return String::from_utf8_lossy(&seen).into_owned();
            }
        }
    }
}
