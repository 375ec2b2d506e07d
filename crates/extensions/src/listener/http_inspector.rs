//! `envoy.filters.listener.http_inspector`: whether the first bytes are HTTP, and which version.

use nuncio_api::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use nuncio_config::compile::{Compile, Invalid, ListenerExtension};
use nuncio_filter::{ListenerFilter, ListenerFilterFactory, PeekStep, Peeked};
use nuncio_stats::names::HttpInspectorStats;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Bytes that are looked at, at most: a request line of this length is not recognised.
const MAX_BYTES: usize = 8 * 1024;

/// What HTTP/2 with prior knowledge starts with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The extension.
pub struct HttpInspectorExtension;

impl ListenerExtension for HttpInspectorExtension {
    type Config = HttpInspector;
    const NAME: &'static str = "envoy.filters.listener.http_inspector";

    fn compile(_config: Self::Config, cx: &mut Compile<'_>) -> Result<Arc<dyn ListenerFilterFactory>, Invalid> {
        let scope = cx.store.scope("http_inspector", &[]);
        Ok(Arc::new(Factory(HttpInspectorStats::register(&scope))))
    }
}

struct Factory(HttpInspectorStats);

impl ListenerFilterFactory for Factory {
    fn create(&self) -> Box<dyn ListenerFilter> {
        Box::new(Filter(self.0.clone()))
    }
}

struct Filter(HttpInspectorStats);

/// What the bytes look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looks {
    Http10,
    Http11,
    Http2,
    NotHttp,
    Unknown,
}

impl ListenerFilter for Filter {
    fn max_bytes(&self) -> usize {
        MAX_BYTES
    }

    fn peek(&mut self, _socket: &TcpStream, data: &[u8], end: bool, peeked: &mut Peeked) -> PeekStep {
        if peeked.transport_protocol == Some("tls") {
            return PeekStep::Next;
        }
        let protocol = match looks(data) {
            Looks::Http10 => {
                self.0.http10_found().inc();
                "http/1.0"
            }
            Looks::Http11 => {
                self.0.http11_found().inc();
                "http/1.1"
            }
            Looks::Http2 => {
                self.0.http2_found().inc();
                "h2c"
            }
            Looks::Unknown if !end => return PeekStep::More,
            Looks::NotHttp | Looks::Unknown => {
                self.0.http_not_found().inc();
                return PeekStep::Next;
            }
        };
        peeked.application_protocols = vec![Arc::from(protocol)];
        PeekStep::Next
    }
}

fn looks(data: &[u8]) -> Looks {
    let common = data.len().min(PREFACE.len());
    if data[..common] == PREFACE[..common] {
        return if common == PREFACE.len() { Looks::Http2 } else { Looks::Unknown };
    }
    let end = data.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let line = &data[..end.unwrap_or(data.len())];
    let mut words = line.splitn(2, |byte| *byte == b' ');
    let method = words.next().unwrap_or_default();
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if method.is_empty() || !method.iter().all(token) || method.len() > 64 {
        return if data.is_empty() { Looks::Unknown } else { Looks::NotHttp };
    }
    if end.is_none() {
        return Looks::Unknown;
    }
    match line.rsplit(|byte| *byte == b' ').next() {
        Some(b"HTTP/1.1") => Looks::Http11,
        Some(b"HTTP/1.0") => Looks::Http10,
        _ => Looks::NotHttp,
    }
}

#[cfg(test)]
mod tests {
    use super::{Looks, looks};

    #[test]
    fn first_bytes() {
        for (data, expected) in [
            (&b""[..], Looks::Unknown),
            (b"GET", Looks::Unknown),
            (b"GET / HTTP/1.1", Looks::Unknown),
            (b"GET / HTTP/1.1\r\n", Looks::Http11),
            (b"GET / HTTP/1.0\r\n", Looks::Http10),
            (b"GET / SPDY/3\r\n", Looks::NotHttp),
            (b"PRI * HTT", Looks::Unknown),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Looks::Http2),
            (b"\x16\x03\x01", Looks::NotHttp),
            (b"SSH-2.0-x\r\n", Looks::NotHttp),
        ] {
            assert_eq!(looks(data), expected, "{data:?}");
        }
    }
}
