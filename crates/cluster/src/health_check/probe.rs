//! One check: connect, ask, read the answer.

use super::http2::{self, Http2Connection};
use super::{FailureType, HealthChecks, Outcome};
use crate::config::{
    GrpcHealthCheck, HealthCheck, HealthChecker, HttpHealthCheck, ReceiveMatcher, RequestHeader, TcpHealthCheck,
};
use crate::connect::ConnectTarget;
use crate::host::Host;
use crate::info::ClusterInfo;
use crate::pool::PoolProtocol;
use bytes::{Bytes, BytesMut};
use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_http::Framing;
use nuncio_http::h1::{
    BodyDecoder, BodyEvent, HeadScanner, Parsed, ResponseHead, ResponseOptions, Spelling, TargetForm, parse_response,
    write_request_head,
};
use nuncio_io::transport::Transport;
use nuncio_stream_info::Address;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

/// Most bytes of an answer over TCP that are looked through.
const MAX_TCP_ANSWER: usize = 64 * 1024;
/// Room for one read.
const READ: usize = 4096;

/// What is kept between the checks of one host.
#[derive(Default)]
pub(super) struct Probe {
    connection: Option<Connection>,
    http2: Option<Http2Connection>,
}

struct Connection {
    transport: Transport,
    read: BytesMut,
}

/// Why there is no answer.
pub(super) enum Broken {
    /// Nothing of an answer was read: if the connection was used before, its end was on the way already.
    Early,
    Late,
}

impl Probe {
    /// Makes one check, within `timeout`.
    pub(super) async fn check(&mut self, checks: &HealthChecks, info: &ClusterInfo, host: &Host) -> Outcome {
        let config = &checks.config;
        let check = async {
            match &config.checker {
                HealthChecker::Http(http) => self.check_http(checks, http, info, host).await,
                HealthChecker::Tcp(tcp) => self.check_tcp(config, tcp, info, host).await,
                HealthChecker::Grpc(grpc) => self.check_grpc(config, grpc, info, host).await,
            }
        };
        let outcome = tokio::time::timeout(config.timeout, check).await;
        outcome.unwrap_or_else(|_| {
            self.connection = None;
            self.http2 = None;
            failure(FailureType::NetworkTimeout)
        })
    }

    /// The connection of the last check, or a new one; whether it is new.
    async fn connection(
        &mut self,
        config: &HealthCheck,
        info: &ClusterInfo,
        host: &Host,
    ) -> io::Result<(Connection, bool)> {
        if let Some(mut connection) = self.connection.take()
            && connection.transport.is_quiet()
        {
            return Ok((connection, false));
        }
        let transport = connect(config, info, host, false).await?;
        Ok((Connection { transport, read: BytesMut::new() }, true))
    }

    async fn check_http(
        &mut self,
        checks: &HealthChecks,
        http: &HttpHealthCheck,
        info: &ClusterInfo,
        host: &Host,
    ) -> Outcome {
        let head = request_head(http, info, host);
        if http.http2 {
            return match self.exchange(&checks.config, (info, host), (&head, Bytes::new()), body_kept(http)).await {
                Ok(answer) => judge(checks, http, host, (answer.status, &answer.headers, &answer.body)),
                Err(_) => failure(FailureType::Network),
            };
        }
        let mut request = Vec::with_capacity(256);
        write_request_head(&mut request, &head, Framing::None, Spelling::Lower, TargetForm::Origin);
        loop {
            let Ok((mut connection, is_new)) = self.connection(&checks.config, info, host).await else {
                return failure(FailureType::Network);
            };
            match connection.exchange(&request, http).await {
                Ok(answer) => {
                    if checks.config.reuse_connection && answer.head.keep_alive {
                        self.connection = Some(connection);
                    }
                    return judge(checks, http, host, (answer.head.status, &answer.headers, &answer.body));
                }
                Err(Broken::Early) if !is_new => {}
                Err(Broken::Early | Broken::Late) => return failure(FailureType::Network),
            }
        }
    }

    async fn check_grpc(
        &mut self,
        config: &HealthCheck,
        grpc: &GrpcHealthCheck,
        info: &ClusterInfo,
        host: &Host,
    ) -> Outcome {
        let mut head = http2::grpc_head(authority(grpc.authority.as_ref(), info, host).as_bytes());
        add_headers(&grpc.initial_metadata, &mut head);
        let request = (&head, http2::grpc_request(&grpc.service_name));
        match self.exchange(config, (info, host), request, http2::MOST_KEPT).await {
            Ok(answer) if http2::is_serving(&answer) => Outcome::Success { degraded: false },
            Ok(answer) => Outcome::Failure { kind: FailureType::Active, is_retriable: false, status: answer.status },
            Err(_) => failure(FailureType::Network),
        }
    }

    /// One exchange over HTTP/2, on the connection of the last check if it is still there.
    async fn exchange(
        &mut self,
        config: &HealthCheck,
        (info, host): (&ClusterInfo, &Host),
        (head, body): (&HeaderMap, Bytes),
        keep: usize,
    ) -> Result<http2::Answer, Broken> {
        loop {
            let kept = self.http2.take().and_then(|mut connection| connection.is_usable().then_some(connection));
            let is_new = kept.is_none();
            let mut connection = match kept {
                Some(connection) => connection,
                None => {
                    let transport = connect(config, info, host, true).await.map_err(|_| Broken::Late)?;
                    Http2Connection::open(transport)
                }
            };
            match connection.exchange(head, body.clone(), keep).await {
                Ok(answer) => {
                    if config.reuse_connection {
                        self.http2 = Some(connection);
                    }
                    return Ok(answer);
                }
                Err(Broken::Early) if !is_new => {}
                Err(broken) => return Err(broken),
            }
        }
    }

    async fn check_tcp(
        &mut self,
        config: &HealthCheck,
        tcp: &TcpHealthCheck,
        info: &ClusterInfo,
        host: &Host,
    ) -> Outcome {
        loop {
            let Ok((mut connection, is_new)) = self.connection(config, info, host).await else {
                return failure(FailureType::Network);
            };
            match connection.send_and_receive(tcp).await {
                Ok(()) => {
                    let is_plain = tcp.send.is_none() && tcp.receive.is_empty();
                    if config.reuse_connection && !is_plain {
                        self.connection = Some(connection);
                    }
                    return Outcome::Success { degraded: false };
                }
                Err(Broken::Early) if !is_new => {}
                Err(Broken::Early | Broken::Late) => return failure(FailureType::Network),
            }
        }
    }
}

fn failure(kind: FailureType) -> Outcome {
    Outcome::Failure { kind, is_retriable: false, status: 0 }
}

/// Where the checks of a host go.
fn address(config: &HealthCheck, host: &Host) -> Address {
    let own = host.health_check_config();
    let mut address = match own.and_then(|own| own.address.clone()) {
        Some(address) => address,
        None => host.destination().info.address.clone(),
    };
    let port = own.and_then(|own| own.port).or(config.alt_port);
    if let (Some(port), Address::Ip(socket)) = (port, &mut address) {
        *socket = SocketAddr::new(socket.ip(), port);
    }
    address
}

/// Connects as requests do: from the cluster's source address, with its socket options and transport socket.
async fn connect(config: &HealthCheck, info: &ClusterInfo, host: &Host, http2: bool) -> io::Result<Transport> {
    let transport = info.config.transports.as_deref().map(|transports| match &config.transport_criteria {
        Some(criteria) => transports.find(Some(criteria)),
        None => transports.of_host(host.transport()),
    });
    let target = match config.checker {
        _ if !config.alpn_protocols.is_empty() => {
            let protocols = Arc::clone(&config.alpn_protocols);
            ConnectTarget { protocols, insists_on_protocols: true, ..ConnectTarget::default() }
        }
        HealthChecker::Tcp(_) => ConnectTarget::default(),
        _ if http2 => ConnectTarget::offering(PoolProtocol::Http2),
        _ => ConnectTarget::offering(PoolProtocol::Http1),
    };
    let connected = crate::connect::open_by(info, host, &address(config, host), transport, &target).await;
    connected.map(|connected| connected.transport).map_err(|failed| io::Error::other(failed.reason.to_string()))
}

/// Which authority a check asks for: the endpoint's own, the check's, or the cluster's name.
fn authority<'a>(wanted: Option<&'a Arc<str>>, info: &'a ClusterInfo, host: &'a Host) -> &'a Arc<str> {
    let own = host.health_check_config().and_then(|own| own.hostname.as_ref()).filter(|name| !name.is_empty());
    own.or(wanted).unwrap_or(info.name())
}

fn add_headers(wanted: &[RequestHeader], headers: &mut HeaderMap) {
    for header in wanted {
        if header.append {
            headers.append(&header.name, &header.value);
        } else {
            headers.set(&header.name, &header.value);
        }
    }
}

/// The head of the request.
fn request_head(http: &HttpHealthCheck, info: &ClusterInfo, host: &Host) -> HeaderMap {
    let authority = authority(http.host.as_ref(), info, host);
    let mut headers = HeaderMap::default();
    headers.set_known(Known::METHOD, http.method.as_bytes());
    headers.set_known(Known::PATH, http.path.as_bytes());
    headers.set_known(Known::AUTHORITY, authority.as_bytes());
    headers.set_known(Known::USER_AGENT, b"Envoy/HC");
    add_headers(&http.request_headers_to_add, &mut headers);
    for name in &http.request_headers_to_remove {
        headers.remove(name);
    }
    headers
}

/// How much of a body is looked at, in bytes.
fn body_kept(http: &HttpHealthCheck) -> usize {
    match (http.receive.is_empty(), http.response_buffer_size) {
        (true, _) => 0,
        (false, 0) => usize::MAX,
        (false, size) => usize::try_from(size).unwrap_or(usize::MAX),
    }
}

struct HttpAnswer {
    head: ResponseHead,
    headers: HeaderMap,
    /// The start of the body, at most `response_buffer_size`; only kept if `receive` wants it.
    body: Vec<u8>,
}

impl Connection {
    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Broken> {
        while !bytes.is_empty() {
            let written = poll_fn(|cx| self.transport.poll_write(cx, bytes)).await.map_err(|_| Broken::Early)?;
            if written == 0 {
                return Err(Broken::Early);
            }
            bytes = bytes.get(written..).unwrap_or_default();
        }
        poll_fn(|cx| self.transport.poll_flush(cx)).await.map_err(|_| Broken::Early)
    }

    /// Reads more; 0 is the end.
    async fn fill(&mut self) -> io::Result<usize> {
        self.read.reserve(READ);
        poll_fn(|cx| self.transport.poll_read(cx, &mut self.read)).await
    }

    /// Sends a request and reads its response to the end.
    async fn exchange(&mut self, request: &[u8], http: &HttpHealthCheck) -> Result<HttpAnswer, Broken> {
        self.write(request).await?;
        let options = ResponseOptions { head_request: &*http.method == "HEAD", ..ResponseOptions::default() };
        let mut headers = HeaderMap::default();
        let mut scan = HeadScanner::new();
        let head = loop {
            match parse_response(&self.read, &mut scan, &options, &mut headers) {
                Ok(Parsed::Complete(head, used)) => {
                    let _ = self.read.split_to(used);
                    scan.reset();
                    // An interim response: the real one follows.
                    if head.status >= 200 {
                        break head;
                    }
                }
                Ok(Parsed::Partial) => {
                    let is_early = self.read.is_empty();
                    match self.fill().await {
                        Ok(0) | Err(_) if is_early => return Err(Broken::Early),
                        Ok(0) | Err(_) => return Err(Broken::Late),
                        Ok(_) => {}
                    }
                }
                Err(_) => return Err(Broken::Late),
            }
        };
        let body = self.read_body(head.framing, http).await?;
        Ok(HttpAnswer { head, headers, body })
    }

    async fn read_body(&mut self, framing: Framing, http: &HttpHealthCheck) -> Result<Vec<u8>, Broken> {
        let keep = body_kept(http);
        let mut body = Vec::new();
        let mut decoder = BodyDecoder::new(framing);
        let mut trailers = HeaderMap::default();
        while !decoder.is_done() {
            match decoder.decode(&self.read, &mut trailers).map_err(|_| Broken::Late)? {
                BodyEvent::Data { start, end, consumed, .. } => {
                    let piece = self.read.get(start..end).unwrap_or_default();
                    let room = keep.saturating_sub(body.len()).min(piece.len());
                    body.extend_from_slice(piece.get(..room).unwrap_or_default());
                    let _ = self.read.split_to(consumed);
                }
                BodyEvent::End { consumed, .. } => {
                    let _ = self.read.split_to(consumed);
                    break;
                }
                BodyEvent::Need { consumed } => {
                    let _ = self.read.split_to(consumed);
                    if self.fill().await.map_err(|_| Broken::Late)? == 0 {
                        decoder.finish().map_err(|_| Broken::Late)?;
                        break;
                    }
                }
            }
        }
        Ok(body)
    }

    /// Sends the payload, and reads until the answer holds what it must.
    async fn send_and_receive(&mut self, tcp: &TcpHealthCheck) -> Result<(), Broken> {
        if let Some(send) = &tcp.send {
            self.write(send).await?;
        }
        if tcp.receive.is_empty() {
            return Ok(());
        }
        self.read.clear();
        while !ReceiveMatcher(&tcp.receive).matches(&self.read) {
            if self.read.len() >= MAX_TCP_ANSWER {
                return Err(Broken::Late);
            }
            let is_early = self.read.is_empty();
            match self.fill().await {
                Ok(0) | Err(_) => return Err(if is_early { Broken::Early } else { Broken::Late }),
                Ok(_) => {}
            }
        }
        self.read.clear();
        Ok(())
    }
}

fn within(ranges: &[Range<u16>], status: u16) -> bool {
    ranges.iter().any(|range| range.contains(&status))
}

/// What a response says of the health of the host.
fn judge(
    checks: &HealthChecks,
    http: &HttpHealthCheck,
    host: &Host,
    (status, headers, body): (u16, &HeaderMap, &[u8]),
) -> Outcome {
    let failed = |is_retriable| Outcome::Failure { kind: FailureType::Active, is_retriable, status };
    if !within(&http.expected_statuses, status) {
        if headers.has(Known::X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL) {
            host.set_health(crate::health::HealthFlags::EXCLUDED_VIA_IMMEDIATE_HC_FAIL);
        }
        return failed(within(&http.retriable_statuses, status));
    }
    if !ReceiveMatcher(&http.receive).matches(body) {
        return failed(false);
    }
    let degraded = headers.has(Known::X_ENVOY_DEGRADED);
    if let Some(matcher) = &http.service_name_matcher {
        checks.stats.verify_cluster().inc();
        let name = HeaderName::new("x-envoy-upstream-healthchecked-cluster").ok();
        let value = name.and_then(|name| headers.get_name(&name));
        let value = value.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
        if !(matcher.matches)(value) {
            return failed(false);
        }
    }
    Outcome::Success { degraded }
}
