//! The inputs of the matcher form.

use super::rule::Subject;
use nuncio_cel::Program;
use nuncio_headers::HeaderName;
use nuncio_matcher::ValueMatcher;
use nuncio_route::value_matches;
use nuncio_stream_info::{Address, FieldValue, TlsInfo};
use std::borrow::Cow;
use std::sync::Arc;

/// What a predicate looks at.
#[derive(Debug)]
pub(crate) enum Input {
    DestinationIp,
    DestinationPort,
    /// Of the client, whom proxies in front may have named.
    SourceIp,
    SourcePort,
    /// Of the connection.
    DirectSourceIp,
    ServerName,
    UriSan,
    DnsSan,
    Subject,
    Header(HeaderName),
    FilterState {
        key: Box<str>,
        field: Box<str>,
    },
    /// There is a value if the metadata matches.
    Metadata {
        namespace: Box<str>,
        path: Box<[String]>,
        value: ValueMatcher,
        invert: bool,
    },
    /// There is a value if the expression is true.
    Condition(Box<Program>),
}

impl Input {
    /// The value; none if there is none.
    pub(super) fn value<'a>(&self, subject: Subject<'a>) -> Option<Cow<'a, [u8]>> {
        let info = subject.info;
        match self {
            Input::DestinationIp => ip(&subject.connection()?.local),
            Input::DestinationPort => port(&subject.connection()?.local),
            Input::SourceIp => ip(info.remote()?),
            Input::SourcePort => port(info.remote()?),
            Input::DirectSourceIp => ip(&subject.connection()?.remote),
            Input::ServerName => text(subject.connection()?.sni.as_deref()?),
            Input::UriSan => joined(&tls(subject)?.peer.uri),
            Input::DnsSan => joined(&tls(subject)?.peer.dns),
            Input::Subject => text(tls(subject)?.peer.subject.as_deref()?),
            Input::Header(name) => subject.headers?.joined(name),
            Input::FilterState { key, field } => {
                let object = info.filter_state.get(key)?;
                let plain = if field.is_empty() {
                    object.to_plain()?.into_owned()
                } else {
                    match object.field(field)? {
                        FieldValue::Text(text) => text.into_owned(),
                        FieldValue::Number(number) => number.to_string(),
                    }
                };
                Some(Cow::Owned(plain.into_bytes()))
            }
            Input::Metadata { namespace, path, value, invert } => {
                let found = info.dynamic_metadata().and_then(|metadata| metadata.get(namespace, path));
                holds(value_matches(value, found) != *invert)
            }
            Input::Condition(program) => holds(program.holds(&subject.context())),
        }
    }
}

fn holds<'a>(holds: bool) -> Option<Cow<'a, [u8]>> {
    holds.then_some(Cow::Borrowed(&[]))
}

fn text(text: &str) -> Option<Cow<'_, [u8]>> {
    (!text.is_empty()).then_some(Cow::Borrowed(text.as_bytes()))
}

fn ip<'a>(address: &Address) -> Option<Cow<'a, [u8]>> {
    Some(Cow::Owned(address.ip()?.to_string().into_bytes()))
}

fn port<'a>(address: &Address) -> Option<Cow<'a, [u8]>> {
    Some(Cow::Owned(address.port()?.to_string().into_bytes()))
}

fn tls(subject: Subject<'_>) -> Option<&TlsInfo> {
    subject.connection()?.tls.as_deref()
}

fn joined(names: &[Arc<str>]) -> Option<Cow<'_, [u8]>> {
    match names {
        [] => None,
        [one] => text(one),
        several => Some(Cow::Owned(several.join(",").into_bytes())),
    }
}
