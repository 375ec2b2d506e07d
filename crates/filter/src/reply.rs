//! Answers that the proxy gives itself.

use bytes::Bytes;
use nuncio_headers::HeaderMap;
use nuncio_stream_info::ResponseFlags;
use std::borrow::Cow;

/// A response code detail: nearly always one of `nuncio_stream_info::details`.
pub type Details = Cow<'static, str>;

/// Changes the headers of a local reply before it is sent.
pub type ReplyEdit = Box<dyn FnOnce(&mut HeaderMap)>;

/// An answer made by a filter or by the proxy itself instead of the upstream. A reply is a value, never an error.
pub struct LocalReply {
    /// HTTP status, 200–599.
    pub status: u16,
    /// The body; plain text unless `edit` sets another `content-type`. Left out for HEAD.
    pub body: Bytes,
    /// What `%RESPONSE_CODE_DETAILS%` shows.
    pub details: Details,
    /// What `%RESPONSE_FLAGS%` shows, added to the stream's.
    pub flags: ResponseFlags,
    /// `grpc-status` for a gRPC request; by default mapped from `status`.
    pub grpc_status: Option<u32>,
    /// Changes to the headers.
    pub edit: Option<ReplyEdit>,
}

impl LocalReply {
    /// A reply with a status, a plain-text body and details, and nothing else.
    pub fn new(status: u16, body: impl Into<Bytes>, details: impl Into<Details>) -> Box<LocalReply> {
        Box::new(LocalReply {
            status,
            body: body.into(),
            details: details.into(),
            flags: ResponseFlags::default(),
            grpc_status: None,
            edit: None,
        })
    }

    /// With a response flag.
    pub fn with_flags(mut self: Box<Self>, flags: ResponseFlags) -> Box<Self> {
        self.flags = flags;
        self
    }

    /// With changes to the headers, after those that it has.
    pub fn with_edit(mut self: Box<Self>, edit: impl FnOnce(&mut HeaderMap) + 'static) -> Box<Self> {
        self.edit = Some(match self.edit.take() {
            None => Box::new(edit),
            Some(first) => Box::new(move |headers| {
                first(headers);
                edit(headers);
            }),
        });
        self
    }
}

impl std::fmt::Debug for LocalReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalReply")
            .field("status", &self.status)
            .field("details", &self.details)
            .finish_non_exhaustive()
    }
}
