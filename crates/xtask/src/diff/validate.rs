//! The configurations of `examples/` and of the acceptance set, validated by both programs.

use std::path::{Path, PathBuf};

use nuncio_testkit::process::Program;
use tempfile::TempDir;

use super::accepted::{Accepted, Verdict};

/// One line of the table.
pub struct Line {
    file: String,
    envoy: Option<Verdict>,
    nuncio: Option<Verdict>,
    note: String,
    /// Whether both say what they should.
    pub right: bool,
    output: String,
}

/// Validates every YAML and JSON file of `directories`.
pub fn table(
    directories: &[PathBuf],
    envoy: Option<&Program>,
    nuncio: Option<&Program>,
    accepted: &Accepted,
) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    for directory in directories {
        for file in files(directory) {
            lines.push(line(&file, envoy, nuncio, accepted)?);
        }
    }
    Ok(lines)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let wanted = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "yaml" || extension == "json");
    let mut files: Vec<PathBuf> = entries.filter(wanted).collect();
    files.sort();
    files
}

fn line(file: &Path, envoy: Option<&Program>, nuncio: Option<&Program>, accepted: &Accepted) -> Result<Line, String> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let rule = accepted.config(&name);
    let scratch = TempDir::new().map_err(|error| error.to_string())?;
    let copy = movable_copy(file, scratch.path())?;
    let mut output = String::new();
    let mut ask = |program: Option<&Program>, wanted: Verdict| -> Result<Option<Verdict>, String> {
        let Some(program) = program else { return Ok(None) };
        let verdict = program.validate(&copy).map_err(|error| error.to_string())?;
        if Verdict::of(verdict.accepted) != wanted {
            output += &format!("{}:\n{}\n", program.binary.display(), last_lines(&verdict.output));
        }
        Ok(Some(Verdict::of(verdict.accepted)))
    };
    let wanted = rule.map_or((Verdict::Accepted, Verdict::Accepted), |rule| (rule.envoy, rule.nuncio));
    let envoy = ask(envoy, wanted.0)?;
    let nuncio = ask(nuncio, wanted.1)?;
    let right = envoy.is_none_or(|verdict| verdict == wanted.0) && nuncio.is_none_or(|verdict| verdict == wanted.1);
    Ok(Line {
        file: name,
        envoy,
        nuncio,
        note: rule.map(|rule| rule.reason.clone()).unwrap_or_default(),
        right,
        output,
    })
}

/// Where examples have their certificates.
const TLS: &str = "/etc/nuncio/tls/";

/// A copy of `file` that writes its access logs below `scratch`, since `/var/log/envoy` exists on few machines, and has the
/// certificates of an example from where there are some.
fn movable_copy(file: &Path, scratch: &Path) -> Result<PathBuf, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let copy = scratch.join(file.file_name().unwrap_or_default());
    let text = text.replace("/var/log/envoy/", &format!("{}/", scratch.display()));
    let text = if text.contains(TLS) { text.replace(TLS, &format!("{}/", super::tls::directory()?)) } else { text };
    std::fs::write(&copy, text).map_err(|error| error.to_string())?;
    Ok(copy)
}

fn last_lines(output: &str) -> String {
    let lines: Vec<&str> =
        output.lines().filter(|line| !line.trim().is_empty() && !line.contains("[warning]")).collect();
    lines[lines.len().saturating_sub(3)..].join("\n")
}

/// Prints the table.
pub fn print(lines: &[Line]) {
    let word = |verdict: Option<Verdict>| match verdict {
        Some(Verdict::Accepted) => "accepted",
        Some(Verdict::Refused) => "refused",
        None => "-",
    };
    let width = lines.iter().map(|line| line.file.len()).max().unwrap_or(0);
    println!("\n{:width$} | envoy    | nuncio   | note", "configuration");
    for line in lines {
        let mark = if line.right { "" } else { " UNEXPECTED" };
        println!("{:width$} | {:8} | {:8} | {}{mark}", line.file, word(line.envoy), word(line.nuncio), line.note);
        if !line.right {
            println!("{}", line.output);
        }
    }
}
