//! Tables of what routes do. The expectations were measured on Envoy 1.40 with the same configuration.

mod building;
mod clusters;
mod finding;
mod mutating;
mod redirecting;
mod rewriting;
mod sizes;

use crate::spec::{
    ActionSpec, DirectResponseSpec, PathSpec, RouteActionSpec, RouteConfigSpec, RouteMatchSpec, RouteSpec,
    VirtualHostSpec,
};
use crate::{BuildError, Outcome, PeerCertificate, Route, RouteQuery, RouteTable};
use nuncio_headers::{HeaderMap, HeaderName};
use nuncio_matcher::NoRuntime;
use nuncio_stream_info::{LogContext, StreamInfo};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// Headers from `name: value` lines.
fn headers(lines: &[&str]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in lines {
        let at = line[1..].find(':').unwrap() + 1;
        map.append(&HeaderName::new(&line[..at]).unwrap(), line[at + 1..].trim_start().as_bytes());
    }
    map
}

/// A request for `path` at `host` with more header lines.
fn request(host: &str, path: &str, more: &[&str]) -> HeaderMap {
    let (host, path) = (format!(":authority: {host}"), format!(":path: {path}"));
    let lines = [&[":method: GET", &path, &host, ":scheme: http", "x-forwarded-proto: http"], more].concat();
    headers(&lines)
}

fn query(headers: &HeaderMap) -> RouteQuery<'_> {
    RouteQuery { headers, random: 0, runtime: &NoRuntime, info: None, peer_certificate: PeerCertificate::default() }
}

/// Calls `f` with the context that formats look at.
fn with_context<T>(f: impl FnOnce(&LogContext<'_>) -> T) -> T {
    let info = StreamInfo::new(Instant::now(), SystemTime::UNIX_EPOCH);
    f(&LogContext::new(&info, Instant::now(), SystemTime::UNIX_EPOCH))
}

/// Header lines without the fixed pseudo-headers, in order, joined by `|`.
fn dump(headers: &HeaderMap) -> String {
    let shown = headers.iter().filter(|(name, _)| ![":method", ":scheme", "x-forwarded-proto"].contains(name));
    shown.map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect::<Vec<_>>().join("|")
}

fn exact(path: &str) -> PathSpec {
    PathSpec::Exact(path.to_owned())
}

fn prefix(path: &str) -> PathSpec {
    PathSpec::Prefix(path.to_owned())
}

fn regex(pattern: &str) -> PathSpec {
    PathSpec::SafeRegex(pattern.into())
}

/// A route that answers with its name.
fn answer(name: &str, matching: RouteMatchSpec) -> RouteSpec {
    let response = DirectResponseSpec { status: 200, body: name.as_bytes().into(), body_format: None };
    RouteSpec { name: name.to_owned(), ..RouteSpec::new(matching, ActionSpec::DirectResponse(response)) }
}

/// A route to cluster `c` with whatever `change` sets.
fn forward(path: PathSpec, change: impl FnOnce(&mut RouteActionSpec)) -> RouteSpec {
    let mut action = RouteActionSpec::to_cluster("c");
    change(&mut action);
    RouteSpec::new(RouteMatchSpec::new(path), ActionSpec::Route(Box::new(action)))
}

fn host(name: &str, domains: &[&str], routes: Vec<RouteSpec>) -> VirtualHostSpec {
    let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
    VirtualHostSpec { name: name.to_owned(), domains, routes, ..Default::default() }
}

fn config(virtual_hosts: Vec<VirtualHostSpec>) -> RouteConfigSpec {
    RouteConfigSpec { name: "rc".to_owned(), virtual_hosts, ..Default::default() }
}

fn table(spec: RouteConfigSpec) -> RouteTable {
    RouteTable::build(spec).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// A table of one virtual host for every domain.
fn one_host(routes: Vec<RouteSpec>) -> RouteTable {
    table(config(vec![host("v", &["*"], routes)]))
}

fn errors(spec: RouteConfigSpec) -> Vec<BuildError> {
    RouteTable::build(spec).err().unwrap_or_default()
}

fn route<'t>(table: &'t RouteTable, headers: &HeaderMap) -> &'t Arc<Route> {
    match table.find(&query(headers)) {
        Outcome::Route(route) => route,
        other => panic!("{other:?}"),
    }
}

/// The name of the route found, `-` if none, `!` for a redirect to https.
fn found(table: &RouteTable, headers: &HeaderMap) -> String {
    found_by(table, &query(headers))
}

fn found_by(table: &RouteTable, query: &RouteQuery<'_>) -> String {
    match table.find(query) {
        Outcome::Route(route) => route.name().to_string(),
        Outcome::NoRoute(_) => "-".to_owned(),
        Outcome::TlsRedirect(_) => "!".to_owned(),
    }
}
