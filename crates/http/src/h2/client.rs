//! The upstream end of an HTTP/2 connection, and its streams.

use super::error::{ConnectionError, ErrorCode};
use super::headers;
use super::meter::Meter;
use super::outgoing::{Outgoing, WaitingHead};
use super::server::{poll_body, take_piece};
use super::state::{Core, Shared, give_map};
use super::stream::{Head, Stream};
use super::wire::Wire;
use super::{Http2Options, Pings};
use crate::connection::{BodyPart, RecvError};
use crate::h1::ResponseHead;
use crate::{Framing, ResetReason, Version};
use bytes::Bytes;
use nuncio_headers::{HeaderMap, Known};
use nuncio_io::transport::Transport;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Highest number of a stream.
const LAST_STREAM: u32 = 0x7fff_ffff;

/// Opens a connection. The preface and the settings go out when it is first polled.
pub fn connect(transport: Transport, options: &Http2Options) -> (Opener, ClientConnection) {
    let wire = Wire::new(transport, Bytes::new(), Core::new(false, options));
    let meter = wire.meter();
    let opener = Opener::new(&wire.core, &meter);
    (opener, ClientConnection { wire, meter, said_end: false })
}

/// Moves the bytes of a connection's streams: a future that must be polled as long as there are any. It ends with the
/// connection, which ends when nobody can open streams on it any more and the last one is over.
pub struct ClientConnection {
    wire: Wire,
    meter: Rc<Meter>,
    said_end: bool,
}

impl ClientConnection {
    /// What passed over the connection.
    pub fn meter(&self) -> &Rc<Meter> {
        &self.meter
    }

    /// The pings of the connection.
    pub fn pings(&self) -> Pings {
        Pings::new(&self.wire.core)
    }

    /// Tells the peer that no more streams come, once there is nobody to open them.
    fn say_end(&mut self) {
        let mut core = self.wire.core.borrow_mut();
        if core.openers == 0 && core.ids.is_empty() && !core.over && !self.said_end {
            self.said_end = true;
            core.send_goaway(0, ErrorCode::NO_ERROR, "");
        }
    }
}

impl Future for ClientConnection {
    /// Whether the peer broke the protocol.
    type Output = bool;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let this = self.get_mut();
        this.say_end();
        let outcome = ready!(this.wire.poll_move(cx));
        // The end of TLS is said as far as it can be said at once; the transport is closed next.
        let _ = this.wire.poll_shutdown(cx);
        Poll::Ready(match outcome {
            Ok(_) | Err(ConnectionError::Io(_)) => false,
            Err(ConnectionError::Flood(_) | ConnectionError::Protocol(_)) => true,
        })
    }
}

/// Opens streams on a connection.
pub struct Opener {
    core: Shared,
    meter: Rc<Meter>,
}

impl Opener {
    fn new(core: &Shared, meter: &Rc<Meter>) -> Opener {
        core.borrow_mut().openers += 1;
        Opener { core: Rc::clone(core), meter: Rc::clone(meter) }
    }

    /// What passed over the connection.
    pub fn meter(&self) -> &Rc<Meter> {
        &self.meter
    }

    /// Streams that the peer lets this side have open at once.
    pub fn max_streams(&self) -> usize {
        self.core.borrow().peer.max_streams as usize
    }

    /// Whether the connection takes new streams.
    pub fn is_usable(&self) -> bool {
        !self.meter.goaway_received() && !self.meter.is_ended()
    }

    /// Whether the peer has said what it takes.
    pub fn knows_settings(&self) -> bool {
        self.core.borrow().peer.known
    }

    /// A stream for one request. Nothing is sent yet.
    pub fn open(&self) -> ClientStream {
        ClientStream {
            opener: self.clone(),
            key: None,
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

impl Clone for Opener {
    fn clone(&self) -> Self {
        Opener::new(&self.core, &self.meter)
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        let mut core = self.core.borrow_mut();
        core.openers -= 1;
        if core.openers == 0 {
            core.wake();
        }
    }
}

/// One request with its response.
pub struct ClientStream {
    opener: Opener,
    /// Its place among the connection's streams, once it was opened.
    key: Option<usize>,
    /// A head that waits for a place among the streams, or for room.
    head: Option<Box<WaitingHead>>,
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
        // What HTTP/1 lets a target be and HTTP/2 does not.
        if !headers::is_sendable_request(headers) {
            self.failed = Some(ResetReason::ProtocolError);
            return 0;
        }
        if !self.try_open(headers) && self.failed.is_none() {
            self.head = Some(WaitingHead::new(headers));
            self.head_bytes = headers.byte_size();
        }
        self.head_bytes
    }

    /// Opens the stream, if there is room for it.
    fn try_open(&mut self, headers: &HeaderMap) -> bool {
        let mut core = self.opener.core.borrow_mut();
        // What a peer that said it takes no more did not get can be tried elsewhere, though the connection is over by now.
        self.failed = if core.goaway || core.next_id > LAST_STREAM {
            Some(ResetReason::RemoteRefusedStreamReset)
        } else if core.over {
            Some(ResetReason::ConnectionTermination)
        } else {
            None
        };
        // Whether the peer takes extended CONNECT is known with its settings only (RFC 8441 §3).
        let unknown = self.upgrade.is_some() && !core.peer.known;
        if self.failed.is_none() && self.upgrade.is_some() && core.peer.known && !core.peer.connect_protocol {
            self.failed = Some(ResetReason::ConnectError);
        }
        if self.failed.is_some() || unknown || core.ids.len() >= core.peer.max_streams as usize || !core.has_room() {
            return false;
        }
        let id = core.next_id;
        core.next_id += 2;
        if core.next_id > LAST_STREAM {
            // RFC 9113 §5.1.1: there are no more numbers, so this is the last stream.
            core.goaway = true;
            self.opener.meter.note_goaway_received();
        }
        let mut stream = Stream::new(id, core.limits.stream_window, core.peer.initial_window);
        stream.bodiless = headers.get(Known::METHOD) == Some(b"HEAD");
        stream.tunnel = self.connect || self.upgrade.is_some();
        let key = core.streams.insert(stream);
        core.ids.insert(id, key);
        core.credit.stream_opened();
        self.key = Some(key);
        self.head_bytes = core.write_section(key, false, |encoder, out| headers::write_request(headers, encoder, out));
        self.bytes.1 += self.head_bytes as u64;
        core.wake();
        true
    }

    /// Sends a piece of the body.
    pub fn send_data(&mut self, chunk: Bytes) {
        self.out.push(chunk);
    }

    /// Ends the body, with trailers if there are any.
    pub fn send_end(&mut self, trailers: Option<&HeaderMap>) {
        self.out.end(trailers);
        if let Some(key) = self.key.filter(|_| self.head.is_none()) {
            self.opener.core.borrow_mut().end_at_once(key, &mut self.out);
        }
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
            if self.try_open(head.headers()) {
                drop(head);
            } else if let Some(reason) = self.failed {
                return Poll::Ready(Err(io::Error::other(reason.as_str())));
            } else {
                self.head = Some(head);
                self.opener.core.borrow_mut().wait_opening(cx);
                return Poll::Pending;
            }
        }
        let Some(key) = self.key else {
            return Poll::Ready(match self.failed {
                Some(reason) => Err(io::Error::other(reason.as_str())),
                None => Ok(()),
            });
        };
        let mut core = self.opener.core.borrow_mut();
        core.poll_send(cx, key, &mut self.out, &mut self.bytes.1).map_err(|reason| io::Error::other(reason.as_str()))
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
        let Some(key) = self.key else { return Poll::Pending };
        let mut core = self.opener.core.borrow_mut();
        let Some(stream) = core.streams.get_mut(key) else { return Poll::Pending };
        let next = stream.receive.informational.pop_front().or_else(|| stream.receive.head.take());
        let Some(head) = next else {
            if let Some(reason) = stream.reset {
                return Poll::Ready(Err(RecvError::Reset(reason)));
            }
            stream.wait_receive(cx);
            return Poll::Pending;
        };
        drop(core);
        Poll::Ready(Ok(self.take_head(head, headers)))
    }

    fn take_head(&mut self, mut head: Head, headers: &mut HeaderMap) -> ResponseHead {
        std::mem::swap(headers, &mut head.headers);
        give_map(head.headers);
        let (taken, status) = (head.taken, head.status);
        self.bytes.0 += u64::from(taken.bytes);
        self.answered = true;
        let protocol = self.upgrade.as_deref().filter(|_| status == 200);
        if let Some(protocol) = protocol {
            headers::make_upgraded(headers, protocol);
        }
        let upgraded = protocol.is_some();
        let upgrade = upgraded || (self.connect && (200..300).contains(&status));
        let framing = match taken.length {
            _ if upgrade => Framing::UntilClose,
            _ if head.last || status < 200 => Framing::None,
            // A length of zero without the end of the stream: trailers may follow.
            Some(0) | None => Framing::UntilClose,
            Some(length) => Framing::Length(length),
        };
        ResponseHead {
            status: if upgraded { 101 } else { status },
            version: Version::Http2,
            framing,
            keep_alive: true,
            close_notify: false,
            upgrade,
            head_bytes: taken.bytes,
            field_bytes: taken.bytes,
            dropped_underscore_headers: taken.dropped_underscores,
        }
    }

    /// Reads the next piece of the response's body.
    pub fn poll_body(&mut self, cx: &mut Context<'_>, trailers: &mut HeaderMap) -> Poll<Result<BodyPart, RecvError>> {
        let Some(key) = self.key else { return Poll::Ready(Err(RecvError::Truncated)) };
        match ready!(poll_body(&self.opener.core, key, &mut self.piece, &mut self.bytes.0, cx, trailers)) {
            Err(RecvError::Reset(ResetReason::RemoteRefusedStreamReset)) => {
                Poll::Ready(Err(RecvError::Reset(ResetReason::RemoteReset)))
            }
            outcome => Poll::Ready(outcome),
        }
    }

    /// Takes the piece, and lets the peer send as much again.
    pub fn take_body(&mut self) -> Bytes {
        match self.key {
            Some(key) => take_piece(&self.opener.core, key, &mut self.piece),
            None => Bytes::new(),
        }
    }
}

impl Drop for ClientStream {
    /// A stream that is given up before its end is cancelled, so that the upstream stops working on it.
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.opener.core.borrow_mut().drop_stream(key, self.piece.len());
        }
    }
}
