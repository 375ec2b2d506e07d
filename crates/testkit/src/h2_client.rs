//! A well-behaved HTTP/2 client, by prior knowledge: requests with bodies and trailers, several at once on a connection.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::{Method, Request, Uri};
use tokio::runtime::Runtime;

use crate::PATIENCE;
use crate::client::Response;
use crate::message::{Body, End, Head};
use crate::origin::Http2Settings;
use crate::origin::h2::{fields, lines_of, read};

/// A connection. It makes progress while requests are under way, and rests in between.
pub struct H2Client {
    runtime: Runtime,
    send: SendRequest<Bytes>,
    patience: Duration,
}

/// A request to send.
#[derive(Clone, Debug, Default)]
pub struct H2Request {
    /// The method.
    pub method: String,
    /// `:path`.
    pub path: String,
    /// `:authority`.
    pub authority: String,
    /// `:scheme`.
    pub scheme: String,
    /// Header lines, each `name: value`.
    pub headers: Vec<String>,
    /// The pieces of the body, a DATA frame each; none ends the request with its headers.
    pub chunks: Vec<Vec<u8>>,
    /// Trailer lines.
    pub trailers: Vec<String>,
}

impl H2Client {
    /// Connects and says the preface.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::connect_with(address, Http2Settings::default())
    }

    /// The same, with settings of its own.
    pub fn connect_with(address: SocketAddr, settings: Http2Settings) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let send = runtime.block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream)?;
            let (send, connection) = builder(settings).handshake(stream).await.map_err(io::Error::other)?;
            tokio::spawn(async move {
                // How the connection ends, its streams tell.
                let _ = connection.await;
            });
            Ok::<_, io::Error>(send)
        })?;
        Ok(Self { runtime, send, patience: PATIENCE })
    }

    /// Sends a request and reads its response.
    pub fn request(&self, request: &H2Request) -> Response {
        self.requests(std::slice::from_ref(request)).pop().unwrap_or_default()
    }

    /// Sends requests at the same time and reads their responses, in the order of the requests.
    pub fn requests(&self, requests: &[H2Request]) -> Vec<Response> {
        self.runtime.block_on(async {
            let mut running = Vec::new();
            for request in requests {
                let (send, request, patience) = (self.send.clone(), request.clone(), self.patience);
                running.push(tokio::spawn(async move {
                    let timed_out = || failed(End::TimedOut);
                    tokio::time::timeout(patience, exchange(send, request)).await.unwrap_or_else(|_| timed_out())
                }));
            }
            let mut responses = Vec::new();
            for one in running {
                responses.push(one.await.unwrap_or_default());
            }
            responses
        })
    }
}

fn builder(settings: Http2Settings) -> Builder {
    let mut builder = Builder::new();
    if let Some(size) = settings.header_table_size {
        builder.header_table_size(size);
    }
    if let Some(window) = settings.initial_window {
        builder.initial_window_size(window);
    }
    if let Some(size) = settings.max_frame_size {
        builder.max_frame_size(size);
    }
    builder
}

fn failed(end: End) -> Response {
    Response { body: Body { end, ..Body::default() }, ..Response::default() }
}

async fn exchange(send: SendRequest<Bytes>, request: H2Request) -> Response {
    let Ok(mut send) = send.ready().await else { return failed(End::Closed) };
    let Some(head) = head_of(&request) else { return failed(End::Reset) };
    let last = request.chunks.is_empty() && request.trailers.is_empty();
    let Ok((response, mut stream)) = send.send_request(head, last) else { return failed(End::Reset) };
    let count = request.chunks.len();
    for (at, chunk) in request.chunks.into_iter().enumerate() {
        // A stream that the peer has ended takes no more, and may have been answered all the same.
        if stream.send_data(Bytes::from(chunk), at + 1 == count && request.trailers.is_empty()).is_err() {
            break;
        }
    }
    if !request.trailers.is_empty() {
        let _ = stream.send_trailers(fields(&request.trailers));
    }
    let Ok(response) = response.await else { return failed(End::Reset) };
    let (parts, body) = response.into_parts();
    let reason = parts.status.canonical_reason().unwrap_or_default();
    let head = Head { start: format!("HTTP/2 {} {reason}", parts.status.as_u16()), fields: lines_of(&parts.headers) };
    Response { interim: Vec::new(), head: Some(head), body: read(body, false).await }
}

fn head_of(request: &H2Request) -> Option<Request<()>> {
    let mut head = Request::new(());
    *head.version_mut() = http::Version::HTTP_2;
    *head.method_mut() = Method::from_bytes(request.method.as_bytes()).ok()?;
    let uri = Uri::builder().scheme(request.scheme.as_str()).authority(request.authority.as_str());
    *head.uri_mut() = uri.path_and_query(request.path.as_str()).build().ok()?;
    *head.headers_mut() = fields(&request.headers);
    Some(head)
}
