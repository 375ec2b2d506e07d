//! `cargo xtask browser`: a real browser loads a page of many resources over HTTPS and HTTP/2.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use nuncio_testkit::authority::Authority;

use crate::diff::find_nuncio;
use crate::h2spec::start;

/// Scripts that the page loads, each a request.
const RESOURCES: usize = 200;

/// Arguments of `cargo xtask browser`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The Nuncio to run; by default the newest of target/release and target/debug.
    #[arg(long)]
    nuncio: Option<PathBuf>,
    /// The browser: Chromium, or what takes its flags.
    #[arg(long, default_value = "chromium")]
    browser: PathBuf,
}

/// Loads the page. `true` when all of it came, over HTTP/2.
pub fn run(arguments: &Arguments) -> Result<bool, String> {
    let nuncio = find_nuncio(arguments.nuncio.as_deref(), &crate::target())?;
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    Authority::new("browser").write(dir.path(), "page", &["DNS:localhost"]);
    let proxy = start(&nuncio, &config(&dir.path().display().to_string()), dir.path())?;
    let address = proxy.listener("main").map_err(|error| error.to_string())?;
    let profile = format!("--user-data-dir={}", dir.path().join("profile").display());
    let output = Command::new(&arguments.browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors", &profile])
        .args(["--virtual-time-budget=30000", "--dump-dom", &format!("https://localhost:{}/", address.port())])
        .output()
        .map_err(|error| format!("{}: {error}: is it installed?", arguments.browser.display()))?;
    let page = String::from_utf8_lossy(&output.stdout);
    let counters = proxy.counters().map_err(|error| error.to_string())?;
    let count = |name: &str| counters.get(name).copied().unwrap_or(0);
    let over_http2 = count("http.browser.downstream_rq_http2_total");
    let loaded = page.contains(&format!("data-loaded=\"{RESOURCES}\""));
    let connections = count("http.browser.downstream_cx_total");
    println!("the page {} loaded: {over_http2} requests over HTTP/2", if loaded { "was" } else { "was not" });
    println!("connections: {connections}, over TLS: {}", count("http.browser.downstream_cx_ssl_total"));
    if !loaded {
        println!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(loaded && over_http2 > RESOURCES as u64)
}

/// A listener with TLS that answers the page and each of its scripts itself.
fn config(dir: &str) -> String {
    let mut routes = String::new();
    let mut page = String::from("<html><body>");
    for number in 0..RESOURCES {
        let body = "window.loaded = (window.loaded || 0) + 1;";
        let _ = writeln!(
            routes,
            "              - match: {{ path: /{number}.js }}\n                direct_response: {{ status: 200, body: {{ inline_string: '{body}' }} }}"
        );
        let _ = write!(page, "<script src=\"/{number}.js\"></script>");
    }
    page += "<script>document.body.setAttribute(\"data-loaded\", window.loaded)</script></body></html>";
    format!(
        r#"
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }} }}
static_resources:
  listeners:
  - name: main
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates:
            - certificate_chain: {{ filename: {dir}/page.crt }}
              private_key: {{ filename: {dir}/page.key }}
      filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: browser
          route_config:
            max_direct_response_body_size_bytes: 65536
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
{routes}              - match: {{ path: / }}
                direct_response: {{ status: 200, body: {{ inline_string: '{page}' }} }}
                response_headers_to_add:
                - header: {{ key: content-type, value: text/html }}
                  append_action: OVERWRITE_IF_EXISTS_OR_ADD
              - match: {{ prefix: / }}
                direct_response: {{ status: 404 }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
"#
    )
}
