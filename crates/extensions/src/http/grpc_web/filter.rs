//! Turning gRPC-Web into gRPC and back (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>).

use super::super::grpc::{self, MethodNames};
use super::text::{Decoder, Encoder, Undecodable};
use crate::base64;
use bytes::Bytes;
use nuncio_cluster::{GrpcMethod, GrpcProtocol};
use nuncio_filter::{Chunk, DataStep, End, HttpFilter, HttpFilterFactory, Interest, LocalReply, Step, Stream, Worker};
use nuncio_hcm::local_reply;
use nuncio_headers::{HeaderMap, HeaderName, Known};
use std::rc::Rc;
use std::sync::Arc;

/// Most bytes of a response that is no gRPC which become its `grpc-message`.
const LONGEST_MESSAGE: usize = 16 * 1024;

/// The flag of the frame that holds trailers.
const TRAILERS: u8 = 0x80;

pub(super) struct GrpcWebFactory;

impl HttpFilterFactory for GrpcWebFactory {
    fn create(&self, _worker: &Rc<Worker>) -> Box<dyn HttpFilter> {
        Box::<GrpcWeb>::default()
    }

    fn interest(&self) -> Interest {
        Interest::ALL
    }
}

#[derive(Default)]
pub(super) struct GrpcWeb {
    /// The request is gRPC-Web; others pass.
    active: bool,
    /// The request body is base64.
    decoder: Option<Decoder>,
    /// The client wants base64.
    encoder: Option<Encoder>,
    /// The start of a response that is no gRPC: its text becomes the message of the status.
    message: Option<Vec<u8>>,
    /// Where the call is counted.
    method: Option<Arc<GrpcMethod>>,
}

/// Whether a content type is one of gRPC-Web, and whether it is the text form.
fn kind(content_type: Option<&[u8]>) -> Option<bool> {
    match content_type? {
        b"application/grpc-web" | b"application/grpc-web+proto" => Some(false),
        b"application/grpc-web-text" | b"application/grpc-web-text+proto" => Some(true),
        _ => None,
    }
}

/// Whether a response is gRPC-Web already, whatever the parameters of its content type.
fn is_translated(response: &HeaderMap) -> bool {
    let kind = response.get(Known::CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    let is_web =
        [&b"application/grpc-web"[..], b"application/grpc-web+proto"].iter().any(|web| kind.eq_ignore_ascii_case(web));
    is_web && response.get(Known::STATUS) == Some(b"200")
}

impl GrpcWeb {
    fn charge(&self, headers: &HeaderMap) {
        if let (Some(method), Some(status)) = (&self.method, headers.get(Known::GRPC_STATUS)) {
            method.charge_status(status);
        }
    }

    /// The headers of a response that was no gRPC say what its code and body said.
    fn set_status(&mut self, response: &mut HeaderMap) {
        let message = self.message.take().unwrap_or_default();
        let code =
            response.get(Known::STATUS).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok()).unwrap_or(0);
        let status = local_reply::grpc_status(code);
        response.set_with(&HeaderName::from(Known::GRPC_MESSAGE), |out| local_reply::percent_encode(&message, out));
        response.set_known(Known::GRPC_STATUS, status.to_string().as_bytes());
        response.set_known(Known::CONTENT_LENGTH, b"0");
    }
}

impl HttpFilter for GrpcWeb {
    fn request_headers(&mut self, stream: &mut Stream<'_>, _end: End) -> Step {
        let Some(is_text) = kind(stream.request.get(Known::CONTENT_TYPE)) else { return Step::Next };
        self.active = true;
        if let Some(cluster) = grpc::cluster(stream) {
            let path = grpc::path(stream.request);
            self.method = grpc::method(stream.worker, &cluster, GrpcProtocol::GrpcWeb, MethodNames::Plain, path);
        }
        self.decoder = is_text.then(Decoder::default);
        let request = &mut *stream.request;
        let wants_text = kind(request.get_name(&HeaderName::from(Known::ACCEPT))) == Some(true);
        self.encoder = wants_text.then(Encoder::default);
        request.remove_known(Known::CONTENT_LENGTH);
        request.set_known(Known::CONTENT_TYPE, b"application/grpc");
        request.set_known(Known::TE, b"trailers");
        if let Ok(name) = HeaderName::new("grpc-accept-encoding")
            && request.get_name(&name).is_none()
        {
            request.set(&name, b"identity");
        }
        Step::Next
    }

    fn request_data(&mut self, _stream: &mut Stream<'_>, data: &mut Chunk, end: End) -> DataStep {
        let Some(decoder) = &mut self.decoder else { return DataStep::Next };
        match decoder.decode(data.bytes(), end.is_last()) {
            Ok(decoded) if decoded.is_empty() && !end.is_last() => DataStep::Hold,
            Ok(decoded) => {
                data.replace(Bytes::from(decoded));
                DataStep::Next
            }
            Err(why) => {
                let details = match why {
                    Undecodable::Size => "grpc_base_64_decode_failed_bad_size",
                    Undecodable::Data => "grpc_base_64_decode_failed",
                };
                DataStep::Reply(LocalReply::new(400, "Bad gRPC-web request, invalid base64 data.", details))
            }
        }
    }

    fn response_headers(&mut self, stream: &mut Stream<'_>, end: End) -> Step {
        if !self.active {
            return Step::Next;
        }
        self.charge(stream.response);
        let is_grpc = grpc::is_grpc_response(stream.response, end.is_last()) || is_translated(stream.response);
        stream.response.remove_known(Known::CONTENT_LENGTH);
        let kind: &[u8] = match self.encoder {
            Some(_) => b"application/grpc-web-text+proto",
            None => b"application/grpc-web+proto",
        };
        stream.response.set_known(Known::CONTENT_TYPE, kind);
        if is_grpc || end.is_last() {
            return Step::Next;
        }
        self.message = Some(Vec::new());
        Step::Hold
    }

    fn response_data(&mut self, stream: &mut Stream<'_>, data: &mut Chunk, end: End) -> DataStep {
        if !self.active {
            return DataStep::Next;
        }
        if let Some(message) = &mut self.message {
            let bytes = data.take();
            let room = LONGEST_MESSAGE.saturating_sub(message.len());
            message.extend_from_slice(bytes.get(..room).unwrap_or(&bytes));
            if !end.is_last() {
                return DataStep::Hold;
            }
            self.set_status(stream.response);
        } else if let Some(encoder) = &mut self.encoder {
            let encoded = encoder.encode(data.bytes(), end.is_last());
            if encoded.is_empty() && !end.is_last() {
                return DataStep::Hold;
            }
            data.replace(Bytes::from(encoded));
        }
        DataStep::Next
    }

    fn response_trailers(&mut self, stream: &mut Stream<'_>) -> Step {
        if !self.active {
            return Step::Next;
        }
        self.charge(stream.response_trailers);
        if self.message.is_some() {
            self.set_status(stream.response);
            return Step::Next;
        }
        let mut frame = vec![TRAILERS, 0, 0, 0, 0];
        for (name, value) in &*stream.response_trailers {
            frame.extend_from_slice(name.as_bytes());
            frame.push(b':');
            frame.extend_from_slice(value);
            frame.extend_from_slice(b"\r\n");
        }
        let length = u32::try_from(frame.len() - grpc::FRAME_HEADER).unwrap_or(u32::MAX);
        frame[1..grpc::FRAME_HEADER].copy_from_slice(&length.to_be_bytes());
        stream.response_trailers.clear();
        if let Some(encoder) = &mut self.encoder {
            // What is left of a frame that did not come to its end goes before.
            let mut text = encoder.encode(b"", true);
            text.extend(base64::encode(&frame));
            frame = text;
        }
        stream.add_response_body(Bytes::from(frame));
        Step::Next
    }
}
