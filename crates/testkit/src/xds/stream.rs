//! One gRPC stream.

use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request as HttpRequest, Response as HttpResponse};
use tokio::sync::mpsc::unbounded_channel;

use super::grpc::{Frames, frame};
use super::message::{Event, Message, Request, StreamKind};
use super::{Open, Shared};
use crate::origin::h2::lines_of;

/// What the test wants of a stream.
pub enum Command {
    /// A message; the body of a REST response.
    Send(Vec<u8>),
    /// The end, with a gRPC status and message; with an HTTP status for REST.
    Close(u16, String),
    /// A reset, with an error code of HTTP/2.
    Reset(u32),
}

/// The half of a stream that the server sends on. The head leaves with the first message, as Go's servers have it.
enum Sending {
    Head(SendResponse<Bytes>),
    Body(SendStream<Bytes>),
}

/// Serves a stream until the client or the test ends it.
pub async fn serve(
    request: HttpRequest<RecvStream>,
    respond: SendResponse<Bytes>,
    connection: usize,
    shared: Arc<Shared>,
) {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let kind = StreamKind::of(&path);
    let (commands, commanded) = unbounded_channel();
    let id = shared.open(connection, &path, lines_of(&parts.headers), Open { kind, commands });
    let stream = Stream { id, path, kind, shared: Arc::clone(&shared), frames: Frames::default() };
    let reset = stream.run(body, Sending::Head(respond), commanded).await;
    match reset {
        Some(reset) => shared.end(id, reset),
        // The server ended it: that is no event.
        None => drop(shared.state().streams.remove(&id)),
    }
}

struct Stream {
    id: usize,
    path: String,
    kind: StreamKind,
    shared: Arc<Shared>,
    frames: Frames,
}

impl Stream {
    /// `Some` when the client ended it, saying whether by a reset.
    async fn run(
        mut self,
        mut body: RecvStream,
        mut sending: Sending,
        mut commanded: tokio::sync::mpsc::UnboundedReceiver<Command>,
    ) -> Option<bool> {
        loop {
            tokio::select! {
                biased;
                chunk = body.data() => match chunk {
                    Some(Ok(chunk)) => self.take(&mut body, &chunk),
                    Some(Err(_)) => return Some(true),
                    None => {
                        // What the client does with the status of a stream that it ended is its own business.
                        let _ = sending.close(0, "");
                        return Some(false);
                    }
                },
                command = commanded.recv() => match command? {
                    // A stream that is reset meanwhile shows in its body.
                    Command::Send(message) => drop(sending.send(&message)),
                    Command::Close(status, text) => {
                        let _ = sending.close(status, &text);
                        return None;
                    }
                    Command::Reset(code) => {
                        sending.reset(code);
                        return None;
                    }
                },
            }
        }
    }

    fn take(&mut self, body: &mut RecvStream, chunk: &Bytes) {
        // A stream that is reset meanwhile needs no window.
        let _ = body.flow_control().release_capacity(chunk.len());
        self.frames.extend(chunk);
        while let Some(message) = self.frames.next() {
            let message = Message::decode(self.kind, &message);
            self.shared.push(Event::Request(Request { stream: self.id, path: self.path.clone(), message }));
        }
    }
}

fn head() -> HttpResponse<()> {
    let mut response = HttpResponse::new(());
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn status_fields(into: &mut HeaderMap, status: u16, text: &str) {
    into.insert(HeaderName::from_static("grpc-status"), HeaderValue::from(status));
    if let Ok(text) = HeaderValue::from_str(text)
        && !text.is_empty()
    {
        into.insert(HeaderName::from_static("grpc-message"), text);
    }
}

impl Sending {
    fn send(&mut self, message: &[u8]) -> Result<(), h2::Error> {
        if let Self::Head(respond) = self {
            *self = Self::Body(respond.send_response(head(), false)?);
        }
        match self {
            Self::Body(stream) => stream.send_data(frame(message), false),
            Self::Head(_) => Ok(()),
        }
    }

    fn close(&mut self, status: u16, text: &str) -> Result<(), h2::Error> {
        match self {
            Self::Head(respond) => {
                let mut response = head();
                status_fields(response.headers_mut(), status, text);
                respond.send_response(response, true).map(drop)
            }
            Self::Body(stream) => {
                let mut trailers = HeaderMap::new();
                status_fields(&mut trailers, status, text);
                stream.send_trailers(trailers)
            }
        }
    }

    fn reset(&mut self, code: u32) {
        match self {
            Self::Head(respond) => respond.send_reset(Reason::from(code)),
            Self::Body(stream) => stream.send_reset(Reason::from(code)),
        }
    }
}
