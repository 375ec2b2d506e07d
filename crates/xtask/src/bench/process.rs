//! A proxy under measurement: a child process pinned to one processor, what `/proc` says about it, and its end.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::machine::TICKS_PER_SECOND;

/// A running child, killed when dropped.
pub struct Process {
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts `binary` on `processor`; what it prints goes to `output`.
    pub fn start<A: AsRef<OsStr>>(
        processor: usize,
        binary: &Path,
        arguments: &[A],
        output: PathBuf,
    ) -> Result<Self, String> {
        let file = File::create(&output).map_err(|error| format!("{}: {error}", output.display()))?;
        let copy = file.try_clone().map_err(|error| error.to_string())?;
        // taskset replaces itself by the program, so the child is the proxy.
        let mut command = Command::new("taskset");
        command.args(["-c", &processor.to_string()]).arg(binary).args(arguments);
        let child = command.stdin(Stdio::null()).stdout(copy).stderr(file).spawn();
        Ok(Self { child: child.map_err(|error| format!("{}: {error}", binary.display()))?, output })
    }

    /// An error when it has ended.
    pub fn check_alive(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("it ended with {status}: {}", self.last_words())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Processor time used so far by all threads, user and system, in seconds; steps of 10 ms.
    pub fn cpu_seconds(&self) -> Result<f64, String> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let ticks = parse_ticks(&text).ok_or_else(|| format!("{path} can't be read"))?;
        Ok(ticks / TICKS_PER_SECOND)
    }

    /// Resident memory now, in MB (10^6 bytes), shared pages of the binary included.
    pub fn rss_mb(&self) -> Result<f64, String> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|line| line.split_whitespace().next().and_then(|number| number.parse::<f64>().ok()));
        kib.map(|kib| kib * 1024.0 / 1e6).ok_or_else(|| "it has ended".to_owned())
    }

    /// The last lines of what it printed, for error messages.
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.output).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(4)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; either way there is nothing left to do about an error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// utime + stime of `/proc/<pid>/stat`. The name of the program may hold anything, so fields count from its last parenthesis.
fn parse_ticks(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::parse_ticks;

    #[test]
    fn ticks_of_stat() {
        let check = |text: &str, expected| assert_eq!(parse_ticks(text), expected, "{text}");
        check("7 (a b) R) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0", Some(150.0));
        check("7 (nginx) S 1 2", None);
        check("", None);
    }
}
