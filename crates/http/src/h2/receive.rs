//! What the peer's frames do to a connection (RFC 9113 §5 and §6).

use super::error::{ErrorCode, Violation};
use super::frame::{self, FrameHead, HEAD, MAX_FRAME, MAX_WINDOW, PREFACE, flag, kind};
use super::headers::{Reader, Refused, Section, Taken, status};
use super::meter::Flood;
use super::state::{Accepted, Core, give_map, take_map};
use super::stream::{Head, Stream};
use crate::ResetReason;
use nuncio_headers::HeaderMap;
use nuncio_io::buffer::ReadBuffer;

/// A payload of at least this size is handed on as it was received.
const WHOLE_FROM: usize = 8 * 1024;
/// Informational heads of a stream that may wait to be taken.
const MOST_INFORMATIONAL: usize = 16;

/// How far what was received goes.
pub(super) enum Feed {
    /// Something was used.
    Again,
    /// More bytes are needed: so many in all.
    Need(usize),
}

/// A field section of which not all frames have come.
pub(super) struct Block {
    stream: u32,
    last: bool,
    bytes: Vec<u8>,
}

/// A DATA frame of which not all has come.
pub(super) struct Data {
    stream: u32,
    left: usize,
    padding: usize,
    last: bool,
    /// Nobody wants it.
    ignored: bool,
}

impl Core {
    /// Uses the next frame of `input`, or what is there of a DATA frame.
    pub fn feed(&mut self, input: &mut ReadBuffer) -> Result<Feed, Violation> {
        if let Some(data) = self.data.take() {
            return self.feed_data(data, input);
        }
        if self.expects_preface {
            return self.feed_preface(input);
        }
        let Some(head) = FrameHead::parse(input.filled()) else { return Ok(Feed::Need(HEAD)) };
        if head.length > MAX_FRAME {
            return Err(Violation::size("a frame is longer than allowed"));
        }
        if !self.peer.known && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(Violation::protocol("the first frame is not SETTINGS"));
        }
        if let Some(block) = &self.block
            && (head.kind != kind::CONTINUATION || head.stream != block.stream)
        {
            return Err(Violation::protocol("a field section is not continued"));
        }
        if head.kind == kind::DATA {
            return self.begin_data(head, input);
        }
        let whole = HEAD + head.length;
        let Some(payload) = input.filled().get(HEAD..whole) else { return Ok(Feed::Need(whole)) };
        self.frame(head, payload)?;
        input.consume(whole);
        Ok(Feed::Again)
    }

    fn feed_preface(&mut self, input: &mut ReadBuffer) -> Result<Feed, Violation> {
        let have = input.len().min(PREFACE.len());
        if input.filled().get(..have) != PREFACE.get(..have) {
            return Err(Violation::protocol("the connection does not begin with the preface of HTTP/2"));
        }
        if have < PREFACE.len() {
            return Ok(Feed::Need(PREFACE.len()));
        }
        input.consume(PREFACE.len());
        self.expects_preface = false;
        Ok(Feed::Again)
    }

    fn begin_data(&mut self, head: FrameHead, input: &mut ReadBuffer) -> Result<Feed, Violation> {
        if head.stream == 0 {
            return Err(Violation::protocol("DATA without a stream"));
        }
        let mut data = Data {
            stream: head.stream,
            left: head.length,
            padding: 0,
            last: head.has(flag::END_STREAM),
            ignored: false,
        };
        let mut used = HEAD;
        if head.has(flag::PADDED) {
            if head.length == 0 {
                return Err(Violation::size("DATA is too short for its padding"));
            }
            let Some(padding) = input.filled().get(HEAD) else { return Ok(Feed::Need(HEAD + 1)) };
            data.padding = usize::from(*padding);
            data.left = (head.length - 1)
                .checked_sub(data.padding)
                .ok_or(Violation::protocol("the padding is longer than the frame"))?;
            used += 1;
        }
        input.consume(used);
        self.credit.message_frame(head, data.left)?;
        self.receive_window -= head.length as i64;
        if self.receive_window < 0 {
            return Err(Violation::new(ErrorCode::FLOW_CONTROL_ERROR, "more data than the connection's window"));
        }
        data.ignored = !self.takes_data(head)?;
        let around = head.length - data.left;
        match self.ids.get(&head.stream) {
            Some(key) if !data.ignored && around > 0 => self.release(*key, around),
            _ => self.release_connection(around),
        }
        if data.left == 0 {
            self.data_arrived(&data, input, 0)?;
        }
        if data.left > 0 || data.padding > 0 {
            self.data = Some(data);
        }
        Ok(Feed::Again)
    }

    /// Whether the stream takes the frame.
    fn takes_data(&mut self, head: FrameHead) -> Result<bool, Violation> {
        let server = self.server;
        let Some((_, stream)) = self.on_wire(head.stream) else {
            if self.is_idle(head.stream) {
                return Err(Violation::protocol("DATA of a stream that was not opened"));
            }
            if !self.was_reset(head.stream) && !self.is_unserved(head.stream) {
                self.fault(head.stream, ErrorCode::STREAM_CLOSED)?;
            }
            return Ok(false);
        };
        if stream.receive.ended {
            self.fault(head.stream, ErrorCode::STREAM_CLOSED)?;
            return Ok(false);
        }
        if !server && !stream.receive.has_head {
            self.fault(head.stream, ErrorCode::PROTOCOL_ERROR)?;
            return Ok(false);
        }
        stream.receive.window -= head.length as i64;
        if stream.receive.window < 0 {
            self.fault(head.stream, ErrorCode::FLOW_CONTROL_ERROR)?;
            return Ok(false);
        }
        Ok(true)
    }

    fn feed_data(&mut self, mut data: Data, input: &mut ReadBuffer) -> Result<Feed, Violation> {
        if input.is_empty() {
            self.data = Some(data);
            return Ok(Feed::Need(1));
        }
        if data.left > 0 {
            let count = data.left.min(input.len());
            data.left -= count;
            self.data_arrived(&data, input, count)?;
        } else {
            let count = data.padding.min(input.len());
            data.padding -= count;
            input.consume(count);
        }
        if data.left > 0 || data.padding > 0 {
            self.data = Some(data);
        }
        Ok(Feed::Again)
    }

    /// Gives the stream the first `count` bytes of `input`.
    fn data_arrived(&mut self, data: &Data, input: &mut ReadBuffer, count: usize) -> Result<(), Violation> {
        let last = data.last && data.left == 0;
        let found = if data.ignored { None } else { self.on_wire(data.stream) };
        let Some((key, stream)) = found else {
            input.consume(count);
            self.release_connection(count);
            return Ok(());
        };
        if !stream.receive.count_body(count, last) {
            input.consume(count);
            self.release_connection(count);
            return self.wrong_length(data.stream);
        }
        if count >= WHOLE_FROM {
            stream.receive.push(input.take(0, count));
        } else if count > 0 {
            stream.receive.gather(input.filled().get(..count).unwrap_or_default());
            input.consume(count);
        }
        stream.receive.ended |= last;
        stream.wake_receive();
        if last {
            self.end_if_over(key);
        }
        Ok(())
    }

    fn frame(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Violation> {
        self.credit.other_frame(head.kind)?;
        match head.kind {
            kind::HEADERS => self.on_headers(head, payload),
            kind::CONTINUATION => self.on_continuation(head, payload),
            kind::PRIORITY => on_priority(head, payload),
            kind::RST_STREAM => self.on_reset(head, payload),
            kind::SETTINGS => self.on_settings(head, payload),
            kind::PUSH_PROMISE => Err(Violation::protocol("PUSH_PROMISE, which nobody asked for")),
            kind::PING => self.on_ping(head, payload),
            kind::GOAWAY => self.on_goaway(head, payload),
            kind::WINDOW_UPDATE => self.on_window_update(head, payload),
            _ => Ok(self.credit.useless_frame()?),
        }
    }

    /// Whether no such stream was ever opened.
    fn is_idle(&self, id: u32) -> bool {
        let from_client = id % 2 == 1;
        match (self.server, from_client) {
            (true, true) => id > self.last_received,
            (false, true) => id >= self.next_id,
            // Nothing is pushed, so these don't exist.
            (_, false) => true,
        }
    }

    /// Whether the client was told that this stream is not served. What it had sent before it knew is no fault.
    fn is_unserved(&self, id: u32) -> bool {
        self.last_served.is_some_and(|last| id > last)
    }

    /// Resets a stream for what the peer did with it.
    fn fault(&mut self, id: u32, code: ErrorCode) -> Result<(), Violation> {
        self.send_reset(id, code);
        if let Some(key) = self.ids.get(&id).copied() {
            self.end_stream(key, ResetReason::ProtocolError);
        }
        // Of an upstream the number of requests bounds them.
        if !self.server || self.credit.fault() {
            return Ok(());
        }
        Err(Violation::new(ErrorCode::ENHANCE_YOUR_CALM, "too many streams had to be reset"))
    }

    /// A message is malformed (RFC 9113 §8.1.1): ends its stream, or with `override_stream_error_on_invalid_http_message`
    /// off, the connection.
    fn malformed(&mut self, id: u32) -> Result<(), Violation> {
        self.meter.note_malformed();
        if self.limits.stream_error_on_invalid_message {
            return self.fault(id, ErrorCode::PROTOCOL_ERROR);
        }
        Err(Violation::protocol("a message is malformed"))
    }

    /// A body is not as long as was said: that ends its stream only, as in Envoy.
    fn wrong_length(&mut self, id: u32) -> Result<(), Violation> {
        self.meter.note_malformed();
        self.fault(id, ErrorCode::PROTOCOL_ERROR)
    }

    fn on_headers(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Violation> {
        if head.stream == 0 {
            return Err(Violation::protocol("HEADERS without a stream"));
        }
        let mut fragment = payload;
        let mut padding = 0;
        if head.has(flag::PADDED) {
            let (first, rest) = fragment.split_first().ok_or(Violation::size("HEADERS is too short"))?;
            (padding, fragment) = (usize::from(*first), rest);
        }
        if head.has(flag::PRIORITY) {
            let (priority, rest) = fragment.split_first_chunk::<5>().ok_or(Violation::size("HEADERS is too short"))?;
            check_dependency(head.stream, priority)?;
            fragment = rest;
        }
        let length =
            fragment.len().checked_sub(padding).ok_or(Violation::protocol("the padding is longer than the frame"))?;
        let fragment = fragment.get(..length).unwrap_or_default();
        self.credit.message_frame(head, length)?;
        let last = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.section(head.stream, last, fragment);
        }
        self.block = Some(Block { stream: head.stream, last, bytes: fragment.to_vec() });
        Ok(())
    }

    fn on_continuation(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Violation> {
        let Some(mut block) = self.block.take() else {
            return Err(Violation::protocol("CONTINUATION of nothing"));
        };
        self.credit.message_frame(FrameHead { flags: 0, ..head }, payload.len())?;
        // What is a little too large is decoded and refused by itself; beyond that the connection ends, because the table
        // would be out of step.
        let most = (self.rules.heaviest as usize).saturating_mul(4).saturating_add(MAX_FRAME);
        if block.bytes.len() + payload.len() > most {
            return Err(Violation::new(ErrorCode::ENHANCE_YOUR_CALM, "a field section is far longer than allowed"));
        }
        block.bytes.extend_from_slice(payload);
        if head.has(flag::END_HEADERS) {
            return self.section(block.stream, block.last, &block.bytes);
        }
        self.block = Some(block);
        Ok(())
    }

    /// A whole field section has come.
    fn section(&mut self, id: u32, last: bool, block: &[u8]) -> Result<(), Violation> {
        let server = self.server;
        let Some((_, stream)) = self.on_wire(id) else {
            return if server { self.open(id, last, block) } else { self.late_section(id, block) };
        };
        if stream.receive.ended {
            self.skip(block)?;
            return self.fault(id, ErrorCode::STREAM_CLOSED);
        }
        if server || stream.receive.has_head {
            return self.trailers(id, last, block);
        }
        self.response(id, last, block)
    }

    /// Decodes a section that nobody wants, for the table's sake.
    fn skip(&mut self, block: &[u8]) -> Result<(), Violation> {
        self.decoder.decode(block, |_| {}).map_err(|_| COMPRESSION)
    }

    fn read(
        &mut self,
        section: Section,
        block: &[u8],
        into: &mut HeaderMap,
    ) -> Result<Result<Taken, Refused>, Violation> {
        let mut reader = Reader::new(section, self.rules, into);
        self.decoder.decode(block, |field| reader.line(field)).map_err(|_| COMPRESSION)?;
        Ok(reader.finish())
    }

    /// Fields of a stream that this side gave up.
    fn late_section(&mut self, id: u32, block: &[u8]) -> Result<(), Violation> {
        if self.is_idle(id) {
            return Err(Violation::protocol("HEADERS of a stream that was not opened"));
        }
        self.skip(block)?;
        if !self.was_reset(id) {
            self.credit.useless_frame()?;
        }
        Ok(())
    }

    /// A client opens a stream.
    fn open(&mut self, id: u32, last: bool, block: &[u8]) -> Result<(), Violation> {
        if id.is_multiple_of(2) {
            return Err(Violation::protocol("a client's stream has an even number"));
        }
        if id <= self.last_received {
            self.skip(block)?;
            return match self.was_reset(id) || self.is_unserved(id) {
                true => Ok(()),
                false if id == self.last_received => {
                    Err(Violation::new(ErrorCode::STREAM_CLOSED, "HEADERS of a stream that is over"))
                }
                false => Err(Violation::protocol("streams are not opened in order")),
            };
        }
        self.last_received = id;
        self.credit.stream_opened();
        if self.last_served.is_some() || self.over {
            // It was told that this stream is not served.
            return self.skip(block);
        }
        let most = self.limits.max_streams as usize;
        if self.ids.len() >= most || self.streams.len() >= most.saturating_mul(2).saturating_add(128) {
            self.skip(block)?;
            self.send_reset(id, ErrorCode::REFUSED_STREAM);
            return Ok(());
        }
        let mut headers = take_map();
        let mut taken = self.read(Section::Request, block, &mut headers)?;
        let mut stream = Stream::new(id, self.limits.stream_window, self.peer.initial_window);
        if let Ok(head) = &taken {
            stream.receive.length_left = head.length;
            if !self.meter.has_room_for(u64::from(head.weight)) {
                taken = Err(Refused::NoRoom);
            } else if last && !stream.receive.count_body(0, true) {
                taken = Err(Refused::Malformed);
            }
        }
        stream.receive.ended = last;
        if taken.is_err_and(|refused| refused == Refused::Malformed) && !self.limits.stream_error_on_invalid_message {
            self.violation = Some(Violation::protocol("a request is malformed"));
        }
        let key = self.streams.insert(stream);
        self.ids.insert(id, key);
        self.accepted.push_back(Accepted { key, headers, taken, last });
        Ok(())
    }

    fn trailers(&mut self, id: u32, last: bool, block: &[u8]) -> Result<(), Violation> {
        let mut trailers = take_map();
        let taken = self.read(Section::Trailers, block, &mut trailers)?;
        let Some((key, stream)) = self.on_wire(id) else { return Ok(()) };
        let fits = last && taken.is_ok() && stream.receive.count_body(0, true);
        if !fits {
            give_map(trailers);
            return match taken {
                Err(refused) if refused != Refused::Malformed => self.fault(id, ErrorCode::PROTOCOL_ERROR),
                Ok(_) if last => self.wrong_length(id),
                _ => self.malformed(id),
            };
        }
        stream.receive.trailers = Some(trailers);
        stream.receive.ended = true;
        stream.wake_receive();
        self.end_if_over(key);
        Ok(())
    }

    /// A head of a response: informational, or the final one.
    fn response(&mut self, id: u32, last: bool, block: &[u8]) -> Result<(), Violation> {
        let mut headers = take_map();
        let taken = self.read(Section::Response, block, &mut headers)?;
        let (taken, status) = match (taken, status(&headers)) {
            // RFC 9113 §8.6: "HTTP/2 does not support the 101 (Switching Protocols) informational status code".
            (Ok(taken), Some(status)) if status != 101 && !(last && status < 200) => (taken, status),
            (Ok(_) | Err(Refused::Malformed), _) => return self.malformed(id),
            (Err(_), _) => return self.fault(id, ErrorCode::PROTOCOL_ERROR),
        };
        let Some((key, stream)) = self.on_wire(id) else { return Ok(()) };
        // RFC 9110 §6.4.1: what a response has no content for, and RFC 9113 §8.1.1: what it has as much of as it says.
        let bodiless = stream.bodiless || status == 304 || status == 204;
        let tunnel = stream.tunnel && (200..300).contains(&status);
        if last && !bodiless && !tunnel && taken.length.is_some_and(|length| length > 0) {
            return self.malformed(id);
        }
        let head = Head { headers, taken, status, last };
        if status < 200 {
            if stream.receive.informational.len() >= MOST_INFORMATIONAL {
                return self.fault(id, ErrorCode::ENHANCE_YOUR_CALM);
            }
            stream.receive.informational.push_back(head);
            stream.wake_receive();
            return Ok(());
        }
        stream.receive.has_head = true;
        stream.receive.length_left = match taken.length {
            _ if last || tunnel => None,
            _ if bodiless => Some(0),
            length => length,
        };
        stream.receive.head = Some(head);
        stream.receive.ended = last;
        stream.wake_receive();
        self.end_if_over(key);
        Ok(())
    }

    fn on_reset(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Violation> {
        let code = u32::from_be_bytes(payload.try_into().map_err(|_| Violation::size("RST_STREAM is not four bytes"))?);
        if head.stream == 0 || self.is_idle(head.stream) {
            return Err(Violation::protocol("RST_STREAM of a stream that was not opened"));
        }
        self.meter.note_reset_received();
        match self.ids.get(&head.stream).copied() {
            Some(key) => {
                self.end_stream(key, ErrorCode(code).remote_reset());
                Ok(())
            }
            None => Ok(self.credit.useless_frame()?),
        }
    }

    fn on_ping(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Violation> {
        let payload = payload.try_into().map_err(|_| Violation::size("PING is not eight bytes"))?;
        if head.stream != 0 {
            return Err(Violation::protocol("PING of a stream"));
        }
        if head.has(flag::ACK) {
            return if self.pong(payload) { Ok(()) } else { Ok(self.credit.useless_frame()?) };
        }
        frame::write_ping(payload, true, self.output.frame());
        self.output.count_answer();
        Ok(())
    }

    fn on_goaway(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Violation> {
        let (last, _) = payload.split_first_chunk::<8>().ok_or(Violation::size("GOAWAY is too short"))?;
        if head.stream != 0 {
            return Err(Violation::protocol("GOAWAY of a stream"));
        }
        if self.meter.goaway_received() {
            self.credit.useless_frame()?;
        }
        let [s0, s1, s2, s3, ..] = *last;
        self.take_goaway(u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff);
        Ok(())
    }

    fn on_window_update(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Violation> {
        let more =
            u32::from_be_bytes(payload.try_into().map_err(|_| Violation::size("WINDOW_UPDATE is not four bytes"))?);
        let more = i64::from(more & 0x7fff_ffff);
        if head.stream == 0 {
            if more == 0 {
                return Err(Violation::protocol("WINDOW_UPDATE of nothing"));
            }
            self.send_window += more;
            if self.send_window > MAX_WINDOW {
                return Err(Violation::new(ErrorCode::FLOW_CONTROL_ERROR, "the connection's window is too large"));
            }
            self.pass_turn();
            return Ok(());
        }
        if self.is_idle(head.stream) {
            return Err(Violation::protocol("WINDOW_UPDATE of a stream that was not opened"));
        }
        let Some((_, stream)) = self.on_wire(head.stream) else { return Ok(()) };
        stream.send_window += more;
        if more == 0 {
            return self.fault(head.stream, ErrorCode::PROTOCOL_ERROR);
        }
        if stream.send_window > MAX_WINDOW {
            return self.fault(head.stream, ErrorCode::FLOW_CONTROL_ERROR);
        }
        if stream.send_window > 0 {
            stream.wake_send();
        }
        Ok(())
    }

    /// Whether the peer passed the limit of answers that may wait for it.
    pub fn check_answers(&self) -> Result<(), Violation> {
        if self.output.answers() > self.limits.max_answers { Err(Flood::Control.into()) } else { Ok(()) }
    }
}

const COMPRESSION: Violation =
    Violation { code: ErrorCode::COMPRESSION_ERROR, what: "a field section can't be decoded", flood: None };

/// RFC 9113 §5.3.1: a stream can't depend on itself.
fn check_dependency(stream: u32, priority: &[u8; 5]) -> Result<(), Violation> {
    let [a, b, c, d, _] = *priority;
    match u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff == stream {
        true => Err(Violation::protocol("a stream depends on itself")),
        false => Ok(()),
    }
}

fn on_priority(head: FrameHead, payload: &[u8]) -> Result<(), Violation> {
    if head.stream == 0 {
        return Err(Violation::protocol("PRIORITY without a stream"));
    }
    check_dependency(head.stream, &payload.try_into().map_err(|_| Violation::size("PRIORITY is not five bytes"))?)
}
