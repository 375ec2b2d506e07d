//! A raw HTTP/2 peer: it sends the frames it is told to, well-formed or not, while a thread reads what comes back and
//! keeps account of it. A client here, a server in [`RawServer`].

mod server;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

pub use server::RawServer;

use crate::PATIENCE;

/// What a client says first (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames (RFC 9113 §6).
pub mod kind {
    #![allow(missing_docs)]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames; ACK of SETTINGS and PING is the same bit as END_STREAM.
pub mod flag {
    #![allow(missing_docs)]
    pub const END_STREAM: u8 = 1;
    pub const ACK: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 32;
}

/// Error codes (RFC 9113 §7).
pub mod code {
    #![allow(missing_docs)]
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const INTERNAL_ERROR: u32 = 2;
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE_ERROR: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const COMPRESSION_ERROR: u32 = 9;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A SETTINGS frame: identifiers and values.
pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in values {
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame(kind::SETTINGS, 0, 0, &payload)
}

/// An RST_STREAM frame.
pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// A WINDOW_UPDATE frame.
pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// Header blocks (RFC 7541), never with Huffman codes.
pub mod hpack {
    /// An integer of a field representation: the prefix' bits, its pattern, the value (§5.1).
    fn integer(out: &mut Vec<u8>, bits: u8, pattern: u8, value: usize) {
        let most = (1 << bits) - 1;
        if value < most {
            out.push(pattern | u8::try_from(value).unwrap_or(0));
            return;
        }
        out.push(pattern | u8::try_from(most).unwrap_or(0));
        let mut rest = value - most;
        while rest >= 128 {
            out.push(u8::try_from(rest % 128).unwrap_or(0) | 128);
            rest /= 128;
        }
        out.push(u8::try_from(rest).unwrap_or(0));
    }

    fn string(out: &mut Vec<u8>, text: &[u8]) {
        integer(out, 7, 0, text.len());
        out.extend_from_slice(text);
    }

    /// A field without indexing (§6.2.2).
    pub fn literal(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        out.push(0);
        string(out, name);
        string(out, value);
    }

    /// A field that enters the dynamic table (§6.2.1); the newest has index 62.
    pub fn indexing(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        out.push(0x40);
        string(out, name);
        string(out, value);
    }

    /// A field of a table (§6.1).
    pub fn indexed(out: &mut Vec<u8>, index: usize) {
        integer(out, 7, 0x80, index);
    }

    /// A block of fields, none of them indexed.
    pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in fields {
            literal(&mut out, name.as_bytes(), value.as_bytes());
        }
        out
    }

    /// The block of a request: method, path, and `h.test` as authority.
    pub fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
        let mut out = block(&[(":method", method), (":scheme", "http"), (":authority", "h.test"), (":path", path)]);
        out.extend(block(more));
        out
    }

    /// The status of a response block, which is its first field.
    pub(super) fn status(block: &[u8]) -> Option<u16> {
        const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
        let block = block.iter().position(|byte| byte & 0xe0 != 0x20).map_or(block, |start| &block[start..]);
        let first = *block.first()?;
        if first & 0x80 != 0 {
            return INDEXED.get(usize::from(first & 0x7f).checked_sub(8)?).copied();
        }
        let length = *block.get(1)?;
        let text = block.get(2..2 + usize::from(length & 0x7f))?;
        if length & 0x80 == 0 {
            return std::str::from_utf8(text).ok()?.parse().ok();
        }
        digits(text)
    }

    /// Three digits in Huffman code (RFC 7541 appendix B): 0 to 2 take five bits, the others six.
    fn digits(text: &[u8]) -> Option<u16> {
        let bits = text.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (32 - 8 * text.len().min(4));
        let (mut at, mut number) = (0, 0);
        for _ in 0..3 {
            let (five, six) = ((bits << at) >> 27, (bits << at) >> 26);
            let digit = if five < 3 { five } else { six.checked_sub(0x19)? + 3 };
            at += if five < 3 { 5 } else { 6 };
            number = number * 10 + u16::try_from(digit).ok().filter(|digit| *digit < 10)?;
        }
        Some(number)
    }
}

/// What came back so far.
#[derive(Clone, Default)]
pub struct Account {
    /// Frames by type.
    pub frames: [u64; 10],
    /// Bytes of DATA.
    pub data: u64,
    /// Frames that ended their stream.
    pub ended: u64,
    /// The statuses of the first responses, by stream; at most 1000.
    pub statuses: Vec<(u32, u16)>,
    /// The streams that were reset first, with the codes; at most 1000.
    pub resets: Vec<(u32, u32)>,
    /// The streams that HEADERS came for first, in that order; at most 1000.
    pub headed: Vec<u32>,
    /// GOAWAY: the last stream and the code, of the last that came.
    pub goaway: Option<(u32, u32)>,
    /// The peer closed or reset the connection.
    pub closed: bool,
}

impl fmt::Debug for Account {
    /// The lists only with their last members.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn last<T: fmt::Debug>(list: &[T]) -> String {
            format!("{} of them, last {:?}", list.len(), &list[list.len().saturating_sub(4)..])
        }
        f.debug_struct("Account")
            .field("frames", &self.frames)
            .field("data", &self.data)
            .field("ended", &self.ended)
            .field("statuses", &last(&self.statuses))
            .field("resets", &last(&self.resets))
            .field("headed", &last(&self.headed))
            .field("goaway", &self.goaway)
            .field("closed", &self.closed)
            .finish()
    }
}

impl Account {
    /// The status of a stream's response.
    pub fn status(&self, stream: u32) -> Option<u16> {
        self.statuses.iter().find(|(of, _)| *of == stream).map(|(_, status)| *status)
    }

    /// The code that a stream was reset with.
    pub fn reset(&self, stream: u32) -> Option<u32> {
        self.resets.iter().find(|(of, _)| *of == stream).map(|(_, code)| *code)
    }

    /// The code of GOAWAY.
    pub fn goaway_code(&self) -> Option<u32> {
        self.goaway.map(|(_, code)| code)
    }

    fn take(&mut self, frame: &Frame<'_>) {
        let Frame { kind, flags, stream, payload } = *frame;
        if let Some(count) = self.frames.get_mut(usize::from(kind)) {
            *count += 1;
        }
        if matches!(kind, kind::DATA | kind::HEADERS) && flags & flag::END_STREAM != 0 {
            self.ended += 1;
        }
        if kind == kind::HEADERS && self.headed.len() < 1000 {
            self.headed.push(stream);
        }
        let word = |at: usize| payload.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        match kind {
            kind::DATA => self.data += payload.len() as u64,
            kind::HEADERS if self.statuses.len() < 1000 && self.status(stream).is_none() => {
                self.statuses.extend(hpack::status(payload).map(|status| (stream, status)));
            }
            kind::RST_STREAM if self.resets.len() < 1000 => self.resets.extend(word(0).map(|code| (stream, code))),
            kind::GOAWAY => self.goaway = word(0).zip(word(4)),
            _ => {}
        }
    }
}

/// A frame that came.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// See [`kind`].
    pub kind: u8,
    /// See [`flag`].
    pub flags: u8,
    /// 0 for the connection.
    pub stream: u32,
    /// All behind the nine bytes of its head.
    pub payload: &'a [u8],
}

/// Says what is sent for a frame that came, besides the acknowledgements of SETTINGS and PING.
pub type Answer = Arc<dyn Fn(&Frame<'_>) -> Vec<u8> + Send + Sync>;

struct Shared {
    account: Mutex<Account>,
    changed: Condvar,
    /// Whole frames only, so that the reader's acknowledgements don't cut one in two.
    writer: Mutex<TcpStream>,
}

impl Shared {
    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes)
    }
}

/// A connection; it is closed when dropped.
pub struct RawH2 {
    shared: Arc<Shared>,
}

impl RawH2 {
    /// Connects, says the preface and no settings of its own, and reads what comes.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::connect_with(address, &settings(&[]))
    }

    /// Connects and says the preface and then these bytes. SETTINGS and PING are acknowledged as they come.
    pub fn connect_with(address: SocketAddr, first: &[u8]) -> io::Result<Self> {
        let client = Self::deaf(address, first)?;
        client.listen(Arc::new(|_| Vec::new()))?;
        Ok(client)
    }

    /// Connects and never reads: what the peer sends stays in the socket's buffers.
    pub fn deaf(address: SocketAddr, first: &[u8]) -> io::Result<Self> {
        let client = Self::over(TcpStream::connect_timeout(&address, PATIENCE)?)?;
        client.send(&[PREFACE, first].concat())?;
        Ok(client)
    }

    fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let shared = Shared { account: Mutex::default(), changed: Condvar::new(), writer: Mutex::new(stream) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Starts the thread that reads.
    fn listen(&self, answer: Answer) -> io::Result<()> {
        let stream = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner).try_clone()?;
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || {
            // However reading ends, the connection is over.
            let _ = read(stream, &shared, &answer);
            shared.account().closed = true;
            shared.changed.notify_all();
        });
        Ok(())
    }

    /// Sends bytes: whole frames.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.shared.write(bytes)
    }

    /// Sends the headers of a request that ends with them.
    pub fn get(&self, stream: u32, path: &str, more: &[(&str, &str)]) -> io::Result<()> {
        let flags = flag::END_HEADERS | flag::END_STREAM;
        self.send(&frame(kind::HEADERS, flags, stream, &hpack::request("GET", path, more)))
    }

    /// What came back so far.
    pub fn account(&self) -> Account {
        self.shared.account().clone()
    }

    /// Waits until something holds of what came back. `false` when that did not happen in time.
    pub fn await_that(&self, done: impl FnMut(&mut Account) -> bool) -> bool {
        self.await_within(PATIENCE, done)
    }

    /// The same, with another time.
    pub fn await_within(&self, patience: Duration, mut done: impl FnMut(&mut Account) -> bool) -> bool {
        let account = self.shared.account();
        let waited = self.shared.changed.wait_timeout_while(account, patience, |account| !done(account));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Waits until the peer closed the connection.
    pub fn await_closed(&self) -> bool {
        self.await_that(|account| account.closed)
    }
}

impl Drop for RawH2 {
    fn drop(&mut self) {
        // Ends the reading thread, too. A connection that is gone needs no closing.
        let _ = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner).shutdown(Shutdown::Both);
    }
}

fn read(mut stream: TcpStream, shared: &Shared, answer: &Answer) -> io::Result<()> {
    let mut input = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        input.extend_from_slice(&buffer[..count]);
        let mut at = 0;
        let mut answers = Vec::new();
        while let Some(header) = input.get(at..at + 9) {
            let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            let (kind, flags) = (header[3], header[4]);
            let stream = u32::from_be_bytes([header[5] & 0x7f, header[6], header[7], header[8]]);
            let Some(payload) = input.get(at + 9..at + 9 + length) else { break };
            let came = Frame { kind, flags, stream, payload };
            shared.account().take(&came);
            if flags & flag::ACK == 0 && matches!(kind, kind::SETTINGS | kind::PING) {
                let echoed: &[u8] = if kind == kind::PING { payload } else { &[] };
                answers.extend(frame(kind, flag::ACK, 0, echoed));
            }
            answers.extend(answer(&came));
            at += 9 + length;
        }
        input.drain(..at);
        shared.changed.notify_all();
        if !answers.is_empty() {
            // A peer that does not take them is noticed by who waits for it.
            let _ = shared.write(&answers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Gates;
    use crate::origin::{After, Origin, Reply, Script};

    #[test]
    fn statuses_are_read() {
        for (block, status) in [
            (&[0x88][..], Some(200)),
            (&[0x20, 0x8d], Some(404)),
            (&[0x08, 3, b'5', b'0', b'3'], Some(503)),
            // "503" in Huffman code: 011011 00000 011001.
            (&[0x48, 0x83, 0b0110_1100, 0b0000_1100, 0b1111_1111], Some(503)),
            (&[], None),
        ] {
            assert_eq!(hpack::status(block), status, "{block:?}");
        }
    }

    #[test]
    fn it_talks_to_an_origin() {
        let replies = vec![
            Reply { path: Some("/large".into()), size: Some(100_000), ..Reply::default() },
            Reply { path: Some("/refused".into()), reset: Some(code::REFUSED_STREAM), ..Reply::default() },
            Reply { path: Some("/last".into()), status: Some(503), then: After::Close, ..Reply::default() },
        ];
        let origin = Origin::start(Script::Http(replies), Gates::default()).unwrap();
        let client = RawH2::connect(origin.address()).unwrap();
        client.get(1, "/", &[]).unwrap();
        assert!(client.await_that(|account| account.ended == 1));
        client.get(3, "/refused", &[("x", "y")]).unwrap();
        assert!(client.await_that(|account| account.reset(3) == Some(code::REFUSED_STREAM)));
        client.get(5, "/large", &[]).unwrap();
        assert!(client.await_that(|account| account.data >= 65_535));
        client.send(&[window_update(0, 100_000), window_update(5, 100_000)].concat()).unwrap();
        assert!(client.await_that(|account| account.data == 100_002));
        client.get(7, "/last", &[]).unwrap();
        assert!(client.await_that(|account| account.status(7) == Some(503) && account.goaway.is_some()));
        assert!(client.await_closed());
        assert_eq!(client.account().status(1), Some(200));
        assert_eq!(origin.seen()[1].head.get("x"), Some("y"));
    }

    #[test]
    fn the_other_client_talks_to_an_origin() {
        use crate::h2_client::{H2Client, H2Request};
        let reply =
            Reply { chunks: Some(vec!["a".into(), "b".into()]), trailers: vec!["t: 1".into()], ..Reply::default() };
        let origin = Origin::start(Script::Http(vec![reply]), Gates::default()).unwrap();
        let client = H2Client::connect(origin.address()).unwrap();
        let request = H2Request {
            method: "POST".into(),
            path: "/x?y".into(),
            authority: "h.test".into(),
            scheme: "http".into(),
            headers: vec!["a: b".into()],
            chunks: vec![b"body".to_vec()],
            trailers: vec!["c: d".into()],
        };
        let responses = client.requests(&[request.clone(), request]);
        for response in responses {
            assert_eq!((response.status(), &response.body.data[..]), (200, &b"ab"[..]));
            assert_eq!(response.body.trailers, [("t".to_owned(), "1".to_owned())]);
        }
        let seen = &origin.seen()[0];
        assert_eq!(seen.head.start, "POST /x?y HTTP/2");
        assert_eq!(seen.body.data, b"body");
        assert_eq!(seen.body.trailers, [("c".to_owned(), "d".to_owned())]);
    }
}
