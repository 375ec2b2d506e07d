//! `envoy.filters.listener.proxy_protocol`: the client's address as a proxy in front tells it, in a header before the
//! connection's own bytes.

mod config;
mod header;
#[cfg(test)]
mod tests;

pub use config::ProxyProtocolExtension;

use header::{Parsed, Version};
use nuncio_filter::{ListenerFilter, ListenerFilterFactory, PeekStep, Peeked};
use nuncio_stats::names::{ProxyProtocolErrorStats, ProxyProtocolStats, ProxyProtocolVersionStats};
use nuncio_stream_info::{Address, FieldValue, FilterStateObject, ProxiedAddresses, Value};
use std::any::Any;
use std::borrow::Cow;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;

/// The filter state object that holds values where `tlv_location` is `FILTER_STATE`.
const FILTER_STATE: &str = "envoy.network.proxy_protocol.tlv";

/// How a value becomes text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    SanitizedUtf8,
    Base64,
}

/// `rules`: where the value of a type goes.
#[derive(Debug)]
struct Rule {
    kind: u8,
    namespace: Arc<str>,
    key: Arc<str>,
    encoding: Encoding,
}

/// `pass_through_tlvs`.
#[derive(Debug)]
enum PassThrough {
    All,
    These(Vec<u8>),
}

struct Settings {
    rules: Vec<Rule>,
    pass_through: PassThrough,
    to_filter_state: bool,
    allow_missing: bool,
    allow_v1: bool,
    allow_v2: bool,
    stats: ProxyProtocolStats,
    v1: ProxyProtocolVersionStats,
    v2: ProxyProtocolVersionStats,
    errors: ProxyProtocolErrorStats,
}

impl Settings {
    fn allows(&self, version: Version) -> bool {
        match version {
            Version::V1 => self.allow_v1,
            Version::V2 => self.allow_v2,
        }
    }

    fn of(&self, version: Version) -> &ProxyProtocolVersionStats {
        match version {
            Version::V1 => &self.v1,
            Version::V2 => &self.v2,
        }
    }

    /// Whether the bytes can be of no version that is allowed.
    fn is_missing(&self, data: &[u8]) -> bool {
        let v1 = self.allow_v1 && header::starts(data, header::SIGNATURE_V1);
        let v2 = self.allow_v2 && header::starts(data, header::SIGNATURE_V2);
        !v1 && !v2
    }
}

struct Factory(Arc<Settings>);

impl ListenerFilterFactory for Factory {
    fn create(&self) -> Box<dyn ListenerFilter> {
        Box::new(Filter(Arc::clone(&self.0)))
    }
}

struct Filter(Arc<Settings>);

impl ListenerFilter for Filter {
    fn max_bytes(&self) -> usize {
        header::MAX
    }

    fn first_look(&self) -> usize {
        256
    }

    fn peek(&mut self, _socket: &TcpStream, data: &[u8], end: bool, peeked: &mut Peeked) -> PeekStep {
        let settings = &*self.0;
        if settings.allow_missing && settings.is_missing(data) {
            settings.stats.not_found_allowed().inc();
            return PeekStep::Next;
        }
        match header::parse(data) {
            Parsed::Incomplete if !end => PeekStep::More,
            Parsed::Incomplete => PeekStep::Close,
            Parsed::Missing => {
                settings.stats.not_found_disallowed().inc();
                settings.errors.downstream_cx_proxy_proto_error().inc();
                PeekStep::Close
            }
            Parsed::Wrong(version) if settings.allows(version) => {
                settings.of(version).error().inc();
                settings.errors.downstream_cx_proxy_proto_error().inc();
                PeekStep::Close
            }
            Parsed::Wrong(version) => disallowed(settings, version),
            Parsed::Header { version, .. } if !settings.allows(version) => disallowed(settings, version),
            Parsed::Header { version, size, addresses, tlvs } => {
                settings.of(version).found().inc();
                if let Some((source, destination)) = addresses {
                    keep(settings, source, destination, &tlvs, peeked);
                }
                PeekStep::Take(size)
            }
        }
    }
}

fn disallowed(settings: &Settings, version: Version) -> PeekStep {
    let stats = settings.of(version);
    stats.found().inc();
    stats.disallowed().inc();
    PeekStep::Close
}

/// Notes what a header says.
fn keep(settings: &Settings, source: SocketAddr, destination: SocketAddr, tlvs: &[(u8, &[u8])], peeked: &mut Peeked) {
    peeked.client = Some(source);
    peeked.original_destination = Some(destination);
    let passed = tlvs.iter().filter(|(kind, _)| match &settings.pass_through {
        PassThrough::All => true,
        PassThrough::These(kinds) => kinds.contains(kind),
    });
    peeked.proxied = Some(Arc::new(ProxiedAddresses {
        source: Address::Ip(source),
        destination: Address::Ip(destination),
        tlvs: passed.map(|(kind, value)| (*kind, Arc::from(*value))).collect(),
    }));
    let mut fields = Vec::new();
    for rule in &settings.rules {
        // The first value of a type counts, as in Envoy.
        let Some((_, value)) = tlvs.iter().find(|(kind, _)| *kind == rule.kind) else { continue };
        let text = text_of(value, rule.encoding);
        if settings.to_filter_state {
            fields.push((Arc::clone(&rule.key), text));
        } else {
            peeked.metadata.namespace_mut(&rule.namespace).set(Arc::clone(&rule.key), Value::String(text));
        }
    }
    if !fields.is_empty() {
        peeked.filter_state.push((FILTER_STATE.into(), Arc::new(Values(fields))));
    }
}

fn text_of(value: &[u8], encoding: Encoding) -> Arc<str> {
    match encoding {
        Encoding::Base64 => base64(value).into(),
        Encoding::SanitizedUtf8 => {
            let mut text = String::with_capacity(value.len());
            for chunk in value.utf8_chunks() {
                text.push_str(chunk.valid());
                text.extend(chunk.invalid().iter().map(|_| '!'));
            }
            text.into()
        }
    }
}

/// RFC 4648 §4, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = [chunk[0], chunk.get(1).copied().unwrap_or(0), chunk.get(2).copied().unwrap_or(0)];
        let word = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for place in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * place)) as usize & 63];
            text.push(if place > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

/// Values by key.
#[derive(Debug)]
struct Values(Vec<(Arc<str>, Arc<str>)>);

impl FilterStateObject for Values {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn to_plain(&self) -> Option<Cow<'_, str>> {
        let mut text = String::new();
        for (key, value) in &self.0 {
            // Writing into a String can't fail.
            let _ = write!(text, "{}{key}: {value}", if text.is_empty() { "" } else { ", " });
        }
        Some(text.into())
    }

    fn field(&self, name: &str) -> Option<FieldValue<'_>> {
        let (_, value) = self.0.iter().find(|(key, _)| **key == *name)?;
        Some(FieldValue::Text(Cow::Borrowed(value)))
    }
}
