use super::{Comparison, LogFilter, RuntimeValue};
use crate::{AccessLogType, LogContext, ResponseFlags, StreamInfo, Struct, Value};
use nuncio_headers::{HeaderMap, Known};
use std::time::{Duration, Instant, UNIX_EPOCH};

fn info() -> StreamInfo {
    let mut info = StreamInfo::new(Instant::now(), UNIX_EPOCH);
    info.response_code = Some(503);
    info.end = Some(info.start + Duration::from_millis(100));
    info
}

fn check(filter: &LogFilter, info: &StreamInfo, expected: bool) {
    let cx = LogContext { kind: AccessLogType::DownstreamEnd, ..LogContext::new(info, info.start, UNIX_EPOCH) };
    assert_eq!(filter.matches(&cx, 0), expected, "{filter:?}");
}

#[test]
fn numbers_are_compared() {
    for (comparison, configured, expected) in [
        (Comparison::Equal, 503, true),
        (Comparison::Equal, 500, false),
        (Comparison::GreaterOrEqual, 503, true),
        (Comparison::GreaterOrEqual, 504, false),
        (Comparison::LessOrEqual, 503, true),
        (Comparison::LessOrEqual, 502, false),
        (Comparison::NotEqual, 503, false),
        (Comparison::NotEqual, 1, true),
    ] {
        check(&LogFilter::StatusCode(comparison, RuntimeValue::fixed(configured)), &info(), expected);
    }
    let zero = LogFilter::StatusCode(Comparison::Equal, RuntimeValue::fixed(0));
    check(&zero, &StreamInfo::new(Instant::now(), UNIX_EPOCH), true);
    check(&LogFilter::Duration(Comparison::GreaterOrEqual, RuntimeValue::fixed(100)), &info(), true);
    check(&LogFilter::Duration(Comparison::GreaterOrEqual, RuntimeValue::fixed(101)), &info(), false);
}

#[test]
fn runtime_overrides_numbers() {
    let filter = LogFilter::StatusCode(Comparison::Equal, RuntimeValue { default: 503, key: "k".into() });
    let info = info();
    let cx = LogContext::new(&info, info.start, UNIX_EPOCH);
    assert!(filter.matches_with(&cx, 0, &|_| None));
    assert!(!filter.matches_with(&cx, 0, &|key| (key == "k").then_some(200)));
}

#[test]
fn shares_follow_the_request_id() {
    let share = |use_independent_randomness| LogFilter::Runtime {
        numerator: RuntimeValue::fixed(50),
        denominator: 100,
        use_independent_randomness,
    };
    let info = info();
    let mut headers = HeaderMap::new();
    let mut decide = |id: Option<&str>, random, independent| {
        headers.clear();
        if let Some(id) = id {
            headers.append_known(Known::X_REQUEST_ID, id.as_bytes());
        }
        let cx = LogContext { request: Some(&headers), ..LogContext::new(&info, info.start, UNIX_EPOCH) };
        share(independent).matches(&cx, random)
    };
    assert!(decide(None, 49, false));
    assert!(!decide(None, 50, false));
    // 0x00000031 is 49, 0x00000032 is 50.
    assert!(decide(Some("00000031-3264-456c-b806-d467767bd055"), 99, false));
    assert!(!decide(Some("00000032-3264-456c-b806-d467767bd055"), 0, false));
    assert!(decide(Some("00000032-3264-456c-b806-d467767bd055"), 0, true));
    // An id that is no number leaves it to chance.
    for id in ["abc", "zzzzzzzz", "+0000032", ""] {
        assert!(decide(Some(id), 0, false), "{id}");
    }
}

#[test]
fn flags_status_and_kind() {
    let mut info = info();
    let any = LogFilter::ResponseFlag(ResponseFlags::NONE);
    let some = LogFilter::ResponseFlag(ResponseFlags::NO_ROUTE_FOUND | ResponseFlags::NO_HEALTHY_UPSTREAM);
    check(&any, &info, false);
    info.flags.insert(ResponseFlags::NO_HEALTHY_UPSTREAM);
    check(&any, &info, true);
    check(&some, &info, true);
    info.flags = ResponseFlags::RATE_LIMITED;
    check(&some, &info, false);
    // 503 without a gRPC status is Unavailable.
    check(&LogFilter::GrpcStatus { statuses: vec![14], exclude: false }, &info, true);
    check(&LogFilter::GrpcStatus { statuses: vec![14], exclude: true }, &info, false);
    info.response_code = None;
    check(&LogFilter::GrpcStatus { statuses: vec![2], exclude: false }, &info, true);
    let ends = |exclude| LogFilter::LogType { types: vec![AccessLogType::DownstreamEnd], exclude };
    check(&ends(false), &info, true);
    check(&ends(true), &info, false);
    check(&LogFilter::NotHealthCheck, &info, true);
    check(&LogFilter::Traceable, &info, false);
    info.trace.traced = true;
    check(&LogFilter::Traceable, &info, true);
    info.health_check = true;
    check(&LogFilter::NotHealthCheck, &info, false);
    check(&LogFilter::Traceable, &info, false);
}

#[test]
fn metadata_and_headers() {
    let mut info = info();
    let filter = |match_if_key_not_found| LogFilter::Metadata {
        namespace: "n".into(),
        path: vec!["k".into()],
        matches: Some(Box::new(|value| *value == Value::from("v"))),
        match_if_key_not_found,
    };
    check(&filter(true), &info, true);
    check(&filter(false), &info, false);
    info.set_dynamic_metadata("n", Struct::from_iter([("k", "v")]));
    check(&filter(false), &info, true);
    info.set_dynamic_metadata("n", Struct::from_iter([("k", "w")]));
    check(&filter(true), &info, false);
    // Without request headers, the predicate sees none.
    check(&LogFilter::Header(Box::new(HeaderMap::is_empty)), &info, true);
}

#[test]
fn filters_combine() {
    let is = |code| LogFilter::StatusCode(Comparison::Equal, RuntimeValue::fixed(code));
    for (filter, expected) in [
        (LogFilter::And(vec![is(503), LogFilter::NotHealthCheck]), true),
        (LogFilter::And(vec![is(503), is(200)]), false),
        (LogFilter::Or(vec![is(200), is(503)]), true),
        (LogFilter::Or(vec![is(200), is(201)]), false),
        (LogFilter::Custom(Box::new(|cx| cx.info.health_check)), false),
    ] {
        check(&filter, &info(), expected);
    }
}
