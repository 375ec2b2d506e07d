//! Driving a handshake over a transport.
//!
//! Owns: moving records between the carrier and rustls, the bounds of a handshake, and taking the established session out of
//! rustls. Does not own: time limits (drop the future).
//!
//! rustls gets one record at a time, so that it never sees what follows the handshake: that belongs to the stream.

mod failure;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use nuncio_io::transport::Transport;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{CommonState, Error, ExtractedSecrets, HandshakeKind, NamedGroup};
use rustls_pki_types::CertificateDer;
use tokio::io::ReadBuf;

use crate::notes::{self, Notes};
use crate::session::HandshakeError;
use crate::stream::pool::{Pooled, Size};
use crate::stream::{Kernel, TlsStream};

/// Bytes that a peer may send before the handshake is complete: room for chains and hellos far beyond the usual.
const MOST_RECEIVED: usize = 128 * 1024;

/// Either side's connection in rustls.
pub(crate) trait Side: Unpin {
    type Data;
    fn process<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn common(&self) -> &CommonState;
    /// Whether what is to be written at the end of the handshake are tickets, which the peer does not wait for: they leave with the
    /// first bytes that are written, or when the stream waits for the peer.
    fn only_tickets_are_left(&self) -> bool;
    fn into_kernel(self, names: Option<Arc<[Arc<str>]>>) -> Result<(ExtractedSecrets, Kernel), Error>;
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn only_tickets_are_left(&self) -> bool {
        self.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3)
    }

    fn into_kernel(self, _names: Option<Arc<[Arc<str>]>>) -> Result<(ExtractedSecrets, Kernel), Error> {
        let (secrets, kernel) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, Kernel::Server(Box::new(kernel))))
    }
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn only_tickets_are_left(&self) -> bool {
        false
    }

    fn into_kernel(self, names: Option<Arc<[Arc<str>]>>) -> Result<(ExtractedSecrets, Kernel), Error> {
        let (secrets, kernel) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, Kernel::Client(Box::new(kernel), names)))
    }
}

/// What rustls wants next.
enum Step {
    /// It made progress.
    Again,
    /// More records.
    Read,
    /// The handshake is complete.
    Done,
}

/// What a completed handshake leaves behind, besides the stream.
pub(crate) struct Established {
    pub(crate) transport: Transport,
    pub(crate) notes: Box<Notes>,
    pub(crate) suite: rustls::CipherSuite,
    pub(crate) version: rustls::ProtocolVersion,
    pub(crate) group: Option<NamedGroup>,
    pub(crate) resumed: bool,
    pub(crate) alpn: Option<Vec<u8>>,
    pub(crate) peer: Option<Vec<CertificateDer<'static>>>,
}

/// The records of a handshake: the carrier, what came from it and what it has not taken.
pub(crate) struct Wire {
    carrier: Transport,
    pub(crate) input: Pooled,
    output: Pooled,
    received: usize,
}

impl Wire {
    pub(crate) fn new(carrier: Transport) -> Wire {
        Wire { carrier, input: Pooled::default(), output: Pooled::default(), received: 0 }
    }

    /// Reads more; an error when the peer has left, or sends without end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeError>> {
        let waiting = self.input.filled().len();
        if self.received >= MOST_RECEIVED {
            return Poll::Ready(Err(failure::too_large()));
        }
        // A message may span records; then it stays here until it is complete.
        self.input.prepare(Size::for_bytes((waiting + 1).max(Size::RECORD_BYTES)));
        if self.input.room().is_empty() {
            return Poll::Ready(Err(failure::too_large()));
        }
        let mut room = ReadBuf::new(self.input.room());
        let result = self.carrier.poll_read_buf(cx, &mut room);
        let count = room.filled().len();
        match result {
            Poll::Pending => {
                self.input.settle();
                Poll::Pending
            }
            Poll::Ready(Ok(())) if count == 0 => Poll::Ready(Err(failure::closed())),
            Poll::Ready(Ok(())) => {
                self.input.end += count;
                self.received += count;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(failure::io(&error))),
        }
    }

    /// Ends what has not begun: a fatal alert in clear leaves now or never.
    pub(crate) fn refuse_hello(&mut self) -> HandshakeError {
        const ILLEGAL_PARAMETER: [u8; 7] = [21, 3, 3, 0, 2, 2, 47];
        let _ = self.carrier.poll_write(&mut Context::from_waker(Waker::noop()), &ILLEGAL_PARAMETER);
        failure::too_large()
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let count = ready!(self.carrier.poll_write(cx, self.output.filled()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.consume(count);
        }
        self.output.settle();
        self.carrier.poll_flush(cx)
    }
}

/// A handshake that is being driven. Dropping it ends it; polling is cancel safe.
pub(crate) struct Handshake<S> {
    side: Option<Box<S>>,
    wire: Option<Wire>,
    notes: Option<Box<Notes>>,
    /// Bytes of the input that rustls was shown: whole records.
    shown: usize,
    /// The handshake is complete but for what must still be written.
    is_done: bool,
    /// It failed; what must still be written is the alert.
    failed: Option<HandshakeError>,
}

impl<S: Side> Handshake<S> {
    pub(crate) fn new(side: S, wire: Wire, notes: Box<Notes>) -> Self {
        let side = Some(Box::new(side));
        Handshake { side, wire: Some(wire), notes: Some(notes), shown: 0, is_done: false, failed: None }
    }

    /// What was learnt so far, also of a handshake that failed.
    pub(crate) fn notes(&self) -> Option<&Notes> {
        self.notes.as_deref()
    }

    /// Lets rustls take one step.
    fn step(side: &mut S, wire: &mut Wire, shown: &mut usize) -> Result<Step, Error> {
        let received = wire.input.filled_mut();
        let status = side.process(&mut received[..*shown]);
        let discard = status.discard;
        let step = match status.state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                encode(&mut wire.output, |room| data.encode(room))?;
                Ok(Step::Again)
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Ok(Step::Again)
            }
            Ok(ConnectionState::BlockedHandshake) => Ok(Step::Read),
            Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Done),
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Err(Error::AlertReceived(CLOSE_NOTIFY)),
            Ok(_) => Err(Error::HandshakeNotComplete),
            Err(error) => Err(error),
        };
        wire.input.consume(discard);
        *shown -= discard.min(*shown);
        step
    }

    /// Shows rustls one record more, if it is there.
    fn show_next(wire: &Wire, shown: &mut usize) -> bool {
        let rest = &wire.input.filled()[*shown..];
        let [_, _, _, high, low, ..] = rest else { return false };
        let size = 5 + usize::from(u16::from_be_bytes([*high, *low]));
        // What can't be a record is shown at once: rustls says what is wrong with it.
        let is_record = matches!(rest, [20..=23, 3, ..]) && size <= Size::RECORD_BYTES;
        if is_record && rest.len() < size {
            return false;
        }
        *shown += if is_record { size } else { rest.len() };
        true
    }

    fn fail(&mut self, error: &Error) -> HandshakeError {
        // What rustls wants to tell the peer.
        if let (Some(side), Some(wire)) = (&mut self.side, &mut self.wire) {
            // With something to send it looks at nothing that was received.
            while side.common().wants_write() {
                let received = wire.input.filled_mut();
                let Ok(ConnectionState::EncodeTlsData(mut data)) = side.process(&mut received[..self.shown]).state
                else {
                    break;
                };
                if encode(&mut wire.output, |room| data.encode(room)).is_err() {
                    break;
                }
            }
        }
        let first = self.wire.as_ref().map(|wire| wire.input.filled()).unwrap_or_default();
        failure::describe(error, self.notes.as_deref(), first)
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeError>> {
        loop {
            let (Some(side), Some(wire)) = (&mut self.side, &mut self.wire) else {
                return Poll::Ready(Err(failure::closed()));
            };
            let shown = &mut self.shown;
            let step = notes::during(&mut self.notes, || Self::step(side, wire, shown));
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Done) if !side.common().is_handshaking() => return Poll::Ready(Ok(())),
                Ok(Step::Read | Step::Done) => {
                    match wire.poll_drain(cx) {
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(failure::io(&error))),
                        Poll::Ready(Ok(())) => {}
                        // The peer may have sent why it does not read.
                        Poll::Pending => {}
                    }
                    while !Self::show_next(wire, shown) {
                        ready!(wire.poll_fill(cx))?;
                    }
                }
                Err(error) => {
                    let failure = self.fail(&error);
                    return Poll::Ready(Err(failure));
                }
            }
        }
    }

    fn finish(&mut self) -> Result<Established, HandshakeError> {
        let lost = failure::internal;
        let (Some(side), Some(wire), Some(notes)) = (self.side.take(), self.wire.take(), self.notes.take()) else {
            return Err(lost());
        };
        let common = side.common();
        let version = common.protocol_version().ok_or_else(lost)?;
        let suite = common.negotiated_cipher_suite().ok_or_else(lost)?.suite();
        let group = common.negotiated_key_exchange_group().map(|group| group.name());
        let resumed = common.handshake_kind() == Some(HandshakeKind::Resumed);
        let alpn = common.alpn_protocol().map(<[u8]>::to_vec);
        let peer = common.peer_certificates().map(|chain| chain.to_vec());
        let (secrets, kernel) = side.into_kernel(notes.names.clone()).map_err(|_| lost())?;
        let kernel = (version == rustls::ProtocolVersion::TLSv1_3).then_some(kernel);
        let stream = TlsStream::new(wire.carrier, &secrets, kernel, wire.input, wire.output).ok_or_else(lost)?;
        let transport = Transport::Tls(Box::new(stream));
        Ok(Established { transport, notes, suite, version, group, resumed, alpn, peer })
    }

    /// Drives it on.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Established, HandshakeError>> {
        if !self.is_done && self.failed.is_none() {
            match ready!(self.poll_step(cx)) {
                Ok(()) => self.is_done = true,
                Err(error) => self.failed = Some(error),
            }
        }
        if let Some(error) = self.failed.take() {
            if let Some(wire) = &mut self.wire {
                // The alert is a courtesy: it leaves now or never.
                let _ = wire.poll_drain(&mut Context::from_waker(Waker::noop()));
            }
            (self.side, self.wire) = (None, None);
            return Poll::Ready(Err(error));
        }
        if let Some(wire) = &mut self.wire
            && !self.side.as_ref().is_some_and(|side| side.only_tickets_are_left())
        {
            ready!(wire.poll_drain(cx)).map_err(|error| failure::io(&error))?;
        }
        Poll::Ready(self.finish())
    }
}

const CLOSE_NOTIFY: rustls::AlertDescription = rustls::AlertDescription::CloseNotify;

/// Appends what `write` encodes.
fn encode(output: &mut Pooled, mut write: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) -> Result<(), Error> {
    let mut needed = 1;
    for _ in 0..3 {
        let waiting = output.filled().len();
        output.prepare(Size::for_bytes(waiting + needed));
        match write(output.room()) {
            Ok(count) => {
                output.end += count;
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(size)) => needed = size.required_size,
            Err(EncodeError::AlreadyEncoded) => return Ok(()),
        }
    }
    Err(Error::General("a handshake message is too large".into()))
}

/// The two phases of a server's handshake.
pub(crate) enum Accepting {
    /// The ClientHello is not complete.
    Hello(Option<Wire>),
    Running(Box<Handshake<UnbufferedServerConnection>>),
}

impl Future for Handshake<UnbufferedClientConnection> {
    type Output = Result<Established, HandshakeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Handshake::poll(&mut self, cx)
    }
}
