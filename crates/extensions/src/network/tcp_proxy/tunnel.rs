//! Tunnels over HTTP: CONNECT or POST to the upstream, then bytes (`tunneling_config`).

use nuncio_cluster::pool::{ConnectFailure, NotObtained, PoolKey, PooledConnection};
use nuncio_cluster::{Host, RoutingPriority, WorkerCluster};
use nuncio_filter::Connection;
use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_http::exchange::Upstream;
use nuncio_http::h1::{ResponseOptions, request_framing};
use nuncio_http::{Framing, Version};
use nuncio_route::HeaderEdits;
use nuncio_stream_info::{
    FilterStateObject, Format, LifeSpan, LogContext, Mutability, ProxiedAddresses, Sharing, StreamInfo, Struct, Value,
};
use std::any::Any;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

/// `TunnelingConfig`.
pub(super) struct Tunneling {
    /// `hostname`: the authority of the request.
    pub hostname: Format,
    /// `post_path`, if POST is used; CONNECT is otherwise.
    pub post: Option<Arc<str>>,
    /// `headers_to_add`.
    pub headers: HeaderEdits,
    /// `propagate_response_headers`.
    pub propagate_headers: bool,
    /// `propagate_response_trailers`.
    pub propagate_trailers: bool,
    /// `request_id_extension`: requests get an id.
    pub request_id: Option<RequestId>,
}

/// Where the id of a request for a tunnel goes.
pub(super) struct RequestId {
    /// `request_id_header`.
    pub header: HeaderName,
    /// `request_id_metadata_key`, in the namespace of the filter.
    pub metadata_key: Arc<str>,
}

/// The filter's namespace in the dynamic metadata.
const NAMESPACE: &str = "envoy.filters.network.tcp_proxy";
const RESPONSE_HEADERS: &str = "envoy.tcp_proxy.propagate_response_headers";
const RESPONSE_TRAILERS: &str = "envoy.tcp_proxy.propagate_response_trailers";

/// Headers or trailers as an object of the filter state: a `core.v3.HeaderMap`.
#[derive(Debug)]
struct Propagated(Vec<(Arc<str>, Arc<str>)>);

impl Propagated {
    fn of(status: Option<u16>, headers: &HeaderMap) -> Propagated {
        let status = status.map(|status| (":status".into(), status.to_string().into()));
        let rest = headers.iter().filter(|(name, _)| status.is_none() || *name != ":status");
        let rest = rest.map(|(name, value)| (name.into(), String::from_utf8_lossy(value).into()));
        Propagated(status.clone().into_iter().chain(rest).collect())
    }
}

impl FilterStateObject for Propagated {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn to_typed(&self) -> Option<Value> {
        let header = |(name, value): &(Arc<str>, Arc<str>)| {
            let mut header = Struct::new();
            header.set("key", Value::String(Arc::clone(name)));
            header.set("value", Value::String(Arc::clone(value)));
            Value::Struct(header)
        };
        let mut map = Struct::new();
        map.set("headers", Value::List(self.0.iter().map(header).collect()));
        Some(Value::Struct(map))
    }
}

/// Leaves an object for the filters and logs of the connection. Another attempt leaves that of the first, as in Envoy.
fn propagate(name: &'static str, object: Propagated, info: &mut StreamInfo) {
    let _ = info.filter_state.set(name, Arc::new(object), Mutability::ReadOnly, LifeSpan::Connection, Sharing::None);
}

impl Tunneling {
    fn head(&self, info: &mut StreamInfo, connection: &Connection) -> HeaderMap {
        let worker = &connection.worker;
        let id = self.request_id.as_ref().map(|request_id| {
            let id = nuncio_stream_info::uuid(u128::from(worker.random()) << 64 | u128::from(worker.random()));
            let value = Value::String(Arc::clone(&id));
            info.dynamic_metadata_mut().namespace_mut(NAMESPACE).set(Arc::clone(&request_id.metadata_key), value);
            (&request_id.header, id)
        });
        let context = LogContext::new(info, worker.now(), worker.wall());
        let mut hostname = Vec::new();
        self.hostname.write(&context, &mut hostname);
        let mut headers = HeaderMap::new();
        headers.append_known(Known::METHOD, if self.post.is_some() { b"POST" } else { b"CONNECT" });
        if let Some(path) = &self.post {
            headers.append_known(Known::PATH, path.as_bytes());
            headers.append_known(Known::SCHEME, b"http");
        }
        headers.append_known(Known::AUTHORITY, &hostname);
        if let Some((name, id)) = id {
            headers.set(name, id.as_bytes());
        }
        self.headers.apply(&mut headers, &context);
        headers
    }

    /// Asks a host for a tunnel, and waits until it agrees. None if the client's connection must end before.
    pub(super) async fn open(
        &self,
        (cluster, host, proxied): (&Rc<WorkerCluster>, &Arc<Host>, Option<Arc<ProxiedAddresses>>),
        connection: &Connection,
        info: &mut StreamInfo,
    ) -> Result<Box<PooledConnection>, Refused> {
        let protocol = cluster.info.config.http.protocol;
        let key = PoolKey::new(protocol, RoutingPriority::Default, Version::Http11).for_client(proxied);
        let pool = cluster.pools.of(&cluster.info, host, key);
        let worker = &connection.worker;
        let obtained = pool.obtain(|| worker.tick()).await;
        let mut pooled = obtained.map_err(|refused| match refused {
            NotObtained::Overflow => Refused::Overflow,
            NotObtained::Failed(failure) => Refused::Connect(failure),
        })?;
        let headers = self.head(info, connection);
        let connect = self.post.is_none();
        let framing = if connect { Framing::None } else { request_framing(&headers, false) };
        info.upstream_bytes.header_sent = pooled.wire.send_head(&headers, framing) as u64;
        let options = ResponseOptions { connect_request: connect, ..pool.http1().response.clone() };
        let mut response = HeaderMap::new();
        loop {
            let head = poll_fn(|cx| {
                // A failed write shows in what is read next.
                let _ = pooled.wire.poll_flush(cx);
                pooled.wire.poll_head(cx, &options, &mut response)
            });
            let head = head.await.map_err(|error| Refused::Answer(error.to_string()))?;
            if head.status < 200 {
                continue;
            }
            if self.propagate_headers {
                propagate(RESPONSE_HEADERS, Propagated::of(Some(head.status), &response), info);
            }
            if head.status < 300 {
                break;
            }
            if let Upstream::Http2(_) = pooled.wire {
                cluster.info.stats.upstream_rq_tx_reset().inc();
            }
            return Err(Refused::Answer(format!("tunnel_response:{}", head.status)));
        }
        if connect {
            pooled.wire.tunnel();
        }
        Ok(pooled)
    }
}

impl Tunneling {
    /// The tunnel ended with these trailers.
    pub(super) fn note_trailers(&self, trailers: &HeaderMap, info: &mut StreamInfo) {
        if self.propagate_trailers && !trailers.is_empty() {
            propagate(RESPONSE_TRAILERS, Propagated::of(None, trailers), info);
        }
    }
}

/// Why there is no tunnel.
pub(super) enum Refused {
    /// A circuit breaker is open.
    Overflow,
    /// No connection.
    Connect(ConnectFailure),
    /// The upstream does not want one.
    Answer(String),
}
