//! Access rules between real sockets: whatever a path is spelt like, rules and routes see the same bytes.

use crate::support::*;

/// Spellings of a denied path, and near misses: CVE-2019-9901 (dot segments), CVE-2021-29492 (escaped slashes), CVE-2021-32779
/// (fragments), CVE-2026-73553 and CVE-2026-73511 (parameters).
#[rustfmt::skip]
const SPELLINGS: &[&str] = &[
    "/admin", "/admin/", "/admin/x", "/admin?x", "/admin/?x=1", "//admin", "///admin", "/admin//x", "/./admin",
    "/.//admin", "/x/../admin", "/x/./../admin", "/../admin", "/../../admin", "/x/../../admin", "/admin/.",
    "/admin/..", "/admin/../x", "/admin/x/..", "/%61dmin", "/%61%64%6d%69%6e", "/admi%6e", "/Admin", "/ADMIN",
    "/admin%2f", "/admin%2Fx", "/admin%5cx", "/admin%5Cx", "/x%2f..%2fadmin", "/x/%2e%2e/admin", "/x/%2E%2E/admin",
    "/x/.%2e/admin", "/x/%2e./admin", "/%2e/admin", "/%2f/admin", "/%2fadmin", "/%5cadmin", "/x%5c..%5cadmin",
    "/admin;x=1", "/admin;/x", "/;/admin", "/;x/admin", "/x/..;/admin", "/x/..;y/admin", "/x;/../admin",
    "/admin%3bx", "/admin%3fx", "/admin%23x", "/admin%2e", "/admin%20", "/admin%09", "/admin%00", "/adm%00in",
    "/admin%zz", "/admin%2", "/admin%", "/%2561dmin", "/admin%252f", "/x/%252e%252e/admin", "/admin|x", "/admin*",
    "/*/admin", r"/admin\x", r"/x\..\admin", r"/\admin", "/%c0%afadmin", "/x/%c0%ae%c0%ae/admin", "/%ef%bc%8fadmin",
    "/admin%c3%a9", "/admin/%2e%2e/%61dmin",
];

/// What connection managers do to paths.
const MODES: &[&str] = &[
    "",
    "normalize_path: true, ",
    "normalize_path: true, merge_slashes: true, path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD, ",
    "normalize_path: true, merge_slashes: true, path_with_escaped_slashes_action: REJECT_REQUEST, ",
];

fn config(mode: &str) -> String {
    format!(
        "{{static_resources: {{listeners: [{{address: {{socket_address: {{address: 127.0.0.1, port_value: $main}}}}, \
         filter_chains: [{{filters: [{{name: hcm, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.\
         network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: x, {mode}http_filters: [{{name: rbac, \
         typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, rules: {{action: DENY, \
         policies: {{p: {{permissions: [{{url_path: {{path: {{prefix: /admin}}}}}}], principals: [{{any: true}}]}}}}}}}}}}, \
         {{name: router, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}], \
         route_config: {{virtual_hosts: [{{name: v, domains: ['*'], routes: [{{match: {{path_separated_prefix: /admin}}, \
         direct_response: {{status: 200, body: {{inline_string: admin}}}}}}, {{match: {{prefix: /}}, direct_response: \
         {{status: 200, body: {{inline_string: other}}}}}}]}}]}}}}}}]}}]}}]}}, admin: {{address: {{socket_address: \
         {{address: 127.0.0.1, port_value: 0}}}}}}}}"
    )
}

#[test]
fn no_spelling_gets_past_the_rules() {
    for mode in MODES {
        let running = Setup::new(&config(mode)).start();
        let mut denied = 0;
        for path in SPELLINGS {
            let mut client = running.client_of("main");
            let response = ask(&mut client, &format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
            let (status, body) = answer(&response);
            assert_ne!(body, "admin", "{path} with {{{mode}}}: {status}");
            assert!(matches!(status, 200 | 400 | 403), "{path} with {{{mode}}}: {status} {body}");
            denied += usize::from(status == 403);
        }
        assert!(denied >= 10, "with {{{mode}}} only {denied} are denied");
    }
}
