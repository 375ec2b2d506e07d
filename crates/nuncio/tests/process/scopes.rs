//! Routes by scope, scopes and virtual hosts that are sent by a management server, or asked for by requests.

use crate::support::*;
use crate::xds::{listener, put, routes, under};
use nuncio_testkit::xds::{Snapshot, XdsServer};
use serde_json::{Value, json};

/// A route configuration that answers with `text`.
fn replies(name: &str, text: &str) -> Value {
    let mut config = routes(name, "none");
    config["virtual_hosts"] = json!([virtual_host("all", "*", text)]);
    config
}

fn virtual_host(name: &str, domain: &str, text: &str) -> Value {
    json!({"name": name, "domains": [domain],
        "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": text}}}]})
}

fn scope(name: &str, routes: &str, key: &str, on_demand: bool) -> Value {
    json!({"name": name, "route_configuration_name": routes, "on_demand": on_demand,
        "key": {"fragments": [{"string_key": key}]}})
}

fn on_demand_filter() -> Value {
    json!({"name": "on_demand", "typed_config":
        {"@type": "type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.OnDemand"}})
}

/// The listener `front`, its manager changed.
fn changed(port: u16, change: impl FnOnce(&mut Value)) -> Value {
    let mut listener = listener("front", port, "r");
    change(&mut listener["filter_chains"][0]["filters"][0]["typed_config"]);
    listener
}

fn scoped(port: u16) -> Value {
    changed(port, |manager| {
        manager.as_object_mut().unwrap().remove("rds");
        manager["http_filters"].as_array_mut().unwrap().insert(0, on_demand_filter());
        let ads = json!({"ads": {}, "resource_api_version": "V3"});
        manager["scoped_routes"] = json!({"name": "s", "rds_config_source": ads,
            "scoped_rds": {"scoped_rds_config_source": ads},
            "scope_key_builder": {"fragments": [{"header_value_extractor":
                {"name": "x-scope", "element_separator": ";", "element": {"separator": "=", "key": "k"}}}]}});
    })
}

fn in_scope(running: &Running, scope: &str) -> (u16, String) {
    answer(&ask(&mut running.client(), &format!("GET / HTTP/1.1\r\nhost: test\r\nx-scope: a;k={scope}\r\n\r\n")))
}

#[test]
fn routes_are_chosen_by_scope() {
    for kind in ["GRPC", "DELTA_GRPC"] {
        let server = XdsServer::serve_snapshot(Snapshot::default()).unwrap();
        let setup = Setup::new(&under(kind, server.address()));
        let mut snapshot = Snapshot::default();
        put(&mut snapshot, "cds", "1", &[]);
        put(&mut snapshot, "lds", "1", &[("front", scoped(setup.port("front")))]);
        let (one, two) = (scope("one", "r1", "1", false), scope("two", "r2", "2", true));
        put(&mut snapshot, "srds", "1", &[("one", one.clone()), ("two", two)]);
        put(&mut snapshot, "rds", "1", &[("r1", replies("r1", "first")), ("r2", replies("r2", "second"))]);
        server.set_snapshot(snapshot);
        let running = setup.start();
        server.await_ack("rds", "1").unwrap();
        assert_eq!(in_scope(&running, "1"), (200, "first".into()), "{kind}");
        assert_eq!(in_scope(&running, "3").0, 404, "{kind}");
        assert_eq!(running.answer("/").0, 404, "{kind}");
        let active = "http.front.scoped_rds.s.active_scopes";
        assert_eq!(running.stat(active), 1, "{kind}: nobody asked for the other");
        assert_eq!(in_scope(&running, "2"), (200, "second".into()), "{kind}");
        assert_eq!(running.stat(active), 2, "{kind}");
        // Two scopes of one key are refused, and change nothing.
        server.update(|snapshot| {
            put(snapshot, "srds", "2", &[("one", one.clone()), ("two", scope("two", "r2", "1", false))])
        });
        let text = server.await_nack("srds", "2").unwrap();
        assert!(text.contains("scope key conflict"), "{kind}: {text}");
        assert_eq!(in_scope(&running, "2"), (200, "second".into()), "{kind}");
        server.update(|snapshot| put(snapshot, "srds", "3", &[("two", scope("two", "r2", "4", false))]));
        server.await_ack("srds", "3").unwrap();
        assert_eq!(in_scope(&running, "4"), (200, "second".into()), "{kind}");
        assert_eq!(in_scope(&running, "1").0, 404, "{kind}");
        assert_eq!(in_scope(&running, "2").0, 404, "{kind}");
        assert_eq!(running.stat("http.front.scoped_rds.s.all_scopes"), 1, "{kind}");
    }
}

#[test]
fn virtual_hosts_are_asked_for_by_requests() {
    let server = XdsServer::serve_snapshot(Snapshot::default()).unwrap();
    let setup = Setup::new(&under("DELTA_GRPC", server.address()));
    let front = changed(setup.port("front"), |manager| {
        manager["http_filters"].as_array_mut().unwrap().insert(0, on_demand_filter());
    });
    let mut config = replies("r", "");
    config["virtual_hosts"] = json!([virtual_host("own", "own", "of the routes")]);
    config["vhds"] =
        json!({"config_source": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0.1s"}});
    let mut snapshot = Snapshot::default();
    put(&mut snapshot, "cds", "1", &[]);
    put(&mut snapshot, "lds", "1", &[("front", front)]);
    put(&mut snapshot, "rds", "1", &[("r", config)]);
    put(&mut snapshot, "vhds", "1", &[("r/test", virtual_host("r/test", "test", "on demand"))]);
    server.set_snapshot(snapshot);
    let running = setup.start();
    let ask_for = |host: &str| answer(&ask(&mut running.client(), &format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")));
    assert_eq!(ask_for("own"), (200, "of the routes".into()));
    assert_eq!(ask_for("TEST"), (200, "on demand".into()));
    assert_eq!(ask_for("own"), (200, "of the routes".into()));
}
