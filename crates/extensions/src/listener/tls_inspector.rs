//! `envoy.filters.listener.tls_inspector`: whether the first bytes are a TLS client hello, and what it asks for.

mod fingerprint;
mod hello;
#[cfg(test)]
mod tests;

use hello::{First, Hello};
use nuncio_api::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use nuncio_config::compile::{Compile, Invalid, ListenerExtension};
use nuncio_filter::{ListenerFilter, ListenerFilterFactory, PeekStep, Peeked};
use nuncio_stats::names::TlsInspectorStats;
use nuncio_stream_info::Value;
use std::sync::Arc;
use tokio::net::TcpStream;

/// `max_client_hello_size`, where none is given; and the most that it may be: a handshake message that no TLS stack takes.
const MAX_HELLO: usize = 16 * 1024;
/// Record headers that may come on top, for a hello that is spread over small records.
const FRAMING: usize = 1024;
/// Bytes of the first look, where `initial_read_buffer_size` does not say another number: common hellos fit.
const FIRST_LOOK: usize = 2048;

/// The extension.
pub struct TlsInspectorExtension;

impl ListenerExtension for TlsInspectorExtension {
    type Config = TlsInspector;
    const NAME: &'static str = "envoy.filters.listener.tls_inspector";

    fn compile(config: Self::Config, cx: &mut Compile<'_>) -> Result<Arc<dyn ListenerFilterFactory>, Invalid> {
        let TlsInspector {
            enable_ja3_fingerprinting,
            enable_ja4_fingerprinting,
            initial_read_buffer_size,
            close_connection_on_client_hello_parsing_errors,
            max_client_hello_size,
        } = config;
        let limit = max_client_hello_size.map_or(MAX_HELLO, |size| size.value as usize);
        let first_look = initial_read_buffer_size.map_or(FIRST_LOOK, |size| size.value as usize);
        let stats = TlsInspectorStats::register(&cx.store.scope("tls_inspector", &[]));
        Ok(Arc::new(Factory(Arc::new(Settings {
            stats,
            ja3: enable_ja3_fingerprinting.is_some_and(|enabled| enabled.value),
            ja4: enable_ja4_fingerprinting.is_some_and(|enabled| enabled.value),
            close_on_errors: close_connection_on_client_hello_parsing_errors,
            limit: limit.min(MAX_HELLO),
            first_look: first_look.clamp(1, MAX_HELLO),
        }))))
    }
}

struct Settings {
    stats: TlsInspectorStats,
    ja3: bool,
    ja4: bool,
    close_on_errors: bool,
    limit: usize,
    first_look: usize,
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
        self.0.limit + FRAMING
    }

    fn first_look(&self) -> usize {
        self.0.first_look
    }

    fn peek(&mut self, _socket: &TcpStream, data: &[u8], end: bool, peeked: &mut Peeked) -> PeekStep {
        let settings = &*self.0;
        match hello::first(data, settings.limit) {
            First::Incomplete if !end => PeekStep::More,
            First::Incomplete if data.len() >= self.max_bytes() => too_large(settings, data.len(), peeked),
            First::TooLarge => too_large(settings, data.len(), peeked),
            First::Incomplete | First::NotTls => {
                settings.stats.tls_not_found().inc();
                settings.stats.bytes_processed().record(data.len().min(5) as u64);
                failed(peeked, "ClientHelloNotDetected");
                if settings.close_on_errors { PeekStep::Close } else { PeekStep::Next }
            }
            First::Hello(hello) => {
                found(settings, *hello, peeked);
                PeekStep::Next
            }
        }
    }
}

/// As Envoy: a connection whose hello nobody would take is not kept.
fn too_large(settings: &Settings, seen: usize, peeked: &mut Peeked) -> PeekStep {
    settings.stats.client_hello_too_large().inc();
    settings.stats.bytes_processed().record(seen as u64);
    failed(peeked, "ClientHelloTooLarge");
    PeekStep::Close
}

fn failed(peeked: &mut Peeked, reason: &'static str) {
    let fields = peeked.metadata.namespace_mut(TlsInspectorExtension::NAME);
    fields.set("failure_reason", Value::String(reason.into()));
}

fn found(settings: &Settings, hello: Hello, peeked: &mut Peeked) {
    let stats = settings.stats.local();
    stats.tls_found().inc();
    stats.bytes_processed().record(hello.size as u64);
    if hello.server_name.is_some() { stats.sni_found() } else { stats.sni_not_found() }.inc();
    if hello.protocols.is_empty() { stats.alpn_not_found() } else { stats.alpn_found() }.inc();
    peeked.ja3 = settings.ja3.then(|| fingerprint::ja3(&hello));
    peeked.ja4 = settings.ja4.then(|| fingerprint::ja4(&hello));
    peeked.transport_protocol = Some("tls");
    peeked.server_name = hello.server_name;
    peeked.application_protocols = hello.protocols;
}
