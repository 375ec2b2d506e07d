//! Requests that a filter makes on its own account.

use bytes::Bytes;
use nuncio_headers::HeaderMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A request to a cluster. It takes the cluster's balancing, pools, breakers and statistics like any other.
#[derive(Debug, Clone)]
pub struct ClientRequest {
    /// Name of the cluster.
    pub cluster: Arc<str>,
    /// Headers, with `:method`, `:path` and `:authority`.
    pub headers: HeaderMap,
    /// Body; `content-length` is set from it.
    pub body: Bytes,
    /// From the start to the end of the response; none waits for ever.
    pub timeout: Option<Duration>,
    /// A response body beyond this many bytes is an error.
    pub max_response_bytes: usize,
}

/// A complete response.
#[derive(Debug, Clone)]
pub struct ClientResponse {
    /// Headers, with `:status`.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Trailers.
    pub trailers: HeaderMap,
}

impl ClientResponse {
    /// The status, 0 if the response holds none.
    pub fn status(&self) -> u16 {
        self.headers
            .get(nuncio_headers::Known::STATUS)
            .and_then(|value| std::str::from_utf8(value).ok())
            .and_then(|value| value.parse().ok())
            .unwrap_or(0)
    }
}

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientError {
    /// No cluster of this name is configured.
    NoCluster,
    /// The cluster has no host to send to.
    NoHealthyHost,
    /// A circuit breaker is open.
    Overflow,
    /// Not answered in time.
    Timeout,
    /// The body is longer than allowed.
    ResponseTooLarge,
    /// Not connected, reset, or broken: the text says which.
    Reset(String),
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ClientError::NoCluster => f.write_str("no such cluster"),
            ClientError::NoHealthyHost => f.write_str("no healthy upstream"),
            ClientError::Overflow => f.write_str("circuit breaker open"),
            ClientError::Timeout => f.write_str("timeout"),
            ClientError::ResponseTooLarge => f.write_str("response body is too large"),
            ClientError::Reset(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ClientError {}

/// Sends requests to clusters; one per worker.
pub trait HttpClient {
    /// Sends one request. Dropping the future resets the stream.
    fn send(&self, request: ClientRequest) -> Pin<Box<dyn Future<Output = Result<ClientResponse, ClientError>>>>;

    /// Whether a cluster of this name is configured.
    fn has_cluster(&self, name: &str) -> bool;
}

/// The client of a worker, found through [`crate::Services`].
#[derive(Clone)]
pub struct HttpClientHandle(pub Rc<dyn HttpClient>);
