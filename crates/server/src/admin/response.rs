//! What an endpoint answers.

use crate::state::Request;
use nuncio_stats::render::Scrape;

/// Bytes that are made and sent at a time.
pub(super) const PIECE: usize = 32 * 1024;

pub(super) const TEXT: &str = "text/plain; charset=UTF-8";
pub(super) const JSON: &str = "application/json";
pub(super) const HTML: &str = "text/html; charset=UTF-8";

/// An answer.
pub(super) struct Response {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Body,
    /// What is asked of the process once the answer was sent.
    pub after: Option<Request>,
}

/// The body of an answer.
pub(super) enum Body {
    Whole(Vec<u8>),
    /// Made piece by piece, as the client takes it.
    Pieces(Box<dyn Pieces>),
}

/// A body that is made piece by piece.
pub(super) trait Pieces {
    /// Appends the next piece, of about [`PIECE`] bytes; false if that was the last one. May append nothing although there is more.
    fn fill(&mut self, out: &mut Vec<u8>) -> bool;
}

impl Pieces for Scrape {
    fn fill(&mut self, out: &mut Vec<u8>) -> bool {
        Scrape::fill(self, out, PIECE)
    }
}

impl Response {
    pub(super) fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Response {
        Response { status, content_type, body: Body::Whole(body.into()), after: None }
    }

    /// 200 with a text.
    pub(super) fn text(body: impl Into<Vec<u8>>) -> Response {
        Response::new(200, TEXT, body)
    }

    /// 200 with JSON.
    pub(super) fn json(body: impl Into<Vec<u8>>) -> Response {
        Response::new(200, JSON, body)
    }

    /// 200 with `OK`.
    pub(super) fn ok() -> Response {
        Response::text("OK\n")
    }

    /// 400 with a text.
    pub(super) fn bad_request(body: impl Into<Vec<u8>>) -> Response {
        Response::new(400, TEXT, body)
    }

    /// 200 with a body that is made piece by piece.
    pub(super) fn pieces(content_type: &'static str, pieces: impl Pieces + 'static) -> Response {
        Response { status: 200, content_type, body: Body::Pieces(Box::new(pieces)), after: None }
    }

    /// Asks something of the process once the answer was sent.
    pub(super) fn then(mut self, request: Request) -> Response {
        self.after = Some(request);
        self
    }
}
