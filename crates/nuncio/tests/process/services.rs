//! What management servers and operators are told beside discovery: load reports, and the dump of what was discovered.

use std::net::SocketAddr;

use nuncio_testkit::xds::{Message, Request, Snapshot, XdsServer, any, json_of};
use serde_json::{Value, json};

use crate::support::*;
use crate::xds::{cluster as discovered, endpoints, listener, put, routes};

const ROUTES: &str = "[{match: {prefix: /}, route: {cluster: origin}}]";
const LOAD: &str = "type.googleapis.com/envoy.service.load_stats.v3";

/// A cluster for a server that speaks gRPC.
fn control(address: SocketAddr) -> String {
    cluster_with(
        "control",
        &[address],
        ", typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: \
         {'@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
         explicit_http_config: {http2_protocol_options: {}}}}",
    )
}

fn stream_to_control() -> &'static str {
    "{api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: control}}]}"
}

/// What a message of a stream says.
fn said(request: &Request, url: &str) -> Value {
    let Message::Raw(bytes) = &request.message else { panic!("{request:?}") };
    json_of(url, bytes)
}

fn bytes_of(json: &Value) -> Vec<u8> {
    any(json).unwrap().value
}

#[test]
fn reports_load_of_clusters() {
    let origin = origin(vec![body("one"), body("one"), body("one")]);
    let server = XdsServer::start().unwrap();
    let load_stats = format!("cluster_manager: {{load_stats_config: {}}}", stream_to_control());
    let fields = [load_stats.as_str(), "node: {id: test-id, cluster: test-cluster}"];
    let clusters = [cluster("origin", &[origin.address()]), control(server.address())];
    let http = Http { clusters: clusters.into(), routes: ROUTES, bootstrap: &fields, ..Http::default() };
    let running = Setup::new(&http.text()).start();
    let first = server.next_request().unwrap();
    assert_eq!(first.path, "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats");
    let url = format!("{LOAD}.LoadStatsRequest");
    assert_eq!(said(&first, &url).pointer("/node/id"), Some(&json!("test-id")), "{}", said(&first, &url));
    let features = json!(["envoy.lrs.supports_send_all_clusters"]);
    assert_eq!(said(&first, &url).pointer("/node/client_features"), Some(&features));
    let response = json!({"@type": format!("{LOAD}.LoadStatsResponse"), "clusters": ["origin", "nobody"],
        "load_reporting_interval": "0.05s"});
    server.respond_bytes(first.stream, bytes_of(&response)).unwrap();
    running.await_stat("load_reporter.requests", |count| count == 1);
    for _ in 0..3 {
        assert_eq!(running.answer("/"), (200, "one".into()));
    }
    let (mut successful, mut issued) = (0, 0);
    while successful < 3 {
        let report = said(&server.next_request().unwrap(), &url);
        let clusters = report["cluster_stats"].as_array().unwrap();
        assert_eq!(clusters.len(), 1, "{report}");
        assert_eq!(clusters[0]["cluster_name"], "origin", "{report}");
        let number = |name: &str| {
            let value = clusters[0].pointer(&format!("/upstream_locality_stats/0/{name}"));
            value.and_then(Value::as_str).map_or(0, |text| text.parse::<u64>().unwrap())
        };
        successful += number("total_successful_requests");
        issued += number("total_issued_requests");
        assert_eq!(number("total_error_requests"), 0);
    }
    assert_eq!((successful, issued), (3, 3));
    // A stream that ends is opened again.
    server.close(first.stream, 14, "gone").unwrap();
    running.await_stat("load_reporter.retries", |count| count == 1);
    assert_eq!(running.stat("load_reporter.errors"), 1);
}

#[test]
fn reports_all_clusters_and_endpoints() {
    let origin = origin(vec![body("one")]);
    let server = XdsServer::start().unwrap();
    let load_stats = format!("cluster_manager: {{load_stats_config: {}}}", stream_to_control());
    let clusters = [cluster("origin", &[origin.address()]), control(server.address())];
    let fields = [load_stats.as_str()];
    let http = Http { clusters: clusters.into(), routes: ROUTES, bootstrap: &fields, ..Http::default() };
    let running = Setup::new(&http.text()).start();
    let first = server.next_request().unwrap();
    let response = json!({"@type": format!("{LOAD}.LoadStatsResponse"), "send_all_clusters": true,
        "report_endpoint_granularity": true, "load_reporting_interval": "0.05s"});
    server.respond_bytes(first.stream, bytes_of(&response)).unwrap();
    running.await_stat("load_reporter.requests", |count| count == 1);
    assert_eq!(running.answer("/"), (200, "one".into()));
    loop {
        let report = said(&server.next_request().unwrap(), &format!("{LOAD}.LoadStatsRequest"));
        let clusters = report["cluster_stats"].as_array().unwrap();
        let names: Vec<_> = clusters.iter().map(|cluster| cluster["cluster_name"].as_str().unwrap()).collect();
        assert_eq!(names, ["control", "origin"], "{report}");
        if let Some(endpoint) = clusters[1].pointer("/upstream_locality_stats/0/upstream_endpoint_stats/0") {
            let port = endpoint.pointer("/address/socket_address/port_value");
            assert_eq!(port, Some(&json!(origin.address().port())), "{report}");
            break;
        }
    }
}

#[test]
fn dumps_what_was_discovered() {
    let origin = origin(vec![body("one")]);
    let server = XdsServer::serve_snapshot(Snapshot::default()).unwrap();
    let setup = Setup::new(&crate::xds::under("GRPC", server.address()));
    let mut snapshot = Snapshot::default();
    put(&mut snapshot, "cds", "c1", &[("one", discovered("one"))]);
    put(&mut snapshot, "eds", "e1", &[("one", endpoints("one", &[origin.address()]))]);
    put(&mut snapshot, "lds", "l1", &[("front", listener("front", setup.port("front"), "routes"))]);
    put(&mut snapshot, "rds", "r1", &[("routes", routes("routes", "one"))]);
    server.set_snapshot(snapshot);
    let running = setup.start();
    let dump = |target: &str| -> Value {
        let text = running.proxy.admin_text(target).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    };
    let check = |list: &str, pointer: &str, expected: &str| {
        let dump = dump(&format!("/config_dump?include_eds&resource={list}"));
        assert_eq!(dump.pointer(&format!("/configs/0/{pointer}")), Some(&json!(expected)), "{list}: {dump}");
        assert_eq!(dump["configs"].as_array().map(Vec::len), Some(1), "{list}: {dump}");
    };
    check("static_clusters", "cluster/name", "control");
    check("dynamic_active_clusters", "version_info", "c1");
    check("dynamic_active_clusters", "cluster/name", "one");
    check("dynamic_endpoint_configs", "endpoint_config/cluster_name", "one");
    check("static_endpoint_configs", "endpoint_config/cluster_name", "control");
    check("dynamic_listeners", "active_state/version_info", "l1");
    check("dynamic_route_configs", "route_config/name", "routes");
    assert_eq!(dump("/config_dump?resource=dynamic_warming_clusters"), json!({}));
    assert_eq!(dump("/config_dump?resource=dynamic_listeners&name_regex=back"), json!({}));
    server.update(|snapshot| {
        let changed = listener("front", 0, "more");
        put(snapshot, "lds", "l2", &[("front", changed)]);
    });
    running.await_stat("listener_manager.total_listeners_warming", |count| count == 1);
    check("dynamic_listeners", "warming_state/version_info", "l2");
    check("dynamic_listeners", "active_state/version_info", "l1");
    server.update(|snapshot| {
        let mut refused = listener("front", 0, "more");
        refused["filter_chains"] = json!([]);
        put(snapshot, "lds", "l3", &[("front", refused)]);
    });
    server.await_nack("lds", "l3").unwrap();
    check("dynamic_listeners", "error_state/failed_configuration/name", "front");
    check("dynamic_listeners", "active_state/version_info", "l1");
    let status = dump("/csds?type_url=Listener");
    let listener = |name: &str| status.pointer(&format!("/config/0/generic_xds_configs/0/{name}"));
    assert_eq!(listener("name"), Some(&json!("front")), "{status}");
    assert_eq!(listener("version_info"), Some(&json!("l2")), "{status}");
    assert_eq!(listener("client_status"), Some(&json!("NACKED")), "{status}");
    assert_eq!(listener("error_state/version_info"), Some(&json!("l3")), "{status}");
    assert_eq!(dump("/csds").pointer("/config/0/node/id"), Some(&json!("test-id")));
    let clusters = running.proxy.admin_text("/clusters").unwrap();
    assert!(clusters.contains("one::added_via_api::true") && clusters.contains("control::added_via_api::false"));
}
