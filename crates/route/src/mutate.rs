//! Header mutations of one level.
//!
//! Envoy's order within a level: remove; format every new value from the headers as they are then; overwrite; append. So
//! no value sees what another of the same level sets.

use crate::spec::AppendAction;
use nuncio_headers::{HeaderMap, HeaderName};
use nuncio_stream_info::{Format, LogContext};
use smallvec::SmallVec;

/// Compiled `…_headers_to_add` and `…_headers_to_remove`.
#[derive(Debug, Default)]
pub(crate) struct HeaderMutations {
    pub(crate) remove: Box<[HeaderName]>,
    pub(crate) add: Box<[HeaderAddition]>,
}

/// A compiled `HeaderValueOption`.
#[derive(Debug)]
pub(crate) struct HeaderAddition {
    pub(crate) name: HeaderName,
    pub(crate) value: HeaderValue,
    pub(crate) action: AppendAction,
    pub(crate) keep_empty_value: bool,
    /// See [`joins`].
    pub(crate) joins: bool,
}

/// A value: text that never changes, or a format.
#[derive(Debug)]
pub(crate) enum HeaderValue {
    Literal(Box<[u8]>),
    Format(Box<Format>),
}

/// Which message's headers are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}

impl HeaderMutations {
    /// Changes `headers`, which stand for those of `side` in `cx`.
    pub(crate) fn apply(&self, side: Side, headers: &mut HeaderMap, cx: &LogContext<'_>) {
        for name in &self.remove {
            headers.remove(name);
        }
        if self.add.is_empty() {
            return;
        }
        let mut text = Vec::new();
        let mut planned: SmallVec<[(&HeaderAddition, usize, usize); 8]> = SmallVec::new();
        {
            let cx = match side {
                Side::Request => LogContext { request: Some(headers), ..*cx },
                Side::Response => LogContext { response: Some(headers), ..*cx },
            };
            for addition in &self.add {
                let start = text.len();
                let empty = match &addition.value {
                    HeaderValue::Literal(literal) => literal.is_empty(),
                    HeaderValue::Format(format) => {
                        format.write(&cx, &mut text);
                        text.len() == start
                    }
                };
                let wanted = match addition.action {
                    AppendAction::AppendIfExistsOrAdd | AppendAction::OverwriteIfExistsOrAdd => true,
                    AppendAction::AddIfAbsent => headers.get_name(&addition.name).is_none(),
                    AppendAction::OverwriteIfExists => headers.get_name(&addition.name).is_some(),
                };
                if wanted && (!empty || addition.keep_empty_value) {
                    planned.push((addition, start, text.len()));
                }
            }
        }
        for overwrite in [true, false] {
            for (addition, start, end) in &planned {
                let overwrites =
                    matches!(addition.action, AppendAction::OverwriteIfExistsOrAdd | AppendAction::OverwriteIfExists);
                if overwrites != overwrite {
                    continue;
                }
                let value: &[u8] = match &addition.value {
                    HeaderValue::Literal(literal) => literal,
                    HeaderValue::Format(_) => text.get(*start..*end).unwrap_or_default(),
                };
                if overwrite {
                    headers.set(&addition.name, value);
                } else {
                    append(headers, addition, value);
                }
            }
        }
    }
}

/// Adds a value; to the last one, if values of this name are joined.
fn append(headers: &mut HeaderMap, addition: &HeaderAddition, value: &[u8]) {
    if !addition.joins {
        return headers.append(&addition.name, value);
    }
    let Some(before) = headers.joined(&addition.name) else { return headers.append(&addition.name, value) };
    let mut joined = before.into_owned();
    if !joined.is_empty() {
        joined.push(b',');
    }
    joined.extend_from_slice(value);
    headers.set(&addition.name, &joined);
}

/// Whether Envoy keeps a header in one entry, so that appending joins with a comma where it would add a line. Measured on
/// Envoy 1.40; no other header's values are joined.
pub(crate) fn joins(side: Side, name: &str) -> bool {
    let own = match side {
        Side::Request => JOINED_IN_REQUESTS,
        Side::Response => JOINED_IN_RESPONSES,
    };
    own.contains(&name) || JOINED_IN_BOTH.contains(&name)
}

const JOINED_IN_BOTH: &[&str] = &[
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "keep-alive",
    "proxy-connection",
    "proxy-status",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
    "x-request-id",
];

const JOINED_IN_REQUESTS: &[&str] = &[
    "accept",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "access-control-request-private-network",
    "authorization",
    "expect",
    "grpc-accept-encoding",
    "grpc-timeout",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "origin",
    "pragma",
    "referer",
    "te",
    "user-agent",
    "x-client-trace-id",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-external-address",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-max-retries",
    "x-envoy-original-host",
    "x-envoy-original-path",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
];

const JOINED_IN_RESPONSES: &[&str] = &[
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "age",
    "date",
    "etag",
    "expires",
    "grpc-message",
    "grpc-status",
    "last-modified",
    "location",
    "server",
    "vary",
    "x-envoy-degraded",
    "x-envoy-immediate-health-check-fail",
    "x-envoy-ratelimited",
    "x-envoy-upstream-canary",
    "x-envoy-upstream-healthchecked-cluster",
    "x-envoy-upstream-service-time",
];
