use super::filter::{GrpcStatsFilter, Options, PerMethod};
use crate::testing::TestStream;
use bytes::Bytes;
use nuncio_filter::{Chunk, DataStep, End, HttpFilter, Step};
use nuncio_headers::{HeaderName, Known};
use std::sync::Arc;

fn call(kind: &str) -> (TestStream, GrpcStatsFilter) {
    let options = Options { emit_filter_state: true, upstream_time: true, per_method: PerMethod::All };
    let mut test = TestStream::new();
    test.request.set_known(Known::PATH, b"/a.B/C");
    test.request.set_known(Known::CONTENT_TYPE, kind.as_bytes());
    let mut filter = GrpcStatsFilter::new(Arc::new(options));
    // CVE-2026-47204: without a cluster (a direct response) nothing is counted, and nothing fails.
    assert!(matches!(filter.request_headers(&mut test.stream(), End::More), Step::Next));
    (test, filter)
}

fn counts(test: &TestStream) -> Option<String> {
    let state = test.info.filter_state.get("envoy.filters.http.grpc_stats")?;
    Some(state.to_plain()?.into_owned())
}

fn finish(test: &mut TestStream, filter: &mut GrpcStatsFilter) {
    test.response_trailers.set_known(Known::GRPC_STATUS, b"0");
    assert!(matches!(filter.response_trailers(&mut test.stream()), Step::Next));
    filter.finish(&mut test.stream());
}

#[test]
fn cve_2026_47204_counts_messages_without_a_cluster() {
    let (mut test, mut filter) = call("application/grpc+proto");
    assert_eq!(counts(&test), None);
    let mut chunk = Chunk::from(Bytes::from_static(b"\0\0\0\0\x01x\0\0\0\0\x01"));
    assert!(matches!(filter.request_data(&mut test.stream(), &mut chunk, End::More), DataStep::Next));
    assert_eq!(counts(&test).as_deref(), Some("2,0"));
    test.response.set_known(Known::STATUS, b"200");
    test.response.set_known(Known::CONTENT_TYPE, b"application/grpc");
    assert!(matches!(filter.response_headers(&mut test.stream(), End::More), Step::Next));
    let mut chunk = Chunk::from(Bytes::from_static(b"\0\0\0\0\0"));
    assert!(matches!(filter.response_data(&mut test.stream(), &mut chunk, End::More), DataStep::Next));
    assert_eq!(counts(&test).as_deref(), Some("2,1"));
    finish(&mut test, &mut filter);
}

#[test]
fn cve_2026_47204_connect_calls_without_a_cluster() {
    let (mut test, mut filter) = call("application/connect+proto");
    test.response.set_known(Known::STATUS, b"200");
    test.response.set_known(Known::CONTENT_TYPE, b"application/connect+proto");
    assert!(matches!(filter.response_headers(&mut test.stream(), End::More), Step::Next));
    let mut chunk = Chunk::from(Bytes::from_static(b"\0\0\0\0\x01x\x02\0\0\0\x02{}"));
    assert!(matches!(filter.response_data(&mut test.stream(), &mut chunk, End::Last), DataStep::Next));
    assert_eq!(counts(&test).as_deref(), Some("0,1"));
    finish(&mut test, &mut filter);

    let (mut test, _) = call("application/proto");
    test.request.set(&HeaderName::new("connect-protocol-version").unwrap(), b"1");
    let options = Options { emit_filter_state: true, upstream_time: false, per_method: PerMethod::None };
    let mut filter = GrpcStatsFilter::new(Arc::new(options));
    assert!(matches!(filter.request_headers(&mut test.stream(), End::More), Step::Next));
    let mut chunk = Chunk::from(Bytes::from_static(b"x"));
    assert!(matches!(filter.request_data(&mut test.stream(), &mut chunk, End::Last), DataStep::Next));
    assert!(matches!(filter.response_headers(&mut test.stream(), End::More), Step::Next));
    assert!(matches!(filter.response_data(&mut test.stream(), &mut chunk, End::Last), DataStep::Next));
    assert_eq!(counts(&test).as_deref(), Some("1,1"));
    finish(&mut test, &mut filter);
}

#[test]
fn other_requests_are_not_counted() {
    let (mut test, mut filter) = call("application/json");
    let mut chunk = Chunk::from(Bytes::from_static(b"\0\0\0\0\x01x"));
    assert!(matches!(filter.request_data(&mut test.stream(), &mut chunk, End::Last), DataStep::Next));
    assert_eq!(counts(&test), None);
}
