use super::filter::{Abort, AbortKind, Delay, Fault, FaultFactory, Keys, RateLimit};
use crate::testing::TestStream;
use nuncio_filter::{Chunk, DataStep, End, HttpFilterFactory, Interest, Step};
use nuncio_headers::HeaderName;
use nuncio_matcher::{Denominator, FractionalPercent};
use nuncio_stats::Store;
use nuncio_stats::names::FaultStats;
use std::sync::Arc;
use std::time::Duration;

const ALWAYS: FractionalPercent = FractionalPercent { numerator: 100, denominator: Denominator::Hundred };

fn fault(delay: Option<Delay>, abort: Option<Abort>) -> Fault {
    let keys = Keys {
        delay_percent: "a".into(),
        abort_percent: "b".into(),
        delay_duration: "c".into(),
        abort_http_status: "d".into(),
        abort_grpc_status: "e".into(),
        rate_limit_percent: "g".into(),
        max_active: "f".into(),
    };
    Fault {
        delay,
        abort,
        rate_limit: None,
        upstream_cluster: "".into(),
        headers: Box::new([]),
        downstream_nodes: Box::new([]),
        max_active: None,
        count_downstream: false,
        metadata: None,
        keys,
    }
}

fn run(fault: Fault, headers: &[(&str, &str)]) -> (Step, u64) {
    let store = Store::new(1);
    let scope = store.scope("http.x.fault", &[]);
    let stats = FaultStats::register(&scope);
    let factory =
        FaultFactory { fault: Arc::new(fault), stats, scope, clusters: Arc::default(), active: Arc::default() };
    let mut test = TestStream::new();
    for (name, value) in headers {
        test.request.append(&HeaderName::new(name).unwrap(), value.as_bytes());
    }
    let mut filter = factory.create(&test.worker.clone());
    let step = filter.request_headers(&mut test.stream(), End::Last);
    drop(filter);
    (step, store.value("http.x.fault.active_faults").unwrap_or(0))
}

#[test]
fn aborts_with_the_status() {
    let abort = Abort { percentage: ALWAYS, kind: AbortKind::Http(418), body: "no".into() };
    let (step, active) = run(fault(None, Some(abort)), &[]);
    match step {
        Step::Reply(reply) => assert_eq!((reply.status, &reply.body[..]), (418, &b"no"[..])),
        other => panic!("{other:?}"),
    }
    assert_eq!(active, 0, "the fault ends with its stream");
}

#[test]
fn headers_decide_only_where_allowed() {
    let by_header = || Abort { percentage: ALWAYS, kind: AbortKind::Header, body: "".into() };
    let (step, _) = run(fault(None, Some(by_header())), &[("x-envoy-fault-abort-request", "503")]);
    assert!(matches!(step, Step::Reply(reply) if reply.status == 503));
    let lowered = [("x-envoy-fault-abort-request", "503"), ("x-envoy-fault-abort-request-percentage", "0")];
    assert!(matches!(run(fault(None, Some(by_header())), &lowered).0, Step::Next));
    assert!(matches!(run(fault(None, Some(by_header())), &[]).0, Step::Next));
}

#[test]
fn delays_wait() {
    let delay = Delay { percentage: ALWAYS, fixed: Some(Duration::from_millis(5)) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _guard = runtime.enter();
    assert!(matches!(run(fault(Some(delay), None), &[]).0, Step::Await(_)));
}

#[test]
fn responses_are_slowed_down() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(slow_response());
}

async fn slow_response() {
    let store = Store::new(1);
    let scope = store.scope("http.x.fault", &[]);
    let stats = FaultStats::register(&scope);
    let mut limited = fault(None, None);
    limited.rate_limit = Some(RateLimit { percentage: ALWAYS, fixed: Some(100) });
    let factory =
        FaultFactory { fault: Arc::new(limited), stats, scope, clusters: Arc::default(), active: Arc::default() };
    assert!(factory.interest().has(Interest::RESPONSE_BODY));
    let mut test = TestStream::new();
    let mut filter = factory.create(&test.worker.clone());
    assert!(matches!(filter.request_headers(&mut test.stream(), End::Last), Step::Next));
    let begun = tokio::time::Instant::now();
    for _ in 0..3 {
        test.worker.tick();
        let mut chunk = Chunk::from(bytes::Bytes::from_static(&[0; 2048]));
        let DataStep::Await(mut work) = filter.response_data(&mut test.stream(), &mut chunk, End::More) else {
            panic!("it does not wait");
        };
        let done = std::future::poll_fn(|cx| work.poll(cx)).await;
        assert!(matches!(filter.resume(&mut test.stream(), done), Step::Next));
    }
    assert!(begun.elapsed() >= Duration::from_millis(59), "6 KiB at 100 KiB/s");
    assert_eq!(store.value("http.x.fault.response_rl_injected"), Some(1));
}
