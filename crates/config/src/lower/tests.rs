//! Lowering, from text to snapshots, with extensions that only stand for the real ones.

mod acceptance;
mod clusters;
mod listeners;
mod parts;
mod routes;
mod stubs;
mod tls;

use super::{LowerOptions, NodeOverrides, lower};
use crate::compile::Environment;
use crate::snapshot::Snapshot;
use crate::{Diagnostics, Format, LoadOptions, Source, load};
use nuncio_io::log_file::{LogFileOptions, LogFiles};
use nuncio_stats::Store;
use nuncio_stats::names::FilesystemStats;
use std::sync::Arc;

pub(super) const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";

/// What came of a configuration: the snapshot, and all findings of loading and lowering.
pub(super) struct Outcome {
    pub(super) snapshot: Option<Snapshot>,
    pub(super) findings: Diagnostics,
}

impl Outcome {
    /// The snapshot; fails the test if there is none.
    pub(super) fn snapshot(self) -> Snapshot {
        let findings = self.findings;
        self.snapshot.unwrap_or_else(|| panic!("{findings}"))
    }

    /// The findings without warnings, one on each line: `line:column: path: message`.
    pub(super) fn errors(&self) -> String {
        self.lines(crate::Severity::Error)
    }

    pub(super) fn warnings(&self) -> String {
        self.lines(crate::Severity::Warning)
    }

    fn lines(&self, severity: crate::Severity) -> String {
        let mut text = String::new();
        for finding in self.findings.sorted().into_iter().filter(|finding| finding.severity == severity) {
            let place = finding.location.as_ref().map(|at| format!("{}:{}: ", at.line, at.column)).unwrap_or_default();
            text.push_str(&format!("{place}{}: {}\n", finding.path, finding.message));
        }
        text
    }
}

pub(super) fn lower_source(source: Source) -> Outcome {
    let loaded = load(&[source], BOOTSTRAP, &LoadOptions::default());
    let store = Store::new(1);
    let stats = FilesystemStats::register(&store.scope("filesystem", &[]));
    let registry = stubs::registry();
    let options = LowerOptions {
        registry: &registry,
        discovered: Arc::default(),
        files: Arc::new(LogFiles::new(LogFileOptions::new(1), stats).unwrap()),
        store: Arc::new(store),
        node: NodeOverrides { id: "me".to_owned(), ..NodeOverrides::default() },
        hostname: Some("host".into()),
        environment: [("HOME".to_owned(), "/root".to_owned())].into_iter().collect::<Environment>(),
        time_zone: Arc::default(),
    };
    let mut findings = loaded.diagnostics.clone();
    let snapshot = lower(&loaded, &options, &mut findings);
    Outcome { snapshot, findings }
}

pub(super) fn lower_yaml(text: &str) -> Outcome {
    lower_source(Source::new("test.yaml", text, Format::Yaml))
}

/// `fields` of a cluster, in flow style, in a bootstrap.
pub(super) fn lower_cluster(fields: &str) -> Outcome {
    lower_yaml(&format!("static_resources: {{clusters: [{{name: c, {fields}}}]}}"))
}
