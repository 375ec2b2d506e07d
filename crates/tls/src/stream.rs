//! The stream of an established session: records in, records out.
//!
//! Owns: reading, writing and ending a session, and the messages that come after the handshake (tickets, key updates, alerts).
//! Does not own: handshakes, and how one record is protected (`record`).
//!
//! *Invariant*: it holds a buffer only while bytes wait in it. What is left of rustls is the state that makes new keys.
//! *Invariant*: the carrier is read only when the caller asks for bytes and none wait.

pub(crate) mod pool;
mod record;

#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use nuncio_io::transport::{SecureSocket, Transport};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{AlertDescription, ConnectionTrafficSecrets, Error, ExtractedSecrets};
use tokio::io::ReadBuf;

use crate::notes::{self, Notes};

use self::pool::{MOST_PLAINTEXT, Pooled, Size};
use self::record::{BadRecord, Gather, HEADER, Header, MAX_PLAINTEXT, OVERHEAD, RecordKey};

/// Records without data that may follow each other: each costs as much as one with data. BoringSSL allows as many.
const MOST_EMPTY_RECORDS: u8 = 32;
/// Key updates, tickets and warnings that may come without data between them.
const MOST_MESSAGES: u8 = 32;
/// Largest message after the handshake, bytes.
const MOST_MESSAGE: usize = 64 * 1024;

/// What rustls keeps for TLS 1.3; TLS 1.2 needs nothing more.
pub(crate) enum Kernel {
    Server(Box<KernelConnection<ServerConnectionData>>),
    /// With the names that the server's certificate had to have: its tickets are kept for those.
    Client(Box<KernelConnection<ClientConnectionData>>, Option<Arc<[Arc<str>]>>),
}

impl Kernel {
    fn next_read_key(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Kernel::Server(kernel) => kernel.update_rx_secret(),
            Kernel::Client(kernel, _) => kernel.update_rx_secret(),
        }
    }

    fn next_write_key(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Kernel::Server(kernel) => kernel.update_tx_secret(),
            Kernel::Client(kernel, _) => kernel.update_tx_secret(),
        }
    }
}

/// The state of the reading half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Open,
    /// The peer sent close_notify, or ended the carrier between two records.
    Ended,
    /// A fatal alert came, or was sent.
    Failed(Failure),
}

/// Why a session is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// The peer ended the carrier within a record.
    Truncated,
    /// The peer sent a fatal alert.
    Alert(u8),
    /// The peer broke the protocol; it was told so.
    Peer(&'static str, u8),
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> io::Error {
        match failure {
            Failure::Truncated => io::Error::new(io::ErrorKind::UnexpectedEof, "TLS record is truncated"),
            Failure::Alert(code) => {
                let alert = AlertDescription::from(code);
                io::Error::new(io::ErrorKind::ConnectionReset, format!("TLS alert received: {alert:?}"))
            }
            Failure::Peer(what, _) => io::Error::new(io::ErrorKind::InvalidData, what),
        }
    }
}

impl Failure {
    const UNEXPECTED: Failure = Failure::Peer("unexpected TLS message", 10);
    const CORRUPT: Failure = Failure::Peer("TLS record does not decrypt", 20);
    const TOO_LARGE: Failure = Failure::Peer("TLS record is too large", 22);
    const DECODE: Failure = Failure::Peer("TLS message is malformed", 50);
    const INTERNAL: Failure = Failure::Peer("TLS session can't go on", 80);
    const RENEGOTIATION: Failure = Failure::Peer("TLS renegotiation is not supported", 100);
    const TOO_MANY: Failure = Failure::Peer("too many TLS messages without data", 10);
}

impl From<BadRecord> for Failure {
    fn from(bad: BadRecord) -> Failure {
        match bad {
            BadRecord::Unexpected => Failure::UNEXPECTED,
            BadRecord::TooLarge => Failure::TOO_LARGE,
            BadRecord::Corrupt => Failure::CORRUPT,
        }
    }
}

/// What the next record turned out to be.
enum Next {
    /// Plaintext, at these places of the input.
    Data(std::ops::Range<usize>),
    /// A message of the session itself, which was dealt with.
    Message,
    /// The session has ended.
    End,
    /// It is not wholly there.
    Incomplete,
}

/// An established session.
pub(crate) struct TlsStream {
    carrier: Transport,
    read_key: RecordKey,
    write_key: RecordKey,
    kernel: Option<Kernel>,
    /// Received records.
    input: Pooled,
    /// Where decrypted bytes that the caller has not taken stand in `input`, in front of everything that is not consumed.
    plain: std::ops::Range<usize>,
    /// Records that the carrier has not taken.
    output: Pooled,
    /// The beginning of a message that spans records.
    message: Vec<u8>,
    reading: Reading,
    /// Room for the next read.
    reads: Size,
    has_sent_close: bool,
    empty_records: u8,
    messages: u8,
}

impl TlsStream {
    /// `input` is what was received behind the handshake, `output` what is left of it to be sent: records.
    pub(crate) fn new(
        carrier: Transport,
        secrets: &ExtractedSecrets,
        kernel: Option<Kernel>,
        mut input: Pooled,
        output: Pooled,
    ) -> Option<TlsStream> {
        let is_v1_3 = kernel.is_some();
        input.settle();
        Some(TlsStream {
            carrier,
            read_key: RecordKey::new(secrets.rx.0, &secrets.rx.1, is_v1_3)?,
            write_key: RecordKey::new(secrets.tx.0, &secrets.tx.1, is_v1_3)?,
            kernel,
            input,
            plain: 0..0,
            output,
            message: Vec::new(),
            reading: Reading::Open,
            reads: Size::Record,
            has_sent_close: false,
            empty_records: 0,
            messages: 0,
        })
    }

    /// Decrypts the next record, if it is wholly there.
    fn next_record(&mut self) -> Result<Next, Failure> {
        match self.reading {
            Reading::Open => {}
            Reading::Ended => return Ok(Next::End),
            Reading::Failed(failure) => return Err(failure),
        }
        let Some(header) = Header::parse(self.input.filled())? else { return Ok(Next::Incomplete) };
        let size = HEADER + header.length;
        let start = self.input.start;
        let Some(record) = self.input.filled_mut().get_mut(..size) else { return Ok(Next::Incomplete) };
        let (kind, range) = self.read_key.open(header, record)?;
        let range = start + range.start..start + range.end;
        self.input.consume(size);
        if kind != record::HANDSHAKE && !self.message.is_empty() {
            // RFC 8446 §5.1: nothing comes between the parts of a message.
            return Err(Failure::UNEXPECTED);
        }
        match kind {
            record::APPLICATION_DATA if range.is_empty() => {
                self.empty_records += 1;
                if self.empty_records > MOST_EMPTY_RECORDS { Err(Failure::TOO_MANY) } else { Ok(Next::Message) }
            }
            record::APPLICATION_DATA => {
                (self.empty_records, self.messages) = (0, 0);
                Ok(Next::Data(range))
            }
            record::ALERT => self.take_alert(range),
            record::HANDSHAKE => self.take_messages(range).map(|()| Next::Message),
            _ => Err(Failure::UNEXPECTED),
        }
    }

    fn take_alert(&mut self, range: std::ops::Range<usize>) -> Result<Next, Failure> {
        let &[level, code] = self.input.range(range) else { return Err(Failure::DECODE) };
        const CLOSE_NOTIFY: u8 = 0;
        const USER_CANCELED: u8 = 90;
        match (level, code) {
            (_, CLOSE_NOTIFY) => {
                self.reading = Reading::Ended;
                Ok(Next::End)
            }
            // RFC 8446 §6: in TLS 1.3 every other alert is fatal, whatever its level says.
            (1, _) if !self.read_key.is_v1_3() || code == USER_CANCELED => {
                self.count_message()?;
                Ok(Next::Message)
            }
            _ => Err(Failure::Alert(code)),
        }
    }

    fn count_message(&mut self) -> Result<(), Failure> {
        self.messages += 1;
        if self.messages > MOST_MESSAGES { Err(Failure::TOO_MANY) } else { Ok(()) }
    }

    /// Messages after the handshake (RFC 8446 §4.6); TLS 1.2 knows only renegotiation there.
    fn take_messages(&mut self, range: std::ops::Range<usize>) -> Result<(), Failure> {
        const NEW_SESSION_TICKET: u8 = 4;
        const KEY_UPDATE: u8 = 24;
        if range.is_empty() {
            return Err(Failure::UNEXPECTED);
        }
        if !self.read_key.is_v1_3() {
            return Err(Failure::RENEGOTIATION);
        }
        let mut bytes = std::mem::take(&mut self.message);
        bytes.extend_from_slice(self.input.range(range));
        let mut rest = bytes.as_slice();
        while let [kind, a, b, c, after @ ..] = rest {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if length > MOST_MESSAGE {
                return Err(Failure::DECODE);
            }
            let Some((payload, after)) = after.split_at_checked(length) else { break };
            self.count_message()?;
            match (*kind, &mut self.kernel) {
                (NEW_SESSION_TICKET, Some(Kernel::Client(kernel, names))) => {
                    let mut notes = Some(Box::new(Notes { names: names.clone(), ..Notes::default() }));
                    let taken = notes::during(&mut notes, || kernel.handle_new_session_ticket(payload));
                    taken.map_err(|_| Failure::DECODE)?;
                }
                // The keys change with the next record, so nothing of this one may follow.
                (KEY_UPDATE, Some(_)) if after.is_empty() => self.take_key_update(payload)?,
                _ => return Err(Failure::UNEXPECTED),
            }
            rest = after;
        }
        self.message = rest.to_vec();
        Ok(())
    }

    fn take_key_update(&mut self, payload: &[u8]) -> Result<(), Failure> {
        let must_answer = match payload {
            [0] => false,
            [1] => true,
            _ => return Err(Failure::DECODE),
        };
        let kernel = self.kernel.as_mut().ok_or(Failure::UNEXPECTED)?;
        let (sequence, secrets) = kernel.next_read_key().map_err(|_| Failure::INTERNAL)?;
        self.read_key = RecordKey::new(sequence, &secrets, true).ok_or(Failure::INTERNAL)?;
        if must_answer && !self.has_sent_close {
            self.update_write_key()?;
        }
        Ok(())
    }

    /// Tells the peer that the following records are protected by the next key, and changes to it.
    fn update_write_key(&mut self) -> Result<(), Failure> {
        self.hold_back(record::HANDSHAKE, &[24, 0, 0, 1, 0])?;
        let kernel = self.kernel.as_mut().ok_or(Failure::INTERNAL)?;
        let (sequence, secrets) = kernel.next_write_key().map_err(|_| Failure::INTERNAL)?;
        self.write_key = RecordKey::new(sequence, &secrets, true).ok_or(Failure::INTERNAL)?;
        Ok(())
    }

    /// Adds a small record to what the carrier has not taken.
    fn hold_back(&mut self, kind: u8, payload: &[u8]) -> Result<(), Failure> {
        let needed = self.output.filled().len() + payload.len() + OVERHEAD;
        self.output.prepare(Size::for_bytes(needed));
        if self.output.room().len() < payload.len() + OVERHEAD {
            // The peer asks again and again, and reads no answer.
            return Err(Failure::TOO_MANY);
        }
        let slices = [IoSlice::new(payload)];
        let mut gather = Gather::new(&slices);
        let sealed = self.write_key.seal(kind, &mut gather, payload.len(), self.output.room());
        self.output.end += sealed.ok_or(Failure::INTERNAL)?;
        Ok(())
    }

    /// Ends the session because of `failure`, and tells the peer if it is the one at fault.
    fn fail(&mut self, failure: Failure) -> io::Error {
        if !matches!(self.reading, Reading::Failed(_)) {
            self.reading = Reading::Failed(failure);
            self.plain = 0..0;
            self.message = Vec::new();
            if let Failure::Peer(_, code) = failure
                && !self.has_sent_close
                && self.hold_back(record::ALERT, &[2, code]).is_ok()
            {
                let _ = self.poll_drain(&mut Context::from_waker(Waker::noop()));
            }
            self.has_sent_close = true;
            self.input.start = self.input.end;
            self.input.settle();
        }
        failure.into()
    }

    /// Reads records from the carrier; 0 is its end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.prepare(self.reads);
        let room = self.input.room();
        let mut room = ReadBuf::new(room);
        let result = self.carrier.poll_read_buf(cx, &mut room);
        let count = room.filled().len();
        if result.is_pending() {
            self.input.settle();
            // Nothing that is held back may wait for a peer that may wait for it.
            let _ = self.poll_drain(cx);
        } else {
            self.reads = Size::for_read_after(count);
            self.input.end += count;
        }
        result.map_ok(|()| count)
    }

    /// The carrier has ended.
    fn end_of_carrier(&mut self) -> io::Result<()> {
        if self.input.is_empty() && self.message.is_empty() {
            // Many peers leave without close_notify; Envoy takes that for an end as well.
            self.reading = Reading::Ended;
            return Ok(());
        }
        Err(self.fail(Failure::Truncated))
    }

    /// Writes what is held back.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let count = ready!(self.carrier.poll_write(cx, self.output.filled()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.consume(count);
        }
        self.output.settle();
        Poll::Ready(Ok(()))
    }

    /// Makes records of what `gather` holds, as much as one buffer takes; how many bytes that were.
    fn encrypt(&mut self, gather: &mut Gather<'_, '_>) -> Result<usize, Failure> {
        let total = gather.left.min(MOST_PLAINTEXT);
        let records = total.div_ceil(MAX_PLAINTEXT);
        self.output.prepare(Size::for_bytes(total + records * OVERHEAD));
        let mut left = total;
        while left > 0 {
            let length = left.min(MAX_PLAINTEXT);
            let sealed = self.write_key.seal(record::APPLICATION_DATA, gather, length, self.output.room());
            self.output.end += sealed.ok_or(Failure::INTERNAL)?;
            left -= length;
        }
        Ok(total)
    }

    /// Whether there is nothing for the caller to notice; deals with the session's own messages.
    fn poll_notable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if !self.plain.is_empty() {
                return Poll::Ready(());
            }
            match self.next_record() {
                Ok(Next::Data(range)) => self.plain = range,
                Ok(Next::Message) => {}
                Ok(Next::End) => return Poll::Ready(()),
                Ok(Next::Incomplete) => match self.poll_fill(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(0)) => {
                        let _ = self.end_of_carrier();
                        return Poll::Ready(());
                    }
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                },
                Err(failure) => {
                    self.fail(failure);
                    return Poll::Ready(());
                }
            }
        }
    }
}

impl SecureSocket for TlsStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if !self.plain.is_empty() {
                let count = self.plain.len().min(into.remaining());
                into.put_slice(self.input.range(self.plain.start..self.plain.start + count));
                self.plain.start += count;
                if !self.plain.is_empty() || into.remaining() == 0 {
                    break;
                }
            }
            match self.next_record() {
                Ok(Next::Data(range)) => self.plain = range,
                Ok(Next::Message) => {}
                _ if into.filled().len() > before => break,
                Ok(Next::End) => break,
                Ok(Next::Incomplete) => {
                    if ready!(self.poll_fill(cx))? == 0 {
                        self.end_of_carrier()?;
                    }
                }
                Err(failure) => return Poll::Ready(Err(self.fail(failure))),
            }
        }
        if self.plain.is_empty() {
            self.input.settle();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(&mut self, cx: &mut Context<'_>, from: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_drain(cx))?;
        if self.has_sent_close {
            return Poll::Ready(Err(match self.reading {
                Reading::Failed(failure) => failure.into(),
                _ => io::ErrorKind::BrokenPipe.into(),
            }));
        }
        if self.write_key.is_worn() {
            self.update_write_key().map_err(|failure| self.fail(failure))?;
        }
        let mut gather = Gather::new(from);
        let count = self.encrypt(&mut gather).map_err(|failure| self.fail(failure))?;
        // What the carrier does not take now waits here; `poll_flush` and the next write send it first.
        let _ = self.poll_drain(cx)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        self.carrier.poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.has_sent_close {
            ready!(self.poll_drain(cx))?;
            self.has_sent_close = true;
            self.hold_back(record::ALERT, &[1, 0]).map_err(io::Error::from)?;
        }
        ready!(self.poll_drain(cx))?;
        self.carrier.poll_shutdown(cx)
    }

    fn is_quiet(&mut self) -> bool {
        // A carrier that reported nothing costs no more than the question.
        let nothing_waits = self.input.is_empty() && self.plain.is_empty();
        let can_tell = !matches!(self.carrier, Transport::Other(_));
        if nothing_waits && can_tell && self.reading == Reading::Open && self.carrier.is_quiet() {
            return true;
        }
        self.poll_notable(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_notable(cx)
    }

    fn carrier(&self) -> &Transport {
        &self.carrier
    }
}
