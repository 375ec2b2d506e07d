use std::sync::{Arc, Barrier};
use std::thread;

use crate::render::{BucketMode, Format, Query};
use crate::{StatsOptions, Store, set_worker, stat_group, worker};

stat_group! {
    /// A group with everything in it.
    group ExampleStats {
        counters { requests, dotted = "inner.dotted" }
        gauges { active, version }
        histograms { time(ms), share(percent) }
        text { label }
    }
}

stat_group! {
    lazy group LazyStats {
        counters { first }
        gauges { second }
        histograms { third(ms) }
        text { fourth }
    }
}

/// Runs `work` on a thread that is worker `id`.
fn on_worker<T: Send>(id: u32, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            set_worker(id);
            work()
        });
        thread.join().unwrap()
    })
}

#[test]
fn updates_of_all_threads_add_up() {
    let store = Store::new(2);
    let stats = ExampleStats::register(&store.scope("a", &[]));
    let start = Barrier::new(4);
    thread::scope(|scope| {
        // Two workers, and two threads that share the cells of those that are none; 9 is above the limit.
        for id in [1, 2, 0, 9] {
            let (stats, start) = (&stats, &start);
            scope.spawn(move || {
                set_worker(id);
                start.wait();
                let local = stats.local();
                for value in 0..1000 {
                    stats.requests().inc();
                    local.dotted().add(2);
                    stats.active().add(3);
                    local.active().sub(2);
                    stats.time().record(value);
                }
            });
        }
    });
    assert_eq!(worker(), 0);
    assert_eq!(store.value("a.requests"), Some(4000));
    assert_eq!(store.value("a.inner.dotted"), Some(8000));
    assert_eq!(store.value("a.active"), Some(4000));
    assert_eq!(stats.time().snapshot().count(), 4000);
    assert_eq!(store.value("a.nothing"), None);
    assert_eq!(store.value("a"), None);
}

#[test]
fn a_gauge_may_fall_on_one_worker_and_rise_on_another() {
    let store = Store::new(2);
    let stats = ExampleStats::register(&store.scope("a", &[]));
    on_worker(1, || stats.active().add(5));
    on_worker(2, || stats.active().sub(3));
    assert_eq!(stats.active().value(), 2);
    on_worker(2, || stats.active().sub(9));
    assert_eq!(stats.active().value(), 0, "below zero reads as zero");
    stats.active().set(10);
    assert_eq!(stats.active().value(), 3, "what workers add comes on top");
    stats.version().set(u64::MAX);
    assert_eq!(stats.version().value(), u64::MAX, "a set value has 64 bits");
}

#[test]
fn handles_keep_their_group() {
    let store = Store::new(1);
    let scope = store.scope("a", &[]);
    let (counter, gauge, histogram, text) = {
        let stats = ExampleStats::register(&scope);
        (stats.requests().owned(), stats.active().owned(), stats.time().owned(), stats.label().owned())
    };
    counter.inc();
    gauge.add(2);
    gauge.dec();
    histogram.record(7);
    text.set("hello");
    assert_eq!((counter.value(), gauge.value(), histogram.snapshot().count()), (1, 1, 1));
    assert_eq!(store.text("a.label").as_deref(), Some("hello"));
    assert_eq!(store.histogram("a.time").unwrap().count(), 1);
    drop((counter, gauge, histogram));
    assert_eq!(store.value("a.requests"), Some(1));
    drop(text);
    assert_eq!(store.value("a.requests"), None, "the last handle takes the group along");
    assert_eq!(store.render(Query::default()), "");
}

#[test]
fn groups_of_one_name_are_shown_as_one() {
    let store = Store::new(1);
    let scope = store.scope("http.p", &[]);
    let first = ExampleStats::register(&scope);
    let second = ExampleStats::register(&store.scope("http.p", &[]));
    first.requests().add(1);
    second.requests().add(2);
    first.time().record(1);
    second.time().record(2);
    assert_eq!(store.value("http.p.requests"), Some(3));
    let text = store.render(Query::default());
    assert_eq!(text.matches("http.p.requests: 3\n").count(), 1, "{text}");
    let series = store.render(Query { format: Format::Prometheus, ..Query::default() });
    assert!(series.contains("envoy_http_requests{envoy_http_conn_manager_prefix=\"p\"} 3\n"), "{series}");
    assert!(series.contains("envoy_http_time_count{envoy_http_conn_manager_prefix=\"p\"} 2\n"), "{series}");
}

#[test]
fn reset_leaves_all_but_counters() {
    let store = Store::new(1);
    let scope = store.scope("a", &[]);
    let stats = ExampleStats::register(&scope);
    let codes = scope.code_counters("upstream_rq");
    let update = || {
        stats.requests().add(5);
        stats.active().add(5);
        stats.time().record(5);
        codes.charge(503);
    };
    on_worker(1, update);
    store.reset_counters();
    assert_eq!(store.value("a.requests"), Some(0));
    assert_eq!(store.value("a.upstream_rq_503"), Some(0));
    assert_eq!(store.value("a.active"), Some(5));
    assert_eq!(stats.time().snapshot().count(), 1);
    on_worker(1, update);
    assert_eq!(store.value("a.requests"), Some(5));
    assert_eq!(store.value("a.upstream_rq_5xx"), Some(1));
    let used = store.render(Query { used_only: true, ..Query::default() });
    assert!(used.contains("a.requests: 5\n") && !used.contains("a.inner.dotted"), "{used}");
}

#[test]
fn codes() {
    let store = Store::new(1);
    let scope = store.scope("cluster.c", &[]);
    let codes = scope.code_counters("upstream_rq");
    assert_eq!(store.render(Query::default()), "", "nothing is shown before the first response");
    on_worker(1, || {
        // More codes than a block holds at first, and some that are none.
        for code in (100..600).chain([200, 200, 0, 99, 600, u16::MAX]) {
            codes.charge(code);
        }
    });
    codes.clone().charge(200);
    let value = |name: &str| store.value(&format!("cluster.c.upstream_rq_{name}"));
    assert_eq!(value("200"), Some(4));
    assert_eq!(value("599"), Some(1));
    assert_eq!(value("2xx"), Some(103));
    assert_eq!(value("5xx"), Some(100));
    assert_eq!(value("unknown"), Some(4));
    assert_eq!(value("completed"), Some(507));
    let series = store.render(Query { format: Format::Prometheus, ..Query::default() });
    let expected = "envoy_cluster_upstream_rq{envoy_response_code=\"200\",envoy_cluster_name=\"c\"} 4\n";
    assert!(series.contains(expected), "{series}");
    drop(codes);
    assert_eq!(value("200"), None);
}

#[test]
fn dynamic_stats_live_as_long_as_their_scope() {
    let store = Store::new(1);
    let scope = store.scope("rbac", &[]);
    scope.dynamic_counter("policy.p.allowed").inc();
    scope.dynamic_counter("policy.p.allowed").inc();
    scope.dynamic_gauge("policy.p.allowed").set(7);
    scope.dynamic_histogram("time", crate::Unit::Milliseconds).record(3);
    scope.dynamic_text("note").set("x");
    assert_eq!(store.value("rbac.policy.p.allowed"), Some(9), "a counter and a gauge of one name");
    assert_eq!(store.histogram("rbac.time").unwrap().count(), 1);
    assert_eq!(store.text("rbac.note").as_deref(), Some("x"));
    drop(scope);
    assert_eq!(store.render(Query::default()), "");
    let root = store.scope("", &[]);
    root.dynamic_counter("alone").inc();
    assert_eq!(store.render(Query::default()), "alone: 1\n");
}

#[test]
fn lazy_stats_are_shown_when_used() {
    let store = Store::new(1);
    let stats = LazyStats::register(&store.scope("a", &[]));
    assert_eq!(store.render(Query::default()), "");
    stats.second().add(1);
    stats.second().sub(1);
    assert_eq!(store.render(Query::default()), "a.second: 0\n");
    stats.third().record(1);
    stats.first().inc();
    stats.fourth().set("t");
    let shown = store.render(Query::default());
    assert!(shown.starts_with("a.fourth: \"t\"\na.first: 1\na.second: 0\na.third: P0("), "{shown}");
}

#[test]
fn intervals_close_at_flush() {
    let store = Store::new(1);
    let stats = ExampleStats::register(&store.scope("a", &[]));
    let line = || {
        let query = Query { histogram_buckets: BucketMode::Cumulative, ..Query::default() };
        let text = store.render(query);
        let line = text.lines().find(|line| line.starts_with("a.time: ")).unwrap();
        line.split(' ').nth(2).unwrap().to_owned()
    };
    stats.time().record(1);
    assert_eq!(line(), "B1(0,1)", "the interval is not over");
    store.flush();
    assert_eq!(line(), "B1(1,1)");
    stats.time().record(1);
    stats.time().record(0);
    store.flush();
    assert_eq!(line(), "B1(2,3)");
    store.flush();
    assert_eq!(line(), "B1(0,3)");
}

#[test]
fn the_matcher_decides_what_is_shown() {
    let options = StatsOptions {
        accept: Some(Arc::new(|name: &str| name.starts_with("cluster.a.") && name != "cluster.a.version")),
        ..StatsOptions::default()
    };
    let store = Store::with_options(1, options).unwrap();
    let a = store.scope("cluster.a", &[]);
    let _keep = (ExampleStats::register(&a), ExampleStats::register(&store.scope("cluster.b", &[])));
    let codes = [a.code_counters("upstream_rq"), store.scope("b", &[]).code_counters("upstream_rq")];
    codes.iter().for_each(|codes| codes.charge(200));
    let text = store.render(Query::default());
    let names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
    let expected = [
        "cluster.a.label",
        "cluster.a.active",
        "cluster.a.inner.dotted",
        "cluster.a.requests",
        "cluster.a.upstream_rq_200",
        "cluster.a.upstream_rq_2xx",
        "cluster.a.upstream_rq_completed",
        "cluster.a.share",
        "cluster.a.time",
    ];
    assert_eq!(names, expected);
}

/// What a cluster costs before any worker touches it: 10,000 of them must be cheap.
#[test]
fn a_group_that_is_not_used_is_small() {
    let group = size_of::<crate::Group>() + 2 * size_of::<usize>();
    let scope = size_of::<crate::scope::ScopeInner>() + 2 * size_of::<usize>();
    let entry = size_of::<super::Entry>();
    assert!(group + entry <= 96, "{group} + {entry}");
    assert!(group + entry + scope < 200, "{group} + {entry} + {scope}");
    let codes = size_of::<crate::codes::Codes>() + 2 * size_of::<usize>();
    assert!(codes <= 80, "{codes}");
    assert_eq!(align_of::<crate::block::Line>(), 64, "blocks of two workers share no cache line");
}
