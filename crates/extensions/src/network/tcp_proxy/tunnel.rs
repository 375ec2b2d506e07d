//! Tunnels over HTTP: CONNECT or POST to the upstream, then bytes (`tunneling_config`).

use nuncio_cluster::pool::{ConnectFailure, NotObtained, PoolKey, PooledConnection};
use nuncio_cluster::{Host, RoutingPriority, WorkerCluster};
use nuncio_filter::Connection;
use nuncio_headers::{HeaderMap, Known};
use nuncio_http::h1::{ResponseOptions, request_framing};
use nuncio_http::{Framing, Version};
use nuncio_route::HeaderEdits;
use nuncio_stream_info::{Format, LogContext, StreamInfo};
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
}

impl Tunneling {
    fn head(&self, info: &StreamInfo, connection: &Connection) -> HeaderMap {
        let worker = &connection.worker;
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
        self.headers.apply(&mut headers, &context);
        headers
    }

    /// Asks a host for a tunnel, and waits until it agrees. None if the client's connection must end before.
    pub(super) async fn open(
        &self,
        (cluster, host): (&Rc<WorkerCluster>, &Arc<Host>),
        connection: &Connection,
        info: &mut StreamInfo,
    ) -> Result<Box<PooledConnection>, Refused> {
        let protocol = cluster.info.config.http.protocol;
        let key = PoolKey::new(protocol, RoutingPriority::Default, Version::Http11);
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
            match head.status {
                ..200 => {}
                200..300 => break,
                status => return Err(Refused::Answer(format!("the upstream answered {status}"))),
            }
        }
        if connect {
            pooled.wire.tunnel();
        }
        Ok(pooled)
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
