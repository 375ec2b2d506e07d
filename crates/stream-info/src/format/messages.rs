//! Operators that print parts of the messages: headers, path, query, gRPC status.

mod grpc;
mod query;
mod xfcc;

pub(super) use grpc::GrpcStatusFormat;
pub(crate) use grpc::grpc_status;
pub(super) use query::{PathValue, QueryParameter, write_query};
pub(super) use xfcc::XfccKey;

pub(super) use super::data::cut;
use super::error::Refusal;
use crate::LogContext;
use nuncio_headers::{HeaderMap, HeaderName, Known};

/// Which message's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Headers {
    Request,
    Response,
    Trailers,
}

impl Headers {
    #[inline]
    pub(super) fn of<'a>(self, cx: &LogContext<'a>) -> Option<&'a HeaderMap> {
        match self {
            Headers::Request => cx.request,
            Headers::Response => cx.response,
            Headers::Trailers => cx.trailers,
        }
    }
}

#[derive(Debug, Clone)]
enum Name {
    Known(Known),
    Other(HeaderName),
    /// A name that no message can have.
    Never,
}

impl Name {
    /// Compiles a header name. Envoy accepts an empty name and any name with a colon before it: such headers never
    /// exist.
    fn new(text: &str) -> Result<Name, Refusal> {
        if text.is_empty() {
            return Ok(Name::Never);
        }
        match HeaderName::new(text) {
            Ok(name) => Ok(name.known().map_or(Name::Other(name), Name::Known)),
            Err(_) if text.strip_prefix(':').is_some_and(|rest| HeaderName::new(rest).is_ok()) => Ok(Name::Never),
            Err(error) => Err(Refusal::new(error.to_string())),
        }
    }

    #[inline]
    fn find<'a>(&self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        match self {
            Name::Known(name) => headers.get(*name),
            Name::Other(name) => headers.get_name(name),
            Name::Never => None,
        }
    }
}

/// The first value of a header, or of another if that is absent.
#[derive(Debug, Clone)]
pub(super) struct HeaderValue {
    name: Name,
    alternative: Name,
    pub(super) max_length: Option<usize>,
    /// Only what stands before `?`.
    pub(super) without_query: bool,
}

impl HeaderValue {
    /// Reads `NAME` or `NAME?ALTERNATIVE`.
    pub(super) fn new(parameters: &str, max_length: Option<usize>) -> Result<HeaderValue, Refusal> {
        let mut names = parameters.split('?');
        let name = Name::new(names.next().unwrap_or(""))?;
        let alternative = Name::new(names.next().unwrap_or(""))?;
        if names.next().is_some() {
            return Err(Refusal::hinted(
                format!("more than one alternative header in {parameters:?}"),
                "write NAME or NAME?ALTERNATIVE",
            ));
        }
        Ok(HeaderValue { name, alternative, max_length, without_query: false })
    }

    #[inline(never)]
    pub(super) fn write(&self, headers: Option<&HeaderMap>, out: &mut Vec<u8>) -> bool {
        let Some(headers) = headers else { return false };
        let Some(mut value) = self.name.find(headers).or_else(|| self.alternative.find(headers)) else { return false };
        if self.without_query {
            value = before(value, b'?');
        }
        let start = out.len();
        out.extend_from_slice(value);
        cut(out, start, self.max_length);
        true
    }
}

/// What stands before the first such byte: all, if there is none.
fn before(text: &[u8], byte: u8) -> &[u8] {
    let end = text.iter().position(|found| *found == byte).unwrap_or(text.len());
    &text[..end]
}

/// Where `REQUESTED_SERVER_NAME` looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ServerName {
    order: NameOrder,
    host: HostSource,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameOrder {
    SniOnly,
    SniFirst,
    HostFirst,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HostSource {
    OriginalOrHost,
    Host,
    Original,
}

impl ServerName {
    /// Reads `SNI_ONLY|SNI_FIRST|HOST_FIRST` and, after a colon, `ORIG_OR_HOST|HOST|ORIG`.
    pub(super) fn new(parameters: &str) -> Result<ServerName, Refusal> {
        let mut words = parameters.split(':');
        let order = match words.next().unwrap_or("") {
            "" | "SNI_ONLY" => NameOrder::SniOnly,
            "SNI_FIRST" => NameOrder::SniFirst,
            "HOST_FIRST" => NameOrder::HostFirst,
            other => {
                return Err(Refusal::new(format!("{other:?} is none of SNI_ONLY, SNI_FIRST and HOST_FIRST")));
            }
        };
        let host = match words.next().unwrap_or("") {
            "" | "ORIG_OR_HOST" => HostSource::OriginalOrHost,
            "HOST" => HostSource::Host,
            "ORIG" => HostSource::Original,
            other => return Err(Refusal::new(format!("{other:?} is none of ORIG_OR_HOST, HOST and ORIG"))),
        };
        Ok(ServerName { order, host })
    }

    pub(super) fn write(self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        match self.order {
            NameOrder::SniOnly => write_sni(cx, out),
            NameOrder::SniFirst => write_sni(cx, out) || self.write_host(cx, out),
            NameOrder::HostFirst => self.write_host(cx, out) || write_sni(cx, out),
        }
    }

    fn write_host(self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        let Some(headers) = cx.request else { return false };
        let original = || headers.get(Known::X_ENVOY_ORIGINAL_HOST);
        let authority = || headers.get(Known::AUTHORITY);
        let host = match self.host {
            HostSource::OriginalOrHost => original().or_else(authority),
            HostSource::Host => authority(),
            HostSource::Original => original(),
        };
        out.extend_from_slice(host.unwrap_or(b""));
        host.is_some()
    }
}

/// The server name of the TLS client hello; one that is no host name is marked and its odd bytes replaced.
fn write_sni(cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
    let Some(sni) = cx.info.connection.as_deref().and_then(|connection| connection.sni.as_deref()) else {
        return false;
    };
    if sni.is_empty() {
        return false;
    }
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if !sni.bytes().all(is_valid) {
        out.extend_from_slice(b"invalid:");
    }
    out.extend(sni.bytes().map(|byte| if is_valid(byte) { byte } else { b'_' }));
    true
}
