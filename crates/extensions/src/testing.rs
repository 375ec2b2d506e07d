//! A stream to call hooks with in tests: a filter test is a function call.

use nuncio_filter::{Runtime, Stream, StreamState, Worker};
use nuncio_headers::HeaderMap;
use nuncio_stream_info::StreamInfo;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

pub(crate) struct TestStream {
    pub request: HeaderMap,
    pub request_trailers: HeaderMap,
    pub response: HeaderMap,
    pub response_trailers: HeaderMap,
    pub info: StreamInfo,
    pub worker: Rc<Worker>,
    pub state: StreamState,
}

impl TestStream {
    pub(crate) fn new() -> TestStream {
        TestStream::with_runtime(Runtime::default())
    }

    pub(crate) fn with_runtime(runtime: Runtime) -> TestStream {
        let worker = Worker::new(1, 7, Arc::new(runtime));
        TestStream {
            request: HeaderMap::new(),
            request_trailers: HeaderMap::new(),
            response: HeaderMap::new(),
            response_trailers: HeaderMap::new(),
            info: StreamInfo::new(worker.now(), SystemTime::UNIX_EPOCH),
            worker,
            state: StreamState::default(),
        }
    }

    pub(crate) fn stream(&mut self) -> Stream<'_> {
        Stream {
            request: &mut self.request,
            request_trailers: &mut self.request_trailers,
            response: &mut self.response,
            response_trailers: &mut self.response_trailers,
            info: &mut self.info,
            worker: &self.worker,
            state: &mut self.state,
        }
    }
}
