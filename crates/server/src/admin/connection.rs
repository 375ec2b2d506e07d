//! One admin connection: reads requests one after the other, sends the answers, keeps to the time limits.

use super::connections::Place;
use super::counters::ConnectionCount;
use super::endpoint::Call;
use super::exchange::Exchange;
use super::request::{Parameters, Target};
use super::response::{Body, PIECE, Pieces, Response};
use super::{Admin, now, peer_address, routes};
use bytes::Bytes;
use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_http::Framing;
use nuncio_http::connection::{BodyPart, RecvError, ServerConnection};
use nuncio_http::h1::{CodecError, IgnoreUpgrade, RequestHead, RequestOptions, Spelling, TrailerOptions};
use nuncio_io::accept::Accepted;
use nuncio_stream_info::ConnectionInfo;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};
use tokio::time::timeout;

/// How long a connection may be without a request.
const IDLE: Duration = Duration::from_secs(600);
/// How long a head or a body may take to arrive.
const RECEIVE: Duration = Duration::from_secs(30);
/// How long the client may take for one piece of a response.
const SEND: Duration = Duration::from_secs(60);
/// How long the client may take to close after the last response.
const CLOSE: Duration = Duration::from_secs(1);
/// Longest body of a request, in bytes; only `/runtime_modify` reads one.
const MAX_BODY: usize = 64 * 1024;

/// Serves a connection until it is over.
pub(super) async fn serve(admin: Rc<Admin>, accepted: Accepted, place: Place) {
    let opened = now();
    let options = RequestOptions {
        allow_absolute_url: false,
        ignore_upgrade: Some(IgnoreUpgrade::new(|_| true)),
        ..RequestOptions::default()
    };
    let (local, peer) = (peer_address(&accepted.local), peer_address(&accepted.peer));
    let mut info = ConnectionInfo::new(place.id(), opened, local, peer);
    info.listener_name = Arc::from("admin");
    let wire = ServerConnection::new(accepted.stream, Arc::new(options), TrailerOptions::default(), Spelling::Lower);
    let mut connection = Connection {
        count: ConnectionCount::new(&admin, opened),
        admin,
        wire,
        info: Arc::new(info),
        request: HeaderMap::new(),
        place,
    };
    connection.serve().await;
}

struct Connection {
    admin: Rc<Admin>,
    wire: ServerConnection,
    info: Arc<ConnectionInfo>,
    request: HeaderMap,
    count: ConnectionCount,
    place: Place,
}

/// Whether the connection is of further use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Request,
    /// No more requests; the client gets what was sent.
    Close,
    /// Nothing can be sent any more.
    Drop,
}

/// What came of waiting for a request.
enum Received {
    Head(RequestHead),
    Broken(CodecError),
    Slow,
    Nothing,
}

impl Connection {
    async fn serve(&mut self) {
        loop {
            self.place.idle(now());
            let received = self.receive_head().await;
            self.place.busy();
            self.count.in_request = !matches!(received, Received::Nothing);
            let next = match received {
                Received::Head(head) => self.exchange(head).await,
                Received::Broken(error) => {
                    self.admin.stats.manager.downstream_cx_protocol_error().inc();
                    self.refuse(error.status, error.details).await
                }
                Received::Slow => {
                    self.admin.stats.manager.downstream_rq_header_timeout().inc();
                    self.refuse(408, nuncio_stream_info::details::REQUEST_HEADER_TIMEOUT).await
                }
                Received::Nothing => return,
            };
            self.count.bytes(self.wire.wire_bytes());
            match next {
                Next::Request => self.wire.finish_exchange(),
                Next::Close => return self.close().await,
                Next::Drop => return,
            }
            self.count.in_request = false;
        }
    }

    /// Waits for a request: long for its first byte, shortly for the rest of its head.
    async fn receive_head(&mut self) -> Received {
        let (wire, request) = (&mut self.wire, &mut self.request);
        let first = poll_fn(|cx| match wire.poll_head(cx, request) {
            Poll::Pending if wire.has_input() => Poll::Ready(None),
            poll => poll.map(Some),
        });
        let head = match timeout(IDLE, first).await {
            Ok(Some(head)) => head,
            Ok(None) => match timeout(RECEIVE, poll_fn(|cx| self.wire.poll_head(cx, &mut self.request))).await {
                Ok(head) => head,
                Err(_) => return Received::Slow,
            },
            Err(_) => {
                self.admin.stats.manager.downstream_cx_idle_timeout().inc();
                self.count.local_close = true;
                return Received::Nothing;
            }
        };
        match head {
            Ok(head) => Received::Head(head),
            Err(RecvError::Codec(error)) => Received::Broken(error),
            Err(_) => Received::Nothing,
        }
    }

    async fn exchange(&mut self, head: RequestHead) -> Next {
        let mut exchange = Exchange::begin(&self.admin, &self.info, &mut self.request);
        let before = self.wire.wire_bytes();
        let (next, sent) = match self.receive_body(head).await {
            Ok(body) => {
                exchange.received(body.len());
                self.answer(head, &body, &mut exchange).await
            }
            Err(Refusal::TooLarge) => {
                let response = Response::new(413, "text/plain", "Payload Too Large");
                self.send_local(response, true, &mut exchange).await
            }
            Err(Refusal::Gone) => {
                self.admin.stats.manager.downstream_rq_rx_reset().inc();
                (Next::Drop, false)
            }
        };
        let after = self.wire.wire_bytes();
        exchange.end(&self.request, (after.0 - before.0, after.1 - before.1), sent);
        next
    }

    /// Reads the body, up to [`MAX_BODY`].
    async fn receive_body(&mut self, head: RequestHead) -> Result<Vec<u8>, Refusal> {
        let mut body = Vec::new();
        if head.framing.is_empty() || head.framing == Framing::UntilClose {
            return Ok(body);
        }
        if matches!(head.framing, Framing::Length(length) if length > MAX_BODY as u64) {
            return Err(Refusal::TooLarge);
        }
        if head.expect_continue {
            self.wire.send_continue();
            self.flush().await.map_err(|_| Refusal::Gone)?;
        }
        let wire = &mut self.wire;
        let reading = async {
            let mut trailers = HeaderMap::new();
            loop {
                match poll_fn(|cx| wire.poll_body(cx, &mut trailers)).await {
                    Ok(BodyPart::Data { start, end, consumed, last }) => {
                        if body.len() + (end - start) > MAX_BODY {
                            return Err(Refusal::TooLarge);
                        }
                        body.extend_from_slice(&wire.take_body(start, end, consumed));
                        if last {
                            return Ok(body);
                        }
                    }
                    Ok(BodyPart::End { .. }) => return Ok(body),
                    Err(_) => return Err(Refusal::Gone),
                }
            }
        };
        timeout(RECEIVE, reading).await.unwrap_or(Err(Refusal::Gone))
    }

    /// Finds the endpoint and sends what it answers. Also tells whether all of it was sent.
    async fn answer(&mut self, head: RequestHead, body: &[u8], exchange: &mut Exchange) -> (Next, bool) {
        let text = |name| String::from_utf8_lossy(self.request.get(name).unwrap_or_default()).into_owned();
        let (method, path, content_type) = (text(Known::METHOD), text(Known::PATH), text(Known::CONTENT_TYPE));
        let close = !head.keep_alive || head.framing == Framing::UntilClose;
        if !self.request.has(Known::AUTHORITY) || path.contains('#') {
            return self.send_local(Response::new(400, "", ""), true, exchange).await;
        }
        let Some(Target { path, parameters }) = Target::parse(&path) else {
            return self.send_local(Response::new(404, "", ""), close, exchange).await;
        };
        let form = match content_type.as_str() {
            "application/x-www-form-urlencoded" => Parameters::parse(&String::from_utf8_lossy(body)),
            _ => Parameters::default(),
        };
        let call = Call { admin: &self.admin, parameters: &parameters, form: &form };
        let response = routes::respond(&method, &path, &call);
        exchange.status(response.status, nuncio_stream_info::details::ADMIN_FILTER_RESPONSE);
        let headers = head_of(&response);
        self.wire.send_head(&headers, Framing::Chunked, close);
        let after = response.after;
        let body = (method != "HEAD").then_some(response.body);
        let sent = self.send_body(body, exchange).await.is_ok();
        exchange.response = headers;
        if let Some(request) = after {
            self.admin.server.request(request);
        }
        match (sent, close) {
            (false, _) => (Next::Drop, false),
            (true, true) => (Next::Close, true),
            (true, false) => (Next::Request, true),
        }
    }

    async fn send_body(&mut self, body: Option<Body>, exchange: &mut Exchange) -> io::Result<()> {
        match body {
            None => {}
            Some(Body::Whole(body)) => {
                exchange.sent(body.len());
                self.wire.send_data(Bytes::from(body));
                self.wire.send_end(None);
            }
            Some(Body::Pieces(mut pieces)) => {
                self.send_pieces(&mut *pieces, exchange).await?;
                self.wire.send_end(None);
            }
        }
        self.flush().await
    }

    /// Makes and sends one piece after the other; other tasks of the main thread run between.
    async fn send_pieces(&mut self, pieces: &mut dyn Pieces, exchange: &mut Exchange) -> io::Result<()> {
        let mut more = true;
        while more {
            let mut piece = Vec::with_capacity(PIECE);
            more = pieces.fill(&mut piece);
            if !piece.is_empty() {
                exchange.sent(piece.len());
                self.wire.send_data(Bytes::from(piece));
            }
            if self.wire.buffered() >= PIECE {
                self.flush().await?;
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Sends a short answer that is no endpoint's, without the headers of those.
    async fn send_local(&mut self, response: Response, close: bool, exchange: &mut Exchange) -> (Next, bool) {
        let Body::Whole(body) = response.body else { return (Next::Drop, false) };
        let mut headers = HeaderMap::new();
        headers.append_known(Known::STATUS, response.status.to_string().as_bytes());
        if !response.content_type.is_empty() {
            headers.append_known(Known::CONTENT_TYPE, response.content_type.as_bytes());
        }
        server_headers(&mut headers);
        let details = if exchange.details().is_empty() { "direct_response" } else { "" };
        exchange.status(response.status, details);
        exchange.sent(body.len());
        self.wire.send_head(&headers, Framing::Length(body.len() as u64), close);
        exchange.response = headers;
        self.wire.send_data(Bytes::from(body));
        self.wire.send_end(None);
        match self.flush().await {
            Ok(()) if close => (Next::Close, true),
            Ok(()) => (Next::Request, true),
            Err(_) => (Next::Drop, false),
        }
    }

    /// Answers what is no request, and closes.
    async fn refuse(&mut self, status: u16, details: &'static str) -> Next {
        let phrase = nuncio_http::reason_phrase(status);
        let mut exchange = Exchange::begin(&self.admin, &self.info, &mut self.request);
        exchange.broken(details);
        let (next, sent) = self.send_local(Response::new(status, "text/plain", phrase), true, &mut exchange).await;
        exchange.end(&self.request, (0, 0), sent);
        next
    }

    async fn flush(&mut self) -> io::Result<()> {
        let flushing = poll_fn(|cx| self.wire.poll_flush(cx));
        timeout(SEND, flushing).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Lets the client close first, so that the response is not lost to a reset.
    async fn close(&mut self) {
        self.count.local_close = true;
        let wire = &mut self.wire;
        let closing = async {
            if poll_fn(|cx| wire.poll_shutdown(cx)).await.is_ok() {
                poll_fn(|cx| wire.poll_discard(cx)).await;
            }
        };
        if timeout(CLOSE, closing).await.is_err() {
            self.admin.stats.manager.downstream_cx_delayed_close_timeout().inc();
        }
    }
}

/// Why a body was not read.
enum Refusal {
    TooLarge,
    Gone,
}

fn head_of(response: &Response) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.append_known(Known::STATUS, response.status.to_string().as_bytes());
    headers.append_known(Known::CONTENT_TYPE, response.content_type.as_bytes());
    headers.append_known(Known::CACHE_CONTROL, b"no-cache, max-age=0");
    if let Ok(name) = HeaderName::new("x-content-type-options") {
        headers.append(&name, b"nosniff");
    }
    server_headers(&mut headers);
    headers
}

fn server_headers(headers: &mut HeaderMap) {
    headers.append_known(Known::DATE, super::date::http_date(SystemTime::now()).as_bytes());
    headers.append_known(Known::SERVER, b"envoy");
}
