//! Header changes that stand outside a route configuration: local replies, filters, health checks.

use crate::build::{self, BuildError};
use crate::mutate::HeaderMutations;
use crate::spec::HeaderMutationsSpec;
use nuncio_headers::HeaderMap;
use nuncio_matcher::Side;
use nuncio_stream_info::{FormatOptions, LogContext};

/// Compiled changes to the headers of one message.
#[derive(Debug)]
pub struct HeaderEdits {
    mutations: HeaderMutations,
    side: Side,
}

impl HeaderEdits {
    /// Changes to request headers. Errors name fields as in a route: `request_headers_to_add[0].header.value`.
    pub fn request(spec: HeaderMutationsSpec, options: &FormatOptions<'_>) -> Result<HeaderEdits, Vec<BuildError>> {
        HeaderEdits::build(spec, Side::Request, options)
    }

    /// Changes to response headers.
    pub fn response(spec: HeaderMutationsSpec, options: &FormatOptions<'_>) -> Result<HeaderEdits, Vec<BuildError>> {
        HeaderEdits::build(spec, Side::Response, options)
    }

    fn build(
        spec: HeaderMutationsSpec,
        side: Side,
        options: &FormatOptions<'_>,
    ) -> Result<HeaderEdits, Vec<BuildError>> {
        build::edits(spec, side, options).map(|mutations| HeaderEdits { mutations, side })
    }

    /// Whether they change nothing.
    pub fn is_empty(&self) -> bool {
        self.mutations.remove.is_empty() && self.mutations.add.is_empty()
    }

    /// Changes `headers`, which stand for those of their message in `cx`.
    pub fn apply(&self, headers: &mut HeaderMap, cx: &LogContext<'_>) {
        self.mutations.apply(self.side, headers, cx);
    }
}
