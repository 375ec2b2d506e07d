//! Configuration of HAProxy.

use super::{Names, Setup};
use crate::bench::credentials;
use crate::bench::load::message::BODY;

/// `connections` is the most that it may hold.
pub fn haproxy(setup: Setup, names: &Names<'_>, connections: u64) -> String {
    let origins = names.origins;
    let (mode, origin, options) = match setup {
        Setup::Tcp => ("tcp", origins.bulk.to_string(), "  option splice-request\n  option splice-response\n"),
        Setup::TlsTcp => ("tcp", origins.bulk.to_string(), ""),
        Setup::Http2 { both: true } | Setup::Grpc => {
            ("http", format!("{} proto h2", origins.http2), "  http-reuse always\n")
        }
        _ => ("http", origins.http.to_string(), "  http-reuse always\n"),
    };
    let bind = match setup {
        Setup::Http2 { .. } | Setup::Grpc => " proto h2".to_owned(),
        _ if setup.is_secure() => format!(" ssl crt {}", credentials::both(names.directory).display()),
        _ => String::new(),
    };
    let answer = match setup {
        Setup::TlsAnswer => {
            format!("  http-request return status 200 content-type text/plain string {}\n", "x".repeat(BODY))
        }
        _ => String::new(),
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
  bind {}{bind}
{answer}\
\x20 default_backend origin
backend origin
  server origin {origin}
",
        names.listen
    )
}
