use std::sync::Arc;

use super::*;
use crate::{HistogramBuckets, StatsOptions, Unit};

/// A store with one stat of each kind, in whose names something must be escaped.
fn store() -> (Store, crate::Scope) {
    let store = Store::new(1);
    let scope = store.scope("cluster.q\"uo\\te<b>\tx", &[]);
    scope.dynamic_counter("upstream_rq_200").add(3);
    scope.dynamic_gauge("active").set(2);
    scope.dynamic_text("version_text").set("v\"1\n");
    let time = scope.dynamic_histogram("time", Unit::Milliseconds);
    [0, 0, 1].into_iter().for_each(|value| time.record(value));
    scope.dynamic_histogram("unused", Unit::Bytes);
    (store, scope)
}

fn check(query: &[(&str, &str)], expected: &str) {
    let (store, _scope) = store();
    let query = Query::parse(Endpoint::Stats, query.iter().copied()).unwrap();
    assert_eq!(store.render(query.clone()), expected, "{query:?}");
    // The same, byte by byte.
    let mut scrape = Scrape::new(&store, query);
    let mut all = Vec::new();
    let mut more = true;
    while more {
        let mut piece = Vec::new();
        more = scrape.fill(&mut piece, 1);
        all.extend(piece);
    }
    assert_eq!(String::from_utf8(all).unwrap(), expected);
}

const NAME: &str = "cluster.q\"uo\\te<b>\tx";

#[test]
fn text() {
    check(
        &[],
        &format!(
            "{NAME}.version_text: \"v\"1\n\"\n{NAME}.active: 2\n{NAME}.upstream_rq_200: 3\n\
             {NAME}.time: P0(nan,0) P25(nan,0) P50(nan,0) P75(nan,1.05) P90(nan,1.05) P95(nan,1.05) \
             P99(nan,1.05) P99.5(nan,1.05) P99.9(nan,1.05) P100(nan,1.05)\n\
             {NAME}.unused: No recorded values\n"
        ),
    );
    check(&[("type", "Counters")], &format!("{NAME}.upstream_rq_200: 3\n"));
    check(&[("type", "Gauges"), ("filter", "active|rq")], &format!("{NAME}.active: 2\n"));
    check(
        &[("filter", "time|unused|text$"), ("invert_filter", "")],
        &format!("{NAME}.active: 2\n{NAME}.upstream_rq_200: 3\n"),
    );
    check(&[("usedonly", ""), ("filter", "unused")], "");
    check(
        &[("filter", "time"), ("histogram_buckets", "disjoint")],
        &format!(
            "{NAME}.time: B0.5(0,2) B1(0,1) B5(0,0) B10(0,0) B25(0,0) B50(0,0) B100(0,0) B250(0,0) \
             B500(0,0) B1000(0,0) B2500(0,0) B5000(0,0) B10000(0,0) B30000(0,0) B60000(0,0) \
             B300000(0,0) B600000(0,0) B1.8e+06(0,0) B3.6e+06(0,0)\n"
        ),
    );
    check(
        &[("filter", "time"), ("histogram_buckets", "detailed")],
        &format!(
            "{NAME}.time:\n  totals=0,0:2, 1,0.1:1\n  intervals=\n  summary=P0(nan,0) P25(nan,0) \
             P50(nan,0) P75(nan,1.05) P90(nan,1.05) P95(nan,1.05) P99(nan,1.05) P99.5(nan,1.05) \
             P99.9(nan,1.05) P100(nan,1.05)\n"
        ),
    );
}

#[test]
fn json() {
    const QUOTED: &str = "cluster.q\\\"uo\\\\te<b>\\tx";
    check(&[("format", "json"), ("filter", "nothing")], "{\"stats\":[]}");
    check(
        &[("format", "json"), ("filter", "active|text")],
        &format!(
            "{{\"stats\":[{{\"name\":\"{QUOTED}.version_text\",\"value\":\"v\\\"1\\n\"}},\
             {{\"name\":\"{QUOTED}.active\",\"value\":2}}]}}"
        ),
    );
    let values = |cumulative: [&str; 10]| {
        cumulative.map(|value| format!("{{\"cumulative\":{value},\"interval\":null}}")).join(",")
    };
    let some = ["0", "0", "0", "1.05", "1.05", "1.05", "1.05", "1.05", "1.05", "1.05"];
    check(
        &[("format", "json"), ("filter", "active|time|unused")],
        &format!(
            "{{\"stats\":[{{\"name\":\"{QUOTED}.active\",\"value\":2}},{{\"histograms\":\
             {{\"supported_quantiles\":[0,25,50,75,90,95,99,99.5,99.9,100],\"computed_quantiles\":[\
             {{\"name\":\"{QUOTED}.time\",\"values\":[{}]}},\
             {{\"name\":\"{QUOTED}.unused\",\"values\":[{}]}}]}}}}]}}",
            values(some),
            values(["null"; 10])
        ),
    );
    check(
        &[("format", "json"), ("filter", "time"), ("histogram_buckets", "detailed")],
        &format!(
            "{{\"stats\":[{{\"histograms\":{{\"supported_percentiles\":\
             [0,25,50,75,90,95,99,99.5,99.9,100],\"details\":[{{\"name\":\"{QUOTED}.time\",\
             \"totals\":[{{\"lower_bound\":0,\"width\":0,\"count\":2}},\
             {{\"lower_bound\":1,\"width\":0.1,\"count\":1}}],\"intervals\":[],\
             \"percentiles\":[{}]}}]}}}}]}}",
            values(some)
        ),
    );
}

#[test]
fn prometheus() {
    check(
        &[("format", "prometheus"), ("filter", "active|rq|text"), ("text_readouts", "")],
        "# TYPE envoy_cluster_upstream_rq counter\n\
         envoy_cluster_upstream_rq{envoy_response_code=\"200\",envoy_cluster_name=\"q\\\"uo\\\\te<b>\tx\"} 3\n\
         # TYPE envoy_cluster_active gauge\n\
         envoy_cluster_active{envoy_cluster_name=\"q\\\"uo\\\\te<b>\tx\"} 2\n\
         # TYPE envoy_cluster_version_text gauge\n\
         envoy_cluster_version_text{envoy_cluster_name=\"q\\\"uo\\\\te<b>\tx\",text_value=\"v\\\"1\\n\"} 0\n",
    );
}

#[test]
fn prometheus_histograms() {
    let options = StatsOptions {
        histogram_bucket_settings: vec![HistogramBuckets {
            matches: Arc::new(|name: &str| name.starts_with("cluster.")),
            buckets: Arc::new([0.1, 1.0, 255.0, 2505.5]),
        }],
        ..StatsOptions::default()
    };
    let store = Store::with_options(1, options).unwrap();
    let scope = store.scope("cluster.c", &[]);
    let size = scope.dynamic_histogram("size", Unit::Bytes);
    [0, 0, 1, 254, 255, 256, 261, 2505, 2510].into_iter().for_each(|value| size.record(value));
    let prometheus =
        |mode| store.render(Query { format: Format::Prometheus, histogram_buckets: mode, ..Query::default() });
    assert_eq!(
        prometheus(BucketMode::Unset),
        "# TYPE envoy_cluster_size histogram\n\
         envoy_cluster_size_bucket{envoy_cluster_name=\"c\",le=\"0.10000000000000000555111512312578\"} 2\n\
         envoy_cluster_size_bucket{envoy_cluster_name=\"c\",le=\"1\"} 3\n\
         envoy_cluster_size_bucket{envoy_cluster_name=\"c\",le=\"255\"} 6\n\
         envoy_cluster_size_bucket{envoy_cluster_name=\"c\",le=\"2505.5\"} 9\n\
         envoy_cluster_size_bucket{envoy_cluster_name=\"c\",le=\"+Inf\"} 9\n\
         envoy_cluster_size_sum{envoy_cluster_name=\"c\"} 6128.6983774641930722282268106937\n\
         envoy_cluster_size_count{envoy_cluster_name=\"c\"} 9\n"
    );
    let summary = prometheus(BucketMode::Summary);
    assert!(summary.starts_with("# TYPE envoy_cluster_size summary\n"), "{summary}");
    assert!(summary.contains("{envoy_cluster_name=\"c\",quantile=\"0.995\"} nan\n"), "{summary}");
    assert!(summary.ends_with("envoy_cluster_size_count{envoy_cluster_name=\"c\"} 0\n"), "{summary}");
    store.flush();
    assert!(prometheus(BucketMode::Summary).contains("quantile=\"0.5\"} 255\n"));
}

/// Series are sorted by segments: `adm` goes before `adm-x`, and `cluster.…` before `cluster_manager.…`.
#[test]
fn order() {
    let store = Store::new(1);
    let scopes = ["cluster.adm-x", "cluster.adm", "cluster_manager", "cluster.adm.external"];
    let scopes = scopes.map(|scope| store.scope(scope, &[]));
    for scope in &scopes {
        scope.dynamic_counter("rq").inc();
        scope.dynamic_counter("a.b").inc();
    }
    assert_eq!(
        store.render(Query { format: Format::Prometheus, ..Query::default() }),
        "# TYPE envoy_cluster_a_b counter\n\
         envoy_cluster_a_b{envoy_cluster_name=\"adm\"} 1\n\
         envoy_cluster_a_b{envoy_cluster_name=\"adm-x\"} 1\n\
         # TYPE envoy_cluster_external_a_b counter\n\
         envoy_cluster_external_a_b{envoy_cluster_name=\"adm\"} 1\n\
         # TYPE envoy_cluster_external_rq counter\n\
         envoy_cluster_external_rq{envoy_cluster_name=\"adm\"} 1\n\
         # TYPE envoy_cluster_rq counter\n\
         envoy_cluster_rq{envoy_cluster_name=\"adm\"} 1\n\
         envoy_cluster_rq{envoy_cluster_name=\"adm-x\"} 1\n\
         # TYPE envoy_cluster_manager_a_b counter\n\
         envoy_cluster_manager_a_b{} 1\n\
         # TYPE envoy_cluster_manager_rq counter\n\
         envoy_cluster_manager_rq{} 1\n"
    );
    let text = store.render(Query::default());
    let names: Vec<&str> = text.lines().collect();
    assert!(names.is_sorted(), "{text}");
    assert_eq!(names.len(), 8);
}

#[test]
fn tags_that_the_maker_of_a_scope_gives() {
    let store = Store::new(1);
    let endpoint = store
        .scope("cluster.a.b", &[("envoy.cluster_name", "a.b")])
        .child_with_tags("endpoint.127.0.0.1_80", &[("envoy.endpoint_address", "127.0.0.1:80")]);
    endpoint.dynamic_counter("cx_total").inc();
    let codes = endpoint.code_counters("upstream_rq");
    codes.charge(200);
    let istio = store.scope("istiocustom", &[]);
    let requests = istio.tagged("istio_requests_total", &[("reporter", "source"), ("response_code", "200")]);
    requests.dynamic_counter("").inc();
    assert_eq!(store.value("istiocustom.istio_requests_total.reporter.source.response_code.200"), Some(1));
    let series = store.render(Query { format: Format::Prometheus, ..Query::default() });
    let check = |expected: &str| assert!(series.contains(expected), "{expected}\n{series}");
    check("envoy_cluster_endpoint_cx_total{envoy_cluster_name=\"a.b\",envoy_endpoint_address=\"127.0.0.1:80\"} 1\n");
    check("envoy_cluster_endpoint_upstream_rq{envoy_response_code=\"200\",envoy_cluster_name=\"a.b\",");
    check("\nistio_requests_total{reporter=\"source\",response_code=\"200\"} 1\n");
}

#[test]
fn html_escapes_names() {
    let (store, _scope) = store();
    let query = Query { format: Format::Html, ..Query::default() };
    let page = store.render(query);
    assert!(page.contains("cluster.q&quot;uo\\te&lt;b&gt;\tx.active: 2\n"), "{page}");
    assert!(!page.contains("<b>") && page.ends_with("</pre>\n</body>\n</html>\n"), "{page}");
    let query = Query::parse(Endpoint::Stats, [("format", "html"), ("filter", "'><script>")]).unwrap();
    let page = store.render(query);
    assert!(page.contains("value='&#39;&gt;&lt;script&gt;'"), "{page}");
}

#[test]
fn queries_that_are_refused() {
    let check = |endpoint, query: &[(&str, &str)], expected: &str| {
        let error = Query::parse(endpoint, query.iter().copied()).unwrap_err();
        assert!(error.0.starts_with(expected), "{error}");
    };
    let stats = Endpoint::Stats;
    check(stats, &[("type", "x")], "invalid &type= param");
    check(stats, &[("format", "x")], "usage: /stats?format=(html|active-html|json|prometheus|text)\n\n");
    check(stats, &[("filter", "((")], "Invalid re2 regex: ");
    check(stats, &[("filter", &"x".repeat(5000))], "Invalid re2 regex: ");
    check(stats, &[("filter", "(\\pL{999}){999}")], "Invalid re2 regex: ");
    check(stats, &[("filter", ""), ("invert_filter", "")], "invert_filter can only be used");
    check(stats, &[("histogram_buckets", "x")], "usage: /stats?histogram_buckets=(");
    check(stats, &[("histogram_buckets", "prometheusnative")], "Invalid histogram_buckets type");
    let disjoint = [("format", "prometheus"), ("histogram_buckets", "disjoint")];
    check(stats, &disjoint, "unsupported prometheus histogram bucket mode");
    check(Endpoint::Prometheus, &disjoint[1..], "unsupported prometheus histogram bucket mode");
    let native = [("histogram_buckets", "prometheusnative")];
    check(Endpoint::Prometheus, &native, "unsupported prometheusnative histogram type");
}

#[test]
fn numbers() {
    let check = |format: fn(f64) -> String, value: f64, expected: &str| assert_eq!(format(value), expected);
    check(number::six_digits, 1.8e6, "1.8e+06");
    check(number::six_digits, 600000.0, "600000");
    check(number::six_digits, 99.5, "99.5");
    check(number::six_digits, 0.00001, "1e-05");
    check(number::json, 300000.0, "3e+05");
    check(number::json, 1800000.0, "1800000");
    check(number::json, 30000.0, "30000");
    check(number::json, 0.1, "0.1");
    check(number::json, f64::NAN, "null");
    check(number::shortest, 1.0 + 1.0 / 30.0, "1.0333333333333334");
    check(number::shortest, 0.25, "0.25");
    check(number::shortest, 1e16, "1e+16");
    check(number::shortest, f64::NAN, "nan");
    check(number::exact, 0.5, "0.5");
    check(number::exact, 3600000.0, "3600000");
    check(number::exact, 22.0 / 21.0 * 2.0, "2.0952380952380953438307642500149");
}
