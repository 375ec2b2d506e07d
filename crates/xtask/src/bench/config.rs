//! The configurations under measurement, the same thing said to each proxy. Nuncio and Envoy get the same file.
//!
//! Fair to the others: circuit breakers of Envoy raised out of the way, one thread each, connections kept on both sides and
//! shared by all clients, no limits on requests per connection, no logs unless the log is measured.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

/// What a proxy is set up to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// One route to the origin; with an access log in a file, or none.
    Http { log: bool },
    /// A TCP proxy to the bulk origin.
    Tcp,
    /// This many routes of one kind in one virtual host.
    Routes(PathMatch, usize),
    /// This many virtual hosts with one route each, to one cluster.
    Hosts(usize),
    /// This many clusters, each with a virtual host of its own.
    Clusters(usize),
}

/// How a route matches its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathMatch {
    Exact,
    Prefix,
}

/// Addresses and files that a configuration names.
pub struct Names<'a> {
    /// Where the proxy listens.
    pub listen: SocketAddr,
    /// Where it sends requests.
    pub http_origin: SocketAddr,
    /// Where it sends TCP connections.
    pub bulk_origin: SocketAddr,
    /// For logs and temporary files.
    pub directory: &'a Path,
}

/// Idle upstream connections are closed after this many seconds, HAProxy's default, so that memory after a burst compares.
const UPSTREAM_IDLE_SECONDS: u32 = 5;

/// The path that matches the route of this number, and no other one.
pub fn route_path(number: usize) -> String {
    format!("/service-{number:05}/items")
}

/// The name of the virtual host of this number.
pub fn host_name(number: usize) -> String {
    format!("host-{number:05}.bench.test")
}

/// Bootstrap for Envoy and Nuncio, YAML.
pub fn envoy(setup: Setup, names: &Names<'_>) -> String {
    let mut text = String::from("admin:\n  address: { socket_address: { address: 127.0.0.1, port_value: 0 } }\n");
    text.push_str("static_resources:\n  listeners:\n  - name: bench\n    address: ");
    text.push_str(&socket_address(names.listen));
    text.push_str("    filter_chains:\n    - filters:\n");
    if setup == Setup::Tcp {
        text.push_str(TCP_PROXY);
    } else {
        text.push_str(CONNECTION_MANAGER);
        if setup == (Setup::Http { log: true }) {
            text.push_str(&file_log(names.directory));
        }
        text.push_str("          route_config:\n            name: bench\n            virtual_hosts:\n");
        virtual_hosts(&mut text, setup);
    }
    text.push_str("  clusters:\n");
    match setup {
        Setup::Clusters(count) => {
            (0..count).for_each(|number| cluster(&mut text, &format!("cluster-{number:05}"), names.http_origin, true));
        }
        Setup::Tcp => cluster(&mut text, "origin", names.bulk_origin, false),
        _ => cluster(&mut text, "origin", names.http_origin, true),
    }
    text
}

const TCP_PROXY: &str = "\
\x20     - name: envoy.filters.network.tcp_proxy
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: bench
          cluster: origin
";

const CONNECTION_MANAGER: &str = "\
\x20     - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          codec_type: HTTP1
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
";

fn socket_address(address: SocketAddr) -> String {
    format!("{{ socket_address: {{ address: {}, port_value: {} }} }}\n", address.ip(), address.port())
}

fn file_log(directory: &Path) -> String {
    format!(
        "\
\x20         access_log:
          - name: envoy.access_loggers.file
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: {}
",
        directory.join("access.log").display()
    )
}

fn virtual_hosts(text: &mut String, setup: Setup) {
    // Writing to a string can't fail.
    let mut host = |name: &str, domain: &str| {
        let _ =
            write!(text, "            - name: {name}\n              domains: [\"{domain}\"]\n              routes:\n");
    };
    match setup {
        Setup::Routes(kind, count) => {
            host("all", "*");
            for number in 0..count {
                let path = route_path(number);
                let matcher = match kind {
                    PathMatch::Exact => format!("path: {path}"),
                    PathMatch::Prefix => format!("prefix: {}", path.trim_end_matches("items")),
                };
                route(text, &matcher, "origin");
            }
        }
        Setup::Hosts(count) | Setup::Clusters(count) => {
            for number in 0..count {
                let name = host_name(number);
                let _ = write!(
                    text,
                    "            - name: {name}\n              domains: [{name}]\n              routes:\n"
                );
                let cluster = match setup {
                    Setup::Clusters(_) => format!("cluster-{number:05}"),
                    _ => "origin".to_owned(),
                };
                route(text, "prefix: /", &cluster);
            }
        }
        Setup::Http { .. } | Setup::Tcp => {
            host("all", "*");
            route(text, "prefix: /", "origin");
        }
    }
}

fn route(text: &mut String, matcher: &str, cluster: &str) {
    let _ = write!(text, "              - match: {{ {matcher} }}\n                route: {{ cluster: {cluster} }}\n");
}

fn cluster(text: &mut String, name: &str, origin: SocketAddr, http: bool) {
    let _ = write!(
        text,
        "\
\x20 - name: {name}
    type: STATIC
    connect_timeout: 5s
    circuit_breakers:
      thresholds:
      - max_connections: 1000000000
        max_pending_requests: 1000000000
        max_requests: 1000000000
        max_retries: 1000000000
    load_assignment:
      cluster_name: {name}
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {}",
        socket_address(origin)
    );
    if http {
        let _ = write!(
            text,
            "\
\x20   typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        common_http_protocol_options: {{ idle_timeout: {UPSTREAM_IDLE_SECONDS}s }}
        explicit_http_config: {{ http_protocol_options: {{}} }}
"
        );
    }
}

/// Configuration of HAProxy for [`Setup::Http`] and [`Setup::Tcp`]; `connections` is the most that it may hold.
pub fn haproxy(setup: Setup, names: &Names<'_>, connections: u64) -> String {
    let (mode, origin, options) = match setup {
        Setup::Tcp => ("tcp", names.bulk_origin, "  option splice-request\n  option splice-response\n"),
        _ => ("http", names.http_origin, "  http-reuse always\n"),
    };
    format!(
        "\
global
  nbthread 1
  maxconn {connections}
defaults
  mode {mode}
{options}\
\x20 timeout connect 5s
  timeout client 300s
  timeout server 300s
frontend bench
  bind {}
  default_backend origin
backend origin
  server origin {origin}
",
        names.listen
    )
}

/// Configuration of nginx for [`Setup::Http`].
pub fn nginx(names: &Names<'_>, connections: u64) -> String {
    let directory = names.directory.display();
    format!(
        "\
daemon off;
master_process off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr crit;
worker_rlimit_nofile {};
events {{ worker_connections {}; }}
http {{
  access_log off;
  keepalive_timeout 300s;
  keepalive_requests 1000000000;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  upstream origin {{
    server {};
    keepalive {connections};
    keepalive_requests 1000000000;
    keepalive_timeout {UPSTREAM_IDLE_SECONDS}s;
  }}
  server {{
    listen {} reuseport backlog=16384;
    location / {{
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
    }}
  }}
}}
",
        2 * connections,
        2 * connections,
        names.http_origin,
        names.listen
    )
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::path::Path;

    use serde_json::Value;

    use super::{Names, PathMatch, Setup, envoy};

    /// Virtual hosts, routes of the first one, and clusters.
    fn check(setup: Setup, expected: (usize, usize, usize)) {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let names = Names {
            listen: address(1),
            http_origin: address(2),
            bulk_origin: address(3),
            directory: Path::new("/nowhere"),
        };
        let document = crate::yaml::documents(&envoy(setup, &names)).unwrap().remove(0);
        let manager = &document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
        let length = |value: &Value| value.as_array().map_or(0, Vec::len);
        let hosts = &manager["route_config"]["virtual_hosts"];
        let clusters = &document["static_resources"]["clusters"];
        assert_eq!((length(hosts), length(&hosts[0]["routes"]), length(clusters)), expected, "{setup:?}");
        assert_eq!(length(&manager["access_log"]), usize::from(setup == Setup::Http { log: true }));
    }

    #[test]
    fn bootstraps_hold_what_the_setup_says() {
        check(Setup::Http { log: false }, (1, 1, 1));
        check(Setup::Http { log: true }, (1, 1, 1));
        check(Setup::Tcp, (0, 0, 1));
        check(Setup::Routes(PathMatch::Prefix, 30), (1, 30, 1));
        check(Setup::Routes(PathMatch::Exact, 30), (1, 30, 1));
        check(Setup::Hosts(30), (30, 1, 1));
        check(Setup::Clusters(30), (30, 1, 30));
    }
}
