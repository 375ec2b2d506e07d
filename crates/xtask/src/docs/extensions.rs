//! `extensions.md`: the registry, and what each extension does not do.

use super::cell;
use super::probe::{Bench, Report, delimited, probes};
use nuncio_api::wkt::Any;
use nuncio_config::compile::{Compile, Entry};
use std::fmt::Write;

const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";
const MANAGER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

pub(super) fn page() -> Result<String, String> {
    let bench = Bench::new()?;
    let mut page = String::from(
        "# Extensions\n\nAn extension is found by the type of its `typed_config`. One that is not listed here is refused \
         when the configuration is checked. Below each: fields that are accepted and have no effect (setting one is a \
         warning), and what is refused because it is not built or because ignoring it would not be safe. Both were \
         found by compiling a message for each field, four messages deep.\n",
    );
    page.push_str("\n## HTTP filters\n");
    for entry in &bench.registry.http {
        title(&mut page, entry.name, &entry.config, Some(&entry.per_route));
        let mut report = probe(&bench, &entry.config, |any, cx| drop((entry.compile)(any, cx)))?;
        if entry.per_route != entry.config {
            let more = probe(&bench, &entry.per_route, |any, cx| drop((entry.compile_route)(any, cx)))?;
            report.extend(more);
        }
        findings(&mut page, &report);
    }
    title(&mut page, "envoy.filters.http.router", ROUTER, None);
    page.push_str("\nMust be the last of `http_filters`.\n");
    findings(&mut page, &router(&bench)?);
    section(&mut page, "Network filters", &bench, &bench.registry.network)?;
    section(&mut page, "Filters of connections to hosts", &bench, &bench.registry.upstream)?;
    section(&mut page, "Listener filters", &bench, &bench.registry.listener)?;
    section(&mut page, "Access loggers", &bench, &bench.registry.access_log)?;
    Ok(page)
}

fn section<T>(page: &mut String, name: &str, bench: &Bench, entries: &[Entry<T>]) -> Result<(), String> {
    let _ = writeln!(page, "\n## {name}");
    for entry in entries {
        title(page, entry.name, &entry.config, None);
        let mut report = probe(bench, &entry.config, |any, cx| drop((entry.compile)(any, cx)))?;
        // Routes are listed with the other messages: see `fields`.
        report.retain(|path| !path.starts_with("route_config"));
        findings(page, &report);
    }
    Ok(())
}

fn title(page: &mut String, name: &str, config: &str, per_route: Option<&str>) {
    let route = match per_route {
        Some(message) if message == config => "; the same in `typed_per_filter_config`".to_owned(),
        Some(message) => format!("; in `typed_per_filter_config`: `{message}`"),
        None => String::new(),
    };
    // Writing into a String can't fail.
    let _ = writeln!(page, "\n### `{name}`\n\nConfiguration: `{config}`{route}.");
}

/// The lists of an extension or message.
pub(super) fn findings(page: &mut String, report: &Report) {
    let plain = report.without_effect.iter().filter(|path| !report.refused.contains_key(*path));
    let plain: Vec<String> = plain.map(|path| format!("`{path}`")).collect();
    if !plain.is_empty() {
        let _ = writeln!(page, "\nWithout effect: {}.", plain.join(", "));
    }
    if !report.refused.is_empty() {
        page.push_str("\nRefused:\n\n");
        for (path, message) in &report.refused {
            let _ = writeln!(page, "- `{path}`: {}", cell(message));
        }
    }
}

fn probe(bench: &Bench, message: &str, compile: impl Fn(&Any, &mut Compile<'_>)) -> Result<Report, String> {
    let mut report = Report::default();
    for value in probes(message)? {
        let any = Any { type_url: format!("type.googleapis.com/{message}"), value };
        bench.compile(&mut report, "", |cx| compile(&any, cx));
    }
    Ok(report)
}

/// The router is no entry of the registry: the connection manager reads its configuration.
fn router(bench: &Bench) -> Result<Report, String> {
    const HTTP_FILTERS: u32 = 5;
    const TYPED_CONFIG: u32 = 4;
    let entry = bench.registry.network.iter().find(|entry| entry.config == MANAGER);
    let entry = entry.ok_or("there is no connection manager")?;
    let mut report = Report::default();
    for probe in probes(ROUTER)? {
        let url = format!("type.googleapis.com/{ROUTER}");
        let any = [delimited(1, url.as_bytes()), delimited(2, &probe)].concat();
        let filter = [delimited(1, b"envoy.filters.http.router"), delimited(TYPED_CONFIG, &any)].concat();
        let value = delimited(HTTP_FILTERS, &filter);
        let any = Any { type_url: format!("type.googleapis.com/{MANAGER}"), value };
        bench.compile(&mut report, "http_filters[0].typed_config", |cx| drop((entry.compile)(&any, cx)));
    }
    Ok(report)
}
