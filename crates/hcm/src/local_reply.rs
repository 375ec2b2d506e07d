//! Local replies: how they are written, and how configuration changes them.

use nuncio_filter::LocalReply;
use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_route::HeaderEdits;
use nuncio_stream_info::{Format, LogContext, LogFilter};
use std::sync::Arc;

/// One entry of `local_reply_config.mappers`; the first whose filter matches decides.
pub struct ReplyMapper {
    /// Which replies it changes.
    pub filter: LogFilter,
    /// Another status.
    pub status: Option<u16>,
    /// Another body, before the format.
    pub body: Option<Arc<[u8]>>,
    /// Another format of the body.
    pub format: Option<ReplyFormat>,
    /// Header changes.
    pub headers: HeaderEdits,
}

/// How the body of local replies is made.
#[derive(Clone)]
pub struct ReplyFormat {
    /// The format; `%LOCAL_REPLY_BODY%` stands for the plain body.
    pub format: Arc<Format>,
    /// `content-type`.
    pub content_type: Arc<str>,
}

/// Shows the stream, with these response headers and this body, to what asks for it.
type WithContext<'a> = dyn Fn(&HeaderMap, &[u8], &mut dyn FnMut(&LogContext<'_>)) + 'a;

/// `local_reply_config`.
#[derive(Default)]
pub struct LocalReplyConfig {
    /// Mappers, in order.
    pub mappers: Vec<ReplyMapper>,
    /// The format where no mapper has one.
    pub format: Option<ReplyFormat>,
}

impl LocalReplyConfig {
    /// Whether replies go out as they are.
    pub(crate) fn is_empty(&self) -> bool {
        self.mappers.is_empty() && self.format.is_none()
    }

    /// The mapper for a reply whose status and headers stand in `response`. Its headers see the status as it was, its body
    /// the new one.
    pub(crate) fn choose(
        &self,
        response: &mut HeaderMap,
        reply: &mut LocalReply,
        context: &WithContext<'_>,
        random: u64,
    ) -> Option<&ReplyMapper> {
        let chosen = self.mappers.iter().find(|mapper| {
            let mut matches = false;
            context(response, &reply.body, &mut |cx| matches = mapper.filter.matches(cx, random));
            matches
        })?;
        let mut changed = response.clone();
        context(response, &reply.body, &mut |cx| chosen.headers.apply(&mut changed, cx));
        *response = changed;
        if let Some(status) = chosen.status {
            reply.status = status;
            set_status(response, status);
        }
        Some(chosen)
    }

    /// Writes what the mapper and the format want.
    pub(crate) fn write(
        &self,
        chosen: Option<&ReplyMapper>,
        response: &mut HeaderMap,
        reply: &mut LocalReply,
        context: &WithContext<'_>,
    ) {
        let mut format = self.format.as_ref();
        if let Some(mapper) = chosen {
            if let Some(body) = &mapper.body {
                reply.body = bytes::Bytes::copy_from_slice(body);
            }
            format = mapper.format.as_ref().or(format);
        }
        if let Some(format) = format {
            let mut body = Vec::new();
            context(response, &reply.body, &mut |cx| format.format.write(cx, &mut body));
            reply.body = body.into();
            response.set_known(Known::CONTENT_TYPE, format.content_type.as_bytes());
        }
    }
}

/// Writes `:status`.
pub(crate) fn set_status(headers: &mut HeaderMap, status: u16) {
    headers.set_known(Known::STATUS, itoa::Buffer::new().format(status).as_bytes());
}

/// Fills in the headers of a reply to an HTTP request. gRPC requests get 200 and a status in the headers instead.
pub(crate) fn write_head(response: &mut HeaderMap, reply: &mut LocalReply, is_grpc: bool, is_head: bool) {
    if is_grpc {
        return write_grpc_head(response, reply);
    }
    if reply.body.is_empty() {
        response.remove_known(Known::CONTENT_TYPE);
        response.remove_known(Known::CONTENT_LENGTH);
    } else {
        if !response.has(Known::CONTENT_TYPE) {
            response.append_known(Known::CONTENT_TYPE, b"text/plain");
        }
        response.set_known(Known::CONTENT_LENGTH, itoa::Buffer::new().format(reply.body.len()).as_bytes());
    }
    if is_head {
        reply.body = bytes::Bytes::new();
    }
}

fn write_grpc_head(response: &mut HeaderMap, reply: &mut LocalReply) {
    set_status(response, 200);
    response.set_known(Known::CONTENT_TYPE, b"application/grpc");
    // What the route or the reply added stands.
    if response.get(Known::GRPC_STATUS).is_none_or(<[u8]>::is_empty) {
        let status = reply.grpc_status.unwrap_or_else(|| grpc_status(reply.status));
        response.set_known(Known::GRPC_STATUS, itoa::Buffer::new().format(status).as_bytes());
    }
    response.remove_known(Known::CONTENT_LENGTH);
    if !reply.body.is_empty() {
        let name = HeaderName::from(Known::GRPC_MESSAGE);
        response.set_with(&name, |out| percent_encode(&reply.body, out));
    }
    reply.body = bytes::Bytes::new();
}

/// The gRPC status of an HTTP status (the gRPC specification's "HTTP to gRPC Status Code Mapping").
pub fn grpc_status(http: u16) -> u32 {
    match http {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// `Status-Message` of the gRPC specification: everything but printable ASCII, and `%`, is percent-encoded.
pub fn percent_encode(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text {
        if (0x20..=0x7e).contains(byte) && *byte != b'%' {
            out.push(*byte);
        } else {
            out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}
