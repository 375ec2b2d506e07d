//! `GRPC_STATUS`: trailers first, then headers, then what the HTTP status stands for.

use super::super::error::Refusal;
use super::super::op::put_integer;
use crate::LogContext;
use nuncio_headers::{HeaderMap, Known};

/// How a status is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::format) enum GrpcStatusFormat {
    /// `NotFound`.
    Camel,
    /// `NOT_FOUND`.
    Snake,
    Number,
}

/// Camel and snake names; the index is the code.
static NAMES: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

impl GrpcStatusFormat {
    /// Reads the parameter of `GRPC_STATUS`.
    pub(in crate::format) fn new(parameters: &str) -> Result<GrpcStatusFormat, Refusal> {
        match parameters {
            "" | "CAMEL_STRING" => Ok(GrpcStatusFormat::Camel),
            "SNAKE_STRING" => Ok(GrpcStatusFormat::Snake),
            "NUMBER" => Ok(GrpcStatusFormat::Number),
            other => Err(Refusal::new(format!("{other:?} is none of CAMEL_STRING, SNAKE_STRING and NUMBER"))),
        }
    }

    pub(in crate::format) fn write(self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        if !is_grpc(cx.request) {
            return false;
        }
        let Some(code) = grpc_status(cx) else { return false };
        let names = usize::try_from(code).ok().and_then(|code| NAMES.get(code));
        match (self, names) {
            (GrpcStatusFormat::Number, _) | (_, None) => return put_integer(code, out),
            (GrpcStatusFormat::Camel, Some((camel, _))) => out.extend_from_slice(camel.as_bytes()),
            (GrpcStatusFormat::Snake, Some((_, snake))) => out.extend_from_slice(snake.as_bytes()),
        }
        true
    }
}

/// Whether the request is gRPC: its content type is `application/grpc` or `application/grpc+…`.
fn is_grpc(request: Option<&HeaderMap>) -> bool {
    let Some(headers) = request.filter(|headers| headers.has(Known::PATH)) else { return false };
    let content_type = headers.get(Known::CONTENT_TYPE).unwrap_or(b"");
    matches!(content_type.strip_prefix(b"application/grpc"), Some([] | [b'+', ..]))
}

/// The gRPC status of a response: −1 for one that is no number, the translated HTTP status if none was sent.
pub(crate) fn grpc_status(cx: &LogContext<'_>) -> Option<i64> {
    sent_status(cx.trailers).or_else(|| sent_status(cx.response)).or_else(|| from_http(cx.info.response_code))
}

fn sent_status(headers: Option<&HeaderMap>) -> Option<i64> {
    let value = headers?.get(Known::GRPC_STATUS).filter(|value| !value.is_empty())?;
    let number = std::str::from_utf8(value).ok().and_then(|text| text.trim_ascii().parse::<u32>().ok());
    Some(number.map_or(-1, i64::from))
}

/// What a client makes of a response without a gRPC status (gRPC's http-grpc-status-mapping).
fn from_http(status: Option<u16>) -> Option<i64> {
    Some(match status? {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    })
}
