//! Everything that istiod and Envoy Gateway were seen to send is accepted, and so are the bootstraps of their launchers.
//!
//! The files lie beside the repository, in `../shared`, or where `NUNCIO_SHARED` says.

// Helpers of tests, which the lint does not see as tests.
#![allow(clippy::panic, clippy::unwrap_used)]

use nuncio_api::pb::envoy::service::discovery::v3::DiscoveryResponse;
use nuncio_config::diagnostics::Diagnostics;
use nuncio_config::lower::{self, LowerOptions, NodeOverrides, ResourceContext};
use nuncio_config::{Format, LoadOptions, Source, load};
use nuncio_filter::Runtime;
use nuncio_io::log_file::{LogFileOptions, LogFiles};
use nuncio_stats::Store;
use nuncio_stats::names::FilesystemStats;
use prost::{Message, Name};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn directory() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("NUNCIO_SHARED").map_or(beside, PathBuf::from);
    let directory = shared.join("acceptance/xds");
    if !directory.is_dir() {
        eprintln!("SKIPPED: there are no acceptance files at {}: set NUNCIO_SHARED", directory.display());
        return None;
    }
    Some(directory)
}

fn below(directory: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

/// Lowers a bootstrap; what its resources are lowered with, or the findings.
fn bootstrap(path: &Path, allow_unknown: bool) -> Result<ResourceContext, String> {
    let registry = nuncio_extensions::registry();
    let options = LoadOptions { allow_unknown, ..LoadOptions::default() };
    let loaded = load(&[Source::read(path).unwrap()], "envoy.config.bootstrap.v3.Bootstrap", &options);
    let store = Arc::new(Store::new(1));
    let stats = FilesystemStats::register(&store.scope("filesystem", &[]));
    let files = LogFiles::new(LogFileOptions::new(1), stats).unwrap();
    let lower_options = LowerOptions {
        registry: &registry,
        store: Arc::clone(&store),
        files: Arc::new(files),
        discovered: Arc::default(),
        node: NodeOverrides::default(),
        hostname: None,
        environment: Default::default(),
        time_zone: Default::default(),
    };
    let mut findings = Diagnostics::new();
    let snapshot = lower::lower(&loaded, &lower_options, &mut findings);
    snapshot.map(|snapshot| snapshot.resources).ok_or_else(|| format!("{}\n{findings}", loaded.diagnostics))
}

#[test]
fn the_bootstrap_of_istios_agent_is_accepted() {
    let Some(directory) = directory() else { return };
    if let Err(findings) = bootstrap(&directory.join("istio-agent-bootstrap.json"), true) {
        panic!("{findings}");
    }
}

/// Its certificates are not there, which Envoy says, too; nothing else is wrong with it.
#[test]
fn the_bootstrap_of_envoy_gateway_lacks_only_its_certificates() {
    let Some(directory) = directory() else { return };
    let Err(findings) = bootstrap(&directory.join("envoy-gateway-bootstrap.yaml"), false) else { return };
    let errors: Vec<&str> = findings.lines().filter(|line| line.contains(": error: ")).collect();
    assert!(!errors.is_empty() && errors.iter().all(|error| error.contains(".json: no such file")), "{findings}");
}

/// The wire form of a resource that stands in a file.
fn wire(path: &Path) -> Vec<u8> {
    let text = std::fs::read_to_string(path).unwrap();
    let response = Source::new(&path.display().to_string(), format!("{{\"resources\": [{text}]}}"), Format::Json);
    let loaded = load(&[response], &DiscoveryResponse::full_name(), &LoadOptions::default());
    assert!(!loaded.diagnostics.has_errors(), "{}", loaded.diagnostics);
    let response = DiscoveryResponse::decode(&loaded.wire[..]).unwrap();
    response.resources.into_iter().next().unwrap().value
}

#[test]
fn every_resource_is_accepted() {
    let Some(directory) = directory() else { return };
    let context = bootstrap(&directory.join("istio-agent-bootstrap.json"), true).unwrap();
    let (registry, runtime) = (nuncio_extensions::registry(), Arc::new(Runtime::default()));
    let with = (&registry, &runtime);
    let mut refused = Vec::new();
    let mut count = 0;
    for plane in ["istio-sidecar", "istio-gateway", "envoy-gateway"] {
        for kind in below(&directory.join(plane)) {
            for path in below(&kind) {
                let wire = wire(&path);
                let outcome = match kind.file_name().unwrap().to_str().unwrap() {
                    "Cluster" => context.cluster(with, &wire).map(|lowered| lowered.warnings),
                    "ClusterLoadAssignment" => context.load_assignment(with, &wire).map(|lowered| lowered.warnings),
                    "Listener" => context.listener(with, &wire).map(|lowered| lowered.warnings),
                    "RouteConfiguration" => context.routes(with, &wire).map(|lowered| lowered.warnings),
                    other => panic!("{other} is no kind of resource"),
                };
                count += 1;
                match outcome {
                    Ok(warnings) => println!("{}: {warnings}", path.display()),
                    Err(why) => refused.push(format!("{}: {why}", path.display())),
                }
            }
        }
    }
    assert!(count > 50, "{count} resources");
    assert!(refused.is_empty(), "{} of {count}:\n{}", refused.len(), refused.join("\n"));
}
