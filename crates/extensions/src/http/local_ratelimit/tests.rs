use super::buckets::Buckets;
use super::filter::{Limit, LocalRateLimitFactory, VirtualHostLimits};
use crate::network::TokenBucket;
use crate::testing::TestStream;
use nuncio_filter::{End, HttpFilterFactory, Step};
use nuncio_headers::{HeaderMap, HeaderName};
use nuncio_matcher::{Denominator, FractionalPercent, RuntimeFractionalPercent};
use nuncio_route::HeaderEdits;
use nuncio_route::spec::{AppendAction, HeaderMutationsSpec, HeaderValueOptionSpec};
use nuncio_stats::Store;
use nuncio_stats::names::HttpLocalRateLimitStats;
use nuncio_stream_info::FormatOptions;
use std::sync::Arc;
use std::time::Duration;

fn share(numerator: u32) -> RuntimeFractionalPercent {
    RuntimeFractionalPercent {
        default_value: FractionalPercent { numerator, denominator: Denominator::Hundred },
        runtime_key: "".into(),
    }
}

fn limit(store: &Store, enabled: u32, enforced: u32) -> Limit {
    let option = HeaderValueOptionSpec {
        name: "x-local-rate-limit".to_owned(),
        value: "true".to_owned(),
        append_action: AppendAction::OverwriteIfExistsOrAdd,
        keep_empty_value: false,
    };
    let options = FormatOptions::for_header_value();
    let added = HeaderMutationsSpec { add: vec![option], remove: Vec::new() };
    Limit {
        id: Limit::next_id(),
        buckets: Arc::new(Buckets {
            default: Some(Arc::new(TokenBucket::new(2, 1, Duration::from_secs(1)))),
            descriptors: Box::new([]),
            always_default: true,
        }),
        per_connection: false,
        policies: None,
        stage: 0,
        virtual_host: VirtualHostLimits::Override,
        retry_after: false,
        enabled: share(enabled),
        enforced: share(enforced),
        status: 429,
        request_edits: HeaderEdits::request(HeaderMutationsSpec::default(), &options).unwrap(),
        response_edits: Arc::new(HeaderEdits::response(added, &options).unwrap()),
        x_ratelimit_headers: false,
        resource_exhausted: false,
        stats: HttpLocalRateLimitStats::register(&store.scope("p.http_local_rate_limit", &[])),
    }
}

fn statuses(enabled: u32, enforced: u32) -> (Vec<u16>, Option<u64>) {
    let store = Store::new(1);
    let factory = LocalRateLimitFactory { limit: Arc::new(limit(&store, enabled, enforced)) };
    let mut test = TestStream::new();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let mut filter = factory.create(&test.worker.clone());
        seen.push(match filter.request_headers(&mut test.stream(), End::Last) {
            Step::Next => 200,
            Step::Reply(mut reply) => {
                let mut headers = HeaderMap::new();
                (reply.edit.take().unwrap())(&mut headers);
                let name = HeaderName::new("x-local-rate-limit").unwrap();
                assert_eq!(headers.get_name(&name), Some(&b"true"[..]));
                reply.status
            }
            other => panic!("{other:?}"),
        });
    }
    (seen, store.value("p.http_local_rate_limit.rate_limited"))
}

#[test]
fn enabled_and_enforced() {
    assert_eq!(statuses(100, 100), (vec![200, 200, 429, 429], Some(2)));
    assert_eq!(statuses(100, 0), (vec![200; 4], Some(2)));
    assert_eq!(statuses(0, 100).0, vec![200; 4]);
}
