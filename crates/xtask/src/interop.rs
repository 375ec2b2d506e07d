//! `cargo xtask interop`: the interoperability cases of grpc-go, client and server, through Nuncio, in the clear and over TLS
//! on both sides.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nuncio_testkit::PATIENCE;
use nuncio_testkit::authority::Authority;
use nuncio_testkit::port::ReservedPort;

use crate::diff::find_nuncio;
use crate::go::Tool;
use crate::h2spec::start;

const CLIENT: Tool = Tool { package: "google.golang.org/grpc/interop/client", version: "v1.85.0" };
const SERVER: Tool = Tool { package: "google.golang.org/grpc/interop/server", version: "v1.85.0" };

/// All cases of the client but those that need Google's accounts (`*_creds`, `*_credentials`, `oauth2_auth_token`), and
/// `pick_first_unary`, which wants an id that grpc-go's own server does not give.
const CASES: &[&str] = &[
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
    "orca_per_rpc",
    "orca_oob",
    "rpc_soak",
    "channel_soak",
];

/// Makes the client collect load reports, for the two cases that compare them.
const LOAD_REPORTS: &str = r#"{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}"#;

/// Arguments of `cargo xtask interop`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The Nuncio to run; by default the newest of target/release and target/debug.
    #[arg(long)]
    nuncio: Option<PathBuf>,
    /// Cases to run; all unless given.
    cases: Vec<String>,
}

const CONFIG: &str = r#"
admin: { address: { socket_address: { address: 127.0.0.1, port_value: 0 } } }
static_resources:
  listeners:
  - name: main
    address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
    filter_chains:
    - DOWNSTREAM
      filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: main
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: { prefix: /, grpc: {} }
                route: { cluster: server, timeout: 0s, max_stream_duration: { grpc_timeout_header_max: 0s } }
          http_filters:
          - name: envoy.filters.http.grpc_stats
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig
              stats_for_all_methods: true
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
  clusters:
  - name: server
    type: STATIC
    UPSTREAM
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }
    load_assignment:
      cluster_name: server
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: SERVER } } }
"#;

/// The transport sockets of TLS; `DIR` holds the certificates.
const DOWNSTREAM: &str = r#"transport_socket: { name: tls, typed_config: {
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext,
        common_tls_context: { alpn_protocols: [h2], tls_certificates: [
          { certificate_chain: { filename: DIR/proxy.crt }, private_key: { filename: DIR/proxy.key } } ] } } }"#;
const UPSTREAM: &str = r#"transport_socket: { name: tls, typed_config: {
      "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext,
      sni: server.test,
      common_tls_context: { alpn_protocols: [h2], validation_context: { trusted_ca: { filename: DIR/ca.crt } } } } }"#;

/// Ends its process when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs everything. `true` when all cases pass.
pub fn run(arguments: &Arguments) -> Result<bool, String> {
    let target = crate::target();
    let (client, server) = (CLIENT.find(&target)?, SERVER.find(&target)?);
    let nuncio = find_nuncio(arguments.nuncio.as_deref(), &target)?;
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let authority = Authority::new("interop");
    authority.write(dir.path(), "proxy", &["DNS:proxy.test"]);
    authority.write(dir.path(), "server", &["DNS:server.test"]);
    let all: Vec<&str> = match arguments.cases.as_slice() {
        [] => CASES.to_vec(),
        some => some.iter().map(String::as_str).collect(),
    };
    let mut failed = 0;
    for tls in [None, Some(dir.path())] {
        let (_server, port) = serve(&server, tls)?;
        let proxy = start(&nuncio, &config(port, tls), dir.path())?;
        let address = proxy.listener("main").map_err(|error| error.to_string())?;
        for case in &all {
            let began = Instant::now();
            let result = call(&client, address, case, tls);
            let (verdict, how) =
                (if result.is_ok() { "pass" } else { "FAIL" }, if tls.is_some() { ", TLS" } else { "" });
            println!("{verdict} {case}{how} ({} ms)", began.elapsed().as_millis());
            if let Err(output) = result {
                failed += 1;
                println!("{output}");
            }
        }
    }
    println!("{} of {} cases pass", 2 * all.len() - failed, 2 * all.len());
    Ok(failed == 0)
}

/// The configuration; with a directory of certificates, over TLS.
fn config(port: u16, tls: Option<&Path>) -> String {
    let config = CONFIG.replace("SERVER", &port.to_string());
    match tls {
        None => config.replace("- DOWNSTREAM\n      filters", "- filters").replace("    UPSTREAM\n", ""),
        Some(dir) => {
            let config = config.replace("DOWNSTREAM", DOWNSTREAM).replace("UPSTREAM", UPSTREAM);
            config.replace("DIR", &dir.display().to_string())
        }
    }
}

/// Starts the server and waits until it accepts connections.
fn serve(server: &Path, tls: Option<&Path>) -> Result<(Running, u16), String> {
    let port = ReservedPort::new().map_err(|error| error.to_string())?.number();
    let mut command = Command::new(server);
    command.args(["--port", &port.to_string()]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(dir) = tls {
        command.arg("--use_tls").arg("--tls_cert_file").arg(dir.join("server.crt"));
        command.arg("--tls_key_file").arg(dir.join("server.key"));
    }
    let mut running = Running(command.spawn().map_err(|error| error.to_string())?);
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_err() {
        if let Ok(Some(status)) = running.0.try_wait() {
            return Err(format!("the server ended with {status}"));
        }
        if Instant::now() > deadline {
            return Err("the server accepts no connections".into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok((running, port))
}

fn call(client: &Path, address: SocketAddr, case: &str, tls: Option<&Path>) -> Result<(), String> {
    let mut command = Command::new("timeout");
    command.arg("30").arg(client).args(["--server_host", "127.0.0.1", "--server_port", &address.port().to_string()]);
    command.args(["--test_case", case, "--soak_iterations", "20"]).stdin(Stdio::null());
    if let Some(dir) = tls {
        command.args(["--use_tls", "--use_test_ca", "--server_host_override", "proxy.test", "--ca_file"]);
        command.arg(dir.join("ca.crt"));
    }
    if case.starts_with("orca") {
        command.args(["--service_config_json", LOAD_REPORTS]);
    }
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(format!("{}\n{}", output.status, String::from_utf8_lossy(&text)))
}
