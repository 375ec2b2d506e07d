//! Route configurations.

use super::{Outcome, lower_yaml};
use nuncio_headers::HeaderMap;
use nuncio_matcher::NoRuntime;
use nuncio_route::{Action, Outcome as Found, PeerCertificate, RouteQuery, RouteTable};
use std::sync::Arc;

fn lower_routes(config: &str) -> Outcome {
    lower_yaml(&format!(
        "static_resources: {{clusters: [{{name: c}}, {{name: d}}], listeners: [{{name: l, address: {{socket_address: \
         {{address: 127.0.0.1, port_value: 80}}}}, filter_chains: [{{filters: [{{name: h, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, \
         stat_prefix: h, route_config: {config}}}}}]}}]}}]}}"
    ))
}

/// A virtual host for all domains with these fields.
fn lower_host(fields: &str) -> Outcome {
    lower_routes(&format!("{{virtual_hosts: [{{name: v, domains: ['*'], {fields}}}]}}"))
}

/// A route for all paths with these fields.
fn lower_route(fields: &str) -> Outcome {
    lower_host(&format!("routes: [{{match: {{prefix: /}}, {fields}}}]"))
}

const BELOW: &str = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config";

fn check_errors(outcome: &Outcome, expected: &[&str]) {
    assert!(outcome.snapshot.is_none());
    let found: Vec<String> = outcome.errors().lines().map(str::to_owned).collect();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(&format!("{BELOW}{expected}")), "found {found}\nexpected {expected}");
    }
}

#[test]
fn clusters_that_are_not_defined() {
    let action = "route: {weighted_clusters: {clusters: [{name: x, weight: 1}, {name: d, weight: 1}]}, \
                  request_mirror_policies: [{cluster: cc}]}";
    let outcome = lower_route(action);
    let route = ".virtual_hosts[0].routes[0].route";
    check_errors(
        &outcome,
        &[
            &format!("{route}.weighted_clusters.clusters[0].name: a cluster of this name is not defined: `x`"),
            &format!("{route}.request_mirror_policies[0].cluster: a cluster of this name is not defined: `cc`"),
        ],
    );
    assert!(outcome.findings.to_string().contains("did you mean c?"), "{}", outcome.findings);
    let unchecked = "{validate_clusters: false, virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, \
                     route: {cluster: x}}]}]}";
    assert_eq!(lower_routes(unchecked).snapshot().routes.len(), 1);
}

#[test]
fn all_errors_are_found_at_their_places() {
    let outcome = lower_host(
        "routes: [{match: {path_match_policy: {name: p, typed_config: ANY}}, route: {cluster: c}}, \
         {match: {prefix: /, headers: [{name: a, string_match: {custom: {name: x, typed_config: ANY}}}, {name: 'a b'}]}, \
         route: {cluster: c}}, \
         {match: {safe_regex: {regex: '('}}, route: {cluster: c}}, \
         {match: {prefix: /}, route: {cluster: c, prefix_rewrite: /a, regex_rewrite: {pattern: {regex: a}}}}]"
            .replace("ANY", "{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: a}")
            .as_str(),
    );
    let errors = outcome.errors();
    for expected in [
        "routes[0].match.path_match_policy: the path matcher p is not built",
        "routes[1].match.headers[0].string_match.custom: the string matcher x is not built",
        "routes[2].match.safe_regex.regex: ",
        "routes[3].route: only one of prefix_rewrite, regex_rewrite can be set",
    ] {
        assert!(errors.contains(&format!("{BELOW}.virtual_hosts[0].{expected}")), "{expected}: {errors}");
    }
}

#[test]
fn bodies_of_direct_responses() {
    let config = |body: &str| {
        format!(
            "{{max_direct_response_body_size_bytes: 5, virtual_hosts: [{{name: v, domains: ['*'], routes: [{{match: \
             {{prefix: /}}, direct_response: {{status: 200, body: {body}}}}}]}}]}}"
        )
    };
    let response = ".virtual_hosts[0].routes[0].direct_response.body";
    let too_long = lower_routes(&config("{inline_string: abcdef}"));
    check_errors(&too_long, &[&format!("{response}: response body size is 6 bytes; maximum is 5")]);
    let missing = lower_routes(&config("{filename: /nonexistent/x}"));
    check_errors(&missing, &[&format!("{response}.filename: /nonexistent/x can't be read: no such file")]);
    let unset = lower_routes(&config("{environment_variable: NOT_SET}"));
    check_errors(&unset, &[&format!("{response}.environment_variable: the environment variable NOT_SET is not set")]);
    let table = lower_routes(&config("{environment_variable: HOME}")).snapshot().routes.remove(0);
    let route = table.routes().next().unwrap();
    assert!(matches!(route.action(), Action::DirectResponse(response) if &*response.body == b"/root"));
}

#[test]
fn per_filter_configuration() {
    const CORS: &str = "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy";
    const FILTER: &str = "type.googleapis.com/envoy.config.route.v3.FilterConfig";
    const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    let lower = |entry: &str| lower_route(&format!("route: {{cluster: c}}, typed_per_filter_config: {{f: {entry}}}"));
    let entry = |text: &str| {
        let table = lower(text).snapshot().routes.remove(0);
        let route: Arc<nuncio_route::Route> = table.routes().next().unwrap().clone();
        let levels = route.per_filter(None);
        (levels.most_specific_as::<String>("f").map(|config| (*config).clone()), levels.disabled("f"))
    };
    assert_eq!(entry(&format!("{{'@type': {CORS}, max_age: '7'}}")), (Some("7".to_owned()), Some(false)));
    let nested = format!("{{'@type': {FILTER}, config: {{'@type': {CORS}, max_age: '7'}}}}");
    assert_eq!(entry(&nested), (Some("7".to_owned()), Some(false)));
    assert_eq!(entry(&format!("{{'@type': {FILTER}, disabled: true}}")), (None, Some(true)));
    assert_eq!(entry(&format!("{{'@type': {FILTER}, config: {{}}}}")), (None, Some(false)));
    let optional = format!("{{'@type': {FILTER}, is_optional: true, config: {{'@type': {CLUSTER}, name: a}}}}");
    assert_eq!(entry(&optional), (None, Some(false)));
    let at = ".virtual_hosts[0].routes[0].typed_per_filter_config[\"f\"]";
    let unknown = lower(&format!("{{'@type': {CLUSTER}, name: a}}"));
    check_errors(&unknown, &[&format!("{at}: the HTTP filter f (envoy.config.cluster.v3.Cluster) is not built")]);
    let empty = lower(&format!("{{'@type': {FILTER}}}"));
    check_errors(&empty, &[&format!("{at}: Empty route/virtual host per filter configuration for f filter")]);
    let refused = lower(&format!("{{'@type': {CORS}, allow_credentials: true}}"));
    check_errors(&refused, &[&format!("{at}.allow_credentials: refused")]);
}

fn cluster_of(table: &RouteTable, path: &str, headers: &[(&str, &str)]) -> Option<String> {
    let mut map = HeaderMap::new();
    for (name, value) in [(":authority", "a.b"), (":path", path), (":method", "GET")].iter().chain(headers) {
        map.append(&nuncio_headers::HeaderName::new(name).unwrap(), value.as_bytes());
    }
    let query = RouteQuery {
        headers: &map,
        random: 0,
        runtime: &NoRuntime,
        info: None,
        peer_certificate: PeerCertificate::default(),
    };
    match table.find(&query) {
        Found::Route(route) => {
            route.forward().and_then(|forward| forward.cluster_names().next().map(|name| name.to_string()))
        }
        _ => None,
    }
}

#[test]
fn matches_of_all_kinds() {
    let table = lower_host(
        "routes: [{match: {path: /exact}, route: {cluster: d}}, \
         {match: {prefix: /, headers: [{name: x-a, string_match: {prefix: v, ignore_case: true}}]}, route: {cluster: d}}, \
         {match: {prefix: /, query_parameters: [{name: q, present_match: true}]}, route: {cluster: d}}, \
         {match: {safe_regex: {regex: '/r.*'}}, route: {cluster: d}}, \
         {match: {prefix: /}, route: {cluster: c}}]",
    )
    .snapshot()
    .routes
    .remove(0);
    for (path, headers, expected) in [
        ("/exact", &[][..], "d"),
        ("/other", &[("x-a", "Vx")], "d"),
        ("/other", &[("x-a", "w")], "c"),
        ("/?q=1", &[], "d"),
        ("/rest", &[], "d"),
        ("/", &[], "c"),
    ] {
        assert_eq!(cluster_of(&table, path, headers).as_deref(), Some(expected), "{path} {headers:?}");
    }
}

#[test]
fn what_is_not_acted_on_is_reported() {
    let outcome = lower_route("route: {cluster: c, hash_policy: [{connection_properties: {}}], hedge_policy: {}}");
    let warnings = outcome.warnings();
    for expected in ["hash_policy[0].connection_properties: hashes nothing", "hedge_policy: is not supported yet"] {
        assert!(warnings.contains(&format!("{BELOW}.virtual_hosts[0].routes[0].route.{expected}")), "{warnings}");
    }
    assert!(outcome.snapshot.is_some());
    let refused = lower_routes("{internal_only_headers: [x-a]}");
    check_errors(&refused, &[".internal_only_headers: is not supported yet, and ignoring it would not be safe"]);
}
