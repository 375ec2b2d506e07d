//! Under a management server: resources that come, change and go, over both variants of the protocol.

use std::net::SocketAddr;

use nuncio_testkit::authority::Authority;
use nuncio_testkit::xds::{Event, Place, Snapshot, XdsServer, any_of};
use serde_json::{Value, json};

use crate::support::*;

/// The variants of the protocol.
const KINDS: [&str; 2] = ["GRPC", "DELTA_GRPC"];

/// A bootstrap under the server at `address`, over ADS.
pub fn under(kind: &str, address: SocketAddr) -> String {
    format!(
        r"
node: {{id: test-id, cluster: test-cluster}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
dynamic_resources:
  ads_config:
    api_type: {kind}
    transport_api_version: V3
    grpc_services: [{{envoy_grpc: {{cluster_name: control}}}}]
    set_node_on_first_message_only: true
  cds_config: {{ads: {{}}, resource_api_version: V3}}
  lds_config: {{ads: {{}}, resource_api_version: V3}}
static_resources:
  clusters:
  - name: control
    type: STATIC
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: control
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}}}]}}]
# front: $front
",
        address.ip(),
        address.port(),
    )
}

pub fn cluster(name: &str) -> Value {
    json!({"name": name, "type": "EDS", "connect_timeout": "1s",
        "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}}})
}

pub fn endpoints(name: &str, addresses: &[SocketAddr]) -> Value {
    let endpoint = |address: &SocketAddr| {
        json!({"endpoint": {"address": {"socket_address":
            {"address": address.ip().to_string(), "port_value": address.port()}}}})
    };
    let endpoints: Vec<Value> = addresses.iter().map(endpoint).collect();
    json!({"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]})
}

pub fn routes(name: &str, cluster: &str) -> Value {
    json!({"name": name, "virtual_hosts": [{"name": "all", "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}]})
}

pub fn listener(name: &str, port: u16, routes: &str) -> Value {
    json!({"name": name, "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "front",
            "rds": {"route_config_name": routes, "config_source": {"ads": {}, "resource_api_version": "V3"}},
            "http_filters": [{"name": "router", "typed_config":
                {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]})
}

pub fn put(snapshot: &mut Snapshot, kind: &str, version: &str, resources: &[(&str, Value)]) {
    let resources = resources.iter().map(|(name, json)| ((*name).to_owned(), any_of(kind, json).unwrap()));
    snapshot.set(kind, version, resources.collect::<Vec<_>>());
}

/// A whole configuration: one listener, one route, one cluster.
fn whole(front: u16, upstream: SocketAddr) -> Snapshot {
    let mut snapshot = Snapshot::default();
    put(&mut snapshot, "cds", "1", &[("one", cluster("one"))]);
    put(&mut snapshot, "eds", "1", &[("one", endpoints("one", &[upstream]))]);
    put(&mut snapshot, "lds", "1", &[("front", listener("front", front, "routes"))]);
    put(&mut snapshot, "rds", "1", &[("routes", routes("routes", "one"))]);
    snapshot
}

#[test]
fn serves_what_it_is_sent() {
    for kind in KINDS {
        let origin = origin(vec![body("one")]);
        let server = XdsServer::serve_snapshot(Snapshot::default()).unwrap();
        let setup = Setup::new(&under(kind, server.address()));
        server.set_snapshot(whole(setup.port("front"), origin.address()));
        let running = setup.start();
        assert_eq!(running.answer("/"), (200, "one".into()), "{kind}");
        assert_eq!(running.stat("cluster_manager.cds.update_success"), 1, "{kind}");
        assert_eq!(running.stat("listener_manager.lds.update_success"), 1, "{kind}");
        assert_eq!(running.stat("http.front.rds.routes.update_success"), 1, "{kind}");
        assert_eq!(running.stat("cluster.one.update_success"), 1, "{kind}");
        assert_eq!(running.stat("control_plane.connected_state"), 1, "{kind}");
        for kind in ["cds", "eds", "lds", "rds"] {
            server.await_ack(kind, "1").unwrap();
        }
    }
}

#[test]
fn endpoints_routes_clusters_and_listeners_change() {
    for kind in KINDS {
        let (first, second) = (origin(vec![body("one")]), origin(vec![body("two")]));
        let server = XdsServer::serve_snapshot(Snapshot::default()).unwrap();
        let setup = Setup::new(&under(kind, server.address()));
        let front = setup.port("front");
        server.set_snapshot(whole(front, first.address()));
        let running = setup.start();
        let mut kept = running.client();
        assert_eq!(answer(&get(&mut kept, "/")), (200, "one".into()));
        server.update(|snapshot| put(snapshot, "eds", "2", &[("one", endpoints("one", &[second.address()]))]));
        server.await_ack("eds", "2").unwrap();
        running.await_answer("/", (200, "two"));
        server.update(|snapshot| {
            put(snapshot, "cds", "2", &[("one", cluster("one")), ("two", cluster("two"))]);
            let (one, two) = (endpoints("one", &[second.address()]), endpoints("two", &[first.address()]));
            put(snapshot, "eds", "3", &[("one", one), ("two", two)]);
        });
        server.await_ack("cds", "2").unwrap();
        server.update(|snapshot| put(snapshot, "rds", "2", &[("routes", routes("routes", "two"))]));
        server.await_ack("rds", "2").unwrap();
        // The same connection: routes change below it.
        assert_eq!(answer(&get(&mut kept, "/")), (200, "one".into()), "{kind}");
        server.update(|snapshot| put(snapshot, "lds", "2", &[]));
        server.await_ack("lds", "2").unwrap();
        running.await_stat("listener_manager.total_listeners_active", |count| count == 0);
    }
}

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    for kind in KINDS {
        let origin = origin(vec![body("one")]);
        let server = XdsServer::serve_snapshot(Snapshot::default()).unwrap();
        let setup = Setup::new(&under(kind, server.address()));
        server.set_snapshot(whole(setup.port("front"), origin.address()));
        let running = setup.start();
        let mut broken = cluster("broken");
        broken["lb_policy"] = json!("CLUSTER_PROVIDED");
        server.update(|snapshot| {
            let clusters = [("one", cluster("one")), ("two", cluster("two")), ("broken", broken.clone())];
            put(snapshot, "cds", "2", &clusters);
            let both = [("one", endpoints("one", &[origin.address()])), ("two", endpoints("two", &[]))];
            put(snapshot, "eds", "2", &both);
        });
        let text = server.await_nack("cds", "2").unwrap();
        assert!(text.contains("broken"), "{kind}: {text}");
        assert!(!text.contains("two"), "{kind}: {text}");
        // What is good in it is there.
        running.await_stat("cluster_manager.cds.update_rejected", |count| count == 1);
        assert_eq!(running.answer("/"), (200, "one".into()), "{kind}");
    }
}

#[test]
fn a_lost_server_changes_nothing_and_is_found_again() {
    for kind in KINDS {
        let (first, second) = (origin(vec![body("one")]), origin(vec![body("two")]));
        let server = XdsServer::serve_snapshot(Snapshot::default()).unwrap();
        let setup = Setup::new(&under(kind, server.address()));
        server.set_snapshot(whole(setup.port("front"), first.address()));
        let running = setup.start();
        server.stop_listening();
        server.cut();
        running.await_stat("control_plane.connected_state", |connected| connected == 0);
        assert_eq!(running.answer("/"), (200, "one".into()), "{kind}");
        server.update(|snapshot| put(snapshot, "eds", "2", &[("one", endpoints("one", &[second.address()]))]));
        server.listen_again().unwrap();
        server.await_ack("eds", "2").unwrap();
        running.await_answer("/", (200, "two"));
    }
}

/// A listener that ends TLS with the secret `server`, whose client certificates the secret `roots` validates.
fn tls_listener(port: u16, source: &Value) -> Value {
    let mut listener = listener("front", port, "routes");
    listener["filter_chains"][0]["transport_socket"] = json!({"name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [{"name": "server", "sds_config": source}]}}});
    listener
}

fn certificate(authority: &Authority, name: &str) -> Value {
    let (certificate, key) = authority.issue(name, &["DNS:localhost", "IP:127.0.0.1"]);
    json!({"name": "server", "tls_certificate": {
        "certificate_chain": {"inline_string": certificate}, "private_key": {"inline_string": key}}})
}

/// What a client is shown.
fn subject(running: &Running) -> String {
    let connect = format!("127.0.0.1:{}", running.setup.port("front"));
    let shown = std::process::Command::new("openssl")
        .args(["s_client", "-connect", &connect, "-servername", "localhost"])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    text.lines().find(|line| line.starts_with("subject=")).unwrap_or_default().to_owned()
}

#[test]
fn a_listener_waits_for_its_secret_and_follows_it() {
    for kind in KINDS {
        let authority = Authority::new("authority");
        let origin = origin(vec![body("one")]);
        let server = XdsServer::serve_snapshot(Snapshot::default()).unwrap();
        let setup = Setup::new(&under(kind, server.address()));
        let front = setup.port("front");
        let mut snapshot = whole(front, origin.address());
        let source = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
        put(&mut snapshot, "lds", "0", &[]);
        server.set_snapshot(snapshot);
        let running = setup.start();
        server.update(|snapshot| put(snapshot, "lds", "1", &[("front", tls_listener(front, &source))]));
        server.await_ack("lds", "1").unwrap();
        running.await_stat("listener_manager.total_listeners_warming", |warming| warming == 1);
        server.update(|snapshot| put(snapshot, "sds", "1", &[("server", certificate(&authority, "first"))]));
        server.await_ack("sds", "1").unwrap();
        running.await_stat("listener_manager.total_listeners_active", |active| active == 1);
        assert!(subject(&running).contains("first"), "{kind}: {}", subject(&running));
        server.update(|snapshot| put(snapshot, "sds", "2", &[("server", certificate(&authority, "second"))]));
        server.await_ack("sds", "2").unwrap();
        assert!(subject(&running).contains("second"), "{kind}: {}", subject(&running));
        // What is no certificate leaves the one that is.
        let broken = json!({"name": "server", "tls_certificate": {
            "certificate_chain": {"inline_string": "no"}, "private_key": {"inline_string": "no"}}});
        server.update(|snapshot| put(snapshot, "sds", "3", &[("server", broken.clone())]));
        let text = server.await_nack("sds", "3").unwrap();
        assert!(text.contains("server"), "{kind}: {text}");
        assert!(subject(&running).contains("second"), "{kind}: {}", subject(&running));
    }
}

#[test]
fn secrets_come_over_a_unix_socket_each_on_its_own_stream() {
    let authority = Authority::new("authority");
    let directory = tempfile::tempdir().unwrap();
    let place = Place::Unix(directory.path().join("socket"));
    let agent = XdsServer::start_at(place, None).unwrap();
    let mut secrets = Snapshot::default();
    put(&mut secrets, "sds", "1", &[("server", certificate(&authority, "first"))]);
    agent.set_snapshot(secrets);
    let origin = origin(vec![body("one")]);
    let server = XdsServer::serve_snapshot(Snapshot::default()).unwrap();
    let text = under("DELTA_GRPC", server.address());
    let cluster = format!(
        "  clusters:\n  - {{name: agent, type: STATIC, http2_protocol_options: {{}}, load_assignment: {{cluster_name: agent, \
         endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{pipe: {{path: {}}}}}}}}}]}}]}}}}\n",
        directory.path().join("socket").display()
    );
    let setup = Setup::new(&text.replace("  clusters:\n", &cluster));
    let front = setup.port("front");
    let mut snapshot = whole(front, origin.address());
    let source = json!({"resource_api_version": "V3", "api_config_source": {
        "api_type": "GRPC", "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "agent"}}]}});
    put(&mut snapshot, "lds", "1", &[("front", tls_listener(front, &source))]);
    server.set_snapshot(snapshot);
    let running = setup.start();
    assert!(subject(&running).contains("first"), "{}", subject(&running));
    let paths: Vec<String> = agent
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::Request(request) => Some(request.path.clone()),
            _ => None,
        })
        .collect();
    assert!(paths.iter().all(|path| path.ends_with("SecretDiscoveryService/StreamSecrets")), "{paths:?}");
}

const FAULT: &str = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";

/// A filter configuration that answers all requests with a status.
fn abort(status: u16) -> Value {
    json!({"name": "discovered", "typed_config": {"@type": FAULT,
        "abort": {"http_status": status, "percentage": {"numerator": 100}}}})
}

#[test]
fn filters_are_configured_by_discovery() {
    for kind in KINDS {
        let origin = origin(vec![body("one")]);
        let server = XdsServer::serve_snapshot(Snapshot::default()).unwrap();
        let setup = Setup::new(&under(kind, server.address()));
        let front = setup.port("front");
        let mut snapshot = whole(front, origin.address());
        let mut listener = listener("front", front, "routes");
        let filters = &mut listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"];
        let discovered = json!({"name": "discovered", "config_discovery": {
            "config_source": {"ads": {}, "resource_api_version": "V3"}, "type_urls": [FAULT]}});
        filters.as_array_mut().unwrap().insert(0, discovered);
        put(&mut snapshot, "lds", "1", &[("front", listener)]);
        put(&mut snapshot, "ecds", "1", &[("discovered", abort(418))]);
        server.set_snapshot(snapshot);
        let running = setup.start();
        assert_eq!(running.answer("/").0, 418, "{kind}");
        server.update(|snapshot| put(snapshot, "ecds", "2", &[("discovered", abort(503))]));
        server.await_ack("ecds", "2").unwrap();
        assert_eq!(running.answer("/").0, 503, "{kind}");
        let mut other = abort(503);
        other["typed_config"] = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
            "max_request_bytes": 1});
        server.update(|snapshot| put(snapshot, "ecds", "3", &[("discovered", other.clone())]));
        let text = server.await_nack("ecds", "3").unwrap();
        assert!(text.contains("discovered") && text.contains("Buffer"), "{kind}: {text}");
        assert_eq!(running.answer("/").0, 503, "{kind}");
        assert_eq!(running.stat("extension_config_discovery.http_filter.discovered.config_reload"), 2, "{kind}");
    }
}

#[test]
fn runtime_layers_come_by_discovery() {
    for kind in KINDS {
        let origin = origin(vec![body("one")]);
        let server = XdsServer::serve_snapshot(Snapshot::default()).unwrap();
        let text = under(kind, server.address())
            + "layered_runtime: {layers: [{name: base, static_layer: {key: 1}}, {name: dynamic, rtds_layer: \
               {name: layer, rtds_config: {ads: {}, resource_api_version: V3}}}]}\n";
        let setup = Setup::new(&text);
        let mut snapshot = whole(setup.port("front"), origin.address());
        put(&mut snapshot, "rtds", "1", &[("layer", json!({"name": "layer", "layer": {"key": 2}}))]);
        server.set_snapshot(snapshot);
        let running = setup.start();
        let value = || running.proxy.admin_text("/runtime").unwrap();
        assert!(value().contains("\"final_value\": \"2\""), "{kind}: {}", value());
        server.update(|snapshot| {
            put(snapshot, "rtds", "2", &[("layer", json!({"name": "layer", "layer": {"key": 3}}))]);
        });
        server.await_ack("rtds", "2").unwrap();
        assert!(value().contains("\"final_value\": \"3\""), "{kind}: {}", value());
    }
}

/// A cluster whose endpoints come over a stream of their own takes it along when it goes.
#[test]
fn streams_of_their_own_end_with_what_subscribed() {
    for kind in KINDS {
        let origin = origin(vec![body("one")]);
        let server = XdsServer::serve_snapshot(Snapshot::default()).unwrap();
        let setup = Setup::new(&under(kind, server.address()));
        let mut snapshot = whole(setup.port("front"), origin.address());
        let mut own = cluster("own");
        own["eds_cluster_config"]["eds_config"] = json!({"resource_api_version": "V3", "api_config_source": {
            "api_type": kind, "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "control"}}]}});
        put(&mut snapshot, "cds", "1", &[("one", cluster("one")), ("own", own)]);
        let both = [("one", endpoints("one", &[origin.address()])), ("own", endpoints("own", &[origin.address()]))];
        put(&mut snapshot, "eds", "1", &both);
        server.set_snapshot(snapshot);
        let running = setup.start();
        assert_eq!(server.open_streams().len(), 2, "{kind}");
        server.update(|snapshot| put(snapshot, "cds", "2", &[("one", cluster("one"))]));
        server.await_ack("cds", "2").unwrap();
        let ended = running.proxy.await_that(|_| server.open_streams().len() == 1);
        assert!(ended, "{kind}: {:?}", server.open_streams());
        assert_eq!(running.answer("/"), (200, "one".into()), "{kind}");
    }
}
