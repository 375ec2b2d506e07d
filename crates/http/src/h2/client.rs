//! The upstream end of an HTTP/2 connection, and its streams.

use super::headers::{self, Rules};
use super::meter::{Meter, Metered};
use super::outgoing::Outgoing;
use super::server::{poll_body, take_piece};
use super::{Http2Options, Pings, reset_reason};
use crate::connection::{BodyPart, RecvError};
use crate::h1::ResponseHead;
use crate::{Framing, ResetReason, Version};
use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use nuncio_headers::{HeaderMap, Known};
use nuncio_io::transport::Transport;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Bytes that a connection may hold for a stream that its peer does not read.
const SEND_BUFFER: usize = 256 * 1024;
/// Streams that were cancelled and are still known of, so that what the upstream had sent before it knew is no fault.
const REMEMBERED_RESETS: usize = 4096;
const REMEMBERED_FOR: Duration = Duration::from_secs(30);

/// Opens a connection: the preface and the settings go out.
pub async fn connect(transport: Transport, options: &Http2Options) -> Result<(Opener, ClientConnection), h2::Error> {
    let io = Metered::client(transport, options);
    let meter = io.meter();
    let mut builder = Builder::new();
    builder
        .initial_window_size(options.stream_window)
        .initial_connection_window_size(options.connection_window)
        .max_header_list_size(options.max_header_list_bytes)
        .max_send_buffer_size(SEND_BUFFER)
        // Data of streams that were cancelled long ago would count, over the life of the connection: clients that cancel
        // could end it for all others that share it.
        .max_local_error_reset_streams(None)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .reset_stream_duration(REMEMBERED_FOR)
        .enable_push(false);
    if options.hpack_table_size != 4096 {
        builder.header_table_size(options.hpack_table_size);
    }
    let (send, connection) = builder.handshake::<_, Bytes>(io).await?;
    let rules = Rules::new(options, crate::h1::Underscores::Allow);
    let opener = Opener { send, meter: Rc::clone(&meter), rules };
    Ok((opener, ClientConnection { connection, meter }))
}

/// Moves the bytes of a connection's streams: a future that must be polled as long as there are any. It ends with the
/// connection.
pub struct ClientConnection {
    connection: Connection<Metered, Bytes>,
    meter: Rc<Meter>,
}

impl ClientConnection {
    /// What passed over the connection.
    pub fn meter(&self) -> &Rc<Meter> {
        &self.meter
    }

    /// The pings of the connection. There is one, and it is given once.
    pub fn pings(&mut self) -> Option<Pings> {
        self.connection.ping_pong().map(Pings)
    }
}

impl Future for ClientConnection {
    /// Whether the peer broke the protocol.
    type Output = bool;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let this = self.get_mut();
        let outcome = ready!(Pin::new(&mut this.connection).poll(cx));
        Poll::Ready(outcome.is_err_and(|error| error.is_library() || this.meter.flood().is_some()))
    }
}

/// Opens streams on a connection.
#[derive(Clone)]
pub struct Opener {
    send: SendRequest<Bytes>,
    meter: Rc<Meter>,
    rules: Rules,
}

impl Opener {
    /// What passed over the connection.
    pub fn meter(&self) -> &Rc<Meter> {
        &self.meter
    }

    /// Streams that the peer lets this side have open at once.
    pub fn max_streams(&self) -> usize {
        self.send.current_max_send_streams()
    }

    /// Whether the connection takes new streams.
    pub fn is_usable(&self) -> bool {
        !self.meter.goaway_received() && !self.meter.is_ended()
    }

    /// Whether the peer takes extended CONNECT (RFC 8441).
    pub fn takes_extended_connect(&self) -> bool {
        self.send.is_extended_connect_protocol_enabled()
    }

    /// A stream for one request. Nothing is sent yet.
    pub fn open(&self) -> ClientStream {
        ClientStream {
            opener: self.clone(),
            response: None,
            send: None,
            receive: None,
            head: None,
            head_bytes: 0,
            out: Outgoing::default(),
            piece: Bytes::new(),
            upgrade: None,
            connect: false,
            bytes: (0, 0),
            answered: false,
            failed: None,
        }
    }
}

/// One request with its response.
pub struct ClientStream {
    opener: Opener,
    response: Option<ResponseFuture>,
    send: Option<SendStream<Bytes>>,
    receive: Option<RecvStream>,
    /// A head that goes out with the next flush, so that it can say whether it ends the stream.
    head: Option<Request<()>>,
    head_bytes: usize,
    out: Outgoing,
    piece: Bytes,
    /// What the request wants to upgrade to.
    upgrade: Option<Box<[u8]>>,
    connect: bool,
    bytes: (u64, u64),
    /// Something of the response was received.
    answered: bool,
    failed: Option<ResetReason>,
}

impl ClientStream {
    /// Bytes of bodies and fields received and sent.
    pub fn bytes(&self) -> (u64, u64) {
        self.bytes
    }

    /// Prepares the request's head, which leaves with the next flush. Returns the bytes of its fields.
    pub fn send_head(&mut self, headers: &HeaderMap) -> usize {
        self.connect = headers.get(Known::METHOD) == Some(b"CONNECT");
        self.upgrade = headers.get(Known::UPGRADE).filter(|_| !self.connect).map(Into::into);
        if self.upgrade.is_some() && !self.opener.takes_extended_connect() {
            self.failed = Some(ResetReason::ConnectError);
            return 0;
        }
        match headers::make_request(headers) {
            Some((head, bytes)) => {
                self.head = Some(head);
                self.head_bytes = bytes;
            }
            // What HTTP/1 lets a target be and HTTP/2 does not.
            None => self.failed = Some(ResetReason::ProtocolError),
        }
        self.head_bytes
    }

    /// Sends a piece of the body.
    pub fn send_data(&mut self, chunk: Bytes) {
        self.out.push(chunk);
    }

    /// Ends the body, with trailers if there are any.
    pub fn send_end(&mut self, trailers: Option<&HeaderMap>) {
        self.out.end(trailers.map(headers::make_trailers));
    }

    /// Bytes that wait to be handed to the connection.
    #[inline]
    pub fn buffered(&self) -> usize {
        self.out.len() + if self.head.is_some() { self.head_bytes.max(1) } else { 0 }
    }

    /// Whether the request's end was handed over.
    pub fn request_done(&self) -> bool {
        self.out.is_ended()
    }

    /// Whether something of the response was received.
    pub fn is_answered(&self) -> bool {
        self.answered
    }

    /// Hands what there is to the connection, as far as the peer's windows allow.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(head) = self.head.take() {
            let last = self.out.is_headless() && !self.connect && self.upgrade.is_none();
            match self.opener.send.send_request(head, last) {
                Ok((response, stream)) => {
                    self.bytes.1 += self.head_bytes as u64;
                    self.response = Some(response);
                    self.send = Some(stream);
                    if last {
                        self.out.set_done();
                    }
                }
                Err(error) => {
                    // Nothing was sent: the connection takes no more streams.
                    let ended = self.opener.meter.is_ended();
                    self.failed = Some(match reset_reason(&error, ended) {
                        ResetReason::ConnectionTermination => ResetReason::ConnectionTermination,
                        _ => ResetReason::RemoteRefusedStreamReset,
                    });
                    return Poll::Ready(Err(io::Error::other(error)));
                }
            }
        }
        let Some(stream) = &mut self.send else { return Poll::Ready(Ok(())) };
        self.out.poll_flush(cx, stream, &mut self.bytes.1).map_err(io::Error::other)
    }

    /// Reads the next head of the response; informational ones come out one by one.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        headers: &mut HeaderMap,
    ) -> Poll<Result<ResponseHead, RecvError>> {
        if let Some(reason) = self.failed {
            return Poll::Ready(Err(RecvError::Reset(reason)));
        }
        let Some(response) = &mut self.response else { return Poll::Pending };
        if let Poll::Ready(Some(Ok(head))) = response.poll_informational(cx) {
            return Poll::Ready(self.take_head(head, true, headers));
        }
        match ready!(Pin::new(response).poll(cx)) {
            Ok(head) => {
                let (parts, receive) = head.into_parts();
                let empty = receive.is_end_stream();
                self.receive = Some(receive);
                self.response = None;
                Poll::Ready(self.take_head(Response::from_parts(parts, ()), empty, headers))
            }
            Err(error) => Poll::Ready(Err(self.failure(&error))),
        }
    }

    fn take_head(
        &mut self,
        head: Response<()>,
        empty: bool,
        headers: &mut HeaderMap,
    ) -> Result<ResponseHead, RecvError> {
        let (parts, ()) = head.into_parts();
        let rules = self.opener.rules;
        let taken = headers::take_response(&parts, self.upgrade.as_deref(), rules, headers)
            .map_err(|_| RecvError::Reset(ResetReason::ProtocolError))?;
        self.bytes.0 += u64::from(taken.bytes);
        self.answered = true;
        let status = parts.status.as_u16();
        let upgrade = taken.upgrade || (self.connect && (200..300).contains(&status));
        let framing = match taken.length {
            _ if upgrade => Framing::UntilClose,
            _ if empty => Framing::None,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        };
        Ok(ResponseHead {
            status: if taken.upgrade { 101 } else { status },
            version: Version::Http2,
            // A length of zero without the end of the stream: trailers may follow.
            framing: if framing == Framing::Length(0) { Framing::UntilClose } else { framing },
            keep_alive: true,
            close_notify: false,
            upgrade,
            head_bytes: taken.bytes,
            field_bytes: taken.bytes,
            dropped_underscore_headers: taken.dropped_underscores,
        })
    }

    /// Reads the next piece of the response's body.
    pub fn poll_body(&mut self, cx: &mut Context<'_>, trailers: &mut HeaderMap) -> Poll<Result<BodyPart, RecvError>> {
        let Some(receive) = &mut self.receive else { return Poll::Ready(Err(RecvError::Truncated)) };
        let rules = self.opener.rules;
        match ready!(poll_body(receive, &mut self.piece, &mut self.bytes.0, cx, (rules, trailers))) {
            Err(RecvError::Reset(ResetReason::RemoteRefusedStreamReset)) => {
                Poll::Ready(Err(RecvError::Reset(ResetReason::RemoteReset)))
            }
            outcome => Poll::Ready(outcome),
        }
    }

    /// Whether the response was read to its end.
    pub fn response_done(&self) -> bool {
        self.piece.is_empty() && self.receive.as_ref().is_some_and(RecvStream::is_end_stream)
    }

    /// Takes the piece, and lets the peer send as much again.
    pub fn take_body(&mut self) -> Bytes {
        match &mut self.receive {
            Some(receive) => take_piece(receive, &mut self.piece),
            None => Bytes::new(),
        }
    }

    fn failure(&self, error: &h2::Error) -> RecvError {
        RecvError::Reset(reset_reason(error, self.opener.meter.is_ended()))
    }
}

impl Drop for ClientStream {
    /// A stream that is given up before its end is cancelled, so that the upstream stops working on it.
    fn drop(&mut self) {
        if !self.response_done()
            && let Some(stream) = &mut self.send
        {
            stream.send_reset(Reason::CANCEL);
        }
    }
}
