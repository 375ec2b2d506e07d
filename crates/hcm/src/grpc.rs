//! gRPC calls to services that the proxy itself uses.

use crate::client::{Obtained, obtain, reset};
use bytes::{Bytes, BytesMut};
use nuncio_cluster::WorkerClusters;
use nuncio_cluster::pool::PooledConnection;
use nuncio_filter::grpc::{GrpcError, GrpcService, answer, frame, status_of_http};
use nuncio_filter::{ClientError, ClientRequest, HttpClient, Worker};
use nuncio_headers::{HeaderMap, Known};
use nuncio_http::Framing;
use nuncio_http::connection::BodyPart;
use nuncio_http::h1::ResponseOptions;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Most bytes of an answer.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Makes a unary call: `message` to `path` (`/package.Service/Method`), again as often as the service's policy says. The time
/// limit is that of each try.
pub async fn unary(
    client: &Rc<dyn HttpClient>,
    worker: &Rc<Worker>,
    service: &GrpcService,
    path: &str,
    message: &[u8],
) -> Result<Bytes, GrpcError> {
    let body = frame(message);
    let mut tried = 0;
    loop {
        let request = ClientRequest {
            cluster: service.cluster.clone(),
            headers: service.head(path),
            body: body.clone(),
            timeout: service.timeout,
            max_response_bytes: MAX_ANSWER,
        };
        let outcome = match client.send(request).await {
            Ok(response) => answer(&response),
            Err(error) => Err(error.into()),
        };
        match outcome {
            Err(error) if error.is_transient() && tried < service.retry.retries => {
                tried += 1;
                tokio::time::sleep(service.retry.wait(tried, worker.random())).await;
            }
            outcome => return outcome,
        }
    }
}

/// A call that goes on: messages in both directions, until one side ends it. Dropping it resets its stream.
pub struct GrpcStream {
    connection: Box<PooledConnection>,
    headers: HeaderMap,
    trailers: HeaderMap,
    /// What was received and is not a whole message yet.
    received: BytesMut,
    max_message: usize,
    has_head: bool,
    is_over: bool,
}

impl GrpcStream {
    /// Opens a call of `path` (`/package.Service/Method`). Messages of more than `max_message` bytes are an error.
    pub async fn open(
        worker: &Rc<Worker>,
        clusters: &WorkerClusters,
        service: &GrpcService,
        (path, headers, max_message): (&str, &[(Known, &str)], usize),
    ) -> Result<GrpcStream, GrpcError> {
        let mut head = service.head(path);
        head.set_known(Known::X_ENVOY_INTERNAL, b"true");
        for (name, value) in headers {
            head.set_known(*name, value.as_bytes());
        }
        let Obtained { cluster, host, mut connection } = obtain(worker, clusters, &service.cluster, &head).await?;
        if !connection.wire.is_multiplexed() {
            let text = format!("the cluster {} does not speak HTTP/2", service.cluster);
            return Err(GrpcError::Client(ClientError::Reset(text)));
        }
        drop((cluster, host));
        connection.wire.send_head(&head, Framing::Chunked);
        Ok(GrpcStream {
            connection,
            headers: HeaderMap::new(),
            trailers: HeaderMap::new(),
            received: BytesMut::new(),
            max_message,
            has_head: false,
            is_over: false,
        })
    }

    /// Sends a message. It goes out when the call is polled.
    pub fn send(&mut self, message: &[u8]) {
        self.connection.wire.send_data(frame(message));
    }

    /// Bytes of messages that the peer did not take yet.
    pub fn buffered(&self) -> usize {
        self.connection.wire.buffered()
    }

    /// The next message, or how the call ended. Cancel safe.
    pub fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, GrpcError>> {
        // An error shows in what is received as well.
        let _ = self.connection.wire.poll_flush(cx);
        while !self.has_head {
            let options = ResponseOptions::default();
            match ready!(self.connection.wire.poll_head(cx, &options, &mut self.headers)) {
                Ok(head) if head.status < 200 => {}
                Ok(head) if head.status != 200 => {
                    let text = format!("HTTP status {}", head.status);
                    return Poll::Ready(Err(GrpcError::Status(status_of_http(head.status), text)));
                }
                Ok(head) => {
                    self.has_head = true;
                    self.is_over = head.framing.is_empty();
                }
                Err(error) => return Poll::Ready(Err(reset(&self.connection, false, &error).into())),
            }
        }
        loop {
            if let Some(message) = self.whole()? {
                return Poll::Ready(Ok(message));
            }
            if self.is_over {
                return Poll::Ready(Err(self.status()));
            }
            match ready!(self.connection.wire.poll_body(cx, &mut self.trailers)) {
                Ok(BodyPart::Data { start, end, consumed, last }) => {
                    let chunk = self.connection.wire.take_body(start, end, consumed);
                    self.received.extend_from_slice(&chunk);
                    self.is_over = last;
                }
                Ok(BodyPart::End { .. }) => self.is_over = true,
                Err(error) => return Poll::Ready(Err(reset(&self.connection, true, &error).into())),
            }
        }
    }

    /// Takes a whole message out of what was received.
    fn whole(&mut self) -> Result<Option<Bytes>, GrpcError> {
        let Some((&[compressed, a, b, c, d], _)) = self.received.split_first_chunk::<5>() else { return Ok(None) };
        if compressed != 0 {
            return Err(GrpcError::Malformed("a compressed message, which was not asked for".to_owned()));
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > self.max_message {
            let limit = self.max_message;
            return Err(GrpcError::Malformed(format!("a message of {length} bytes, of at most {limit} allowed")));
        }
        if self.received.len() < length + 5 {
            // Room for all of it at once, as far as it is likely to come.
            self.received.reserve((length + 5 - self.received.len()).min(1024 * 1024));
            return Ok(None);
        }
        let message = self.received.split_to(length + 5).freeze();
        Ok(Some(message.slice(5..)))
    }

    /// The status that the call ended with.
    fn status(&self) -> GrpcError {
        let from = if self.trailers.has(Known::GRPC_STATUS) { &self.trailers } else { &self.headers };
        let status = from.get(Known::GRPC_STATUS).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        match status {
            Some(status) => {
                let message = from.get(Known::GRPC_MESSAGE).map(String::from_utf8_lossy).unwrap_or_default();
                GrpcError::Status(status, message.into_owned())
            }
            None => GrpcError::Malformed("the call ended without a grpc-status".to_owned()),
        }
    }
}
