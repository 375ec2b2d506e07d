//! The acceptance files, which lie beside the repository.

use std::path::PathBuf;

fn directory() -> PathBuf {
    path_of("envoy")
}

/// A directory of the acceptance files.
pub fn path_of(directory: &str) -> PathBuf {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    std::env::var_os("NUNCIO_SHARED").map_or(beside, PathBuf::from).join("acceptance").join(directory)
}

/// Whether the files are there; says so loudly where they are not, as in a clone alone.
pub fn at_hand() -> bool {
    let found = directory().is_dir();
    if !found {
        eprintln!("SKIPPED: there are no acceptance files at {}: set NUNCIO_SHARED", directory().display());
    }
    found
}

/// A file of `acceptance/envoy` in the directory `../shared` beside the repository, or in that of the variable
/// `NUNCIO_SHARED`, by the number that its name begins with.
pub fn path(number: &str) -> PathBuf {
    let directory = directory();
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| {
        panic!(
            "the acceptance files can't be read: {}: {error}\nset NUNCIO_SHARED to the directory that holds acceptance/envoy",
            directory.display()
        )
    });
    let is_wanted = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(number));
    let found = entries.flatten().map(|entry| entry.path()).find(is_wanted);
    found.unwrap_or_else(|| panic!("there is no file {number} in {}", directory.display()))
}

/// The text of such a file.
pub fn read(number: &str) -> String {
    std::fs::read_to_string(path(number)).unwrap()
}

/// The text with each of the pieces replaced everywhere. A piece that does not occur fails the test.
pub fn remapped(number: &str, pieces: &[(&str, &str)]) -> String {
    let mut config = read(number);
    for (piece, by) in pieces {
        assert!(config.contains(piece), "{number} has no {piece:?}");
        config = config.replace(piece, by);
    }
    config
}

/// Where the `nth` line (from 0) that contains `piece` has it: `line:column`, both from 1.
pub fn position(config: &str, piece: &str, nth: usize) -> String {
    let found = config.lines().enumerate().filter_map(|(line, text)| Some((line, text.find(piece)?))).nth(nth);
    let (line, column) = found.unwrap_or_else(|| panic!("no {piece:?} in the configuration"));
    format!("{}:{}", line + 1, column + 1)
}
