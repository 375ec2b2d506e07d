//! Reading HTTP/1 messages leniently from a blocking stream, for clients and origins of tests. It records what is on the
//! wire, including what no proxy should have sent; it judges nothing.

use std::io::{self, ErrorKind, Read};

/// Header or trailer lines in order, with the spelling of the wire.
pub type Fields = Vec<(String, String)>;

/// A start line with its header lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The request or status line, without its line end.
    pub start: String,
    /// The header lines.
    pub fields: Fields,
}

impl Head {
    /// The first value of a header, its name compared without regard to case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Word `index` of the start line.
    pub fn word(&self, index: usize) -> &str {
        self.start.split(' ').nth(index).unwrap_or_default()
    }

    /// The status of a response, 0 when there is none.
    pub fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or(0)
    }

    fn is_chunked(&self) -> bool {
        self.get("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked"))
    }

    fn content_length(&self) -> Option<usize> {
        self.get("content-length")?.trim().parse().ok()
    }

    /// How the body of a request is delimited.
    pub fn request_framing(&self) -> Framing {
        match self.content_length() {
            _ if self.is_chunked() => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::Length(0),
        }
    }

    /// How the body of a response is delimited (RFC 9112 section 6.3).
    pub fn response_framing(&self, to_head: bool) -> Framing {
        match (self.status(), self.content_length()) {
            (100..200 | 204 | 304, _) => Framing::Length(0),
            _ if to_head => Framing::Length(0),
            _ if self.is_chunked() => Framing::Chunked,
            (_, Some(length)) => Framing::Length(length),
            (_, None) => Framing::UntilClose,
        }
    }
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes.
    Length(usize),
    /// After the last chunk and its trailers.
    Chunked,
    /// When the sender closes.
    UntilClose,
}

/// How reading ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// The message, or the whole stream where that delimits it, was read.
    #[default]
    Complete,
    /// The peer closed too early.
    Closed,
    /// The peer reset the connection.
    Reset,
    /// Nothing came for the patience of the stream.
    TimedOut,
}

/// A body with its trailers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// The payload, chunk framing removed.
    pub data: Vec<u8>,
    /// The trailer lines.
    pub trailers: Fields,
    /// How it ended.
    pub end: End,
}

/// A stream with what was read from it and not yet used.
pub struct Wire<S> {
    /// The stream itself, for writing.
    pub stream: S,
    buffer: Vec<u8>,
}

impl<S: Read> Wire<S> {
    /// Starts with nothing read.
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Reads a head. `Err` tells how the stream ended before there was one, with the bytes that had come.
    pub fn head(&mut self) -> Result<Head, (End, Vec<u8>)> {
        loop {
            if let Some(length) = head_length(&self.buffer) {
                let bytes: Vec<u8> = self.buffer.drain(..length).collect();
                return Ok(parse_head(&bytes));
            }
            if let Err(end) = self.fill() {
                return Err((end, std::mem::take(&mut self.buffer)));
            }
        }
    }

    /// Reads a body; a failure is told by [`Body::end`], with what had come until then.
    pub fn body(&mut self, framing: Framing) -> Body {
        let mut body = Body::default();
        body.end = match framing {
            Framing::Length(length) => self.exactly(length, &mut body.data),
            Framing::UntilClose => self.rest(&mut body.data),
            Framing::Chunked => self.chunks(&mut body),
        };
        body
    }

    /// Reads exactly `length` bytes into `into`, fewer when the stream ends.
    pub fn exactly(&mut self, length: usize, into: &mut Vec<u8>) -> End {
        let mut missing = length;
        while missing > 0 {
            if self.buffer.is_empty()
                && let Err(end) = self.fill()
            {
                return end;
            }
            let taken = missing.min(self.buffer.len());
            into.extend(self.buffer.drain(..taken));
            missing -= taken;
        }
        End::Complete
    }

    /// Reads until the peer closes, which is what completes it.
    pub fn rest(&mut self, into: &mut Vec<u8>) -> End {
        loop {
            into.append(&mut self.buffer);
            match self.fill() {
                Ok(()) => {}
                Err(End::Closed) => return End::Complete,
                Err(end) => return end,
            }
        }
    }

    /// Bytes that were read and belong to nothing yet.
    pub fn buffered(&self) -> &[u8] {
        &self.buffer
    }

    /// Takes the bytes that were read and belong to nothing yet.
    pub fn take_buffered(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    fn chunks(&mut self, body: &mut Body) -> End {
        loop {
            let size = match self.line() {
                Ok(line) => usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16),
                Err(end) => return end,
            };
            let end = match size {
                Ok(0) => return self.trailers(body),
                Ok(size) => self.exactly(size, &mut body.data),
                Err(_) => End::Closed,
            };
            if end != End::Complete {
                return end;
            }
            if let Err(end) = self.line() {
                return end;
            }
        }
    }

    fn trailers(&mut self, body: &mut Body) -> End {
        loop {
            match self.line() {
                Ok(line) if line.is_empty() => return End::Complete,
                Ok(line) => body.trailers.push(parse_field(&line)),
                Err(end) => return end,
            }
        }
    }

    fn line(&mut self) -> Result<String, End> {
        loop {
            if let Some(at) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=at).collect();
                return Ok(text(&line).trim_end_matches(['\r', '\n']).to_owned());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<(), End> {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(End::Closed),
                Ok(count) => {
                    self.buffer.extend_from_slice(&chunk[..count]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(end_of(&error)),
            }
        }
    }
}

fn end_of(error: &io::Error) -> End {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => End::TimedOut,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => End::Reset,
        _ => End::Closed,
    }
}

/// The bytes as text; what is not UTF-8 is replaced.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn head_length(bytes: &[u8]) -> Option<usize> {
    let mut start = 0;
    while let Some(at) = bytes[start..].iter().position(|&byte| byte == b'\n') {
        let line = &bytes[start..start + at];
        start += at + 1;
        if matches!(line, b"" | b"\r") && start > 2 {
            return Some(start);
        }
    }
    None
}

fn parse_head(bytes: &[u8]) -> Head {
    let text = text(bytes);
    let mut lines = text.trim_start_matches(['\r', '\n']).lines();
    let start = lines.next().unwrap_or_default().to_owned();
    Head { start, fields: lines.take_while(|line| !line.is_empty()).map(parse_field).collect() }
}

fn parse_field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (name.to_owned(), value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(wire: &str) -> (Head, Body) {
        let mut wire = Wire::new(wire.as_bytes());
        let head = wire.head().unwrap();
        let body = wire.body(head.response_framing(false));
        (head, body)
    }

    #[test]
    fn a_chunked_response_with_trailers() {
        let (head, body) =
            read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\na: b\r\n\r\n");
        assert_eq!((head.status(), text(&body.data), body.end), (200, "abcde".into(), End::Complete));
        assert_eq!(body.trailers, [("a".to_owned(), "b".to_owned())]);
    }

    #[test]
    fn a_truncated_body_is_told() {
        let (_, body) = read("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc");
        assert_eq!((text(&body.data), body.end), ("abc".into(), End::Closed));
    }
}
