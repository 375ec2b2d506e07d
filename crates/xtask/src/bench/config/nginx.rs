//! Configuration of nginx.

use super::{Names, Setup, UPSTREAM_IDLE_SECONDS};
use crate::bench::credentials;
use crate::bench::load::message::BODY;

/// `connections` is the most that it may hold on one side.
pub fn nginx(setup: Setup, names: &Names<'_>, connections: u64) -> String {
    let directory = names.directory.display();
    let (listen, secrets) = match setup {
        Setup::Http2 { .. } | Setup::Grpc => (" http2", String::new()),
        _ if setup.is_secure() => {
            let (chain, key) = (credentials::chain(names.directory), credentials::key(names.directory));
            let text = format!(
                "    ssl_protocols TLSv1.2 TLSv1.3;\n    ssl_certificate {};\n    ssl_certificate_key {};\n",
                chain.display(),
                key.display()
            );
            (" ssl", text)
        }
        _ => ("", String::new()),
    };
    let (origin, location) = match setup {
        Setup::Grpc => (names.origins.http2, "grpc_pass grpc://origin;".to_owned()),
        Setup::TlsAnswer => (names.origins.http, format!("return 200 \"{}\";", "x".repeat(BODY))),
        _ => (names.origins.http, PASS.to_owned()),
    };
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
    server {origin};
    keepalive {connections};
    keepalive_requests 1000000000;
    keepalive_timeout {UPSTREAM_IDLE_SECONDS}s;
  }}
  server {{
    listen {}{listen} reuseport backlog=16384;
{secrets}\
\x20   location / {{
      {location}
    }}
  }}
}}
",
        2 * connections,
        2 * connections,
        names.listen
    )
}

const PASS: &str = "\
proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";";
