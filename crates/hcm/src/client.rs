//! The client for requests of the proxy's own: scripts, and later authorization and the like.

use nuncio_cluster::pool::{ConnectFailure, HostPool, NotObtained, PoolKey, PooledConnection};
use nuncio_cluster::{Host, LbContext, RoutingPriority, WorkerCluster, WorkerClusters};
use nuncio_filter::{ClientError, ClientRequest, ClientResponse, HttpClient, StatsStore, Worker};
use nuncio_headers::{HeaderMap, Known};
use nuncio_http::connection::{BodyPart, RecvError};
use nuncio_http::h1::{ResponseHead, ResponseOptions, request_framing};
use nuncio_http::{ResetReason, Version};
use nuncio_stats::names::RouterStats;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// The client of a worker.
pub fn client(worker: &Rc<Worker>, clusters: &Rc<WorkerClusters>) -> Rc<dyn HttpClient> {
    Rc::new(Client { worker: Rc::downgrade(worker), clusters: Rc::clone(clusters) })
}

struct Client {
    worker: Weak<Worker>,
    clusters: Rc<WorkerClusters>,
}

type Response = Result<ClientResponse, ClientError>;

impl HttpClient for Client {
    fn send(&self, mut request: ClientRequest) -> Pin<Box<dyn Future<Output = Response>>> {
        let (worker, clusters) = (self.worker.clone(), Rc::clone(&self.clusters));
        Box::pin(async move {
            let Some(worker) = worker.upgrade() else { return Err(ClientError::Reset("shutting down".to_owned())) };
            let timeout = request.timeout;
            request.headers.set_known(Known::X_ENVOY_INTERNAL, b"true");
            if let Some(limit) = timeout.filter(|limit| !limit.is_zero()) {
                let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                let mut text = itoa::Buffer::new();
                request.headers.set_known(Known::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, text.format(millis).as_bytes());
            }
            let exchange = exchange(&worker, &clusters, request, Body::Collect);
            match timeout {
                Some(limit) => tokio::time::timeout(limit, exchange).await.unwrap_or(Err(ClientError::Timeout)),
                None => exchange.await,
            }
        })
    }

    fn has_cluster(&self, name: &str) -> bool {
        self.clusters.contains(name)
    }
}

/// Sends the copy of a request and lets its answer go by.
pub(crate) async fn send_copy(worker: &Rc<Worker>, clusters: &WorkerClusters, request: ClientRequest) {
    let timeout = request.timeout;
    let exchange = exchange(worker, clusters, request, Body::Discard);
    // Nobody waits for the outcome; statistics show it.
    match timeout {
        Some(limit) => drop(tokio::time::timeout(limit, exchange).await),
        None => drop(exchange.await),
    }
}

/// What becomes of a response's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Collect,
    Discard,
}

/// `http.async-client.*`.
struct ClientStats(RouterStats);

fn count_request(worker: &Worker) {
    let services = worker.services();
    let stats = services.get::<ClientStats>().or_else(|| {
        let store = services.get::<StatsStore>()?;
        Some(
            services
                .get_or_insert_with(|| ClientStats(RouterStats::register(&store.0.scope("http.async-client", &[])))),
        )
    });
    if let Some(stats) = stats {
        stats.0.rq_total().inc();
    }
}

async fn exchange(worker: &Rc<Worker>, clusters: &WorkerClusters, mut request: ClientRequest, body: Body) -> Response {
    if !clusters.contains(&request.cluster) {
        return Err(ClientError::NoCluster);
    }
    count_request(worker);
    let Obtained { cluster, host, mut connection } =
        obtain(worker, clusters, &request.cluster, &request.headers).await?;
    let pool = Rc::clone(connection.pool());
    let started = worker.now();
    // A copy is framed as the request was.
    let is_own = body == Body::Collect;
    if is_own && (!request.body.is_empty() || request.headers.has(Known::CONTENT_LENGTH)) {
        let length = request.body.len();
        request.headers.set_known(Known::CONTENT_LENGTH, itoa::Buffer::new().format(length).as_bytes());
    }
    if is_own {
        request.headers.set_known(Known::X_ENVOY_INTERNAL, b"true");
        if let Some(limit) = request.timeout {
            let millis = limit.as_millis();
            request
                .headers
                .set_known(Known::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, itoa::Buffer::new().format(millis).as_bytes());
        }
    }
    let framing = request_framing(&request.headers, request.body.is_empty());
    connection.wire.send_head(&request.headers, framing);
    if !request.body.is_empty() {
        connection.wire.send_data(request.body.clone());
    }
    connection.wire.send_end(None);
    let response = receive(&mut connection, &pool, &request, body).await;
    let now = worker.tick();
    match &response {
        Ok(response) => {
            host.record_status(response.status());
            cluster.info.stats.charge_response(response.status(), true, false);
            let taken = now.saturating_duration_since(started).as_millis();
            cluster.info.stats.record_time(u64::try_from(taken).unwrap_or(u64::MAX), true, false);
            connection.release(now);
        }
        Err(_) => cluster.info.stats.charge_response(503, true, false),
    }
    response
}

/// A connection for a request of the proxy's own.
pub(crate) struct Obtained {
    pub(crate) cluster: Rc<WorkerCluster>,
    pub(crate) host: Arc<Host>,
    pub(crate) connection: Box<PooledConnection>,
}

/// Chooses a host and gets a connection to it.
pub(crate) async fn obtain(
    worker: &Rc<Worker>,
    clusters: &WorkerClusters,
    name: &str,
    headers: &HeaderMap,
) -> Result<Obtained, ClientError> {
    let cluster = clusters.get(name).ok_or(ClientError::NoCluster)?;
    let now = worker.tick();
    let host = worker.with_rng(|rng| {
        let mut context = LbContext::new(now, rng);
        context.headers = Some(headers);
        cluster.choose_host(&mut context)
    });
    let Some(host) = host else {
        cluster.info.stats.upstream_cx_none_healthy().inc();
        cluster.info.stats.charge_response(503, true, false);
        return Err(ClientError::NoHealthyHost);
    };
    let key = PoolKey::new(cluster.info.config.http.protocol, RoutingPriority::Default, Version::Http11);
    let pool = cluster.pools.of(&cluster.info, &host, key);
    match connect(worker, &pool).await {
        Ok(connection) => Ok(Obtained { cluster, host, connection }),
        Err(error) => {
            cluster.info.stats.charge_response(503, true, false);
            Err(error)
        }
    }
}

async fn connect(worker: &Rc<Worker>, pool: &Rc<HostPool>) -> Result<Box<PooledConnection>, ClientError> {
    pool.obtain(|| worker.tick()).await.map_err(|refused| match refused {
        NotObtained::Overflow => ClientError::Overflow,
        NotObtained::Failed(failure) => connect_error(pool, failure),
    })
}

fn connect_error(pool: &HostPool, failure: ConnectFailure) -> ClientError {
    pool.cluster().stats.upstream_rq_pending_failure_eject().inc();
    let reason = match (failure.timeout, failure.local) {
        (true, _) => ResetReason::ConnectionTimeout,
        (false, true) => ResetReason::LocalConnectionFailure,
        (false, false) => ResetReason::RemoteConnectionFailure,
    };
    ClientError::Reset(reason.to_string())
}

async fn receive(
    connection: &mut PooledConnection,
    pool: &HostPool,
    request: &ClientRequest,
    wanted: Body,
) -> Response {
    let options = ResponseOptions {
        head_request: request.headers.get(Known::METHOD) == Some(b"HEAD"),
        ..pool.http1().response.clone()
    };
    let mut headers = HeaderMap::new();
    let head = final_head(connection, &options, &mut headers).await?;
    let mut body = Vec::new();
    let mut trailers = HeaderMap::new();
    let mut over = head.framing.is_empty() || options.head_request;
    while !over {
        let part = poll_fn(|cx| {
            // What the upstream did not take yet of a large request goes out while its answer comes in.
            let _ = connection.wire.poll_flush(cx);
            connection.wire.poll_body(cx, &mut trailers)
        });
        match part.await.map_err(|error| reset(connection, true, &error))? {
            BodyPart::Data { start, end, consumed, last } => {
                let chunk = connection.wire.take_body(start, end, consumed);
                if wanted == Body::Collect {
                    if body.len() + chunk.len() > request.max_response_bytes {
                        return Err(ClientError::ResponseTooLarge);
                    }
                    body.extend_from_slice(&chunk);
                }
                over = last;
            }
            BodyPart::End { .. } => over = true,
        }
    }
    Ok(ClientResponse { headers, body: body.into(), trailers })
}

async fn final_head(
    connection: &mut PooledConnection,
    options: &ResponseOptions,
    headers: &mut HeaderMap,
) -> Result<ResponseHead, ClientError> {
    loop {
        let head = poll_fn(|cx| {
            let _ = connection.wire.poll_flush(cx);
            connection.wire.poll_head(cx, options, headers)
        });
        let head = head.await.map_err(|error| reset(connection, false, &error))?;
        if head.status >= 200 || head.upgrade {
            return Ok(head);
        }
    }
}

/// A response that breaks off, or is none.
pub(crate) fn reset(connection: &PooledConnection, within_message: bool, error: &RecvError) -> ClientError {
    let broken = match error {
        RecvError::Codec(_) => true,
        RecvError::Reset(reason) => return ClientError::Reset(reason.to_string()),
        RecvError::Closed | RecvError::Truncated | RecvError::Io(_) => {
            connection.closed_by_peer();
            within_message || connection.wire.has_input()
        }
    };
    if broken {
        connection.pool().cluster().stats.upstream_cx_protocol_error().inc();
    }
    let reason = if broken { ResetReason::ProtocolError } else { ResetReason::ConnectionTermination };
    ClientError::Reset(reason.to_string())
}
