//! Access-log filters: which streams are logged (Envoy's `config.accesslog.v3.AccessLogFilter`).

use crate::format::grpc_status;
use crate::{AccessLogType, LogContext, ResponseFlags, Value};
use nuncio_headers::{HeaderMap, Known};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A number that runtime may override.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeValue {
    /// What holds if runtime has no value.
    pub default: u64,
    /// The key in runtime; empty if there is none.
    pub key: Arc<str>,
}

/// Looks a key up in runtime.
pub type RuntimeLookup<'a> = &'a dyn Fn(&str) -> Option<u64>;

impl RuntimeValue {
    /// A value that runtime does not override.
    pub fn fixed(value: u64) -> RuntimeValue {
        RuntimeValue { default: value, key: Arc::from("") }
    }

    fn get(&self, runtime: RuntimeLookup<'_>) -> u64 {
        if self.key.is_empty() { self.default } else { runtime(&self.key).unwrap_or(self.default) }
    }
}

/// How a number of the stream is compared with the configured one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `EQ`
    Equal,
    /// `GE`
    GreaterOrEqual,
    /// `LE`
    LessOrEqual,
    /// `NE`
    NotEqual,
}

impl Comparison {
    fn holds(self, found: u64, configured: u64) -> bool {
        match self {
            Comparison::Equal => found == configured,
            Comparison::GreaterOrEqual => found >= configured,
            Comparison::LessOrEqual => found <= configured,
            Comparison::NotEqual => found != configured,
        }
    }
}

/// Decides on headers.
pub type HeaderPredicate = Box<dyn Fn(&HeaderMap) -> bool + Send + Sync>;
/// Decides on a value of the dynamic metadata.
pub type ValuePredicate = Box<dyn Fn(&Value) -> bool + Send + Sync>;
/// Decides on anything.
pub type ContextPredicate = Box<dyn Fn(&LogContext<'_>) -> bool + Send + Sync>;

/// A compiled access-log filter.
pub enum LogFilter {
    /// `status_code_filter`; a stream without a code counts as 0.
    StatusCode(Comparison, RuntimeValue),
    /// `duration_filter`, in milliseconds.
    Duration(Comparison, RuntimeValue),
    /// `not_health_check_filter`.
    NotHealthCheck,
    /// `traceable_filter`.
    Traceable,
    /// `runtime_filter`: a share of the streams.
    Runtime {
        /// Numerator of the share.
        numerator: RuntimeValue,
        /// 100, 10,000 or 1,000,000.
        denominator: u64,
        /// Draw for each stream, instead of deciding by `x-request-id` so that all proxies of a request agree.
        use_independent_randomness: bool,
    },
    /// `and_filter`.
    And(Vec<LogFilter>),
    /// `or_filter`.
    Or(Vec<LogFilter>),
    /// `header_filter`, on the request headers.
    Header(HeaderPredicate),
    /// `response_flag_filter`: any of the flags; any flag at all if none is listed.
    ResponseFlag(ResponseFlags),
    /// `grpc_status_filter`.
    GrpcStatus {
        /// gRPC codes.
        statuses: Vec<i64>,
        /// Log those that are not listed.
        exclude: bool,
    },
    /// `metadata_filter`, on dynamic metadata.
    Metadata {
        /// The namespace.
        namespace: Box<str>,
        /// The keys below.
        path: Vec<Box<str>>,
        /// The match of the value; `None` matches nothing.
        matches: Option<ValuePredicate>,
        /// `match_if_key_not_found`, by default true.
        match_if_key_not_found: bool,
    },
    /// `log_type_filter`.
    LogType {
        /// Kinds of log lines.
        types: Vec<AccessLogType>,
        /// Log those that are not listed.
        exclude: bool,
    },
    /// A filter of an extension.
    Custom(ContextPredicate),
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogFilter::StatusCode(comparison, value) => write!(f, "StatusCode({comparison:?}, {value:?})"),
            LogFilter::Duration(comparison, value) => write!(f, "Duration({comparison:?}, {value:?})"),
            LogFilter::NotHealthCheck => f.write_str("NotHealthCheck"),
            LogFilter::Traceable => f.write_str("Traceable"),
            LogFilter::Runtime { numerator, denominator, .. } => write!(f, "Runtime({numerator:?} / {denominator})"),
            LogFilter::And(filters) => f.debug_tuple("And").field(filters).finish(),
            LogFilter::Or(filters) => f.debug_tuple("Or").field(filters).finish(),
            LogFilter::Header(_) => f.write_str("Header"),
            LogFilter::ResponseFlag(flags) => write!(f, "ResponseFlag({flags})"),
            LogFilter::GrpcStatus { statuses, exclude } => write!(f, "GrpcStatus({statuses:?}, exclude: {exclude})"),
            LogFilter::Metadata { namespace, path, .. } => write!(f, "Metadata({namespace}, {path:?})"),
            LogFilter::LogType { types, exclude } => write!(f, "LogType({types:?}, exclude: {exclude})"),
            LogFilter::Custom(_) => f.write_str("Custom"),
        }
    }
}

/// What a request without headers is matched as.
static NO_HEADERS: HeaderMap = HeaderMap::new();

impl LogFilter {
    /// Whether the stream is to be logged, with nothing in runtime. `random` is fresh for each call.
    pub fn matches(&self, cx: &LogContext<'_>, random: u64) -> bool {
        self.matches_with(cx, random, &|_| None)
    }

    /// [`LogFilter::matches`] with values from runtime.
    pub fn matches_with(&self, cx: &LogContext<'_>, random: u64, runtime: RuntimeLookup<'_>) -> bool {
        let info = cx.info;
        match self {
            LogFilter::StatusCode(comparison, value) => {
                comparison.holds(u64::from(info.response_code.unwrap_or(0)), value.get(runtime))
            }
            LogFilter::Duration(comparison, value) => {
                comparison.holds(millis(info.duration(cx.now)), value.get(runtime))
            }
            LogFilter::NotHealthCheck => !info.health_check,
            LogFilter::Traceable => info.trace.traced && !info.health_check,
            LogFilter::Runtime { numerator, denominator, use_independent_randomness } => {
                let from_id = if *use_independent_randomness { None } else { request_id_number(cx) };
                let drawn = from_id.unwrap_or(random).checked_rem(*denominator).unwrap_or(0);
                drawn < numerator.get(runtime)
            }
            LogFilter::And(filters) => filters.iter().all(|filter| filter.matches_with(cx, random, runtime)),
            LogFilter::Or(filters) => filters.iter().any(|filter| filter.matches_with(cx, random, runtime)),
            LogFilter::Header(matches) => matches(cx.request.unwrap_or(&NO_HEADERS)),
            LogFilter::ResponseFlag(flags) if flags.is_empty() => !info.flags.is_empty(),
            LogFilter::ResponseFlag(flags) => info.flags.intersects(*flags),
            LogFilter::GrpcStatus { statuses, exclude } => {
                let status = grpc_status(cx).map_or(UNKNOWN, |code| if code > MAX_KNOWN { INVALID } else { code });
                statuses.contains(&status) != *exclude
            }
            LogFilter::Metadata { namespace, path, matches, match_if_key_not_found } => {
                match info.dynamic_metadata().and_then(|metadata| metadata.get(namespace, path)) {
                    Some(value) => matches.as_ref().is_some_and(|matches| matches(value)),
                    None => *match_if_key_not_found,
                }
            }
            LogFilter::LogType { types, exclude } => types.contains(&cx.kind) != *exclude,
            LogFilter::Custom(matches) => matches(cx),
        }
    }
}

const UNKNOWN: i64 = 2;
const MAX_KNOWN: i64 = 16;
const INVALID: i64 = -1;

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The number that an id stands for: its first eight hexadecimal digits.
fn request_id_number(cx: &LogContext<'_>) -> Option<u64> {
    let from_header = || cx.request.and_then(|headers| headers.get(Known::X_REQUEST_ID));
    let id = cx.info.stream_id.as_deref().map(str::as_bytes).or_else(from_header)?;
    let digits = std::str::from_utf8(id.get(..8)?).ok()?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests;
