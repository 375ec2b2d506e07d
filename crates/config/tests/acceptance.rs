//! The configurations that Nuncio must run load without an error, and the broken ones with the errors that mend them.
//!
//! They lie beside the repository, in `../shared`, or where `NUNCIO_SHARED` says.

#![allow(clippy::unwrap_used)]

use nuncio_config::{Format, LoadOptions, Loaded, Severity, Source, load};
use std::path::PathBuf;

const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";

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

fn read(number: &str) -> Option<Source> {
    let path =
        files().into_iter().find(|path| path.file_name().is_some_and(|it| it.to_string_lossy().starts_with(number)))?;
    let mut source = Source::read(&path).unwrap();
    source.name = number.into();
    Some(source)
}

fn loaded(source: Source) -> Loaded {
    load(&[source], BOOTSTRAP, &LoadOptions::default())
}

#[test]
fn every_file_but_the_first_loads() {
    for path in files() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let found = loaded(Source::read(&path).unwrap()).diagnostics;
        assert_eq!(found.has_errors(), name.starts_with("01"), "{name}: {found}");
        assert!(found.iter().all(|it| it.location.is_some()), "{name}: {found}");
    }
}

#[test]
fn the_first_says_what_is_wrong_with_it() {
    let Some(source) = read("01") else { return };
    let router = "envoy.extensions.filters.http.router.v3.Router";
    let expected = format!(
        "01:22:11: error: static_resources.listeners[0].filter_chains[0].filters[0].typed_config.clusters: unknown field `clusters` \
         of TcpProxy\n  hint: did you mean `cluster`, or a cluster under `static_resources.clusters`?\n\
         01:41:19: warning: static_resources.listeners[1].filter_chains[0].filters[0].typed_config.http_filters[0]: \
         `envoy.filters.http.router` has no `typed_config`; an empty {router} is taken\n  \
         hint: add `typed_config: {{\"@type\": type.googleapis.com/{router}}}`\n"
    );
    assert_eq!(loaded(source).diagnostics.to_string(), expected);
}

#[test]
fn deprecated_fields_are_told() {
    let check = |number: &str, field: &str| {
        let Some(source) = read(number) else { return };
        let found = loaded(source).diagnostics;
        let is_told = |it: &nuncio_config::Diagnostic| it.severity == Severity::Warning && it.path.ends_with(field);
        assert!(found.iter().any(is_told), "{number}: {found}");
    };
    check("03", "admin.access_log_path");
    check("07", "inline_code");
    check("08", "exact_match");
    check("10", "append");
    check("11", "total_weight");
    check("17", "text_format");
}

/// What is cut off, or has a byte changed, is loaded or refused; never a panic.
#[test]
fn damaged_files_do_no_harm() {
    for path in files() {
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(127) {
            let _ = loaded(Source::new("cut", &whole[..at], Format::Yaml));
            let _ = loaded(Source::new("cut", &whole[..at], Format::Json));
            let mut changed = whole.clone();
            for byte in [b'[', b'{', b'"', b'\t', b'&', b'*', b':', b'-', 0xff] {
                changed[at] = byte;
                let _ = loaded(Source::new("changed", changed.clone(), Format::Yaml));
            }
        }
    }
}
