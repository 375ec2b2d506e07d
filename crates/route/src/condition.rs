//! What a route asks of a request besides its path.

use crate::RouteQuery;
use crate::spec::{FilterStateMatchSpec, FilterStateMatcherSpec, TlsContextMatch};
use nuncio_headers::{HeaderMap, Known};
use nuncio_matcher::{
    CidrSet, CookieMatcher, HeaderMatcher, InvalidMatcher, MetadataMatcher, QueryParameterMatcher,
    RuntimeFractionalPercent, StringMatcher, ValueKind, ValueMatcher, ValueRef,
};
use nuncio_stream_info::{FilterState, Metadata, StreamInfo, Value};
use std::net::IpAddr;

/// Conditions of one route; all must hold.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    pub(crate) runtime: Option<RuntimeFractionalPercent>,
    pub(crate) grpc: bool,
    pub(crate) connect: bool,
    pub(crate) tls: TlsContextMatch,
    pub(crate) headers: Box<[HeaderMatcher]>,
    pub(crate) query: Box<[QueryParameterMatcher]>,
    pub(crate) cookies: Box<[CookieMatcher]>,
    pub(crate) metadata: Box<[MetadataMatcher]>,
    pub(crate) filter_state: Box<[FilterStateMatcher]>,
}

/// A compiled `envoy.type.matcher.v3.FilterStateMatcher`.
#[derive(Debug)]
pub struct FilterStateMatcher {
    key: Box<str>,
    test: FilterStateTest,
}

#[derive(Debug)]
enum FilterStateTest {
    Text(StringMatcher),
    Address { ranges: CidrSet, invert: bool },
}

impl Conditions {
    /// Whether nothing is asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.runtime.is_none()
            && !self.grpc
            && !self.connect
            && self.tls == TlsContextMatch::default()
            && self.headers.is_empty()
            && self.query.is_empty()
            && self.cookies.is_empty()
            && self.metadata.is_empty()
            && self.filter_state.is_empty()
    }

    /// Whether all conditions hold.
    pub(crate) fn hold(&self, query: &RouteQuery<'_>) -> bool {
        let headers = query.headers;
        self.runtime.as_ref().is_none_or(|fraction| fraction.enabled(query.runtime, query.random))
            && (!self.connect || is_connect(headers))
            && (!self.grpc || is_grpc(headers))
            && self.headers.iter().all(|matcher| matcher.matches(headers))
            && self.query_holds(headers)
            && self.cookies.iter().all(|matcher| matcher.matches(headers))
            && self.tls_holds(query)
            && self.metadata.iter().all(|matcher| metadata_holds(matcher, query.info))
            && self.filter_state.iter().all(|matcher| query.info.is_some_and(|info| matcher.holds(&info.filter_state)))
    }

    fn query_holds(&self, headers: &HeaderMap) -> bool {
        if self.query.is_empty() {
            return true;
        }
        let path = headers.get(Known::PATH).unwrap_or_default();
        self.query.iter().all(|matcher| matcher.matches(path))
    }

    fn tls_holds(&self, query: &RouteQuery<'_>) -> bool {
        self.tls.presented.is_none_or(|wanted| wanted == query.peer_certificate.presented)
            && self.tls.validated.is_none_or(|wanted| wanted == query.peer_certificate.validated)
    }
}

impl FilterStateMatcher {
    /// Compiles.
    pub fn new(spec: &FilterStateMatcherSpec) -> Result<FilterStateMatcher, InvalidMatcher> {
        if spec.key.is_empty() {
            return Err(InvalidMatcher::new("key", "must not be empty"));
        }
        let test = match &spec.matcher {
            FilterStateMatchSpec::String(text) => {
                FilterStateTest::Text(StringMatcher::new(text).map_err(|e| e.within("string_match"))?)
            }
            FilterStateMatchSpec::Address { ranges, invert } => {
                FilterStateTest::Address { ranges: CidrSet::new(ranges.iter().copied()), invert: *invert }
            }
        };
        Ok(FilterStateMatcher { key: spec.key.as_str().into(), test })
    }

    /// Whether the object is there and matches.
    pub fn holds(&self, state: &FilterState) -> bool {
        let Some(object) = state.get(&self.key) else { return false };
        let Some(text) = object.to_plain() else { return false };
        match &self.test {
            FilterStateTest::Text(matcher) => matcher.matches(text.as_bytes()),
            FilterStateTest::Address { ranges, invert } => {
                text.parse::<IpAddr>().is_ok_and(|address| ranges.contains(address) != *invert)
            }
        }
    }
}

fn metadata_holds(matcher: &MetadataMatcher, info: Option<&StreamInfo>) -> bool {
    metadata_matches(matcher, info.and_then(StreamInfo::dynamic_metadata))
}

/// Whether metadata, which may be absent, matches.
pub fn metadata_matches(matcher: &MetadataMatcher, metadata: Option<&Metadata>) -> bool {
    matcher.matches(|namespace, key| metadata?.namespace(namespace)?.get(key).map(Shown))
}

/// Whether a value, which may be absent, matches.
pub fn value_matches(matcher: &ValueMatcher, value: Option<&Value>) -> bool {
    matcher.matches(value.map(Shown))
}

/// Metadata as matchers look at it.
#[derive(Clone, Copy)]
pub(crate) struct Shown<'a>(pub(crate) &'a Value);

impl<'a> ValueRef<'a> for Shown<'a> {
    fn kind(self) -> ValueKind<'a> {
        match self.0 {
            Value::Null => ValueKind::Null,
            Value::Bool(bool) => ValueKind::Bool(*bool),
            Value::Number(number) => ValueKind::Number(*number),
            Value::String(text) => ValueKind::String(text.as_bytes()),
            Value::List(_) => ValueKind::List,
            Value::Struct(_) => ValueKind::Struct,
        }
    }

    fn field(self, key: &str) -> Option<Self> {
        match self.0 {
            Value::Struct(fields) => fields.get(key).map(Shown),
            _ => None,
        }
    }

    fn any_item(self, test: &mut dyn FnMut(Self) -> bool) -> bool {
        match self.0 {
            Value::List(items) => items.iter().any(|item| test(Shown(item))),
            _ => false,
        }
    }
}

/// A CONNECT request, or one for CONNECT-UDP.
pub(crate) fn is_connect(headers: &HeaderMap) -> bool {
    let is = |name, value: &[u8]| headers.get(name).is_some_and(|found| found.eq_ignore_ascii_case(value));
    headers.get(Known::METHOD) == Some(b"CONNECT") || is(Known::UPGRADE, b"connect-udp")
}

/// Whether a request is gRPC by its content type: `application/grpc`, or that and `+…`.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(Known::CONTENT_TYPE)
        .and_then(|value| value.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
}
