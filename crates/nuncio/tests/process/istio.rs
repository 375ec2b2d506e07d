//! Two sidecars as istiod configures them: mutual TLS between them, protocols told apart by what is offered, and metadata
//! exchanged on HTTP and on TCP.

mod captured;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use nuncio_testkit::authority::Authority;
use nuncio_testkit::origin::{Origin, Reply};

use crate::support::*;

const MX: &str = "{name: istio.metadata_exchange, typed_config: {'@type': type.googleapis.com/udpa.type.v1.TypedStruct, \
                  type_url: type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange, \
                  value: {enable_discovery: true, protocol: istio-peer-exchange}}}";

/// The filter for HTTP, as of this direction.
fn peer_metadata(fields: &str) -> String {
    format!(
        "{{name: istio.metadata_exchange, typed_config: {{'@type': type.googleapis.com/udpa.type.v1.TypedStruct, \
         type_url: type.googleapis.com/io.istio.http.peer_metadata.Config, value: {{{fields}}}}}}}, "
    )
}

fn tls(side: &str, dir: &Path, fields: &str, alpn: &str) -> String {
    let file = |name: &str| format!("{{filename: '{}'}}", dir.join(name).display());
    format!(
        "transport_socket: {{name: tls, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{side}TlsContext, {fields}common_tls_context: \
         {{alpn_protocols: [{alpn}], tls_certificates: [{{certificate_chain: {}, private_key: {}}}], \
         validation_context: {{trusted_ca: {}}}}}}}}}",
        file("own.crt"),
        file("own.key"),
        file("ca.crt"),
    )
}

fn node(name: &str) -> String {
    format!(
        "node: {{id: {name}-id, cluster: {name}, metadata: {{WORKLOAD_NAME: {name}, NAMESPACE: app, CLUSTER_ID: Kubernetes, \
         ISTIO_VERSION: 1.31.1, NAME: {name}-1, LABELS: {{app: {name}, version: v1, \
         service.istio.io/canonical-name: {name}, service.istio.io/canonical-revision: v1}}}}}}"
    )
}

fn log(format: &str) -> String {
    format!(
        "access_log: [{{name: log, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog, \
         log_format: {{text_format_source: {{inline_string: \"{format}\\n\"}}}}}}}}]"
    )
}

fn manager(direction: &str, log: &str, filters: &str, cluster: &str) -> String {
    format!(
        "{{name: hcm, typed_config: {{'@type': {HCM}, stat_prefix: {direction}, {log}, route_config: {{virtual_hosts: \
         [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: {cluster}}}}}]}}]}}, \
         http_filters: [{filters}{{name: router, typed_config: {{'@type': {ROUTER}}}}}]}}}}"
    )
}

fn tcp_proxy(log: &str, cluster: &str) -> String {
    format!(
        "{{name: tcp, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, \
         stat_prefix: tcp, {log}, cluster: {cluster}}}}}"
    )
}

const STATS: &str = "{name: istio.stats, typed_config: {'@type': type.googleapis.com/stats.PluginConfig}}, ";

/// The sidecar of the server: HTTP and TCP on one port.
fn server(dir: &Path, http: &Origin, tcp: std::net::SocketAddr) -> Setup {
    let require = "require_client_certificate: true, ";
    let discovery = peer_metadata(
        "downstream_discovery: [{istio_headers: {}}, {workload_discovery: {}}], downstream_propagation: [{istio_headers: {}}]",
    );
    let http_log = log("HTTP from %FILTER_STATE(downstream_peer_obj:FIELD:workload)%.");
    let tcp_log = log("TCP from %FILTER_STATE(downstream_peer:FIELD:workload)%.");
    let listener = format!(
        "name: inbound, traffic_direction: INBOUND, address: {{socket_address: {{address: 127.0.0.1, port_value: $front}}}}, \
         listener_filters: [{{name: tls, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}}}], filter_chains: [\
         {{filter_chain_match: {{transport_protocol: tls, application_protocols: [istio-http/1.0, istio-http/1.1, istio-h2]}}, \
         {}, filters: [{}]}}, \
         {{filter_chain_match: {{transport_protocol: tls, application_protocols: [istio-peer-exchange, istio]}}, \
         {}, filters: [{MX}, {STATS}{}]}}]",
        tls("Downstream", dir, require, "h2, http/1.1"),
        manager("inbound", &http_log, &format!("{discovery}{STATS}"), "http"),
        tls("Downstream", dir, require, "istio-peer-exchange, h2, http/1.1"),
        tcp_proxy(&tcp_log, "tcp"),
    );
    let clusters = [cluster("http", &[http.address()]), cluster("tcp", &[tcp])];
    Setup::new(&bootstrap(&[listener], &clusters, &[&node("server")]))
}

/// The sidecar of the client: HTTP on `front`, TCP on `tcp`.
fn client(dir: &Path, server: std::net::SocketAddr) -> Setup {
    let discovery =
        peer_metadata("upstream_discovery: [{istio_headers: {}}], upstream_propagation: [{istio_headers: {}}]");
    let alpn = "{name: istio.alpn, typed_config: {'@type': \
                type.googleapis.com/istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig, alpn_override: \
                [{alpn_override: [istio-http/1.0, istio, http/1.0]}, \
                {upstream_protocol: HTTP11, alpn_override: [istio-http/1.1, istio, http/1.1]}, \
                {upstream_protocol: HTTP2, alpn_override: [istio-h2, istio, h2]}]}}, ";
    let http_log = log("HTTP to %FILTER_STATE(upstream_peer_obj:FIELD:workload)%.");
    let tcp_log = log("TCP to %UPSTREAM_FILTER_STATE(upstream_peer:FIELD:workload)%.");
    let listener = |port: &str, filters: &str| {
        format!(
            "name: {port}, traffic_direction: OUTBOUND, address: {{socket_address: {{address: 127.0.0.1, \
             port_value: ${port}}}}}, filter_chains: [{{filters: [{filters}]}}]"
        )
    };
    let listeners = [
        listener("front", &manager("outbound", &http_log, &format!("{discovery}{alpn}{STATS}"), "server")),
        listener("tcp", &format!("{STATS}{}", tcp_proxy(&tcp_log, "server"))),
    ];
    let metadata =
        "metadata: {filter_metadata: {istio: {services: [{host: server.app.svc, name: server, namespace: app}]}}}";
    let socket = tls("Upstream", dir, "sni: server, ", "istio-peer-exchange, istio");
    let cluster = cluster_with("server", &[server], &format!(", {socket}, {metadata}, filters: [{MX}]"));
    Setup::new(&bootstrap(&listeners, &[cluster], &[&node("client")]))
}

fn certificates(authority: &Authority, name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    authority.write(dir.path(), "own", &[&format!("URI:spiffe://cluster.local/ns/app/sa/{name}")]);
    dir
}

struct Mesh {
    client: Running,
    server: Running,
    _dirs: [tempfile::TempDir; 2],
}

fn mesh(http: &Origin, tcp: std::net::SocketAddr) -> Mesh {
    let authority = Authority::new("mesh");
    let dirs = [certificates(&authority, "client"), certificates(&authority, "server")];
    assert!(fs::read_to_string(dirs[0].path().join("own.crt")).is_ok());
    let server = server(dirs[1].path(), http, tcp).start();
    let client = client(dirs[0].path(), server.setup.address("front")).start();
    Mesh { client, server, _dirs: dirs }
}

#[test]
fn http_goes_as_http_and_both_know_the_other() {
    let reply = Reply { body: Some("hello".into()), ..Reply::default() };
    let origin = origin(vec![reply.clone(), reply]);
    let mesh = mesh(&origin, origin.address());
    let response = mesh.client.get("/");
    assert_eq!(answer(&response), (200, "hello".to_owned()));
    for name in ["x-envoy-peer-metadata", "x-envoy-peer-metadata-id"] {
        assert_eq!(header(&response, name), None);
    }
    mesh.server.await_output("HTTP from client.");
    mesh.client.await_output("HTTP to server.");
    assert_eq!(mesh.server.stat("metadata_exchange.alpn_protocol_found"), 0);
    let series = series(&mesh.client, "istio_requests_total{");
    for expected in [
        "reporter=\"source\",source_workload=\"client\"",
        "destination_workload=\"server\",destination_workload_namespace=\"app\",\
         destination_principal=\"spiffe://cluster.local/ns/app/sa/server\"",
        "destination_service=\"server.app.svc\"",
        "response_code=\"200\",grpc_response_status=\"\",response_flags=\"-\"",
    ] {
        assert!(series.contains(expected), "{expected}: {series}");
    }
    let series = self::series(&mesh.server, "istio_requests_total{");
    for expected in [
        "reporter=\"destination\",source_workload=\"client\"",
        "source_principal=\"spiffe://cluster.local/ns/app/sa/client\"",
        "destination_workload=\"server\"",
        "connection_security_policy=\"mutual_tls\"",
    ] {
        assert!(series.contains(expected), "{expected}: {series}");
    }
    assert!(self::series(&mesh.server, "istio_request_duration_milliseconds_count{").ends_with(" 1"));
    assert!(self::series(&mesh.server, "istio_build{").ends_with("tag=\"1.31.1\"} 1"));
}

/// The one line of the metrics that begins so.
fn series(running: &Running, start: &str) -> String {
    let mut found = String::new();
    let came = running.proxy.await_that(|proxy| {
        let text = proxy.admin_text("/stats/prometheus").unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(start)).collect();
        found = lines.join("\n");
        lines.len() == 1
    });
    assert!(came, "{start}: {found}");
    found
}

#[test]
fn tcp_goes_as_tcp_and_both_know_the_other() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let http = origin(Vec::new());
    let mesh = mesh(&http, listener.local_addr().unwrap());
    let mut near = TcpStream::connect(mesh.client.setup.address("tcp")).unwrap();
    near.write_all(b"question").unwrap();
    let (mut far, _) = listener.accept().unwrap();
    let mut bytes = [0; 8];
    far.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"question");
    // Much in both directions, so that it comes in many pieces.
    let much = vec![b'x'; 1 << 20];
    let sender = std::thread::spawn({
        let much = much.clone();
        move || {
            far.write_all(&much).unwrap();
            far
        }
    });
    let mut back = vec![0; 1 << 20];
    near.read_exact(&mut back).unwrap();
    assert_eq!(back, much);
    drop(sender.join().unwrap());
    let mut rest = Vec::new();
    near.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    drop(near);
    mesh.server.await_output("TCP from client.");
    mesh.client.await_output("TCP to server.");
    assert_eq!(mesh.server.stat("metadata_exchange.metadata_added"), 1);
    assert_eq!(mesh.client.stat("cluster.server.metadata_exchange.metadata_added"), 1);
    let sent = series(&mesh.client, "istio_tcp_sent_bytes_total{");
    assert!(sent.contains("source_workload=\"client\"") && sent.contains("destination_workload=\"server\""), "{sent}");
    assert!(sent.contains("request_protocol=\"tcp\"") && sent.ends_with(" 1048576"), "{sent}");
    let received = series(&mesh.server, "istio_tcp_received_bytes_total{");
    assert!(received.contains("source_workload=\"client\"") && received.ends_with(" 8"), "{received}");
    assert!(series(&mesh.server, "istio_tcp_connections_closed_total{").ends_with(" 1"));
}
