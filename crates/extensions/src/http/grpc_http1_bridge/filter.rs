//! Holding a response until its trailers tell how the call went.

use super::super::grpc::{FRAME_HEADER, path};
use bytes::{Bytes, BytesMut};
use nuncio_filter::{Chunk, DataStep, End, HttpFilter, HttpFilterFactory, Interest, Step, Stream, Worker};
use nuncio_headers::Known;
use nuncio_stream_info::Protocol;
use std::rc::Rc;

/// What a bridge does beyond bridging.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct BridgeOptions {
    /// `upgrade_protobuf_to_grpc`: plain protobuf messages become gRPC calls.
    pub upgrade_protobuf: bool,
    /// `ignore_query_parameters`.
    pub ignore_query: bool,
}

/// Makes bridges.
pub(super) struct BridgeFactory {
    pub options: BridgeOptions,
}

impl HttpFilterFactory for BridgeFactory {
    fn create(&self, _worker: &Rc<Worker>) -> Box<dyn HttpFilter> {
        Box::new(Bridge::new(self.options))
    }

    fn interest(&self) -> Interest {
        Interest::ALL
    }
}

#[derive(Default)]
pub(super) struct Bridge {
    options: BridgeOptions,
    /// The client speaks HTTP/1 and calls a gRPC method.
    bridges: bool,
    /// The request is a plain message that gets a frame.
    frames: bool,
    /// Bytes of the response's first frame header that are still to be taken off.
    header_left: usize,
}

impl Bridge {
    pub(super) fn new(options: BridgeOptions) -> Bridge {
        Bridge { options, ..Bridge::default() }
    }
}

impl HttpFilter for Bridge {
    fn request_headers(&mut self, stream: &mut Stream<'_>, _end: End) -> Step {
        let kind = stream.request.get(Known::CONTENT_TYPE);
        if self.options.upgrade_protobuf && kind == Some(b"application/x-protobuf") {
            self.frames = true;
            self.header_left = FRAME_HEADER;
            stream.request.set_known(Known::CONTENT_TYPE, b"application/grpc");
            stream.request.remove_known(Known::CONTENT_LENGTH);
            stream.clear_route();
        }
        let is_http1 =
            stream.info.protocol.is_some_and(|protocol| matches!(protocol, Protocol::Http10 | Protocol::Http11));
        self.bridges = is_http1 && nuncio_route::is_grpc(stream.request);
        if self.bridges && self.options.ignore_query {
            let path = path(stream.request).to_vec();
            if stream.request.get(Known::PATH).is_some_and(|all| all.len() > path.len()) {
                stream.request.set_known(Known::PATH, &path);
            }
        }
        Step::Next
    }

    fn request_data(&mut self, stream: &mut Stream<'_>, data: &mut Chunk, end: End) -> DataStep {
        if !self.bridges || !self.frames {
            return DataStep::Next;
        }
        if !end.is_last() {
            return DataStep::Buffer;
        }
        let held = stream.request_body();
        held.extend_from_slice(data.bytes());
        data.replace(framed(&held.split()));
        DataStep::Next
    }

    fn request_trailers(&mut self, stream: &mut Stream<'_>) -> Step {
        if self.bridges && self.frames {
            let message = stream.request_body().split();
            stream.add_request_body(framed(&message));
        }
        Step::Next
    }

    fn response_headers(&mut self, _stream: &mut Stream<'_>, end: End) -> Step {
        if self.bridges && !end.is_last() { Step::Hold } else { Step::Next }
    }

    fn response_data(&mut self, _stream: &mut Stream<'_>, data: &mut Chunk, end: End) -> DataStep {
        if !self.bridges || end.is_last() {
            return DataStep::Next;
        }
        if self.frames && self.header_left > 0 {
            let mut bytes = data.take();
            let taken = self.header_left.min(bytes.len());
            self.header_left -= taken;
            data.replace(bytes.split_off(taken));
        }
        DataStep::Buffer
    }

    fn response_trailers(&mut self, stream: &mut Stream<'_>) -> Step {
        if !self.bridges {
            return Step::Next;
        }
        if let Some(status) = stream.response_trailers.get(Known::GRPC_STATUS) {
            if std::str::from_utf8(status).ok().and_then(|status| status.trim().parse::<u64>().ok()) != Some(0) {
                stream.response.set_known(Known::STATUS, b"503");
                stream.info.response_code = Some(503);
            }
            stream.response.set_known(Known::GRPC_STATUS, status);
        }
        if let Some(message) = stream.response_trailers.get(Known::GRPC_MESSAGE) {
            stream.response.set_known(Known::GRPC_MESSAGE, message);
        }
        let length = stream.response_body().len();
        stream.response.set_known(Known::CONTENT_LENGTH, length.to_string().as_bytes());
        Step::Next
    }
}

/// A message behind the header of its frame.
fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(FRAME_HEADER + message.len());
    bytes.extend_from_slice(&[0]);
    bytes.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(message);
    bytes.freeze()
}
