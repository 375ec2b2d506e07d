//! The downstream end of an HTTP/2 connection, and its streams.

use super::error::{ConnectionError, ErrorCode};
use super::headers::{self, Refused};
use super::meter::{Held, Meter};
use super::outgoing::{Outgoing, WaitingHead};
use super::state::{Accepted, Core, Shared, give_map};
use super::wire::{Moved, Wire};
use super::{Http2Options, Pings};
use crate::connection::{BodyPart, RecvError};
use crate::h1::RequestHead;
use crate::{Framing, ResetReason, Version};
use bytes::Bytes;
use nuncio_headers::HeaderMap;
use nuncio_io::transport::Transport;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Most that is read of a client after the end of its connection, bytes: more than what may be on its way.
const MOST_LINGERED: usize = 16 << 20;
/// The same for one that flooded: it is not worth the work.
const MOST_OF_FLOOD: usize = 256 * 1024;

/// A connection on which requests are received.
pub struct ServerConnection {
    wire: Wire,
    meter: Rc<Meter>,
    flooded: bool,
    over: bool,
}

impl ServerConnection {
    /// A connection whose client speaks HTTP/2. `before` is what was read of it while that was found out, the preface
    /// included.
    pub fn new(transport: Transport, before: Bytes, options: &Http2Options) -> ServerConnection {
        let wire = Wire::new(transport, before, Core::new(true, options));
        ServerConnection { meter: wire.meter(), wire, flooded: false, over: false }
    }

    /// What passed over the connection.
    pub fn meter(&self) -> &Rc<Meter> {
        &self.meter
    }

    /// Waits for the next request, and moves the bytes of all streams meanwhile: it must be polled as long as there are any.
    /// None is the end of the connection.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Incoming, ConnectionError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        loop {
            if let Some(accepted) = self.accepted() {
                return Poll::Ready(Some(Ok(accepted)));
            }
            match ready!(self.wire.poll_move(cx)) {
                Ok(Moved::Accepted) => {}
                Ok(Moved::Ended) => {
                    self.over = true;
                    return Poll::Ready(None);
                }
                Err(error) => {
                    self.over = true;
                    self.flooded = matches!(error, ConnectionError::Flood(_));
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn accepted(&self) -> Option<Incoming> {
        let Accepted { key, headers, taken, last } = self.wire.core.borrow_mut().accepted.pop_front()?;
        let bytes = taken.as_ref().map_or(0, |taken| u64::from(taken.bytes));
        let weight = taken.as_ref().map_or(0, |taken| u64::from(taken.weight));
        let head = taken.map(|taken| RequestHead {
            version: Version::Http2,
            framing: match taken.length {
                _ if last => Framing::None,
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
        let stream = ServerStream {
            core: Rc::clone(&self.wire.core),
            key,
            head: None,
            out: Outgoing::default(),
            piece: Bytes::new(),
            bytes: (bytes, 0),
            _held: Held::new(Rc::clone(&self.meter), weight),
        };
        Some(Incoming { head, headers, stream })
    }

    /// Whether a head has begun and not ended yet.
    pub fn is_reading_head(&self) -> bool {
        self.wire.is_reading_head()
    }

    /// Tells the client to open no more streams on this connection (RFC 9113 §6.8), first without a limit, then, after a
    /// round trip, with the last stream that will be served. The connection ends with its last stream.
    pub fn drain(&mut self) {
        self.wire.core.borrow_mut().drain();
    }

    /// The second step of a drain that began, without waiting for the client any longer.
    pub fn finish_drain(&mut self) {
        self.wire.core.borrow_mut().finish_drain();
    }

    /// Ends the connection with a GOAWAY, whatever its streams are doing. Goes on through [`ServerConnection::poll_accept`].
    pub fn abort(&mut self, enhance_your_calm: bool) {
        let code = if enhance_your_calm { ErrorCode::ENHANCE_YOUR_CALM } else { ErrorCode::NO_ERROR };
        self.wire.core.borrow_mut().abort(code);
    }

    /// The connection is over for this side: waits for the client to close, and throws away what it still sends, up to
    /// [`MOST_LINGERED`].
    pub fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.wire.poll_linger(cx, if self.flooded { MOST_OF_FLOOD } else { MOST_LINGERED })
    }

    /// The pings of the connection.
    pub fn pings(&self) -> Pings {
        Pings::new(&self.wire.core)
    }
}

/// A request whose head was received.
pub struct Incoming {
    head: Result<RequestHead, Refused>,
    headers: HeaderMap,
    stream: ServerStream,
}

impl Incoming {
    /// Moves the head into `headers`, and hands out the stream that the answer goes to.
    pub fn open(mut self, headers: &mut HeaderMap) -> (Result<RequestHead, Refused>, ServerStream) {
        std::mem::swap(headers, &mut self.headers);
        give_map(self.headers);
        (self.head, self.stream)
    }
}

/// One request with its response.
pub struct ServerStream {
    core: Shared,
    key: usize,
    /// A head that waits until the client has taken what there is.
    head: Option<Box<WaitingHead>>,
    out: Outgoing,
    /// A piece of the body that was not taken yet.
    piece: Bytes,
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
        poll_body(&self.core, self.key, &mut self.piece, &mut self.bytes.0, cx, trailers)
    }

    /// Takes the piece, and lets the peer send as much again.
    pub fn take_body(&mut self) -> Bytes {
        take_piece(&self.core, self.key, &mut self.piece)
    }

    /// Prepares a response head, which leaves with the next flush. Returns the bytes of its fields; none if it can't be
    /// written.
    pub fn send_head(&mut self, headers: &HeaderMap) -> usize {
        if headers::status(headers).is_none() {
            self.reset(ResetReason::LocalReset);
            return 0;
        }
        let mut core = self.core.borrow_mut();
        let Some(stream) = core.streams.get(self.key).filter(|stream| stream.reset.is_none()) else { return 0 };
        if stream.sent_end || self.out.is_done() {
            return 0;
        }
        if !core.has_room() {
            self.head = Some(WaitingHead::new(headers));
            return headers::response_bytes(headers);
        }
        let bytes = write_head(&mut core, self.key, headers);
        self.bytes.1 += bytes as u64;
        bytes
    }

    /// Sends an informational head (1xx), which another head follows. One that the client has no room for is left out.
    pub fn send_informational(&mut self, headers: &HeaderMap) {
        let mut core = self.core.borrow_mut();
        let open = core.streams.get(self.key).is_some_and(|stream| stream.reset.is_none() && !stream.sent_end);
        if open && core.has_room() && headers::status(headers).is_some() {
            self.bytes.1 += write_head(&mut core, self.key, headers) as u64;
        }
    }

    /// Sends a piece of the body.
    pub fn send_data(&mut self, chunk: Bytes) {
        self.out.push(chunk);
    }

    /// Ends the body, with trailers if there are any.
    pub fn send_end(&mut self, trailers: Option<&HeaderMap>) {
        self.out.end(trailers);
        if self.head.is_none() {
            self.core.borrow_mut().end_at_once(self.key, &mut self.out);
        }
    }

    /// Bytes that wait for the peer's windows.
    #[inline]
    pub fn buffered(&self) -> usize {
        self.out.len()
    }

    /// Hands what there is to the connection, as far as the peer's windows allow.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut core = self.core.borrow_mut();
        if let Some(head) = &self.head {
            if let Some(reason) = core.streams.get(self.key).and_then(|stream| stream.reset) {
                self.head = None;
                return Poll::Ready(Err(io::Error::other(reason.as_str())));
            }
            if !core.has_room() {
                core.wait_output(self.key, cx);
                return Poll::Pending;
            }
            self.bytes.1 += write_head(&mut core, self.key, head.headers()) as u64;
            self.head = None;
        }
        core.poll_send(cx, self.key, &mut self.out, &mut self.bytes.1)
            .map_err(|reason| io::Error::other(reason.as_str()))
    }

    /// Waits for the peer to give the stream up.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<RecvError> {
        let mut core = self.core.borrow_mut();
        let Some(stream) = core.streams.get_mut(self.key) else { return Poll::Ready(RecvError::Closed) };
        match stream.reset {
            Some(reason) => Poll::Ready(RecvError::Reset(reason)),
            None => {
                stream.wait_end(cx);
                Poll::Pending
            }
        }
    }

    /// Ends the stream with RST_STREAM.
    pub fn reset(&mut self, reason: ResetReason) {
        if self.out.is_done() {
            return;
        }
        self.out.set_done();
        self.head = None;
        let mut core = self.core.borrow_mut();
        let Some(id) = core.streams.get(self.key).filter(|stream| stream.reset.is_none()).map(|stream| stream.id)
        else {
            return;
        };
        core.send_reset(id, ErrorCode::of_local(reason));
        core.end_stream(self.key, ResetReason::LocalReset);
        core.wake();
    }
}

impl Drop for ServerStream {
    /// A stream that is given up before its end is cancelled.
    fn drop(&mut self) {
        self.core.borrow_mut().drop_stream(self.key, self.piece.len());
    }
}

fn write_head(core: &mut Core, key: usize, head: &HeaderMap) -> usize {
    core.wake();
    core.write_section(key, false, |encoder, out| headers::write_response(head, encoder, out))
}

/// Reads the next piece of a body into `piece`.
pub(super) fn poll_body(
    core: &Shared,
    key: usize,
    piece: &mut Bytes,
    received: &mut u64,
    cx: &mut Context<'_>,
    trailers: &mut HeaderMap,
) -> Poll<Result<BodyPart, RecvError>> {
    let mut core = core.borrow_mut();
    let Some(stream) = core.streams.get_mut(key) else { return Poll::Ready(Err(RecvError::Truncated)) };
    if piece.is_empty() {
        let receive = &mut stream.receive;
        if let Some(reason) = stream.reset.filter(|_| !receive.ended) {
            return Poll::Ready(Err(RecvError::Reset(reason)));
        }
        match receive.pop() {
            Some(data) => {
                *received += data.len() as u64;
                *piece = data;
            }
            None if receive.ended => {
                let Some(mut fields) = receive.trailers.take() else {
                    return Poll::Ready(Ok(BodyPart::End { trailers: false }));
                };
                std::mem::swap(trailers, &mut fields);
                give_map(fields);
                return Poll::Ready(Ok(BodyPart::End { trailers: !trailers.is_empty() }));
            }
            None => {
                stream.wait_receive(cx);
                return Poll::Pending;
            }
        }
    }
    let receive = &stream.receive;
    let last = receive.ended && receive.held() == 0 && receive.trailers.is_none();
    let length = piece.len();
    Poll::Ready(Ok(BodyPart::Data { start: 0, end: length, consumed: length, last }))
}

/// Takes a piece, and gives its bytes back to the peer's window.
pub(super) fn take_piece(core: &Shared, key: usize, piece: &mut Bytes) -> Bytes {
    let taken = std::mem::take(piece);
    core.borrow_mut().release(key, taken.len());
    taken
}
