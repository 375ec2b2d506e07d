//! `cargo xtask h2spec`: every case of h2spec, strict, against a listener of Nuncio.

use std::path::{Path, PathBuf};
use std::process::Command;

use nuncio_testkit::process::{Program, Proxy};

use crate::diff::find_nuncio;
use crate::go::Tool;

const H2SPEC: Tool = Tool { package: "github.com/summerwind/h2spec/cmd/h2spec", version: "v2.2.1+incompatible" };

/// Arguments of `cargo xtask h2spec`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The Nuncio to run; by default the newest of target/release and target/debug.
    #[arg(long)]
    nuncio: Option<PathBuf>,
    /// Cases or sections to run, such as `http2/6.5`.
    #[arg(default_values = ["generic", "hpack", "http2"])]
    cases: Vec<String>,
}

/// The listener answers from the proxy itself, so that nothing behind it matters, and after a moment: an answer that ends the
/// stream before the faulty frame of a case has come would leave nothing to find fault with.
const CONFIG: &str = r#"
admin: { address: { socket_address: { address: 127.0.0.1, port_value: 0 } } }
static_resources:
  listeners:
  - name: main
    address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: h2spec
          codec_type: HTTP2
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: { prefix: / }
                direct_response: { status: 200, body: { inline_string: "answered by the proxy" } }
          http_filters:
          - name: envoy.filters.http.fault
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
              delay: { fixed_delay: 0.1s, percentage: { numerator: 100 } }
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
"#;

/// Runs everything. `true` when all cases pass.
pub fn run(arguments: &Arguments) -> Result<bool, String> {
    let target = crate::target();
    let h2spec = H2SPEC.find(&target)?;
    let nuncio = find_nuncio(arguments.nuncio.as_deref(), &target)?;
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let proxy = start(&nuncio, CONFIG, dir.path())?;
    let address = proxy.listener("main").map_err(|error| error.to_string())?;
    let mut command = Command::new(h2spec);
    command.args(["--strict", "--host", "127.0.0.1", "--port", &address.port().to_string()]).args(&arguments.cases);
    let output = command.output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    // The list of all cases says little; the failures and the sum stand behind it.
    let shown = text.find("Failures:").or_else(|| text.rfind("Finished in")).unwrap_or(0);
    println!("{}", text[shown..].trim_end());
    print!("{}", String::from_utf8_lossy(&output.stderr));
    Ok(output.status.success())
}

/// Starts Nuncio on a configuration.
pub fn start(nuncio: &Path, config: &str, dir: &Path) -> Result<Proxy, String> {
    let path = dir.join("config.yaml");
    std::fs::write(&path, config).map_err(|error| error.to_string())?;
    let program = Program { binary: nuncio.to_owned(), flags: Vec::new() };
    program.start(&path, dir).map_err(|error| error.to_string())
}
