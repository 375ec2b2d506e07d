use super::labels::Own;
use super::overrides::{Changes, Custom, Expression};
use super::*;
use crate::istio::workload::{DOWNSTREAM_PEER, UPSTREAM_PEER, Workload};
use nuncio_config::compile::NodeFacts;
use nuncio_stream_info::{
    CertificateNames, ClusterInfo, ConnectionInfo, LogContext, Metadata, PlainString, RouteInfo, StreamInfo, Struct,
    TlsInfo, Value,
};
use std::rc::Rc;
use std::time::{Instant, SystemTime};

fn node() -> NodeFacts {
    let labels = [("app", "shop"), ("version", "v1"), ("service.istio.io/canonical-name", "shop-c")];
    let mut metadata: Struct =
        [("WORKLOAD_NAME", "own"), ("NAMESPACE", "own-ns"), ("CLUSTER_ID", "k8s")].into_iter().collect();
    metadata.set("LABELS", Value::Struct(labels.into_iter().collect()));
    NodeFacts { metadata, ..NodeFacts::default() }
}

pub(crate) fn reporting(store: &Store, reporter: Reporter, overrides: Option<Overrides>) -> Reporting {
    Reporting {
        reporter,
        own: Own::of(&node()),
        disable_host_header_fallback: false,
        interval: None,
        id: u64::from(overrides.is_some()),
        overrides,
        metrics: Metrics::of(store),
    }
}

fn stream() -> StreamInfo {
    let mut info = StreamInfo::new(Instant::now(), SystemTime::UNIX_EPOCH);
    let nobody = nuncio_stream_info::Address::Pipe("".into());
    let mut connection = ConnectionInfo::new(1, Instant::now(), nobody.clone(), nobody);
    connection.filter_state.share();
    info.set_connection(Arc::new(connection));
    info
}

fn put(info: &StreamInfo, name: &str, workload: Workload) {
    info.filter_state.connection().put(name, Arc::new(workload)).unwrap();
}

fn peer() -> Workload {
    Workload { name: "peer".into(), namespace: "peer-ns".into(), app: "app".into(), ..Workload::default() }
}

const REQUEST: Kind<'static> = Kind::Http { code: "200", grpc_status: None };

/// The series that a request counts in, as `name=value`.
fn labels(reporting: &Reporting, info: &StreamInfo, host: Option<&str>, kind: &Kind<'_>) -> String {
    let seen = Seen::of(reporting.reporter, info);
    let labels = seen.labels(reporting, info, host, kind);
    let texts: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    texts.join(" ")
}

fn tls(peer: &str, local: &str) -> TlsInfo {
    let of = |name: &str| CertificateNames { uri: vec![name.into()], ..CertificateNames::default() };
    TlsInfo { peer: of(peer), local: of(local), ..TlsInfo::default() }
}

#[test]
fn a_server_reports_its_client() {
    let store = Store::new(1);
    let reporting = reporting(&store, Reporter::Server, None);
    let info = stream();
    put(&info, DOWNSTREAM_PEER, peer());
    assert_eq!(
        labels(&reporting, &info, Some("shop.example"), &REQUEST),
        "reporter=destination source_workload=peer source_canonical_service=unknown source_canonical_revision=latest \
         source_workload_namespace=peer-ns source_principal=unknown source_app=app source_version=unknown \
         source_cluster=unknown destination_workload=own destination_workload_namespace=own-ns \
         destination_principal=unknown destination_app=shop destination_version=v1 destination_service=shop.example \
         destination_canonical_service=shop-c destination_canonical_revision= \
         destination_service_name=shop.example destination_service_namespace=own-ns destination_cluster=k8s \
         request_protocol=http response_code=200 grpc_response_status= response_flags=- \
         connection_security_policy=none"
    );
}

#[test]
fn mutual_tls_names_both() {
    let store = Store::new(1);
    let reporting = reporting(&store, Reporter::Server, None);
    let mut info = stream();
    let mut connection = (**info.connection.as_ref().unwrap()).clone();
    connection.tls = Some(Arc::new(tls("spiffe://td/ns/secure/sa/c", "spiffe://td/ns/own-ns/sa/s")));
    info.set_connection(Arc::new(connection));
    put(&info, DOWNSTREAM_PEER, peer());
    let text = labels(&reporting, &info, None, &Kind::Tcp);
    for expected in [
        // That of the certificate goes before what the peer says.
        "source_workload_namespace=secure",
        "source_principal=spiffe://td/ns/secure/sa/c",
        "destination_principal=spiffe://td/ns/own-ns/sa/s",
        "destination_service=shop-c",
        "request_protocol=tcp",
        "connection_security_policy=mutual_tls",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains("response_code"), "{text}");
}

#[test]
fn a_client_reports_its_server() {
    let store = Store::new(1);
    let mut reporting = reporting(&store, Reporter::Client, None);
    let mut info = stream();
    let mut metadata = Metadata::new();
    let service: Struct = [("host", "server.app.svc"), ("name", "server"), ("namespace", "app")].into_iter().collect();
    metadata.namespace_mut("istio").set("services", vec![Value::Struct(service)]);
    let cluster = ClusterInfo { name: "outbound|80".into(), metadata: Some(metadata.into()), ..ClusterInfo::default() };
    info.upstream.cluster = Some(Arc::new(cluster));
    info.upstream.tls = Some(Arc::new(tls("spiffe://td/ns/app/sa/server", "spiffe://td/ns/own-ns/sa/own")));
    put(&info, UPSTREAM_PEER, peer());
    let grpc = Kind::Http { code: "200", grpc_status: Some("5") };
    let text = labels(&reporting, &info, Some("other"), &grpc);
    for expected in [
        "reporter=source source_workload=own ",
        "destination_workload=peer destination_workload_namespace=app ",
        "destination_service=server.app.svc ",
        "destination_service_name=server destination_service_namespace=app ",
        "request_protocol=grpc response_code=200 grpc_response_status=5 ",
        "connection_security_policy=unknown",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    reporting.disable_host_header_fallback = true;
    info.upstream.cluster = None;
    assert!(labels(&reporting, &info, Some("other"), &REQUEST).contains("destination_service=unknown "));
    info.route = Some(Arc::new(RouteInfo { name: "block_all".into(), ..RouteInfo::default() }));
    assert!(labels(&reporting, &info, None, &REQUEST).contains("destination_service_name=BlackHoleCluster "));
}

#[test]
fn a_gateway_reports_both_and_goes_by_principals_it_was_told() {
    let store = Store::new(1);
    let reporting = reporting(&store, Reporter::Gateway, None);
    let info = stream();
    put(&info, UPSTREAM_PEER, peer());
    for (name, principal) in [("io.istio.peer_principal", "spiffe://td/ns/a/sa/c"), ("io.istio.local_principal", "w")] {
        info.filter_state.connection().put(name, Arc::new(PlainString(principal.into()))).unwrap();
    }
    let text = labels(&reporting, &info, None, &REQUEST);
    for expected in [
        "reporter=waypoint source_workload=unknown",
        "source_workload_namespace=a source_principal=spiffe://td/ns/a/sa/c",
        "destination_workload=peer destination_workload_namespace=peer-ns",
        "connection_security_policy=mutual_tls",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

fn find(cache: &SeriesCache, reporting: &Reporting, info: &StreamInfo) -> Rc<Series> {
    let seen = Seen::of(reporting.reporter, info);
    let values = reporting
        .overrides
        .as_ref()
        .map(|overrides| overrides.evaluate(&LogContext::new(info, Instant::now(), SystemTime::UNIX_EPOCH)));
    let values = values.unwrap_or_default();
    let series = cache.find(reporting, &seen.labels(reporting, info, None, &REQUEST), &values);
    series.count_custom(&values, reporting);
    series
}

fn prometheus(store: &Store) -> String {
    let format = nuncio_stats::render::Format::Prometheus;
    store.render(nuncio_stats::render::Query { format, ..nuncio_stats::render::Query::default() })
}

#[test]
fn series_are_shared_by_filters_and_workers() {
    let store = Store::new(1);
    let (one, other) = (reporting(&store, Reporter::Server, None), reporting(&store, Reporter::Server, None));
    let info = stream();
    for reporting in [&one, &other] {
        let cache = SeriesCache::default();
        assert!(Rc::ptr_eq(&find(&cache, reporting, &info), &find(&cache, reporting, &info)));
        find(&cache, reporting, &info).count(Metric::Requests, 1, reporting);
    }
    one.metrics.note_version("1.31.1");
    let text = prometheus(&store);
    assert!(
        text.contains("# TYPE istio_requests_total counter\nistio_requests_total{reporter=\"destination\","),
        "{text}"
    );
    assert!(text.contains("response_flags=\"-\",connection_security_policy=\"none\"} 2\n"), "{text}");
    assert!(text.contains("istio_build{component=\"proxy\",tag=\"1.31.1\"} 1\n"), "{text}");
}

#[test]
fn configurations_change_labels() {
    let store = Store::new(1);
    let expression = |text: &str, is_amount| {
        let options = nuncio_cel::Options { string_conversion: true, string_concat: true, string_functions: false };
        Expression { program: nuncio_cel::Program::parse(text, options).unwrap(), is_amount }
    };
    let mut overrides = Overrides::default();
    overrides.expressions.push(expression("filter_state.downstream_peer.labels['role']", false));
    overrides.expressions.push(expression("request.headers['missing']", false));
    overrides.expressions.push(expression("40 + 2", true));
    let changes = overrides.of_mut(Metric::Requests);
    changes.replaced.insert("source_app".into(), Some(0));
    changes.replaced.insert("source_version".into(), None);
    changes.added.push(("extra".into(), 1));
    overrides.of_mut(Metric::RequestBytes).drop = true;
    let tags = Changes { added: vec![("role".into(), 0)], ..Changes::default() };
    overrides.custom.push(Custom { name: "istio_answers".into(), kind: Kinds::Counter, value: 2, tags });
    let reporting = reporting(&store, Reporter::Server, Some(overrides));
    let info = stream();
    put(&info, DOWNSTREAM_PEER, Workload { labels: vec![("role".into(), "tester".into())], ..peer() });
    let cache = SeriesCache::default();
    let series = find(&cache, &reporting, &info);
    series.count(Metric::Requests, 1, &reporting);
    series.count(Metric::RequestBytes, 1, &reporting);
    series.count(Metric::ResponseBytes, 1, &reporting);
    let text = prometheus(&store);
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_default();
    let requests = line("istio_requests_total{");
    assert!(requests.contains("source_app=\"tester\",source_cluster="), "{text}");
    assert!(requests.ends_with(",extra=\"unknown\"} 1"), "{requests}");
    assert!(!requests.contains("source_version"), "{requests}");
    assert!(!text.contains("istio_request_bytes"), "{text}");
    assert!(line("istio_response_bytes_sum{").contains("source_version"), "{text}");
    assert_eq!(line("istio_answers{"), "istio_answers{role=\"tester\"} 42");
}

#[test]
fn a_host_that_is_too_long_is_not_named() {
    let store = Store::new(1);
    let reporting = reporting(&store, Reporter::Server, None);
    for (length, is_named) in [(LONGEST_LABEL, true), (LONGEST_LABEL + 1, false)] {
        let host = "x".repeat(length);
        assert_eq!(labels(&reporting, &stream(), Some(&host), &REQUEST).contains(&host), is_named);
    }
}

#[test]
fn there_is_a_bound_to_series() {
    let store = Store::new(1);
    let metrics = Metrics::of(&store);
    for number in 0..MOST {
        assert!(metrics.find("istio_requests_total", &[("a", &number.to_string())], Kinds::Counter).is_some());
    }
    assert!(metrics.find("istio_requests_total", &[("a", "one more")], Kinds::Counter).is_none());
    assert!(metrics.find("istio_requests_total", &[("a", "7")], Kinds::Counter).is_some());
}
