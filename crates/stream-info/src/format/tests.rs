//! The grammar against Envoy's verdicts, and outputs against lines that Envoy 1.40 wrote for the same requests.

mod json;
#[path = "../../../../fuzz/mutations.rs"]
mod mutations;
mod operators;
mod syntax;

use super::{Format, FormatOptions};
use crate::{
    AccessLogType, Address, ClusterInfo, ConnectionInfo, HostInfo, Locality, LogContext, Metadata, Protocol,
    ResponseFlags, RouteInfo, StreamInfo, Struct, TimePoint, Value, VirtualHostInfo,
};
use nuncio_headers::{HeaderMap, HeaderName};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// 2026-11-20T14:18:35.803038Z
pub(super) fn wall() -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(1_795_184_315_803_038)
}

pub(super) fn headers(entries: &[(&str, &[u8])]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in entries {
        map.append(&HeaderName::new(name).unwrap(), value);
    }
    map
}

fn metadata(namespace: &str, fields: Struct) -> Option<Arc<Metadata>> {
    let mut metadata = Metadata::new();
    metadata.merge(namespace, fields);
    Some(Arc::new(metadata))
}

fn address(text: &str) -> Address {
    Address::Ip(text.parse().unwrap())
}

pub(super) fn host(address_text: &str, hostname: &str) -> Arc<HostInfo> {
    Arc::new(HostInfo {
        address: address(address_text),
        hostname: hostname.into(),
        metadata: metadata("hm", Struct::from_iter([("k", "v")])),
        locality: Locality::default(),
    })
}

fn connection(start: Instant) -> ConnectionInfo {
    let mut connection = ConnectionInfo::new(3, start, address("127.0.0.1:37279"), address("127.0.0.1:39202"));
    connection.filter_chain_name = Some("chain1".into());
    connection.filter_chain_metadata = metadata("fm", Struct::from_iter([("c", "d")]));
    connection.listener_metadata = metadata("lm", Struct::from_iter([("q", "r")]));
    connection
}

fn dynamic() -> Struct {
    let object = Struct::from_iter([("zz", Value::from(1.0)), ("aa", Value::from("x"))]);
    let list = vec![Value::from(1.0), "a".into(), Struct::from_iter([("q", "w")]).into()];
    Struct::from_iter([
        ("s", Value::from("str ing")),
        ("n", 3.0.into()),
        ("f", 1.25.into()),
        ("big", 12_345_678_901_234_567_890_f64.into()),
        ("b", true.into()),
        ("nul", Value::Null),
        ("l", list.into()),
        ("o", object.into()),
        ("q", "a\"b\\c\nd\u{1}\u{7f}é/".into()),
    ])
}

/// A proxied request like the first one of the comparison with Envoy.
pub(super) fn stream(start: Instant) -> StreamInfo {
    let mut info = StreamInfo::new(start, wall());
    let after = |micros| start + Duration::from_micros(micros);
    info.connection = Some(Arc::new(connection(start - Duration::from_millis(2))));
    info.remote_address = Some(address("1.2.3.4:0"));
    info.protocol = Some(Protocol::Http11);
    info.response_code = Some(200);
    info.details = "via_upstream".into();
    info.bytes_sent = 5;
    info.downstream_bytes.wire_sent = 168;
    info.upstream_bytes.header_received = 107;
    info.mark(TimePoint::DownstreamRxEnd, after(70));
    info.mark(TimePoint::UpstreamTxBegin, after(200));
    info.mark(TimePoint::UpstreamTxEnd, after(300));
    info.mark(TimePoint::UpstreamRxBegin, after(1_100));
    info.mark(TimePoint::DownstreamTxEnd, after(1_334));
    info.timing.set_custom("mine".into(), start, after(50));
    info.end = Some(after(1_400));
    info.route = Some(Arc::new(RouteInfo {
        name: "uproute".into(),
        metadata: metadata("rm", Struct::from_iter([("x", "y")])),
        virtual_host: Arc::new(VirtualHostInfo {
            name: "vh".into(),
            metadata: metadata("vm", Struct::from_iter([("v", 1.0)])),
        }),
    }));
    info.virtual_cluster_name = Some("vc".into());
    let nested = Struct::from_iter([("l", Value::List(vec![1.0.into(), "x\"y".into()])), ("z", 1.0.into())]);
    info.upstream.cluster = Some(Arc::new(ClusterInfo {
        name: "up".into(),
        observability_name: "alt_up".into(),
        metadata: metadata("cm", Struct::from_iter([("a", Value::from("b")), ("n", 1.5.into()), ("o", nested.into())])),
    }));
    info.upstream.attempts = 1;
    info.upstream.set_host(host("127.0.0.1:48533", "up.example.com:80"));
    info.upstream.mark_attempted();
    info.upstream.set_connection(4);
    info.upstream.local_address = Some(address("127.0.0.1:60012"));
    info.upstream.remote_address = Some(address("127.0.0.1:48533"));
    info.upstream.protocol = Some(Protocol::Http11);
    info.upstream.pool_ready = Some(Duration::from_micros(200));
    info.route_resolution_count = 1;
    info.route_resolution_time = Some(Duration::from_nanos(7_900));
    info.set_dynamic_metadata("dyn", dynamic());
    info
}

/// A stream of which nothing is known.
pub(super) fn blank(start: Instant) -> StreamInfo {
    StreamInfo::new(start, wall())
}

pub(super) struct Exchange {
    pub(super) start: Instant,
    pub(super) info: StreamInfo,
    pub(super) request: HeaderMap,
    pub(super) response: HeaderMap,
    pub(super) trailers: HeaderMap,
}

impl Exchange {
    pub(super) fn new() -> Exchange {
        let start = Instant::now();
        Exchange {
            start,
            info: stream(start),
            request: headers(&[
                (":method", b"GET"),
                (":path", b"/up/vc?a=1&b=%20x"),
                (":authority", b"example.com:8080"),
                ("x-forwarded-for", b"1.2.3.4"),
                ("x-request-id", b"abc"),
                ("user-agent", b"ua"),
                ("x-h", b"a\"b\\c\td/<\xc3\xa9"),
            ]),
            response: headers(&[(":status", b"200"), ("x-foo", b"a"), ("x-foo", b"b")]),
            trailers: headers(&[("x-trail", b"t1")]),
        }
    }

    /// A stream without facts and messages.
    pub(super) fn blank() -> Exchange {
        let start = Instant::now();
        let empty = HeaderMap::new;
        Exchange { start, info: blank(start), request: empty(), response: empty(), trailers: empty() }
    }

    pub(super) fn with_request(entries: &[(&str, &[u8])]) -> Exchange {
        Exchange { request: headers(entries), ..Exchange::new() }
    }

    pub(super) fn context(&self) -> LogContext<'_> {
        LogContext {
            request: Some(&self.request),
            response: Some(&self.response),
            trailers: Some(&self.trailers),
            kind: AccessLogType::DownstreamEnd,
            random: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef,
            ..LogContext::new(&self.info, self.start + Duration::from_secs(9), wall() + Duration::from_millis(2))
        }
    }

    pub(super) fn text_with(&self, format: &str, options: &FormatOptions<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        Format::text(format, options).unwrap().write(&self.context(), &mut out);
        out
    }

    pub(super) fn text(&self, format: &str) -> String {
        String::from_utf8_lossy(&self.text_with(format, &FormatOptions::default())).into_owned()
    }

    pub(super) fn json_with(&self, template: &Struct, options: &FormatOptions<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        Format::json(template, options).unwrap().write(&self.context(), &mut out);
        out
    }

    /// One operator as a JSON value.
    pub(super) fn json(&self, format: &str) -> String {
        let line = self.json_with(&Struct::from_iter([("k", format)]), &FormatOptions::default());
        String::from_utf8(line)
            .unwrap()
            .trim_end()
            .strip_prefix("{\"k\":")
            .unwrap()
            .strip_suffix('}')
            .unwrap()
            .to_owned()
    }
}

#[test]
fn default_format_is_envoys() {
    let mut exchange = Exchange::new();
    let line = "[2026-11-20T14:18:35.803Z] \"GET /up/vc?a=1&b=%20x HTTP/1.1\" 200 - 0 5 1 - \"1.2.3.4\" \"ua\" \"abc\" \
                \"example.com:8080\" \"127.0.0.1:48533\"\n";
    assert_eq!(exchange.text(crate::DEFAULT_FORMAT), line);
    exchange.info.flags = ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED | ResponseFlags::UPSTREAM_CONNECTION_FAILURE;
    // As Envoy 1.40 writes a refused connection after the last retry.
    assert_eq!(exchange.text("%RESPONSE_FLAGS%"), "URX,UF");
    let tcp = Exchange::blank();
    let line = "[2026-11-20T14:18:35.803Z] \"- - -\" 0 - 0 0 9000 - \"-\" \"-\" \"-\" \"-\" \"-\"\n";
    assert_eq!(tcp.text(crate::DEFAULT_TCP_FORMAT), line);
}

#[test]
fn constants_are_known() {
    let constant = |format| Format::text(format, &FormatOptions::default()).unwrap().constant().map(str::to_owned);
    assert_eq!(constant(""), Some(String::new()));
    assert_eq!(constant("100%%"), Some("100%".to_owned()));
    assert_eq!(constant("%PROTOCOL%"), None);
}

/// The corpus of the fuzz target.
fn corpus() -> Vec<Vec<u8>> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/format");
    let files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(files.len() > 10, "{} files in {directory}", files.len());
    files
}

#[test]
fn corpus_replays() {
    for input in corpus() {
        crate::fuzz::fuzz_format(&input);
    }
    for line in syntax::VERDICTS.lines() {
        for options in b"\x00\x07" {
            crate::fuzz::fuzz_format(&[&[*options], line.as_bytes()].concat());
        }
    }
}

#[test]
fn mutations_of_the_corpus_keep_the_properties() {
    const PIECES: &[&[u8]] = &[
        b"%",
        b"%%",
        b"(",
        b")",
        b":",
        b"?",
        b"/",
        b",",
        b"REQ(",
        b"%START_TIME(",
        b"%COALESCE({",
        b"\"",
        b"\\",
        b"\\u",
        b"%RESP(",
        b"18446744073709551616",
        b"-1",
        b"\0",
        b"\xff",
        b"\xc3",
        "é".as_bytes(),
        "\u{10ffff}".as_bytes(),
        b"%DYNAMIC_METADATA(a:b",
        b"%-",
        b"%3f",
        b"\n",
        b"):",
    ];
    let corpus = corpus();
    for seed in 0..5_000 {
        crate::fuzz::fuzz_format(&mutations::mutate(seed, &corpus, PIECES));
    }
}
