//! HTTP/2 of the load and of its origin: frames that are made once and sent again and again with another stream number.
//!
//! Only what both sides need to be a fair peer: header fields go into the dynamic table with the first message of a connection and
//! are references to it afterwards, as every real client does it; windows are opened so far that nobody waits for them; SETTINGS
//! and PING are acknowledged. Header blocks that arrive are not decoded but for `:status 200`, which every encoder writes alike.

use std::time::Instant;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
const HEADER_TABLE_SIZE: u16 = 1;
/// SETTINGS_MAX_CONCURRENT_STREAMS, SETTINGS_INITIAL_WINDOW_SIZE; no push.
const OUR_SETTINGS: &[(u16, u32)] = &[(2, 0), (3, 1_000), (4, 16 << 20)];
/// What is added to the window of a connection at its start, and whenever half of it was used.
const WINDOW: u32 = 1 << 30;
/// The least dynamic table that the messages need.
const LEAST_TABLE: u32 = 4_096;
/// `:status 200` of the static table.
const STATUS_200: u8 = 0x88;
/// First index of the dynamic table.
const DYNAMIC: usize = 62;

/// Name and value of a header field.
pub type Field = (String, String);

/// A request or a reply, as its sender wants it.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    pub head: Vec<Field>,
    pub body: Vec<u8>,
    pub trailers: Vec<Field>,
}

/// The frames of a message.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// For the first message of a connection.
    first: Frames,
    /// For all others.
    later: Frames,
    /// For peers that have no dynamic table.
    plain: Frames,
    /// Bytes of its body.
    body: usize,
    has_trailers: bool,
}

/// How header fields are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As they are, and put in the dynamic table.
    Inserted,
    /// By their place in the dynamic table.
    Indexed,
    /// As they are.
    Plain,
}

#[derive(Clone, Debug, Default)]
struct Frames {
    bytes: Vec<u8>,
    /// Where the numbers of the stream stand.
    ids: Vec<usize>,
}

impl Message {
    /// Encodes it.
    pub fn new(parts: &Parts) -> Self {
        let indexed = |fields: &[Field]| fields.iter().filter(|field| !is_static(field)).count();
        let total = indexed(&parts.head) + indexed(&parts.trailers);
        let frames = |form| {
            let mut frames = Frames::default();
            let mut number = 0;
            let has_more = !parts.body.is_empty() || !parts.trailers.is_empty();
            frames.block(&parts.head, &mut number, (form, total), !has_more);
            if !parts.body.is_empty() {
                frames.push(DATA, if parts.trailers.is_empty() { END_STREAM } else { 0 }, &parts.body);
            }
            if !parts.trailers.is_empty() {
                frames.block(&parts.trailers, &mut number, (form, total), true);
            }
            frames
        };
        Self {
            first: frames(Form::Inserted),
            later: frames(Form::Indexed),
            plain: frames(Form::Plain),
            body: parts.body.len(),
            has_trailers: !parts.trailers.is_empty(),
        }
    }
}

impl Frames {
    fn push(&mut self, kind: u8, flags: u8, payload: &[u8]) {
        self.ids.push(self.bytes.len() + 5);
        frame(&mut self.bytes, kind, flags, 0, payload);
    }

    /// `number` counts the fields of the dynamic table so far; the last one has the first index.
    fn block(&mut self, fields: &[Field], number: &mut usize, (form, total): (Form, usize), is_last: bool) {
        let mut block = Vec::new();
        for field in fields {
            if is_static(field) {
                block.push(STATUS_200);
                continue;
            }
            if form == Form::Indexed {
                // 127 would need a second byte; there are a dozen fields.
                block.push(0x80 | (DYNAMIC + total - 1 - *number).min(126) as u8);
            } else {
                block.push(if form == Form::Inserted { 0x40 } else { 0 });
                text(&mut block, &field.0);
                text(&mut block, &field.1);
            }
            *number += 1;
        }
        self.push(HEADERS, END_HEADERS | if is_last { END_STREAM } else { 0 }, &block);
    }

    fn append(&self, id: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        for place in &self.ids {
            out[start + place..start + place + 4].copy_from_slice(&id.to_be_bytes());
        }
    }
}

fn is_static((name, value): &Field) -> bool {
    name == ":status" && value == "200"
}

/// A string literal without Huffman coding.
fn text(block: &mut Vec<u8>, text: &str) {
    match text.len().checked_sub(127) {
        None => block.push(text.len() as u8),
        Some(mut rest) => {
            block.push(127);
            while rest >= 128 {
                block.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            block.push(rest as u8);
        }
    }
    block.extend_from_slice(text.as_bytes());
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A request under way.
struct Open {
    id: u32,
    due: Instant,
    body: usize,
    is_ok: bool,
}

/// One end of a connection.
pub struct Session {
    partial: Vec<u8>,
    /// What is to be written.
    pub out: Vec<u8>,
    is_client: bool,
    awaits_preface: bool,
    next_id: u32,
    sent_first: bool,
    /// Whether the peer keeps a dynamic table of what is sent here.
    has_table: bool,
    open: Vec<Open>,
    consumed: u32,
}

struct Frame<'a> {
    kind: u8,
    flags: u8,
    id: u32,
    payload: &'a [u8],
}

impl Session {
    /// A new connection, with the preface of this end in `out`.
    pub fn new(is_client: bool) -> Self {
        let mut out = if is_client { PREFACE.to_vec() } else { Vec::new() };
        let mut settings = Vec::new();
        for (id, value) in OUR_SETTINGS.iter().skip(usize::from(!is_client)) {
            settings.extend_from_slice(&id.to_be_bytes());
            settings.extend_from_slice(&value.to_be_bytes());
        }
        frame(&mut out, SETTINGS, 0, 0, &settings);
        frame(&mut out, WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
        Self {
            partial: Vec::new(),
            out,
            is_client,
            awaits_preface: !is_client,
            next_id: 1,
            sent_first: false,
            has_table: true,
            open: Vec::new(),
            consumed: 0,
        }
    }

    /// Requests without a whole reply.
    pub fn waiting(&self) -> usize {
        self.open.len()
    }

    /// Puts a request that was due at `due` in `out`.
    pub fn request(&mut self, message: &Message, due: Instant) {
        let id = self.next_id;
        self.next_id += 2;
        self.open.push(Open { id, due, body: 0, is_ok: false });
        self.send(message, id);
    }

    fn send(&mut self, message: &Message, id: u32) {
        let frames = match (self.has_table, self.sent_first) {
            (false, _) => &message.plain,
            (true, false) => &message.first,
            (true, true) => &message.later,
        };
        self.sent_first = true;
        frames.append(id, &mut self.out);
    }

    /// Takes what was read. A client calls `done` for each reply, with the time at which its request was due; `message` is what the
    /// reply must be like. An origin answers each request with `message`.
    pub fn receive(&mut self, data: &[u8], message: &Message, mut done: impl FnMut(Instant)) -> Result<(), String> {
        let mut joined = std::mem::take(&mut self.partial);
        let mut rest = if joined.is_empty() {
            data
        } else {
            joined.extend_from_slice(data);
            &joined
        };
        if self.awaits_preface && rest.len() >= PREFACE.len() {
            rest = rest.strip_prefix(PREFACE).ok_or("no HTTP/2 preface")?;
            self.awaits_preface = false;
        }
        while !self.awaits_preface {
            let Some((frame, after)) = split(rest) else { break };
            rest = after;
            self.take(&frame, message, &mut done)?;
        }
        self.partial = rest.to_vec();
        Ok(())
    }

    fn take(&mut self, frame: &Frame<'_>, message: &Message, done: &mut impl FnMut(Instant)) -> Result<(), String> {
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => self.settings(frame.payload)?,
            PING if frame.flags & ACK == 0 => self::frame(&mut self.out, PING, ACK, 0, frame.payload),
            RST_STREAM | GOAWAY if self.is_client => {
                let at = if frame.kind == GOAWAY { 4 } else { 0 };
                let code = frame.payload.get(at..at + 4).unwrap_or_default();
                return Err(format!("{} with code {code:?}", if at == 0 { "RST_STREAM" } else { "GOAWAY" }));
            }
            CONTINUATION => return Err("a header block in several frames".into()),
            DATA | HEADERS if self.is_client => self.reply(frame, message, done)?,
            DATA | HEADERS => {
                self.consume(frame);
                if frame.flags & END_STREAM != 0 {
                    self.send(message, frame.id);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn settings(&mut self, payload: &[u8]) -> Result<(), String> {
        for setting in payload.chunks_exact(6) {
            let (id, value) = setting.split_at(2);
            let value = value.try_into().map(u32::from_be_bytes).unwrap_or(0);
            if id == HEADER_TABLE_SIZE.to_be_bytes() && value < LEAST_TABLE {
                if self.sent_first {
                    return Err(format!("the peer wants a dynamic table of {value} bytes, too late"));
                }
                self.has_table = false;
            }
        }
        self::frame(&mut self.out, SETTINGS, ACK, 0, &[]);
        Ok(())
    }

    fn consume(&mut self, frame: &Frame<'_>) {
        if frame.kind != DATA {
            return;
        }
        self.consumed += frame.payload.len() as u32;
        if self.consumed > WINDOW / 2 {
            self::frame(&mut self.out, WINDOW_UPDATE, 0, 0, &self.consumed.to_be_bytes());
            self.consumed = 0;
        }
    }

    fn reply(&mut self, frame: &Frame<'_>, expected: &Message, done: &mut impl FnMut(Instant)) -> Result<(), String> {
        self.consume(frame);
        let place = self.open.iter().position(|open| open.id == frame.id).ok_or("a frame of no stream of ours")?;
        let open = &mut self.open[place];
        let is_trailers = frame.kind == HEADERS && open.is_ok;
        if frame.kind == DATA {
            let padding = if frame.flags & PADDED != 0 { 1 + usize::from(frame.payload[0]) } else { 0 };
            open.body += frame.payload.len().saturating_sub(padding);
        } else if !open.is_ok {
            if !is_status_200(frame) {
                return Err(format!("not 200: {:?}", &frame.payload[..frame.payload.len().min(40)]));
            }
            open.is_ok = true;
        }
        if frame.flags & END_STREAM != 0 {
            // A gRPC failure has its status in the head; what has message and trailers is a success.
            if open.body != expected.body || is_trailers != expected.has_trailers {
                return Err(format!("a reply of {} bytes, with trailers: {is_trailers}", open.body));
            }
            done(self.open.swap_remove(place).due);
        }
        Ok(())
    }
}

/// Whether a header block begins with `:status 200`, after changes of the size of the dynamic table.
fn is_status_200(frame: &Frame<'_>) -> bool {
    let padding = usize::from(frame.flags & PADDED != 0);
    let start = padding + if frame.flags & PRIORITY != 0 { 5 } else { 0 };
    let mut block = frame.payload.get(start..).unwrap_or_default();
    while let [first, rest @ ..] = block
        && first & 0xe0 == 0x20
    {
        block = rest;
        let mut more = first & 0x1f == 0x1f;
        while let [byte, rest @ ..] = block
            && more
        {
            (block, more) = (rest, byte & 0x80 != 0);
        }
    }
    block.first() == Some(&STATUS_200)
}

/// The first frame, if it is there as a whole.
fn split(data: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let (head, rest) = data.split_at_checked(FRAME_HEAD)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let (payload, rest) = rest.split_at_checked(length)?;
    let id = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
    let needed = usize::from(head[4] & PADDED != 0 && matches!(head[3], DATA | HEADERS));
    (length >= needed).then_some((Frame { kind: head[3], flags: head[4], id, payload }, rest))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Message, Parts, Session};

    fn parts(status: &str, trailers: &[(&str, &str)]) -> Parts {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let head = [(":status", status), ("x-long", &"v".repeat(300))];
        Parts {
            head: head.iter().map(own).collect(),
            body: b"body".to_vec(),
            trailers: trailers.iter().map(own).collect(),
        }
    }

    /// Replies that a client counts, of three requests, when every byte comes alone.
    fn replies(sent: &Parts, expected: &Parts) -> Result<usize, String> {
        let request = Message::new(&Parts { head: vec![(":method".into(), "GET".into())], ..Parts::default() });
        let (sent, expected) = (Message::new(sent), Message::new(expected));
        let (mut client, mut origin) = (Session::new(true), Session::new(false));
        let mut count = 0;
        for _ in 0..3 {
            client.request(&request, Instant::now());
            for byte in std::mem::take(&mut client.out) {
                origin.receive(&[byte], &sent, |_| ())?;
            }
            for byte in std::mem::take(&mut origin.out) {
                client.receive(&[byte], &expected, |_| count += 1)?;
            }
        }
        assert_eq!(client.waiting(), 0);
        Ok(count)
    }

    #[test]
    fn both_ends_understand_each_other_and_check_replies() {
        let trailers = [("grpc-status", "0")];
        assert_eq!(replies(&parts("200", &[]), &parts("200", &[])), Ok(3));
        assert_eq!(replies(&parts("200", &trailers), &parts("200", &trailers)), Ok(3));
        assert!(replies(&parts("200", &[]), &parts("200", &trailers)).is_err());
        assert!(replies(&parts("503", &[]), &parts("200", &[])).is_err());
    }
}
