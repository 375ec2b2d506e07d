//! Nanoseconds of writing a log line for a typical proxied request.
//!
//! `cargo run --profile bench-fast -p nuncio-stream-info --example hot_path [name]`

use nuncio_headers::{HeaderMap, HeaderName};
use nuncio_stream_info::{
    Address, ConnectionInfo, DEFAULT_FORMAT, Format, FormatOptions, HostInfo, Locality, LogContext, Protocol,
    StreamInfo, Struct, TimePoint, Value,
};
use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const ROUNDS: u32 = 7;
const LINES: u32 = 200_000;

fn headers(entries: &[(&str, &str)]) -> Result<HeaderMap, Box<dyn Error>> {
    let mut map = HeaderMap::new();
    for (name, value) in entries {
        map.append(&HeaderName::new(name)?, value.as_bytes());
    }
    Ok(map)
}

fn stream(start: Instant, wall: SystemTime) -> Result<StreamInfo, Box<dyn Error>> {
    let mut info = StreamInfo::new(start, wall);
    let address = |text: &str| text.parse().map(Address::Ip);
    let connection = ConnectionInfo::new(42, start, address("10.1.2.3:10000")?, address("10.9.8.7:51234")?);
    info.connection = Some(Arc::new(connection));
    info.protocol = Some(Protocol::Http11);
    info.response_code = Some(200);
    info.details = nuncio_stream_info::details::VIA_UPSTREAM.into();
    info.bytes_sent = 1_234;
    info.upstream.set_host(Arc::new(HostInfo {
        address: address("10.4.5.6:8080")?,
        hostname: "".into(),
        metadata: None,
        locality: Locality::default(),
    }));
    info.mark(TimePoint::UpstreamRxBegin, start + Duration::from_millis(3));
    Ok(info)
}

/// The least time per line over several rounds.
fn measure(name: &str, mut line: impl FnMut(u32)) {
    let mut least = f64::MAX;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        for at in 0..LINES {
            line(at);
        }
        least = least.min(begin.elapsed().as_nanos() as f64 / f64::from(LINES));
    }
    println!("{name:<28}{least:>8.1} ns");
}

fn main() -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let mut info = stream(start, UNIX_EPOCH + Duration::from_millis(1_795_184_315_803))?;
    let request = headers(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "example.com"),
        (":path", "/api/v1/items?limit=10"),
        ("user-agent", "curl/8.5.0"),
        ("accept", "*/*"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "f54d02a5-92b1-4806-9741-f070a2f15e48"),
    ])?;
    let response = headers(&[
        (":status", "200"),
        ("content-type", "application/json"),
        ("content-length", "1234"),
        ("x-envoy-upstream-service-time", "3"),
        ("server", "envoy"),
    ])?;
    let options = FormatOptions::default();
    let json: Struct = [
        ("start_time", "%START_TIME%"),
        ("method", "%REQ(:METHOD)%"),
        ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
        ("protocol", "%PROTOCOL%"),
        ("response_code", "%RESPONSE_CODE%"),
        ("response_flags", "%RESPONSE_FLAGS%"),
        ("bytes_received", "%BYTES_RECEIVED%"),
        ("bytes_sent", "%BYTES_SENT%"),
        ("duration", "%DURATION%"),
        ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
        ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
        ("user_agent", "%REQ(USER-AGENT)%"),
        ("request_id", "%REQ(X-REQUEST-ID)%"),
        ("authority", "%REQ(:AUTHORITY)%"),
        ("upstream_host", "%UPSTREAM_HOST%"),
    ]
    .into_iter()
    .map(|(name, format)| (name, Value::from(format)))
    .collect();
    let formats = [
        ("default line", Format::text(DEFAULT_FORMAT, &options)?),
        ("the same as JSON", Format::json(&json, &options)?),
        ("time with a pattern", Format::text("%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%", &options)?),
        ("header value", Format::text("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", &options)?),
    ];
    let mut out = Vec::with_capacity(4096);
    let only = std::env::args().nth(1);
    for (name, format) in formats.iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name)) {
        measure(name, |at| {
            out.clear();
            let now = start + Duration::from_micros(u64::from(at));
            let cx = LogContext {
                request: Some(&request),
                response: Some(&response),
                ..LogContext::new(black_box(&info), now, info.start_wall)
            };
            format.write(&cx, &mut out);
            black_box(&out);
        });
    }
    measure("reset", |_| {
        info.reset(start, UNIX_EPOCH);
        black_box(&info);
    });
    println!("size of StreamInfo          {:>8} bytes", size_of::<StreamInfo>());
    Ok(())
}
