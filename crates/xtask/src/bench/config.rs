//! The configurations under measurement, the same thing said to each proxy. Nuncio and Envoy get the same file.
//!
//! Fair to the others: circuit breakers of Envoy raised out of the way, one thread each, connections kept on both sides and
//! shared by all clients, no limits on requests per connection, no logs unless the log is measured.

mod haproxy;
mod nginx;

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use super::credentials;
use super::load::Origins;
use super::load::message::BODY;
pub use haproxy::haproxy;
pub use nginx::nginx;

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
    /// The same, and each originates TLS and trusts the same authorities.
    TlsClusters(usize),
    /// One route, HTTP/2 from clients; to the origin as well, or HTTP/1.
    Http2 { both: bool },
    /// One route for gRPC.
    Grpc,
    /// One route to the origin, HTTP/1 over TLS from clients.
    Tls,
    /// HTTP/1 over TLS from clients, answered by the proxy itself.
    TlsAnswer,
    /// A TCP proxy to the bulk origin, TLS from clients.
    TlsTcp,
}

impl Setup {
    /// Whether clients come over TLS.
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::TlsAnswer | Self::TlsTcp)
    }

    fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp | Self::TlsTcp)
    }

    fn speaks_http2(self) -> bool {
        matches!(self, Self::Http2 { .. } | Self::Grpc)
    }
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
    /// Where it sends requests and connections.
    pub origins: Origins,
    /// For logs, temporary files and [`credentials`].
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
    if setup.is_tcp() {
        text.push_str(TCP_PROXY);
    } else {
        let codec = if setup.speaks_http2() { "HTTP2" } else { "HTTP1" };
        text.push_str(&CONNECTION_MANAGER.replace("CODEC", codec));
        if setup == (Setup::Http { log: true }) {
            text.push_str(&file_log(names.directory));
        }
        text.push_str("          route_config:\n            name: bench\n            virtual_hosts:\n");
        virtual_hosts(&mut text, setup);
    }
    if setup.is_secure() {
        text.push_str(&downstream_tls(names.directory));
    }
    text.push_str("  clusters:\n");
    let (http, origins) = (Some("http_protocol_options"), names.origins);
    match setup {
        Setup::Clusters(count) | Setup::TlsClusters(count) => {
            for number in 0..count {
                cluster(&mut text, &format!("cluster-{number:05}"), origins.http, http);
                if matches!(setup, Setup::TlsClusters(_)) {
                    text.push_str(&upstream_tls(names.directory));
                }
            }
        }
        Setup::Tcp | Setup::TlsTcp => cluster(&mut text, "origin", origins.bulk, None),
        Setup::Http2 { both: true } | Setup::Grpc => {
            cluster(&mut text, "origin", origins.http2, Some("http2_protocol_options"));
        }
        _ => cluster(&mut text, "origin", origins.http, http),
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
          codec_type: CODEC
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
";

fn downstream_tls(directory: &Path) -> String {
    format!(
        "\
\x20     transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificates:
            - certificate_chain: {{ filename: {} }}
              private_key: {{ filename: {} }}
",
        credentials::chain(directory).display(),
        credentials::key(directory).display()
    )
}

fn upstream_tls(directory: &Path) -> String {
    format!(
        "\
\x20   transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: bench.test
        common_tls_context:
          validation_context:
            trusted_ca: {{ filename: {} }}
",
        credentials::bundle(directory).display()
    )
}

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
        Setup::Hosts(count) | Setup::Clusters(count) | Setup::TlsClusters(count) => {
            for number in 0..count {
                let name = host_name(number);
                let _ = write!(
                    text,
                    "            - name: {name}\n              domains: [{name}]\n              routes:\n"
                );
                let cluster = match setup {
                    Setup::Clusters(_) | Setup::TlsClusters(_) => format!("cluster-{number:05}"),
                    _ => "origin".to_owned(),
                };
                route(text, "prefix: /", &cluster);
            }
        }
        Setup::TlsAnswer => {
            host("all", "*");
            let answer = format!("{{ status: 200, body: {{ inline_string: {} }} }}", "x".repeat(BODY));
            let _ = write!(text, "              - match: {{ prefix: / }}\n                direct_response: {answer}\n");
        }
        Setup::Http { .. } | Setup::Http2 { .. } | Setup::Grpc | Setup::Tls | Setup::Tcp | Setup::TlsTcp => {
            host("all", "*");
            route(text, "prefix: /", "origin");
        }
    }
}

fn route(text: &mut String, matcher: &str, cluster: &str) {
    let _ = write!(text, "              - match: {{ {matcher} }}\n                route: {{ cluster: {cluster} }}\n");
}

/// `http` is the protocol, where there is one.
fn cluster(text: &mut String, name: &str, origin: SocketAddr, http: Option<&str>) {
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
    if let Some(http) = http {
        let _ = write!(
            text,
            "\
\x20   typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        common_http_protocol_options: {{ idle_timeout: {UPSTREAM_IDLE_SECONDS}s }}
        explicit_http_config: {{ {http}: {{}} }}
"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::path::Path;

    use serde_json::Value;

    use super::{Names, Origins, PathMatch, Setup, envoy};

    /// Virtual hosts, routes of the first one, and clusters; TLS where the setup says so.
    fn check(setup: Setup, expected: (usize, usize, usize)) {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let names = Names {
            listen: address(1),
            origins: Origins { http: address(2), bulk: address(3), http2: address(4) },
            directory: Path::new("/nowhere"),
        };
        let document = crate::yaml::documents(&envoy(setup, &names)).unwrap().remove(0);
        let chain = &document["static_resources"]["listeners"][0]["filter_chains"][0];
        assert_eq!(chain["transport_socket"].is_object(), setup.is_secure(), "{setup:?}");
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
        check(Setup::TlsClusters(30), (30, 1, 30));
        check(Setup::TlsTcp, (0, 0, 1));
        for setup in [Setup::Http2 { both: true }, Setup::Grpc, Setup::Tls, Setup::TlsAnswer] {
            check(setup, (1, 1, 1));
        }
    }
}
