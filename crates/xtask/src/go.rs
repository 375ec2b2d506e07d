//! Test programs of other projects that are Go modules: built once into the target directory, by module name and version.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A program of a Go module.
#[derive(Clone, Copy)]
pub struct Tool {
    /// The package, whose last part is the name of the program.
    pub package: &'static str,
    /// The version of its module.
    pub version: &'static str,
}

impl Tool {
    /// The program; it is built into `target` unless it is there.
    pub fn find(&self, target: &Path) -> Result<PathBuf, String> {
        let name = self.package.rsplit('/').next().unwrap_or(self.package);
        let directory = target.join("go").join(self.package.replace('/', "-")).join(self.version);
        let binary = directory.join(name);
        if binary.is_file() {
            return Ok(binary);
        }
        let package = format!("{}@{}", self.package, self.version);
        eprintln!("building {package} into {}", directory.display());
        let status = Command::new("go").args(["install", &package]).env("GOBIN", &directory).status();
        match status {
            Ok(status) if status.success() => Ok(binary),
            Ok(status) => Err(format!("go install {package} ended with {status}")),
            Err(error) => Err(format!("go install {package}: {error}; is Go installed?")),
        }
    }
}
