//! Holding a request until it is complete.

use nuncio_filter::{Chunk, DataStep, End, HttpFilter, HttpFilterFactory, Interest, Step, Stream, Worker};
use nuncio_headers::Known;
use std::rc::Rc;

/// Makes buffers.
pub(super) struct BufferFactory {
    pub max_request_bytes: usize,
}

/// What a route says.
pub(super) struct RouteBuffer {
    /// Another limit; none turns the filter off.
    pub max_request_bytes: Option<usize>,
}

impl HttpFilterFactory for BufferFactory {
    fn create(&self, _worker: &Rc<Worker>) -> Box<dyn HttpFilter> {
        Box::new(BufferFilter { limit: self.max_request_bytes, active: false })
    }

    fn interest(&self) -> Interest {
        Interest::REQUEST_HEADERS.and(Interest::REQUEST_BODY)
    }
}

pub(super) struct BufferFilter {
    pub limit: usize,
    /// A body is expected.
    pub active: bool,
}

impl HttpFilter for BufferFilter {
    fn request_headers(&mut self, stream: &mut Stream<'_>, end: End) -> Step {
        if let Some(route) = stream.per_route::<RouteBuffer>() {
            match route.max_request_bytes {
                Some(limit) => self.limit = limit,
                None => return Step::Next,
            }
        }
        if end.is_last() {
            return Step::Next;
        }
        self.active = true;
        stream.state.buffer_limit = self.limit;
        Step::Hold
    }

    fn request_data(&mut self, stream: &mut Stream<'_>, data: &mut Chunk, end: End) -> DataStep {
        if !self.active {
            return DataStep::Next;
        }
        if !end.is_last() {
            return DataStep::Buffer;
        }
        let length = stream.request_body().len() + data.len();
        if length > self.limit {
            // The stream's buffer, whose limit is the same, refuses it.
            return DataStep::Buffer;
        }
        set_length(stream, length);
        DataStep::Next
    }

    fn request_trailers(&mut self, stream: &mut Stream<'_>) -> Step {
        if self.active {
            let length = stream.request_body().len();
            set_length(stream, length);
        }
        Step::Next
    }
}

/// The length is known now: the upstream is told it.
fn set_length(stream: &mut Stream<'_>, length: usize) {
    if !stream.request.has(Known::CONTENT_LENGTH) {
        stream.request.set_known(Known::CONTENT_LENGTH, length.to_string().as_bytes());
    }
}
