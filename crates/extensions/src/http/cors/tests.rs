use super::filter::{CorsFactory, Policies, Policy};
use crate::testing::TestStream;
use nuncio_filter::{End, HttpFilterFactory, Step};
use nuncio_headers::{HeaderName, Known};
use nuncio_matcher::{StringMatchSpec, StringMatcher, StringMatcherSpec};
use nuncio_stats::Store;
use nuncio_stats::names::CorsStats;
use std::sync::Arc;

fn policy(origins: &[&str]) -> Policy {
    let exact = |origin: &&str| {
        let pattern = StringMatchSpec::Exact((*origin).to_owned());
        StringMatcher::new(&StringMatcherSpec { pattern, ignore_case: false }).unwrap()
    };
    Policy {
        origins: origins.iter().map(exact).collect(),
        methods: "".into(),
        headers: "".into(),
        expose: "".into(),
        max_age: "".into(),
        credentials: None,
        private_network: None,
        forward_not_matching: None,
        enabled: None,
        shadow: None,
    }
}

#[test]
fn the_first_list_of_origins_counts() {
    let policies = Policies::from_most_specific(vec![policy(&[]), policy(&["a"]), policy(&["b"])]);
    for (origin, allowed) in [("a", true), ("b", false), ("*", false), ("", false)] {
        assert_eq!(policies.allows(origin.as_bytes()), allowed, "{origin}");
    }
    assert!(!Policies::default().allows(b"a"), "nothing is allowed where nothing is said");
    assert!(Policies::from_most_specific(vec![policy(&["*"])]).allows(b"anything"));
}

#[test]
fn without_a_policy_nothing_happens() {
    let store = Store::new(1);
    let factory = CorsFactory { stats: CorsStats::register(&store.scope("http.x.cors", &[])) };
    let mut test = TestStream::new();
    test.request.append_known(Known::METHOD, b"OPTIONS");
    for (name, value) in [("origin", "http://a"), ("access-control-request-method", "GET")] {
        test.request.append(&HeaderName::new(name).unwrap(), value.as_bytes());
    }
    let mut filter = factory.create(&test.worker.clone());
    assert!(matches!(filter.request_headers(&mut test.stream(), End::Last), Step::Next));
    assert!(matches!(filter.response_headers(&mut test.stream(), End::Last), Step::Next));
    assert!(test.response.is_empty());
    assert_eq!(store.value("http.x.cors.origin_invalid").unwrap_or(0), 0);
}

impl Policies {
    fn from_most_specific(policies: Vec<Policy>) -> Policies {
        Policies::new(policies.into_iter().map(Arc::new).collect())
    }
}
