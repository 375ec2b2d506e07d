//! `envoy.config.core.v3.HealthCheck`.

use nuncio_headers::HeaderName;
use nuncio_stream_info::Struct;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// One active health check.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthCheck {
    /// `timeout` of one attempt.
    pub timeout: Duration,
    /// `interval` between attempts.
    pub interval: Duration,
    /// `initial_jitter`: the first attempt waits at most so long. Default 0.
    pub initial_jitter: Duration,
    /// `interval_jitter`: at most so much is added to each interval. Default 0.
    pub interval_jitter: Duration,
    /// `interval_jitter_percent` of the interval, added likewise. Default 0.
    pub interval_jitter_percent: u32,
    /// `unhealthy_threshold`: failures until a healthy host is unhealthy. An HTTP status that is neither expected nor
    /// retriable makes it unhealthy at once.
    pub unhealthy_threshold: u32,
    /// `healthy_threshold`: successes until an unhealthy host is healthy. The first attempt ever decides at once.
    pub healthy_threshold: u32,
    /// `alt_port`: checked in place of the endpoint's port.
    pub alt_port: Option<u16>,
    /// `reuse_connection`. Default true.
    pub reuse_connection: bool,
    /// `no_traffic_interval`: used until the cluster had its first connection. Default 60 s.
    pub no_traffic_interval: Duration,
    /// `no_traffic_healthy_interval`: the same for a healthy host. Default `no_traffic_interval`.
    pub no_traffic_healthy_interval: Option<Duration>,
    /// `unhealthy_interval`: for unhealthy hosts. Default `interval`.
    pub unhealthy_interval: Option<Duration>,
    /// `unhealthy_edge_interval`: while a host is becoming unhealthy. Default `unhealthy_interval`.
    pub unhealthy_edge_interval: Option<Duration>,
    /// `healthy_edge_interval`: while a host is becoming healthy. Default `interval`.
    pub healthy_edge_interval: Option<Duration>,
    /// Files of `event_log_path` and `event_logger`.
    pub event_logs: Vec<Arc<str>>,
    /// `always_log_health_check_failures`. Default false.
    pub always_log_health_check_failures: bool,
    /// `always_log_health_check_success`. Default false.
    pub always_log_health_check_success: bool,
    /// `transport_socket_match_criteria`: chooses among `transport_socket_matches`, in place of the endpoint's metadata.
    pub transport_criteria: Option<Struct>,
    /// `tls_options.alpn_protocols`: offered in place of those of the TLS context.
    pub alpn_protocols: Arc<[Vec<u8>]>,
    /// What is sent and expected.
    pub checker: HealthChecker,
}

impl HealthCheck {
    /// A check with Envoy's defaults for what it does not require.
    pub fn new(timeout: Duration, interval: Duration, thresholds: (u32, u32), checker: HealthChecker) -> Self {
        let (unhealthy_threshold, healthy_threshold) = thresholds;
        HealthCheck {
            timeout,
            interval,
            initial_jitter: Duration::ZERO,
            interval_jitter: Duration::ZERO,
            interval_jitter_percent: 0,
            unhealthy_threshold,
            healthy_threshold,
            alt_port: None,
            reuse_connection: true,
            no_traffic_interval: Duration::from_secs(60),
            no_traffic_healthy_interval: None,
            unhealthy_interval: None,
            unhealthy_edge_interval: None,
            healthy_edge_interval: None,
            event_logs: Vec::new(),
            always_log_health_check_failures: false,
            always_log_health_check_success: false,
            transport_criteria: None,
            alpn_protocols: Arc::default(),
            checker,
        }
    }
}

/// `HealthCheck.health_checker`.
#[derive(Debug, Clone, PartialEq)]
pub enum HealthChecker {
    /// `http_health_check`.
    Http(Box<HttpHealthCheck>),
    /// `tcp_health_check`.
    Tcp(TcpHealthCheck),
    /// `grpc_health_check`.
    Grpc(Box<GrpcHealthCheck>),
}

/// `HealthCheck.GrpcHealthCheck`: `grpc.health.v1.Health/Check`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GrpcHealthCheck {
    /// `service_name`: whose health is asked for. Empty is the whole server's.
    pub service_name: Arc<str>,
    /// `authority`; default the endpoint's health-check hostname, then the name of the cluster.
    pub authority: Option<Arc<str>>,
    /// `initial_metadata`.
    pub initial_metadata: Vec<RequestHeader>,
}

/// `HealthCheck.HttpHealthCheck`.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpHealthCheck {
    /// `host`; default the endpoint's health-check hostname, then the name of the cluster.
    pub host: Option<Arc<str>>,
    /// `path`.
    pub path: Arc<str>,
    /// `codec_client_type`: HTTP/2 is spoken. Default no.
    pub http2: bool,
    /// `method`. Default GET.
    pub method: Arc<str>,
    /// `request_headers_to_add`.
    pub request_headers_to_add: Vec<RequestHeader>,
    /// `request_headers_to_remove`.
    pub request_headers_to_remove: Vec<HeaderName>,
    /// `expected_statuses`: half-open ranges. Default 200 only.
    pub expected_statuses: Vec<Range<u16>>,
    /// `retriable_statuses`: failures that count towards the threshold, in place of acting at once.
    pub retriable_statuses: Vec<Range<u16>>,
    /// `service_name_matcher`: what `x-envoy-upstream-healthchecked-cluster` of the response must match.
    pub service_name_matcher: Option<ServiceNameMatcher>,
    /// `receive`: what the body must hold, in this order.
    pub receive: Vec<Payload>,
    /// `response_buffer_size`: how much of the body is looked at. Default 1024; 0 no limit.
    pub response_buffer_size: u64,
}

impl HttpHealthCheck {
    /// `GET path`, 200 expected.
    pub fn new(path: impl Into<Arc<str>>) -> Self {
        HttpHealthCheck {
            host: None,
            path: path.into(),
            http2: false,
            method: "GET".into(),
            request_headers_to_add: Vec::new(),
            request_headers_to_remove: Vec::new(),
            expected_statuses: std::iter::once(200..201).collect(),
            retriable_statuses: Vec::new(),
            service_name_matcher: None,
            receive: Vec::new(),
            response_buffer_size: 1024,
        }
    }
}

/// A compiled predicate that can be compared by where it came from.
#[derive(Clone)]
pub struct ServiceNameMatcher {
    /// The text of the configuration; two matchers with the same text are equal.
    pub source: Arc<str>,
    /// The compiled matcher.
    pub matches: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

impl std::fmt::Debug for ServiceNameMatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ServiceNameMatcher").field(&self.source).finish()
    }
}

impl PartialEq for ServiceNameMatcher {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

/// One entry of `request_headers_to_add`.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestHeader {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: Arc<[u8]>,
    /// Whether it is added beside headers of the same name; otherwise it takes their place.
    pub append: bool,
}

/// Bytes to send or expect (`HealthCheck.Payload`, decoded).
pub type Payload = Arc<[u8]>;

/// `HealthCheck.TcpHealthCheck`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TcpHealthCheck {
    /// `send`: empty to check the connection only.
    pub send: Option<Payload>,
    /// `receive`: what the answer must hold, in this order, with anything in between.
    pub receive: Vec<Payload>,
}

/// Looks for the payloads of `receive` in what was received.
#[derive(Debug, Clone, Copy)]
pub struct ReceiveMatcher<'a>(pub &'a [Payload]);

impl ReceiveMatcher<'_> {
    /// Whether the payloads stand in `received` one after another, with anything before, between and after.
    pub fn matches(self, received: &[u8]) -> bool {
        let mut rest = received;
        for payload in self.0 {
            let found = match payload.len() {
                0 => Some(0),
                len => rest.windows(len).position(|window| window == &**payload),
            };
            let Some(at) = found else { return false };
            rest = rest.get(at + payload.len()..).unwrap_or_default();
        }
        true
    }
}
