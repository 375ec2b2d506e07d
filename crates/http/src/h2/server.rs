//! The downstream end of an HTTP/2 connection, and its streams.

use super::headers::{self, Refused, Rules};
use super::meter::{Flood, Held, Meter, Metered, Shared};
use super::outgoing::Outgoing;
use super::{Http2Options, Pings, reset_reason};
use crate::connection::{BodyPart, RecvError};
use crate::h1::RequestHead;
use crate::{Framing, ResetReason, Version};
use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use nuncio_headers::HeaderMap;
use nuncio_io::transport::Transport;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::ReadBuf;

/// Bytes that a connection may hold for a stream that its peer does not read.
const SEND_BUFFER: usize = 256 * 1024;
/// Most that is read of a client after the end of its connection, bytes: more than what may be on its way.
const MOST_LINGERED: usize = 16 << 20;
/// The same for one that flooded: it is not worth the work.
const MOST_OF_FLOOD: usize = 256 * 1024;
/// Streams that were reset by the client before they were looked at. Beyond it the connection ends (CVE-2023-44487).
const PENDING_RESETS: usize = 100;
/// Streams that this side reset and still knows of, so that what the client had sent before it knew is no fault: data of
/// an upload that was answered early.
const REMEMBERED_RESETS: usize = 1024;
const REMEMBERED_FOR: Duration = Duration::from_secs(30);
/// Streams that this side had to reset because of what the client sent (CVE-2025-8671). The crate counts them over the
/// life of a connection.
const LOCAL_ERROR_RESETS: usize = 512;

/// Why an HTTP/2 connection ended before its time.
#[derive(Debug)]
pub enum AcceptError {
    /// The peer passed a limit of frames.
    Flood(Flood),
    /// The peer broke the protocol, and was told so.
    Protocol(h2::Error),
    /// The transport failed or was closed.
    Io(h2::Error),
}

impl std::fmt::Display for AcceptError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AcceptError::Flood(flood) => f.write_str(flood.details()),
            AcceptError::Protocol(error) | AcceptError::Io(error) => error.fmt(f),
        }
    }
}

enum State {
    Handshake(Box<Handshake<Metered, Bytes>>),
    Open(Box<Connection<Metered, Bytes>>),
    Ended,
}

/// A connection on which requests are received.
pub struct ServerConnection {
    state: State,
    meter: Rc<Meter>,
    transport: Shared,
    rules: Rules,
    draining: bool,
    /// Bytes thrown away after the end.
    lingered: usize,
}

impl ServerConnection {
    /// A connection whose client speaks HTTP/2. `before` is what was read of it while that was found out, the preface
    /// included.
    pub fn new(transport: Transport, before: Bytes, options: &Http2Options) -> ServerConnection {
        let io = Metered::server(transport, before, options);
        let (meter, transport) = (io.meter(), io.transport());
        let mut builder = Builder::new();
        builder
            .initial_window_size(options.stream_window)
            .initial_connection_window_size(options.connection_window)
            .max_concurrent_streams(options.max_concurrent_streams)
            // What is a little too large is refused here, where it is counted and logged; the crate refuses the rest.
            .max_header_list_size(options.max_header_list_bytes.saturating_mul(4))
            .max_send_buffer_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_local_error_reset_streams(Some(LOCAL_ERROR_RESETS))
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            .reset_stream_duration(REMEMBERED_FOR);
        if options.hpack_table_size != 4096 {
            builder.header_table_size(options.hpack_table_size);
        }
        if options.allow_connect {
            builder.enable_connect_protocol();
        }
        ServerConnection {
            state: State::Handshake(Box::new(builder.handshake(io))),
            meter,
            transport,
            rules: Rules::new(options, options.underscores),
            draining: false,
            lingered: 0,
        }
    }

    /// What passed over the connection.
    pub fn meter(&self) -> &Rc<Meter> {
        &self.meter
    }

    /// Whether the handshake is over.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Waits for the next request, and moves the bytes of all streams meanwhile: it must be polled as long as there are any.
    /// None is the end of the connection.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Incoming, AcceptError>>> {
        loop {
            match &mut self.state {
                State::Handshake(handshake) => match ready!(Pin::new(handshake.as_mut()).poll(cx)) {
                    Ok(mut connection) => {
                        if self.draining {
                            connection.graceful_shutdown();
                        }
                        self.state = State::Open(Box::new(connection));
                    }
                    Err(error) => return Poll::Ready(Some(Err(self.failed(error)))),
                },
                State::Open(connection) => {
                    return Poll::Ready(match ready!(connection.poll_accept(cx)) {
                        Some(Ok((request, respond))) => {
                            Some(Ok(Incoming { request, respond, rules: self.rules, meter: Rc::clone(&self.meter) }))
                        }
                        Some(Err(error)) => Some(Err(self.failed(error))),
                        None => {
                            self.state = State::Ended;
                            None
                        }
                    });
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }

    fn failed(&mut self, error: h2::Error) -> AcceptError {
        self.state = State::Ended;
        match self.meter.flood() {
            Some(flood) => AcceptError::Flood(flood),
            None if error.is_io() => AcceptError::Io(error),
            None => AcceptError::Protocol(error),
        }
    }

    /// Tells the client to open no more streams on this connection (RFC 9113 §6.8), first without a limit, then, after a
    /// round trip, with the last stream that will be served. The connection ends with its last stream.
    pub fn drain(&mut self) {
        self.draining = true;
        if let State::Open(connection) = &mut self.state {
            connection.graceful_shutdown();
        }
    }

    /// Ends the connection with a GOAWAY, whatever its streams are doing. Goes on through [`ServerConnection::poll_accept`].
    pub fn abort(&mut self, enhance_your_calm: bool) {
        if let State::Open(connection) = &mut self.state {
            let reason = if enhance_your_calm { Reason::ENHANCE_YOUR_CALM } else { Reason::NO_ERROR };
            connection.abrupt_shutdown(reason);
        }
    }

    /// The connection is over for this side: waits for the client to close, and throws away what it still sends, up to
    /// [`MOST_LINGERED`].
    pub fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut transport = self.transport.borrow_mut();
        if ready!(transport.poll_shutdown(cx)).is_err() {
            return Poll::Ready(());
        }
        loop {
            let mut room = [MaybeUninit::uninit(); 2048];
            let mut into = ReadBuf::uninit(&mut room);
            if ready!(transport.poll_read_buf(cx, &mut into)).is_err() || into.filled().is_empty() {
                return Poll::Ready(());
            }
            self.lingered += into.filled().len();
            if self.lingered > if self.meter.flood().is_some() { MOST_OF_FLOOD } else { MOST_LINGERED } {
                return Poll::Ready(());
            }
        }
    }

    /// The pings of the connection. There is one, and it is given once.
    pub fn pings(&mut self) -> Option<Pings> {
        match &mut self.state {
            State::Open(connection) => connection.ping_pong().map(Pings),
            State::Handshake(_) | State::Ended => None,
        }
    }
}

/// A request whose head was received.
pub struct Incoming {
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    rules: Rules,
    meter: Rc<Meter>,
}

impl Incoming {
    /// Copies the head into `headers`, and hands out the stream that the answer goes to.
    pub fn open(self, headers: &mut HeaderMap) -> (Result<RequestHead, Refused>, ServerStream) {
        let (parts, receive) = self.request.into_parts();
        let taken = headers::take_request(&parts, self.rules, headers).and_then(|taken| {
            if self.meter.has_room_for(u64::from(taken.weight)) { Ok(taken) } else { Err(Refused::NoRoom) }
        });
        let bytes = taken.as_ref().map_or(0, |taken| u64::from(taken.bytes));
        let weight = taken.as_ref().map_or(0, |taken| u64::from(taken.weight));
        let empty = receive.is_end_stream();
        let stream = ServerStream {
            respond: self.respond,
            send: None,
            receive,
            head: None,
            head_bytes: 0,
            out: Outgoing::default(),
            piece: Bytes::new(),
            rules: self.rules,
            bytes: (bytes, 0),
            _held: Held::new(self.meter, weight),
        };
        let head = taken.map(|taken| RequestHead {
            version: Version::Http2,
            framing: match taken.length {
                _ if empty => Framing::None,
                Some(length) => Framing::Length(length),
                None => Framing::UntilClose,
            },
            keep_alive: true,
            expect_continue: taken.expect_continue,
            upgrade: taken.upgrade,
            connect: taken.connect,
            head_bytes: taken.bytes,
            field_bytes: taken.bytes,
            dropped_underscore_headers: taken.dropped_underscores,
        });
        (head, stream)
    }
}

/// One request with its response.
pub struct ServerStream {
    respond: SendResponse<Bytes>,
    send: Option<SendStream<Bytes>>,
    receive: RecvStream,
    /// A head that goes out with the next flush, so that it can say whether it ends the stream.
    head: Option<Response<()>>,
    head_bytes: usize,
    out: Outgoing,
    /// A piece of the body that was not taken yet.
    piece: Bytes,
    rules: Rules,
    bytes: (u64, u64),
    _held: Held,
}

impl ServerStream {
    /// Bytes of bodies and fields received and sent.
    pub fn bytes(&self) -> (u64, u64) {
        self.bytes
    }

    /// Reads the next piece of the request's body.
    pub fn poll_body(&mut self, cx: &mut Context<'_>, trailers: &mut HeaderMap) -> Poll<Result<BodyPart, RecvError>> {
        poll_body(&mut self.receive, &mut self.piece, &mut self.bytes.0, cx, (self.rules, trailers))
    }

    /// Takes the piece, and lets the peer send as much again.
    pub fn take_body(&mut self) -> Bytes {
        take_piece(&mut self.receive, &mut self.piece)
    }

    /// Prepares a response head, which leaves with the next flush. Returns the bytes of its fields; none if it can't be
    /// written.
    pub fn send_head(&mut self, headers: &HeaderMap) -> usize {
        let Some((head, bytes)) = headers::make_response(headers) else {
            self.reset(ResetReason::LocalReset);
            return 0;
        };
        self.head = Some(head);
        self.head_bytes = bytes;
        bytes
    }

    /// Sends an informational head (1xx), which another head follows.
    pub fn send_informational(&mut self, headers: &HeaderMap) {
        if let Some((head, bytes)) = headers::make_response(headers) {
            self.bytes.1 += bytes as u64;
            // A stream that is reset meanwhile says so when it is flushed.
            let _ = self.respond.send_informational(head);
        }
    }

    /// Sends a piece of the body.
    pub fn send_data(&mut self, chunk: Bytes) {
        self.out.push(chunk);
    }

    /// Ends the body, with trailers if there are any.
    pub fn send_end(&mut self, trailers: Option<&HeaderMap>) {
        self.out.end(trailers.map(headers::make_trailers));
    }

    /// Bytes that wait for the peer's windows.
    #[inline]
    pub fn buffered(&self) -> usize {
        self.out.len()
    }

    /// Hands what there is to the connection, as far as the peer's windows allow.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(head) = self.head.take() {
            let last = self.out.is_headless();
            let stream = self.respond.send_response(head, last).map_err(io::Error::other)?;
            self.bytes.1 += self.head_bytes as u64;
            self.send = Some(stream);
            if last {
                self.out.set_done();
            }
        }
        let Some(stream) = &mut self.send else { return Poll::Ready(Ok(())) };
        self.out.poll_flush(cx, stream, &mut self.bytes.1).map_err(io::Error::other)
    }

    /// Waits for the peer to give the stream up.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<RecvError> {
        let outcome = match &mut self.send {
            Some(stream) => ready!(stream.poll_reset(cx)),
            None => ready!(self.respond.poll_reset(cx)),
        };
        Poll::Ready(match outcome {
            Ok(reason) => RecvError::Reset(super::remote_reset(reason)),
            Err(error) => RecvError::Reset(reset_reason(&error, false)),
        })
    }

    /// Ends the stream with RST_STREAM.
    pub fn reset(&mut self, reason: ResetReason) {
        if self.out.is_done() {
            return;
        }
        self.out.set_done();
        self.head = None;
        let reason = match reason {
            ResetReason::LocalRefusedStreamReset => Reason::REFUSED_STREAM,
            ResetReason::ConnectError => Reason::CONNECT_ERROR,
            ResetReason::ProtocolError => Reason::PROTOCOL_ERROR,
            ResetReason::RemoteResetNoError => Reason::NO_ERROR,
            _ => Reason::INTERNAL_ERROR,
        };
        match &mut self.send {
            Some(stream) => stream.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }
}

/// Reads the next piece of a body into `piece`.
pub(super) fn poll_body(
    receive: &mut RecvStream,
    piece: &mut Bytes,
    received: &mut u64,
    cx: &mut Context<'_>,
    (rules, trailers): (Rules, &mut HeaderMap),
) -> Poll<Result<BodyPart, RecvError>> {
    if piece.is_empty() {
        loop {
            match ready!(receive.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => {
                    if receive.is_end_stream() {
                        return Poll::Ready(Ok(BodyPart::End { trailers: false }));
                    }
                }
                Some(Ok(data)) => {
                    *received += data.len() as u64;
                    *piece = data;
                    break;
                }
                Some(Err(error)) => return Poll::Ready(Err(failure(&error))),
                None => {
                    let fields = ready!(receive.poll_trailers(cx)).map_err(|error| failure(&error))?;
                    let Some(fields) = fields else { return Poll::Ready(Ok(BodyPart::End { trailers: false })) };
                    return Poll::Ready(match headers::take_trailers(&fields, rules, trailers) {
                        Ok(()) => Ok(BodyPart::End { trailers: !trailers.is_empty() }),
                        Err(_) => Err(RecvError::Reset(ResetReason::ProtocolError)),
                    });
                }
            }
        }
    }
    let length = piece.len();
    Poll::Ready(Ok(BodyPart::Data { start: 0, end: length, consumed: length, last: receive.is_end_stream() }))
}

/// Takes a piece, and gives its bytes back to the peer's window.
pub(super) fn take_piece(receive: &mut RecvStream, piece: &mut Bytes) -> Bytes {
    let taken = std::mem::take(piece);
    // Fails only if more is given back than was taken, which can't be.
    let _ = receive.flow_control().release_capacity(taken.len());
    taken
}

fn failure(error: &h2::Error) -> RecvError {
    RecvError::Reset(reset_reason(error, false))
}
