//! gRPC calls that the proxy makes on its own account: what a service is, and what a call can come to.
//!
//! Owns: the plain data of a service, message framing, and the meaning of an answer. Does not own: sending (`hcm`).

use crate::{ClientError, ClientResponse};
use bytes::{BufMut, Bytes, BytesMut};
use nuncio_headers::{HeaderMap, HeaderName, Known};
use std::sync::Arc;
use std::time::Duration;

/// A gRPC service (`envoy.config.core.v3.GrpcService` with `envoy_grpc`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GrpcService {
    /// `envoy_grpc.cluster_name`. The cluster must speak HTTP/2.
    pub cluster: Arc<str>,
    /// `envoy_grpc.authority`. Default the name of the cluster.
    pub authority: Option<Arc<str>>,
    /// `timeout` of a call. None waits for ever.
    pub timeout: Option<Duration>,
    /// `initial_metadata`.
    pub initial_metadata: Vec<(HeaderName, Arc<[u8]>)>,
    /// `retry_policy`: when a call is made again.
    pub retry: GrpcRetry,
}

/// When a call is made again: after UNAVAILABLE, or an answer that did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrpcRetry {
    /// `num_retries`. Default 0.
    pub retries: u32,
    /// `retry_back_off.base_interval`. Default 25 ms, doubled with each try.
    pub base_interval: Duration,
    /// `retry_back_off.max_interval`. Default ten times the base.
    pub max_interval: Duration,
}

impl Default for GrpcRetry {
    fn default() -> Self {
        GrpcRetry { retries: 0, base_interval: Duration::from_millis(25), max_interval: Duration::from_millis(250) }
    }
}

impl GrpcRetry {
    /// The time before try `number`, which counts from 1: a random part of an interval that doubles each time.
    pub fn wait(&self, number: u32, random: u64) -> Duration {
        let interval = self.base_interval.saturating_mul(1u32.checked_shl(number - 1).unwrap_or(u32::MAX));
        let millis = u64::try_from(interval.min(self.max_interval).as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(random % millis + 1)
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrpcError {
    /// The service answered with this status and message (`grpc-status`, `grpc-message`).
    Status(u32, String),
    /// What was answered is no gRPC: the text says what was wrong.
    Malformed(String),
    /// There was no answer.
    Client(ClientError),
}

/// gRPC's status UNAVAILABLE.
pub const UNAVAILABLE: u32 = 14;

impl GrpcError {
    /// Whether the same call may work at another time.
    pub fn is_transient(&self) -> bool {
        match self {
            GrpcError::Status(status, _) => *status == UNAVAILABLE,
            GrpcError::Malformed(_) => false,
            GrpcError::Client(error) => {
                matches!(error, ClientError::Reset(_) | ClientError::NoHealthyHost | ClientError::Overflow)
            }
        }
    }
}

impl std::fmt::Display for GrpcError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            GrpcError::Status(status, message) => write!(f, "gRPC status {status}: {message}"),
            GrpcError::Malformed(what) => write!(f, "no gRPC answer: {what}"),
            GrpcError::Client(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for GrpcError {}

impl From<ClientError> for GrpcError {
    fn from(error: ClientError) -> Self {
        GrpcError::Client(error)
    }
}

impl GrpcService {
    /// The head of a call. `path` is `/package.Service/Method`.
    pub fn head(&self, path: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append_known(Known::METHOD, b"POST");
        headers.append_known(Known::PATH, path.as_bytes());
        headers.append_known(Known::AUTHORITY, self.authority.as_ref().unwrap_or(&self.cluster).as_bytes());
        headers.append_known(Known::SCHEME, b"http");
        headers.append_known(Known::TE, b"trailers");
        headers.append_known(Known::CONTENT_TYPE, b"application/grpc");
        if let Some(timeout) = self.timeout {
            // At most eight digits (the gRPC protocol over HTTP/2, "TimeoutValue").
            let millis = timeout.as_millis().min(99_999_999);
            headers.append_known(Known::GRPC_TIMEOUT, format!("{millis}m").as_bytes());
        }
        for (name, value) in &self.initial_metadata {
            headers.append(name, value);
        }
        headers
    }
}

/// A message with its frame: not compressed, and its length.
pub fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(message);
    framed.freeze()
}

/// The one message of a unary call's answer.
pub fn answer(response: &ClientResponse) -> Result<Bytes, GrpcError> {
    if response.status() != 200 {
        return Err(GrpcError::Status(status_of_http(response.status()), format!("HTTP status {}", response.status())));
    }
    let from = if response.trailers.has(Known::GRPC_STATUS) { &response.trailers } else { &response.headers };
    let status = from.get(Known::GRPC_STATUS).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    match status {
        Some(0) => {}
        Some(status) => {
            let message = from.get(Known::GRPC_MESSAGE).map(String::from_utf8_lossy).unwrap_or_default();
            return Err(GrpcError::Status(status, message.into_owned()));
        }
        None => return Err(GrpcError::Malformed("no grpc-status".to_owned())),
    }
    let Some(([0, length @ ..], message)) = response.body.split_first_chunk::<5>() else {
        return Err(GrpcError::Malformed("no message, or a compressed one".to_owned()));
    };
    let length = u32::from_be_bytes(*length) as usize;
    if message.len() != length {
        return Err(GrpcError::Malformed(format!("a message of {length} bytes in {} bytes", message.len())));
    }
    Ok(response.body.slice(5..))
}

/// What an HTTP status stands for where there is no gRPC status (the gRPC mapping of HTTP statuses).
pub fn status_of_http(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => UNAVAILABLE,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(body: &[u8], status: Option<&str>) -> ClientResponse {
        let (mut headers, mut trailers) = (HeaderMap::new(), HeaderMap::new());
        headers.append_known(Known::STATUS, b"200");
        if let Some(status) = status {
            trailers.append_known(Known::GRPC_STATUS, status.as_bytes());
        }
        ClientResponse { headers, body: Bytes::copy_from_slice(body), trailers }
    }

    #[test]
    fn answers() {
        let framed = frame(b"hi");
        assert_eq!(answer(&response(&framed, Some("0"))).unwrap(), &b"hi"[..]);
        assert_eq!(answer(&response(&framed, Some("14"))), Err(GrpcError::Status(14, String::new())));
        for (body, status) in
            [(&framed[..], None), (&framed[..6], Some("0")), (&b""[..], Some("0")), (b"\x01\0\0\0\0", Some("0"))]
        {
            let refused = answer(&response(body, status));
            assert!(matches!(refused, Err(GrpcError::Malformed(_))), "{refused:?}");
        }
    }

    #[test]
    fn waits_grow_to_a_limit() {
        let retry = GrpcRetry::default();
        for (number, most) in [(1, 25), (2, 50), (3, 100), (9, 250), (40, 250)] {
            assert_eq!(retry.wait(number, most - 1), Duration::from_millis(most));
        }
    }
}
