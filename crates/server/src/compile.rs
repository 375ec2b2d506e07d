//! From command line and files to a snapshot, and how findings reach the user.

use crate::options::{Options, Output};
use nuncio_api::pb::envoy::config::bootstrap::v3::Bootstrap;
use nuncio_config::compile::Registry;
use nuncio_config::lower::{self, LowerOptions, NodeOverrides};
use nuncio_config::snapshot::Snapshot;
use nuncio_config::{Diagnostic, Diagnostics, Format, LoadOptions, Loaded, Source, load};
use nuncio_io::log_file::LogFiles;
use nuncio_stats::{StatsOptions, Store};
use prost::Message;
use std::path::Path;
use std::sync::Arc;

/// Sources that were read.
pub(crate) struct Read {
    pub loaded: Loaded,
    pub bootstrap: Bootstrap,
}

/// Reads `-c` and `--config-yaml` and merges them.
pub(crate) fn read(options: &Options) -> Read {
    let mut sources = Vec::new();
    let mut unreadable = Diagnostics::new();
    if let Some(path) = &options.config_path {
        match Source::read(Path::new(path)) {
            Ok(source) => sources.push(source),
            Err(error) => unreadable.push(error),
        }
    }
    if let Some(text) = &options.config_yaml {
        sources.push(Source::new("--config-yaml", text.as_bytes().to_vec(), Format::Yaml));
    }
    if options.config_path.is_none() && options.config_yaml.is_none() {
        let missing = Diagnostic::error("", "there is no configuration");
        unreadable.push(missing.hint("give a file with -c, or text with --config-yaml"));
    }
    let load_options = LoadOptions { allow_unknown: options.allow_unknown_static_fields, ..LoadOptions::default() };
    let mut loaded = load(&sources, "envoy.config.bootstrap.v3.Bootstrap", &load_options);
    loaded.diagnostics.extend(unreadable);
    let bootstrap = match Bootstrap::decode(&loaded.wire[..]) {
        Ok(bootstrap) => bootstrap,
        Err(error) => {
            loaded.diagnostics.push(Diagnostic::error("", format!("the configuration can't be decoded: {error}")));
            Bootstrap::default()
        }
    };
    Read { loaded, bootstrap }
}

/// What the configuration says of statistics; needed before anything registers one.
pub(crate) fn stats_options(read: &mut Read, options: &Options) -> StatsOptions {
    let mut stats = lower::stats_options(&read.bootstrap, &read.loaded.positions, &mut read.loaded.diagnostics);
    for tag in &options.stats_tag {
        match tag.split_once(':') {
            Some((name, value)) => stats.cli_tags.push((name.to_owned(), value.to_owned())),
            None => {
                let wrong = Diagnostic::error("", format!("--stats-tag {tag:?} is not a tag"));
                read.loaded.diagnostics.push(wrong.hint("write name:value"));
            }
        }
    }
    stats
}

/// Compiles what was read. The findings of all passes are in `read.loaded.diagnostics` afterwards.
pub(crate) fn compile(
    read: &mut Read,
    options: &Options,
    store: &Arc<Store>,
    files: &Arc<LogFiles>,
    registry: &Registry,
) -> Option<Snapshot> {
    let lower_options = LowerOptions {
        store: Arc::clone(store),
        files: Arc::clone(files),
        registry,
        node: NodeOverrides {
            id: options.service_node.clone(),
            cluster: options.service_cluster.clone(),
            zone: options.service_zone.clone(),
        },
    };
    let mut diagnostics = std::mem::take(&mut read.loaded.diagnostics);
    let snapshot = lower::lower(&read.loaded, &lower_options, &mut diagnostics);
    let failed = diagnostics.has_errors();
    read.loaded.diagnostics = diagnostics;
    snapshot.filter(|_| !failed)
}

/// Prints findings where the user asked for them.
pub(crate) fn print(diagnostics: &Diagnostics, options: &Options) {
    match options.output {
        Output::Text => {
            if !diagnostics.is_empty() {
                eprintln!("{}", diagnostics.to_string().trim_end());
            }
        }
        Output::Json => println!("{}", diagnostics.to_json()),
    }
}
