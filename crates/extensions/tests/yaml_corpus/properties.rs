//! What holds for every text that is taken for a configuration, however hostile. The fuzz target and the tests share it.

use nuncio_config::compile::{Environment, Registry};
use nuncio_config::lower::{self, LowerOptions, NodeOverrides};
use nuncio_config::{Diagnostics, Format, LoadOptions, Source, load};
use nuncio_io::log_file::{LogFileOptions, LogFiles};
use nuncio_stats::Store;
use nuncio_stats::names::FilesystemStats;
use nuncio_stream_info::time::TimeZone;
use std::sync::Arc;

/// Most findings that are kept of one compilation: as many of each severity.
const MOST_FINDINGS: usize = 2_000;

/// The whole way from text to snapshot, with every extension. Tells whether the configuration is usable.
pub fn compile(registry: &Registry, input: &[u8]) -> bool {
    let source = Source::new("input.yaml", input, Format::Yaml);
    let loaded = load(&[source], "envoy.config.bootstrap.v3.Bootstrap", &LoadOptions::default());
    // Aliases may stand for more than their own length, but only together with an anchor.
    if !input.contains(&b'*') {
        assert!(loaded.wire.len() <= 64 * input.len(), "{} bytes from {}", loaded.wire.len(), input.len());
    }
    let mut diagnostics = Diagnostics::new();
    diagnostics.extend(loaded.diagnostics.clone());
    let mut snapshot = None;
    if let Some(bootstrap) = lower::decode(&loaded, &mut diagnostics) {
        let options = lower::stats_options(&bootstrap, &loaded, &mut diagnostics);
        let store = Arc::new(Store::with_options(1, options).unwrap_or_else(|_| Store::new(1)));
        let stats = FilesystemStats::register(&store.scope("filesystem", &[]));
        let Ok(files) = LogFiles::new(LogFileOptions::new(1), stats) else { return false };
        let options = LowerOptions {
            registry,
            store,
            discovered: Arc::default(),
            files: Arc::new(files),
            node: NodeOverrides::default(),
            hostname: None,
            environment: Environment::default(),
            time_zone: Arc::new(TimeZone::default()),
        };
        snapshot = lower::lower_bootstrap(bootstrap, &loaded, &options, &mut diagnostics);
    }
    let lines = input.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() + 1;
    assert!(diagnostics.iter().count() <= MOST_FINDINGS);
    for finding in &diagnostics {
        if let Some(location) = &finding.location {
            assert!(location.line >= 1 && location.line as usize <= lines + 1, "{finding}");
            assert!(location.column >= 1 && location.column as usize <= input.len() + 2, "{finding}");
        }
        // A finding quotes what it is about, shortened.
        assert!(finding.to_string().len() <= 8 * 1024 + 8 * input.len(), "{finding}");
    }
    assert!(snapshot.is_none() || !diagnostics.has_errors(), "{diagnostics}");
    assert!(snapshot.is_some() || diagnostics.has_errors(), "nothing came of it, and nothing says why");
    snapshot.is_some()
}
