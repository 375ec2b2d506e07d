use super::filter::{Cache, HealthCheck, HealthCheckFactory, MinHealthy};
use crate::testing::TestStream;
use nuncio_filter::{Chunk, DataStep, End, HttpFilterFactory, Step};
use nuncio_headers::{HeaderName, Known};
use nuncio_stats::Store;
use nuncio_stats::names::HealthCheckFilterStats;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn check(store: &Store, pass_through: bool, cache: Option<Cache>) -> HealthCheck {
    HealthCheck {
        pass_through,
        cache,
        min_healthy: Box::new([]),
        headers: Box::new([]),
        node_cluster: Arc::from("here"),
        stats: HealthCheckFilterStats::register(&store.scope("hc", &[])),
    }
}

#[test]
fn cached_answers_end_with_their_period() {
    let cache = Cache::new(Duration::from_millis(100));
    let now = Instant::now();
    assert_eq!(cache.get(now), None);
    cache.put(503, true, now);
    assert_eq!(cache.get(now), Some((503, true)));
    assert_eq!(cache.get(now + Duration::from_millis(100)), None);
    cache.put(200, false, now + Duration::from_secs(1));
    assert_eq!(cache.get(now + Duration::from_secs(1)), Some((200, false)));
}

#[test]
fn a_body_is_swallowed_before_the_answer() {
    let store = Store::new(1);
    let factory = HealthCheckFactory(Arc::new(check(&store, false, None)));
    let mut test = TestStream::new();
    let mut filter = factory.create(&test.worker.clone());
    assert!(matches!(filter.request_headers(&mut test.stream(), End::More), Step::Hold));
    let mut chunk = Chunk::from(bytes::Bytes::from_static(b"x"));
    assert!(matches!(filter.request_data(&mut test.stream(), &mut chunk, End::More), DataStep::Hold));
    assert!(chunk.is_empty());
    let step = filter.request_data(&mut test.stream(), &mut chunk, End::Last);
    assert!(matches!(step, DataStep::Reply(reply) if reply.status == 200));
    assert!(test.info.health_check);
    assert_eq!(store.value("hc.ok"), Some(1));
}

#[test]
fn a_failing_process_says_so() {
    let store = Store::new(1);
    let factory = HealthCheckFactory(Arc::new(check(&store, true, None)));
    let mut test = TestStream::new();
    let mut filter = factory.create(&test.worker.clone());
    assert!(matches!(filter.request_headers(&mut test.stream(), End::Last), Step::Next), "goes through");
    test.worker.fail_health_checks(true);
    let mut filter = factory.create(&test.worker.clone());
    let step = filter.request_headers(&mut test.stream(), End::Last);
    assert!(matches!(step, Step::Reply(reply) if reply.status == 503));
    // A response to anything else carries the word that takes this host out at once.
    let mut other = check(&store, true, None);
    let path = nuncio_matcher::HeaderMatcherSpec {
        name: ":path".into(),
        kind: nuncio_matcher::HeaderMatchSpec::Exact("/hc".into()),
        ..Default::default()
    };
    other.headers = Box::new([nuncio_matcher::HeaderMatcher::new(&path).unwrap()]);
    test.request.append_known(Known::PATH, b"/");
    let mut filter = HealthCheckFactory(Arc::new(other)).create(&test.worker.clone());
    assert!(matches!(filter.request_headers(&mut test.stream(), End::Last), Step::Next));
    filter.response_headers(&mut test.stream(), End::Last);
    assert_eq!(test.response.get(Known::X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL), Some(&b"true"[..]));
    let name = HeaderName::new("x-envoy-upstream-healthchecked-cluster").unwrap();
    assert_eq!(test.response.get_name(&name), None);
}

#[test]
fn a_cluster_that_is_not_there_fails_the_check() {
    let store = Store::new(1);
    let mut config = check(&store, false, None);
    config.min_healthy = Box::new([MinHealthy { cluster: "none".into(), percent: 0.0 }]);
    let mut test = TestStream::new();
    let mut filter = HealthCheckFactory(Arc::new(config)).create(&test.worker.clone());
    let step = filter.request_headers(&mut test.stream(), End::Last);
    assert!(matches!(step, Step::Reply(reply) if reply.status == 503));
    assert_eq!(store.value("hc.failed_cluster_not_found"), Some(1));
}
