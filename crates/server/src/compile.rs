//! From command line and files to a snapshot, and how findings reach the user.

use crate::options::{Options, Output};
use nuncio_api::pb::envoy::config::bootstrap::v3::Bootstrap;
use nuncio_config::compile::{Environment, Registry};
use nuncio_config::lower::{self, LowerOptions, NodeOverrides};
use nuncio_config::snapshot::Snapshot;
use nuncio_config::tls::DiscoveredSecrets;
use nuncio_config::{Diagnostic, Diagnostics, Format, LoadOptions, Loaded, Source, load};
use nuncio_io::log_file::LogFiles;
use nuncio_stats::{StatsOptions, Store};
use nuncio_stream_info::time::TimeZone;
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
    let mut found = Diagnostics::new();
    let mut stats = lower::stats_options(&read.bootstrap, &read.loaded, &mut found);
    for tag in &options.stats_tag {
        match tag.split_once(':') {
            Some((name, value)) => stats.cli_tags.push((name.to_owned(), value.to_owned())),
            None => {
                let wrong = Diagnostic::error("", format!("--stats-tag {tag:?} is not a tag"));
                found.push(wrong.hint("write name:value"));
            }
        }
    }
    read.loaded.diagnostics.extend(found);
    stats
}

/// What outlives every configuration, and configurations are compiled with.
#[derive(Clone)]
pub(crate) struct Lasting {
    pub store: Arc<Store>,
    pub files: Arc<LogFiles>,
    /// Secrets that discovery brought.
    pub discovered: Arc<DiscoveredSecrets>,
}

/// Compiles what was read. The findings of all passes are in `read.loaded.diagnostics` afterwards.
pub(crate) fn compile(read: &mut Read, options: &Options, registry: &Registry, lasting: &Lasting) -> Option<Snapshot> {
    let time_zone = TimeZone::from_environment(std::env::var("TZ").ok().as_deref(), |path| std::fs::read(path).ok());
    let lower_options = LowerOptions {
        store: Arc::clone(&lasting.store),
        files: Arc::clone(&lasting.files),
        discovered: Arc::clone(&lasting.discovered),
        registry,
        node: NodeOverrides {
            id: options.service_node.clone().unwrap_or_default(),
            cluster: options.service_cluster.clone().unwrap_or_default(),
            zone: options.service_zone.clone().unwrap_or_default(),
        },
        hostname: hostname(),
        environment: Environment::of_process(),
        time_zone: Arc::new(time_zone),
    };
    let mut found = Diagnostics::new();
    let bootstrap = std::mem::take(&mut read.bootstrap);
    let snapshot = lower::lower_bootstrap(bootstrap, &read.loaded, &lower_options, &mut found);
    read.loaded.diagnostics.extend(found);
    snapshot.filter(|_| !read.loaded.diagnostics.has_errors())
}

/// The name of this host, as the kernel has it.
fn hostname() -> Option<Arc<str>> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(Arc::from(name.trim()))
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
