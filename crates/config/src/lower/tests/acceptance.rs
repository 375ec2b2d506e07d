//! The configurations that Nuncio must run. They lie beside the repository, in `../shared`, or where `NUNCIO_SHARED` says.

use super::{Outcome, lower_source};
use crate::Source;
use std::path::PathBuf;

fn files() -> Vec<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("NUNCIO_SHARED").map_or(beside, PathBuf::from);
    let directory = shared.join("acceptance/envoy");
    let Ok(entries) = std::fs::read_dir(&directory) else {
        eprintln!("SKIPPED: there are no acceptance files at {}", directory.display());
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

fn lowered(number: &str) -> Option<Outcome> {
    let starts = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(number));
    files().into_iter().find(starts).map(|path| lower_source(Source::read(&path).unwrap()))
}

/// All but those that are wrong: 01 and 16 have mistakes that Envoy refuses too, the certificates of 15 are not there.
#[test]
fn the_files_lower() {
    for path in files() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let outcome = lower_source(Source::read(&path).unwrap());
        let errors = outcome.errors();
        assert!(outcome.findings.iter().all(|finding| finding.location.is_some()), "{name}: {}", outcome.findings);
        if !["01", "15", "16"].iter().any(|number| name.starts_with(number)) {
            println!("{name}: {}", outcome.findings);
            let snapshot = outcome.snapshot.unwrap_or_else(|| panic!("{name}: {errors}"));
            assert!(!snapshot.listeners.is_empty(), "{name}");
        }
    }
}

#[test]
fn the_first_shows_all_its_faults_at_once() {
    let Some(outcome) = lowered("01") else { return };
    assert!(outcome.snapshot.is_none());
    assert_eq!(
        outcome.errors(),
        "22:11: static_resources.listeners[0].filter_chains[0].filters[0].typed_config.clusters: unknown field \
         `clusters` of TcpProxy\n\
         28:5: static_resources.listeners[1].address: two listeners bind 0.0.0.0:15001: inbound-listener and \
         outbound-listener\n\
         51:28: static_resources.listeners[1].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].\
         routes[0].route.cluster: a cluster of this name is not defined: `original-destination`\n"
    );
}

#[test]
fn a_missing_certificate_is_named() {
    let Some(outcome) = lowered("15") else { return };
    let errors = outcome.errors();
    assert!(errors.contains("/etc/envoy/tls/server.crt can't be read: no such file"), "{errors}");
    assert!(errors.contains("/etc/envoy/tls/server.key can't be read: no such file"), "{errors}");
}
