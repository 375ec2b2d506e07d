//! HTTP filters.

use crate::{Completed, LocalReply, Stream, Work, Worker};
use bytes::Bytes;
use std::rc::Rc;
use std::sync::Arc;

/// Whether more of the message follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// More follows.
    More,
    /// This was the last part.
    Last,
}

impl End {
    /// `Last` if `last`.
    #[inline]
    pub fn when(last: bool) -> End {
        if last { End::Last } else { End::More }
    }

    /// Whether this was the last part.
    #[inline]
    pub fn is_last(self) -> bool {
        self == End::Last
    }
}

/// What a filter answers to headers or trailers.
#[derive(Debug)]
pub enum Step {
    /// On to the next filter (Envoy's `Continue`).
    Next,
    /// The headers stay here; the body still comes to this filter, and the headers go on with the first data hook that
    /// answers [`DataStep::Next`], or with [`Stream::continue_request`] or [`Stream::continue_response`], or before what
    /// [`Stream::send`] sends (Envoy's `StopIteration`).
    Hold,
    /// Answer the request from here (Envoy's `sendLocalReply`). In a response hook it replaces the response, if none of
    /// it was sent yet; otherwise the stream is reset.
    Reply(Box<LocalReply>),
    /// Nothing further comes to this filter in this direction, and the peer is not read, until the work is done; the
    /// outcome of `resume` then counts as the outcome of this hook (Envoy's `StopAllIterationAndWatermark`).
    Await(Work),
}

/// What a filter answers to a piece of the body.
#[derive(Debug)]
pub enum DataStep {
    /// On to the next filter, behind what was held back before.
    Next,
    /// Keep it in the stream's buffer, where [`Stream::request_body`] shows it. A request that grows past the buffer
    /// limit is answered 413, a response 500 (Envoy's `StopIterationAndBuffer`).
    Buffer,
    /// The filter took the chunk itself; nothing goes on (Envoy's `StopIterationNoBuffer`).
    Hold,
    /// As [`Step::Reply`].
    Reply(Box<LocalReply>),
    /// As [`Step::Await`]; the chunk is buffered meanwhile.
    Await(Work),
}

/// A piece of a body. A filter may read it, or put other bytes in its place.
#[derive(Debug, Clone, Default)]
pub struct Chunk(Bytes);

impl Chunk {
    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Puts other bytes in the place of these.
    pub fn replace(&mut self, bytes: Bytes) {
        self.0 = bytes;
    }

    /// Takes the bytes, leaves nothing.
    pub fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.0)
    }

    /// Number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Bytes> for Chunk {
    fn from(bytes: Bytes) -> Self {
        Chunk(bytes)
    }
}

/// One filter of one stream. Every hook has a default that lets the message pass. Hooks are synchronous: a filter that
/// waits for nothing allocates nothing; one that waits returns [`Step::Await`].
///
/// A hook must not block and must not panic: the first would stop a worker, the second ends the connection.
pub trait HttpFilter {
    /// The request line and headers, once. `end` tells whether a body or trailers follow.
    fn request_headers(&mut self, stream: &mut Stream<'_>, end: End) -> Step {
        let _ = (stream, end);
        Step::Next
    }

    /// A piece of the request body, after `request_headers`.
    fn request_data(&mut self, stream: &mut Stream<'_>, data: &mut Chunk, end: End) -> DataStep {
        let _ = (stream, data, end);
        DataStep::Next
    }

    /// The request's trailers, which end it.
    fn request_trailers(&mut self, stream: &mut Stream<'_>) -> Step {
        let _ = stream;
        Step::Next
    }

    /// The status and headers of the response, once; those of a local reply too, whoever made it.
    fn response_headers(&mut self, stream: &mut Stream<'_>, end: End) -> Step {
        let _ = (stream, end);
        Step::Next
    }

    /// A piece of the response body.
    fn response_data(&mut self, stream: &mut Stream<'_>, data: &mut Chunk, end: End) -> DataStep {
        let _ = (stream, data, end);
        DataStep::Next
    }

    /// The response's trailers, which end it.
    fn response_trailers(&mut self, stream: &mut Stream<'_>) -> Step {
        let _ = stream;
        Step::Next
    }

    /// Work that this filter started is done. After [`Step::Await`] the answer stands for the hook that waited; after
    /// [`Stream::background`] or [`Stream::feed`] it must be [`Step::Next`] or [`Step::Reply`].
    fn resume(&mut self, stream: &mut Stream<'_>, done: Completed) -> Step {
        let _ = (stream, done);
        Step::Next
    }

    /// The stream is over, for whatever reason; called once. What is written to metadata here still reaches the log.
    fn finish(&mut self, stream: &mut Stream<'_>) {
        let _ = stream;
    }
}

/// Which hooks a filter has. A hook that is not named is not called, and a body that no filter looks at is passed on
/// without being cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest(u8);

impl Interest {
    /// No hook but `finish`.
    pub const NONE: Interest = Interest(0);
    /// `request_headers`.
    pub const REQUEST_HEADERS: Interest = Interest(1);
    /// `request_data` and `request_trailers`.
    pub const REQUEST_BODY: Interest = Interest(2);
    /// `response_headers`.
    pub const RESPONSE_HEADERS: Interest = Interest(4);
    /// `response_data` and `response_trailers`.
    pub const RESPONSE_BODY: Interest = Interest(8);
    /// All hooks.
    pub const ALL: Interest = Interest(15);

    /// Both.
    pub const fn and(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }

    /// Whether a hook of `other` is among these.
    #[inline]
    pub const fn has(self, other: Interest) -> bool {
        self.0 & other.0 != 0
    }
}

/// Makes filters: one per configured filter, shared by all workers.
pub trait HttpFilterFactory: Send + Sync {
    /// A filter for one stream.
    fn create(&self, worker: &Rc<Worker>) -> Box<dyn HttpFilter>;

    /// The hooks that its filters have. Default all.
    fn interest(&self) -> Interest {
        Interest::ALL
    }
}

/// A place in the filter chain of an HTTP connection manager.
#[derive(Clone)]
pub struct FilterSlot {
    /// The name in the configuration; `typed_per_filter_config` refers to it.
    pub name: Arc<str>,
    /// Makes the filter.
    pub factory: Arc<dyn HttpFilterFactory>,
    /// Off unless a route's `typed_per_filter_config` turns it on (`HttpFilter.disabled`).
    pub disabled: bool,
}

impl std::fmt::Debug for FilterSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FilterSlot").field("name", &self.name).field("disabled", &self.disabled).finish_non_exhaustive()
    }
}
