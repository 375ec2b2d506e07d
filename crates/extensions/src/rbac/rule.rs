//! Permissions and principals. Both are conditions on the same facts.

use nuncio_filter::Worker;
use nuncio_headers::{HeaderMap, Known};
use nuncio_matcher::{CidrRange, HeaderMatcher, MetadataMatcher, PathMatcher, StringMatcher};
use nuncio_route::{FilterStateMatcher, UriTemplate, metadata_matches};
use nuncio_stream_info::{Address, CertificateNames, ConnectionInfo, LogContext, StreamInfo};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

/// Who asks for what.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The request's headers; none of a connection.
    pub headers: Option<&'a HeaderMap>,
    pub info: &'a StreamInfo,
    pub worker: &'a Worker,
}

impl<'a> Subject<'a> {
    /// The same for expressions.
    pub(super) fn context(self) -> LogContext<'a> {
        LogContext { request: self.headers, ..LogContext::new(self.info, self.worker.now(), self.worker.wall()) }
    }

    pub(super) fn connection(self) -> Option<&'a ConnectionInfo> {
        self.info.connection.as_deref()
    }
}

/// `Permission` or `Principal`.
#[derive(Debug)]
pub(super) enum Rule {
    Any,
    All(Box<[Rule]>),
    OneOf(Box<[Rule]>),
    Not(Box<Rule>),
    Header(HeaderMatcher),
    UrlPath(PathMatcher),
    UriTemplate(UriTemplate),
    Ip(AddressOf, CidrRange),
    /// Of the destination.
    Port(Range<u32>),
    Metadata(MetadataMatcher),
    RouteMetadata(MetadataMatcher),
    ServerName(StringMatcher),
    /// `authenticated`: any name of the peer's certificate; without a matcher any TLS connection.
    Authenticated(Option<StringMatcher>),
    MtlsAuthenticated(MtlsAuthenticated),
    FilterState(FilterStateMatcher),
    /// The host that was chosen.
    Upstream {
        ip: Option<CidrRange>,
        ports: Option<Range<i64>>,
    },
}

/// Which address is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) enum AddressOf {
    /// `destination_ip`
    Destination,
    /// `source_ip`, `direct_remote_ip`: of the connection.
    Connection,
    /// `remote_ip`: of the client, whom proxies in front may have named.
    Client,
}

/// `envoy.rbac.principals.mtls_authenticated`: the certificate must have been verified.
#[derive(Debug)]
pub(super) struct MtlsAuthenticated {
    /// None: any verified certificate.
    pub name: Option<(NameKind, StringMatcher)>,
}

/// `SubjectAltNameMatcher.SanType`
#[derive(Debug, Clone, Copy)]
pub(super) enum NameKind {
    Email,
    Dns,
    Uri,
    Ip,
    Other,
}

impl Rule {
    /// Whether it holds. Recurses as deep as the configuration was allowed to be.
    pub(super) fn holds(&self, subject: Subject<'_>) -> bool {
        let info = subject.info;
        match self {
            Rule::Any => true,
            Rule::All(rules) => rules.iter().all(|rule| rule.holds(subject)),
            Rule::OneOf(rules) => rules.iter().any(|rule| rule.holds(subject)),
            Rule::Not(rule) => !rule.holds(subject),
            Rule::Header(matcher) => subject.headers.is_some_and(|headers| matcher.matches(headers)),
            Rule::UrlPath(matcher) => path(subject).is_some_and(|path| matcher.matches(path)),
            Rule::UriTemplate(template) => path(subject).is_some_and(|path| template.matches(path)),
            Rule::Ip(of, range) => of.ip(subject).is_some_and(|ip| range.contains(ip)),
            Rule::Port(ports) => {
                let port = subject.connection().and_then(|connection| connection.local.port());
                port.is_some_and(|port| ports.contains(&u32::from(port)))
            }
            Rule::Metadata(matcher) => metadata_matches(matcher, info.dynamic_metadata()),
            Rule::RouteMetadata(matcher) => {
                info.route.as_ref().is_some_and(|route| metadata_matches(matcher, route.metadata.as_deref()))
            }
            Rule::ServerName(matcher) => {
                let name = subject.connection().and_then(|connection| connection.sni.as_deref());
                matcher.matches(name.unwrap_or_default().as_bytes())
            }
            Rule::Authenticated(matcher) => is_authenticated(matcher.as_ref(), subject),
            Rule::MtlsAuthenticated(matcher) => matcher.holds(subject),
            Rule::FilterState(matcher) => matcher.holds(&info.filter_state),
            Rule::Upstream { ip, ports } => is_upstream(ip.as_ref(), ports.as_ref(), info),
        }
    }
}

fn path<'a>(subject: Subject<'a>) -> Option<&'a [u8]> {
    subject.headers?.get(Known::PATH)
}

impl AddressOf {
    fn ip(self, subject: Subject<'_>) -> Option<IpAddr> {
        match self {
            AddressOf::Destination => subject.connection()?.local.ip(),
            AddressOf::Connection => subject.connection()?.remote.ip(),
            AddressOf::Client => subject.info.remote()?.ip(),
        }
    }
}

/// The names of the peer's certificate count in this order: URIs, DNS names, subject.
fn is_authenticated(matcher: Option<&StringMatcher>, subject: Subject<'_>) -> bool {
    let Some(tls) = subject.connection().and_then(|connection| connection.tls.as_deref()) else { return false };
    let Some(matcher) = matcher else { return true };
    let CertificateNames { subject, uri, dns, .. } = &tls.peer;
    let any = |names: &[Arc<str>]| names.iter().any(|name| matcher.matches(name.as_bytes()));
    any(uri) || any(dns) || matcher.matches(subject.as_deref().unwrap_or_default().as_bytes())
}

impl MtlsAuthenticated {
    fn holds(&self, subject: Subject<'_>) -> bool {
        let Some(tls) = subject.connection().and_then(|connection| connection.tls.as_deref()) else { return false };
        if !tls.peer_validated {
            return false;
        }
        let Some((kind, matcher)) = &self.name else { return true };
        let CertificateNames { uri, dns, ip, email, other_name, .. } = &tls.peer;
        let names = match kind {
            NameKind::Email => email,
            NameKind::Dns => dns,
            NameKind::Uri => uri,
            NameKind::Ip => ip,
            NameKind::Other => other_name,
        };
        names.iter().any(|name| matcher.matches(name.as_bytes()))
    }
}

fn is_upstream(ip: Option<&CidrRange>, ports: Option<&Range<i64>>, info: &StreamInfo) -> bool {
    let Some(host) = info.upstream.host() else { return false };
    let Address::Ip(address) = &host.address else { return false };
    ip.is_none_or(|range| range.contains(address.ip()))
        && ports.is_none_or(|ports| ports.contains(&i64::from(address.port())))
}
