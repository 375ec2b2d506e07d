//! The requests that the load sends and the replies of the origin: fixed bytes, small, with one header or with twelve, or a call
//! of gRPC.

use std::fmt::Write;

use super::http2::{Field, Parts};

/// Length of every reply's body: with one header the whole reply is 150 bytes.
pub const BODY: usize = 110;

/// How many headers request and reply have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The one that HTTP/1.1 demands: `host`, and `content-length` in the reply.
    One,
    /// What a browser sends and an application answers.
    Twelve,
    /// A unary call of gRPC, over HTTP/2 only: a message of 64 bytes each way, and trailers.
    Unary,
}

/// A message of gRPC with its frame: not compressed, 64 bytes.
fn grpc_message() -> Vec<u8> {
    [&[0, 0, 0, 0, 64][..], &[b'm'; 64]].concat()
}

impl Shape {
    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "1 header",
            Self::Twelve => "12 headers",
            Self::Unary => "unary, messages of 64 bytes",
        }
    }
}

/// What to ask for.
#[derive(Clone, Debug)]
pub struct Request {
    pub host: String,
    pub path: String,
    pub shape: Shape,
}

impl Request {
    /// `/` of any host.
    pub fn plain(shape: Shape) -> Self {
        Self { host: "bench.test".into(), path: "/".into(), shape }
    }

    /// The bytes to send.
    pub fn bytes(&self) -> Vec<u8> {
        let mut text = format!("GET {} HTTP/1.1\r\nHost: {}\r\n", self.path, self.host);
        if self.shape == Shape::Twelve {
            text.push_str(REQUEST_HEADERS);
        }
        text.push_str("\r\n");
        text.into_bytes()
    }

    /// The bytes that the origin answers.
    pub fn reply(&self) -> Vec<u8> {
        let mut text = String::from("HTTP/1.1 200 OK\r\n");
        // Writing to a string can't fail.
        let _ = write!(text, "content-length: {BODY}\r\n");
        if self.shape == Shape::Twelve {
            text.push_str(REPLY_HEADERS);
        }
        text.push_str("\r\n");
        text.push_str(&"x".repeat(BODY));
        text.into_bytes()
    }
}

impl Request {
    /// The request over HTTP/2.
    pub fn http2_request(&self) -> Parts {
        let method = if self.shape == Shape::Unary { "POST" } else { "GET" };
        let path = if self.shape == Shape::Unary { "/bench.Echo/Unary" } else { &self.path };
        let pseudo = [(":method", method), (":scheme", "http"), (":authority", &self.host), (":path", path)];
        let head = pseudo.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (more, body) = match self.shape {
            Shape::One => (Vec::new(), Vec::new()),
            Shape::Twelve => (fields(REQUEST_HEADERS), Vec::new()),
            Shape::Unary => (fields(CALL_HEADERS), grpc_message()),
        };
        Parts { head: head.into_iter().chain(more).collect(), body, trailers: Vec::new() }
    }

    /// The reply over HTTP/2.
    pub fn http2_reply(&self) -> Parts {
        let status = fields(":status: 200\r\n");
        let length = (String::from("content-length"), BODY.to_string());
        let body = vec![b'x'; BODY];
        match self.shape {
            Shape::One => Parts { head: [status, vec![length]].concat(), body, trailers: Vec::new() },
            Shape::Twelve => {
                Parts { head: [status, vec![length], fields(REPLY_HEADERS)].concat(), body, trailers: Vec::new() }
            }
            Shape::Unary => Parts {
                head: [status, fields("content-type: application/grpc\r\n")].concat(),
                body: grpc_message(),
                trailers: fields("grpc-status: 0\r\ngrpc-message: \r\n"),
            },
        }
    }
}

fn fields(lines: &str) -> Vec<Field> {
    // The first character may be the colon of a pseudo header.
    let field = |line: &str| {
        let colon = line.get(1..)?.find(':')? + 1;
        Some((line[..colon].to_ascii_lowercase(), line[colon + 1..].trim().to_owned()))
    };
    lines.lines().filter_map(field).collect()
}

const CALL_HEADERS: &str = "content-type: application/grpc\r\n\
te: trailers\r\n\
user-agent: grpc-go/1.76.0\r\n\
grpc-timeout: 10S\r\n\
grpc-accept-encoding: gzip\r\n";

const REQUEST_HEADERS: &str = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
Accept-Language: en-US,en;q=0.5\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Cookie: session=4fb2e6a09cd14ab5; theme=dark\r\n\
Referer: http://bench.test/index.html\r\n\
Cache-Control: no-cache\r\n\
Pragma: no-cache\r\n\
DNT: 1\r\n\
X-Tenant: blue\r\n\
Sec-Fetch-Mode: navigate\r\n";

const REPLY_HEADERS: &str = "content-type: application/json\r\n\
cache-control: private, max-age=0\r\n\
etag: \"5f1c-61d2a9\"\r\n\
last-modified: Tue, 14 Jul 2026 08:00:00 GMT\r\n\
vary: accept-encoding\r\n\
x-content-type-options: nosniff\r\n\
x-frame-options: DENY\r\n\
strict-transport-security: max-age=31536000\r\n\
set-cookie: seen=1; Path=/; HttpOnly\r\n\
x-version: 2026.7.1\r\n\
x-cache: miss\r\n";

#[cfg(test)]
mod tests {
    use super::{Request, Shape};

    #[test]
    fn headers_are_as_many_as_the_shape_says() {
        let check = |shape, expected| {
            let request = Request::plain(shape);
            for bytes in [request.bytes(), request.reply()] {
                let text = String::from_utf8(bytes).unwrap();
                let head = text.split_once("\r\n\r\n").unwrap().0;
                assert_eq!(head.lines().count() - 1, expected, "{head}");
            }
        };
        let call = Request::plain(Shape::Unary);
        assert_eq!(call.http2_reply().trailers[0], ("grpc-status".to_owned(), "0".to_owned()));
        assert_eq!(call.http2_reply().head[0], (":status".to_owned(), "200".to_owned()));
        assert_eq!(call.http2_request().head.len(), 4 + 5);
        assert_eq!(Request::plain(Shape::Twelve).http2_request().head.len(), 4 + 11);
        check(Shape::One, 1);
        check(Shape::Twelve, 12);
        assert_eq!(Request::plain(Shape::One).reply().len(), 150);
    }
}
