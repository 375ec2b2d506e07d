//! Entry points for fuzzing; their corpora are replayed by unit tests.

use crate::{AccessLogType, Format, FormatOptions, LogContext, ResponseFlags, StreamInfo, Struct, Value};
use nuncio_headers::{HeaderMap, HeaderName, Known};
use std::time::{Duration, Instant, UNIX_EPOCH};

/// Compiles arbitrary text as a format and, if that succeeds, writes it as text, as JSON and as a header value. The
/// first byte chooses the options.
pub fn fuzz_format(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    let options = FormatOptions {
        omit_empty_values: first & 1 != 0,
        header_value: first & 2 != 0,
        req_without_query: first & 4 != 0,
        environment: &|name| Some(name.to_owned()),
        ..FormatOptions::default()
    };
    let start = Instant::now();
    let mut info = StreamInfo::new(start, UNIX_EPOCH + Duration::from_millis(1_795_184_315_803));
    info.response_code = Some(503);
    info.flags = ResponseFlags::NO_HEALTHY_UPSTREAM;
    info.set_dynamic_metadata("a", Struct::from_iter([("b", Value::from(text.as_ref()))]));
    let mut headers = HeaderMap::new();
    headers.append_known(Known::PATH, text.as_bytes());
    headers.append_known(Known::X_FORWARDED_CLIENT_CERT, text.as_bytes());
    if let Ok(name) = HeaderName::new("a") {
        headers.append(&name, rest);
    }
    let cx = LogContext {
        request: Some(&headers),
        response: Some(&headers),
        trailers: Some(&headers),
        local_reply_body: rest,
        kind: AccessLogType::DownstreamEnd,
        ..LogContext::new(&info, start, info.start_wall)
    };
    // What a value writes is bounded by what it reads, each character escaped; a literal may be written in two places.
    let bound = (rest.len() + 4_096) * (rest.len() + 1) * 32;
    let mut out = Vec::new();
    match Format::text(&text, &options) {
        Ok(format) => {
            format.write(&cx, &mut out);
            assert!(out.len() <= bound, "{} bytes of {}", out.len(), rest.len());
        }
        Err(error) => assert!(error.offset <= text.len() && error.column <= text.len() + 1, "{error}"),
    }
    let template =
        Struct::from_iter([("k", Value::from(text.as_ref())), ("l", Value::List(vec![text.as_ref().into()]))]);
    if let Ok(format) = Format::json(&template, &options) {
        out.clear();
        format.write(&cx, &mut out);
        let is_one_line = out.iter().position(|byte| *byte == b'\n') == out.len().checked_sub(1);
        assert!(is_one_line, "a value broke its line");
        assert!(out.len() <= 2 * bound, "{} bytes of {}", out.len(), rest.len());
    }
}
