//! `fields.md`: fields of the configuration outside of extensions that are without effect, or refused.

use super::extensions::findings;
use super::probe::{Bench, Report, delimited, probes};
use nuncio_api::pb::envoy::config::route::v3::RouteConfiguration;
use nuncio_config::compile::Environment;
use nuncio_config::lower::{self, LowerOptions, NodeOverrides};
use nuncio_config::{Diagnostics, Loaded};
use prost::Message;
use std::sync::Arc;

/// A message, the fields of the bootstrap around it, and its path.
const MESSAGES: &[(&str, &[u32], &str)] = &[
    ("envoy.config.bootstrap.v3.Bootstrap", &[], ""),
    ("envoy.config.listener.v3.Listener", &[2, 1], "static_resources.listeners[0]"),
    ("envoy.config.cluster.v3.Cluster", &[2, 2], "static_resources.clusters[0]"),
];

const ROUTES: &str = "envoy.config.route.v3.RouteConfiguration";

pub(super) fn page() -> Result<String, String> {
    let bench = Bench::new()?;
    let mut page = String::from(
        "# Fields\n\nFields of the configuration that are accepted and have no effect (setting one is a warning), and \
         what is refused because it is not built or because ignoring it would not be safe. Extensions have \
         [a page of their own](extensions.md). Found by compiling a message for each field, four messages deep.\n",
    );
    for (message, around, prefix) in MESSAGES {
        let mut report = Report::default();
        for probe in probes(message)? {
            let wire = around.iter().rev().fold(probe, |inner, number| delimited(*number, &inner));
            lower(&bench, wire, prefix, &mut report);
        }
        if prefix.is_empty() {
            report.retain(|path| !inside(path));
        }
        page.push_str(&format!("\n## `{message}`\n"));
        findings(&mut page, &report);
    }
    page.push_str(&format!("\n## `{ROUTES}`\n"));
    findings(&mut page, &routes(&bench)?);
    Ok(page)
}

/// Whether a path of the bootstrap is listed with the message that it is in.
fn inside(path: &str) -> bool {
    path.starts_with("static_resources.listeners[]") || path.starts_with("static_resources.clusters[]")
}

fn lower(bench: &Bench, wire: Vec<u8>, prefix: &str, report: &mut Report) {
    let options = LowerOptions {
        registry: &bench.registry,
        store: Arc::clone(&bench.store),
        discovered: Arc::default(),
        files: Arc::clone(&bench.files),
        node: NodeOverrides::default(),
        hostname: None,
        environment: Environment::default(),
        time_zone: Arc::default(),
    };
    let loaded = Loaded { wire, ..Loaded::default() };
    let mut diagnostics = Diagnostics::new();
    let _ = lower::lower(&loaded, &options, &mut diagnostics);
    report.add(prefix, &diagnostics);
}

fn routes(bench: &Bench) -> Result<Report, String> {
    let mut report = Report::default();
    for probe in probes(ROUTES)? {
        let config = RouteConfiguration::decode(&probe[..]).map_err(|error| error.to_string())?;
        bench.compile(&mut report, "", |cx| drop(lower::route_config(cx, config)));
    }
    Ok(report)
}
